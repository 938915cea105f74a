//! Running the binary, with nothing of this machine's environment.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::scripted_service::ScriptedService;

/// A user with a directory for what runs, and one for files.
pub(crate) struct User {
    home: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl User {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file; its path as an argument.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The binary, which knows no service but a running `dev` of this user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harbormaster"));
        command.args(arguments).env_clear().current_dir(self.home.path());
        command.env("XDG_RUNTIME_DIR", self.home.path()).env("TMPDIR", self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The binary, which knows this service from its environment.
    pub(crate) fn command_at(&self, service: &ScriptedService, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.env("HARBORMASTER_CONNECTION_STRING", service.connection_string());
        command.env("HARBORMASTER_CA_FILE", service.ca_file());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    pub(crate) fn run_at(&self, service: &ScriptedService, arguments: &[&str]) -> Ended {
        ended(&mut self.command_at(service, arguments))
    }
}

/// Runs the command to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs the command to its end, with that text on standard input.
pub(crate) fn ended_with_input(command: &mut Command, input: &str) -> Ended {
    let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

impl Ended {
    /// It did what was asked and had nothing else to say.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// It ended with that code, said each of those on standard error, and printed nothing.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, told: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{}", self.err);
        for text in told {
            assert!(self.err.contains(text), "{text:?} is not in {}", self.err);
        }
    }
}
