//! What an address is for. Spec: DPS-HUB-2, DPS-HUB-3.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for, by the registries of special-purpose addresses (RFC 6890) and of the IPv6 address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// Anything that is none of the others.
    Public,
    /// This host or this network (`0.0.0.0/8`, `::`); systems connect to themselves by it.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`: metadata services of clouds are there.
    LinkLocal,
    /// Networks of a site (RFC 1918, `fc00::/7`, `fec0::/10`).
    Private,
    /// Networks of a carrier's customers (RFC 6598).
    Shared,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// For examples in texts.
    Documentation,
    /// For measurements between networks (RFC 2544, RFC 5180).
    Benchmarking,
    /// For what protocols need among themselves (`192.0.0.0/24`, `2001::/23`, AS112, AMT and relays of 6to4).
    Protocol,
    /// `168.63.129.16`: a public address by which Azure's machines reach the platform beneath them.
    Platform,
    /// Assigned to nothing.
    Reserved,
}

impl AddressKind {
    /// The kind of an address. One that carries IPv4 addresses is no better than they are. Spec: DPS-HUB-3.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => {
                let own = Self::of_v6(address);
                let carried = carried(address);
                let kinds = || std::iter::once(own).chain(carried.iter().map(|it| Self::of_v4(*it)));
                let worst = kinds().find(|kind| kind.is_never_a_target());
                worst.or_else(|| kinds().find(|kind| *kind != Self::Public)).unwrap_or(Self::Public)
            }
        }
    }

    /// Whether no setting allows it. Spec: DPS-HUB-3.
    pub fn is_never_a_target(self) -> bool {
        matches!(self, Self::Unspecified | Self::LinkLocal | Self::Multicast | Self::Broadcast)
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        match (a, b, c) {
            (0, ..) => Self::Unspecified,
            (127, ..) => Self::Loopback,
            (169, 254, _) => Self::LinkLocal,
            (10, ..) | (172, 16..=31, _) | (192, 168, _) => Self::Private,
            (100, 64..=127, _) => Self::Shared,
            (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Self::Documentation,
            (198, 18..=19, _) => Self::Benchmarking,
            (192, 0, 0) | (192, 31, 196) | (192, 52, 193) | (192, 88, 99) | (192, 175, 48) => Self::Protocol,
            (224..=239, ..) => Self::Multicast,
            _ if address == Ipv4Addr::BROADCAST => Self::Broadcast,
            (240.., ..) => Self::Reserved,
            _ if address == Ipv4Addr::new(168, 63, 129, 16) => Self::Platform,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            // NAT64: it is what it carries.
            [0x64, 0xff9b, 0, 0, 0, 0, ..] => Self::Public,
            // NAT64 of a site's own.
            [0x64, 0xff9b, 1, ..] => Self::Private,
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Self::Private,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xff00..=0xffff, ..] => Self::Multicast,
            [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Self::Documentation,
            [0x2001, 2, 0, ..] => Self::Benchmarking,
            // ORCHID, Teredo, AMT, AS112 and the like.
            [0x2001, 0..=0x1ff, ..] | [0x2620, 0x4f, 0x8000, ..] => Self::Protocol,
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Reserved,
        }
    }
}

