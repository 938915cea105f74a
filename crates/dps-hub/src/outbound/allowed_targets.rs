//! Where requests may go. Spec: DPS-HUB-2, DPS-HUB-3.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address_kind::AddressKind;

/// The word for every public address.
const PUBLIC: &str = "public";

/// Where requests may go, as the configuration of the server says. The default is every public address. Spec: DPS-HUB-2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedTargets(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Public,
    /// In lower case.
    Host(Box<str>),
    /// What the host ends with, from the dot on, in lower case.
    Subdomains(Box<str>),
    Network(IpNetwork),
}

/// An address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IpNetwork {
    V4(u32, u32),
    V6(u128, u128),
}

/// Why a text is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// It is neither a host name, nor an address or a network.
    #[error(
        "{0:?} is none of: public, a host name (hub.example, *.example), an address (10.0.0.1), a network (10.0.0.0/8)"
    )]
    Form(String),
    /// The network's address has bits beyond its prefix.
    #[error("{given:?} is no network: the first address of that one is {first}")]
    BitsBeyondPrefix {
        /// As it was given.
        given: String,
        /// What was meant, probably.
        first: IpAddr,
    },
}

/// An address that no request may go to. Spec: DPS-HUB-2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at {address} ({kind}), which is {}", verdict(*kind))]
pub struct RefusedAddress {
    /// The host that was asked for.
    pub host: String,
    /// The address it has.
    pub address: IpAddr,
    /// What that is for.
    pub kind: AddressKind,
}

fn verdict(kind: AddressKind) -> &'static str {
    if kind.is_never_a_target() { "never a target" } else { "not among the allowed targets" }
}

