//! Claims of what waits for someone outside, peer by peer. Spec: DPS-REG-32, DPS-REG-33, DPS-REG-40.
//!
//! Rows are locked as they are found, and those that another node has locked are passed over: it is about to claim them, or to write
//! them anew. So nodes that claim at once claim different rows, and never wait for each other.

use deadpool_postgres::Transaction;
use dps_core::ports::{ClaimOrder, Claimed};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use super::columns::Columns;
use super::fault::Fault;
use super::transaction::query;
use crate::times::nanoseconds;

/// Rows that wait, each for one peer, with an index over peer and time; a claimed one is a `T`.
pub(super) struct WaitingRows<T> {
    /// The first `$2` peers after `$1`, or of all, in their order.
    pub(super) peers: &'static str,
    /// Of each of the peers `$1`, those that are due at `$3`, the longest first, at most as many as its number in `$2` says, locked: peer
    /// and time, then what `read` reads.
    pub(super) due: &'static str,
    /// When the first of those of the peers `$1` is due that are not at `$2`.
    pub(super) next_due: &'static str,
    /// A row of this peer, as it is under the new claim.
    pub(super) read: fn(&mut Columns<'_>, &str, &ClaimOrder) -> Result<T, Fault>,
}

impl<T> WaitingRows<T> {
    /// Finds what is due and locks it; the claims have yet to be written. One step in the index for each peer, then one for each row: those of a peer that does not answer keep
    /// nobody waiting.
    pub(super) async fn due(
        &self,
        transaction: &Transaction<'_>,
        order: &ClaimOrder,
    ) -> Result<Claimed<T>, Fault> {
        let now = nanoseconds(order.now)?;
        // One more than is looked at tells whether there are more.
        let most = Claimed::PEERS_MAX as i64 + 1;
        let rows = query(transaction, self.peers, &[&order.after_peer.as_deref(), &most]).await?;
        let mut peers: Vec<&str> =
            rows.iter().map(|row| Columns::of(row).value()).collect::<Result<_, _>>()?;
        let mut claimed = Claimed::default();
        if peers.is_empty() {
            return Ok(claimed);
        }
        if peers.len() > Claimed::PEERS_MAX {
            peers.truncate(Claimed::PEERS_MAX);
            claimed.peers_after = peers.last().map(|peer| (*peer).into());
        }
        let room: Vec<i64> = peers.iter().map(|peer| order.room_for(peer).min(order.limit).into()).collect();
        let (of_due, of_next): ([&(dyn ToSql + Sync); 3], [&(dyn ToSql + Sync); 2]) =
            ([&peers, &room, &now], [&peers, &now]);
        let (found, next_due) = tokio::try_join!(
            query(transaction, self.due, &of_due),
            query(transaction, self.next_due, &of_next),
        )?;
        let next_due: Option<Timestamp> =
            next_due.first().map(|row| Columns::of(row).optional_time()).transpose()?.flatten();
        let mut due = Vec::with_capacity(found.len());
        for row in &found {
            let mut columns = Columns::of(row);
            let (peer, at): (&str, i64) = (columns.value()?, columns.value()?);
            due.push((at, (self.read)(&mut columns, peer, order)?));
        }
        due.sort_by_key(|(at, _)| *at);
        due.truncate(order.limit as usize);
        claimed.operations = due.into_iter().map(|(_, operation)| operation).collect();
        claimed.next_due = next_due;
        Ok(claimed)
    }

    /// All that find something.
    #[cfg(test)]
    pub(super) fn queries(&self) -> [&'static str; 3] {
        [self.peers, self.due, self.next_due]
    }
}