/// The IPv4 addresses that an IPv6 address may lead to, by any of the ways in which networks pass from one to the other.
fn carried(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        // `::` and `::1` carry nothing.
        [0, 0, 0, 0, 0, 0] if g == 0 => Vec::new(),
        // IPv4-compatible (RFC 4291), IPv4-translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => vec![v4(g, h)],
        // NAT64 of a site (RFC 8215): where the address stands depends on the length of the prefix, around a byte that is none of its own
        // (RFC 6052 section 2.2). Most of the readings are not meant, so only what is worst in any of them counts.
        [0x64, 0xff9b, 1, ..] => {
            let octets = address.octets();
            let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
            let readings = [at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12]), v4(g, h)];
            readings.into_iter().filter(Ipv4Addr::is_link_local).collect()
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => vec![v4(high, low)],
        // Teredo (RFC 4380): the server, and the client with its bits turned.
        [0x2001, 0, high, low, ..] => vec![v4(high, low), v4(!g, !h)],
        // ISATAP (RFC 5214).
        [.., 0 | 0x200, 0x5efe] => vec![v4(g, h)],
        _ => Vec::new(),
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Private => "private",
            Self::Shared => "carrier-grade NAT",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Protocol => "protocol assignment",
            Self::Platform => "cloud platform",
            Self::Reserved => "reserved",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-HUB-2, DPS-HUB-3: first and last of each range, and what lies beside it.
    #[test]
    fn every_special_purpose_range_is_known_to_its_ends() {
        use AddressKind::*;
        let rows = [
            ("0.0.0.0", Unspecified),
            ("0.255.255.255", Unspecified),
            ("1.0.0.0", Public),
            ("9.255.255.255", Public),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("11.0.0.0", Public),
            ("100.63.255.255", Public),
            ("100.64.0.0", Shared),
            ("100.100.100.200", Shared),
            ("100.127.255.255", Shared),
            ("100.128.0.0", Public),
            ("126.255.255.255", Public),
            ("127.0.0.0", Loopback),
            ("127.255.255.255", Loopback),
            ("128.0.0.0", Public),
            ("168.63.129.15", Public),
            ("168.63.129.16", Platform),
            ("169.253.255.255", Public),
            ("169.254.0.0", LinkLocal),
            ("169.254.169.254", LinkLocal),
            ("169.254.255.255", LinkLocal),
            ("169.255.0.0", Public),
            ("172.15.255.255", Public),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Public),
            ("191.255.255.255", Public),
            ("192.0.0.0", Protocol),
            ("192.0.0.192", Protocol),
            ("192.0.1.0", Public),
            ("192.0.2.0", Documentation),
            ("192.0.2.255", Documentation),
            ("192.31.196.1", Protocol),
            ("192.52.193.1", Protocol),
            ("192.88.99.1", Protocol),
            ("192.167.255.255", Public),
            ("192.168.0.0", Private),
            ("192.168.255.255", Private),
            ("192.169.0.0", Public),
            ("192.175.48.1", Protocol),
            ("198.17.255.255", Public),
            ("198.18.0.0", Benchmarking),
            ("198.19.255.255", Benchmarking),
            ("198.20.0.0", Public),
            ("198.51.100.7", Documentation),
            ("203.0.113.7", Documentation),
            ("223.255.255.255", Public),
            ("224.0.0.0", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.0", Reserved),
            ("255.255.255.254", Reserved),
            ("255.255.255.255", Broadcast),
            ("::", Unspecified),
            ("::1", Loopback),
            ("::2", Reserved),
            ("100::1", Reserved),
            ("1fff:ffff::", Reserved),
            ("2000::", Public),
            ("2001:1::1", Protocol),
            ("2001:2::1", Benchmarking),
            ("2001:2:1::", Protocol),
            ("2001:1ff::", Protocol),
            ("2001:200::", Public),
            ("2001:db7:ffff::", Public),
            ("2001:db8::1", Documentation),
            ("2001:db9::", Public),
            ("2603:1030:a07:4::1", Public),
            ("2620:4f:8000::1", Protocol),
            ("3ffe:ffff::", Public),
            ("3fff::1", Documentation),
            ("3fff:1000::", Public),
            ("4000::", Reserved),
            ("5f00::1", Reserved),
            ("fbff::", Reserved),
            ("fc00::", Private),
            ("fd00:ec2::254", Private),
            ("fdff:ffff::", Private),
            ("fe00::", Reserved),
            ("fe80::", LinkLocal),
            ("fe80::a9fe:a9fe", LinkLocal),
            ("febf:ffff::", LinkLocal),
            ("fec0::1", Private),
            ("ff00::", Multicast),
            ("ff02::1", Multicast),
        ];
        for (text, kind) in rows {
            assert_eq!(AddressKind::of(text.parse().unwrap()), kind, "{text}");
        }
    }

    /// DPS-HUB-3
    #[test]
    fn an_address_that_carries_another_is_no_better_than_that() {
        use AddressKind::*;
        let rows = [
            ("::ffff:8.8.8.8", Public),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:169.254.169.254", LinkLocal),
            ("::ffff:a9fe:a9fe", LinkLocal),
            ("::ffff:0:169.254.169.254", LinkLocal),
            ("::127.0.0.1", Reserved),
            ("::169.254.169.254", LinkLocal),
            ("64:ff9b::8.8.8.8", Public),
            ("64:ff9b::10.0.0.1", Private),
            ("64:ff9b::169.254.169.254", LinkLocal),
            ("64:ff9b:0:1::8.8.8.8", Reserved),
            ("2002:808:808::1", Public),
            ("2002:7f00:1::", Loopback),
            ("2002:a00:1::", Private),
            ("2002:a9fe:a9fe::1", LinkLocal),
            // Teredo: its server 169.254.1.1; its client 127.0.0.1.
            ("2001:0:a9fe:101::", LinkLocal),
            ("2001:0:4136:e378:8000:63bf:80ff:fffe", Protocol),
            ("2001:0:4136:e378:8000:63bf:5601:5601", LinkLocal),
            ("2603::5efe:8.8.8.8", Public),
            ("2603::200:5efe:10.0.0.1", Private),
            ("2603::5efe:169.254.169.254", LinkLocal),
            ("fe80::5efe:8.8.8.8", LinkLocal),
        ];
        for (text, kind) in rows {
            assert_eq!(AddressKind::of(text.parse().unwrap()), kind, "{text}");
        }
    }

    /// DPS-HUB-3
    #[test]
    fn a_site_s_own_nat64_leads_to_no_link_local_address_whatever_the_length_of_its_prefix() {
        assert_eq!(AddressKind::of("64:ff9b:1::8.8.8.8".parse().unwrap()), AddressKind::Private);
        let spellings = [
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "64:ff9b:1::169.254.169.254",
        ];
        for text in spellings {
            assert_eq!(AddressKind::of(text.parse().unwrap()), AddressKind::LinkLocal, "{text}");
        }
    }
}
