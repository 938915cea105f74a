//! The thread that moves what the write-ahead log holds into the database, so that the writer need not. Spec: DPS-STORE-35.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::alarm::Alarms;
use super::writer::Counts;

const EVERY: Duration = Duration::from_millis(300);
/// A log of more frames (4 KB each) holds the writer up for a moment to begin anew. Without this, a log that is written to
/// all the time grows all the time.
const LOG_FRAMES_MAX: i64 = 16_384;
/// How long the writer is held up for that where somebody reads who began long ago, such as a backup.
const HELD_UP_MAX: Duration = Duration::from_millis(100);
/// How long a log may grow on after that was in vain.
const IN_VAIN_EVERY: Duration = Duration::from_secs(5);

/// The checkpointing thread. Dropping it joins it.
pub(super) struct Checkpointer {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Begins a checkpoint every 300 ms in which there was a commit.
    pub(super) fn start(
        connection: Connection,
        counts: Arc<Counts>,
        alarms: Arc<Alarms>,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("store-checkpointer".to_owned())
            .spawn(move || serve(&connection, &stopped, &counts, &alarms))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpointing thread of the store had ended in a panic");
        }
    }
}

fn serve(connection: &Connection, stopped: &mpsc::Receiver<()>, counts: &Counts, alarms: &Alarms) {
    let mut moved = 0;
    let mut restarts = Restarts { in_vain: None };
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
        let commits = counts.now().commits;
        if commits == moved {
            continue;
        }
        match checkpoint(connection, &mut restarts) {
            Ok(()) => {
                moved = commits;
                alarms.checkpoint_made();
            }
            Err(error) => alarms.checkpoint_failed(&error),
        }
    }
}

/// When a log that has grown too large is begun anew.
struct Restarts {
    in_vain: Option<Instant>,
}

fn checkpoint(connection: &Connection, restarts: &mut Restarts) -> rusqlite::Result<()> {
    // (whether it was blocked, frames in the log, frames moved)
    let frames: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
    let waits = restarts.in_vain.is_some_and(|at| at.elapsed() < IN_VAIN_EVERY);
    if frames > LOG_FRAMES_MAX && !waits {
        // Spec: DPS-STORE-35. It keeps the writer's lock while it waits for readers, and as long as the busy timeout lets it.
        connection.busy_timeout(HELD_UP_MAX)?;
        let is_blocked: bool =
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))?;
        restarts.in_vain = is_blocked.then(Instant::now);
    }
    Ok(())
}
