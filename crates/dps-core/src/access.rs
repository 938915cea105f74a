//! Who may manage an instance: shared access policies and the tokens signed with their keys.
//! Spec: DPS-ACCESS-1 to DPS-ACCESS-7 (docs/spec/access.md).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use dps_proto::ids::{BadId, HubName, PolicyName};
use dps_proto::key::KeyPair;
use dps_proto::percent;
use dps_proto::sas::{MalformedToken, SasToken};
use jiff::Timestamp;

use crate::instance::ServiceInstance;

/// What a policy lets its holder do. Spec: DPS-ACCESS-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Change the service's own settings; Azure's tools look for it when they choose a policy.
    ServiceConfig,
    /// Read enrollments and groups, their secrets left out.
    EnrollmentRead,
    /// Write and delete enrollments and groups, and read their secrets.
    EnrollmentWrite,
    /// Connect devices; nothing asks for it, since devices prove themselves.
    DeviceConnect,
    /// Read registration records.
    RegistrationStatusRead,
    /// Delete registration records.
    RegistrationStatusWrite,
}

impl Right {
    /// All six.
    pub const ALL: [Self; 6] = [
        Self::ServiceConfig,
        Self::EnrollmentRead,
        Self::EnrollmentWrite,
        Self::DeviceConnect,
        Self::RegistrationStatusRead,
        Self::RegistrationStatusWrite,
    ];

    /// Azure's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceConfig => "ServiceConfig",
            Self::EnrollmentRead => "EnrollmentRead",
            Self::EnrollmentWrite => "EnrollmentWrite",
            Self::DeviceConnect => "DeviceConnect",
            Self::RegistrationStatusRead => "RegistrationStatusRead",
            Self::RegistrationStatusWrite => "RegistrationStatusWrite",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no right has that name; there are ServiceConfig, EnrollmentRead, EnrollmentWrite, DeviceConnect, \
     RegistrationStatusRead and RegistrationStatusWrite"
)]
pub struct UnknownRight;

impl FromStr for Right {
    type Err = UnknownRight;
    fn from_str(text: &str) -> Result<Self, UnknownRight> {
        Self::ALL.into_iter().find(|right| right.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownRight)
    }
}

/// A named pair of keys and what they open. Spec: DPS-ACCESS-1.
#[derive(Debug, Clone)]
pub struct SharedAccessPolicy {
    /// As tokens name it.
    pub name: PolicyName,
    /// Either signs; there are two so that one can be exchanged while the other is in use.
    pub keys: KeyPair,
    /// What its holder may do.
    pub rights: Vec<Right>,
}

impl SharedAccessPolicy {
    /// The name that Azure gives the policy with every right.
    pub const OWNER: &'static str = "provisioningserviceowner";

    /// Whether its holder may do everything.
    pub fn is_owner(&self) -> bool {
        Right::ALL.iter().all(|right| self.rights.contains(right))
    }

    /// Whether the other opens the same to the same tokens.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
            && Right::ALL.iter().all(|right| self.rights.contains(right) == other.rights.contains(right))
            && self.keys.primary.is_same(&other.keys.primary)
            && self.keys.secondary.is_same(&other.keys.secondary)
    }
}

/// A host name or address by which clients call the service API of one instance, in lower case, without a port.
/// Spec: DPS-ACCESS-2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceHost(Box<str>);

impl ServiceHost {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `authority`, a host with or without a port, is this host.
    pub fn is_named_by(&self, authority: &str) -> bool {
        without_port(authority).eq_ignore_ascii_case(&self.0)
    }

    /// The text of the host that `authority` names, whether or not there is one.
    pub(crate) fn text_of(authority: &str) -> String {
        without_port(authority).to_ascii_lowercase()
    }
}

impl FromStr for ServiceHost {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => Ok(Self(address.to_string().into())),
            Err(_) => text.parse::<HubName>().map(|name| Self(name.folded().into())),
        }
    }
}

impl fmt::Display for ServiceHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a request to the service API is not allowed. Never holds a key or a signature. Spec: DPS-ACCESS-3 to DPS-ACCESS-7.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no token.
    #[error("there is no Authorization header with a SharedAccessSignature")]
    NoToken,
    /// The token cannot be read.
    #[error("the token cannot be read: {0}")]
    Malformed(#[source] MalformedToken),
    /// `skn` is missing, or the instance has no policy of that name.
    #[error("the instance has no shared access policy {0:?} (skn)")]
    UnknownPolicy(String),
    /// `skn` is no policy of the instance, and might be a key that stands in the wrong place. Spec: DPS-EXPLAIN-5.
    #[error("skn names no shared access policy of the instance, and is not shown, as it might be a key")]
    KeyAsPolicy,
    /// Neither key of the policy made the signature.
    #[error("the signature is not that of a key of the shared access policy {0:?}")]
    WrongKey(PolicyName),
    /// The token is about another host or path.
    #[error("the token is for sr={received:?}, which is not {host} with or without a beginning of {path}")]
    OtherResource {
        /// `sr` as received.
        received: String,
        /// A host name of the instance.
        host: String,
        /// What was asked for.
        path: String,
    },
    /// The token was no longer valid.
    #[error("the token expired at {expired_at}, five minutes or more before {judged_at}")]
    Expired {
        /// `se`.
        expired_at: Timestamp,
        /// The service's clock.
        judged_at: Timestamp,
    },
    /// The token is good and its policy does not allow this.
    #[error("the shared access policy {policy:?} lacks the right {right}")]
    Lacks {
        /// The policy.
        policy: PolicyName,
        /// What it would need.
        right: Right,
    },
}

