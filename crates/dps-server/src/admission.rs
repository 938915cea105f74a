//! Who may connect: places in total, for one address, and for those who have not proved themselves yet.
//! Spec: DPS-LIMIT-1, DPS-LIMIT-2, DPS-LIMIT-13, DPS-LIMIT-17.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::limits::Limits;
use crate::network::Network;

/// The places of a node, shared by its listeners.
#[derive(Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    unattested: Arc<Semaphore>,
    per_address_max: Option<usize>,
    per_address: Mutex<HashMap<Network, usize>>,
    /// Connections that were let in and have not ended.
    open: watch::Sender<usize>,
}

/// Why a connection is closed as soon as it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// Spec: DPS-LIMIT-1.
    #[error("its address has {0} connections, the most that limits.connections_per_address allows")]
    Address(usize),
    /// Spec: DPS-LIMIT-2.
    #[error("as many connections as limits.unattested_connections allows have not proved themselves yet")]
    Unattested,
}

/// Room for one connection that is not accepted yet.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A connection's places, given back when it is dropped.
#[derive(Debug)]
pub struct Admitted {
    _place: Place,
    unattested: Option<OwnedSemaphorePermit>,
    admission: Arc<Admission>,
    /// None where addresses have no limit, and until the address is known.
    address: Option<AddressPlace>,
}

/// One of the places of an address.
#[derive(Debug)]
struct AddressPlace {
    admission: Arc<Admission>,
    /// Where its connections are counted.
    network: Network,
}

