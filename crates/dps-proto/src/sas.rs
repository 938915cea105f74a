//! SAS tokens: parse, verify and sign. Spec: DPS-SAS-1 to DPS-SAS-9 (docs/spec/sas.md).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};

use crate::ids::{DeviceId, HubName, IdScope, RegistrationId};
use crate::key::SymmetricKey;
use crate::percent;

/// Longest token that is read, in bytes. The longest of the official clients stay below 600. Spec: DPS-SAS-1.
pub const TOKEN_BYTES_MAX: usize = 2_048;

/// How far a device's clock may be behind ours. Spec: DPS-SAS-6.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);

const SCHEME: &str = "SharedAccessSignature ";

/// A token as received: `sr` and `se` keep their literal text, over which the signature was made.
#[derive(Clone)]
pub struct SasToken {
    resource: Box<str>,
    signature: Box<[u8]>,
    expiry_text: Box<str>,
    expiry: Timestamp,
    policy: Option<Box<str>>,
}

/// Why a text is not a token. Never holds the text: a log may show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedToken {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Bytes that are not UTF-8.
    #[error("the token is not text")]
    NotText,
    /// Something other than `SharedAccessSignature ` at the start.
    #[error("the token does not begin with \"SharedAccessSignature \"")]
    Scheme,
    /// A piece of the list has no `=`.
    #[error("a part of the token has no '='")]
    Part,
    /// One of `sr`, `sig`, `se` is missing.
    #[error("the token has no {0}")]
    Missing(&'static str),
    /// One of `sr`, `sig`, `se`, `skn` stands twice.
    #[error("the token has more than one {0}")]
    Repeated(&'static str),
    /// `sig` is not percent-encoded Base64.
    #[error("sig is not Base64")]
    Signature,
    /// `se` is not whole seconds since 1970.
    #[error("se is not a whole number of seconds")]
    Expiry,
}

impl SasToken {
    /// Reads a token. Spec: DPS-SAS-1.
    pub fn parse(bytes: &[u8]) -> Result<Self, MalformedToken> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(MalformedToken::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| MalformedToken::NotText)?;
        let list = text.strip_prefix(SCHEME).ok_or(MalformedToken::Scheme)?;
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for part in list.split('&') {
            let (name, value) = part.split_once('=').ok_or(MalformedToken::Part)?;
            let (slot, name) = match name.trim() {
                "sr" => (&mut sr, "sr"),
                "sig" => (&mut sig, "sig"),
                "se" => (&mut se, "se"),
                "skn" => (&mut skn, "skn"),
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(MalformedToken::Repeated(name));
            }
        }
        let resource = sr.filter(|text| !text.is_empty()).ok_or(MalformedToken::Missing("sr"))?;
        let signature = sig.ok_or(MalformedToken::Missing("sig"))?;
        let expiry_text = se.ok_or(MalformedToken::Missing("se"))?;

        // DPS-SAS-4: `+` is a Base64 digit here, not a space.
        let signature = percent::decode(signature).ok_or(MalformedToken::Signature)?;
        let signature = STANDARD.decode(signature).map_err(|_| MalformedToken::Signature)?;
        if expiry_text.is_empty() || !expiry_text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(MalformedToken::Expiry);
        }
        // Beyond what the calendar can hold is as good as for ever: some firmware sets the largest number there is.
        let seconds = expiry_text.parse::<i64>().unwrap_or(i64::MAX);
        let expiry = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        Ok(Self {
            resource: resource.into(),
            signature: signature.into(),
            expiry_text: expiry_text.into(),
            expiry,
            policy: skn.map(Into::into),
        })
    }

    /// Whether `key` made the signature, over the literal texts received. Spec: DPS-SAS-2, DPS-SAS-4.
    pub fn is_signed_by(&self, key: &SymmetricKey) -> bool {
        key.verifies(&[self.resource.as_bytes(), b"\n", self.expiry_text.as_bytes()], &self.signature)
    }

    /// Whether the token speaks for this device. Spec: DPS-SAS-3.
    pub fn is_for(&self, scope: &IdScope, id: &RegistrationId) -> bool {
        percent::decode(&self.resource)
            .is_some_and(|resource| resource.eq_ignore_ascii_case(&device_resource(scope, id)))
    }

    /// Whether the token speaks for this device at its hub: the host in any case, the device id exactly. Spec: DPS-BROKER-7.
    pub fn is_for_hub_device(&self, hub: &HubName, device_id: &DeviceId) -> bool {
        let names = |resource: &str| {
            resource.split_once('/').is_some_and(|(host, rest)| {
                host.eq_ignore_ascii_case(hub.as_str())
                    && rest.strip_prefix("devices/").is_some_and(|id| id == device_id.as_str())
            })
        };
        // An id may hold `%`, and some clients encode nothing.
        names(&self.resource) || percent::decode(&self.resource).is_some_and(|resource| names(&resource))
    }

    /// Whether the token had expired, with [`SKEW`], at `at`. Spec: DPS-SAS-6.
    pub fn is_expired_at(&self, at: Timestamp) -> bool {
        self.expiry.checked_add(SKEW).is_ok_and(|last| last < at)
    }

    /// The literal text of `sr`. For logs and explanations there is [`SasToken::shown_resource`].
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The literal text of `sr`, unless it might be a key that was put there by mistake. Spec: DPS-EXPLAIN-5.
    pub fn shown_resource(&self) -> &str {
        let decoded = percent::decode(&self.resource);
        let text = decoded.as_deref().unwrap_or(&self.resource);
        let lower = text.to_ascii_lowercase();
        let is_path = lower.contains("/registrations/") || lower.contains("/devices/");
        if !is_path && text.parse::<SymmetricKey>().is_ok() {
            return "(not shown, as it might be a key)";
        }
        &self.resource
    }

    /// The expiry that `se` names.
    pub fn expiry(&self) -> Timestamp {
        self.expiry
    }

    /// The policy name, where there is one. Spec: DPS-SAS-5.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }
}

