//! The header of the PROXY protocol in version 2, by which a balancer says whose connection it passes on.
//! Spec: DPS-LIMIT-15, DPS-LIMIT-16.
//!
//! It stands before all else on the connection: a signature of 12 bytes, version and command, family and transport, a length of
//! 2 bytes, and as many bytes with addresses and, after them, fields that nobody here reads.

use std::fmt::{self, Display};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header begins with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Most bytes after the fixed part: the addresses, and more fields than any balancer is known to send.
pub const REST_BYTES_MAX: usize = 520;

/// Most bytes of a whole header.
pub const HEADER_BYTES_MAX: usize = FIXED_BYTES + REST_BYTES_MAX;

/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = SIGNATURE.len() + 4;

/// What version 1 begins with, which is a line of text.
const VERSION_1: &[u8] = b"PROXY ";

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The balancer's own, such as a health check: the command LOCAL.
    Balancer,
    /// The balancer does not say: the address family AF_UNSPEC.
    Unspecified,
    /// Of the client at this address.
    Client(SocketAddr),
}

/// As far as a header has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has so many bytes at least, more than there are; read no further than that, for what follows is not the header's.
    Needs(usize),
    /// It is whole.
    Whole {
        /// What it says.
        origin: Origin,
        /// How many bytes it has.
        length: usize,
    },
}

/// Why bytes are no header that can be used. Its text follows "the header of the PROXY protocol".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// They begin as something else does.
    #[error("{0}")]
    Missing(Instead),
    /// Another version than 2.
    #[error("is of version {0}, and only version 2 is read")]
    Version(u8),
    /// Neither LOCAL nor PROXY.
    #[error("has the command {0}, which is neither LOCAL (0) nor PROXY (1)")]
    Command(u8),
    /// Neither TCP over IPv4 or IPv6, nor unspecified.
    #[error(
        "names a client of address family {family} and transport {transport}, and only TCP (1) over IPv4 (1) and IPv6 (2) is served"
    )]
    Family {
        /// 0 unspecified, 1 IPv4, 2 IPv6, 3 a Unix socket.
        family: u8,
        /// 0 unspecified, 1 stream, 2 datagram.
        transport: u8,
    },
    /// Less than its addresses take.
    #[error("has {length} bytes after its length, and addresses of its family take {needed}")]
    TooShort {
        /// As it says.
        length: usize,
        /// What the addresses take.
        needed: usize,
    },
    /// More than is read.
    #[error("has {0} bytes after its length, more than {REST_BYTES_MAX}")]
    TooLong(usize),
}

/// What stands in a header's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// A line of version 1.
    VersionOne,
    /// A record of TLS.
    Tls,
    /// Something else.
    Other,
}

impl Display for Instead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::VersionOne => "is of version 1, a line of text, and only version 2 is read",
            Self::Tls => "is missing: TLS begins in its place",
            Self::Other => "is missing: the first bytes are not its signature",
        })
    }
}

/// Reads the header that a connection begins with, of whose bytes these are the first. What is wrong is told as soon as it can be seen;
/// what follows a whole header is not looked at.
///
/// # Errors
/// Why they cannot become a header that is used.
pub fn read(bytes: &[u8]) -> Result<Progress, BadHeader> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else {
        // One that is cut off may be what a longer one is: only what can no longer become a header is refused.
        if !SIGNATURE.starts_with(&bytes[..bytes.len().min(SIGNATURE.len())]) {
            return missing(bytes);
        }
        if let Some(version_and_command) = bytes.get(SIGNATURE.len()) {
            read_command(*version_and_command)?;
        }
        return Ok(Progress::Needs(FIXED_BYTES));
    };
    let [signature @ .., version_and_command, family_and_transport, high, low] = fixed;
    if *signature != SIGNATURE {
        return missing(bytes);
    }
    let is_local = read_command(*version_and_command)?;
    let rest_bytes = usize::from(u16::from_be_bytes([*high, *low]));
    if rest_bytes > REST_BYTES_MAX {
        return Err(BadHeader::TooLong(rest_bytes));
    }
    let addresses = if is_local { Addresses::None } else { Addresses::of(*family_and_transport)? };
    let needed = addresses.bytes();
    if rest_bytes < needed {
        return Err(BadHeader::TooShort { length: rest_bytes, needed });
    }
    let length = FIXED_BYTES + rest_bytes;
    let Some(rest) = bytes.get(FIXED_BYTES..length) else { return Ok(Progress::Needs(length)) };
    let origin = match (is_local, addresses.client(rest)) {
        (true, _) => Origin::Balancer,
        (false, None) => Origin::Unspecified,
        (false, Some(client)) => Origin::Client(client),
    };
    Ok(Progress::Whole { origin, length })
}

