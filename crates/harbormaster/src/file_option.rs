//! Options whose value is a file to read. Spec: DPS-CLI-5, DPS-CLI-13.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use dps_proto::key::SymmetricKey;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// Most bytes of a file: an entry with its certificates and twin is far smaller.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The whole of a file, or of standard input where `path` is `-`. Errors name the option and show nothing of the content.
pub(crate) fn read(option: &'static str, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("{option} {}", path.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("{option} {}: it is larger than {FILE_BYTES_MAX} bytes", path.display());
    }
    Ok(bytes)
}

/// The text of a file.
pub(crate) fn text(option: &'static str, path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let bytes = read(option, path)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| anyhow!("{option} {}: it is not text", path.display()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A Base64 key, alone in a file.
pub(crate) fn key(option: &'static str, path: &Path) -> anyhow::Result<SymmetricKey> {
    text(option, path)?.parse().with_context(|| format!("{option} {}", path.display()))
}

/// A JSON object, byte for byte.
pub(crate) fn json_object(option: &'static str, path: &Path) -> anyhow::Result<Box<RawValue>> {
    let text = text(option, path)?;
    let json: Box<RawValue> =
        serde_json::from_str(&text).with_context(|| format!("{option} {}: not JSON", path.display()))?;
    if !json.get().starts_with('{') {
        bail!("{option} {}: it must be a JSON object", path.display());
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[track_caller]
    fn refused<T>(result: anyhow::Result<T>, expected: &str) {
        let why = format!("{:#}", result.map(drop).unwrap_err());
        assert!(why.starts_with("--option ") && why.contains(expected), "{why}");
    }

    /// DPS-CLI-5
    #[test]
    fn a_file_is_read_within_a_bound() {
        let large = file(&vec![b' '; 1024 * 1024 + 1]);
        refused(read("--option", large.path()), "larger than");
        refused(read("--option", Path::new("/nowhere/at/all")), "No such file");
    }

    /// DPS-CLI-13
    #[test]
    fn an_error_about_a_key_file_names_the_option_and_not_the_key() {
        for content in [&b"almostasecret"[..], b"almost a secret?", b"almostasecret\xff"] {
            let file = file(content);
            let why = format!("{:#}", key("--option", file.path()).unwrap_err());
            assert!(why.starts_with("--option ") && !why.contains("almost"), "{why}");
        }
        assert!(key("--option", file(b"AAAAAAAAAAAAAAAAAAAAAA==\n").path()).is_ok());
    }

    #[test]
    fn a_json_object_keeps_its_bytes() {
        let text = r#"{"b": 1.10, "a": null}"#;
        assert_eq!(json_object("--option", file(text.as_bytes()).path()).unwrap().get(), text);
        refused(json_object("--option", file(b"[]").path()), "must be a JSON object");
        refused(json_object("--option", file(b"{").path()), "not JSON");
    }
}
