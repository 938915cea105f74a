//! Which version the tables of a store have. Spec: DPS-STORE-7, DPS-STORE-16.

/// The version of a store's tables and the newest that this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// 0 where there is no store yet.
    pub found: usize,
    /// What it is brought to when it is opened.
    pub newest: usize,
}
