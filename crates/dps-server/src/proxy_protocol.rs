//! Whose connection it is that a balancer passes on. Spec: DPS-LIMIT-14 to DPS-LIMIT-18.
//!
//! What a header says is believed, so it is read from those alone whom the configuration names; what it looks like is known in
//! [`dps_proto::proxy_header`].

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use dps_proto::proxy_header::{self, BadHeader, HEADER_BYTES_MAX, Origin, Progress};
use ipnet::{IpNet, Ipv4Net};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bits before the IPv4 address in an IPv6 address that holds one.
const MAPPED_PREFIX_BITS: u8 = 96;

/// Whose connections begin with a header. Spec: DPS-LIMIT-14.
#[derive(Debug, Clone, Default)]
pub struct Balancers(Box<[IpNet]>);

impl Balancers {
    /// Those in these networks. One of IPv4 addresses in IPv6 addresses is that of the IPv4 addresses.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let canonical = |network: IpNet| {
            let IpNet::V6(within) = network else { return network };
            let bits = within.prefix_len().checked_sub(MAPPED_PREFIX_BITS);
            let v4 = within.addr().to_ipv4_mapped().zip(bits);
            v4.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok()).map_or(network, IpNet::V4)
        };
        Self(networks.into_iter().map(canonical).collect())
    }

    /// Whether it is the address of one.
    pub fn has(&self, address: IpAddr) -> bool {
        // A socket that takes both has IPv4 peers at IPv6 addresses.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Why a connection from a balancer has no header that can be used. Its text stands alone in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Something else came. Spec: DPS-LIMIT-15.
    #[error("the header of the PROXY protocol {0}")]
    Bad(BadHeader),
    /// Too slow, or silent. Spec: DPS-LIMIT-17.
    #[error("no whole header of the PROXY protocol came within {} s", .within.as_secs_f64())]
    TimedOut {
        /// The limit.
        within: Duration,
    },
    /// It ended before anything came, as it does where a balancer only looks whether somebody listens. Spec: DPS-LIMIT-18.
    #[error("the balancer ended the connection before its first byte")]
    Nothing,
    /// It ended with a part of a header.
    #[error("the balancer ended the connection in the middle of the header of the PROXY protocol")]
    BrokenOff,
    /// The network did.
    #[error("the connection was lost in the middle of the header of the PROXY protocol: {0}")]
    Lost(io::ErrorKind),
}

/// Reads the header from a stream that begins with one, and nothing after it. Waits without a limit of its own.
///
/// # Errors
/// Why there is none; never [`HeaderFault::TimedOut`].
pub(crate) async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Origin, HeaderFault> {
    let mut buffer = [0; HEADER_BYTES_MAX];
    let mut have = 0;
    loop {
        let needs = match proxy_header::read(&buffer[..have]).map_err(HeaderFault::Bad)? {
            Progress::Whole { origin, .. } => return Ok(origin),
            Progress::Needs(needs) => needs,
        };
        have += match stream.read(&mut buffer[have..needs]).await {
            // What balancers do to look whether somebody listens: some of them reset the connection.
            Ok(0) | Err(_) if have == 0 => return Err(HeaderFault::Nothing),
            Ok(0) => return Err(HeaderFault::BrokenOff),
            Ok(came) => came,
            Err(why) => return Err(HeaderFault::Lost(why.kind())),
        };
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    /// DPS-LIMIT-14
    #[test]
    fn a_balancer_is_known_by_its_address_however_that_is_written() {
        let networks = ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::ffff:198.51.100.0/120"];
        let balancers = Balancers::new(networks.map(|network| network.parse().unwrap()));
        for (address, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("11.1.2.3", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8::7", true),
            ("2001:db9::7", false),
            ("198.51.100.7", true),
            ("::ffff:198.51.100.7", true),
            ("198.51.101.7", false),
        ] {
            assert_eq!(balancers.has(address.parse().unwrap()), expected, "{address}");
        }
        assert!(!Balancers::default().has("127.0.0.1".parse().unwrap()));
    }

    const HEADER: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x07\x0a\0\0\x05\xc3\x50\x22\xb3\x04\0\0";

    /// DPS-LIMIT-15
    #[tokio::test]
    async fn a_header_is_read_in_any_pieces_and_what_follows_is_left_in_the_stream() {
        for piece in [1, 2, 7, 16, 64] {
            let (mut balancer, mut stream) = duplex(piece);
            let writes = tokio::spawn(async move {
                balancer.write_all(&[HEADER, b"hello"].concat()).await.unwrap();
            });
            let origin = read_header(&mut stream).await;
            assert_eq!(origin, Ok(Origin::Client("192.0.2.7:50000".parse().unwrap())), "{piece} bytes");
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "hello", "{piece} bytes");
            writes.await.unwrap();
        }
    }

    /// DPS-LIMIT-15, DPS-LIMIT-18
    #[tokio::test]
    async fn a_stream_that_ends_before_the_header_does_is_told_from_one_that_has_none() {
        for (bytes, expected) in [
            (&b""[..], HeaderFault::Nothing),
            (&HEADER[..1], HeaderFault::BrokenOff),
            (&HEADER[..30], HeaderFault::BrokenOff),
            (b"PROXY UNKNOWN\r\n", HeaderFault::Bad(BadHeader::Missing(proxy_header::Instead::VersionOne))),
        ] {
            let (mut balancer, mut stream) = duplex(64);
            balancer.write_all(bytes).await.unwrap();
            drop(balancer);
            assert_eq!(read_header(&mut stream).await, Err(expected));
        }
    }
}
