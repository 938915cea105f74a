//! PostgreSQL servers for tests: Debian's, in a directory of their own that is gone when the test process is, however that ended.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use super::{PostgresOptions, PostgresStore};
use crate::contract::fixtures::open_instances;
use crate::{Sealer, SealingKey};

const SUPERVISE: &str = include_str!("supervise.sh");

/// Settings of a small server that keeps what it confirms.
const SETTINGS: [&str; 4] =
    ["shared_buffers=32MB", "max_connections=300", "max_wal_size=64MB", "log_min_messages=log"];

/// A running server. It ends with the process, or when it is dropped.
pub(crate) struct Server {
    /// Its shell stops it when this closes, which the kernel does for a process that was killed.
    orders: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    shell: Child,
    pub(super) directory: PathBuf,
    port: u16,
}

/// The one server of this process: for tests that do not care whose it is.
pub(crate) fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(&[]))
}

impl Server {
    /// Starts a server with these settings, on a Unix socket alone.
    pub(super) fn start(settings: &[&str]) -> Self {
        // The port is in the name of the socket, and nowhere else.
        Self::listening(5432, settings, "listen_addresses=", ("", ""))
    }

    /// Starts a server on this port of the loopback, with TLS: certificate and key are PEM.
    pub(super) fn with_tls(port: u16, certificate_and_key: (&str, &str)) -> Self {
        Self::listening(port, &[], "listen_addresses=127.0.0.1", certificate_and_key)
    }

    fn listening(port: u16, settings: &[&str], addresses: &str, (certificate, key): (&str, &str)) -> Self {
        let mut command = as_ordinary_user(Command::new("/bin/sh"));
        command.args(["-c", SUPERVISE, "supervise"]).arg(programs()).current_dir("/");
        for setting in SETTINGS.iter().chain(settings).chain([&addresses]) {
            command.args(["-c", setting]);
        }
        command.env("SERVER_CERTIFICATE", certificate).env("SERVER_KEY", key).env("PGPORT", port.to_string());
        // A group of its own: whoever kills the test process with its group leaves the shell to clean up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let orders = shell.stdin.take().unwrap();
        let mut answers = BufReader::new(shell.stdout.take().unwrap());
        let mut directory = String::new();
        answers.read_line(&mut directory).unwrap();
        assert!(!directory.is_empty(), "PostgreSQL does not start: see above for what it says");
        let orders = Mutex::new(Some((orders, answers)));
        Self { orders, shell, directory: directory.trim_end().into(), port }
    }

    /// Kills the server as a crash would, with no chance to write anything.
    pub(super) fn kill(&self) {
        self.order("kill");
    }

    /// Starts it again after it was killed; returns when it answers.
    pub(super) fn start_again(&self) {
        self.order("start");
    }

    fn order(&self, order: &str) {
        let mut orders = self.orders.lock().unwrap();
        let (orders, answers) = orders.as_mut().unwrap();
        writeln!(orders, "{order}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), order);
    }

    /// The connection string of its Unix socket.
    pub(super) fn target(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.directory.display(), self.port)
    }

    /// Options for a schema that no other test has.
    pub(crate) fn options(&self) -> PostgresOptions {
        static SCHEMAS: AtomicU32 = AtomicU32::new(0);
        let schema = format!("test_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed));
        let options = PostgresOptions::new(self.target().parse().unwrap());
        PostgresOptions { schema: schema.parse().unwrap(), connections: 8.try_into().unwrap(), ..options }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.orders.lock().unwrap() = None;
        self.shell.wait().unwrap();
    }
}

/// A store with these options, sealed with the key that all tests have, and with the instances that they write to.
pub(crate) async fn open(options: &PostgresOptions) -> PostgresStore {
    let store = open_empty(options).await;
    open_instances(&store).await;
    store
}

/// The same with no instance, where nobody has made one before.
pub(crate) async fn open_empty(options: &PostgresOptions) -> PostgresStore {
    PostgresStore::open(options, sealer()).await.unwrap()
}

pub(crate) fn sealer() -> Sealer {
    Sealer::new(&SealingKey::from_bytes([0x5E; 32]))
}

/// PostgreSQL does not run as root; Debian makes a user for it.
fn as_ordinary_user(mut command: Command) -> Command {
    let id = |of: &[&str]| {
        let told = Command::new("id").args(of).output().unwrap();
        String::from_utf8(told.stdout).unwrap().trim().parse::<u32>().ok()
    };
    if id(&["-u"]) == Some(0) {
        let (user, group) = (id(&["-u", "postgres"]), id(&["-g", "postgres"]));
        command.uid(user.expect(INSTALL)).gid(group.expect(INSTALL));
    }
    command
}

const INSTALL: &str = "these tests need Debian's package postgresql, version 15 or newer";

/// The programs of the newest version that is installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect(INSTALL);
    let newest = versions
        .filter_map(|version| version.unwrap().file_name().into_string().unwrap().parse::<u32>().ok());
    PathBuf::from("/usr/lib/postgresql").join(newest.max().expect(INSTALL).to_string()).join("bin")
}
