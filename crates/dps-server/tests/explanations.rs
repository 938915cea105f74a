//! From every cause to the words of its explanation: what was wrong, and what would work.
//!
//! The lists of kinds below are exhaustive matches: a new way to be refused does not compile before it stands in one, and
//! the tests fail before it has a row.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::ErrorKind;
use std::time::Duration;

use dps_core::enrollment::EntryRef;
use dps_core::ports::StoreError;
use dps_core::refusal::{EntriesTried, NoSuchOperation, OtherCertificate, Refusal, TpmChallenge, Unproven};
use dps_core::tpm::BadTpmKey;
use dps_core::x509::{
    BadCertificate, BadChain, BadCommonName, BrokenChain, ChainFault, Place, Sha1Thumbprint,
    Sha256Thumbprint, ShownCertificate, SignatureFault, Which,
};
use dps_proto::api_version::BadApiVersion;
use dps_proto::body::BadRegisterBody;
use dps_proto::device_path::BadDevicePath;
use dps_proto::ids::BadId;
use dps_proto::login::BadUserName;
use dps_proto::mqtt::{CloseReason, ConnectRefusal, Kind, Limit, Malformed};
use dps_proto::proxy_header::{BadHeader, Instead};
use dps_proto::sas::MalformedToken;
use dps_proto::topic::BadTopic;
use dps_server::admission::NotAdmitted;
use dps_server::advice;
use dps_server::client_certificates::CertificatesRefused;
use dps_server::explain::Step;
use dps_server::fault::{RequestFault, Transport};
use dps_server::handshake::HandshakeFault;
use dps_server::https::body::BodyFault;
use dps_server::https::fault::HttpFault;
use dps_server::mqtt::end::End;
use dps_server::proxy_protocol::HeaderFault;
use dps_server::throttle::Throttled;
use dps_server::web_socket::WebSocketFault;
use jiff::Timestamp;

/// A function that names the kind of a value, and the list of all the names it can give.
macro_rules! kinds {
    ($name:ident, $list:ident, $type:ty, $($pattern:pat => $kind:literal),+ $(,)?) => {
        fn $name(value: &$type) -> &'static str {
            match value { $($pattern => $kind),+ }
        }
        const $list: &[&str] = &[$($kind),+];
    };
}

kinds!(kind_of_request, REQUESTS, RequestFault,
    RequestFault::ApiVersion(BadApiVersion) => "api-version",
    RequestFault::Body(BadRegisterBody::Json(_)) => "body: json",
    RequestFault::Body(BadRegisterBody::OtherRegistrationId(_)) => "body: other id",
    RequestFault::Body(BadRegisterBody::Tpm) => "body: tpm",
    RequestFault::Refused(Refusal::TpmChallenge(_)) => "tpm: challenge",
    RequestFault::Refused(Refusal::TpmNotEnrolled) => "tpm: not enrolled",
    RequestFault::Refused(Refusal::Unproven(Unproven::TpmKeysWanted(_))) => "tpm: keys wanted",
    RequestFault::Refused(Refusal::Unproven(Unproven::TpmKeys(BadTpmKey::Shape))) => "tpm: shape",
    RequestFault::Refused(Refusal::Unproven(Unproven::TpmKeys(BadTpmKey::Algorithms))) => "tpm: algorithms",
    RequestFault::Refused(Refusal::Unproven(Unproven::TpmKeys(BadTpmKey::Attributes))) => "tpm: attributes",
    RequestFault::Refused(Refusal::Unproven(Unproven::OtherTpm { .. })) => "tpm: other",
    RequestFault::Refused(Refusal::Unproven(Unproven::NotTheChallenge)) => "tpm: not the challenge",
    RequestFault::TimedOut => "timed out",
    RequestFault::Http(HttpFault::Path(BadDevicePath::IdScope(_))) => "http: scope",
    RequestFault::Http(HttpFault::Path(BadDevicePath::RegistrationId(_))) => "http: id",
    RequestFault::Http(HttpFault::Path(BadDevicePath::Encoding)) => "http: encoding",
    RequestFault::Http(HttpFault::Method { .. }) => "http: method",
    RequestFault::Http(HttpFault::Body(BodyFault::MediaType(_))) => "http: media type",
    RequestFault::Http(HttpFault::Body(BodyFault::TooLarge(_))) => "http: body too large",
    RequestFault::Http(HttpFault::Body(BodyFault::Broken(_))) => "http: body broken",
    RequestFault::Http(HttpFault::Body(BodyFault::Late(_))) => "http: body late",
    RequestFault::Http(HttpFault::Body(BodyFault::NoRoom)) => "http: no room",
    RequestFault::Http(HttpFault::Subprotocol(_)) => "web socket: subprotocol",
    RequestFault::Http(HttpFault::Upgrade(_)) => "web socket: upgrade",
    RequestFault::Refused(Refusal::NoRecord) => "no record",
    RequestFault::Throttled { throttled: Throttled::InFlight, .. } => "throttled: in flight",
    RequestFault::Throttled { throttled: Throttled::Registrations, .. } => "throttled: registrations",
    RequestFault::Throttled { throttled: Throttled::Polls, .. } => "throttled: polls",
    RequestFault::Throttled { throttled: Throttled::FailedAttestations, .. } => "throttled: failures",
    RequestFault::Refused(Refusal::UnknownIdScope(_)) => "unknown scope",
    RequestFault::Refused(Refusal::TpmWanted) => "tpm",
    RequestFault::Refused(Refusal::ClaimedAcrossGroups { .. }) => "claimed",
    RequestFault::Refused(Refusal::NoSuchOperation(NoSuchOperation::Malformed)) => "operation: malformed",
    RequestFault::Refused(Refusal::NoSuchOperation(NoSuchOperation::NotThisDevices)) => "operation: foreign",
    RequestFault::Refused(Refusal::NoSuchOperation(NoSuchOperation::NoRecord)) => "operation: no record",
    RequestFault::Refused(Refusal::Busy) => "busy",
    RequestFault::Refused(Refusal::Contended(_)) => "contended",
    RequestFault::Refused(Refusal::Store(StoreError::Unavailable(_))) => "store: unavailable",
    RequestFault::Refused(Refusal::Store(StoreError::Unreadable(_))) => "store: unreadable",
    RequestFault::Refused(Refusal::Unproven(Unproven::NoCredential)) => "no credential",
    RequestFault::Refused(Refusal::Unproven(Unproven::Malformed(MalformedToken::TooLong))) => "token: long",
    RequestFault::Refused(Refusal::Unproven(Unproven::Malformed(MalformedToken::NotText))) => "token: text",
    RequestFault::Refused(Refusal::Unproven(Unproven::Malformed(MalformedToken::Scheme))) => "token: scheme",
    RequestFault::Refused(Refusal::Unproven(Unproven::Malformed(MalformedToken::Part))) => "token: part",
    RequestFault::Refused(Refusal::Unproven(Unproven::Malformed(MalformedToken::Missing(_)))) => "token: missing",
    RequestFault::Refused(Refusal::Unproven(Unproven::Malformed(MalformedToken::Repeated(_)))) => "token: repeated",
    RequestFault::Refused(Refusal::Unproven(Unproven::Malformed(MalformedToken::Signature))) => "token: sig",
    RequestFault::Refused(Refusal::Unproven(Unproven::Malformed(MalformedToken::Expiry))) => "token: se",
    RequestFault::Refused(Refusal::Unproven(Unproven::OtherResource { .. })) => "resource",
    RequestFault::Refused(Refusal::Unproven(Unproven::Expired { .. })) => "expired",
    RequestFault::Refused(Refusal::Unproven(Unproven::WrongKey(_))) => "wrong key",
    RequestFault::Refused(Refusal::Unproven(Unproven::NoEntry(_))) => "no entry",
    RequestFault::Refused(Refusal::Unproven(Unproven::GroupKeyUsedDirectly(_))) => "group key",
    RequestFault::Refused(Refusal::Unproven(Unproven::CertificateWanted(_))) => "certificate",
    RequestFault::Refused(Refusal::Unproven(Unproven::TokenWanted(_))) => "token",
    RequestFault::Refused(Refusal::Unproven(Unproven::BadChain(_))) => "bad chain",
    RequestFault::Refused(Refusal::Unproven(Unproven::Chain(_))) => "chain",
    RequestFault::Refused(Refusal::Unproven(Unproven::OtherCertificate(_))) => "other certificate",
    RequestFault::Refused(Refusal::Unproven(Unproven::EnrolledForAnother(_))) => "another's certificate",
    RequestFault::Refused(Refusal::Unproven(Unproven::UnverifiedCa { .. })) => "unverified CA",
);

