//! Connection strings of the service API: where it is, and what opens it. Spec: DPS-CLI-1, DPS-CLI-13 (docs/spec/cli.md).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::key::{BadKey, SymmetricKey};

/// The port of a connection string that names none.
pub const PORT_DEFAULT: u16 = 443;

const HOST_NAME: &str = "HostName";
const POLICY: &str = "SharedAccessKeyName";
const KEY: &str = "SharedAccessKey";

/// Parts that stand in connection strings for something else: whoever pastes one learns what it was.
const FOREIGN: [&str; 6] =
    ["DeviceId", "ModuleId", "GatewayHostName", "SharedAccessSignature", "Endpoint", "EntityPath"];

/// `HostName=<host[:port]>;SharedAccessKeyName=<policy>;SharedAccessKey=<base64>`: the address of a service API and a shared access
/// policy of it. It has no `Display`, and its `Debug` shows no key.
#[derive(Clone)]
pub struct ServiceConnectionString {
    authority: Box<str>,
    host: Box<str>,
    port: u16,
    policy: Box<str>,
    key: SymmetricKey,
}

/// Why a text is not a connection string. Never holds a piece of the text that may be the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConnectionString {
    /// A part without a name and `=`.
    #[error("part {0} is not of the form NAME=VALUE")]
    Form(usize),
    /// A part of another name.
    #[error("part {0} is none of HostName, SharedAccessKeyName and SharedAccessKey")]
    Unknown(usize),
    /// A part that belongs to a connection string of something else.
    #[error("{0} has no place here: this is the connection string of a device, a hub or another service")]
    Foreign(&'static str),
    /// A part stands twice.
    #[error("{0} stands twice")]
    Repeated(&'static str),
    /// A part is absent or empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// `HostName` is not a host name or an address, with or without a port.
    #[error("HostName is not of the form HOST or HOST:PORT")]
    Host,
    /// `SharedAccessKey` is not a key.
    #[error("SharedAccessKey: {0}")]
    Key(BadKey),
}

impl ServiceConnectionString {
    /// Host and port as the text spells them: what requests and tokens name.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, [`PORT_DEFAULT`] where the text has none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Name of the shared access policy.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Key of the shared access policy.
    pub fn key(&self) -> &SymmetricKey {
        &self.key
    }

    /// The text, which is read back as the same connection string, for the store to seal.
    pub fn expose(&self) -> Zeroizing<String> {
        let key = self.key.expose_base64();
        let parts = [HOST_NAME, "=", &self.authority, ";", POLICY, "=", &self.policy, ";", KEY, "=", &key];
        // Of the length that it has in the end: growing would leave copies of the key.
        let mut text = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
        parts.iter().for_each(|part| text.push_str(part));
        text
    }
}

/// Compares the keys in constant time.
impl PartialEq for ServiceConnectionString {
    fn eq(&self, other: &Self) -> bool {
        self.authority == other.authority && self.policy == other.policy && self.key.is_same(&other.key)
    }
}

impl Eq for ServiceConnectionString {}

impl FromStr for ServiceConnectionString {
    type Err = BadConnectionString;

    /// Parts in any order, their names in any case, white space around the whole.
    fn from_str(text: &str) -> Result<Self, BadConnectionString> {
        use BadConnectionString::{Foreign, Form, Key, Repeated, Unknown};
        let (mut host_name, mut policy, mut key) = (None, None, None);
        let text = text.trim();
        let text = text.strip_suffix(';').unwrap_or(text);
        for (at, part) in text.split(';').enumerate() {
            // Base64 ends in `=`: only the first one parts the name from the value.
            let (name, value) = part.split_once('=').ok_or(Form(at + 1))?;
            let is = |word: &str| word.eq_ignore_ascii_case(name.trim());
            let (slot, name) = match [HOST_NAME, POLICY, KEY].into_iter().find(|word| is(word)) {
                Some(HOST_NAME) => (&mut host_name, HOST_NAME),
                Some(POLICY) => (&mut policy, POLICY),
                Some(_) => (&mut key, KEY),
                None => {
                    return Err(FOREIGN.into_iter().find(|word| is(word)).map_or(Unknown(at + 1), Foreign));
                }
            };
            if slot.replace(value.trim()).is_some() {
                return Err(Repeated(name));
            }
        }
        let authority = given(host_name, HOST_NAME)?;
        let policy = given(policy, POLICY)?;
        let key = given(key, KEY)?;
        let (host, port) = host_and_port(authority)?;
        Ok(Self {
            authority: authority.into(),
            host: host.into(),
            port,
            policy: policy.into(),
            key: key.parse().map_err(Key)?,
        })
    }
}

fn given<'t>(value: Option<&'t str>, name: &'static str) -> Result<&'t str, BadConnectionString> {
    value.filter(|text| !text.is_empty()).ok_or(BadConnectionString::Missing(name))
}

fn host_and_port(authority: &str) -> Result<(&str, u16), BadConnectionString> {
    const BAD: BadConnectionString = BadConnectionString::Host;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(BAD)?;
            address.parse::<Ipv6Addr>().map_err(|_| BAD)?;
            (address, port)
        }
        None => {
            let at = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(at);
            let in_names = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if host.is_empty() || host.len() > 253 || !host.bytes().all(in_names) {
                return Err(BAD);
            }
            (host, port)
        }
    };
    if port.is_empty() {
        return Ok((host, PORT_DEFAULT));
    }
    let digits =
        port.strip_prefix(':').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).ok_or(BAD)?;
    match digits.parse() {
        Ok(0) | Err(_) => Err(BAD),
        Ok(port) => Ok((host, port)),
    }
}

