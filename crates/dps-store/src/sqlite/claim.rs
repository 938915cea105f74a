//! Claims of what waits for someone outside, peer by peer. Spec: DPS-REG-32, DPS-REG-33, DPS-REG-40.

use dps_core::ports::{ClaimOrder, Claimed};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::columns::Columns;
use super::fault::Fault;
use crate::times::nanoseconds;

/// Rows that wait, each for one peer, with an index over peer and time; a claimed one is a `T`.
pub(super) struct WaitingRows<T> {
    /// The first peer.
    pub(super) first_peer: &'static str,
    /// The first peer after `?1`.
    pub(super) next_peer: &'static str,
    /// Those of the peer `?1` that are due at `?2`, the longest first, at most `?3`: the time, then what `read` reads.
    pub(super) due: &'static str,
    /// When the first of those of the peer `?1` is due that are not at `?2`.
    pub(super) next_due: &'static str,
    /// A row of this peer, as it is under the new claim.
    pub(super) read: fn(&mut Columns<'_>, &str, &ClaimOrder) -> Result<T, Fault>,
    /// Writes the new claim.
    pub(super) lease: fn(&Connection, &T, &ClaimOrder) -> Result<(), Fault>,
}

impl<T> WaitingRows<T> {
    /// Claims what is due. One step in the index for each peer, then one for each row: those of a peer that does not answer
    /// keep nobody waiting.
    pub(super) fn claim(&self, connection: &Connection, order: &ClaimOrder) -> Result<Claimed<T>, Fault> {
        let now = nanoseconds(order.now)?;
        let (mut due, mut next_due) = (Vec::new(), None);
        let (mut peer, mut peers_after, mut looked_at) =
            (self.peer(connection, order.after_peer.as_deref())?, None, 0);
        while let Some(current) = peer {
            looked_at += 1;
            self.due_of(connection, &current, order, &mut due)?;
            let mut statement = connection.prepare_cached(self.next_due)?;
            let next: Option<i64> =
                statement.query_row(params![current, now], |row| row.get(0)).optional()?;
            next_due = match (next_due, next) {
                (Some(earliest), Some(next)) if earliest <= next => Some(earliest),
                (earliest, next) => next.or(earliest),
            };
            peer = self.peer(connection, Some(&current))?;
            if looked_at == Claimed::PEERS_MAX && peer.is_some() {
                peers_after = Some(current.into());
                break;
            }
        }
        due.sort_by_key(|(at, _)| *at);
        due.truncate(order.limit as usize);
        let operations: Vec<T> = due.into_iter().map(|(_, claimed)| claimed).collect();
        operations.iter().try_for_each(|claimed| (self.lease)(connection, claimed, order))?;
        let next_due = next_due.map(|at: i64| Timestamp::from_nanosecond(at.into()));
        let next_due = next_due.transpose().map_err(|why| Fault::unreadable(why.to_string()))?;
        Ok(Claimed { operations, next_due, peers_after })
    }

    fn peer(&self, connection: &Connection, after: Option<&str>) -> Result<Option<String>, Fault> {
        Ok(match after {
            None => connection.prepare_cached(self.first_peer)?.query_row([], |row| row.get(0)),
            Some(after) => connection.prepare_cached(self.next_peer)?.query_row([after], |row| row.get(0)),
        }
        .optional()?)
    }

    fn due_of(
        &self,
        connection: &Connection,
        peer: &str,
        order: &ClaimOrder,
        due: &mut Vec<(i64, T)>,
    ) -> Result<(), Fault> {
        let room = order.room_for(peer).min(order.limit);
        let mut statement = connection.prepare_cached(self.due)?;
        let mut rows = statement.query(params![peer, nanoseconds(order.now)?, room])?;
        while let Some(row) = rows.next()? {
            let mut columns = Columns::of(row);
            due.push((columns.value()?, (self.read)(&mut columns, peer, order)?));
        }
        Ok(())
    }

    /// All that find something.
    #[cfg(test)]
    pub(super) fn queries(&self) -> [&'static str; 4] {
        [self.first_peer, self.next_peer, self.due, self.next_due]
    }
}
