//! A process on a core of its own, and what it has used.

use std::fs;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::proc_files;
use crate::step::{self, Failure};

/// The core of whatever is measured.
pub(super) const SERVER_CORE: u8 = 0;
/// The core of whatever makes the load.
pub(super) const DRIVER_CORE: u8 = 1;

const STEP: &str = "bench";

/// How often memory is looked at: it grows for the last time long before the end.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How a process runs beside others on its core.
#[derive(Clone, Copy)]
pub(super) enum Precedence {
    /// As any other.
    Normal,
    /// After all others.
    Last,
}

/// What a process left that ended by itself.
pub(super) struct Ended {
    /// Lines that it printed.
    pub(super) lines: u64,
    /// The last of them.
    pub(super) last_line: String,
    /// The most resident memory that it was seen to have.
    pub(super) peak_kib: u64,
}

/// A process that speaks in lines of JSON. Killed when it is dropped.
pub(super) struct Process {
    name: String,
    child: Child,
    /// `None` once it was told the end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    ticks_per_second: f64,
}

impl Process {
    /// Starts `program` on `core`, with as many open files as the system lets it have. Its standard error goes to `log`.
    pub(super) fn start(
        program: &Path,
        arguments: &[String],
        core: u8,
        precedence: Precedence,
        log: &Path,
    ) -> Result<Self, Failure> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{name} {}", arguments.first().map(String::as_str).unwrap_or_default());
        let failed = |why: std::io::Error| Failure::new(STEP, format!("{name}: {why}"));
        let log = fs::File::options().create(true).append(true).open(log).map_err(failed)?;
        let mut command = Command::new("sh");
        // Each replaces the one before, so the process id is the program's own.
        command.args(["-c", r#"ulimit -n "$(ulimit -H -n)"; exec "$@""#, "sh"]);
        if let Precedence::Last = precedence {
            command.args(["nice", "-n", "19"]);
        }
        command.args(["taskset", "-c", &core.to_string()]).arg(program).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stdout = stdout.ok_or_else(|| Failure::new(STEP, format!("{name} has no output")))?;
        let ticks_per_second = step::output(STEP, Command::new("getconf").arg("CLK_TCK"))?;
        let ticks_per_second = ticks_per_second
            .trim()
            .parse()
            .map_err(|_| Failure::new(STEP, "`getconf CLK_TCK` printed no number"))?;
        Ok(Self { name, child, stdin, stdout: BufReader::new(stdout), ticks_per_second })
    }

    /// Its next line.
    pub(super) fn line(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        match read.map(|_| serde_json::from_str(&line)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => {
                let advice =
                    format!("{} ended early or printed no JSON: {line:?}; its log is above", self.name);
                Err(Failure::new(STEP, advice))
            }
        }
    }

    /// Lets it go on to what it does next.
    pub(super) fn go_on(&mut self) -> Result<(), Failure> {
        let failed = |why| Failure::new(STEP, format!("{}: {why}", self.name));
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(b"\n").map_err(failed),
            None => Ok(()),
        }
    }

    /// Ends its standard input, upon which it says its last line.
    pub(super) fn last_line(mut self) -> Result<Value, Failure> {
        self.stdin = None;
        self.line()
    }

    /// Waits until it has done what it was started for.
    pub(super) fn finish(mut self) -> Result<Ended, Failure> {
        let failed = |why: String| Failure::new(STEP, format!("{}: {why}", self.name));
        let (stdout, child) = (&mut self.stdout, &mut self.child);
        self.stdin = None;
        let path = format!("/proc/{}/status", child.id());
        thread::scope(|scope| {
            let printed = scope.spawn(|| printed(stdout));
            let mut peak_kib = 0;
            let status = loop {
                // Once it has ended there is no such file, or no memory in it.
                let seen = fs::read_to_string(&path).ok().and_then(|status| proc_files::peak_kib(&status));
                peak_kib = seen.unwrap_or(peak_kib);
                match child.try_wait().map_err(|why| failed(why.to_string()))? {
                    Some(status) => break status,
                    None => thread::sleep(LOOK_EVERY),
                }
            };
            let (lines, last_line) = match printed.join() {
                Ok(printed) => printed.map_err(|why| failed(why.to_string()))?,
                Err(_) => return Err(failed("its output was not read".to_owned())),
            };
            match status.success() {
                true => Ok(Ended { lines, last_line, peak_kib }),
                false => Err(failed(format!("ended with {status}; its log is above"))),
            }
        })
    }

    /// Lets it end as an operator would.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        let mut kill = Command::new("kill");
        step::output(STEP, kill.args(["-TERM", &self.child.id().to_string()]))?;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(STEP, format!("{} ended with {status}", self.name))),
            Err(why) => Err(Failure::new(STEP, format!("{}: {why}", self.name))),
        }
    }

    /// User and system time of all its threads so far, in seconds.
    pub(super) fn cpu_seconds(&self) -> Result<f64, Failure> {
        let ticks = proc_files::cpu_ticks(&self.proc_file("stat")?);
        let ticks = ticks.ok_or_else(|| Failure::new(STEP, "/proc/PID/stat cannot be read"))?;
        Ok(ticks as f64 / self.ticks_per_second)
    }

    /// Resident memory.
    pub(super) fn resident_kib(&self) -> Result<u64, Failure> {
        let kib = proc_files::resident_kib(&self.proc_file("status")?);
        kib.ok_or_else(|| Failure::new(STEP, "/proc/PID/status cannot be read"))
    }

    /// The most resident memory that it has had.
    pub(super) fn peak_kib(&self) -> Result<u64, Failure> {
        let kib = proc_files::peak_kib(&self.proc_file("status")?);
        kib.ok_or_else(|| Failure::new(STEP, "/proc/PID/status cannot be read"))
    }

    fn proc_file(&self, name: &str) -> Result<String, Failure> {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(&path).map_err(|why| Failure::new(STEP, format!("{path} ({}): {why}", self.name)))
    }
}

/// How many lines there are, and the last one.
fn printed(output: &mut impl BufRead) -> io::Result<(u64, String)> {
    let (mut lines, mut line, mut next) = (0, String::new(), String::new());
    while output.read_line(&mut next)? > 0 {
        lines += 1;
        std::mem::swap(&mut line, &mut next);
        next.clear();
    }
    Ok((lines, line))
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