kinds!(kind_of_chain_fault, CHAIN_FAULTS, ChainFault,
    ChainFault::CommonName(_) => "common name",
    ChainFault::OtherRegistrationId { .. } => "other registration id",
    ChainFault::Expired { .. } => "expired",
    ChainFault::NotYetValid { .. } => "not yet valid",
    ChainFault::Version(_) => "version",
    ChainFault::CriticalExtension(_) => "critical extension",
    ChainFault::NameConstraints => "name constraints",
    ChainFault::NotForClients => "extended key usage",
    ChainFault::CaLeaf => "CA leaf",
    ChainFault::NotACa { .. } => "no CA",
    ChainFault::MayNotSign => "key usage",
    ChainFault::PathLength { .. } => "path length",
    ChainFault::Signature { why: SignatureFault::Wrong, .. } => "signature",
    ChainFault::Signature { .. } => "signature algorithm",
    ChainFault::NoIssuer { .. } => "no issuer",
    ChainFault::NotEnrolled => "not enrolled",
    ChainFault::TooDeep => "too deep",
    ChainFault::TooManySignatures(_) => "too many signatures",
);

kinds!(kind_of_end, ENDS, End,
    End::Lost(_) => "lost",
    End::WriteTimeout => "write timeout",
    End::WebSocket(WebSocketFault::Text) => "web socket: text",
    End::WebSocket(WebSocketFault::TooLong) => "web socket: too long",
    End::WebSocket(WebSocketFault::Protocol(_)) => "web socket: protocol",
    End::WebSocket(WebSocketFault::NoRoom) => "web socket: no room",
    End::Session(CloseReason::Disconnected) => "disconnected",
    End::Session(CloseReason::ConnectionEnded) => "ended",
    End::Session(CloseReason::Shutdown) => "shutdown",
    End::Session(CloseReason::TakenOver) => "taken over",
    End::Session(CloseReason::BufferBudget) => "budget",
    End::Session(CloseReason::NotConnectFirst { .. }) => "not connect",
    End::Session(CloseReason::SecondConnect) => "second connect",
    End::Session(CloseReason::Malformed(Malformed::Oversize { .. })) => "oversize",
    End::Session(CloseReason::Malformed(_)) => "malformed",
    End::Session(CloseReason::OutOfPlace(_)) => "out of place",
    End::Session(CloseReason::BadTopic { why: BadTopic::Unknown, .. }) => "topic",
    End::Session(CloseReason::BadTopic { why: BadTopic::NoRequestId, .. }) => "rid",
    End::Session(CloseReason::Qos2Publish) => "qos 2",
    End::Session(CloseReason::ConnectTimeout { .. }) => "connect timeout",
    End::Session(CloseReason::NotAttestedInTime { .. }) => "attest timeout",
    End::Session(CloseReason::KeepAlive { .. }) => "keepalive",
    End::Session(CloseReason::Idle { .. }) => "idle",
    End::Session(CloseReason::AnswerOverdue) => "overdue",
    End::Session(CloseReason::AnswerTooLarge) => "answer too large",
    End::Session(CloseReason::RefusedConnect(ConnectRefusal::Level { .. })) => "level",
    End::Session(CloseReason::RefusedConnect(ConnectRefusal::UserName(BadUserName::Missing))) => "user name: none",
    End::Session(CloseReason::RefusedConnect(ConnectRefusal::UserName(BadUserName::Form))) => "user name: form",
    End::Session(CloseReason::RefusedConnect(ConnectRefusal::UserName(BadUserName::IdScope(_)))) => "user name: scope",
    End::Session(CloseReason::RefusedConnect(ConnectRefusal::UserName(BadUserName::RegistrationId(_)))) => "user name: id",
    End::Session(CloseReason::RefusedConnect(ConnectRefusal::ClientId { .. })) => "client id",
    End::Session(CloseReason::RefusedConnect(ConnectRefusal::UnknownIdScope)) => "connect: unknown scope",
);

