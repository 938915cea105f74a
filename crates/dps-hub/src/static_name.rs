//! A hub of which only the host name is known.

use dps_core::ports::{Hub, HubDevice, Placement};

/// A host name that devices are told; whoever runs that hub makes the identities.
#[derive(Debug, Clone, Copy, Default)]
pub struct StaticHub;

impl Hub for StaticHub {
    fn place(&self, _device: HubDevice) -> Placement {
        Placement::Writes(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use dps_core::ports::HubAuthentication;
    use dps_core::ports::HubWrite;
    use dps_proto::key::{KeyPair, SymmetricKey};

    use super::*;
    use crate::LocalHub;

    fn device() -> HubDevice {
        let key = SymmetricKey::from_bytes(vec![1; 32]).unwrap();
        HubDevice {
            id_scope: "0ne00000000".parse().unwrap(),
            hub: "hub.localhost".parse().unwrap(),
            device_id: "dev-1".parse().unwrap(),
            registration_id: "dev-1".parse().unwrap(),
            authentication: HubAuthentication::Keys(KeyPair { primary: key.clone(), secondary: key }),
            iot_edge: false,
            initial_twin: None,
        }
    }

    /// DPS-REG-17, DPS-STORE-5
    #[test]
    fn a_local_hub_writes_the_device_and_a_static_one_writes_nothing() {
        let Placement::Writes(local) = LocalHub::default().place(device()) else {
            panic!("a local hub asks nobody")
        };
        let [HubWrite::PutDevice(written)] = &*local else { panic!("{local:?}") };
        assert_eq!(written.device_id.as_str(), "dev-1");
        assert!(matches!(StaticHub.place(device()), Placement::Writes(writes) if writes.is_empty()));
    }
}
