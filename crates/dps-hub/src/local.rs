//! A hub whose device identities and twins live in Harbormaster's own store. Spec: DPS-REG-17, DPS-BROKER-11.

use dps_core::ports::{Hub, HubDevice, HubWrite, Placement};
use dps_core::registration::Failure;

/// A hub that is kept here: for a desk, for CI, and for brokers that ask Harbormaster who a device is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalHub {
    /// Whether a broker may ask. Then a device's id has to be one whole level of a topic, or it could reach those of others.
    pub serves_broker: bool,
}

impl Hub for LocalHub {
    /// The identity goes into the commit of the record: both are there, or neither. Spec: DPS-STORE-5.
    fn place(&self, device: HubDevice) -> Placement {
        if self.serves_broker && device.device_id.check_level().is_err() {
            return Placement::Refused(Failure::DeviceIdRefused);
        }
        Placement::Writes(vec![HubWrite::PutDevice(Box::new(device))])
    }
}

#[cfg(test)]
mod tests {
    use dps_core::ports::HubAuthentication;
    use dps_proto::key::{KeyPair, SymmetricKey};

    use super::*;

    /// DPS-BROKER-11
    #[test]
    fn a_hub_that_a_broker_serves_refuses_ids_that_mean_something_in_topics_and_another_takes_all() {
        let key = SymmetricKey::from_bytes(vec![1; 32]).unwrap();
        let device = |id: &str| HubDevice {
            id_scope: "0ne00000000".parse().unwrap(),
            hub: "hub.localhost".parse().unwrap(),
            device_id: id.parse().unwrap(),
            registration_id: "dev-1".parse().unwrap(),
            authentication: HubAuthentication::Keys(KeyPair { primary: key.clone(), secondary: key.clone() }),
            iot_edge: false,
            initial_twin: None,
        };
        for (id, is_level) in [
            ("press-7", true),
            ("mac:00", true),
            ("a_b", true),
            ("a.b", false),
            ("+", false),
            ("#", false),
            ("*", false),
        ] {
            let placed = LocalHub { serves_broker: true }.place(device(id));
            match is_level {
                true => assert!(matches!(placed, Placement::Writes(_)), "{id}"),
                false => assert!(matches!(placed, Placement::Refused(Failure::DeviceIdRefused)), "{id}"),
            }
            let placed = LocalHub { serves_broker: false }.place(device(id));
            assert!(matches!(placed, Placement::Writes(writes) if writes.len() == 1), "{id}");
        }
    }
}
