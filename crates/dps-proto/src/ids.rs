//! Identifiers. Spec: DPS-ID-1 to DPS-ID-8 (docs/spec/ids.md).
//!
//! Each type has one door, [`std::str::FromStr`]; whoever holds a value need not check it again.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

/// Longest registration id, enrollment group id and device id, in characters. Spec: DPS-ID-1.
pub const ID_CHARACTERS_MAX: usize = 128;

/// Why a text is not an identifier of the asked kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// The text is empty or longer than the kind allows.
    #[error("it has {0} characters")]
    Length(usize),
    /// A character that the kind does not allow.
    #[error("it holds the character {0:?}")]
    Character(char),
    /// The last character is one that may only stand inside.
    #[error("it ends in {0:?}")]
    LastCharacter(char),
    /// The text is kept for something else.
    #[error("{0:?} is reserved")]
    Reserved(String),
    /// The text does not have the form of its kind.
    #[error("it is not of the form {0}")]
    Form(&'static str),
}

/// Spec: DPS-ID-1, the rule that registration ids and enrollment group ids share.
fn check_registration_form(text: &str) -> Result<(), BadId> {
    if text.is_empty() || text.len() > ID_CHARACTERS_MAX {
        return Err(BadId::Length(text.chars().count()));
    }
    if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-._:".contains(*c))) {
        return Err(BadId::Character(bad));
    }
    match text.chars().next_back() {
        Some(last) if !(last.is_ascii_alphanumeric() || last == '-') => Err(BadId::LastCharacter(last)),
        _ => Ok(()),
    }
}

/// An id that is compared ignoring ASCII case and shown as it was first written. Spec: DPS-ID-2.
macro_rules! case_folding_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            spelling: Box<str>,
            /// Only where it differs from the spelling, which is rare.
            folded: Option<Box<str>>,
        }

        impl $name {
            fn from_checked(text: &str) -> Self {
                let folded = text.bytes().any(|b| b.is_ascii_uppercase()).then(|| text.to_ascii_lowercase().into());
                Self { spelling: text.into(), folded }
            }

            /// The spelling it was given in.
            pub fn as_str(&self) -> &str {
                &self.spelling
            }

            /// The lower-case form, by which it is compared and looked up. Spec: DPS-ID-2.
            pub fn folded(&self) -> &str {
                self.folded.as_deref().unwrap_or(&self.spelling)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.folded() == other.folded()
            }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.folded().cmp(other.folded())
            }
        }
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.folded().hash(state);
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.spelling)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.spelling)
            }
        }
    };
}

case_folding_id! {
    /// Names one device to the service. Spec: DPS-ID-1, DPS-ID-2.
    RegistrationId
}
case_folding_id! {
    /// Names one enrollment group. Spec: DPS-ID-1, DPS-ID-2.
    EnrollmentGroupId
}
case_folding_id! {
    /// Names one service instance. Spec: DPS-ID-2, DPS-ID-3.
    IdScope
}
case_folding_id! {
    /// The host name of a linked hub. Spec: DPS-ID-8.
    HubName
}
case_folding_id! {
    /// Names one shared access policy, in the `skn` of tokens. Spec: DPS-ACCESS-1.
    PolicyName
}

impl FromStr for PolicyName {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        if !(1..=64).contains(&text.len()) {
            return Err(BadId::Length(text.chars().count()));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(*c))) {
            Some(bad) => Err(BadId::Character(bad)),
            None => Ok(Self::from_checked(text)),
        }
    }
}

impl FromStr for RegistrationId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        check_registration_form(text).map(|()| Self::from_checked(text))
    }
}

impl FromStr for EnrollmentGroupId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        check_registration_form(text).map(|()| Self::from_checked(text))
    }
}

impl IdScope {
    /// First path segments of the service API: an ID scope of that text would make a path ambiguous. Spec: DPS-ID-3.
    const RESERVED: [&str; 3] = ["enrollments", "enrollmentgroups", "registrations"];

    /// Whether a path that begins so belongs to the service API. Spec: DPS-ID-3.
    pub fn is_reserved(text: &str) -> bool {
        Self::RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text))
    }

    /// A new ID scope from four random bytes. Spec: DPS-ID-3.
    pub fn generate(random: [u8; 4]) -> Self {
        Self::from_checked(&format!("0ne{:08X}", u32::from_be_bytes(random)))
    }
}

