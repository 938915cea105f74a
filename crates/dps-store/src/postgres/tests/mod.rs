//! What PostgreSQL alone must do: be shared by nodes, end and come back, change while it is used, keep secrets secret.

mod costs;
mod deadlines;
mod everything;
mod fill;
mod filled;
mod fit;
mod migrations;
mod nodes;
mod query_plans;
mod recovery;
mod secrets;
mod tls;
mod transactions;
mod writer;

use dps_core::ports::StoreError;
use tokio_postgres::{Client, NoTls};

use super::PostgresOptions;

/// A connection as an operator's, in the schema of a store.
async fn shell(options: &PostgresOptions) -> Client {
    let (client, connection) = options.target.0.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path TO {}", options.schema.as_str())).await.unwrap();
    client
}

#[track_caller]
fn unavailable<T: std::fmt::Debug>(done: Result<T, StoreError>) -> String {
    let Err(StoreError::Unavailable(why)) = done else { panic!("{done:?}") };
    why
}
