//! `[store]`: where everything is kept. Spec: DPS-SERVE-5, DPS-SERVE-21.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_store::{BadSealingKey, BadTarget, PostgresOptions, PostgresTarget, SchemaName, SealingKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};
use zeroize::Zeroizing;

use super::document::Table;
use super::fault::Located;
use super::key::{Key, Section, Standard};
use super::secret::{Secret, check_small};

/// Where everything is kept.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) place: Place,
    pub(crate) sealing_key: Secret<SealingKey>,
}

/// The kinds of store there are, and where each is.
#[derive(Debug)]
pub(crate) enum Place {
    /// SQLite, for one process: the directory of its file.
    DataDir(Located<PathBuf>),
    /// PostgreSQL, which several nodes share.
    Postgres(Box<Postgres>),
}

/// A database and how it is used. Spec: DPS-SERVE-21.
#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) url: Secret<PostgresTarget>,
    pub(crate) schema: SchemaName,
    pub(crate) connections: NonZeroUsize,
    /// Whose certificates the server may have; without them those that the system trusts.
    pub(crate) ca: Option<(Located<PathBuf>, Vec<CertificateDer<'static>>)>,
    pub(crate) allow_unsafe_durability: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgresql,
}

const KINDS: [(&str, Kind); 2] = [("sqlite", Kind::Sqlite), ("postgresql", Kind::Postgresql)];

/// Most connections of one node: a server has 100 unless told otherwise.
const CONNECTIONS_MAX: u64 = 500;
/// What most need.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

/// Keys that mean something for PostgreSQL alone.
const OF_POSTGRESQL: [&str; 6] =
    ["url_file", "url_env", "schema", "connections", "ca_file", "allow_unsafe_durability"];

pub(super) fn section() -> Section {
    let mut keys = vec![
        Key::new(
            "kind",
            r#""sqlite" or "postgresql""#,
            Standard::Value(r#""sqlite""#.to_owned()),
            "What keeps enrollments, records and the devices of local hubs: a file of one process, or a database that several nodes share \
             (docs/scale.md).",
        ),
        Key::new(
            "data_dir",
            "path of a directory",
            Standard::Nothing("required for `sqlite`"),
            "`sqlite` alone. Holds the database; made with mode 0700 if there is none. It must be on a local disk and serves one process \
             at a time.",
        ),
    ];
    keys.extend(Key::secret(
        ["url_file", "url_env"],
        "a PostgreSQL connection string",
        Standard::Nothing("required for `postgresql`"),
        "`postgresql` alone: server, database, user and password, such as `postgresql://dps:PASSWORD@db.example/dps`. What leaves the \
         machine goes by TLS, and the server's certificate is verified, unless `sslmode=disable` stands there. One of the two is required.",
    ));
    keys.extend([
        Key::new(
            "schema",
            "1 to 63 of a-z, 0-9 and _",
            Standard::Value(format!("{:?}", SchemaName::default().as_str())),
            "`postgresql` alone: the schema of the tables. It is made if it is not there.",
        ),
        Key::new(
            "connections",
            format!("1 to {CONNECTIONS_MAX}"),
            Standard::Value(CONNECTIONS.to_string()),
            "`postgresql` alone: most connections of this node, beside one that writes registrations. All nodes together need fewer than \
             the server's `max_connections`.",
        ),
        Key::new(
            "ca_file",
            "path of a PEM file",
            Standard::Nothing("what the system trusts"),
            "`postgresql` alone: certificates of authorities, one of which has signed the server's.",
        ),
        Key::new(
            "allow_unsafe_durability",
            "true or false",
            Standard::Value("false".to_owned()),
            "`postgresql` alone: whether a server will do that has `fsync` or `synchronous_commit` off. Devices may be told then what the \
             server forgets when its machine fails.",
        ),
    ]);
    keys.extend(Key::secret(
        ["sealing_key_file", "sealing_key_env"],
        "32 random bytes, as Base64 or (in a file) as they are",
        Standard::Required,
        "Seals every key in the store (AES-256-GCM). A store opens with the key it was made with and no other, on all nodes: keep a copy \
         apart from the store's own backup. One of the two is required.",
    ));
    Section { path: "store", repeated: false, about: "Where everything is kept.", keys }
}

impl Store {
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        const MAKE: &str = "make one with openssl rand -base64 32";
        let kind = if table.has("kind") {
            table.word("kind", &KINDS).map(|kind| kind.value)
        } else {
            Some(Kind::Sqlite)
        };
        let place = match kind {
            Some(Kind::Sqlite) => read_data_dir(table).map(Place::DataDir),
            Some(Kind::Postgresql) => {
                Postgres::read(table).map(|postgres| Place::Postgres(Box::new(postgres)))
            }
            // That was noted; nothing can be said of the keys of a kind that is not known.
            None => None,
        };
        let sealing_key = table.secret("sealing_key", sealing_key, MAKE);
        if !table.has_secret("sealing_key") {
            table
                .missing("sealing_key_file", MAKE.to_owned() + " and name its file, or give sealing_key_env");
        }
        Some(Self { place: place?, sealing_key: sealing_key? })
    }

    /// The word for its kind.
    pub(super) fn kind(&self) -> &'static str {
        match self.place {
            Place::DataDir(_) => "sqlite",
            Place::Postgres(_) => "postgresql",
        }
    }

    /// Where no directory belongs to the service, nothing can be made there at the first start.
    pub(super) fn check_admin_token(&self, listen: &Table<'_>) {
        if matches!(self.place, Place::Postgres(_)) && !listen.has_secret("admin_token") {
            let advice = "make a token with openssl rand -hex 32 and name its file, or give admin_token_env: with kind = \"postgresql\" \
                          there is no data directory to keep one in";
            listen.missing("admin_token_file", advice);
        }
    }
}

