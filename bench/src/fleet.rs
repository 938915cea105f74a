//! Which devices there are, and what they prove themselves with. Entries and devices are numbered, and every key follows
//! from its number, so that the filled store and the drivers agree without a file between them.

use std::str::FromStr;

use anyhow::{Context as _, bail};
use dps_proto::ids::{EnrollmentGroupId, IdScope, RegistrationId};
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_proto::mqtt::{DeviceLogin, Password};
use dps_proto::sas::sign_device_token;
use jiff::{SignedDuration, Timestamp};

/// Keys of entries are derived from it. No secret: it opens nothing but stores of this program.
const SEED: [u8; 32] = *b"harbormaster bench, no secret...";

/// A prime that divides no number of entries in use: it scatters consecutive devices over all entries, each once.
const STRIDE: u64 = 7_919;

/// How long a token of the drivers is good.
const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(6);

/// The devices of a run, by what enrolls them: `group:KEY`, `open-groups:N`, `prefixed-groups:N` or `individual:N`.
#[derive(Clone)]
pub(crate) enum Fleet {
    /// All of one group, with this key.
    Group(SymmetricKey),
    /// Spread over so many groups without a prefix.
    OpenGroups(u64),
    /// Spread over so many groups, each with a prefix of its own.
    PrefixedGroups(u64),
    /// Each with an individual enrollment, of so many.
    Individual(u64),
}

impl FromStr for Fleet {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (kind, value) = text.split_once(':').context("a fleet is KIND:VALUE")?;
        let count = || {
            let count = value.parse::<u64>().ok().filter(|count| *count > 0);
            count.context("the number of entries must be a whole one above 0")
        };
        Ok(match kind {
            "group" => Self::Group(value.parse()?),
            "open-groups" => Self::OpenGroups(count()?),
            "prefixed-groups" => Self::PrefixedGroups(count()?),
            "individual" => Self::Individual(count()?),
            _ => bail!("there is no fleet of {kind:?}"),
        })
    }
}

impl Fleet {
    /// The registration id of a device.
    pub(crate) fn registration_id(&self, number: u64) -> anyhow::Result<RegistrationId> {
        Ok(match self {
            Self::Group(_) | Self::OpenGroups(_) => format!("device-{number:08}").parse()?,
            Self::PrefixedGroups(count) => {
                let prefix = group_prefix(scattered(number, *count));
                format!("{prefix}{number:08}").parse()?
            }
            Self::Individual(count) => individual_id(scattered(number, *count))?,
        })
    }

    /// What a device connects with.
    pub(crate) fn login(&self, scope: &IdScope, number: u64) -> anyhow::Result<DeviceLogin> {
        let id = self.registration_id(number)?;
        let key = match self {
            Self::Group(key) => key.derive(id.as_str()),
            Self::OpenGroups(count) | Self::PrefixedGroups(count) => {
                group_keys(scattered(number, *count))?.primary.derive(id.as_str())
            }
            Self::Individual(count) => individual_keys(scattered(number, *count))?.primary,
        };
        login(scope, id, &key)
    }
}

/// A device that signs with `key`.
pub(crate) fn login(scope: &IdScope, id: RegistrationId, key: &SymmetricKey) -> anyhow::Result<DeviceLogin> {
    let token = sign_device_token(scope, &id, key, Timestamp::now() + TOKEN_LIFETIME);
    Ok(DeviceLogin {
        id_scope: scope.clone(),
        registration_id: id,
        api_version: "2019-03-31".parse()?,
        client_version: "harbormaster-bench".to_owned(),
        password: Some(Password::new(token)),
    })
}

/// A key that no entry has.
pub(crate) fn strange_key() -> anyhow::Result<SymmetricKey> {
    Ok(SymmetricKey::from_bytes(SEED.to_vec())?.derive("stranger"))
}

pub(crate) fn group_id(number: u64) -> anyhow::Result<EnrollmentGroupId> {
    Ok(format!("group-{number:06}").parse()?)
}

pub(crate) fn group_prefix(number: u64) -> String {
    format!("line-{number:06}-")
}

pub(crate) fn group_keys(number: u64) -> anyhow::Result<KeyPair> {
    keys(&format!("group/{number}"))
}

pub(crate) fn individual_id(number: u64) -> anyhow::Result<RegistrationId> {
    Ok(format!("meter-{number:08}").parse()?)
}

pub(crate) fn individual_keys(number: u64) -> anyhow::Result<KeyPair> {
    keys(&format!("individual/{number}"))
}

fn keys(name: &str) -> anyhow::Result<KeyPair> {
    let seed = SymmetricKey::from_bytes(SEED.to_vec())?;
    let key = |which: &str| seed.derive(&format!("{name}/{which}"));
    Ok(KeyPair { primary: key("primary"), secondary: key("secondary") })
}

fn scattered(number: u64, count: u64) -> u64 {
    number.wrapping_mul(STRIDE) % count
}