kinds!(kind_of_handshake, HANDSHAKES, HandshakeFault,
    HandshakeFault::TimedOut { .. } => "timed out",
    HandshakeFault::TooLong => "too long",
    HandshakeFault::NotTls(_) => "not TLS",
    HandshakeFault::ServerNotTrusted(_) => "not trusted",
    HandshakeFault::NothingInCommon(_) => "nothing in common",
    HandshakeFault::BrokenOff => "broken off",
    HandshakeFault::Lost(_) => "lost",
    HandshakeFault::Refused(_) => "refused",
    HandshakeFault::Certificates(CertificatesRefused::TooMany(_)) => "too many certificates",
    HandshakeFault::Certificates(CertificatesRefused::TooLong(_)) => "too long certificates",
    HandshakeFault::Certificates(CertificatesRefused::Unreadable) => "unreadable certificate",
    HandshakeFault::Certificates(CertificatesRefused::Key(_)) => "kind of key",
    HandshakeFault::Certificates(CertificatesRefused::OtherKey) => "other key",
    HandshakeFault::NoRoom => "no room",
    HandshakeFault::Broken(_) => "broken",
);

kinds!(kind_of_header, HEADERS, HeaderFault,
    HeaderFault::Bad(BadHeader::Missing(Instead::VersionOne)) => "version 1",
    HeaderFault::Bad(BadHeader::Missing(Instead::Tls)) => "TLS",
    HeaderFault::Bad(BadHeader::Missing(Instead::Other)) => "missing",
    HeaderFault::Bad(BadHeader::Version(_)) => "version",
    HeaderFault::Bad(BadHeader::Command(_)) => "command",
    HeaderFault::Bad(BadHeader::Family { .. }) => "family",
    HeaderFault::Bad(BadHeader::TooShort { .. }) => "too short",
    HeaderFault::Bad(BadHeader::TooLong(_)) => "too long",
    HeaderFault::TimedOut { .. } => "timed out",
    HeaderFault::Nothing => "nothing",
    HeaderFault::BrokenOff => "broken off",
    HeaderFault::Lost(_) => "lost",
);

kinds!(kind_of_not_admitted, NOT_ADMITTED, NotAdmitted,
    NotAdmitted::Address(_) => "address",
    NotAdmitted::Unattested => "unattested",
);

