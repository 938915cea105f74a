//! The one thread that writes. Spec: DPS-STORE-2, DPS-STORE-3.
//!
//! Writes that wait together go into one transaction and so share one fdatasync, which is what bounds their number. No one
//! is answered before that transaction is committed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use dps_core::ports::{StoreError, WriteObserver};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::alarm::Alarms;
use super::fault::Fault;

/// Most writes that wait; who comes later waits for room.
const WAITING_MAX: usize = 4_096;
/// Most writes of one commit, so that the first of them does not wait long for the last.
const TOGETHER_MAX: usize = 256;
/// How long a write waits for others to share its commit, where the one before was shared: an fdatasync costs more than all
/// else that is done for a device, and a device waits seconds for its next answer anyway.
const LINGER: Duration = Duration::from_millis(5);

/// How many writes there were, and how many commits they shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteStatistics {
    /// Writes that were answered after a commit, those that failed their condition included.
    pub writes: u64,
    /// Commits, each one fdatasync at most.
    pub commits: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    writes: AtomicU64,
    commits: AtomicU64,
}

impl Counts {
    pub(super) fn now(&self) -> WriteStatistics {
        WriteStatistics {
            writes: self.writes.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
        }
    }
}

/// The writing thread. Dropping it lets the writes that wait finish, then joins it.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
    observer: OnceLock<Arc<dyn WriteObserver>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, alarms: Arc<Alarms>) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || serve(connection, waiting, &counted, &alarms))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), counts, observer: OnceLock::new() })
    }

    /// Spec: DPS-METRICS-5. A second observer is not taken.
    pub(super) fn observe(&self, observer: Arc<dyn WriteObserver>) {
        let _ = self.observer.set(observer);
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Runs `work` in a transaction that others may share, and returns what it returned once that is committed. `work` checks
    /// its conditions before it writes anything, for it cannot be undone alone; it must be repeatable, for where a
    /// neighbour's statements fail, all are run again one by one.
    pub(super) async fn write<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let ended = || StoreError::Unavailable("the writing thread has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        let waiting = self.observer.get().map(Waiting::begin);
        let job = Box::new(Write { work, outcome: None, answer, _waiting: waiting });
        jobs.send(job).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writing thread of the store had ended in a panic");
        }
    }
}

