//! Exit codes: those of sysexits.h, where it has one. Spec: DPS-CLI-14 (docs/spec/cli.md).

/// Something failed.
pub(crate) const FAILED: u8 = 1;

/// Options or configuration that cannot be used: nothing was begun (EX_USAGE).
pub(crate) const USAGE: u8 = 64;

/// Two things that are to be the same are not (EX_DATAERR).
pub(crate) const DIFFERS: u8 = 65;

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

/// Why something failed: each cause once, though many errors repeat theirs, and without the numbers of the operating system.
pub(crate) fn told(why: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in why.chain() {
        let cause = without_system_numbers(&cause.to_string());
        if !told.contains(&cause) {
            let separator = if told.is_empty() { "" } else { ": " };
            told.push_str(separator);
            told.push_str(&cause);
        }
    }
    told
}

/// Takes out each ` (os error 2)`: the words before it say the same.
pub(crate) fn without_system_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => kept.push_str(rest),
            _ => {
                kept.push_str(" (os error ");
                kept.push_str(part);
            }
        }
    }
    kept
}

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

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    /// DPS-CLI-15
    #[test]
    fn each_cause_is_told_once_and_in_words() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Repeating(#[source] std::io::Error);
        let error = || Repeating(std::io::Error::from_raw_os_error(2));
        let why = Err::<(), _>(error()).context("--data-dir").unwrap_err();
        assert_eq!(told(&why), "--data-dir: No such file or directory");
        assert_eq!(without_system_numbers("a (os error 2); b (os error x)"), "a; b (os error x)");
    }
}