impl AllowedTargets {
    /// Reads the entries of the configuration: `public`, host names, `*.` and a name, addresses, networks. Without an entry it is
    /// the default.
    ///
    /// # Errors
    /// The first entry that is none of these.
    pub fn parse<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, BadTarget> {
        entries.into_iter().map(|entry| Entry::parse(entry.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request for `host`, a name or an address, may go to `address`.
    ///
    /// # Errors
    /// [`RefusedAddress`] says which address it was and why.
    pub fn judge(&self, host: &str, address: IpAddr) -> Result<(), RefusedAddress> {
        let kind = AddressKind::of(address);
        let is_listed = || match &*self.0 {
            [] => kind == AddressKind::Public,
            entries => entries.iter().any(|entry| entry.has(host, address, kind)),
        };
        if !kind.is_never_a_target() && is_listed() {
            return Ok(());
        }
        Err(RefusedAddress { host: host.to_owned(), address, kind })
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, BadTarget> {
        let form = || BadTarget::Form(text.to_owned());
        if text.eq_ignore_ascii_case(PUBLIC) {
            return Ok(Self::Public);
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        if let Ok(address) = address.parse::<IpAddr>() {
            let length = match length {
                None => None,
                Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                    Some(digits.parse::<u32>().map_err(|_| form())?)
                }
                Some(_) => return Err(form()),
            };
            return IpNetwork::new(text, address, length).map(Self::Network);
        }
        let (name, is_suffix) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        // What ends in a number is an address to those who read URLs, in one of the spellings that only they know.
        let last_is_word =
            name.rsplit('.').next().is_some_and(|last| !last.starts_with(|c: char| c.is_ascii_digit()));
        if name.len() > 253 || !last_is_word || !name.split('.').all(is_label) {
            return Err(form());
        }
        let name = name.to_ascii_lowercase();
        Ok(if is_suffix { Self::Subdomains(format!(".{name}").into()) } else { Self::Host(name.into()) })
    }

    fn has(&self, host: &str, address: IpAddr, kind: AddressKind) -> bool {
        match self {
            Self::Public => kind == AddressKind::Public,
            Self::Host(name) => host.eq_ignore_ascii_case(name),
            Self::Subdomains(suffix) => host.to_ascii_lowercase().ends_with(&**suffix),
            Self::Network(network) => network.contains(address),
        }
    }
}

impl IpNetwork {
    fn new(given: &str, address: IpAddr, length: Option<u32>) -> Result<Self, BadTarget> {
        let form = || BadTarget::Form(given.to_owned());
        let beyond = |first: IpAddr| BadTarget::BitsBeyondPrefix { given: given.to_owned(), first };
        match address {
            IpAddr::V4(address) => {
                let length = length.unwrap_or(32);
                let free = 32_u32.checked_sub(length).ok_or_else(form)?;
                let mask = u32::MAX.checked_shl(free).unwrap_or(0);
                let bits = u32::from(address);
                if bits & !mask != 0 {
                    return Err(beyond(Ipv4Addr::from(bits & mask).into()));
                }
                Ok(Self::V4(bits, mask))
            }
            IpAddr::V6(address) => {
                let length = length.unwrap_or(128);
                let free = 128_u32.checked_sub(length).ok_or_else(form)?;
                let mask = u128::MAX.checked_shl(free).unwrap_or(0);
                let bits = u128::from(address);
                if bits & !mask != 0 {
                    return Err(beyond(Ipv6Addr::from(bits & mask).into()));
                }
                match (address.to_ipv4_mapped(), length.checked_sub(96)) {
                    // Addresses are judged as the IPv4 addresses that they are.
                    (Some(v4), Some(length)) => Self::new(given, v4.into(), Some(length)),
                    _ => Ok(Self::V6(bits, mask)),
                }
            }
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::V4(bits, mask), IpAddr::V4(address)) => u32::from(address) & mask == bits,
            (Self::V6(bits, mask), IpAddr::V6(address)) => u128::from(address) & mask == bits,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entries: &[&str], rows: &[(&str, &str, bool)]) {
        let allowed = AllowedTargets::parse(entries).unwrap();
        for (host, address, expected) in rows {
            let judged = allowed.judge(host, address.parse().unwrap());
            assert_eq!(judged.is_ok(), *expected, "{entries:?}: {host} at {address}: {judged:?}");
        }
    }

    /// DPS-HUB-2
    #[test]
    fn without_a_list_every_public_address_is_allowed_and_no_other() {
        check(
            &[],
            &[
                ("hub.example", "20.50.1.2", true),
                ("hub.example", "2603:1030:a07:4::1", true),
                ("hub.example", "10.0.0.1", false),
                ("hub.example", "127.0.0.1", false),
                ("hub.example", "fd00::1", false),
                ("168.63.129.16", "168.63.129.16", false),
            ],
        );
        assert_eq!(AllowedTargets::default(), AllowedTargets::parse([] as [&str; 0]).unwrap());
    }

    /// DPS-HUB-2
    #[test]
    fn with_a_list_only_what_it_names_is_allowed() {
        check(
            &["Hub.Example", "*.factory.example", "10.1.0.0/16", "192.168.7.7", "fd00:7::/32"],
            &[
                ("hub.example", "10.9.9.9", true),
                ("HUB.example", "127.0.0.1", true),
                ("a.hub.example", "20.50.1.2", false),
                ("a.factory.example", "10.9.9.9", true),
                ("a.b.Factory.example", "fd99::1", true),
                ("factory.example", "10.9.9.9", false),
                ("afactory.example", "10.9.9.9", false),
                ("other.example", "10.1.255.255", true),
                ("other.example", "10.2.0.0", false),
                ("other.example", "::ffff:10.1.0.1", true),
                ("other.example", "192.168.7.7", true),
                ("other.example", "192.168.7.8", false),
                ("other.example", "fd00:7:ffff::1", true),
                ("other.example", "fd00:8::1", false),
                ("other.example", "20.50.1.2", false),
            ],
        );
        check(
            &["public", "10.0.0.0/8"],
            &[("a", "20.50.1.2", true), ("a", "10.1.1.1", true), ("a", "127.0.0.1", false)],
        );
        check(&["::ffff:10.1.0.0/112"], &[("a", "10.1.7.7", true), ("a", "10.2.0.1", false)]);
    }

    /// DPS-HUB-3
    #[test]
    fn no_list_allows_a_link_local_address_or_one_that_is_no_host_s() {
        let never = [
            "169.254.169.254",
            "fe80::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ];
        for entries in [vec!["0.0.0.0/0", "::/0"], vec!["metadata.example", "public"], never[..2].to_vec()] {
            let allowed = AllowedTargets::parse(&entries).unwrap();
            for address in never {
                let refused = allowed.judge("metadata.example", address.parse().unwrap()).unwrap_err();
                assert!(refused.to_string().ends_with(", which is never a target"), "{refused}");
            }
        }
    }

    /// DPS-HUB-2
    #[test]
    fn what_is_no_target_is_named() {
        for bad in [
            "",
            "*",
            "*.",
            "a..b",
            "-/-",
            "a b",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "0x7f.1",
            "127.1",
            "2130706433",
            "https://a",
            "a:443",
            "ä.example",
            "*.10.0.0.1",
        ] {
            assert_eq!(AllowedTargets::parse([bad]), Err(BadTarget::Form(bad.to_owned())), "{bad}");
        }
        let why = AllowedTargets::parse(["10.1.2.3/8"]).unwrap_err().to_string();
        assert_eq!(why, r#""10.1.2.3/8" is no network: the first address of that one is 10.0.0.0"#);
        assert!(AllowedTargets::parse(["fd00::1/8"]).is_err());
    }
}
