//! The thread that moves what the write-ahead log holds into the database, so that the writer need not.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;

use super::writer::Counts;

const EVERY: Duration = Duration::from_millis(300);
/// A log of more frames (4 KB each) holds the writer up for a moment to begin anew. Without this, a log that is written to
/// all the time grows all the time.
const LOG_FRAMES_MAX: i64 = 16_384;

/// The checkpointing thread. Dropping it joins it.
pub(super) struct Checkpointer {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Begins a checkpoint every 300 ms in which there was a commit.
    pub(super) fn start(connection: Connection, counts: Arc<Counts>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("store-checkpointer".to_owned())
            .spawn(move || serve(&connection, &stopped, &counts))?;
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

fn serve(connection: &Connection, stopped: &mpsc::Receiver<()>, counts: &Counts) {
    let mut moved = 0;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
        let commits = counts.now().commits;
        if commits == moved {
            continue;
        }
        match checkpoint(connection) {
            Ok(()) => moved = commits,
            Err(error) => {
                tracing::warn!(reason = %error, "a checkpoint of the store failed; it is tried again")
            }
        }
    }
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    // (whether it was blocked, frames in the log, frames moved)
    let frames: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
    if frames > LOG_FRAMES_MAX {
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
    }
    Ok(())
}
