//! The shape of the database and how it came to be. Spec: DPS-STORE-7.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::fault::Fault;
use super::{OpenError, converted};

/// Stands in the file's header, so that a file of another program is never taken for a store: `HBMS`.
const APPLICATION_ID: u32 = u32::from_be_bytes(*b"HBMS");

/// In order; `PRAGMA user_version` says how many of them a database has had. One that was released never changes.
const MIGRATIONS: &[Migration] = &[
    Migration::of(include_str!("migrations/0001_first.sql")),
    Migration::of(include_str!("migrations/0002_management.sql")),
    Migration {
        statements: include_str!("migrations/0003_certificates.sql"),
        then: Some(converted::certificates),
    },
    Migration::of(include_str!("migrations/0004_tpm.sql")),
    Migration::of(include_str!("migrations/0005_lists.sql")),
    Migration::of(include_str!("migrations/0006_tpm_operations.sql")),
    Migration::of(include_str!("migrations/0007_audit.sql")),
    Migration::of(include_str!("migrations/0008_instances.sql")),
    Migration::of(include_str!("migrations/0009_custom_allocation.sql")),
    Migration::of(include_str!("migrations/0010_hub_device_status.sql")),
];

/// One step to a newer version.
#[derive(Clone, Copy)]
struct Migration {
    statements: &'static str,
    /// What SQL cannot do, in the same transaction.
    then: Option<Conversion>,
}

type Conversion = fn(&Connection) -> Result<(), OpenError>;

impl Migration {
    const fn of(statements: &'static str) -> Self {
        Self { statements, then: None }
    }
}

/// Brings a database to the newest version, each step in a transaction of its own. A database of another program, or of a newer
/// version of this one, is refused and left as it is.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    run(connection, MIGRATIONS)
}

/// Whether this program may touch the database at all. Nothing is written.
pub(super) fn check(connection: &Connection) -> Result<(), OpenError> {
    check_for(connection, MIGRATIONS).map(|_| ())
}

fn run(connection: &mut Connection, migrations: &[Migration]) -> Result<(), OpenError> {
    let done = check_for(connection, migrations)?;
    for (number, migration) in (1_u32..).zip(migrations).skip(done) {
        let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration.statements)?;
        if let Some(then) = migration.then {
            then(&transaction)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
        if done == 0 {
            tracing::debug!(migration = number, "the store was made");
        } else {
            tracing::info!(migration = number, "the store was brought to a newer version");
        }
    }
    Ok(())
}

/// The number of migrations that the database has had.
fn check_for(connection: &Connection, migrations: &[Migration]) -> Result<usize, OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION_ID, version) if version as usize <= migrations.len() => Ok(version as usize),
        (APPLICATION_ID, version) => Err(OpenError::Newer { found: version, known: migrations.len() }),
        _ => Err(OpenError::NotAStore),
    }
}

