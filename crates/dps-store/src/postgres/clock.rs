//! The clock that all nodes count by. Spec: DPS-NODE-2.

use deadpool_postgres::GenericClient;
use jiff::Timestamp;

use super::columns::Columns;
use super::fault::Fault;
use super::transaction::query_opt;

/// The server's time at this moment, and not at the beginning of a transaction.
pub(super) async fn read(on: &impl GenericClient) -> Result<Timestamp, Fault> {
    let select = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint";
    let row = query_opt(on, select, &[]).await?;
    let row = row.ok_or_else(|| Fault::unreadable("the server's clock gave no time"))?;
    Columns::of(&row).time()
}
