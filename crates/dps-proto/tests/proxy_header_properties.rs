//! What holds for every header of the PROXY protocol and every byte. Spec: DPS-LIMIT-15, DPS-LIMIT-16.

use std::net::{IpAddr, SocketAddr};

use dps_proto::proxy_header::{
    BadHeader, HEADER_BYTES_MAX, Origin, Progress, REST_BYTES_MAX, SIGNATURE, read,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Written as the protocol has it, beside the reader.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
}

/// The addresses of both ends, and their ports.
fn addresses(client: SocketAddr, service_port: u16) -> (u8, Vec<u8>) {
    let ports = [client.port().to_be_bytes(), service_port.to_be_bytes()].concat();
    match client.ip() {
        IpAddr::V4(address) => (0x11, [&address.octets()[..], &[10, 0, 0, 5], &ports].concat()),
        IpAddr::V6(address) => (0x21, [&address.octets()[..], &[0xFD; 16], &ports].concat()),
    }
}

/// Mutated headers, which come further than arbitrary bytes.
fn near_headers() -> impl Strategy<Value = Vec<u8>> {
    let fields = vec(any::<u8>(), 0..560);
    (
        0..3u8,
        prop_oneof![Just(0x11), Just(0x21), Just(0x00), any::<u8>()],
        fields,
        vec((0..24usize, any::<u8>()), 0..2),
    )
        .prop_map(|(command, family, rest, changes)| {
            let mut bytes = header(command, family, &rest);
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes
        })
}

proptest! {
    /// DPS-LIMIT-15
    #[test]
    fn every_client_is_read_back_and_what_follows_is_left_alone(
        client: SocketAddr,
        service_port: u16,
        fields in vec(any::<u8>(), 0..=REST_BYTES_MAX - 36),
        follows in vec(any::<u8>(), 0..40),
    ) {
        let (family, mut rest) = addresses(client, service_port);
        rest.extend(fields);
        let mut bytes = header(1, family, &rest);
        let length = bytes.len();
        bytes.extend(follows);
        let client = SocketAddr::new(client.ip(), client.port());
        prop_assert_eq!(read(&bytes), Ok(Progress::Whole { origin: Origin::Client(client), length }));
    }

    /// DPS-LIMIT-16
    #[test]
    fn a_balancers_own_connection_is_known_whatever_else_its_header_holds(family: u8, rest in vec(any::<u8>(), 0..=REST_BYTES_MAX)) {
        let bytes = header(0, family, &rest);
        prop_assert_eq!(read(&bytes), Ok(Progress::Whole { origin: Origin::Balancer, length: bytes.len() }));
    }

    /// DPS-LIMIT-15: whoever reads as much as is asked for comes to the same, and never past the header.
    #[test]
    fn who_reads_what_is_needed_reads_the_header_and_no_more(bytes in near_headers()) {
        let mut have = 0;
        let said = loop {
            match read(&bytes[..have]) {
                Ok(Progress::Needs(needs)) => {
                    prop_assert!(needs > have && needs <= HEADER_BYTES_MAX);
                    if needs > bytes.len() {
                        break Ok(Progress::Needs(needs));
                    }
                    have = needs;
                }
                said => break said,
            }
        };
        prop_assert_eq!(said, read(&bytes));
        if let Ok(Progress::Whole { length, .. }) = said {
            prop_assert_eq!(length, have);
        }
    }

    /// DPS-LIMIT-15
    #[test]
    fn bytes_that_do_not_begin_with_the_signature_are_never_a_header(bytes in vec(any::<u8>(), 1..64)) {
        prop_assume!(!SIGNATURE.starts_with(&bytes[..bytes.len().min(SIGNATURE.len())]) && !b"PROXY ".starts_with(&bytes[..]));
        prop_assert!(matches!(read(&bytes), Err(BadHeader::Missing(_))));
    }
}