impl fmt::Debug for ServiceConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceConnectionString")
            .field("host_name", &self.authority)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTIzNDU2Nzg=";

    #[track_caller]
    fn read(text: &str) -> ServiceConnectionString {
        text.replace("{key}", SECRET).parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    /// DPS-CLI-1
    #[test]
    fn parts_stand_in_any_order_and_their_names_in_any_case() {
        for text in [
            "HostName=localhost:18443;SharedAccessKeyName=owner;SharedAccessKey={key}",
            "sharedaccesskey={key};SHAREDACCESSKEYNAME=owner;hostname=localhost:18443",
            " HostName=localhost:18443; SharedAccessKey = {key} ;SharedAccessKeyName=owner;\n",
        ] {
            let read = read(text);
            assert_eq!((read.authority(), read.host(), read.port()), ("localhost:18443", "localhost", 18443));
            assert_eq!((read.policy(), &**read.key().expose_base64()), ("owner", SECRET));
        }
    }

    /// DPS-STORE-6
    #[test]
    fn an_exposed_connection_string_is_read_back_as_the_same() {
        for (text, expected) in [
            (
                "sharedaccesskey={key};HOSTNAME=Hub.example:8443;SharedAccessKeyName= a=b ",
                "HostName=Hub.example:8443;SharedAccessKeyName=a=b;SharedAccessKey={key}",
            ),
            (
                "HostName=[::1];SharedAccessKeyName=owner;SharedAccessKey={key}",
                "HostName=[::1];SharedAccessKeyName=owner;SharedAccessKey={key}",
            ),
        ] {
            let first = read(text);
            assert_eq!(*first.expose(), expected.replace("{key}", SECRET));
            assert_eq!(read(&first.expose()), first);
            let other = first.expose().replace("=b", "=c").replace("owner", "reader");
            assert_ne!(read(&other), first);
        }
    }

    /// DPS-CLI-1
    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for (host_name, host, port) in [
            ("my-dps.azure-devices-provisioning.net", "my-dps.azure-devices-provisioning.net", 443),
            ("127.0.0.1:8443", "127.0.0.1", 8443),
            ("[::1]", "::1", 443),
            ("[::1]:8443", "::1", 8443),
        ] {
            let read =
                read(&format!("HostName={host_name};SharedAccessKeyName=owner;SharedAccessKey={{key}}"));
            assert_eq!((read.authority(), read.host(), read.port()), (host_name, host, port));
        }
    }

    /// DPS-CLI-1, DPS-CLI-13
    #[test]
    fn an_error_names_the_part_and_holds_nothing_of_the_key() {
        use BadConnectionString::*;
        let rows = [
            ("", Form(1)),
            ("HostName=a;SharedAccessKeyName=b", Missing("SharedAccessKey")),
            ("HostName=a;SharedAccessKeyName=;SharedAccessKey={key}", Missing("SharedAccessKeyName")),
            ("SharedAccessKeyName=b;SharedAccessKey={key}", Missing("HostName")),
            ("HostName=a;HostName=b;SharedAccessKey={key}", Repeated("HostName")),
            ("HostName=a;SharedAccessKeyName=b;{key}", Unknown(3)),
            ("HostName=a;DeviceId=b;SharedAccessKey={key}", Foreign("DeviceId")),
            ("HostName=a:b;SharedAccessKeyName=b;SharedAccessKey={key}", Host),
            ("HostName=a:0;SharedAccessKeyName=b;SharedAccessKey={key}", Host),
            ("HostName=a:+1;SharedAccessKeyName=b;SharedAccessKey={key}", Host),
            ("HostName=a/b;SharedAccessKeyName=b;SharedAccessKey={key}", Host),
            ("HostName=[::1;SharedAccessKeyName=b;SharedAccessKey={key}", Host),
            ("HostName=::1;SharedAccessKeyName=b;SharedAccessKey={key}", Host),
            ("HostName=a;SharedAccessKeyName=b;SharedAccessKey={key}=?", Key(BadKey::NotBase64)),
        ];
        for (text, expected) in rows {
            let text = text.replace("{key}", SECRET);
            let why = text.parse::<ServiceConnectionString>().unwrap_err();
            assert_eq!(why, expected, "{text}");
            assert!(!format!("{why} {why:?}").contains(&SECRET[..6]), "{why}");
        }
    }

    #[test]
    fn a_connection_string_prints_no_key() {
        let shown = format!("{:?}", read("HostName=a;SharedAccessKeyName=owner;SharedAccessKey={key}"));
        assert!(shown.contains("owner") && !shown.contains(&SECRET[..6]), "{shown}");
    }
}
