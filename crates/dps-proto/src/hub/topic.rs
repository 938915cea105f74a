//! The topics of a device, as Azure's device SDKs spell them, and as RabbitMQ does. Spec: DPS-BROKER-9, DPS-BROKER-10.
//!
//! RabbitMQ carries MQTT topics as routing keys: `/` becomes `.` and `+` becomes `*`, and what was `.` stays. Both separators end a
//! level here, so that no topic passes in one spelling that means another device in the other.

use crate::ids::{DeviceId, NotALevel};

/// What is wanted of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicAccess {
    /// To publish to it.
    Write,
    /// To subscribe to it, which may be a pattern.
    Read,
}

/// Why a device may not use a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicRefused {
    /// It is that of another device.
    #[error("the topic is that of another device")]
    OtherDevice,
    /// A wildcard stands where the device id has to.
    #[error("the topic has a wildcard in the place of the device id")]
    Wildcard,
    /// It names no device: whoever may use it shares it with all.
    #[error("the topic names no device, so a broker cannot tell whose it is")]
    Shared,
    /// It is no topic of a device.
    #[error("the topic is none of a device")]
    Unknown,
    /// The id cannot stand in a topic. Spec: DPS-BROKER-11.
    #[error(transparent)]
    DeviceId(#[from] NotALevel),
}

/// A kind of topic: a fixed beginning, the device id as one whole level, a fixed middle, and then anything, be it empty.
struct Shape {
    access: TopicAccess,
    before: &'static [&'static str],
    after: &'static [&'static str],
}

/// All that a device may use.
const SHAPES: [Shape; 2] = [
    // `devices/{deviceId}/messages/events/{properties}`
    Shape { access: TopicAccess::Write, before: &["devices"], after: &["messages", "events"] },
    // `devices/{deviceId}/messages/devicebound/#`
    Shape { access: TopicAccess::Read, before: &["devices"], after: &["messages", "devicebound"] },
];

/// The first level of topics that Azure IoT Hub tells apart by connection alone: twins and direct methods.
const BY_CONNECTION: &str = "$iothub";

/// Whether the device may use the topic, given as a topic or as RabbitMQ's routing key.
///
/// # Errors
/// Why it may not.
pub fn check_topic(device_id: &DeviceId, access: TopicAccess, topic: &str) -> Result<(), TopicRefused> {
    device_id.check_level()?;
    let levels: Vec<&str> = topic.split(['/', '.']).collect();
    if levels.first() == Some(&BY_CONNECTION) {
        return Err(TopicRefused::Shared);
    }
    let found = SHAPES.iter().filter(|shape| shape.access == access).find_map(|shape| shape.id_in(&levels));
    match found {
        Some(id) if id == device_id.as_str() => Ok(()),
        Some(id) if id.contains(['+', '*', '#']) => Err(TopicRefused::Wildcard),
        Some(_) => Err(TopicRefused::OtherDevice),
        None => Err(TopicRefused::Unknown),
    }
}

impl Shape {
    /// What stands in the place of the device id, if all else is as it has to be.
    fn id_in<'l>(&self, levels: &[&'l str]) -> Option<&'l str> {
        let (id, after) = levels.strip_prefix(self.before)?.split_first()?;
        // The last separator has to be there, as for Azure: what follows it may be empty.
        let rest = after.strip_prefix(self.after)?;
        (!rest.is_empty()).then_some(*id)
    }
}

#[cfg(test)]
mod tests {
    use super::TopicAccess::{Read, Write};
    use super::TopicRefused::{OtherDevice, Shared, Unknown, Wildcard};
    use super::*;

    const MINE: Result<(), TopicRefused> = Ok(());

