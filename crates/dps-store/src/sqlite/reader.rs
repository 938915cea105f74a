//! The threads that read, each with a connection of its own; none waits for the writer.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use dps_core::ports::StoreError;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::Fault;

/// Most reads that wait; who comes later waits for room.
const WAITING_MAX: usize = 4_096;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The reading threads. Dropping it joins them.
pub(super) struct Readers {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts a thread for each connection.
    pub(super) fn start(connections: Vec<Connection>) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let start = |connection| {
            let waiting = Arc::clone(&waiting);
            let reader = thread::Builder::new().name("store-reader".to_owned());
            reader.spawn(move || serve(&connection, &waiting))
        };
        let threads = connections.into_iter().map(start).collect::<io::Result<_>>()?;
        Ok(Self { jobs: Some(jobs), threads })
    }

    /// Runs `work` in one read transaction, so that all it sees is of one point in time.
    pub(super) async fn read<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let ended = || StoreError::Unavailable("the reading threads have ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let read = connection.unchecked_transaction().map_err(Fault::from).and_then(|seen| work(&seen));
            // Whoever asked may have left.
            let _ = answer.send(read);
        });
        self.jobs.as_ref().ok_or_else(ended)?.send(job).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?.map_err(|Fault(error)| error)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reading thread of the store had ended in a panic");
            }
        }
    }
}

fn serve(connection: &Connection, waiting: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // The lock is held only while waiting, so one thread waits for work and the others for their turn.
        let Ok(job) = waiting.lock().map(|mut waiting| waiting.blocking_recv()) else { return };
        match job {
            Some(job) => job(connection),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_that_died_are_unavailable_and_keep_no_one_waiting() {
        let connections = (0..2).map(|_| Connection::open_in_memory().unwrap()).collect();
        let readers = Readers::start(connections).unwrap();
        for _ in 0..3 {
            let died = readers.read(|_| -> Result<(), Fault> { panic!("as a bug would") }).await;
            assert!(matches!(died, Err(StoreError::Unavailable(_))), "{died:?}");
        }
        let after = readers.read(|_| Ok(())).await;
        assert!(matches!(after, Err(StoreError::Unavailable(_))), "{after:?}");
    }
}