/// Checks the words of each row, and that no kind is without one.
fn check<T: Display>(
    rows: Vec<(T, &str, &str)>,
    kinds: &[&'static str],
    kind: impl Fn(&T) -> &'static str,
    advice: impl Fn(&T) -> Option<String>,
) {
    let mut shown = BTreeSet::new();
    for (cause, reason, words) in rows {
        shown.insert(kind(&cause));
        assert_eq!(cause.to_string(), reason);
        let advice = advice(&cause).unwrap_or_default();
        assert!(advice.contains(words) && advice.is_empty() == words.is_empty(), "{reason}: {advice:?}");
    }
    assert_eq!(shown, kinds.iter().copied().collect(), "each kind has a row");
}

fn unproven(unproven: Unproven) -> RequestFault {
    Refusal::from(unproven).into()
}

fn malformed(why: MalformedToken) -> RequestFault {
    unproven(Unproven::Malformed(why))
}

fn resource(received: &str) -> RequestFault {
    let expected = "0ne0/registrations/dev-1".to_owned();
    unproven(Unproven::OtherResource { received: received.to_owned(), expected })
}

fn tried(disabled: Option<&str>, groups: usize, named: &[&str], spellings: &[&str]) -> RequestFault {
    unproven(Unproven::NoEntry(EntriesTried {
        disabled: disabled.map(|id| id.parse().unwrap()),
        groups,
        groups_named: named.iter().map(|id| id.parse().unwrap()).collect(),
        spellings: spellings.iter().map(|spelling| (*spelling).into()).collect(),
    }))
}

/// The device's own certificate breaks this rule.
fn broken(fault: ChainFault) -> RequestFault {
    let which = Which { place: Place::Presented(0), subject: "CN=dev-1".into() };
    unproven(Unproven::Chain(Box::new(BrokenChain { received: Vec::new(), path: Vec::new(), which, fault })))
}

fn shown(subject: &str, byte: u8) -> ShownCertificate {
    ShownCertificate {
        subject: subject.into(),
        issuer: subject.into(),
        sha1_thumbprint: Sha1Thumbprint::of(&[byte]),
        sha256_thumbprint: Sha256Thumbprint::from_bytes([byte; 32]),
        not_before: Timestamp::UNIX_EPOCH,
        not_after: Timestamp::UNIX_EPOCH,
    }
}

/// DPS-EXPLAIN-3, DPS-EXPLAIN-8
#[test]
fn every_refused_request_says_why_and_what_would_work() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let store = |error: StoreError| RequestFault::from(Refusal::from(error));
    let operation = |why: NoSuchOperation| RequestFault::from(Refusal::from(why));
    let expired = Unproven::Expired {
        expired_at: at("2026-03-01T10:00:00Z"),
        judged_at: at("2026-03-01T10:06:40.123Z"),
    };
    let token_form = "SharedAccessSignature sr=";
    let rows = vec![
        (BadApiVersion.into(), "the api-version is not of the form YYYY-MM-DD", "/api-version=2019-03-31"),
        (
            BadRegisterBody::Json("expected value".into()).into(),
            "the body is not a registration in JSON: expected value",
            "send an empty body",
        ),
        (
            BadRegisterBody::OtherRegistrationId("dev-2".into()).into(),
            "the body's registrationId is \"dev-2\", not the one of the connection",
            "registrationId of the user name",
        ),
        (RequestFault::TimedOut, "the request was not decided in time", "overloaded"),
        (
            Throttled::InFlight.into(),
            "as many requests as limits.requests_in_flight allows are being decided",
            "raise limits.requests_in_flight",
        ),
        (
            Throttled::Registrations.into(),
            "the service instance has had as many registers as limits.registrations_per_minute allows",
            "raise limits.registrations_per_minute",
        ),
        (
            Throttled::Polls.into(),
            "the device has polled as often as limits.polls_per_device_per_10_s allows",
            "wait for retry-after before each poll",
        ),
        (
            RequestFault::Throttled {
                throttled: Throttled::FailedAttestations,
                unproven: Some(Unproven::NoCredential.to_string()),
            },
            "the credential proved nothing, and its address has failed as often as limits.failed_attestations_per_minute \
             allows (the device presented neither a SAS token nor a certificate)",
            "mend the credential",
        ),
        (
            Refusal::UnknownIdScope("0ne9".parse().unwrap()).into(),
            "no service instance has the ID scope 0ne9",
            "`harbormaster dev` prints it",
        ),
        (
            Refusal::TpmWanted.into(),
            "the individual enrollment wants TPM attestation, which this transport does not carry",
            "change its enrollment",
        ),
        (
            Refusal::ClaimedAcrossGroups { from: "old".parse().unwrap(), to: "new".parse().unwrap() }.into(),
            "the device's record belongs to enrollment group old; new may not claim it (claim_across_groups)",
            "delete the registration record",
        ),
        (
            operation(NoSuchOperation::Malformed),
            "the operation id is not of the form 5.{16 hex digits}.{guid}",
            "all of it",
        ),
        (
            operation(NoSuchOperation::NotThisDevices),
            "the operation id was not issued to this device",
            "this device's own register",
        ),
        (operation(NoSuchOperation::NoRecord), "the device has no record", "register first"),
        (
            Refusal::Busy.into(),
            "too many searches for enrollment groups wait already",
            "registrationIdPrefix",
        ),
        (
            Refusal::Contended(16).into(),
            "the record changed each of the 16 times it was about to be written",
            "several connections",
        ),
        (
            store(StoreError::Unavailable("disk full".into())),
            "the store is unavailable: disk full",
            "see its log",
        ),
        (
            store(StoreError::Unreadable("bad row".into())),
            "what is stored cannot be read: bad row",
            "see its log",
        ),
        (
            unproven(Unproven::NoCredential),
            "the device presented neither a SAS token nor a certificate",
            "send a SAS token",
        ),
        (
            malformed(MalformedToken::TooLong),
            "the password is no SAS token: the token is longer than 2048 bytes",
            token_form,
        ),
        (
            malformed(MalformedToken::NotText),
            "the password is no SAS token: the token is not text",
            token_form,
        ),
        (
            malformed(MalformedToken::Scheme),
            "the password is no SAS token: the token does not begin with \"SharedAccessSignature \"",
            token_form,
        ),
        (
            malformed(MalformedToken::Part),
            "the password is no SAS token: a part of the token has no '='",
            token_form,
        ),
        (
            malformed(MalformedToken::Missing("se")),
            "the password is no SAS token: the token has no se",
            token_form,
        ),
        (
            malformed(MalformedToken::Repeated("sig")),
            "the password is no SAS token: the token has more than one sig",
            token_form,
        ),
        (
            malformed(MalformedToken::Signature),
            "the password is no SAS token: sig is not Base64",
            "percent-encoded Base64",
        ),
        (
            malformed(MalformedToken::Expiry),
            "the password is no SAS token: se is not a whole number of seconds",
            "unix seconds",
        ),
        (
            resource("0ne0%2Fregistrations%2Fdev-2"),
            "the token is for sr=\"0ne0%2Fregistrations%2Fdev-2\", decoded and ignoring case it should be \
             \"0ne0/registrations/dev-1\"",
            "names another device than the user name",
        ),
        (
            unproven(expired),
            "the token expired at 2026-03-01T10:00:00Z, 400 s before 2026-03-01T10:06:40Z, the service's clock (on a poll: \
             when its operation began); 300 s are forgiven",
            "the device's clock is wrong",
        ),
        (
            unproven(Unproven::WrongKey(EntryRef::Individual("dev-1".parse().unwrap()))),
            "the signature is not that of a key of individual enrollment dev-1",
            "Base64-decoded before use and not derived from",
        ),
        (
            tried(None, 9, &["a", "b"], &["Dev-1", "dev-1"]),
            "there is no individual enrollment with this registration id, and the signature is not that of a key derived \
             for \"Dev-1\" or \"dev-1\" from any of the 9 enrollment groups tried (a, b, ...)",
            "the id as the device's user name spells it or in lower case",
        ),
        (
            tried(Some("dev-1"), 1, &["a"], &["dev-1"]),
            "the individual enrollment dev-1 is disabled and does not prove the device, and the signature is not that of a \
             key derived for \"dev-1\" from enrollment group a, the only one to try",
            "device-key derive",
        ),
        (
            tried(None, 0, &[], &["dev-1"]),
            "there is no individual enrollment with this registration id, and no enrollment group takes it: none exists \
             whose registrationIdPrefix the id begins with, and none without a prefix",
            "create an individual enrollment with this id, or a group",
        ),
        (
            unproven(Unproven::GroupKeyUsedDirectly("fleet".parse().unwrap())),
            "the token is signed with the key of enrollment group fleet itself; a device signs with the key derived from \
             it: Base64(HMAC-SHA256(group key, registration id))",
            "harbormaster device-key derive",
        ),
        (
            unproven(Unproven::CertificateWanted(EntryRef::Individual("dev-1".parse().unwrap()))),
            "individual enrollment dev-1 wants an X.509 certificate, and the device presented none",
            "present the enrolled certificate",
        ),
        (
            unproven(Unproven::TokenWanted(EntryRef::Individual("dev-1".parse().unwrap()))),
            "individual enrollment dev-1 wants a SAS token, and the device presented a certificate and no password",
            "send a SAS token as the password",
        ),
        (
            unproven(Unproven::BadChain(BadChain::Certificate {
                number: 2,
                count: 3,
                why: BadCertificate::Trailing(1),
            })),
            "the device's certificates: certificate 2 of 3: 1 bytes stand behind it",
            "in DER, the device's own first",
        ),
        (
            broken(ChainFault::NotEnrolled),
            "the device's certificate, CN=dev-1: it is self-signed, and no entry has it",
            "enroll it",
        ),
        (
            unproven(Unproven::OtherCertificate(Box::new(OtherCertificate {
                entry: EntryRef::Individual("dev-1".parse().unwrap()),
                presented: shown("CN=dev-1", 1),
                enrolled: vec![shown("CN=dev-1", 2), shown("CN=dev-1, O=Plant", 3)],
            }))),
            "the device's certificate (CN=dev-1, SHA-1 bf8b4530d8d246dd74ac53a13471bba17941dff7) is not the one of individual \
             enrollment dev-1, which has CN=dev-1 (SHA-1 c4ea21bb365bbeeaf5f2c654883e56d11e43c44e) and CN=dev-1, O=Plant \
             (SHA-1 9842926af7ca0a8cca12604f945414f07b01e13d)",
            "put this one into the enrollment",
        ),
        (
            unproven(Unproven::EnrolledForAnother(EntryRef::Individual("dev-2".parse().unwrap()))),
            "the device's certificate is that of individual enrollment dev-2, whose registration id is another",
            "use that enrollment's registration id",
        ),
        (
            unproven(Unproven::UnverifiedCa {
                entry: EntryRef::Group("fleet".parse().unwrap()),
                name: "plant".parse().unwrap(),
            }),
            "the chain leads to enrollment group fleet, which refers to the CA certificate plant, and that is not verified",
            "harbormaster certificate verify",
        ),
        (
            BadRegisterBody::Tpm.into(),
            "the body's tpm is no object with the texts endorsementKey and storageRootKey, both in Base64",
            "TPM2B_PUBLIC in Base64",
        ),
        (
            Refusal::TpmChallenge(TpmChallenge { authentication_key: vec![0; 9], is_enrolled: true }).into(),
            "the device is challenged to prove its TPM",
            "activate the credential",
        ),
        (
            Refusal::TpmNotEnrolled.into(),
            "the device proved its TPM, and there is no individual enrollment with its registration id",
            "harbormaster enrollment create --endorsement-key",
        ),
        (
            unproven(Unproven::TpmKeysWanted(EntryRef::Individual("dev-1".parse().unwrap()))),
            "individual enrollment dev-1 wants TPM attestation, and the request has no member tpm",
            "as the member tpm of the body",
        ),
        (
            unproven(Unproven::TpmKeys(BadTpmKey::Shape)),
            "the TPM's keys: it is no TPM2B_PUBLIC",
            "RSA-2048 endorsement key",
        ),
        (
            unproven(Unproven::TpmKeys(BadTpmKey::Algorithms)),
            "the TPM's keys: it is no RSA key of 2,048 bits with SHA-256 and AES-128 in CFB mode, the only ones that are taken",
            "RSA-2048 endorsement key",
        ),
        (
            unproven(Unproven::TpmKeys(BadTpmKey::Attributes)),
            "the TPM's keys: it is no storage key: the attributes restricted and decrypt are not both set",
            "RSA-2048 endorsement key",
        ),
        (
            unproven(Unproven::OtherTpm {
                entry: EntryRef::Individual("dev-1".parse().unwrap()),
                presented: "000b11".into(),
                enrolled: "000b22".into(),
            }),
            "the TPM's endorsement key has the name 000b11, and individual enrollment dev-1 has 000b22",
            "present the TPM that is enrolled",
        ),
        (
            unproven(Unproven::NotTheChallenge),
            "the token is not signed with the key of a challenge of the last 10 minutes to this device with this storage root key",
            "sign with the key of the latest challenge",
        ),
        (
            HttpFault::from(BadDevicePath::IdScope(BadId::Length(3))).into(),
            "the ID scope of the path: it has 3 characters",
            "the ID scope comes first",
        ),
        (
            HttpFault::from(BadDevicePath::RegistrationId(BadId::Character('%'))).into(),
            "the registration id of the path: it holds the character '%'",
            "correct the registration id",
        ),
        (
            HttpFault::from(BadDevicePath::Encoding).into(),
            "a segment of the path is not percent-encoded text",
            "percent-encode each segment of the path once",
        ),
        (
            HttpFault::Method { method: "POST".into(), path: ".../register", allowed: "PUT" }.into(),
            ".../register takes PUT, not POST",
            "use PUT for .../register",
        ),
        (
            HttpFault::from(BodyFault::MediaType("text/plain".into())).into(),
            "the body is \"text/plain\", not application/json",
            "Content-Type: application/json",
        ),
        (
            HttpFault::from(BodyFault::TooLarge(9)).into(),
            "the body is larger than 9 bytes",
            "shorter payload",
        ),
        (
            HttpFault::from(BodyFault::Broken("gone".into())).into(),
            "the body did not arrive: gone",
            "Content-Length",
        ),
        (
            HttpFault::from(BodyFault::Late(Duration::from_secs(8))).into(),
            "the body did not arrive within 8s",
            "send the whole body at once",
        ),
        (
            HttpFault::from(BodyFault::NoRoom).into(),
            "the bytes that connections not yet attested may buffer are used up",
            "wait for retry-after",
        ),
        (
            HttpFault::Subprotocol("AMQPWSB10".into()).into(),
            "the WebSocket offers the subprotocols \"AMQPWSB10\", and not mqtt",
            "Sec-WebSocket-Protocol: mqtt",
        ),
        (
            HttpFault::Upgrade("is not of version 13").into(),
            "the request for a WebSocket is not of version 13",
            "Sec-WebSocket-Version: 13",
        ),
        (
            Refusal::NoRecord.into(),
            "there is no record of this device: it has not registered, or its record was deleted",
            "register first",
        ),
    ];
    check(rows, REQUESTS, kind_of_request, |fault| advice::on_request(fault, Transport::Mqtt));
    let version = RequestFault::ApiVersion(BadApiVersion);
    assert!(advice::on_request(&version, Transport::Https).unwrap().contains("?api-version="));
}

