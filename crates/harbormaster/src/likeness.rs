//! What somebody who misspelt a name probably meant.

/// The known name that is most like this one, if any is like it enough for a suggestion not to be a riddle.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    const ALIKE: f64 = 0.5;
    let alike = |known: &&'k str| (strsim::normalized_damerau_levenshtein(name, known), *known);
    let (likeness, nearest) = known.iter().map(alike).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (likeness >= ALIKE).then_some(nearest)
}