impl FromStr for IdScope {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric()) {
            return Err(BadId::Character(bad));
        }
        if !(4..=32).contains(&text.len()) {
            return Err(BadId::Length(text.len()));
        }
        if Self::is_reserved(text) {
            return Err(BadId::Reserved(text.to_owned()));
        }
        Ok(Self::from_checked(text))
    }
}

impl FromStr for HubName {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        if text.is_empty() || text.len() > 253 {
            return Err(BadId::Length(text.chars().count()));
        }
        if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-.".contains(*c))) {
            return Err(BadId::Character(bad));
        }
        let well_formed =
            |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        if text.split('.').all(well_formed) {
            Ok(Self::from_checked(text))
        } else {
            Err(BadId::Form("host.example: labels of 1 to 63 characters that neither begin nor end in '-'"))
        }
    }
}

/// Names a device at its hub; compared with case, as hubs do. Spec: DPS-ID-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Box<str>);

impl DeviceId {
    /// What would make several levels of an id, or a pattern: MQTT's separator and wildcards, and those of AMQP 0-9-1, as which
    /// RabbitMQ writes them. `$` is none of them: it means something at the start of a topic alone, where no id stands.
    const MEANT_IN_TOPICS: [char; 5] = ['/', '.', '+', '*', '#'];

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the id can stand in a broker's topics as a level that means this device and no other. Spec: DPS-BROKER-11.
    ///
    /// # Errors
    /// The first character that forbids it.
    pub fn check_level(&self) -> Result<(), NotALevel> {
        match self.0.chars().find(|character| Self::MEANT_IN_TOPICS.contains(character)) {
            Some(character) => Err(NotALevel(character)),
            None => Ok(()),
        }
    }
}

/// A device id that is more than one level of a topic, or a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device id holds {0:?}, which means something in the broker's topics")]
pub struct NotALevel(pub char);

impl FromStr for DeviceId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        if text.is_empty() || text.len() > ID_CHARACTERS_MAX {
            return Err(BadId::Length(text.chars().count()));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-:.+%_#*?!(),=@;$'".contains(*c))) {
            Some(bad) => Err(BadId::Character(bad)),
            None => Ok(Self(text.into())),
        }
    }
}

impl From<&RegistrationId> for DeviceId {
    /// Every registration id is a device id too, in its own spelling. Spec: DPS-REG-18.
    fn from(id: &RegistrationId) -> Self {
        Self(id.as_str().into())
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The key with which a service instance recognises its own operation ids. Never printed.
#[derive(Clone)]
pub struct InstanceSecret([u8; 32]);

impl InstanceSecret {
    /// Takes 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the store to seal.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for InstanceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstanceSecret(..)")
    }
}

/// Names one operation of one device: `5.{16 hex}.{guid}`, always 55 characters. Spec: DPS-ID-4, DPS-ID-5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OperationId {
    tag: u64,
    guid: Uuid,
}

impl OperationId {
    /// Length of the text, fixed: small clients reserve a buffer for it.
    pub const CHARACTERS: usize = 55;

    /// The operation id of `guid` for one device. Spec: DPS-ID-4.
    pub fn derive(secret: &InstanceSecret, scope: &IdScope, id: &RegistrationId, guid: Uuid) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
        let mut context = hmac::Context::with_key(&key);
        // A separator that no id may hold keeps (scope, id) pairs apart.
        context.update(scope.folded().as_bytes());
        context.update(b"\n");
        context.update(id.folded().as_bytes());
        context.update(b"\n");
        context.update(guid.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&context.sign().as_ref()[..8]);
        Self { tag: u64::from_be_bytes(first), guid }
    }

    /// Whether this service instance issued it to this device. Spec: DPS-ID-5.
    pub fn belongs_to(&self, secret: &InstanceSecret, scope: &IdScope, id: &RegistrationId) -> bool {
        // Not secret-dependent on the peer's side: a guess at 64 bits gains nothing but one's own state.
        Self::derive(secret, scope, id, self.guid).tag == self.tag
    }

    /// The random part.
    pub fn guid(&self) -> Uuid {
        self.guid
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "5.{:016x}.{}", self.tag, self.guid.as_hyphenated())
    }
}

