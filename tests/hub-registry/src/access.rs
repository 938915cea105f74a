//! Who may ask for what.

use dps_proto::key::SymmetricKey;
use dps_proto::sas::SasToken;
use jiff::Timestamp;

use crate::refusal::Refusal;

/// The shared access policies that every hub has, but for that of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// All rights.
    IotHubOwner,
    /// Twins.
    Service,
    /// Reads identities.
    RegistryRead,
    /// Reads and writes identities.
    RegistryReadWrite,
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    RegistryRead,
    RegistryWrite,
    ServiceConnect,
}

impl Policy {
    pub(crate) const ALL: [Self; 4] =
        [Self::IotHubOwner, Self::Service, Self::RegistryRead, Self::RegistryReadWrite];

    /// As tokens and connection strings name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IotHubOwner => "iothubowner",
            Self::Service => "service",
            Self::RegistryRead => "registryRead",
            Self::RegistryReadWrite => "registryReadWrite",
        }
    }

    fn has(self, right: Right) -> bool {
        match self {
            Self::IotHubOwner => true,
            Self::Service => right == Right::ServiceConnect,
            Self::RegistryRead => right == Right::RegistryRead,
            Self::RegistryReadWrite => right != Right::ServiceConnect,
        }
    }
}

/// Policies and their keys.
pub(crate) struct Access {
    keys: [SymmetricKey; Policy::ALL.len()],
}

impl Access {
    pub(crate) fn new() -> Self {
        Self { keys: Policy::ALL.map(|_| fresh_key()) }
    }

    pub(crate) fn key(&self, policy: Policy) -> &SymmetricKey {
        &self.keys[policy as usize]
    }

    pub(crate) fn renew_key(&mut self, policy: Policy) {
        self.keys[policy as usize] = fresh_key();
    }

    /// Judges what `authorization` says; `hosts` are those that a token may be for.
    pub(crate) fn judge(
        &self,
        authorization: Option<&[u8]>,
        hosts: &[String],
        right: Right,
    ) -> Result<(), Refusal> {
        let token =
            authorization.and_then(|text| SasToken::parse(text).ok()).ok_or_else(Refusal::unauthorized)?;
        let resource = dps_proto::percent::decode(token.resource());
        let is_for_us = resource.is_some_and(|it| hosts.iter().any(|host| host.eq_ignore_ascii_case(&it)));
        let policy = Policy::ALL.into_iter().find(|policy| token.policy() == Some(policy.name()));
        let is_good = policy.is_some_and(|policy| policy.has(right) && token.is_signed_by(self.key(policy)));
        if is_for_us && is_good && !token.is_expired_at(Timestamp::now()) {
            Ok(())
        } else {
            Err(Refusal::unauthorized())
        }
    }
}

pub(crate) fn fresh_key() -> SymmetricKey {
    match SymmetricKey::from_bytes(random::<32>().to_vec()) {
        Ok(key) => key,
        Err(why) => unreachable!("32 bytes are a key: {why}"),
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    // A test that goes on without randomness would find nothing.
    assert!(aws_lc_rs::rand::fill(&mut bytes).is_ok(), "the system has no randomness");
    bytes
}