/// DPS-X509-21, DPS-EXPLAIN-3
#[test]
fn every_rule_that_a_chain_breaks_says_why_and_what_would_work() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let signature = |why| ChainFault::Signature {
        issuer: Box::new(Which {
            place: Place::Enrolled("enrollment group fleet".into()),
            subject: "CN=CA".into(),
        }),
        why,
    };
    let rows = vec![
        (
            ChainFault::from(BadCommonName::Several(2)),
            "its subject has 2 common names, and only one can be the registration id",
            "one common name",
        ),
        (
            ChainFault::OtherRegistrationId { common_name: "dev-1".into(), registration_id: "dev-2".into() },
            "its common name \"dev-1\" is not the registration id \"dev-2\"",
            "connect with the certificate's common name",
        ),
        (
            ChainFault::Expired {
                not_after: at("2026-01-01T00:00:00Z"),
                judged_at: at("2026-01-02T00:00:00.5Z"),
            },
            "it expired at 2026-01-01T00:00:00Z; it was judged at 2026-01-02T00:00:00Z",
            "renew that certificate",
        ),
        (
            ChainFault::NotYetValid {
                not_before: at("2026-01-02T00:00:00Z"),
                judged_at: at("2026-01-01T00:00:00Z"),
            },
            "it is not valid before 2026-01-02T00:00:00Z; it was judged at 2026-01-01T00:00:00Z",
            "clock",
        ),
        (
            ChainFault::Version(1),
            "it is of X.509 version 1, which is not accepted at this place of a chain",
            "allow_v1_leaf",
        ),
        (
            ChainFault::CriticalExtension("1.2.3".into()),
            "its critical extension 1.2.3 is not understood",
            "without that extension",
        ),
        (
            ChainFault::NameConstraints,
            "it has name constraints, which are not evaluated",
            "without that extension",
        ),
        (ChainFault::NotForClients, "its extended key usage does not include clientAuth", "with clientAuth"),
        (
            ChainFault::CaLeaf,
            "it is a CA certificate, and a device's own is not to be one",
            "without CA:TRUE",
        ),
        (
            ChainFault::NotACa { is_said: true },
            "it signed a certificate and is no CA certificate (basicConstraints says so)",
            "CA:TRUE",
        ),
        (
            ChainFault::NotACa { is_said: false },
            "it signed a certificate and is no CA certificate (it has no basicConstraints)",
            "CA:TRUE",
        ),
        (
            ChainFault::MayNotSign,
            "it signed a certificate, which its key usage does not allow (no keyCertSign)",
            "keyCertSign",
        ),
        (
            ChainFault::PathLength { allowed: 0, below: 1 },
            "its pathLenConstraint allows 0 CA certificates below it, and there are 1",
            "pathLenConstraint",
        ),
        (
            signature(SignatureFault::Wrong),
            "its signature was not made with the issuer's key (the signing certificate of enrollment group fleet, CN=CA)",
            "another key",
        ),
        (
            signature(SignatureFault::Algorithm("1.2.840.113549.1.1.5".into())),
            "it is signed with the algorithm 1.2.840.113549.1.1.5, which is not accepted (the signing certificate of \
             enrollment group fleet, CN=CA)",
            "SHA-256",
        ),
        (
            signature(SignatureFault::ShortKey(1_024)),
            "the issuer's RSA key has 1024 bits, fewer than 2048 (the signing certificate of enrollment group fleet, CN=CA)",
            "2,048 bits",
        ),
        (
            ChainFault::NoIssuer { issuer: "CN=CA".into() },
            "its issuer CN=CA is neither sent along nor uploaded nor enrolled",
            "along with the device's own",
        ),
        (ChainFault::NotEnrolled, "it is self-signed, and no entry has it", "enroll it"),
        (
            ChainFault::TooDeep,
            "no signing certificate of an entry was reached within 6 certificates above the device's",
            "enroll a certificate nearer",
        ),
        (ChainFault::TooManySignatures(32), "the path was given up after 32 signatures", "key identifiers"),
    ];
    let advice = |fault: &ChainFault| advice::on_request(&broken(fault.clone()), Transport::Mqtt);
    check(rows, CHAIN_FAULTS, kind_of_chain_fault, advice);
}

