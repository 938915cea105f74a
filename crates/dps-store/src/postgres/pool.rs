//! Connections, few and with deadlines. Spec: DPS-STORE-15, DPS-STORE-17, DPS-STORE-18.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use dps_core::ports::StoreError;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use super::fault::{Fault, text_of};
use super::options::{PostgresOpenError, PostgresOptions, Unfit};
use super::tls;

/// The oldest server that is tested, as it numbers itself.
const OLDEST_SERVER: i32 = 150_000;
/// What a deadline of this side comes after one of the server: that one names the statement, and leaves the connection of use.
const GRACE: Duration = Duration::from_secs(2);
/// How long a connection is silent before it is looked whether the server is still there, and between two such looks.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How many statements a transaction has at most, one after the other, that may each take as long as one may.
const STATEMENTS_IN_TURN: u32 = 3;

/// The connections of a store.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    statement_timeout: Duration,
    /// What was found of the server when a connection was last made.
    verdict: Arc<Mutex<Option<Unfit>>>,
}

impl Connections {
    /// No connection is made yet.
    pub(super) fn new(options: &PostgresOptions, count: usize) -> Result<Self, PostgresOpenError> {
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match options.target.needs_tls() {
            true => Manager::from_config(
                config(options),
                tls::connector(&options.root_certificates)?,
                manager_config,
            ),
            false => Manager::from_config(config(options), tokio_postgres::NoTls, manager_config),
        };
        let wait = Some(options.connect_timeout);
        let verdict = Arc::default();
        let pool = Pool::builder(manager)
            .max_size(count)
            .timeouts(Timeouts { wait, create: wait, recycle: wait })
            .runtime(Runtime::Tokio1)
            .post_create(prepared(options, &verdict))
            .build()
            .map_err(|error| PostgresOpenError::Unreachable(error.to_string()))?;
        Ok(Self { pool, statement_timeout: options.statement_timeout, verdict })
    }

    /// A connection, as soon as one is free; made anew where the server has come back. Spec: DPS-NODE-4.
    pub(super) async fn get(&self) -> Result<Session, StoreError> {
        let got = self.pool.get().await;
        let client = got.map_err(|error| StoreError::Unavailable(why_there_is_none(error)))?;
        Ok(Session {
            client: Some(client),
            missed_deadline: AtomicBool::new(false),
            statement_timeout: self.statement_timeout,
        })
    }

    /// How many there may be.
    pub(super) fn count(&self) -> usize {
        self.pool.status().max_size
    }

    /// As [`Connections::get`], for the first time.
    pub(super) async fn get_first(&self) -> Result<Session, PostgresOpenError> {
        let unreachable = match self.get().await {
            Ok(session) => return Ok(session),
            Err(StoreError::Unavailable(why) | StoreError::Unreadable(why)) => {
                PostgresOpenError::Unreachable(why)
            }
        };
        let verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(verdict.map_or(unreachable, PostgresOpenError::Unfit))
    }

    /// Lets go of those that nobody uses.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// A connection of the pool for one use.
pub(super) struct Session {
    client: Option<Object>,
    /// A deadline has passed: the server may be at its statement still, or may be gone.
    missed_deadline: AtomicBool,
    statement_timeout: Duration,
}

impl Session {
    /// What statements are sent by.
    pub(super) fn client(&self) -> Result<&Object, Fault> {
        self.client.as_ref().ok_or_else(gone)
    }

    /// The same, for a transaction.
    pub(super) fn client_mut(&mut self) -> Result<&mut Object, Fault> {
        self.client.as_mut().ok_or_else(gone)
    }

    /// Carries out `work`, a statement or two on this connection, before the deadline. A connection that misses it is not used
    /// again. Spec: DPS-STORE-18.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, StoreError> {
        match timeout(self.deadline(), work).await {
            Ok(done) => done.map_err(Into::into),
            Err(_) => Err(self.is_late().into()),
        }
    }

    /// How long all that is done with it may take.
    pub(super) fn deadline(&self) -> Duration {
        self.statement_timeout * STATEMENTS_IN_TURN + GRACE
    }

