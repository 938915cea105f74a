//! What devices say to the hub that they were assigned to, as far as a broker can be one: user names, topics, and the
//! broker's own resources behind them. Spec: DPS-BROKER-4, DPS-BROKER-9 to DPS-BROKER-11 (docs/spec/broker.md).

mod resource;
mod topic;
mod user_name;

pub use resource::{Permission, ResourceKind, ResourceRefused, check_resource};
pub use topic::{TopicAccess, TopicRefused, check_topic};
pub use user_name::{BadHubUserName, HubUserName, USER_NAME_BYTES_MAX};
