//! A PostgreSQL server that keeps what it confirms, in a directory of its own that is gone when the test process is.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The same as for the tests of the store.
const SUPERVISE: &str = include_str!("../../../dps-store/src/postgres/supervise.sh");

const INSTALL: &str = "these tests need Debian's package postgresql, version 15 or newer";

/// How long a standby may take to be one that is waited for.
const SYNCHRONOUS_WITHIN: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Database {
    orders: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    shell: Child,
    pub(crate) directory: PathBuf,
}

impl Database {
    pub(crate) fn start() -> Self {
        Self::standing_by(None)
    }

    /// Another server, which has all that this one confirms from now on: it confirms nothing before.
    pub(crate) fn start_standby(&self) -> Self {
        let standby = Self::standing_by(Some(self));
        // Not in the copy, which is to confirm alone once it takes writes.
        self.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
        self.sql("SELECT pg_reload_conf()");
        let is_waited_for = || self.sql("SELECT sync_state FROM pg_stat_replication") == "sync";
        let until = Instant::now() + SYNCHRONOUS_WITHIN;
        while !is_waited_for() {
            assert!(Instant::now() < until, "{}", self.sql("SELECT * FROM pg_stat_replication"));
            sleep(Duration::from_millis(50));
        }
        standby
    }

    fn standing_by(primary: Option<&Self>) -> Self {
        let mut command = Command::new("/bin/sh");
        if let Some(user) = id(&["-u"]).filter(|user| *user == 0).and_then(|_| id(&["-u", "postgres"])) {
            command.uid(user).gid(id(&["-g", "postgres"]).expect(INSTALL));
        }
        command.args(["-c", SUPERVISE, "supervise"]).arg(programs()).current_dir("/");
        for setting in
            ["listen_addresses=", "shared_buffers=32MB", "max_connections=100", "max_wal_size=64MB"]
        {
            command.args(["-c", setting]);
        }
        command.env("SERVER_CERTIFICATE", "").env("PGPORT", "5432");
        command.env("STANDBY_OF", primary.map_or("".as_ref(), |primary| primary.directory.as_os_str()));
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let orders = shell.stdin.take().unwrap();
        let mut answers = BufReader::new(shell.stdout.take().unwrap());
        let mut directory = String::new();
        answers.read_line(&mut directory).unwrap();
        assert!(!directory.is_empty(), "PostgreSQL does not start: see above for what it says");
        Self { orders: Mutex::new(Some((orders, answers))), shell, directory: directory.trim_end().into() }
    }

    /// The socket that it listens on.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&self) {
        self.order("kill");
    }

    /// Starts it again; returns when it answers.
    pub(crate) fn start_again(&self) {
        self.order("start");
    }

    /// Makes a standby take writes; returns when it does.
    pub(crate) fn promote(&self) {
        self.order("promote");
    }

    /// The server and all that it has started.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        let server: u32 = text.lines().next().unwrap().parse().unwrap();
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
        std::iter::once(server)
            .chain(children.split_whitespace().map(|child| child.parse().unwrap()))
            .collect()
    }

    /// What an operator's SQL prints.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let output = self.psql(statements).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// psql, which carries these statements out in the store's schema.
    pub(crate) fn psql(&self, statements: &str) -> Command {
        let mut command = Command::new(programs().join("psql"));
        command.args(["-U", "postgres", "-d", "postgres", "-qAtX", "-v", "ON_ERROR_STOP=1"]);
        command.arg("-h").arg(&self.directory);
        command.env("PGOPTIONS", "-c search_path=harbormaster").args(["-c", statements]);
        command.stdin(Stdio::null());
        command
    }

    fn order(&self, order: &str) {
        let mut orders = self.orders.lock().unwrap();
        let (orders, answers) = orders.as_mut().unwrap();
        writeln!(orders, "{order}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), order);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        *self.orders.lock().unwrap() = None;
        let _ = self.shell.wait();
    }
}

fn id(of: &[&str]) -> Option<u32> {
    let told = Command::new("id").args(of).output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().parse().ok()
}

/// The programs of the newest version that is installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect(INSTALL);
    let newest = versions
        .filter_map(|version| version.unwrap().file_name().into_string().unwrap().parse::<u32>().ok());
    PathBuf::from("/usr/lib/postgresql").join(newest.max().expect(INSTALL).to_string()).join("bin")
}