    /// Notes that the deadline has passed.
    pub(super) fn is_late(&self) -> Fault {
        self.missed_deadline.store(true, Ordering::Relaxed);
        Fault::Store(StoreError::Unavailable("PostgreSQL did not answer in time".to_owned()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.missed_deadline.load(Ordering::Relaxed)
            && let Some(client) = self.client.take()
        {
            drop(Object::take(client));
        }
    }
}

fn gone() -> Fault {
    Fault::Store(StoreError::Unavailable("the connection to PostgreSQL is gone".to_owned()))
}

/// What was asked for, and what this side adds where it does not say otherwise.
fn config(options: &PostgresOptions) -> Config {
    let mut config = options.target.0.clone();
    config.connect_timeout(options.connect_timeout);
    config.ssl_mode(if options.target.needs_tls() { SslMode::Require } else { SslMode::Disable });
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        // Of several servers, the one that may be written to, whichever that is after a failure. Spec: DPS-STORE-25.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if config.get_application_name().is_none() {
        config.application_name("harbormaster");
    }
    // A server that vanished is noticed though nothing is sent, and though what was sent is never confirmed.
    config.keepalives_idle(KEEPALIVE);
    config.keepalives_interval(KEEPALIVE);
    config.keepalives_retries(3);
    config.tcp_user_timeout(options.statement_timeout + GRACE);
    config
}

/// Makes each new connection ready, and looks whether its server is fit: it may be another one than before.
fn prepared(options: &PostgresOptions, verdict: &Arc<Mutex<Option<Unfit>>>) -> Hook {
    let (settings, allow_loss, verdict) = (settings(options), options.allow_loss, Arc::clone(verdict));
    Hook::async_fn(move |client, _| {
        let (settings, verdict) = (settings.clone(), Arc::clone(&verdict));
        Box::pin(async move {
            client.batch_execute(&settings).await.map_err(HookError::Backend)?;
            let found = server_of(client).await.map_err(HookError::Backend)?.unfit(allow_loss);
            let refused = found.as_ref().map(ToString::to_string);
            *verdict.lock().unwrap_or_else(PoisonError::into_inner) = found;
            refused.map_or(Ok(()), |why| Err(HookError::message(why)))
        })
    })
}

/// Each statement of ours finds its rows by an index. Spec: DPS-STORE-20. A plan that is made while a table is young and kept must do so too, though
/// scanning it, or hashing it, would be quicker at that moment; so those ways are closed. Plans are made once for each connection.
/// What a node that froze has locked is let go of when its transaction has lain idle for as long as a statement may take. Spec: DPS-NODE-5.
fn settings(options: &PostgresOptions) -> String {
    let statement = options.statement_timeout.as_millis();
    format!(
        "SET search_path TO \"{}\";
         SET statement_timeout TO {statement};
         SET idle_in_transaction_session_timeout TO {statement};
         SET default_transaction_isolation TO 'read committed';
         SET client_min_messages TO warning;
         SET enable_seqscan TO off;
         SET enable_hashjoin TO off;
         SET enable_mergejoin TO off;
         SET plan_cache_mode TO force_generic_plan;
         SET jit TO off",
        options.schema.as_str()
    )
}

/// What decides whether a server will do.
struct Server {
    /// As it numbers itself.
    number: i32,
    version: String,
    fsync: String,
    synchronous_commit: String,
}

async fn server_of(client: &tokio_postgres::Client) -> Result<Server, tokio_postgres::Error> {
    let select = "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
                         current_setting('fsync'), current_setting('synchronous_commit')";
    let row = client.query_one(select, &[]).await?;
    Ok(Server {
        number: row.try_get(0)?,
        version: row.try_get(1)?,
        fsync: row.try_get(2)?,
        synchronous_commit: row.try_get(3)?,
    })
}

impl Server {
    /// Why it will not do, if it does not. Spec: DPS-STORE-15.
    fn unfit(&self, allow_loss: bool) -> Option<Unfit> {
        if self.number < OLDEST_SERVER {
            return Some(Unfit::Old(self.version.clone()));
        }
        let settings = [("fsync", &self.fsync), ("synchronous_commit", &self.synchronous_commit)];
        let (setting, _) = settings.into_iter().find(|(_, value)| *value == "off")?;
        (!allow_loss).then_some(Unfit::Forgetful { setting })
    }
}

fn why_there_is_none(error: PoolError) -> String {
    match error {
        PoolError::Timeout(_) => {
            "no connection to PostgreSQL became free, or could be made, in time".to_owned()
        }
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => text_of(&error),
        PoolError::PostCreateHook(HookError::Message(why)) => why.into_owned(),
        PoolError::Closed => "the store is closed".to_owned(),
        PoolError::NoRuntimeSpecified => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-STORE-15
    #[test]
    fn a_server_is_as_new_as_what_is_tested_and_keeps_what_it_confirms() {
        let server = |number, fsync: &str, synchronous_commit: &str| Server {
            number,
            version: "14.9".to_owned(),
            fsync: fsync.to_owned(),
            synchronous_commit: synchronous_commit.to_owned(),
        };
        for (server, unfit, allowing_loss) in [
            (server(150_000, "on", "on"), None, None),
            (server(180_002, "on", "remote_apply"), None, None),
            (server(140_009, "on", "on"), Some("is PostgreSQL 14.9"), Some("is PostgreSQL 14.9")),
            (server(150_000, "off", "on"), Some("fsync = off"), None),
            (server(150_000, "on", "off"), Some("synchronous_commit = off"), None),
        ] {
            for (allow_loss, expected) in [(false, unfit), (true, allowing_loss)] {
                let told = server.unfit(allow_loss).map(|unfit| unfit.to_string());
                assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
                assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()), "{expected:?}");
            }
        }
    }
}