/// Judges a request to the service API of `instance` for `path`. Spec: DPS-ACCESS-3 to DPS-ACCESS-7.
pub fn authorize<'i>(
    instance: &'i ServiceInstance,
    token: Option<&[u8]>,
    path: &str,
    right: Right,
    now: Timestamp,
) -> Result<&'i SharedAccessPolicy, Denied> {
    let token = SasToken::parse(token.ok_or(Denied::NoToken)?).map_err(Denied::Malformed)?;
    let name = token.policy().unwrap_or_default();
    let policy = instance
        .shared_access_policies
        .iter()
        .find(|policy| policy.name.folded().eq_ignore_ascii_case(name))
        .ok_or_else(|| unknown_policy(name))?;
    // Spec: DPS-ACCESS-4.
    let KeyPair { primary, secondary } = &policy.keys;
    if !token.is_signed_by(primary) && !token.is_signed_by(secondary) {
        return Err(Denied::WrongKey(policy.name.clone()));
    }
    if !speaks_for(&token, &instance.service_hosts, path) {
        return Err(Denied::OtherResource {
            received: token.shown_resource().to_owned(),
            host: instance.service_hosts.first().map(ToString::to_string).unwrap_or_default(),
            path: path.to_owned(),
        });
    }
    // Spec: DPS-ACCESS-6.
    if token.is_expired_at(now) {
        return Err(Denied::Expired { expired_at: token.expiry(), judged_at: now });
    }
    if !policy.rights.contains(&right) {
        return Err(Denied::Lacks { policy: policy.name.clone(), right });
    }
    Ok(policy)
}

/// What may be said of a policy's name that is none: callers mix up key and key name. Spec: DPS-EXPLAIN-5.
fn unknown_policy(name: &str) -> Denied {
    // 16 bytes, the shortest key, are 22 characters in Base64, and never lower-case letters alone.
    let is_short = name.len() < 22;
    let is_word = name.len() <= 64 && !name.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase());
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if is_name && (is_short || is_word) {
        Denied::UnknownPolicy(name.to_owned())
    } else {
        Denied::KeyAsPolicy
    }
}

/// Whether `sr`, decoded, is a host of the instance, alone or with the first segments of `path`, each decoded. Spec: DPS-ACCESS-5.
fn speaks_for(token: &SasToken, hosts: &[ServiceHost], path: &str) -> bool {
    let Some(resource) = percent::decode(token.resource()) else { return false };
    let (authority, beginning) = resource.split_once('/').unwrap_or((&resource, ""));
    if !hosts.iter().any(|host| host.is_named_by(authority)) {
        return false;
    }
    let mut segments = path.trim_start_matches('/').split('/');
    let beginning = beginning.trim_end_matches('/');
    beginning.is_empty()
        || beginning.split('/').all(|wanted| {
            segments
                .next()
                .and_then(percent::decode)
                .is_some_and(|segment| segment.eq_ignore_ascii_case(wanted))
        })
}

/// The host of `host`, `host:port`, `[address]` or `[address]:port`.
fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(authority, |(address, _)| address);
    }
    match authority.rsplit_once(':') {
        // More than one colon is an IPv6 address without brackets.
        Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-ACCESS-2
    #[test]
    fn a_service_host_is_named_with_and_without_a_port_in_any_case() {
        let host: ServiceHost = "DPS.example".parse().unwrap();
        for named in ["dps.example", "DPS.EXAMPLE:443", "dps.example:18443"] {
            assert!(host.is_named_by(named), "{named}");
        }
        for other in ["dps.example.com", "dps", "dps.example:x", ""] {
            assert!(!host.is_named_by(other), "{other}");
        }
        let address: ServiceHost = "[::1]".parse().unwrap();
        assert!(address.is_named_by("[::1]:443") && address.is_named_by("::1"));
        assert!("a/b".parse::<ServiceHost>().is_err());
    }

    /// DPS-EXPLAIN-5
    #[test]
    fn a_text_in_place_of_a_policys_name_is_shown_only_if_it_cannot_be_a_key() {
        for name in ["", "nobody", "Reader-2", "provisioningserviceowners", &"a".repeat(64)] {
            assert_eq!(unknown_policy(name), Denied::UnknownPolicy(name.to_owned()));
        }
        for key in [
            "q83vASNFZ4mrze8BI0VniQ==",
            "q83vASNFZ4mrze8BI0VniQ",
            "q83vASNFZ4mrze8BI0VniQ%3D%3D",
            "abcdef0123456789abcdef0123456789",
            "AQ==",
            &"a".repeat(65),
        ] {
            assert_eq!(unknown_policy(key), Denied::KeyAsPolicy, "{key}");
            assert!(!Denied::KeyAsPolicy.to_string().contains(key));
        }
    }

    /// DPS-ACCESS-1
    #[test]
    fn a_right_is_named_in_any_case_and_the_owner_has_all() {
        assert_eq!("enrollmentread".parse(), Ok(Right::EnrollmentRead));
        assert_eq!("Everything".parse::<Right>(), Err(UnknownRight));
        let key = dps_proto::key::SymmetricKey::from_bytes(vec![1; 32]).unwrap();
        let with = |rights: &[Right]| SharedAccessPolicy {
            name: SharedAccessPolicy::OWNER.parse().unwrap(),
            keys: KeyPair { primary: key.clone(), secondary: key.clone() },
            rights: rights.to_vec(),
        };
        assert!(with(&Right::ALL).is_owner());
        for lacking in 0..Right::ALL.len() {
            let rights: Vec<_> =
                Right::ALL.into_iter().filter(|right| *right != Right::ALL[lacking]).collect();
            assert!(!with(&rights).is_owner(), "{}", Right::ALL[lacking]);
        }
    }
}
