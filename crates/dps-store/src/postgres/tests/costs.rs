//! What a registration asks of the server. docs/scale.md goes by these numbers: who changes them says so there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dps_core::enrollment::EntryRef;
use dps_core::ports::{HubWrite, RegistrationWrite, Store as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use crate::contract::fixtures::*;
use crate::postgres::server::{self, Server};
use crate::postgres::{PostgresOptions, PostgresStore};

/// Long enough for all that is sent at once to be there, and short of a deadline.
const GATHERED: Duration = Duration::from_millis(10);

/// How often something is sent after an answer; one of them, the end of what was only read, is not waited for.
const ROUND_TRIPS: u32 = 11;
/// BEGIN, COMMIT and the like among them.
const STATEMENTS: usize = 15;

/// Counts how often something is sent to the server after it has answered.
#[derive(Default)]
struct RoundTrips(AtomicU32);

impl RoundTrips {
    /// Passes everything on to the server; gives the directory of the socket that it listens on.
    fn start(server: String) -> (Arc<Self>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(".s.PGSQL.5432")).unwrap();
        let counted = Arc::new(Self::default());
        let counts = Arc::clone(&counted);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(pass(Arc::clone(&counts), client, server));
            }
        });
        (counted, directory)
    }
}

async fn pass(counts: Arc<RoundTrips>, mut client: UnixStream, mut server: UnixStream) {
    let (mut asked, mut answered) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(mut count @ 1..) = read else { return };
                sleep(GATHERED).await;
                while let Ok(more @ 1..) = client.try_read(&mut asked[count..]) {
                    count += more;
                }
                counts.0.fetch_add(1, Ordering::SeqCst);
                if server.write_all(&asked[..count]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(mut count @ 1..) = read else { return };
                // All of the answers at once, so that nothing is asked on the first of them alone.
                sleep(GATHERED).await;
                while let Ok(more @ 1..) = server.try_read(&mut answered[count..]) {
                    count += more;
                }
                if client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The statements that the server has logged so far.
fn logged(server: &Server) -> Vec<String> {
    let log = std::fs::read_to_string(server.directory.join("log")).unwrap();
    let is_one = |line: &&str| line.contains("LOG:  execute ") || line.contains("LOG:  statement: ");
    log.lines().filter(is_one).map(str::to_owned).collect()
}

/// DPS-STORE-20: a device of a group, by a node that has done so before. It looks once, searches the groups, writes; and polls once.
#[tokio::test]
async fn a_registration_has_so_many_statements_and_round_trips() {
    let server = Server::start(&["log_statement=all"]);
    let (round_trips, directory) =
        RoundTrips::start(server.directory.join(".s.PGSQL.5432").display().to_string());
    let target = format!("host={} user=postgres dbname=postgres", directory.path().display());
    let options = PostgresOptions {
        connections: 1.try_into().unwrap(),
        ..PostgresOptions::new(target.parse().unwrap())
    };
    let store = server::open(&options).await;
    put_group(&store, group("line", 1)).await;
    let steps = ["look_up", "candidates", "commit", "look_up"];
    let counted = async |id: &str| {
        let (trips, statements) = (round_trips.0.load(Ordering::SeqCst), logged(&server).len());
        for what in steps {
            ask(&store, what, id).await;
        }
        // Nobody waits for the end of what was only read.
        while !logged(&server)[statements..].iter().any(|line| line.contains("statement: ROLLBACK")) {
            sleep(GATHERED).await;
        }
        (round_trips.0.load(Ordering::SeqCst) - trips, logged(&server)[statements..].to_vec())
    };
    let (first_trips, _) = counted("warm").await;
    let (trips, statements) = counted("d-1").await;
    assert!(first_trips > trips, "statements are prepared once");
    assert_eq!((trips, statements.len()), (ROUND_TRIPS, STATEMENTS), "{statements:#?}");
}

async fn ask(store: &PostgresStore, what: &str, id: &str) {
    match what {
        "look_up" => drop(store.look_up(&scope(), &device(id)).await.unwrap()),
        "candidates" => {
            let found = store.candidate_groups(&scope(), &device(id)).await.unwrap();
            assert_eq!(found.open.len(), 1);
        }
        _ => {
            let write = RegistrationWrite {
                decided_on: Some((EntryRef::Group(group_id("line")), etag("e1"))),
                hub_writes: vec![HubWrite::PutDevice(Box::new(hub_device(id, 1)))],
                ..first(record(id, 1))
            };
            committed(store.commit(write).await);
        }
    }
}