impl Admission {
    /// All places free.
    pub fn new(limits: &Limits) -> Arc<Self> {
        let count = |wanted: usize| wanted.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            places: Arc::new(Semaphore::new(count(limits.connections))),
            unattested: Arc::new(Semaphore::new(count(limits.unattested_connections))),
            per_address_max: limits.connections_per_address,
            per_address: Mutex::default(),
            open: watch::Sender::new(0),
        })
    }

    /// Whether the next connection has to wait for a place.
    pub fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// Waits for a free place: what cannot be served waits in the kernel's queue, not in memory here.
    pub async fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).acquire_owned().await.ok().map(|_permit| Place { _permit })
    }

    /// Lets a connection in that has proved nothing yet; its address is told by [`Admitted::comes_from`].
    pub fn admit(self: &Arc<Self>, place: Place) -> Result<Admitted, NotAdmitted> {
        let unattested = Arc::clone(&self.unattested).try_acquire_owned();
        let unattested = unattested.map_err(|_| NotAdmitted::Unattested)?;
        self.open.send_modify(|open| *open += 1);
        Ok(Admitted {
            _place: place,
            unattested: Some(unattested),
            admission: Arc::clone(self),
            address: None,
        })
    }

    /// Waits until every connection has ended, for at most `within`. The number that are still open then.
    pub async fn drained(&self, within: Duration) -> usize {
        let mut open = self.open.subscribe();
        // Each listener waits here by itself, which permits of one semaphore would not allow: the first would hold them all.
        let _ = timeout(within, open.wait_for(|open| *open == 0)).await;
        *open.borrow()
    }

    fn per_address(&self) -> MutexGuard<'_, HashMap<Network, usize>> {
        // Nothing panics while it is held, and a count is whole between its own operations.
        self.per_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    /// Takes a place among the connections of `address`, once that is known: behind a balancer it is not when a connection is accepted.
    pub fn comes_from(&mut self, address: IpAddr) -> Result<(), NotAdmitted> {
        let Some(most) = self.admission.per_address_max else { return Ok(()) };
        let network = Network::from(address);
        let mut per_address = self.admission.per_address();
        let count = per_address.entry(network).or_default();
        if *count >= most {
            return Err(NotAdmitted::Address(*count));
        }
        *count += 1;
        drop(per_address);
        self.address = Some(AddressPlace { admission: Arc::clone(&self.admission), network });
        Ok(())
    }

    /// It has proved itself: its place among the strangers is free again.
    pub fn attested(&mut self) {
        self.unattested = None;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.open.send_modify(|open| *open -= 1);
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut per_address = self.admission.per_address();
        if let Some(count) = per_address.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                per_address.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    async fn admit(admission: &Arc<Admission>, address: IpAddr) -> Result<Admitted, NotAdmitted> {
        let mut admitted = admission.admit(admission.place().await.unwrap())?;
        admitted.comes_from(address)?;
        Ok(admitted)
    }

    /// DPS-LIMIT-1
    #[tokio::test]
    async fn an_address_has_its_own_number_of_places_and_gets_them_back() {
        let admission = Admission::new(&Limits { connections_per_address: Some(2), ..Limits::default() });
        let admit = async |last| admit(&admission, address(last)).await;
        let first = admit(1).await.unwrap();
        let _second = admit(1).await.unwrap();
        assert_eq!(admit(1).await.unwrap_err(), NotAdmitted::Address(2));
        let _other = admit(2).await.unwrap();
        drop(first);
        let third = admit(1).await.unwrap();
        drop(third);
        assert_eq!(admission.per_address().len(), 2);
    }

    /// DPS-LIMIT-13
    #[tokio::test]
    async fn a_host_does_not_get_more_places_by_taking_more_ipv6_addresses() {
        let admission = Admission::new(&Limits { connections_per_address: Some(1), ..Limits::default() });
        let admit = async |address: &str| admit(&admission, address.parse().unwrap()).await;
        let _first = admit("2001:db8::1").await.unwrap();
        assert_eq!(admit("2001:db8::2").await.unwrap_err(), NotAdmitted::Address(1));
        let _other = admit("2001:db8:0:1::1").await.unwrap();
    }

    /// DPS-LIMIT-17
    #[tokio::test]
    async fn a_connection_whose_address_is_not_known_yet_takes_a_place_of_the_others_and_none_of_an_address()
    {
        let limits =
            Limits { unattested_connections: 2, connections_per_address: Some(1), ..Limits::default() };
        let admission = Admission::new(&limits);
        let mut first = admission.admit(admission.place().await.unwrap()).unwrap();
        let mut second = admission.admit(admission.place().await.unwrap()).unwrap();
        let third = admission.admit(admission.place().await.unwrap());
        assert_eq!(third.unwrap_err(), NotAdmitted::Unattested);
        assert!(admission.per_address().is_empty());
        first.comes_from(address(1)).unwrap();
        assert_eq!(second.comes_from(address(1)), Err(NotAdmitted::Address(1)));
        second.comes_from(address(2)).unwrap();
        drop((first, second));
        assert!(admission.per_address().is_empty());
    }

    /// DPS-LIMIT-2
    #[tokio::test]
    async fn strangers_cannot_take_the_places_of_those_who_proved_themselves() {
        let limits = Limits { connections: 9, unattested_connections: 1, ..Limits::default() };
        let admission = Admission::new(&limits);
        let admit = async || admit(&admission, address(1)).await;
        let mut proven = admit().await.unwrap();
        assert_eq!(admit().await.unwrap_err(), NotAdmitted::Unattested);
        proven.attested();
        let _stranger = admit().await.unwrap();
        assert_eq!(admit().await.unwrap_err(), NotAdmitted::Unattested);
    }

    /// DPS-LIMIT-1
    #[tokio::test(start_paused = true)]
    async fn a_node_without_a_free_place_accepts_no_one_and_knows_when_all_have_gone() {
        let admission = Admission::new(&Limits { connections: 1, ..Limits::default() });
        let only = admit(&admission, address(1)).await.unwrap();
        assert!(timeout(Duration::from_secs(60), admission.place()).await.is_err());
        assert_eq!(admission.drained(Duration::from_secs(1)).await, 1);
        drop(only);
        assert_eq!(admission.drained(Duration::from_secs(1)).await, 0);
    }

    /// DPS-DEV-5
    #[tokio::test(start_paused = true)]
    async fn every_listener_learns_how_many_connections_are_still_open() {
        let admission = Admission::new(&Limits { connections: 9, ..Limits::default() });
        let admit = async || admit(&admission, address(1)).await.unwrap();
        let (first, second) = (admit().await, admit().await);
        let within = Duration::from_secs(1);
        assert_eq!(tokio::join!(admission.drained(within), admission.drained(within)), (2, 2));
        drop(first);
        let ends = async {
            tokio::time::sleep(within / 2).await;
            drop(second);
        };
        let drained = tokio::join!(admission.drained(within), admission.drained(within), ends);
        assert_eq!((drained.0, drained.1), (0, 0));
    }
}
