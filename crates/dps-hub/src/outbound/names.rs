//! From names to addresses. Spec: DPS-HUB-4.

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;

/// Look-ups that the system is asked for at one time; each holds a thread until it ends, however long ago whoever asked has left.
/// Spec: DPS-HUB-4.
pub const LOOK_UPS_MAX: usize = 32;

/// Addresses of one name that are judged; a name with more is refused. Spec: DPS-HUB-4.
pub const ADDRESSES_MAX: usize = 64;

/// Says which addresses a name has.
#[async_trait]
pub trait Names: Send + Sync {
    /// All addresses of `host`, a name, in the order in which they should be tried.
    ///
    /// # Errors
    /// Why there is none.
    async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks the system, `/etc/hosts` included.
#[derive(Debug)]
pub struct SystemNames(Arc<Semaphore>);

impl Default for SystemNames {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOK_UPS_MAX)))
    }
}

#[async_trait]
impl Names for SystemNames {
    async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let host = host.to_owned();
        let look_up = move || {
            let addresses = (host.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect();
            drop(permit);
            Ok(addresses)
        };
        tokio::task::spawn_blocking(look_up).await.map_err(io::Error::other)?
    }
}
