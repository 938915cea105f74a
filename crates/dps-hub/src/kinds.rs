//! Which hub is made of which settings.

use std::sync::Arc;

use dps_core::instance::HubKind;
use dps_core::instance_settings::HubSettings;
use dps_core::ports::{Hub, HubFactory};

use crate::{LocalHub, StaticHub};

/// Makes hubs of every kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct HubKinds {
    /// Whether a broker may ask who the devices of local hubs are. Spec: DPS-BROKER-11.
    pub serves_broker: bool,
}

impl HubFactory for HubKinds {
    fn hub(&self, settings: &HubSettings) -> Arc<dyn Hub> {
        match settings.kind {
            HubKind::Local => Arc::new(LocalHub { serves_broker: self.serves_broker }),
            HubKind::Static => Arc::new(StaticHub),
        }
    }
}
