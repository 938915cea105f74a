//! A way to the database that breaks at the worst moment: after a COMMIT was sent and before its answer came.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

/// How a client of PostgreSQL ends a transaction: a message of type Q, its length, the text.
const COMMIT: &[u8] = b"Q\0\0\0\x0BCOMMIT\0";

/// Of so many commits one is cut.
const ONE_OF: u32 = 3;

/// What runs between the nodes and the database.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    is_cutting: AtomicBool,
    commits: AtomicU32,
    cut: AtomicU32,
}

impl Cutter {
    /// Passes everything on to that socket.
    pub(crate) async fn start(socket: PathBuf) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cutter = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            is_cutting: AtomicBool::new(false),
            commits: AtomicU32::new(0),
            cut: AtomicU32::new(0),
        });
        let serving = Arc::clone(&cutter);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (cutter, socket) = (Arc::clone(&serving), socket.clone());
                tokio::spawn(async move {
                    if let Ok(server) = UnixStream::connect(socket).await {
                        cutter.pass(client, server).await;
                    }
                });
            }
        });
        cutter
    }

    pub(crate) fn begin(&self) {
        self.is_cutting.store(true, Ordering::SeqCst);
    }

    /// Cuts no more; how many it has cut.
    pub(crate) fn end(&self) -> u32 {
        self.is_cutting.store(false, Ordering::SeqCst);
        self.cut.load(Ordering::SeqCst)
    }

    /// Until one side ends, or it is cut.
    async fn pass(&self, mut client: TcpStream, mut server: UnixStream) {
        let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let Ok(count @ 1..) = read else { return };
                    if server.write_all(&asked[..count]).await.is_err() {
                        return;
                    }
                    if asked[..count].ends_with(COMMIT) && self.is_to_be_cut() {
                        // The server has committed when it answers; nobody hears of it.
                        let _ = timeout(Duration::from_secs(5), server.read(&mut answered)).await;
                        self.cut.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
                read = server.read(&mut answered) => {
                    let Ok(count @ 1..) = read else { return };
                    if client.write_all(&answered[..count]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn is_to_be_cut(&self) -> bool {
        self.is_cutting.load(Ordering::SeqCst)
            && self.commits.fetch_add(1, Ordering::SeqCst).is_multiple_of(ONE_OF)
    }
}