trait Job: Send {
    fn run(&mut self, connection: &Connection) -> Result<(), Fault>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Write<T, W> {
    work: W,
    outcome: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
    _waiting: Option<Waiting>,
}

/// A write that is observed from the time it was asked for to its end, however it ends.
struct Waiting {
    observer: Arc<dyn WriteObserver>,
    since: Instant,
}

impl Waiting {
    fn begin(observer: &Arc<dyn WriteObserver>) -> Self {
        observer.asked();
        Self { observer: Arc::clone(observer), since: Instant::now() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.observer.ended(self.since.elapsed());
    }
}

impl<T, W> Job for Write<T, W>
where
    T: Send,
    W: FnMut(&Connection) -> Result<T, Fault> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), Fault> {
        self.outcome = Some((self.work)(connection)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let never_ran = || StoreError::Unavailable("the write was not tried".to_owned());
        let Self { outcome, answer, .. } = *self;
        // Whoever asked may have left; the write stands all the same.
        let _ = answer.send(committed.and_then(|()| outcome.ok_or_else(never_ran)));
    }
}

fn serve(
    connection: Connection,
    mut waiting: mpsc::Receiver<Box<dyn Job>>,
    counts: &Counts,
    alarms: &Alarms,
) {
    let mut was_shared = false;
    while let Some(first) = waiting.blocking_recv() {
        if was_shared {
            // Asleep, and not waiting for the next write, so that writes that come meanwhile need not wake this thread.
            thread::sleep(LINGER);
        }
        let mut batch = vec![first];
        while batch.len() < TOGETHER_MAX
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        was_shared = batch.len() > 1;
        settle(&connection, batch, counts, alarms);
    }
    // The readers are gone by now, so all of the log can go into the database and the next start is quick.
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = emptied.and_then(|()| connection.close().map_err(|(_, error)| error)) {
        tracing::warn!(reason = %error, "the store was not closed cleanly; nothing is lost, its log is read at the next start");
    }
}

enum Failure {
    /// Of one job's statements: the others may well succeed without it.
    OfOne(Fault),
    /// Of the transaction.
    OfAll(Fault),
}

fn settle(connection: &Connection, mut batch: Vec<Box<dyn Job>>, counts: &Counts, alarms: &Alarms) {
    let error = match attempt(connection, &mut batch) {
        Ok(()) => {
            counts.commits.fetch_add(1, Ordering::Relaxed);
            counts.writes.fetch_add(batch.len() as u64, Ordering::Relaxed);
            alarms.written();
            return batch.into_iter().for_each(|job| job.answer(Ok(())));
        }
        Err(Failure::OfOne(_)) if batch.len() > 1 => {
            let alone = mem::take(&mut batch).into_iter().map(|job| vec![job]);
            return alone.for_each(|job| settle(connection, job, counts, alarms));
        }
        Err(Failure::OfOne(fault) | Failure::OfAll(fault)) => alarms.of_write(fault, connection),
    };
    for job in batch {
        job.answer(Err(error.clone()));
    }
}

fn attempt(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
    let statement = |text: &str| connection.prepare_cached(text)?.execute([]).map(|_| ());
    // SQLite ends a transaction by itself after some failures, such as a full disk.
    let undone = |failure| {
        if !connection.is_autocommit()
            && let Err(error) = statement("ROLLBACK")
        {
            tracing::error!(reason = %error, "a transaction of the store could not be rolled back");
        }
        failure
    };
    statement("BEGIN IMMEDIATE").map_err(|error| Failure::OfAll(error.into()))?;
    for job in batch {
        job.run(connection).map_err(|fault| undone(Failure::OfOne(fault)))?;
    }
    statement("COMMIT").map_err(|error| undone(Failure::OfAll(error.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> (Writer, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("db")).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a INTEGER UNIQUE) STRICT")
            .unwrap();
        (Writer::start(connection, Arc::default()).unwrap(), directory)
    }

    fn insert(value: i64) -> impl FnMut(&Connection) -> Result<(), Fault> + Send + 'static {
        move |connection| Ok(connection.execute("INSERT INTO t VALUES (?1)", [value]).map(|_| ())?)
    }

    async fn count(writer: &Writer) -> i64 {
        writer.write(|c| Ok(c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)).await.unwrap()
    }

    /// Starts a write that holds the thread until the sender is dropped, so that what is written next waits together.
    async fn hold(
        writer: &Writer,
    ) -> (std::sync::mpsc::Sender<()>, oneshot::Receiver<Result<(), StoreError>>) {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (began, begun) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let mut began = Some(began);
        let work = move |_: &Connection| {
            began.take().map(|began| began.send(()));
            let _ = held.recv();
            Ok(())
        };
        let job = Box::new(Write { work, outcome: None, answer, _waiting: None });
        assert!(writer.jobs.as_ref().unwrap().send(job).await.is_ok());
        begun.await.unwrap();
        (release, answered)
    }

    /// DPS-STORE-3
    #[tokio::test]
    async fn writes_that_wait_together_share_a_commit() {
        let (writer, _directory) = writer();
        let (release, held) = hold(&writer).await;
        let before = writer.counts.now();
        let mut writes: Vec<_> = (0..100).map(|value| Box::pin(writer.write(insert(value)))).collect();
        for write in &mut writes {
            assert!(poll_once(write.as_mut()).await.is_none());
        }
        drop(release);
        held.await.unwrap().unwrap();
        for write in writes {
            write.await.unwrap();
        }
        let after = writer.counts.now();
        assert_eq!((after.writes - before.writes, after.commits - before.commits), (101, 2));
        assert_eq!(count(&writer).await, 100);
    }

    /// DPS-STORE-3
    #[tokio::test]
    async fn a_write_whose_statements_fail_does_not_take_its_neighbours_along() {
        let (writer, _directory) = writer();
        writer.write(insert(5)).await.unwrap();
        let (release, held) = hold(&writer).await;
        let mut writes: Vec<_> = (0..10).map(|value| Box::pin(writer.write(insert(value)))).collect();
        for write in &mut writes {
            assert!(poll_once(write.as_mut()).await.is_none());
        }
        drop(release);
        held.await.unwrap().unwrap();
        let mut outcomes = Vec::new();
        for write in writes {
            outcomes.push(write.await.is_ok());
        }
        assert_eq!(outcomes.iter().position(|done| !done), Some(5));
        assert_eq!((outcomes.iter().filter(|done| **done).count(), count(&writer).await), (9, 10));
    }

    /// DPS-STORE-2
    #[tokio::test]
    async fn a_commit_that_fails_is_told_to_all_who_shared_it() {
        let (writer, _directory) = writer();
        // A deferred constraint fails at the commit and not before.
        let broken = |connection: &Connection| {
            connection.execute_batch(
                "PRAGMA defer_foreign_keys = ON;
                 CREATE TABLE IF NOT EXISTS child (parent INTEGER REFERENCES t (a)) STRICT;
                 INSERT INTO child VALUES (404);",
            )?;
            Ok(())
        };
        writer
            .write(|c| {
                c.execute_batch("CREATE TABLE IF NOT EXISTS child (parent INTEGER REFERENCES t (a)) STRICT")?;
                Ok(())
            })
            .await
            .unwrap();
        let (release, held) = hold(&writer).await;
        let mut bad = Box::pin(writer.write(broken));
        let mut good = Box::pin(writer.write(insert(1)));
        assert!(poll_once(bad.as_mut()).await.is_none() && poll_once(good.as_mut()).await.is_none());
        drop(release);
        held.await.unwrap().unwrap();
        for told in [bad.await, good.await] {
            let Err(StoreError::Unavailable(why)) = told else { panic!("{told:?}") };
            assert!(why.contains("FOREIGN KEY"), "{why}");
        }
        assert_eq!(count(&writer).await, 0);
        writer.write(insert(1)).await.unwrap();
    }

    #[derive(Default)]
    struct Observed {
        asked: AtomicU64,
        ended: AtomicU64,
        longest_ms: AtomicU64,
    }

    impl WriteObserver for Observed {
        fn asked(&self) {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
        fn ended(&self, took: std::time::Duration) {
            self.ended.fetch_add(1, Ordering::SeqCst);
            self.longest_ms.fetch_max(took.as_millis() as u64, Ordering::SeqCst);
        }
    }

    /// DPS-METRICS-5
    #[tokio::test]
    async fn a_write_is_observed_until_its_commit_even_if_whoever_asked_has_left() {
        let (writer, _directory) = writer();
        let observed = Arc::new(Observed::default());
        writer.observe(Arc::clone(&observed) as _);
        let counts = || (observed.asked.load(Ordering::SeqCst), observed.ended.load(Ordering::SeqCst));
        let (release, held) = hold(&writer).await;
        let mut stays = Box::pin(writer.write(insert(1)));
        let mut leaves = Box::pin(writer.write(insert(2)));
        assert!(poll_once(stays.as_mut()).await.is_none() && poll_once(leaves.as_mut()).await.is_none());
        drop(leaves);
        assert_eq!(counts(), (2, 0), "both wait in the queue");
        thread::sleep(std::time::Duration::from_millis(30));
        drop(release);
        held.await.unwrap().unwrap();
        stays.await.unwrap();
        drop(writer);
        assert_eq!(counts(), (2, 2));
        assert!(observed.longest_ms.load(Ordering::SeqCst) >= 30, "the time in the queue counts");
    }

    #[tokio::test]
    async fn a_writer_that_died_is_unavailable_and_keeps_no_one_waiting() {
        let (writer, _directory) = writer();
        let died = writer.write(|_| -> Result<(), Fault> { panic!("as a bug would") }).await;
        assert!(matches!(died, Err(StoreError::Unavailable(_))), "{died:?}");
        let after = writer.write(insert(1)).await;
        assert!(matches!(after, Err(StoreError::Unavailable(_))), "{after:?}");
    }

    #[tokio::test]
    async fn closing_lets_the_writes_that_wait_finish() {
        let (writer, directory) = writer();
        let (release, held) = hold(&writer).await;
        {
            let mut write = Box::pin(writer.write(insert(1)));
            assert!(poll_once(write.as_mut()).await.is_none());
        }
        drop(release);
        drop(writer);
        held.await.unwrap().unwrap();
        let connection = Connection::open(directory.path().join("db")).unwrap();
        assert_eq!(
            connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(),
            1
        );
    }

    /// The future's value, if one poll brings it to its end.
    async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