impl fmt::Debug for SasToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasToken")
            .field("sr", &self.shown_resource())
            .field("se", &self.expiry_text)
            .finish_non_exhaustive()
    }
}

/// `{idScope}/registrations/{registrationId}`: what a device's token is about. Spec: DPS-SAS-3.
pub fn device_resource(scope: &IdScope, id: &RegistrationId) -> String {
    format!("{scope}/registrations/{id}")
}

/// `{hub}/devices/{deviceId}`: what a device's token for its hub is about. Spec: DPS-BROKER-7.
pub fn hub_device_resource(hub: &HubName, device_id: &DeviceId) -> String {
    format!("{hub}/devices/{device_id}")
}

/// Signs a device's token as most official clients do: encoded `sr`, then `sig`, `se`, `skn=registration`.
pub fn sign_device_token(
    scope: &IdScope,
    id: &RegistrationId,
    key: &SymmetricKey,
    expiry: Timestamp,
) -> String {
    let resource = percent::encode(&device_resource(scope, id));
    let expiry = expiry.as_second().to_string();
    let signature = key.sign(&[resource.as_bytes(), b"\n", expiry.as_bytes()]);
    let signature = percent::encode(&STANDARD.encode(signature));
    format!("{SCHEME}sr={resource}&sig={signature}&se={expiry}&skn=registration")
}