impl FromStr for OperationId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        const FORM: BadId = BadId::Form("5.{16 hex digits}.{guid}");
        if text.len() != Self::CHARACTERS || !text.is_ascii() || text.bytes().any(|b| b.is_ascii_uppercase())
        {
            return Err(FORM);
        }
        let rest = text.strip_prefix("5.").ok_or(FORM)?;
        let (tag, guid) = rest.split_once('.').ok_or(FORM)?;
        if tag.len() != 16 || !tag.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(FORM);
        }
        let tag = u64::from_str_radix(tag, 16).map_err(|_| FORM)?;
        let guid = Uuid::try_parse(guid).map_err(|_| FORM)?;
        Ok(Self { tag, guid })
    }
}

/// The version of a stored record, opaque to everyone but its writer. Spec: DPS-ID-6.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(Box<str>);

impl ETag {
    /// Makes one from 16 random bytes; the last four are replaced by the time of the write, as Azure's are.
    pub fn generate(random: [u8; 16], unix_seconds: i64) -> Self {
        let mut bytes = random;
        // The low 32 bits are enough to tell writes apart by eye; the rest is random.
        bytes[10..14].copy_from_slice(&(unix_seconds as u32).to_be_bytes());
        bytes[14..].fill(0);
        let guid = Uuid::from_bytes(bytes);
        Self(STANDARD.encode(format!("\"{}\"", guid.as_hyphenated())).into())
    }

