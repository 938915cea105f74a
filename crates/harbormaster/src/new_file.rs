//! Files that commands make: each made once, secrets for their owner alone. Spec: DPS-CLI-18, DPS-CLI-31.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};

/// Makes the directory for its owner alone, if it is not there.
pub(crate) fn directory(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| path.display().to_string())
}

/// Refuses before anything is made.
pub(crate) fn must_be_absent(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        bail!(
            "{}: it is there already, and may be in use; name another place, or move it away",
            path.display()
        );
    }
    Ok(())
}

/// Writes what anyone may read.
pub(crate) fn write_public(path: &Path, text: &str) -> anyhow::Result<()> {
    write(path, text, 0o644)
}

/// Writes what only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    write(path, text, 0o600)
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    must_be_absent(path)?;
    let place = || path.display().to_string();
    let mut options = OpenOptions::new();
    // A file that appeared meanwhile is not written over either.
    let mut file = options.write(true).create_new(true).mode(mode).open(path).with_context(place)?;
    file.write_all(text.as_bytes()).with_context(place)
}
