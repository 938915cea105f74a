//! Which device ids are one whole level of a topic. Spec: DPS-BROKER-11.

use crate::ids::DeviceId;

/// What would make several levels of an id, or a pattern: MQTT's separator and wildcards, and those of AMQP 0-9-1, as which
/// RabbitMQ writes them. `$` is none of them: it means something at the start of a topic alone, where no id stands.
const MEANS_SOMETHING: [char; 5] = ['/', '.', '+', '*', '#'];

/// The id is more than a level, or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device id holds {0:?}, which means something in the broker's topics")]
pub struct NotALevel(pub char);

/// Whether the id can stand in a topic as a level that means this device and no other.
///
/// # Errors
/// The first character that forbids it.
pub fn check_level(device_id: &DeviceId) -> Result<(), NotALevel> {
    match device_id.as_str().chars().find(|character| MEANS_SOMETHING.contains(character)) {
        Some(character) => Err(NotALevel(character)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-BROKER-11
    #[test]
    fn an_id_is_a_level_unless_a_broker_would_read_something_else_in_it() {
        for id in ["a", "press-7", "line_1", "mac:00:11", "100%", "$edge", "a=b", "a(b)!", "A@b;c,d'?"] {
            assert_eq!(check_level(&id.parse().unwrap()), Ok(()), "{id}");
        }
        for (id, character) in [
            ("+", '+'),
            ("#", '#'),
            ("*", '*'),
            (".", '.'),
            ("a.b", '.'),
            ("a.", '.'),
            ("a+b", '+'),
            ("a#", '#'),
        ] {
            assert_eq!(check_level(&id.parse().unwrap()), Err(NotALevel(character)), "{id}");
        }
    }
}
