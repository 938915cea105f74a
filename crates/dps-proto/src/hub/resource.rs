//! What RabbitMQ makes for a device that speaks MQTT: its queues, and the exchange of all topics. Spec: DPS-BROKER-10.

use crate::ids::{DeviceId, NotALevel};

/// The exchange that carries MQTT topics; which of them a device may use is asked for each one.
const EXCHANGE: &str = "amq.topic";

/// Queues of a client id, one for each quality of service.
const QUEUE_PREFIX: &str = "mqtt-subscription-";
const QUEUE_SUFFIXES: [&str; 2] = ["qos0", "qos1"];

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
}

/// What is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// To make or delete it.
    Configure,
    /// To put something into it.
    Write,
    /// To take something out of it.
    Read,
}

/// Why a device may not use something of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResourceRefused {
    /// A queue of someone else, or of no client of MQTT.
    #[error("the queue is not that of the device's subscriptions")]
    Queue,
    /// Another exchange than that of MQTT's topics.
    #[error("a device publishes and subscribes by the exchange {EXCHANGE} alone")]
    Exchange,
    /// To make or delete an exchange.
    #[error("no device may make or delete an exchange")]
    ConfigureExchange,
    /// The id cannot stand in a topic. Spec: DPS-BROKER-11.
    #[error(transparent)]
    DeviceId(#[from] NotALevel),
}

/// Whether the device may use the queue or exchange of that name.
///
/// # Errors
/// Why it may not.
pub fn check_resource(
    device_id: &DeviceId,
    kind: ResourceKind,
    name: &str,
    permission: Permission,
) -> Result<(), ResourceRefused> {
    device_id.check_level()?;
    match (kind, permission) {
        (ResourceKind::Exchange, Permission::Configure) => Err(ResourceRefused::ConfigureExchange),
        (ResourceKind::Exchange, _) if name == EXCHANGE => Ok(()),
        (ResourceKind::Exchange, _) => Err(ResourceRefused::Exchange),
        (ResourceKind::Queue, _) => {
            let of_client =
                name.strip_prefix(QUEUE_PREFIX).and_then(|rest| rest.strip_prefix(device_id.as_str()));
            match of_client {
                Some(suffix) if QUEUE_SUFFIXES.contains(&suffix) => Ok(()),
                _ => Err(ResourceRefused::Queue),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Permission::{Configure, Read, Write};
    use super::ResourceKind::{Exchange, Queue};
    use super::*;

    /// DPS-BROKER-10
    #[test]
    fn a_device_has_its_two_queues_and_the_exchange_of_the_topics() {
        let check = |id: &str, kind, name: &str, permission| {
            check_resource(&id.parse().unwrap(), kind, name, permission)
        };
        for permission in [Configure, Write, Read] {
            for name in ["mqtt-subscription-aqos0", "mqtt-subscription-aqos1"] {
                assert_eq!(check("a", Queue, name, permission), Ok(()), "{name}");
            }
            for name in [
                "mqtt-subscription-bqos0",
                "mqtt-subscription-aaqos0",
                "mqtt-subscription-Aqos0",
                "mqtt-subscription-aqos0qos0",
                "mqtt-subscription-aqos2",
                "mqtt-subscription-a",
                "mqtt-subscription-",
                "aqos0",
                "orders",
                "",
            ] {
                assert_eq!(check("a", Queue, name, permission), Err(ResourceRefused::Queue), "{name}");
            }
        }
        for permission in [Write, Read] {
            assert_eq!(check("a", Exchange, "amq.topic", permission), Ok(()));
            for name in ["", "amq.direct", "amq.fanout", "amq.topic2", "AMQ.TOPIC", "amq.rabbitmq.trace"] {
                assert_eq!(
                    check("a", Exchange, name, permission),
                    Err(ResourceRefused::Exchange),
                    "{name:?}"
                );
            }
        }
        assert_eq!(check("a", Exchange, "amq.topic", Configure), Err(ResourceRefused::ConfigureExchange));
        // An id that looks like another one's suffix.
        assert_eq!(check("aqos0", Queue, "mqtt-subscription-aqos0", Read), Err(ResourceRefused::Queue));
        assert!(matches!(check("#", Exchange, "amq.topic", Read), Err(ResourceRefused::DeviceId(_))));
    }
}
