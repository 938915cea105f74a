//! Values of options whose own errors are words of the language: these say what to write.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::str::FromStr;

fn parsed<T: FromStr>(text: &str, advice: &str) -> Result<T, String> {
    text.parse().map_err(|_| advice.to_owned())
}

pub(crate) fn port(text: &str) -> Result<u16, String> {
    parsed(text, "write a whole number from 0 to 65535")
}

pub(crate) fn count(text: &str) -> Result<NonZeroUsize, String> {
    parsed(text, "write a whole number, 1 or more")
}

pub(crate) fn number(text: &str) -> Result<u64, String> {
    parsed(text, "write a whole number")
}

pub(crate) fn seconds(text: &str) -> Result<i64, String> {
    parsed(text, "write a whole number of seconds")
}

pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    parsed(text, "write an IP address, such as 127.0.0.1 or ::1")
}

pub(crate) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    parsed(text, "write an IP address and a port, such as 127.0.0.1:9090")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_read_is_told_what_to_write() {
        for text in ["", "x", "-1", "0x10", "65536"] {
            assert!(port(text).unwrap_err().contains("from 0 to 65535"), "{text}");
        }
        assert!(count("0").unwrap_err().contains("1 or more"));
        assert!(socket_address("127.0.0.1").unwrap_err().contains("127.0.0.1:9090"));
        assert_eq!(address("::1"), Ok(std::net::Ipv6Addr::LOCALHOST.into()));
        assert_eq!((seconds("-300"), number("7")), (Ok(-300), Ok(7)));
    }
}
