//! One value of a row on its way.

use uuid::Uuid;

/// A value as PostgreSQL is given it. Secrets among them are sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Texts(Vec<String>),
    Bytes(Vec<u8>),
    Integer(i64),
    Boolean(bool),
    Uuid(Uuid),
}

impl Cell {
    /// About how much memory it holds.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::Texts(texts) => texts.iter().map(|text| size_of::<String>() + text.len()).sum(),
                Self::Bytes(bytes) => bytes.len(),
                Self::Null | Self::Integer(_) | Self::Boolean(_) | Self::Uuid(_) => 0,
            }
    }
}