fn read_data_dir(table: &Table<'_>) -> Option<Located<PathBuf>> {
    for name in OF_POSTGRESQL {
        if let Some(at) = table.place_of(name) {
            table.fault(at, name, "means nothing for sqlite", "leave it out, or write kind = \"postgresql\"");
        }
    }
    let data_dir = table.path("data_dir");
    if !table.has("data_dir") {
        table.missing("data_dir", "name the directory for the database, such as /var/lib/harbormaster");
    }
    if let Some(path) = data_dir.as_ref().filter(|path| path.value.exists() && !path.value.is_dir()) {
        table.fault(path.at, "data_dir", "that is no directory", "name a directory, or a new one");
    }
    data_dir
}

/// Whether the table is about a database. What is wrong with the word is noted by those who read the keys of its kind.
pub(super) fn is_postgresql(table: &Table<'_>) -> bool {
    table.text("kind").is_some_and(|kind| kind.value == "postgresql")
}

impl Postgres {
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        const WRITE: &str = "write postgresql://USER:PASSWORD@HOST/DATABASE";
        if let Some(at) = table.place_of("data_dir") {
            let advice = "leave it out: everything is in the database";
            table.fault(at, "data_dir", "means nothing for postgresql", advice);
        }
        let url = table.secret("url", target, WRITE);
        if !table.has_secret("url") {
            table.missing("url_file", WRITE.to_owned() + " into a file and name it, or give url_env");
        }
        let schema = table.parsed("schema", "write a name such as \"harbormaster\"");
        let connections = table.number("connections", 1..=CONNECTIONS_MAX);
        let connections =
            connections.and_then(|given| usize::try_from(given.value).ok()).and_then(NonZeroUsize::new);
        Some(Self {
            ca: read_ca(table),
            schema: schema.map_or_else(SchemaName::default, |schema| schema.value),
            connections: connections.unwrap_or(CONNECTIONS),
            allow_unsafe_durability: table.flag("allow_unsafe_durability").is_some_and(|flag| flag.value),
            url: url?,
        })
    }

    /// How the store reaches it.
    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresOptions {
            schema: self.schema.clone(),
            root_certificates: self.ca.as_ref().map(|(_, ca)| ca.clone()).unwrap_or_default(),
            connections: self.connections,
            allow_loss: self.allow_unsafe_durability,
            ..PostgresOptions::new(self.url.value.clone())
        }
    }
}

/// Why a file cannot be one of CA certificates.
#[derive(Debug, thiserror::Error)]
enum BadCaFile {
    #[error("what stands there is no PEM: {0}")]
    NoPem(pem::Error),
    #[error("there is no certificate in it")]
    Empty,
}

fn read_ca(table: &Table<'_>) -> Option<(Located<PathBuf>, Vec<CertificateDer<'static>>)> {
    const ADVICE: &str = "name a PEM file with one CA certificate or more";
    let path = table.path("ca_file")?;
    let bytes = match check_small(&path.value).and_then(|()| Ok(std::fs::read(&path.value)?)) {
        Ok(bytes) => bytes,
        Err(why) => {
            table.fault(path.at, "ca_file", why.to_string(), why.advice());
            return None;
        }
    };
    match certificates(&bytes) {
        Ok(ca) => Some((path, ca)),
        Err(why) => {
            table.fault(path.at, "ca_file", why.to_string(), ADVICE);
            None
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadCaFile> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read.map_err(BadCaFile::NoPem)? {
        none if none.is_empty() => Err(BadCaFile::Empty),
        certificates => Ok(certificates),
    }
}

/// A connection string. What is told of a bad one repeats nothing of it.
fn target(bytes: &[u8]) -> Result<PostgresTarget, BadTarget> {
    let text = std::str::from_utf8(bytes).map_err(|_| BadTarget::Unreadable("it is not UTF-8".to_owned()))?;
    text.trim().parse()
}

/// The directory of an SQLite store, and nothing of its key: for commands that know no other.
pub(super) fn read_sqlite_dir(table: &Table<'_>) -> Option<Located<PathBuf>> {
    if let Some(kind) = table.has("kind").then(|| table.word("kind", &KINDS)) {
        let kind = kind?;
        if matches!(kind.value, Kind::Postgresql) {
            table.fault(
                kind.at,
                "kind",
                "this command is for sqlite",
                "use PostgreSQL's own tools, such as pg_dump",
            );
            return None;
        }
    }
    read_data_dir(table)
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