/// DPS-EXPLAIN-3, DPS-SAS-3
#[test]
fn what_differs_in_the_resource_of_a_token_is_named() {
    for (received, words) in [
        ("0ne1%2Fregistrations%2Fdev-1", "names another ID scope than the user name"),
        ("0ne1/registrations/dev-2", "another ID scope and another device"),
        ("0ne0%252Fregistrations%252Fdev-1", "encoded twice"),
        ("0ne0%2Fregistrations%2", "broken percent-encoding"),
        ("hub.example%2Fdevices%2Fdev-1", "token for a hub"),
        ("0ne0", "has another form"),
        ("0ne0%2Fregistration%2Fdev-1", "has another form"),
    ] {
        let advice = advice::on_request(&resource(received), Transport::Mqtt).unwrap();
        assert!(advice.starts_with("sign sr=0ne0/registrations/dev-1,"), "{advice}");
        assert!(advice.ends_with(words) || advice.contains(words), "{received}: {advice}");
    }
}

/// DPS-EXPLAIN-3, DPS-EXPLAIN-4, DPS-EXPLAIN-8
#[test]
fn every_end_of_a_connection_says_why_and_what_would_work() {
    let within = Duration::from_secs(30);
    let session = End::Session;
    let refused = |refusal: ConnectRefusal| session(CloseReason::RefusedConnect(refusal));
    let user_name = |why: BadUserName| refused(ConnectRefusal::UserName(why));
    let topic = |why: BadTopic| session(CloseReason::BadTopic { topic: "a/b".into(), why });
    let oversize = Malformed::Oversize { limit: Limit::Connect, bytes: 9_000 };
    let rows = vec![
        (End::Lost(ErrorKind::ConnectionReset), "the connection was lost: connection reset", ""),
        (End::WriteTimeout, "the device did not take what it was sent", "read from the connection"),
        (
            End::WebSocket(WebSocketFault::Text),
            "the device sent a text message; MQTT is binary",
            "binary messages",
        ),
        (
            End::WebSocket(WebSocketFault::TooLong),
            "the device sent a frame or message of more than 102400 bytes",
            "no message longer than",
        ),
        (
            End::WebSocket(WebSocketFault::Protocol("x".into())),
            "the device broke the rules of WebSocket: x",
            "RFC 6455",
        ),
        (
            End::WebSocket(WebSocketFault::NoRoom),
            "the bytes that connections not yet attested may buffer are used up",
            "connect again later",
        ),
        (session(CloseReason::Disconnected), "the device disconnected", ""),
        (session(CloseReason::ConnectionEnded), "the device closed the connection", ""),
        (session(CloseReason::Shutdown), "the service is shutting down", ""),
        (session(CloseReason::TakenOver), "a newer connection of the same device took over", ""),
        (
            session(CloseReason::BufferBudget),
            "the buffers of connections that are not yet attested are full",
            "limits.unattested_bytes",
        ),
        (
            session(CloseReason::NotConnectFirst { first_byte: b'G' }),
            "the first byte is 0x47, which begins no CONNECT",
            "looks like HTTP",
        ),
        (
            session(CloseReason::NotConnectFirst { first_byte: 0x30 }),
            "the first byte is 0x30, which begins no CONNECT",
            "begin with an MQTT 3.1.1 CONNECT",
        ),
        (session(CloseReason::SecondConnect), "a second CONNECT came", "send CONNECT once"),
        (
            session(CloseReason::Malformed(oversize)),
            "malformed packet: 9000 bytes are more than a CONNECT (8192) may have",
            "within the size named",
        ),
        (
            session(CloseReason::Malformed(Malformed::PublishQos3)),
            "malformed packet: PUBLISH has QoS 3",
            "device register --trace",
        ),
        (
            session(CloseReason::OutOfPlace(Kind::PingResp)),
            "PINGRESP has no place here",
            "packets of MQTT 3.1.1 alone",
        ),
        (
            topic(BadTopic::Unknown),
            "a publish to \"a/b\": the topic is neither the register nor the poll topic",
            "$dps/registrations/PUT/iotdps-register/?$rid=",
        ),
        (topic(BadTopic::NoRequestId), "a publish to \"a/b\": the topic has no $rid", "?$rid={number}"),
        (session(CloseReason::Qos2Publish), "a publish with QoS 2, which is not served", "QoS 0 or 1"),
        (session(CloseReason::ConnectTimeout { within }), "no CONNECT within 30 s", "as soon as TLS stands"),
        (
            session(CloseReason::NotAttestedInTime { within }),
            "not attested within 30 s of CONNECT",
            "register soon after CONNECT",
        ),
        (
            session(CloseReason::KeepAlive { keep_alive_s: 20 }),
            "no packet for 1.5 times the keepalive of 20 s",
            "PINGREQ",
        ),
        (
            session(CloseReason::Idle { after: within }),
            "no packet for 30 s",
            "disconnect when the registration is done",
        ),
        (
            session(CloseReason::AnswerOverdue),
            "the service had no answer within 300 s",
            "the device did nothing wrong",
        ),
        (
            session(CloseReason::AnswerTooLarge),
            "the answer of the service is too large",
            "the device did nothing wrong",
        ),
        (
            refused(ConnectRefusal::Level { level: 5 }),
            "CONNECT was refused with 1: the protocol level is 5, served is 4 (MQTT 3.1.1)",
            "MQTT 3.1.1, protocol level 4",
        ),
        (
            user_name(BadUserName::Missing),
            "CONNECT was refused with 4: there is no user name",
            "{idScope}/registrations/{registrationId}",
        ),
        (
            user_name(BadUserName::Form),
            "CONNECT was refused with 4: the user name is not of the form \
             idScope/registrations/registrationId/api-version=...",
            "{idScope}/registrations/{registrationId}",
        ),
        (
            user_name(BadUserName::IdScope(BadId::Length(2))),
            "CONNECT was refused with 4: the ID scope of the user name is not one: it has 2 characters",
            "4 to 32 letters and digits",
        ),
        (
            user_name(BadUserName::RegistrationId(BadId::Character('%'))),
            "CONNECT was refused with 4: the registration id of the user name is not one: it holds the character '%'",
            "not percent-encoded",
        ),
        (
            refused(ConnectRefusal::ClientId { client_id: "x".into(), registration_id: "dev-1".into() }),
            "CONNECT was refused with 2: the client id \"x\" is not the registration id dev-1",
            "registration id as the MQTT client id",
        ),
        (
            refused(ConnectRefusal::UnknownIdScope),
            "CONNECT was refused with 5: no service instance has this ID scope",
            "`harbormaster dev` prints it",
        ),
    ];
    for (end, ..) in &rows {
        let at_connect = end.to_string().starts_with("CONNECT was refused");
        assert_eq!(end.step() == Step::Connect, at_connect, "{end}");
        assert_eq!(end.told().starts_with("CONNACK "), at_connect, "{end}");
    }
    check(rows, ENDS, kind_of_end, End::advice);
}

