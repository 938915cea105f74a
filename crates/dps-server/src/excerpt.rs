//! Texts that hold what a peer sent, kept to a length.

/// `text`, with its middle left out where it has more than `characters`: the beginning says what it is about, the end often
/// what would have been right.
pub(crate) fn excerpt(text: String, characters: usize) -> String {
    const OMISSION: &str = " ... ";
    // A text of so many bytes has no more characters, so most are never counted.
    if text.len() <= characters || text.chars().count() <= characters {
        return text;
    }
    let kept = characters.saturating_sub(OMISSION.len());
    let tail = kept / 3;
    let head_ends = text.char_indices().nth(kept - tail).map_or(text.len(), |(at, _)| at);
    let tail_begins = text.char_indices().rev().take(tail).last().map_or(text.len(), |(at, _)| at);
    format!("{}{OMISSION}{}", &text[..head_ends], &text[tail_begins..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-EXPLAIN-11
    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        assert_eq!(excerpt("short".to_owned(), 5), "short");
        assert_eq!(excerpt("äöüäö".to_owned(), 5), "äöüäö");
        assert_eq!(excerpt("0123456789abcdefghij".to_owned(), 11), "0123 ... ij");
        for most in 0..40 {
            for text in ["ä".repeat(30), "x".repeat(30), "🚢".repeat(31)] {
                let cut = excerpt(text.clone(), most);
                assert!(cut.chars().count() <= most.max(5), "{most}: {cut}");
                assert!(cut == text || cut.contains(" ... "), "{most}: {cut}");
            }
        }
    }
}
