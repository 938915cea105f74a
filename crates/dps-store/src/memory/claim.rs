//! Which of what waits is claimed. Spec: DPS-REG-32, DPS-REG-33.

use std::collections::HashMap;

use dps_core::ports::ClaimOrder;
use jiff::Timestamp;

/// Something that waits.
pub(super) struct Waits<K> {
    pub(super) key: K,
    /// Whom it asks.
    pub(super) peer: Box<str>,
    pub(super) due_at: Timestamp,
}

/// The keys of what is to be claimed, the longest due first, and when the next one is due of what is not due yet. All peers are
/// looked at.
pub(super) fn chosen<K: Ord>(
    waiting: impl Iterator<Item = Waits<K>>,
    order: &ClaimOrder,
) -> (Vec<K>, Option<Timestamp>) {
    let later = waiting.filter(|waits| order.after_peer.as_ref().is_none_or(|after| waits.peer > *after));
    let (mut due, not_yet): (Vec<_>, Vec<_>) = later.partition(|waits| waits.due_at <= order.now);
    due.sort_by(|a, b| (a.due_at, &a.key).cmp(&(b.due_at, &b.key)));
    let mut taken: HashMap<Box<str>, u32> = HashMap::new();
    due.retain(|waits| {
        let of_peer = taken.entry(waits.peer.clone()).or_default();
        let has_room = *of_peer < order.room_for(&waits.peer);
        *of_peer += u32::from(has_room);
        has_room
    });
    due.truncate(order.limit as usize);
    let next_due = not_yet.iter().map(|waits| waits.due_at).min();
    (due.into_iter().map(|waits| waits.key).collect(), next_due)
}
