//! The connections that read, on threads of their own or on the caller's; none waits for the writer.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use dps_core::ports::StoreError;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::alarm::Alarms;
use super::fault::Fault;
use super::queue::{Queue, Taker};

/// Most reads that wait or run; who comes later waits for room.
const WAITING_MAX: usize = 4_096;

struct Job {
    run: Box<dyn FnOnce(&Connection) + Send>,
    /// Goes with the work, whether or not anyone still waits for its answer.
    _room: OwnedSemaphorePermit,
}

/// The reading threads. Dropping it joins them.
pub(super) struct Readers {
    room: Arc<Semaphore>,
    jobs: Arc<Queue<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// For reads on the caller's own thread.
    spare: Mutex<Vec<Connection>>,
    alarms: Arc<Alarms>,
}

impl Readers {
    /// Starts a thread for each of `connections`; keeps the `spare` ones for [`Readers::read_here`].
    pub(super) fn start(
        connections: Vec<Connection>,
        spare: Vec<Connection>,
        alarms: Arc<Alarms>,
    ) -> io::Result<Self> {
        let (jobs, takers) = Queue::new(connections.len());
        // Dropped where a thread cannot be started, which ends the others.
        let mut readers = Self {
            room: Arc::new(Semaphore::new(WAITING_MAX)),
            jobs,
            threads: Vec::new(),
            spare: Mutex::new(spare),
            alarms,
        };
        for (connection, taker) in connections.into_iter().zip(takers) {
            let reader = thread::Builder::new().name("store-reader".to_owned());
            readers.threads.push(reader.spawn(move || serve(&connection, &taker))?);
        }
        Ok(readers)
    }

    /// As [`Readers::read`], on the caller's own thread where a connection is free: for reads of a few rows, which take less
    /// than handing them over and waking two threads for each.
    pub(super) async fn read_here<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let Some(connection) = self.spare().pop() else { return self.read(work).await };
        // Lost where `work` panics; the threads do its work from then on.
        let read =
            at_one_point_in_time(&connection, work).map_err(|fault| self.alarms.of_read(fault, &connection));
        if connection.is_autocommit() {
            self.spare().push(connection);
        }
        read
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Nothing panics while it is held.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one read transaction, so that all it sees is of one point in time.
    pub(super) async fn read<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let ended = || StoreError::Unavailable("the reading threads have ended".to_owned());
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| ended())?;
        let (answer, answered) = oneshot::channel();
        let alarms = Arc::clone(&self.alarms);
        let run = Box::new(move |connection: &Connection| {
            let read = at_one_point_in_time(connection, work);
            // Whoever asked may have left.
            let _ = answer.send(read.map_err(|fault| alarms.of_read(fault, connection)));
        });
        self.jobs.put(Job { run, _room: room }).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reading thread of the store had ended in a panic");
            }
        }
    }
}

fn serve(connection: &Connection, jobs: &Taker<Job>) {
    while let Some(Job { run, _room }) = jobs.take() {
        run(connection);
    }
}

/// As rusqlite's own transactions, but prepared once: beginning and ending would else cost as much as the reading.
fn at_one_point_in_time<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let read = work(connection);
    connection.prepare_cached("ROLLBACK")?.execute([])?;
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_that_died_are_unavailable_and_keep_no_one_waiting() {
        let connections = (0..2).map(|_| Connection::open_in_memory().unwrap()).collect();
        let readers = Readers::start(connections, Vec::new(), Arc::default()).unwrap();
        for _ in 0..3 {
            let died = readers.read(|_| -> Result<(), Fault> { panic!("as a bug would") }).await;
            assert!(matches!(died, Err(StoreError::Unavailable(_))), "{died:?}");
        }
        let after = readers.read(|_| Ok(())).await;
        assert!(matches!(after, Err(StoreError::Unavailable(_))), "{after:?}");
    }

    #[tokio::test]
    async fn a_read_on_the_callers_thread_that_dies_leaves_the_rest_to_the_threads() {
        let open = || Connection::open_in_memory().unwrap();
        let readers = Arc::new(Readers::start(vec![open()], vec![open()], Arc::default()).unwrap());
        let thread = |_: &Connection| Ok(thread::current().name().map(str::to_owned));
        assert_eq!(readers.read_here(thread).await.unwrap(), thread::current().name().map(str::to_owned));
        let died = {
            let readers = Arc::clone(&readers);
            tokio::spawn(async move {
                readers.read_here(|_| -> Result<(), Fault> { panic!("as a bug would") }).await
            })
        };
        assert!(died.await.unwrap_err().is_panic());
        assert_eq!(readers.read_here(thread).await.unwrap().as_deref(), Some("store-reader"));
    }
}