/// What stands there in place of a signature, once that can be told.
fn missing(bytes: &[u8]) -> Result<Progress, BadHeader> {
    /// The content type of a handshake record, which is the first byte of TLS.
    const TLS_HANDSHAKE: u8 = 22;
    let instead = if bytes.starts_with(VERSION_1) {
        Instead::VersionOne
    } else if VERSION_1.starts_with(bytes) {
        return Ok(Progress::Needs(VERSION_1.len()));
    } else if bytes.first() == Some(&TLS_HANDSHAKE) {
        Instead::Tls
    } else {
        Instead::Other
    };
    Err(BadHeader::Missing(instead))
}

/// Whether the command is LOCAL.
fn read_command(version_and_command: u8) -> Result<bool, BadHeader> {
    match (version_and_command >> 4, version_and_command & 0x0F) {
        (2, 0) => Ok(true),
        (2, 1) => Ok(false),
        (2, command) => Err(BadHeader::Command(command)),
        (version, _) => Err(BadHeader::Version(version)),
    }
}

/// What stands after the length.
#[derive(Debug, Clone, Copy)]
enum Addresses {
    None,
    V4,
    V6,
}

impl Addresses {
    fn of(family_and_transport: u8) -> Result<Self, BadHeader> {
        match (family_and_transport >> 4, family_and_transport & 0x0F) {
            (0, 0..=2) => Ok(Self::None),
            (1, 1) => Ok(Self::V4),
            (2, 1) => Ok(Self::V6),
            (family, transport) => Err(BadHeader::Family { family, transport }),
        }
    }

