//! Whether the host name of the printed commands leads to where `dev` listens. Spec: DPS-DEV-12.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// A name that is not found in this time is not found.
const FOUND_WITHIN: Duration = Duration::from_secs(2);

/// The line of /etc/hosts by which this machine would find `host` where `dev` listens; `None` where it does so already.
pub(super) async fn missing_line(host: &str, bind: IpAddr) -> Option<String> {
    if host == "localhost" || host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let (found, finding) = oneshot::channel();
    let name = host.to_owned();
    // A thread that nobody waits for: the system's look-up cannot be ended, and may outlast the service.
    let looking = std::thread::Builder::new().spawn(move || {
        let addresses = (name.as_str(), 0).to_socket_addrs();
        let _ = found.send(addresses.map(|found| found.map(|at| at.ip()).collect()).unwrap_or_default());
    });
    if let Err(why) = looking {
        tracing::debug!(reason = %why, "the host name is not looked up");
        return None;
    }
    let addresses: Vec<IpAddr> =
        timeout(FOUND_WITHIN, finding).await.ok().and_then(Result::ok).unwrap_or_default();
    line(host, bind, &addresses)
}

fn line(host: &str, bind: IpAddr, found: &[IpAddr]) -> Option<String> {
    let leads_here = if bind.is_unspecified() { !found.is_empty() } else { found.contains(&bind) };
    let address = match bind {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    (!leads_here).then(|| format!("{address} {host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// DPS-DEV-12
    #[tokio::test]
    async fn a_name_that_leads_elsewhere_or_nowhere_needs_a_line_in_the_hosts_file() {
        let (here, elsewhere, any) = (address("127.0.0.2"), address("192.0.2.1"), address("0.0.0.0"));
        let expected = Some("127.0.0.2 dps.test".to_owned());
        assert_eq!(line("dps.test", here, &[]), expected);
        assert_eq!(line("dps.test", here, &[elsewhere]), expected);
        assert_eq!(line("dps.test", here, &[elsewhere, here]), None);
        assert_eq!(line("dps.test", any, &[elsewhere]), None);
        assert_eq!(line("dps.test", any, &[]), Some("127.0.0.1 dps.test".to_owned()));
        for known in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(missing_line(known, here).await, None);
        }
    }
}