/// Writes the version that stands there already: a write to the log as any other, for a transaction that changes nothing
/// writes nothing, and would succeed on a full disk. Spec: DPS-METRICS-4.
pub(super) fn write_version_again(connection: &Connection) -> Result<(), Fault> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(connection.pragma_update(None, "user_version", version)?)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use dps_core::ports::HubDeviceStatus;

    use super::*;

    fn user_version(connection: &Connection) -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    /// DPS-STORE-7
    #[test]
    fn migrations_run_once_and_in_order() {
        let mut connection = Connection::open_in_memory().unwrap();
        let all =
            ["CREATE TABLE first (a)", "ALTER TABLE first ADD COLUMN b", "ALTER TABLE first ADD COLUMN c"]
                .map(Migration::of);
        for (given, expected) in [(1, 1), (1, 1), (3, 3), (3, 3)] {
            run(&mut connection, &all[..given]).unwrap();
            assert_eq!(user_version(&connection), expected);
        }
        connection.execute("INSERT INTO first (a, b, c) VALUES (1, 2, 3)", []).unwrap();
    }

    /// DPS-STORE-7
    #[test]
    fn a_migration_that_fails_leaves_nothing_behind() {
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = ["CREATE TABLE first (a)", "CREATE TABLE second (a); CREATE TABLE first (a)"];
        let broken = broken.map(Migration::of);
        assert!(matches!(run(&mut connection, &broken), Err(OpenError::Sqlite(_))));
        assert_eq!(user_version(&connection), 1);
        run(&mut connection, &["", "CREATE TABLE second (a)"].map(Migration::of)).unwrap();
    }

    /// A store of the version before certificates meant anything, with one enrollment of each kind.
    fn before_certificates(text: &str) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, &MIGRATIONS[..2]).unwrap();
        let insert = "INSERT INTO individual_enrollment (id_scope, registration_id, registration_id_spelling, etag,
                          created_at, updated_at, attestation, x509_primary, endorsement_key, provisioning_status,
                          hubs, iot_edge)
                      VALUES ('0ne0000000a', ?1, ?1, 'e1', 0, 0, ?2, ?3, ?4, 'enabled', '[]', 0)";
        connection.execute(insert, rusqlite::params!["a", "x509", text, Option::<Vec<u8>>::None]).unwrap();
        connection
            .execute(insert, rusqlite::params!["b", "tpm", Option::<String>::None, vec![0_u8, 1]])
            .unwrap();
        connection
    }

    /// DPS-STORE-7, DPS-X509-4
    #[test]
    fn certificates_kept_as_text_are_converted() {
        let certificate = crate::contract::fixtures::certificate("a");
        let mut connection = before_certificates(&STANDARD.encode(certificate.der()));
        migrate(&mut connection).unwrap();
        let read = |id: &str| -> (String, Option<Vec<u8>>, Option<Vec<u8>>) {
            connection
                .query_row(
                    "SELECT attestation, primary_certificate, primary_thumbprint FROM individual_enrollment
                     WHERE registration_id = ?1",
                    [id],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .unwrap()
        };
        let expected = (
            "client_certificates".to_owned(),
            Some(certificate.der().to_vec()),
            Some(certificate.thumbprint().as_bytes().to_vec()),
        );
        assert_eq!(read("a"), expected);
        assert_eq!(read("b"), ("tpm".to_owned(), None, None));
    }

    /// DPS-STORE-7
    #[test]
    fn a_certificate_that_cannot_be_converted_is_named_and_nothing_is_changed() {
        let mut connection = before_certificates("garbage");
        let refused = migrate(&mut connection).unwrap_err().to_string();
        assert!(refused.contains("enrollment a") && refused.contains("neither PEM nor Base64"), "{refused}");
        assert_eq!(user_version(&connection), 2);
    }

    /// DPS-STORE-7, DPS-BROKER-12
    #[test]
    fn devices_from_before_they_could_be_disabled_are_enabled() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, &MIGRATIONS[..8]).unwrap();
        let insert =
            "INSERT INTO hub_device (id_scope, hub, device_id, hub_spelling, registration_id, sealed_keys,
                          iot_edge, created_at, updated_at)
                      VALUES ('0ne0000000a', 'hub.x', 'd', 'hub.x', 'd', x'00', 0, 0, 0)";
        connection.execute(insert, []).unwrap();
        migrate(&mut connection).unwrap();
        let status: String =
            connection.query_row("SELECT status FROM hub_device", [], |row| row.get(0)).unwrap();
        assert_eq!(status, HubDeviceStatus::Enabled.as_str());
    }

    /// DPS-STORE-7
    #[test]
    fn a_database_newer_than_the_program_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let refused = migrate(&mut connection).unwrap_err();
        assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused}");
        assert!(refused.to_string().contains("version 99"), "{refused}");
    }

    /// DPS-STORE-7
    #[test]
    fn a_database_of_another_program_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (a)").unwrap();
        assert!(matches!(migrate(&mut connection), Err(OpenError::NotAStore)));
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "application_id", 7).unwrap();
        assert!(matches!(migrate(&mut connection), Err(OpenError::NotAStore)));
    }

    /// DPS-STORE-1
    #[test]
    fn every_table_has_the_id_scope_first_in_its_unique_key() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let mut statement = connection
            .prepare(
                "SELECT t.name, (SELECT c.name FROM pragma_index_list(t.name) l, pragma_index_info(l.name) c
                                 WHERE l.\"unique\" AND c.seqno = 0)
                 FROM sqlite_schema t WHERE t.type = 'table'",
            )
            .unwrap();
        let tables: Vec<(String, Option<String>)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(tables.len() >= 6, "{tables:?}");
        for (table, first) in tables {
            assert_eq!(first.as_deref(), Some("id_scope"), "{table}");
        }
    }
}
