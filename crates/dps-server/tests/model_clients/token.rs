//! The SAS tokens of the clients, each in its own spelling. Spec: DPS-SAS-1, DPS-SAS-2, DPS-SAS-5, DPS-SAS-6.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_proto::key::SymmetricKey;

/// How one client writes its token.
pub(crate) struct Token {
    pub(crate) spelling: Spelling,
    /// What follows `se`.
    pub(crate) skn: &'static str,
    /// How long it is good.
    pub(crate) seconds: u64,
}

/// How `sr` is percent-encoded; it is signed as it is written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Spelling {
    Raw,
    Upper,
    Lower,
    /// The ids in upper case, what stands between them in lower.
    Mixed,
}

impl Token {
    pub(crate) fn write(&self, scope: &str, id: &str, key: &SymmetricKey) -> String {
        let resource = match self.spelling {
            Spelling::Raw => format!("{scope}/registrations/{id}"),
            Spelling::Upper | Spelling::Lower => {
                encode(&format!("{scope}/registrations/{id}"), self.spelling)
            }
            Spelling::Mixed => {
                let [scope, id] = [scope, id].map(|part| encode(part, Spelling::Upper));
                format!("{scope}%2fregistrations%2f{id}")
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expiry = (now + self.seconds).to_string();
        let signature = key.sign(&[resource.as_bytes(), b"\n", expiry.as_bytes()]);
        let hex = if self.spelling == Spelling::Lower { Spelling::Lower } else { Spelling::Upper };
        let signature = encode(&STANDARD.encode(signature), hex);
        format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}{}", self.skn)
    }
}

fn encode(text: &str, spelling: Spelling) -> String {
    let escape = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ if spelling == Spelling::Lower => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
