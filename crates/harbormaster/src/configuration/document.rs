//! A TOML table as it is read: every key is asked for by name, and whatever is wrong is noted with its place.
//! Spec: DPS-SERVE-2, DPS-SERVE-3.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Lines, Located, Position};
use super::key::{self, Section};
use crate::likeness;

/// What all tables of one file share.
pub(super) struct Context<'t> {
    pub(super) file: &'t Path,
    /// Where relative paths begin, absolute.
    pub(super) directory: PathBuf,
    pub(super) lines: Lines<'t>,
    pub(super) sections: &'t [Section],
    /// Looks up an environment variable.
    pub(super) environment: &'t dyn Fn(&str) -> Option<String>,
    pub(super) faults: RefCell<Vec<Fault>>,
    pub(super) warnings: RefCell<Vec<Fault>>,
}

/// One table.
pub(super) struct Table<'t> {
    pub(super) context: &'t Context<'t>,
    path: String,
    at: Position,
    entries: BTreeMap<&'t str, &'t Spanned<DeValue<'t>>>,
    /// Secrets that stand in the file itself, which was noted.
    secrets_in_clear: Vec<&'t str>,
}

impl Context<'_> {
    pub(super) fn fault(&self, at: Position, key: &str, why: impl Into<String>, advice: impl Into<String>) {
        self.faults.borrow_mut().push(self.note(at, key, why.into(), advice.into()));
    }

    pub(super) fn warning(&self, at: Position, key: &str, why: impl Into<String>, advice: impl Into<String>) {
        self.warnings.borrow_mut().push(self.note(at, key, why.into(), advice.into()));
    }

    /// Of what keeps clients away already.
    pub(super) fn grave_warning(
        &self,
        at: Position,
        key: &str,
        why: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let warning = Fault { grave: true, ..self.note(at, key, why.into(), advice.into()) };
        self.warnings.borrow_mut().push(warning);
    }

    fn note(&self, at: Position, key: &str, why: String, advice: String) -> Fault {
        Fault { file: self.file.display().to_string(), at, key: key.to_owned(), why, advice, grave: false }
    }

    /// A path of the file: relative ones begin at the file's own directory, those of systemd credentials at theirs.
    fn path(&self, text: &str) -> Result<PathBuf, BadPath> {
        const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY";
        match text.strip_prefix(CREDENTIALS) {
            Some(rest) if rest.starts_with('/') => {
                let directory = (self.environment)(&CREDENTIALS[1..]).ok_or(BadPath::NoCredentials)?;
                Ok(Path::new(&directory).join(rest.trim_start_matches('/')))
            }
            _ if text.starts_with(['~', '$']) => Err(BadPath::ForAShell),
            _ => Ok(self.directory.join(text)),
        }
    }
}

