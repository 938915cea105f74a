//! Secrets: named by file or by environment variable, never in the configuration itself. Spec: DPS-SERVE-5.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::document::{Context, Table};
use super::fault::Position;

/// Most bytes that a file with a secret or a certificate chain may have: an RSA-8192 key has 6 KB, a long chain 20 KB.
const BYTES_MAX: u64 = 64 * 1024;

/// A secret and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Secret<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
    pub(crate) at: Position,
}

/// Where a secret lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    /// Name of the variable.
    Environment(String),
}

/// Why a file cannot be used. Does not repeat its name, which may be a secret set in the wrong place.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("that is no file")]
    NoFile,
    #[error("others than its owner have rights to the file (its mode is {0:04o})")]
    OpenToOthers(u32),
    #[error("the file has over {BYTES_MAX} bytes")]
    TooLarge,
}

impl Unusable {
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Io(_) | Self::NoFile => {
                "name a file that the service's user may read; relative paths begin at the configuration's directory"
            }
            Self::OpenToOthers(_) => {
                "take the rights away with chmod go-rwx, and the file's owner must be the service's user"
            }
            Self::TooLarge => "name the file that holds what this key asks for and nothing else",
        }
    }
}

impl Table<'_> {
    /// The secret that `{name}_file` or `{name}_env` names. `read` makes the value of its bytes, and must not repeat them
    /// in its error; `advice` says how such a secret is made. `None` where neither key is there, or something is wrong,
    /// which is then noted.
    pub(super) fn secret<T, E: fmt::Display>(
        &self,
        name: &str,
        read: impl FnOnce(&[u8]) -> Result<T, E>,
        advice: &str,
    ) -> Option<Secret<T>> {
        let (file_key, environment_key) = (format!("{name}_file"), format!("{name}_env"));
        if self.has(&file_key) && self.has(&environment_key) {
            let at = self.text(&environment_key)?.at;
            let advice = format!("leave out {file_key} or {environment_key}");
            self.fault(at, &environment_key, format!("{file_key} names this secret already"), advice);
            return None;
        }
        if let Some(path) = self.path(&file_key) {
            let bytes = match self.context.private_file(&path.value) {
                Ok(bytes) => bytes,
                Err(why) => {
                    self.fault(path.at, &file_key, why.to_string(), why.advice());
                    return None;
                }
            };
            let source = Source::File(path.value);
            return match read(&bytes) {
                Ok(value) => Some(Secret { value, source, at: path.at }),
                Err(why) => {
                    self.fault(path.at, &file_key, why.to_string(), advice);
                    None
                }
            };
        }
        let variable = self.text(&environment_key)?;
        let Some(text) = (self.context.environment)(variable.value).map(Zeroizing::new) else {
            let why = "no environment variable of that name is set";
            self.fault(variable.at, &environment_key, why, "set it for the service, or name another");
            return None;
        };
        let source = Source::Environment(variable.value.to_owned());
        match read(text.trim().as_bytes()) {
            Ok(value) => Some(Secret { value, source, at: variable.at }),
            Err(why) => {
                self.fault(variable.at, &environment_key, why.to_string(), advice);
                None
            }
        }
    }
}

impl Context<'_> {
    /// The content of a file that nobody but its owner has rights to.
    pub(super) fn private_file(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, Unusable> {
        // systemd lets the service's user in by an access control list, which shows as rights of the group, and keeps
        // everybody else out by the directory.
        let credentials = (self.environment)("CREDENTIALS_DIRECTORY");
        let guarded = credentials.is_some_and(|directory| path.starts_with(directory));
        check_small(path)?;
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 && !guarded {
            return Err(Unusable::OpenToOthers(mode));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A file, and one that may be read whole. Opening a pipe would wait for its other end.
pub(super) fn check_small(path: &Path) -> Result<(), Unusable> {
    match path.metadata()? {
        metadata if !metadata.is_file() => Err(Unusable::NoFile),
        metadata if metadata.len() > BYTES_MAX => Err(Unusable::TooLarge),
        _ => Ok(()),
    }
}
