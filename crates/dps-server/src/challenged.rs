//! Which TPM a device presented when it was challenged, by the address it came from: some clients present it once, and come back with the token alone.
//! Spec: DPS-TPM-8.
//!
//! Kept by this node alone and for a few minutes. Nothing depends on it but those clients: whoever presents its TPM again is judged by that,
//! on any node.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dps_core::attestation::DeviceClaim;
use dps_core::tpm::{TpmEvidence, TpmKeys, WINDOW_SECONDS};
use dps_proto::ids::{IdScope, RegistrationId};
use jiff::{SignedDuration, Timestamp};

use crate::network::Network;

/// Most challenges of enrolled TPMs that are remembered, of about a kilobyte each; and as many of others. Spec: DPS-TPM-8.
const REMEMBERED_MAX: usize = 4_096;

/// How long: as long as the key of the challenge may be good.
const REMEMBERED_FOR: SignedDuration = SignedDuration::from_secs(2 * WINDOW_SECONDS);

/// A stranger elsewhere must not replace what a device presented.
type ByDevice = HashMap<(IdScope, RegistrationId, Network), (Timestamp, Box<TpmKeys>)>;

/// The latest challenge of each device.
#[derive(Debug, Default)]
pub struct Challenged {
    enrolled: Mutex<ByDevice>,
    /// Apart, so that strangers with TPMs of their own push nothing out that is enrolled.
    others: Mutex<ByDevice>,
}

impl Challenged {
    /// Remembers what a device presented; where there are too many, the oldest half is forgotten.
    pub fn keep(
        &self,
        claim: &DeviceClaim,
        address: IpAddr,
        keys: &TpmKeys,
        is_enrolled: bool,
        now: Timestamp,
    ) {
        let mut by_device = lock(if is_enrolled { &self.enrolled } else { &self.others });
        if by_device.len() >= REMEMBERED_MAX {
            let mut times: Vec<_> = by_device.values().map(|(at, _)| *at).collect();
            let middle = times.len() / 2;
            let (_, middle, _) = times.select_nth_unstable(middle);
            let middle = *middle;
            by_device.retain(|_, (at, _)| *at > middle);
        }
        by_device.insert(key(claim, address), (now, Box::new(keys.clone())));
    }

    /// What the device presented, if it was challenged lately.
    pub fn keys_of(&self, claim: &DeviceClaim, address: IpAddr, now: Timestamp) -> TpmEvidence {
        let key = key(claim, address);
        for by_device in [&self.enrolled, &self.others] {
            if let Some((at, keys)) = lock(by_device).get(&key)
                && now.duration_since(*at) <= REMEMBERED_FOR
            {
                return TpmEvidence::Remembered(keys.clone());
            }
        }
        TpmEvidence::Absent
    }
}

fn lock(by_device: &Mutex<ByDevice>) -> MutexGuard<'_, ByDevice> {
    // Nothing panics while it is held.
    by_device.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(claim: &DeviceClaim, address: IpAddr) -> (IdScope, RegistrationId, Network) {
    (claim.id_scope.clone(), claim.registration_id.clone(), Network::from(address))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use dps_core::attestation::Credential;
    use dps_core::ports::SearchTurn;

    use super::*;

    fn keys() -> TpmKeys {
        let mut public = vec![0x00, 0x01, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2, 0x00, 0x20];
        public.extend([0x83; 32]);
        public.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x08, 0x00, 0, 0, 0, 0, 0x01, 0x00]);
        public.extend([0xc5; 256]);
        let public = [&(public.len() as u16).to_be_bytes()[..], &public].concat();
        match TpmEvidence::presented(&public, &public) {
            TpmEvidence::Presented(Ok(keys)) => *keys,
            other => panic!("{other:?}"),
        }
    }

    fn claim(id: &str) -> DeviceClaim {
        DeviceClaim {
            id_scope: "0ne000000A1".parse().unwrap(),
            registration_id: id.parse().unwrap(),
            credential: Credential::default(),
            search_turn: SearchTurn::InOrder,
            predates_reprovisioning: false,
            address: None,
        }
    }

    /// DPS-TPM-8
    #[test]
    fn strangers_push_out_no_tpm_that_is_enrolled() {
        let (challenged, keys) = (Challenged::default(), keys());
        let (address, began) = (IpAddr::from(Ipv4Addr::LOCALHOST), Timestamp::UNIX_EPOCH);
        let after = |seconds| began + SignedDuration::from_secs(seconds);
        let is_remembered = |id: &str, now| {
            matches!(challenged.keys_of(&claim(id), address, now), TpmEvidence::Remembered(_))
        };
        challenged.keep(&claim("enrolled"), address, &keys, true, began);
        challenged.keep(&claim("unknown"), address, &keys, false, began);
        assert!(is_remembered("unknown", began));
        for number in 0..2 * REMEMBERED_MAX {
            challenged.keep(&claim(&format!("x-{number}")), address, &keys, false, after(1));
        }
        assert!(is_remembered("enrolled", after(2)) && !is_remembered("unknown", after(2)));
        assert!(!is_remembered("other", after(2)));
        assert!(matches!(
            challenged.keys_of(&claim("enrolled"), Ipv4Addr::new(10, 0, 0, 1).into(), after(2)),
            TpmEvidence::Absent
        ));
        assert!(is_remembered("enrolled", after(600)) && !is_remembered("enrolled", after(601)));
    }
}