impl<'t> Table<'t> {
    /// Takes the table at `path`; keys that do not belong there are noted.
    pub(super) fn new(context: &'t Context<'t>, path: &str, table: &'t DeTable<'t>, at: Position) -> Self {
        let (mut entries, mut secrets_in_clear) = (BTreeMap::new(), Vec::new());
        let known = key::known_in(context.sections, path);
        for (key, value) in table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                entries.insert(name, value);
                continue;
            }
            let at = context.lines.position(&key.span());
            let (why, advice) = if known.contains(&&*format!("{name}_env")) {
                secrets_in_clear.push(name);
                let advice = format!(
                    "put it into a file and name that with {name}_file, or into the environment and name the variable with \
                     {name}_env"
                );
                ("a secret may not stand in the configuration itself".to_owned(), advice)
            } else {
                ("there is no such key".to_owned(), nearest(name, &known))
            };
            context.fault(at, &join(path, name), why, advice);
        }
        Self { context, path: path.to_owned(), at, entries, secrets_in_clear }
    }

    /// Where it begins.
    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// The full path of a key.
    pub(super) fn key(&self, name: &str) -> String {
        join(&self.path, name)
    }

    pub(super) fn fault(&self, at: Position, name: &str, why: impl Into<String>, advice: impl Into<String>) {
        self.context.fault(at, &self.key(name), why, advice);
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Where the value of a key stands, if it is given.
    pub(super) fn place_of(&self, name: &str) -> Option<Position> {
        self.entries.get(name).map(|value| self.context.lines.position(&value.span()))
    }

    /// Whether a secret of that name is given, in whichever way.
    pub(super) fn has_secret(&self, name: &str) -> bool {
        self.has(&format!("{name}_file"))
            || self.has(&format!("{name}_env"))
            || self.secrets_in_clear.contains(&name)
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&self, name: &str, advice: impl Into<String>) {
        self.fault(self.at, name, "is missing", advice);
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Option<Located<&'t str>> {
        let (value, at) = self.entry(name)?;
        self.as_text(name, value, at)
    }

    /// A text that `T` can be made of; `advice` says of which.
    pub(super) fn parsed<T: FromStr<Err: ToString>>(&self, name: &str, advice: &str) -> Option<Located<T>> {
        let text = self.text(name)?;
        self.parse(name, text, advice)
    }

    /// A list of such texts; `None` where the key is absent. What cannot be read is noted and left out.
    pub(super) fn all_parsed<T: FromStr<Err: ToString>>(
        &self,
        name: &str,
        advice: &str,
    ) -> Option<Vec<Located<T>>> {
        let (value, at) = self.entry(name)?;
        let DeValue::Array(items) = value else {
            self.wrong_type(name, "a list", value, at);
            return Some(Vec::new());
        };
        let read = |item: &'t Spanned<DeValue<'t>>| {
            let at = self.context.lines.position(&item.span());
            self.parse(name, self.as_text(name, item.get_ref(), at)?, advice)
        };
        Some(items.iter().filter_map(read).collect())
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Option<Located<T>> {
        let text = self.text(name)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(Located { value: *value, at: text.at });
        }
        let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.fault(
            text.at,
            name,
            format!("{:?} is not known here", text.value),
            format!("write {}", known.join(" or ")),
        );
        None
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Option<Located<bool>> {
        match self.entry(name)? {
            (DeValue::Boolean(value), at) => Some(Located { value: *value, at }),
            (other, at) => {
                self.wrong_type(name, "true or false", other, at);
                None
            }
        }
    }

    /// A whole number in `range`.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Option<Located<u64>> {
        let (value, at) = self.entry(name)?;
        let DeValue::Integer(number) = value else {
            self.wrong_type(name, "a whole number", value, at);
            return None;
        };
        let within = format!("write a whole number from {} to {}", range.start(), range.end());
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if range.contains(&value) => Some(Located { value, at }),
            _ => {
                self.fault(at, name, format!("{number} is out of range"), within);
                None
            }
        }
    }

    /// A path, made absolute.
    pub(super) fn path(&self, name: &str) -> Option<Located<PathBuf>> {
        let Located { value, at } = self.text(name)?;
        if value.is_empty() {
            self.fault(at, name, "is empty", "write a path");
            return None;
        }
        match self.context.path(value) {
            Ok(value) => Some(Located { value, at }),
            Err(why) => {
                self.fault(at, name, why.to_string(), why.advice());
                None
            }
        }
    }

    /// The table of that name; an empty one where it is left out.
    pub(super) fn table(&self, name: &str) -> Self {
        let (found, at) = match self.entry(name) {
            Some((DeValue::Table(table), at)) => (Some(table), at),
            Some((other, at)) => {
                self.wrong_type(name, "a table", other, at);
                (None, at)
            }
            None => (None, self.at),
        };
        match found {
            Some(table) => Self::new(self.context, &self.key(name), table, at),
            None => Self {
                context: self.context,
                path: self.key(name),
                at,
                entries: BTreeMap::new(),
                secrets_in_clear: Vec::new(),
            },
        }
    }

    /// The tables of that name, each `[[name]]`.
    pub(super) fn tables(&self, name: &str) -> Vec<Self> {
        let Some((value, at)) = self.entry(name) else { return Vec::new() };
        let path = self.key(name);
        let DeValue::Array(items) = value else {
            self.wrong_type(name, &format!("[[{path}]], in two pairs of brackets, over each"), value, at);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            let at = self.context.lines.position(&item.span());
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Self::new(self.context, &path, table, at)),
                other => self.wrong_type(name, "a table", other, at),
            }
        }
        tables
    }

    fn entry(&self, name: &str) -> Option<(&'t DeValue<'t>, Position)> {
        let spanned: &'t Spanned<DeValue<'t>> = self.entries.get(name)?;
        Some((spanned.get_ref(), self.context.lines.position(&spanned.span())))
    }

    fn as_text(&self, name: &str, value: &'t DeValue<'t>, at: Position) -> Option<Located<&'t str>> {
        match value {
            DeValue::String(text) => Some(Located { value: text, at }),
            other => {
                self.wrong_type(name, "a text in quotation marks", other, at);
                None
            }
        }
    }

    fn parse<T: FromStr<Err: ToString>>(
        &self,
        name: &str,
        text: Located<&str>,
        advice: &str,
    ) -> Option<Located<T>> {
        match text.value.parse() {
            Ok(value) => Some(Located { value, at: text.at }),
            Err(why) => {
                self.fault(text.at, name, format!("{:?}: {}", text.value, why.to_string()), advice);
                None
            }
        }
    }

    fn wrong_type(&self, name: &str, wanted: &str, found: &DeValue<'_>, at: Position) {
        let found = match found {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fault(at, name, format!("{found} stands there"), format!("write {wanted}"));
    }
}

/// Why a text is no path. Does not repeat it: it may be a secret set in the wrong place.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum BadPath {
    #[error("CREDENTIALS_DIRECTORY is not set in the environment")]
    NoCredentials,
    #[error("a path is taken as it stands: only a shell would replace ~ or a variable")]
    ForAShell,
}

impl BadPath {
    fn advice(self) -> &'static str {
        match self {
            Self::NoCredentials => {
                "start the service with LoadCredential= or SetCredential=, or write another path; to check by hand, run \
                 CREDENTIALS_DIRECTORY=/etc/harbormaster/keys harbormaster config check --config FILE"
            }
            Self::ForAShell => {
                "write the whole path; of variables only $CREDENTIALS_DIRECTORY/ may stand there"
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What was probably meant.
fn nearest(name: &str, known: &[&str]) -> String {
    match likeness::nearest(name, known) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("take it out; there are {}", known.join(", ")),
    }
}
