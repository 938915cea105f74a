//! A URL that a user set. Spec: DPS-HUB-1.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;

/// Longest URL that is read, in bytes. Spec: DPS-HUB-1.
pub const URL_BYTES_MAX: usize = 2_048;

/// What is shown in place of a query: it often is a password.
const MASKED_QUERY: &str = "?****";

/// An `https` URL. `Display` and `Debug` leave its query out. Spec: DPS-HUB-1, DPS-HUB-8.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpsUrl(Url);

/// Why a text is no URL that a request may be sent to. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Longer than [`URL_BYTES_MAX`].
    #[error("the URL is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// No URL, or one without a host.
    #[error("this is no URL with a host, such as https://host.example/path")]
    Form,
    /// Another scheme.
    #[error("the URL does not begin with https://")]
    NotHttps,
    /// A user name or a password before the host.
    #[error("the URL has a user name or a password before its host")]
    UserInfo,
    /// A host with an empty label, or port 0.
    #[error("the URL names no host that can be connected to")]
    Host,
}

impl HttpsUrl {
    /// The URL of a path at `authority`, a host with or without a port.
    ///
    /// # Errors
    /// As for any text.
    pub(crate) fn of(authority: &str, path: &str) -> Result<Self, BadUrl> {
        format!("https://{authority}{path}").parse()
    }

    /// The host in lower case: a name without a dot at its end, or an address without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Host and port, as they are shown in messages.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The address, where the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for HttpsUrl {
    type Err = BadUrl;

    /// Reads as browsers do (WHATWG): `https://0x7f.1` is `https://127.0.0.1/`.
    fn from_str(text: &str) -> Result<Self, BadUrl> {
        if text.len() > URL_BYTES_MAX {
            return Err(BadUrl::TooLong);
        }
        let mut url = Url::parse(text).map_err(|_| BadUrl::Form)?;
        if url.scheme() != "https" {
            return Err(BadUrl::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl::UserInfo);
        }
        let host = url.host_str().ok_or(BadUrl::Form)?.to_owned();
        // The name of a certificate has no dot at its end, nor has a name in the list of allowed targets.
        let name = host.strip_suffix('.').unwrap_or(&host);
        if name.len() > 253 || name.split('.').any(str::is_empty) || url.port() == Some(0) {
            return Err(BadUrl::Host);
        }
        url.set_host(Some(name)).map_err(|_| BadUrl::Host)?;
        url.set_fragment(None);
        Ok(Self(url))
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.0.query().is_some() { MASKED_QUERY } else { "" };
        write!(f, "https://{}{}{query}", self.authority(), self.0.path())
    }
}