/// DPS-EXPLAIN-4, DPS-EXPLAIN-8, DPS-DEV-8
#[test]
fn every_failed_handshake_says_why_and_what_would_work() {
    let text = str::to_owned;
    let rows = vec![
        (
            HandshakeFault::TimedOut { within: Duration::from_secs(15) },
            "the TLS handshake was not finished within 15 s",
            "within the time named",
        ),
        (
            HandshakeFault::TooLong,
            "the peer sent more of a TLS handshake at once than anyone needs: 8192 bytes to begin with, later 40960",
            "see which program connects from that address",
        ),
        (
            HandshakeFault::NotTls(text("received corrupt message")),
            "what came is no TLS: received corrupt message",
            "connect with TLS",
        ),
        (
            HandshakeFault::ServerNotTrusted(text("UnknownCA")),
            "the device does not trust the server's certificate: it sent the alert UnknownCA",
            "CA file",
        ),
        (
            HandshakeFault::NothingInCommon(text("ProtocolVersion")),
            "the device and the service have no way of speaking TLS in common: ProtocolVersion",
            "TLS 1.2 or 1.3",
        ),
        (
            HandshakeFault::BrokenOff,
            "the device closed the connection in the middle of the TLS handshake",
            "the device's own log",
        ),
        (
            HandshakeFault::Certificates(CertificatesRefused::TooMany(11)),
            "the device sent 11 certificates, more than 10",
            "and nothing else",
        ),
        (
            HandshakeFault::Certificates(CertificatesRefused::TooLong(40_000)),
            "the device sent certificates of 40000 bytes together, more than 32768",
            "and nothing else",
        ),
        (
            HandshakeFault::Certificates(CertificatesRefused::Unreadable),
            "the device's certificate is not an X.509 certificate in DER, or its key cannot be read",
            "RSA key of 2,048 bits",
        ),
        (
            HandshakeFault::Certificates(CertificatesRefused::Key(rustls::SignatureScheme::RSA_PKCS1_SHA256)),
            "the device's key is of a kind that is not accepted in a handshake with RSA_PKCS1_SHA256: RSA below 2,048 bits, for \
             one",
            "RSA key of 2,048 bits",
        ),
        (
            HandshakeFault::Certificates(CertificatesRefused::OtherKey),
            "the device does not have the key of its certificate: the signature of the handshake is not of that key",
            "openssl pkey",
        ),
        (
            HandshakeFault::NoRoom,
            "the bytes that connections not yet attested may buffer are used up",
            "limits.unattested_bytes",
        ),
        (
            HandshakeFault::Lost(ErrorKind::ConnectionReset),
            "the connection was lost in the TLS handshake: connection reset",
            "the network",
        ),
        (
            HandshakeFault::Refused(text("DecryptError")),
            "the device broke off the TLS handshake with the alert DecryptError",
            "TLS settings",
        ),
        (
            HandshakeFault::Broken(text("peer misbehaved")),
            "the TLS handshake failed: peer misbehaved",
            "TLS settings",
        ),
    ];
    check(rows, HANDSHAKES, kind_of_handshake, |fault| Some(advice::on_handshake(fault).to_owned()));
}