    /// What the device `a` may do. DPS-BROKER-9, DPS-BROKER-10.
    const ROWS: [(TopicAccess, &str, Result<(), TopicRefused>); 80] = [
        // Its own, in both spellings, with whatever properties.
        (Write, "devices/a/messages/events/", MINE),
        (Write, "devices.a.messages.events.", MINE),
        (Write, "devices/a/messages/events/$.ct=application%2Fjson&$.ce=utf-8", MINE),
        (Write, "devices.a.messages.events.$.ct=application%2Fjson&$.ce=utf-8", MINE),
        (Write, "devices.a.messages.events.a=b&c=d", MINE),
        (Write, "devices.a.messages.events.devices.b.messages.events.", MINE),
        (Write, "devices.a.messages.events.*", MINE),
        (Write, "devices.a.messages.events.#", MINE),
        (Write, "devices.a/messages.events/x", MINE),
        (Read, "devices/a/messages/devicebound/#", MINE),
        (Read, "devices.a.messages.devicebound.#", MINE),
        (Read, "devices.a.messages.devicebound.", MINE),
        (Read, "devices.a.messages.devicebound.*", MINE),
        (Read, "devices.a.messages.devicebound.*.x.#", MINE),
        (Read, "devices/a/messages/devicebound/+", MINE),
        // Those of others.
        (Write, "devices/b/messages/events/", Err(OtherDevice)),
        (Write, "devices.b.messages.events.", Err(OtherDevice)),
        (Write, "devices.A.messages.events.", Err(OtherDevice)),
        (Write, "devices.aa.messages.events.", Err(OtherDevice)),
        (Write, "devices.a%2Eb.messages.events.", Err(OtherDevice)),
        (Write, "devices.a .messages.events.", Err(OtherDevice)),
        (Write, "devices..messages.events.", Err(OtherDevice)),
        (Write, "devices.$a.messages.events.", Err(OtherDevice)),
        (Write, "devices.a\u{0}.messages.events.", Err(OtherDevice)),
        (Write, "devices.\u{430}.messages.events.", Err(OtherDevice)),
        (Read, "devices/b/messages/devicebound/#", Err(OtherDevice)),
        (Read, "devices.b.messages.devicebound.#", Err(OtherDevice)),
        (Read, "devices..messages.devicebound.#", Err(OtherDevice)),
        (Read, "devices.A.messages.devicebound.#", Err(OtherDevice)),
        (Read, "devices.b.messages.devicebound.", Err(OtherDevice)),
        // What would be another's if the id had levels of its own.
        (Write, "devices/a.b/messages/events/", Err(Unknown)),
        (Write, "devices.a.b.messages.events.", Err(Unknown)),
        (Write, "devices/a/b/messages/events/", Err(Unknown)),
        (Write, "devices.a..messages.events.", Err(Unknown)),
        (Write, "devices..a.messages.events.", Err(Unknown)),
        (Read, "devices.a.b.messages.devicebound.#", Err(Unknown)),
        (Read, "devices/a.b/messages/devicebound/#", Err(Unknown)),
        (Read, "devices.a.*.messages.devicebound.#", Err(Unknown)),
        (Read, "devices.a.#", Err(Unknown)),
        (Read, "devices/a/#", Err(Unknown)),
        // A wildcard in the place of the id, or of anything before it.
        (Write, "devices.*.messages.events.", Err(Wildcard)),
        (Write, "devices/+/messages/events/", Err(Wildcard)),
        (Write, "devices.#.messages.events.", Err(Wildcard)),
        (Read, "devices/+/messages/devicebound/#", Err(Wildcard)),
        (Read, "devices.*.messages.devicebound.#", Err(Wildcard)),
        (Read, "devices.#.messages.devicebound.#", Err(Wildcard)),
        (Read, "devices.a*.messages.devicebound.#", Err(Wildcard)),
        (Read, "devices.a+.messages.devicebound.#", Err(Wildcard)),
        (Read, "*.a.messages.devicebound.#", Err(Unknown)),
        (Read, "+/a/messages/devicebound/#", Err(Unknown)),
        (Read, "#.a.messages.devicebound.#", Err(Unknown)),
        (Read, "devices.a.*.devicebound.#", Err(Unknown)),
        (Read, "devices.a.messages.*.#", Err(Unknown)),
        (Read, "devices.a.messages.#", Err(Unknown)),
        (Read, "devices.#", Err(Unknown)),
        (Read, "#", Err(Unknown)),
        (Read, "*", Err(Unknown)),
        (Read, "+", Err(Unknown)),
        (Read, "*.*.*.*.*", Err(Unknown)),
        // The other way round: what a device sends is not its to read, what it is sent not its to write.
        (Read, "devices.a.messages.events.#", Err(Unknown)),
        (Read, "devices/a/messages/events/", Err(Unknown)),
        (Write, "devices.a.messages.devicebound.", Err(Unknown)),
        (Write, "devices/a/messages/devicebound/x", Err(Unknown)),
        // Not quite.
        (Write, "devices.a.messages.events", Err(Unknown)),
        (Write, "devices.a.messages", Err(Unknown)),
        (Write, "devices.a", Err(Unknown)),
        (Write, "devices", Err(Unknown)),
        (Write, "", Err(Unknown)),
        (Write, "/devices/a/messages/events/", Err(Unknown)),
        (Write, ".devices.a.messages.events.", Err(Unknown)),
        (Write, "Devices.a.messages.events.", Err(Unknown)),
        (Write, "devices.a.Messages.events.", Err(Unknown)),
        (Write, "devices.a.messages.eventsx.", Err(Unknown)),
        (Write, "devices.a.modules.m.messages.events.", Err(Unknown)),
        (Write, "$SYS/broker", Err(Unknown)),
        // What Azure tells apart by connection.
        (Read, "$iothub/twin/res/#", Err(Shared)),
        (Read, "$iothub.methods.POST.#", Err(Shared)),
        (Write, "$iothub/twin/PATCH/properties/reported/?$rid=1", Err(Shared)),
        (Write, "$iothub.methods.res.200.?$rid=1", Err(Shared)),
        (Read, "$iothub.#", Err(Shared)),
    ];

    /// DPS-BROKER-9, DPS-BROKER-10
    #[test]
    fn a_device_may_use_its_own_topics_and_no_others_in_either_spelling() {
        let device_id = "a".parse().unwrap();
        for (access, topic, expected) in ROWS {
            assert_eq!(check_topic(&device_id, access, topic), expected, "{access:?} {topic:?}");
        }
    }

    /// DPS-BROKER-11: whatever was registered before a broker asked.
    #[test]
    fn an_id_that_means_something_in_topics_gains_nothing() {
        for id in ["+", "*", "#", ".", "a.b", "a.messages.events", "a.messages.devicebound", "b*", "#a"] {
            let device_id = id.parse().unwrap();
            for (access, end) in [(Write, "messages.events."), (Read, "messages.devicebound.#")] {
                for level in [id, "a", "b", "*", "+", "#", "a.b", "a/b"] {
                    for topic in [
                        format!("devices.{level}.{end}"),
                        format!("devices/{level}/{}", end.replace('.', "/")),
                    ] {
                        let refused = check_topic(&device_id, access, &topic);
                        assert!(matches!(refused, Err(TopicRefused::DeviceId(_))), "{id} {topic}");
                    }
                }
            }
        }
    }

    /// DPS-BROKER-9: no topic belongs to two.
    #[test]
    fn no_two_devices_share_a_topic() {
        let ids =
            ["a", "b", "ab", "a-b", "a:b", "devices", "messages", "events", "devicebound", "%61", "$a", "A"];
        for (access, topic, _) in ROWS {
            let owners = ids.iter().filter(|id| check_topic(&id.parse().unwrap(), access, topic).is_ok());
            assert!(owners.count() <= 1, "{topic}");
        }
    }
}