    /// Bytes of the addresses and ports of both ends.
    fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::V4 => 2 * (4 + 2),
            Self::V6 => 2 * (16 + 2),
        }
    }

    /// Addresses of client and service, then their ports.
    fn client(self, bytes: &[u8]) -> Option<SocketAddr> {
        fn parts<const ADDRESS_BYTES: usize>(bytes: &[u8]) -> Option<([u8; ADDRESS_BYTES], u16)> {
            let (client, rest) = bytes.split_first_chunk()?;
            let (_service, rest) = rest.split_first_chunk::<ADDRESS_BYTES>()?;
            Some((*client, u16::from_be_bytes(*rest.first_chunk()?)))
        }
        match self {
            Self::None => None,
            Self::V4 => parts(bytes).map(|(address, port)| (Ipv4Addr::from_octets(address), port).into()),
            Self::V6 => parts(bytes).map(|(address, port)| (Ipv6Addr::from_octets(address), port).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version_and_command: u8, family_and_transport: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_and_command, family_and_transport], &length, rest].concat()
    }

    #[track_caller]
    fn check(bytes: &[u8], origin: Origin) {
        assert_eq!(read(bytes), Ok(Progress::Whole { origin, length: bytes.len() }));
        let and_more = [bytes, b"\x16\x03\x01"].concat();
        assert_eq!(read(&and_more), Ok(Progress::Whole { origin, length: bytes.len() }));
    }

    #[track_caller]
    fn check_bad(bytes: &[u8], expected: BadHeader, text: &str) {
        assert_eq!(read(bytes), Err(expected));
        assert_eq!(expected.to_string(), text);
    }

    /// DPS-LIMIT-15: what HAProxy sends for a client over IPv4.
    #[test]
    fn the_client_over_ipv4_is_the_first_address_and_the_first_port() {
        let bytes = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c\xac\x13\x00\x01\xac\x13\x00\x03\xa6\x52\x00\x50";
        check(bytes, Origin::Client("172.19.0.1:42578".parse().unwrap()));
    }

    /// DPS-LIMIT-15
    #[test]
    fn a_client_over_ipv6_has_its_address_as_well_and_fields_after_the_addresses_are_skipped() {
        let client: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let addresses =
            [&client.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0xC3, 0x50, 0x22, 0xB3]].concat();
        let origin = Origin::Client("[2001:db8::7]:50000".parse().unwrap());
        check(&header(0x21, 0x21, &addresses), origin);
        let with_fields = [&addresses[..], b"\x02\x00\x05a.dev\x30\x00\x00"].concat();
        check(&header(0x21, 0x21, &with_fields), origin);
        let mut full = addresses;
        full.resize(REST_BYTES_MAX, 4);
        assert_eq!(header(0x21, 0x21, &full).len(), HEADER_BYTES_MAX);
        check(&header(0x21, 0x21, &full), origin);
    }

    /// DPS-LIMIT-16: whatever stands in the rest of it, of which nothing is read.
    #[test]
    fn a_connection_of_the_balancer_itself_or_of_nobody_named_keeps_its_address() {
        for (family, rest) in
            [(0x00, &b""[..]), (0x11, b"\x7f\0\0\x01"), (0xFF, b"anything"), (0x31, &[1; 216])]
        {
            check(&header(0x20, family, rest), Origin::Balancer);
        }
        for (family, rest) in [(0x00, &b""[..]), (0x01, b""), (0x02, b"anything")] {
            check(&header(0x21, family, rest), Origin::Unspecified);
        }
    }

    /// DPS-LIMIT-15
    #[test]
    fn what_is_no_header_of_version_2_is_refused_with_what_it_is() {
        check_bad(
            b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 8883\r\n",
            BadHeader::Missing(Instead::VersionOne),
            "is of version 1, a line of text, and only version 2 is read",
        );
        check_bad(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            BadHeader::Missing(Instead::Tls),
            "is missing: TLS begins in its place",
        );
        let other = "is missing: the first bytes are not its signature";
        for bytes in [&b"PROXIES"[..], b"GET / HTTP/1.1\r\n", b"\r\n\r\n\0\r\nQUIT\r!\x11\0\x0c", b"\0"] {
            check_bad(bytes, BadHeader::Missing(Instead::Other), other);
        }
        check_bad(
            &header(0x31, 0x11, &[0; 12]),
            BadHeader::Version(3),
            "is of version 3, and only version 2 is read",
        );
        check_bad(
            &header(0x22, 0x11, &[0; 12]),
            BadHeader::Command(2),
            "has the command 2, which is neither LOCAL (0) nor PROXY (1)",
        );
    }

    /// DPS-LIMIT-15
    #[test]
    fn a_client_that_is_not_on_tcp_is_refused() {
        for byte in [0x03, 0x0F, 0x10, 0x12, 0x13, 0x20, 0x22, 0x31, 0x32, 0x41, 0xF1] {
            let family = BadHeader::Family { family: byte >> 4, transport: byte & 0x0F };
            assert_eq!(read(&header(0x21, byte, &[0; 216])), Err(family), "{byte:#x}");
        }
        check_bad(
            &header(0x21, 0x12, &[0; 12]),
            BadHeader::Family { family: 1, transport: 2 },
            "names a client of address family 1 and transport 2, and only TCP (1) over IPv4 (1) and IPv6 (2) is served",
        );
    }

    /// DPS-LIMIT-15
    #[test]
    fn a_header_too_short_for_its_addresses_or_too_long_is_refused_before_it_is_read() {
        for (family, needed) in [(0x11, 12), (0x21, 36)] {
            let short = header(0x21, family, &vec![1; needed - 1]);
            let expected = BadHeader::TooShort { length: needed - 1, needed };
            assert_eq!(read(&short[..FIXED_BYTES]), Err(expected));
            let text = format!(
                "has {} bytes after its length, and addresses of its family take {needed}",
                needed - 1
            );
            check_bad(&short, expected, &text);
        }
        for command in [0x20, 0x21] {
            let long = header(command, 0x11, &[1; REST_BYTES_MAX + 1]);
            check_bad(
                &long[..FIXED_BYTES],
                BadHeader::TooLong(REST_BYTES_MAX + 1),
                "has 521 bytes after its length, more than 520",
            );
        }
    }

    /// DPS-LIMIT-15: a peer is not waited for that has said enough, nor read beyond what is the header's.
    #[test]
    fn what_is_not_whole_needs_more_and_never_more_than_the_header_has() {
        let whole = header(0x21, 0x11, &[1; 20]);
        for end in 0..whole.len() {
            let needs = if end < FIXED_BYTES { FIXED_BYTES } else { whole.len() };
            assert_eq!(read(&whole[..end]), Ok(Progress::Needs(needs)), "{end}");
        }
        assert_eq!(read(b"PRO"), Ok(Progress::Needs(VERSION_1.len())));
        // Known to be of no use at its thirteenth byte.
        assert_eq!(read(&header(0x11, 0x11, &[])[..13]), Err(BadHeader::Version(1)));
    }
}