impl fmt::Debug for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpsUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-HUB-1, DPS-HUB-3: every spelling of an address is that address, and is judged as it.
    #[test]
    fn a_host_that_is_an_address_in_any_spelling_is_that_address() {
        let rows = [
            ("https://127.0.0.1/", "127.0.0.1"),
            ("https://127.0.0.1./", "127.0.0.1"),
            ("https://127.1/", "127.0.0.1"),
            ("https://127.0.1/", "127.0.0.1"),
            ("https://2130706433/", "127.0.0.1"),
            ("https://0x7f000001/", "127.0.0.1"),
            ("https://0x7f.1/", "127.0.0.1"),
            ("https://0X7F.0x0.0x0.0x1/", "127.0.0.1"),
            ("https://017700000001/", "127.0.0.1"),
            ("https://0177.0.0.01/", "127.0.0.1"),
            ("https://%31%32%37.0.0.1/", "127.0.0.1"),
            ("https://127。0。0。1/", "127.0.0.1"),
            ("https://127.0.0.1/", "127.0.0.1"),
            ("https:\\\\127.0.0.1\\path", "127.0.0.1"),
            ("https:127.0.0.1", "127.0.0.1"),
            ("https:////127.0.0.1", "127.0.0.1"),
            ("  https://127.0.0.1  ", "127.0.0.1"),
            ("https://127.0.\n0.1", "127.0.0.1"),
            ("https://169.254.169.254/latest/meta-data", "169.254.169.254"),
            ("https://2852039166/", "169.254.169.254"),
            ("https://0xA9FEA9FE/", "169.254.169.254"),
            ("https://0251.0376.0251.0376/", "169.254.169.254"),
            ("https://169.254.43518/", "169.254.169.254"),
            ("https://0/", "0.0.0.0"),
            ("https://[::1]/", "::1"),
            ("https://[0:0:0:0:0:0:0:1]:8443/", "::1"),
            ("https://[::ffff:169.254.169.254]/", "::ffff:169.254.169.254"),
            ("https://[::ffff:a9fe:a9fe]/", "::ffff:169.254.169.254"),
            ("https://[fe80::1]/", "fe80::1"),
            ("https://[64:ff9b::7f00:1]/", "64:ff9b::7f00:1"),
        ];
        let allowed = super::super::AllowedTargets::default();
        for (text, address) in rows {
            let url: HttpsUrl = text.parse().unwrap_or_else(|why| panic!("{text:?}: {why}"));
            let expected: IpAddr = address.parse().unwrap();
            assert_eq!(url.address(), Some(expected), "{text:?}");
            assert!(allowed.judge(url.host(), expected).is_err(), "{text:?}");
        }
    }

    /// DPS-HUB-1
    #[test]
    fn a_name_is_in_lower_case_without_a_dot_at_its_end_and_keeps_its_port() {
        let rows = [
            ("https://Hook.Example/a?b=c", "hook.example", "hook.example"),
            ("HTTPS://hook.example./", "hook.example", "hook.example"),
            ("https://hook.example:443/", "hook.example", "hook.example"),
            ("https://hook.example:8443/", "hook.example", "hook.example:8443"),
            ("https://hook.example:08443/", "hook.example", "hook.example:8443"),
            ("https://hook.example#@127.0.0.1/", "hook.example", "hook.example"),
            ("https://hook.example\\@127.0.0.1/", "hook.example", "hook.example"),
            ("https://hook.example?@127.0.0.1/", "hook.example", "hook.example"),
            ("https://[2001:db8::7]:8443/", "2001:db8::7", "[2001:db8::7]:8443"),
            ("https://bücher.example/", "xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("https://localhost/", "localhost", "localhost"),
            ("https://LOCALHOST./", "localhost", "localhost"),
        ];
        for (text, host, authority) in rows {
            let url: HttpsUrl = text.parse().unwrap_or_else(|why| panic!("{text:?}: {why}"));
            assert_eq!((url.host(), &*url.authority()), (host, authority), "{text:?}");
        }
    }

    /// DPS-HUB-1
    #[test]
    fn what_cannot_be_asked_is_refused() {
        let long = format!("https://a/{}", "x".repeat(URL_BYTES_MAX));
        let rows = [
            (&*long, BadUrl::TooLong),
            ("", BadUrl::Form),
            ("hook.example", BadUrl::Form),
            ("https://", BadUrl::Form),
            ("https://256.0.0.1/", BadUrl::Form),
            ("https://0x100000000/", BadUrl::Form),
            ("https://1.2.3.4.5/", BadUrl::Form),
            ("https://[::1%25eth0]/", BadUrl::Form),
            ("https://[fe80::1%eth0]/", BadUrl::Form),
            ("https://a b/", BadUrl::Form),
            ("https://hook.example:65536/", BadUrl::Form),
            ("http://hook.example/", BadUrl::NotHttps),
            ("file:///etc/passwd", BadUrl::NotHttps),
            ("gopher://127.0.0.1:70/", BadUrl::NotHttps),
            ("https://user@hook.example/", BadUrl::UserInfo),
            ("https://user:secret@hook.example/", BadUrl::UserInfo),
            ("https://:secret@hook.example/", BadUrl::UserInfo),
            ("https://hook.example:x@127.0.0.1/", BadUrl::UserInfo),
            ("https://127.0.0.1%20@hook.example/", BadUrl::UserInfo),
            ("https://hook..example/", BadUrl::Host),
            ("https://hook.example../", BadUrl::Host),
            ("https://./", BadUrl::Host),
            ("https://hook.example:0/", BadUrl::Host),
        ];
        for (text, why) in rows {
            assert_eq!(text.parse::<HttpsUrl>(), Err(why), "{text:?}");
        }
    }

    /// DPS-HUB-8
    #[test]
    fn the_query_is_never_shown() {
        let url: HttpsUrl = "https://hook.example/api?code=k3y#frag".parse().unwrap();
        assert_eq!(url.to_string(), "https://hook.example/api?****");
        assert_eq!(format!("{url:?}"), "HttpsUrl(https://hook.example/api?****)");
        assert_eq!(url.url().as_str(), "https://hook.example/api?code=k3y");
    }
}
