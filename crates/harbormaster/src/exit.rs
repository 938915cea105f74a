//! Exit codes: 0 done, 1 failed, 64 wrong options or configuration (EX_USAGE), 77 not allowed (EX_NOPERM).

/// Something failed.
pub(crate) const FAILED: u8 = 1;

/// Options or configuration that cannot be used: nothing was begun.
pub(crate) const USAGE: u8 = 64;

/// The credential does not allow it (EX_NOPERM).
pub(crate) const NOT_ALLOWED: u8 = 77;

/// Why a command ends, and with which code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) why: anyhow::Error,
}

impl Failure {
    /// Options or configuration that cannot be used.
    pub(crate) fn usage(why: impl Into<anyhow::Error>) -> Self {
        Self { code: USAGE, why: why.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(why: E) -> Self {
        Self { code: FAILED, why: why.into() }
    }
}
