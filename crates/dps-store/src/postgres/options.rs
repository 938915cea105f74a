//! How a database is reached, and why a store in it cannot be opened. Spec: DPS-STORE-15, DPS-STORE-17.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use dps_core::ports::StoreError;
use rustls_pki_types::CertificateDer;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::fault::{Fault, text_of};

/// How a database is reached and used.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Server, database, user and password.
    pub target: PostgresTarget,
    /// The schema that holds the tables. It is made if it is not there.
    pub schema: SchemaName,
    /// Whose certificates the server may have; where there are none, those that the system trusts.
    pub root_certificates: Vec<CertificateDer<'static>>,
    /// Most connections for all but the grouped writes of records, which have one of their own.
    pub connections: NonZeroUsize,
    /// How long a connection may take to be made, or to become free.
    pub connect_timeout: Duration,
    /// How long one statement may take, the wait for rows that others have locked included.
    pub statement_timeout: Duration,
    /// How long the migrations of another node are waited for, and how long one of them may take.
    pub migration_timeout: Duration,
    /// Whether a server will do that forgets what it has confirmed when its machine fails. Spec: DPS-STORE-15.
    pub allow_loss: bool,
}

impl PostgresOptions {
    /// For this target, all else as it is for most: 16 connections, 5 s to connect, 10 s for a statement.
    pub fn new(target: PostgresTarget) -> Self {
        Self {
            target,
            schema: SchemaName::default(),
            root_certificates: Vec::new(),
            connections: NonZeroUsize::MIN.saturating_add(15),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            migration_timeout: Duration::from_secs(300),
            allow_loss: false,
        }
    }
}

/// Where a database is, as a connection string says it: `host=db.example user=dps dbname=dps`, or a URL. Never printed: it may hold a
/// password.
#[derive(Clone)]
pub struct PostgresTarget(pub(super) Config);

/// Why a text is no connection string. It tells nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It names no server.
    #[error("the connection string names no host")]
    NoHost,
}

impl FromStr for PostgresTarget {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let config: Config = text.parse().map_err(|error| BadTarget::Unreadable(text_of(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(BadTarget::NoHost);
        }
        Ok(Self(config))
    }
}

impl PostgresTarget {
    /// Whether what goes there must be encrypted. Where the connection string does not say, all must that leaves the machine: the
    /// library's own default would go on in the clear where somebody between strips the offer of TLS. Spec: DPS-STORE-17.
    pub(super) fn needs_tls(&self) -> bool {
        match self.0.get_ssl_mode() {
            SslMode::Disable => false,
            SslMode::Prefer => self.leaves_the_machine(),
            _ => true,
        }
    }

    fn leaves_the_machine(&self) -> bool {
        let by_name = |host: &Host| match host {
            Host::Unix(_) => false,
            Host::Tcp(name) => {
                name != "localhost"
                    && !name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            }
        };
        match self.0.get_hostaddrs() {
            [] => self.0.get_hosts().iter().any(by_name),
            addresses => addresses.iter().any(|address| !address.is_loopback()),
        }
    }
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresTarget(..)")
    }
}

/// The name of a schema: up to 63 lower-case letters, digits and underscores, the first no digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaName(Box<str>);

/// A schema's name has up to 63 lower-case letters, digits and underscores, and begins with no digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a schema has 1 to 63 of a-z, 0-9 and _, begins with no digit, and not with pg_")]
pub struct BadSchemaName;

impl SchemaName {
    /// The name, as it stands in a statement.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("harbormaster".into())
    }
}

impl FromStr for SchemaName {
    type Err = BadSchemaName;

    fn from_str(text: &str) -> Result<Self, BadSchemaName> {
        let is_name = !text.is_empty()
            && text.len() <= 63
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && !text.starts_with(|first: char| first.is_ascii_digit())
            // The server keeps those for itself.
            && !text.starts_with("pg_");
        if is_name { Ok(Self(text.into())) } else { Err(BadSchemaName) }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOpenError {
    /// The server cannot be reached, or does not let us in.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// It could be, but not used as a store. Spec: DPS-STORE-15.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// No certificate to trust is to be had. Spec: DPS-STORE-17.
    #[error("the server's certificate could not be verified: {0}")]
    Tls(String),
    /// A newer version of this program has made changes that this one cannot work with. Spec: DPS-STORE-16.
    #[error(
        "the database has version {found}, which programs of version {needed} or newer can work with, and this one has {known}: \
         use a newer program"
    )]
    Newer {
        /// The database's version.
        found: i32,
        /// The oldest version that works with it.
        needed: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// Tables of another program are in the schema.
    #[error("the schema {} holds tables that are none of Harbormaster's: name another one", .0.as_str())]
    NotAStore(SchemaName),
    /// Another node is at it and does not come to an end. Spec: DPS-STORE-16.
    #[error(
        "another node has been changing the tables for too long; once it has ended, or in a minute, this one goes on"
    )]
    Busy,
    /// A change of the tables failed, and was undone.
    #[error("the tables could not be brought to version {version}: {why}")]
    Migration {
        /// The version that it was to have.
        version: i32,
        /// Why.
        why: String,
    },
}

impl PostgresOpenError {
    pub(super) fn unreachable(fault: Fault) -> Self {
        Self::Unreachable(StoreError::from(fault).to_string())
    }
}

/// Why a server will not do. Spec: DPS-STORE-15.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is too old.
    #[error("the server is PostgreSQL {0}; 15 or newer is needed")]
    Old(String),
    /// It may forget what it has confirmed.
    #[error("the server has {setting} = off: what it confirms is lost when its machine fails; set it to on")]
    Forgetful {
        /// The setting that is to be on.
        setting: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> PostgresTarget {
        text.parse().unwrap()
    }

    /// DPS-STORE-17
    #[test]
    fn what_leaves_the_machine_is_encrypted_unless_the_connection_string_says_otherwise() {
        for (text, expected) in [
            ("host=db.example user=a", true),
            ("host=10.0.0.1 user=a", true),
            ("host=localhost,db.example user=a", true),
            ("host=localhost hostaddr=10.0.0.1 user=a", true),
            ("postgresql://a@db.example/d?sslmode=disable", false),
            ("host=localhost user=a", false),
            ("host=127.0.0.1 user=a", false),
            ("host=::1 user=a", false),
            ("host=/run/postgresql user=a", false),
            ("host=localhost user=a sslmode=require", true),
        ] {
            assert_eq!(target(text).needs_tls(), expected, "{text}");
        }
    }

    #[test]
    fn a_connection_string_is_never_printed() {
        let target = target("host=db.example user=a password=s3cret");
        assert!(!format!("{target:?} {:?}", PostgresOptions::new(target.clone())).contains("s3cret"));
        let refused = "host=db.example password=s3cret nonsense=1".parse::<PostgresTarget>().unwrap_err();
        assert!(!refused.to_string().contains("s3cret"), "{refused}");
        assert_eq!("user=a".parse::<PostgresTarget>().unwrap_err(), BadTarget::NoHost);
    }

    #[test]
    fn the_name_of_a_schema_can_stand_in_a_statement() {
        for good in ["a", "_a1", "harbormaster", &"a".repeat(63)] {
            assert!(good.parse::<SchemaName>().is_ok(), "{good}");
        }
        for bad in ["", "1a", "A", "a-b", "a\"b", "a;", "pg_a", &"a".repeat(64)] {
            assert_eq!(bad.parse::<SchemaName>(), Err(BadSchemaName), "{bad}");
        }
    }
}
