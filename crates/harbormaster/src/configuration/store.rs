//! `[store]`: where everything is kept. Spec: DPS-SERVE-5.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_store::{BadSealingKey, SealingKey};
use zeroize::Zeroizing;

use super::document::Table;
use super::fault::Located;
use super::key::{Key, Section, Standard};
use super::secret::Secret;

/// Where everything is kept.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) data_dir: Located<PathBuf>,
    pub(crate) sealing_key: Secret<SealingKey>,
}

/// The kinds of store there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
}

pub(super) fn section() -> Section {
    let mut keys = vec![
        Key::new(
            "kind",
            r#""sqlite""#,
            Standard::Value(r#""sqlite""#.to_owned()),
            "What keeps enrollments, records and the devices of local hubs.",
        ),
        Key::new(
            "data_dir",
            "path of a directory",
            Standard::Required,
            "Holds the database; made with mode 0700 if there is none. It must be on a local disk and serves one process \
             at a time.",
        ),
    ];
    keys.extend(Key::secret(
        ["sealing_key_file", "sealing_key_env"],
        "32 random bytes, as Base64 or (in a file) as they are",
        Standard::Required,
        "Seals every key in the store (AES-256-GCM). A store opens with the key it was made with and no other: keep a copy \
         apart from the store's own backup. One of the two is required.",
    ));
    Section { path: "store", repeated: false, about: "Where everything is kept.", keys }
}

impl Store {
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        const MAKE: &str = "make one with openssl rand -base64 32";
        let data_dir = read_data_dir(table);
        let sealing_key = table.secret("sealing_key", sealing_key, MAKE);
        if !table.has_secret("sealing_key") {
            table
                .missing("sealing_key_file", MAKE.to_owned() + " and name its file, or give sealing_key_env");
        }
        Some(Self { data_dir: data_dir?, sealing_key: sealing_key? })
    }
}

/// The directory of a store, and nothing of its key.
pub(super) fn read_data_dir(table: &Table<'_>) -> Option<Located<PathBuf>> {
    table.word("kind", &[("sqlite", Kind::Sqlite)]);
    let data_dir = table.path("data_dir");
    if !table.has("data_dir") {
        table.missing("data_dir", "name the directory for the database, such as /var/lib/harbormaster");
    }
    if let Some(path) = data_dir.as_ref().filter(|path| path.value.exists() && !path.value.is_dir()) {
        table.fault(path.at, "data_dir", "that is no directory", "name a directory, or a new one");
    }
    data_dir
}

/// 32 bytes are the key itself; anything else must be its Base64.
pub(crate) fn sealing_key(bytes: &[u8]) -> Result<SealingKey, BadSealingKey> {
    let decoded = STANDARD.decode(bytes.trim_ascii()).map(Zeroizing::new);
    match decoded {
        Ok(decoded) if decoded.len() == 32 => SealingKey::try_from(&decoded[..]),
        _ => SealingKey::try_from(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-SERVE-5
    #[test]
    fn a_sealing_key_is_raw_or_base64_and_has_32_bytes() {
        let raw = [7; 32];
        let text = STANDARD.encode(raw) + "\n";
        let id = SealingKey::from_bytes(raw).id();
        assert_eq!(sealing_key(&raw).unwrap().id(), id);
        assert_eq!(sealing_key(text.as_bytes()).unwrap().id(), id);
        assert_eq!(sealing_key(b"c2hvcnQ=").unwrap_err(), BadSealingKey(8));
    }
}
