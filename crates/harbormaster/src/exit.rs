//! Exit codes: those of sysexits.h, where it has one. Spec: DPS-CLI-14 (docs/spec/cli.md).

/// Something failed.
pub(crate) const FAILED: u8 = 1;

/// Options or configuration that cannot be used: nothing was begun (EX_USAGE).
pub(crate) const USAGE: u8 = 64;

/// The service knows nothing of that name (EX_NOINPUT).
pub(crate) const NOT_FOUND: u8 = 66;

/// The service cannot be reached, or cannot answer now (EX_UNAVAILABLE).
pub(crate) const UNAVAILABLE: u8 = 69;

/// What should be created exists (EX_CANTCREAT).
pub(crate) const EXISTS: u8 = 73;

/// Somebody changed it meanwhile: reading it again and trying again may do (EX_TEMPFAIL).
pub(crate) const CHANGED: u8 = 75;

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
