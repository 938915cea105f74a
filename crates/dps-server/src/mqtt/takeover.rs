//! Which connection a device is on. Spec: DPS-MQTT-29.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dps_proto::ids::{IdScope, RegistrationId};
use tokio::sync::Notify;

/// The attested connections of this node, one for each device.
#[derive(Debug, Default)]
pub struct Takeovers {
    current: Mutex<HashMap<(IdScope, RegistrationId), Holder>>,
}

#[derive(Debug)]
struct Holder {
    connection: u64,
    give_way: Arc<Notify>,
}

impl Takeovers {
    /// Makes this connection the device's; an older one is told to close.
    pub(crate) fn take(&self, device: (IdScope, RegistrationId), connection: u64, give_way: &Arc<Notify>) {
        let holder = Holder { connection, give_way: Arc::clone(give_way) };
        if let Some(older) = self.lock().insert(device, holder)
            && older.connection != connection
        {
            older.give_way.notify_one();
        }
    }

    /// The connection has ended; a newer one of the same device is left alone.
    pub(crate) fn release(&self, device: (IdScope, RegistrationId), connection: u64) {
        if let Entry::Occupied(held) = self.lock().entry(device)
            && held.get().connection == connection
        {
            held.remove();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(IdScope, RegistrationId), Holder>> {
        // Nothing panics while it is held, and a map is whole after any of its own operations.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str) -> (IdScope, RegistrationId) {
        ("0ne0".parse().unwrap(), id.parse().unwrap())
    }

    fn was_told(give_way: &Notify) -> bool {
        use std::pin::pin;
        use std::task::{Context, Waker};
        pin!(give_way.notified()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// DPS-MQTT-29
    #[test]
    fn a_newer_connection_of_the_device_takes_over_and_its_end_leaves_nothing() {
        let (takeovers, first, second) = (Takeovers::default(), Arc::default(), Arc::default());
        takeovers.take(device("dev"), 1, &first);
        takeovers.take(device("other"), 9, &Arc::default());
        assert!(!was_told(&first));
        takeovers.take(device("DEV"), 2, &second);
        assert!(was_told(&first) && !was_told(&second));
        takeovers.release(device("dev"), 1);
        takeovers.take(device("dev"), 3, &Arc::default());
        assert!(was_told(&second), "the older one's end must not forget the newer");
        takeovers.release(device("dev"), 3);
        takeovers.release(device("other"), 9);
        assert!(takeovers.lock().is_empty());
    }
}