    /// The Base64 text, as it stands in bodies.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ETag {
    type Err = BadId;
    /// Takes the Base64 text of bodies, as the store keeps it.
    fn from_str(text: &str) -> Result<Self, BadId> {
        if text.is_empty() || text.len() > 128 {
            return Err(BadId::Length(text.len()));
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn registration_id(text: &str, expected: Result<(), BadId>) {
        assert_eq!(text.parse::<RegistrationId>().map(|_| ()), expected, "{text:?}");
    }

    /// DPS-ID-1
    #[test]
    fn a_registration_id_holds_what_azure_allows_and_nothing_else() {
        registration_id("sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6", Ok(()));
        registration_id("Grp_A.b:c", Ok(()));
        registration_id("ends-in-", Ok(()));
        registration_id(&"x".repeat(128), Ok(()));
        registration_id("", Err(BadId::Length(0)));
        registration_id(&"x".repeat(129), Err(BadId::Length(129)));
        registration_id("a b", Err(BadId::Character(' ')));
        registration_id("a/b", Err(BadId::Character('/')));
        registration_id("ä", Err(BadId::Character('ä')));
        registration_id("a.", Err(BadId::LastCharacter('.')));
        registration_id("a_", Err(BadId::LastCharacter('_')));
        registration_id("a:", Err(BadId::LastCharacter(':')));
    }

    /// DPS-ID-2
    #[test]
    fn ids_compare_without_case_and_keep_their_spelling() {
        let first: RegistrationId = "Sensor-7".parse().unwrap();
        let second: RegistrationId = "sENSOR-7".parse().unwrap();
        assert_eq!(first, second);
        assert_eq!((first.as_str(), first.folded()), ("Sensor-7", "sensor-7"));
        assert_eq!("0NE00AB".parse::<IdScope>().unwrap(), "0ne00ab".parse().unwrap());
    }

    /// DPS-ID-3
    #[test]
    fn an_id_scope_is_short_text_and_no_path_of_the_service_api() {
        assert!("0ne00000000".parse::<IdScope>().is_ok());
        assert_eq!("abc".parse::<IdScope>(), Err(BadId::Length(3)));
        assert_eq!("a".repeat(33).parse::<IdScope>(), Err(BadId::Length(33)));
        assert_eq!("0ne-0000".parse::<IdScope>(), Err(BadId::Character('-')));
        for word in ["enrollments", "EnrollmentGroups", "registrations"] {
            assert_eq!(word.parse::<IdScope>(), Err(BadId::Reserved(word.to_owned())));
        }
        assert_eq!(IdScope::generate([0, 0x45, 0xB3, 0xC6]).as_str(), "0ne0045B3C6");
    }

    fn operation() -> (InstanceSecret, IdScope, RegistrationId, OperationId) {
        let secret = InstanceSecret::new([7; 32]);
        let (scope, id) = ("0ne00000000".parse().unwrap(), "Device-1".parse().unwrap());
        let operation = OperationId::derive(&secret, &scope, &id, Uuid::from_bytes([0xAB; 16]));
        (secret, scope, id, operation)
    }

    /// DPS-ID-4
    #[test]
    fn an_operation_id_has_the_form_that_small_clients_have_room_for() {
        let (_, _, _, operation) = operation();
        let text = operation.to_string();
        assert_eq!(text.len(), OperationId::CHARACTERS);
        assert!(text.starts_with("5.") && text.ends_with(".abababab-abab-abab-abab-abababababab"), "{text}");
        assert_eq!(text.parse::<OperationId>(), Ok(operation));
    }

    /// DPS-ID-5
    #[test]
    fn an_operation_id_is_good_for_one_device_of_one_instance() {
        let (secret, scope, id, operation) = operation();
        assert!(operation.belongs_to(&secret, &scope, &id));
        assert!(operation.belongs_to(&secret, &"0NE00000000".parse().unwrap(), &"device-1".parse().unwrap()));
        assert!(!operation.belongs_to(&secret, &scope, &"device-2".parse().unwrap()));
        assert!(!operation.belongs_to(&secret, &"0ne00000001".parse().unwrap(), &id));
        assert!(!operation.belongs_to(&InstanceSecret::new([8; 32]), &scope, &id));
    }

    /// DPS-ID-5
    #[test]
    fn a_text_that_is_no_operation_id_is_refused() {
        let (.., operation) = operation();
        let good = operation.to_string();
        let cut = &good[..good.len() - 1];
        for bad in
            ["", "5.", "4.0", cut, &good.to_uppercase(), &good.replace("5.", "4."), &format!("{good}0")]
        {
            assert!(bad.parse::<OperationId>().is_err(), "{bad:?}");
        }
    }

    /// DPS-ID-6
    #[test]
    fn an_etag_is_base64_of_a_quoted_guid_with_the_time_of_the_write_in_it() {
        let etag = ETag::generate([0x11; 16], 0x630f_da8a);
        let decoded = String::from_utf8(STANDARD.decode(etag.as_str()).unwrap()).unwrap();
        assert_eq!(decoded, "\"11111111-1111-1111-1111-630fda8a0000\"");
        assert_ne!(etag, ETag::generate([0x12; 16], 0x630f_da8a));
    }

    /// DPS-ID-8
    #[test]
    fn device_ids_and_hub_names_follow_the_hub() {
        assert!("a#b$c'(d)".parse::<DeviceId>().is_ok());
        assert_eq!("a/b".parse::<DeviceId>(), Err(BadId::Character('/')));
        assert_ne!("A".parse::<DeviceId>().unwrap(), "a".parse().unwrap());
        assert_eq!("Hub.Localhost".parse::<HubName>().unwrap(), "hub.localhost".parse().unwrap());
        for bad in ["", "-a.b", "a-.b", "a..b", "a_b", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<HubName>().is_err(), "{bad:?}");
        }
    }

    /// DPS-BROKER-11
    #[test]
    fn an_id_is_a_level_unless_a_broker_would_read_something_else_in_it() {
        let check = |id: &str| id.parse::<DeviceId>().unwrap().check_level();
        for id in ["a", "press-7", "line_1", "mac:00:11", "100%", "$edge", "a=b", "a(b)!", "A@b;c,d'?"] {
            assert_eq!(check(id), Ok(()), "{id}");
        }
        for (id, character) in [
            ("+", '+'),
            ("#", '#'),
            ("*", '*'),
            (".", '.'),
            ("a.b", '.'),
            ("a.", '.'),
            ("a+b", '+'),
            ("a#", '#'),
        ] {
            assert_eq!(check(id), Err(NotALevel(character)), "{id}");
        }
    }

    #[test]
    fn the_instance_secret_cannot_be_printed() {
        assert_eq!(format!("{:?}", InstanceSecret::new([1; 32])), "InstanceSecret(..)");
    }
}
