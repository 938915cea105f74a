//! Who is being asked, by how many, and what is claimed and waits for its turn to ask. Spec: DPS-REG-33, DPS-REG-40.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

/// One of the places that a peer has for what is under way; the next piece of work takes it once it is left or dropped.
pub(crate) struct Place {
    number: u64,
    left: mpsc::UnboundedSender<u64>,
    is_left: AtomicBool,
}

impl Place {
    /// The peer is not asked any more; what is left of the work is the store's.
    pub(crate) fn leave(&self) {
        // Told once. The worker may have ended.
        if !self.is_left.swap(true, Ordering::Relaxed) {
            let _ = self.left.send(self.number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The places that are taken, and what waits for one: claimed ahead, so that a peer need not wait for the store.
pub(super) struct Places<T> {
    taken: HashMap<u64, Box<str>>,
    next: u64,
    left: mpsc::UnboundedSender<u64>,
    /// Of each peer, the longest claimed first; none of them is empty.
    ahead: BTreeMap<Box<str>, VecDeque<T>>,
}

impl<T> Places<T> {
    /// Nobody is asked; the numbers of places that are left come by the receiver.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<u64>) {
        // At most one number for each piece of work under way.
        let (left, leaving) = mpsc::unbounded_channel();
        (Self { taken: HashMap::new(), next: 0, left, ahead: BTreeMap::new() }, leaving)
    }

    /// How many have a place, of each peer.
    pub(super) fn taken(&self) -> BTreeMap<Box<str>, u32> {
        let mut taken = BTreeMap::new();
        for peer in self.taken.values() {
            *taken.entry(peer.clone()).or_default() += 1;
        }
        taken
    }

    /// How many wait for a place, of each peer.
    pub(super) fn ahead(&self) -> impl Iterator<Item = (&Box<str>, u32)> {
        self.ahead.iter().map(|(peer, waiting)| (peer, u32::try_from(waiting.len()).unwrap_or(u32::MAX)))
    }

    /// How many wait for a place, of all peers.
    pub(super) fn ahead_in_all(&self) -> usize {
        self.ahead.values().map(VecDeque::len).sum()
    }

    /// It waits for a place at this peer.
    pub(super) fn wait(&mut self, peer: Box<str>, item: T) {
        self.ahead.entry(peer).or_default().push_back(item);
    }

    /// A place for the one that has waited longest, of a peer that has room; `in_flight` counts those who have one, or are to count so.
    pub(super) fn take(
        &mut self,
        in_flight: &mut BTreeMap<Box<str>, u32>,
        per_peer_max: u32,
    ) -> Option<(T, Place)> {
        let has_room = |peer: &str| in_flight.get(peer).is_none_or(|asked| *asked < per_peer_max);
        let peer = self.ahead.keys().find(|peer| has_room(peer))?.clone();
        let waiting = self.ahead.get_mut(&peer)?;
        let item = waiting.pop_front()?;
        if waiting.is_empty() {
            self.ahead.remove(&peer);
        }
        *in_flight.entry(peer.clone()).or_default() += 1;
        let number = self.next;
        self.next += 1;
        self.taken.insert(number, peer);
        Some((item, Place { number, left: self.left.clone(), is_left: AtomicBool::new(false) }))
    }

    /// The peer whose place this was.
    pub(super) fn free(&mut self, number: u64) -> Option<Box<str>> {
        self.taken.remove(&number)
    }

    /// How many of this peer wait for a place.
    pub(super) fn waiting_for(&self, peer: &str) -> usize {
        self.ahead.get(peer).map_or(0, VecDeque::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-REG-33, DPS-REG-40
    #[test]
    fn a_peer_without_room_keeps_no_other_waiting() {
        let (mut places, mut leaving) = Places::new();
        for (peer, item) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            places.wait(peer.into(), item);
        }
        assert_eq!(places.ahead_in_all(), 4);
        let mut in_flight = BTreeMap::from([("a".into(), 1)]);
        let mut begun = Vec::new();
        while let Some(next) = places.take(&mut in_flight, 2) {
            begun.push(next);
        }
        let items: Vec<_> = begun.iter().map(|(item, _)| *item).collect();
        assert_eq!(items, [1, 3], "the first of each, as far as there is room");
        assert_eq!((places.waiting_for("a"), places.waiting_for("b")), (2, 0));
        assert_eq!(places.ahead().map(|(peer, count)| (&**peer, count)).collect::<Vec<_>>(), [("a", 2)]);
        assert_eq!(places.taken(), BTreeMap::from([("a".into(), 1), ("b".into(), 1)]));

        let (_, place) = begun.remove(0);
        place.leave();
        drop(place);
        let number = leaving.try_recv().unwrap();
        assert!(leaving.try_recv().is_err(), "told once");
        assert_eq!(places.free(number).as_deref(), Some("a"));
        assert_eq!(places.free(number), None);
        let next = places.take(&mut BTreeMap::new(), 2);
        assert_eq!(next.map(|(item, _)| item), Some(2));
    }
}
