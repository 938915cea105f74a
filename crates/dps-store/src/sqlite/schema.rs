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
    Migration::of(include_str!("migrations/0011_hubs_outside.sql")),
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

/// The version of a database that this program may touch, 0 for one that has no tables yet. Nothing is written.
pub(super) fn version(connection: &Connection) -> Result<usize, OpenError> {
    check_for(connection, MIGRATIONS)
}

/// The newest version.
pub(super) const fn newest() -> usize {
    MIGRATIONS.len()
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
    use dps_core::instance::HubKind;
    use dps_core::instance_settings::HubSettings;
    use dps_core::ports::{ClaimOrder, HubDeviceStatus, WaitingFor};
    use dps_core::registration::{Failure, Placing, State};

    use super::*;
    use crate::sealing::Sealer;
    use crate::sqlite::{linked_hub, registration, waiting};

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

    /// One row of each table of a store that had this many migrations; records are of what could be written then.
    fn filled(version: usize) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, &MIGRATIONS[..version]).unwrap();
        let mut fill = "INSERT INTO instance (id_scope, id_scope_spelling, sealed_secret)
                            VALUES ('0ne0000000a', '0ne0000000A', x'00');
                        INSERT INTO hub_device (id_scope, hub, device_id, hub_spelling, registration_id, sealed_keys,
                                iot_edge, created_at, updated_at)
                            VALUES ('0ne0000000a', 'hub.x', 'd', 'hub.x', 'd', x'00', 0, 0, 0);"
            .to_owned();
        let mut record = |id: &str, columns: &str, values: &str| {
            fill.push_str(&format!(
                "INSERT INTO registration (id_scope, registration_id, registration_id_spelling, etag, created_at,
                     updated_at, entry_kind, entry_id, entry_id_spelling, operation_guid, operation_began_at,
                     {columns})
                 VALUES ('0ne0000000a', '{id}', '{id}', 'e1', 1, 2, 'group', 'line', 'Line', zeroblob(16), 3, {values});"
            ));
        };
        record("lives", "state, substatus, hub, device_id", "'assigned', 'initial', 'Hub.X', 'd'");
        record("goes", "state, target_hub, target_device_id", "'assigning', 'Hub.X', 'd'");
        record("failed", "state, failure", "'failed', 'no_usable_hub'");
        if version >= 9 {
            record("status", "state, failure, failure_status", "'failed', 'webhook_status', 404");
            let columns = "state, waiting_due_at, waiting_host, waiting_tries, waiting_predates";
            record("chooses", columns, "'choosing', 7, 'hook.x', 2, 1");
        }
        connection.execute_batch(&fill).unwrap();
        if version >= 8 {
            connection
                .execute_batch(
                    "UPDATE instance SET etag = 'i1', created_at = 0, updated_at = 0, allocation_policy = 'hashed',
                         claim_across_groups = 'allow', allow_v1_leaf = 1, allow_v1_self_signed_anchor = 1,
                         allow_ca_leaf = 'never', enforce_anchor_expiry = 1;
                     INSERT INTO linked_hub (id_scope, hub, hub_spelling, position, kind, allocation_weight,
                             applies_policy, networks)
                         VALUES ('0ne0000000a', 'hub.x', 'Hub.X', 0, 'local', 1, 1, '[]');",
                )
                .unwrap();
        }
        connection
    }

    /// DPS-STORE-7
    #[test]
    fn a_store_of_every_earlier_version_opens_with_what_it_holds() {
        for version in 1..MIGRATIONS.len() {
            let mut connection = filled(version);
            migrate(&mut connection).unwrap();
            assert_eq!(user_version(&connection) as usize, MIGRATIONS.len());
            let scope = "0ne0000000a".parse().unwrap();
            let state = |id: &str| {
                let found = registration::find(&connection, &scope, &id.parse().unwrap()).unwrap();
                let found = found.unwrap_or_else(|| panic!("{id} of version {version}"));
                assert_eq!(found.strays_until, None);
                found.state
            };
            let State::Assigned { assignment, .. } = state("lives") else { panic!("version {version}") };
            assert_eq!(assignment.hub.as_str(), "Hub.X");
            assert_eq!(state("failed"), State::Failed { failure: Failure::NoUsableHub, last: None });
            let at = |nanoseconds| jiff::Timestamp::from_nanosecond(nanoseconds).unwrap();
            let placing = Placing {
                target: assignment,
                takes_along: false,
                iot_edge: false,
                initial_twin: None,
                peer: "0ne0000000a/hub.x".into(),
                since: at(3),
                unanswered_at: None,
                tries: 0,
                due_at: at(3),
            };
            assert_eq!(state("goes"), State::Assigning { placing: Box::new(placing), last: None });
            let order = ClaimOrder {
                now: at(9),
                lease_until: at(10),
                limit: 9,
                per_peer_max: 9,
                in_flight: Default::default(),
                after_peer: None,
            };
            let claim = |whom| {
                let claimed = waiting::claim(&connection, whom, &order).unwrap().operations;
                claimed.iter().map(|of| format!("{} {}", of.registration_id, of.tries)).collect::<Vec<_>>()
            };
            assert_eq!(claim(WaitingFor::Hub), ["goes 1"]);
            if version >= 9 {
                let failure = Failure::WebhookStatus(404);
                assert_eq!(state("status"), State::Failed { failure, last: None });
                assert_eq!(claim(WaitingFor::Webhook), ["chooses 3"]);
            }
            let sealer = Sealer::new(&crate::SealingKey::from_bytes([1; 32]));
            let hubs = linked_hub::list(&connection, &sealer, &scope).unwrap();
            let expected = HubSettings::new("Hub.X".parse().unwrap(), HubKind::Local);
            assert_eq!(hubs, vec![expected; usize::from(version >= 8)]);
            let settings: (String, bool) = connection
                .query_row(
                    "SELECT when_source_unavailable, passes_over_unhealthy_hubs FROM instance",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .unwrap();
            assert_eq!(settings, ("fail".to_owned(), false));
        }
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