/// DPS-EXPLAIN-8, DPS-LIMIT-15
#[test]
fn every_header_that_cannot_be_used_says_why_and_what_would_work() {
    let bad = HeaderFault::Bad;
    let rows = vec![
        (
            bad(BadHeader::Missing(Instead::VersionOne)),
            "the header of the PROXY protocol is of version 1, a line of text, and only version 2 is read",
            "send-proxy-v2",
        ),
        (
            bad(BadHeader::Missing(Instead::Tls)),
            "the header of the PROXY protocol is missing: TLS begins in its place",
            "or take its address out",
        ),
        (
            bad(BadHeader::Missing(Instead::Other)),
            "the header of the PROXY protocol is missing: the first bytes are not its signature",
            "which program connects",
        ),
        (
            bad(BadHeader::Version(3)),
            "the header of the PROXY protocol is of version 3, and only version 2 is read",
            "send version 2",
        ),
        (
            bad(BadHeader::Command(2)),
            "the header of the PROXY protocol has the command 2, which is neither LOCAL (0) nor PROXY (1)",
            "as the PROXY protocol has it",
        ),
        (
            bad(BadHeader::Family { family: 3, transport: 1 }),
            "the header of the PROXY protocol names a client of address family 3 and transport 1, and only TCP (1) over IPv4 (1) and \
             IPv6 (2) is served",
            "over TCP",
        ),
        (
            bad(BadHeader::TooShort { length: 11, needed: 12 }),
            "the header of the PROXY protocol has 11 bytes after its length, and addresses of its family take 12",
            "as the PROXY protocol has it",
        ),
        (
            bad(BadHeader::TooLong(521)),
            "the header of the PROXY protocol has 521 bytes after its length, more than 520",
            "fewer fields",
        ),
        (
            HeaderFault::TimedOut { within: Duration::from_secs(15) },
            "no whole header of the PROXY protocol came within 15 s",
            "at once",
        ),
        (
            HeaderFault::Nothing,
            "the balancer ended the connection before its first byte",
            "nothing needs to be done",
        ),
        (
            HeaderFault::BrokenOff,
            "the balancer ended the connection in the middle of the header of the PROXY protocol",
            "balancer's own log",
        ),
        (
            HeaderFault::Lost(ErrorKind::ConnectionReset),
            "the connection was lost in the middle of the header of the PROXY protocol: connection reset",
            "the network",
        ),
    ];
    check(rows, HEADERS, kind_of_header, |fault| Some(advice::on_proxy_header(fault).to_owned()));
}

/// DPS-EXPLAIN-8, DPS-LIMIT-1, DPS-LIMIT-2
#[test]
fn a_connection_that_was_turned_away_says_why_and_what_would_work() {
    let rows = vec![
        (
            NotAdmitted::Address(8),
            "its address has 8 connections, the most that limits.connections_per_address allows",
            "close connections that are done",
        ),
        (
            NotAdmitted::Unattested,
            "as many connections as limits.unattested_connections allows have not proved themselves yet",
            "limits.unattested_connections",
        ),
    ];
    check(rows, NOT_ADMITTED, kind_of_not_admitted, |refused| {
        Some(advice::on_turned_away(*refused).to_owned())
    });
}