/// Signs a token for the service API as Azure's command line does: `sr` is the percent-encoded host, with its port where the
/// connection string has one; then `sig`, `se`, `skn`. Spec: DPS-CLI-2 (docs/spec/cli.md).
pub fn sign_service_token(host: &str, policy: &str, key: &SymmetricKey, expiry: Timestamp) -> String {
    let resource = percent::encode(host);
    let expiry = expiry.as_second().to_string();
    let signature = key.sign(&[resource.as_bytes(), b"\n", expiry.as_bytes()]);
    let signature = percent::encode(&STANDARD.encode(signature));
    let policy = percent::encode(policy);
    format!("{SCHEME}sr={resource}&sig={signature}&se={expiry}&skn={policy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY: i64 = 1_800_000_000;

    fn key() -> SymmetricKey {
        SymmetricKey::from_bytes((0..32).collect()).unwrap()
    }

    fn device() -> (IdScope, RegistrationId) {
        ("0ne00000000".parse().unwrap(), "Device:1".parse().unwrap())
    }

    /// A token over `sr` as spelled, its parts in the order of `form`.
    fn token(sr: &str, form: &str) -> String {
        let expiry = EXPIRY.to_string();
        let signature = STANDARD.encode(key().sign(&[sr.as_bytes(), b"\n", expiry.as_bytes()]));
        let list = form
            .replace("{sr}", sr)
            .replace("{SIG}", &percent::encode(&signature))
            .replace(
                "{sig}",
                &percent::encode(&signature)
                    .replace("%2B", "%2b")
                    .replace("%2F", "%2f")
                    .replace("%3D", "%3d"),
            )
            .replace("{rawsig}", &signature)
            .replace("{se}", &expiry);
        format!("SharedAccessSignature {list}")
    }

    /// DPS-SAS-1, DPS-SAS-2, DPS-SAS-4, DPS-SAS-5: each row is how one official client writes it.
    #[test]
    fn the_spellings_of_every_official_client_verify() {
        let rows = [
            ("Python", "0ne00000000%2Fregistrations%2FDevice%3A1", "sr={sr}&sig={SIG}&se={se}"),
            ("Node", "0ne00000000/registrations/Device:1", "sr={sr}&sig={SIG}&skn=registration&se={se}"),
            ("C", "0ne00000000%2fregistrations%2fDevice%3a1", "sr={sr}&sig={sig}&se={se}&skn=registration"),
            ("Java", "0ne00000000/registrations/Device:1", "sr={sr}&sig={SIG}&se={se}&skn="),
            ("C#", "0ne00000000%2Fregistrations%2FDevice%3A1", "sr={sr}&sig={SIG}&se={se}&skn=registration"),
            ("sdk-for-c", "0ne00000000%2fregistrations%2fDevice%3A1", "sr={sr}&sig={SIG}&se={se}"),
            (
                "identity-service",
                "0ne00000000%2Fregistrations%2Fdevice%3A1",
                "sr={sr}&sig={SIG}&se={se}&skn=registration",
            ),
            (
                "order of the documentation, raw signature",
                "0ne00000000/registrations/Device:1",
                "se={se}&skn=x&sig={rawsig}&sr={sr}",
            ),
        ];
        let (scope, id) = device();
        for (client, sr, form) in rows {
            let text = token(sr, form);
            let parsed = SasToken::parse(text.as_bytes()).unwrap_or_else(|why| panic!("{client}: {why}"));
            assert!(parsed.is_signed_by(&key()), "{client}: {text}");
            assert!(parsed.is_for(&scope, &id), "{client}: {text}");
            assert!(!parsed.is_signed_by(&SymmetricKey::from_bytes(vec![9; 32]).unwrap()), "{client}");
        }
    }

    /// DPS-SAS-2: the same resource in another spelling has another signature.
    #[test]
    fn a_signature_over_another_spelling_does_not_verify() {
        let signed_raw = token("0ne00000000/registrations/Device:1", "sr={sr}&sig={SIG}&se={se}");
        let respelled = signed_raw.replace("0ne00000000/registrations/", "0ne00000000%2Fregistrations%2F");
        assert!(!SasToken::parse(respelled.as_bytes()).unwrap().is_signed_by(&key()));
    }

    /// DPS-SAS-3
    #[test]
    fn a_token_for_another_device_or_scope_is_not_for_this_one() {
        let (scope, id) = device();
        for sr in [
            "0ne00000000%2Fregistrations%2FDevice%3A2",
            "0ne00000001%2Fregistrations%2FDevice%3A1",
            "0ne00000000%252Fregistrations%252FDevice%253A1",
            "0ne00000000%2Fregistrations%2FDevice%3A1%2Fregister",
            "0ne00000000%2Fregistrations%2FDevice%3",
        ] {
            let parsed = SasToken::parse(token(sr, "sr={sr}&sig={SIG}&se={se}").as_bytes()).unwrap();
            assert!(!parsed.is_for(&scope, &id), "{sr}");
        }
    }

    /// DPS-BROKER-7
    #[test]
    fn a_token_for_a_hub_speaks_for_one_device_of_it() {
        let is_for = |sr: &str, hub: &str, id: &str| {
            let parsed = SasToken::parse(token(sr, "sr={sr}&sig={SIG}&se={se}").as_bytes()).unwrap();
            parsed.is_for_hub_device(&hub.parse().unwrap(), &id.parse().unwrap())
        };
        for sr in [
            "hub.localhost%2Fdevices%2FPress%3A7",
            "HUB.localhost/devices/Press:7",
            "hub.localhost%2fdevices%2fPress%3a7",
        ] {
            assert!(is_for(sr, "Hub.Localhost", "Press:7"), "{sr}");
            assert!(!is_for(sr, "hub.localhost", "press:7"), "hubs tell case apart: {sr}");
            assert!(!is_for(sr, "other.localhost", "Press:7"), "{sr}");
        }
        assert!(is_for("hub.localhost/devices/a%41", "hub.localhost", "a%41"));
        assert!(is_for("hub.localhost%2Fdevices%2Fa%2541", "hub.localhost", "a%41"));
        for sr in [
            "hub.localhost",
            "hub.localhost%2Fdevices",
            "hub.localhost%2Fdevices%2F",
            "hub.localhost%2Fdevices%2Fa%2Fmodules%2Fm",
            "hub.localhost%2Fdevices%2Fab",
            "hub.localhost%252Fdevices%252Fa",
            "0ne00000000%2Fregistrations%2Fa",
            "devices%2Fa",
        ] {
            assert!(!is_for(sr, "hub.localhost", "a"), "{sr}");
        }
    }

    /// DPS-SAS-6
    #[test]
    fn a_token_lives_five_minutes_longer_than_it_says() {
        let text = token("0ne00000000/registrations/Device:1", "sr={sr}&sig={SIG}&se={se}");
        let parsed = SasToken::parse(text.as_bytes()).unwrap();
        let at = |seconds| Timestamp::from_second(EXPIRY + seconds).unwrap();
        assert!(!parsed.is_expired_at(at(0)));
        assert!(!parsed.is_expired_at(at(300)));
        assert!(parsed.is_expired_at(at(301)));
    }

    /// DPS-SAS-6
    #[test]
    fn an_expiry_beyond_the_calendar_never_comes() {
        let text = "SharedAccessSignature sr=a&sig=AA==&se=99999999999999999999999";
        assert!(!SasToken::parse(text.as_bytes()).unwrap().is_expired_at(Timestamp::MAX));
    }

    /// DPS-SAS-1
    #[test]
    fn what_is_no_token_is_named() {
        use MalformedToken::*;
        let rows: [(&[u8], MalformedToken); 12] = [
            (b"", Scheme),
            (b"hunter2", Scheme),
            (b"sharedaccesssignature sr=a&sig=AA==&se=1", Scheme),
            (b"SharedAccessSignature ", Part),
            (b"SharedAccessSignature sr=a&sig", Part),
            (b"SharedAccessSignature sig=AA==&se=1", Missing("sr")),
            (b"SharedAccessSignature sr=&sig=AA==&se=1", Missing("sr")),
            (b"SharedAccessSignature sr=a&se=1", Missing("sig")),
            (b"SharedAccessSignature sr=a&sr=b&sig=AA==&se=1", Repeated("sr")),
            (b"SharedAccessSignature sr=a&sig=%zz&se=1", Signature),
            (b"SharedAccessSignature sr=a&sig=AA==&se=-1", Expiry),
            (b"SharedAccessSignature sr=\xff&sig=AA==&se=1", NotText),
        ];
        for (text, expected) in rows {
            assert_eq!(
                SasToken::parse(text).map(|_| ()),
                Err(expected),
                "{:?}",
                String::from_utf8_lossy(text)
            );
        }
        assert_eq!(SasToken::parse(&[b'a'; TOKEN_BYTES_MAX + 1]).map(|_| ()), Err(TooLong));
    }

    #[test]
    fn a_signed_token_verifies_and_prints_no_signature() {
        let (scope, id) = device();
        let text = sign_device_token(&scope, &id, &key(), Timestamp::from_second(EXPIRY).unwrap());
        let parsed = SasToken::parse(text.as_bytes()).unwrap();
        assert!(parsed.is_signed_by(&key()) && parsed.is_for(&scope, &id));
        let signature = text.split("sig=").nth(1).unwrap().split('&').next().unwrap();
        assert!(!format!("{parsed:?}").contains(&signature[..8]));
    }

    /// DPS-EXPLAIN-5
    #[test]
    fn a_key_in_place_of_a_resource_is_not_shown() {
        let key = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
        for shown in [
            "0ne00000000/registrations/dev1",
            "0ne00000000%2Fregistrations%2Fdev1",
            "hub.x%2Fdevices%2Fdev1",
            "dps.example",
            "a%",
        ] {
            let parsed = SasToken::parse(token(shown, "sr={sr}&sig={SIG}&se={se}").as_bytes()).unwrap();
            assert_eq!(parsed.shown_resource(), shown);
        }
        for hidden in [key, &percent::encode(key), key.trim_end_matches('=')] {
            let parsed = SasToken::parse(token(hidden, "sr={sr}&sig={SIG}&se={se}").as_bytes()).unwrap();
            assert!(!parsed.shown_resource().contains(&key[..8]));
            assert!(!format!("{parsed:?}").contains(&key[..8]));
        }
    }

    /// DPS-CLI-2: as captured from Azure's command line, but for key and signature.
    #[test]
    fn a_service_token_names_the_encoded_host_with_its_port_and_then_the_policy() {
        let expiry = Timestamp::from_second(1_795_384_808).unwrap();
        let text = sign_service_token("localhost:18443", "provisioningserviceowner", &key(), expiry);
        let (head, rest) = text.split_once("&sig=").unwrap();
        assert_eq!(head, "SharedAccessSignature sr=localhost%3A18443");
        let (signature, tail) = rest.split_once('&').unwrap();
        assert_eq!(tail, "se=1795384808&skn=provisioningserviceowner");
        assert!(signature.ends_with("%3D"), "{signature}");
        let parsed = SasToken::parse(text.as_bytes()).unwrap();
        assert!(parsed.is_signed_by(&key()));
        assert_eq!(parsed.policy(), Some("provisioningserviceowner"));
    }
}
