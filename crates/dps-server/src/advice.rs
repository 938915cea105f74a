//! What would have worked, in words for the author of the device. Spec: DPS-EXPLAIN-3, DPS-EXPLAIN-8.
//!
//! Every way to be refused has its advice here; `tests/advice.rs` shows them all.

use dps_core::refusal::{EntriesTried, NoSuchOperation, Refusal, Unproven};
use dps_core::x509::{ChainFault, SignatureFault};
use dps_proto::body::BadRegisterBody;
use dps_proto::login::BadUserName;
use dps_proto::mqtt::{CloseReason, ConnectRefusal, Malformed};
use dps_proto::percent;
use dps_proto::proxy_header::{BadHeader, Instead};
use dps_proto::topic::BadTopic;

use crate::admission::NotAdmitted;
use crate::client_certificates::CertificatesRefused;
use crate::fault::{RequestFault, Transport};
use crate::handshake::HandshakeFault;
use crate::proxy_protocol::HeaderFault;
use crate::throttle::Throttled;
use crate::web_socket::WebSocketFault;

/// For a device that lets its answers lie.
pub const READ_WHAT_IS_SENT: &str = "read from the connection while requests are open: answers wait there";

/// For whoever sends much at a time when many do.
pub const CONNECT_LATER: &str = "connect again later; if it lasts, strangers hold many connections, or limits.unattested_bytes is too small";

/// The same of a request that has an answer.
pub const COME_BACK_WITH_LESS: &str = "wait for retry-after and ask again: many devices send large messages at this moment; or send a shorter payload";

const USER_NAME: &str = "send the user name {idScope}/registrations/{registrationId}/api-version=2019-03-31";

const SERVICE_AT_FAULT: &str = "the device did nothing wrong: see the service's log, and connect again";

/// For a device that breaks the rules of WebSocket.
pub(crate) fn on_web_socket(fault: &WebSocketFault) -> &'static str {
    match fault {
        WebSocketFault::Text => "send MQTT in binary messages (opcode 2)",
        WebSocketFault::TooLong => {
            "send no message longer than the largest MQTT packet that is taken, 100 KiB"
        }
        WebSocketFault::Protocol(_) => {
            "send frames as RFC 6455 has them: masked, without extensions, control frames whole"
        }
        WebSocketFault::NoRoom => "connect again later: many devices send large messages at this moment",
    }
}

/// For a refused request.
pub fn on_request(fault: &RequestFault, transport: Transport) -> Option<String> {
    let text = match fault {
        RequestFault::ApiVersion(_) if transport == Transport::Https => {
            "add ?api-version=2021-06-01 (or any other date) to the URL"
        }
        RequestFault::Http(fault) => fault.advice(),
        RequestFault::ApiVersion(_) => {
            "end the user name in /api-version=2019-03-31 (or any other date), as in idScope/registrations/id/api-version=2019-03-31"
        }
        RequestFault::Body(BadRegisterBody::Json(_)) => {
            "send an empty body, or a JSON object such as {\"registrationId\":\"...\"}"
        }
        RequestFault::Body(BadRegisterBody::Tpm) => {
            "send \"tpm\":{\"endorsementKey\":\"...\",\"storageRootKey\":\"...\"}, the public part of each key as TPM2B_PUBLIC in Base64"
        }
        RequestFault::Body(BadRegisterBody::OtherRegistrationId(_)) => {
            "send the registrationId of the user name in the body, or none"
        }
        RequestFault::Throttled { throttled, .. } => on_throttle(*throttled),
        RequestFault::TimedOut => {
            "wait for retry-after and ask again; the service is overloaded or its store is slow: see its log and metrics"
        }
        RequestFault::Refused(refusal) => return Some(on_refusal(refusal)),
    };
    Some(text.to_owned())
}

pub(crate) fn on_throttle(throttled: Throttled) -> &'static str {
    match throttled {
        Throttled::InFlight => {
            "wait for retry-after and ask again; if it lasts, raise limits.requests_in_flight, or spread the start of the fleet"
        }
        Throttled::Registrations => {
            "wait for retry-after and ask again; if it lasts, raise limits.registrations_per_minute, or spread the start of the fleet"
        }
        Throttled::Polls => "wait for retry-after before each poll, and poll on one connection only",
        Throttled::FailedAttestations => {
            "mend the credential, which was refused each time: the earlier refusals of this device say what was wrong with it"
        }
    }
}

fn on_refusal(refusal: &Refusal) -> String {
    let text = match refusal {
        Refusal::UnknownIdScope(_) => UNKNOWN_ID_SCOPE,
        Refusal::TpmWanted => {
            "register this device over a transport that carries TPM attestation, or change its enrollment"
        }
        Refusal::TpmChallenge(_) => {
            "activate the credential of authenticationKey, import the key, and send the request again with a token that is signed with it"
        }
        Refusal::TpmNotEnrolled => {
            "create an individual enrollment with this registration id and the endorsement key of the TPM: `harbormaster enrollment create --endorsement-key`"
        }
        Refusal::ClaimedAcrossGroups { .. } => {
            "sign with the key derived from the record's group, or delete the registration record first"
        }
        Refusal::NoRecord | Refusal::NoSuchOperation(NoSuchOperation::NoRecord) => {
            "register first; the record may have been deleted"
        }
        Refusal::NoSuchOperation(NoSuchOperation::Malformed) => {
            "poll with the operationId as the answer to the register had it, all of it, percent-encoded at most once"
        }
        Refusal::NoSuchOperation(NoSuchOperation::NotThisDevices) => {
            "poll with the operationId of the answer to this device's own register"
        }
        Refusal::Busy => {
            "wait for retry-after and ask again; give groups a registrationIdPrefix to make searches short"
        }
        Refusal::Contended(_) => {
            "wait for retry-after and ask again; several connections register this id at once"
        }
        Refusal::Store(_) => {
            "wait for retry-after and ask again; the service's store needs attention: see its log"
        }
        Refusal::Unproven(unproven) => return on_credential(unproven),
    };
    text.to_owned()
}

const UNKNOWN_ID_SCOPE: &str =
    "use the ID scope of this service: `harbormaster dev` prints it, the configuration of `serve` names it";

fn on_credential(unproven: &Unproven) -> String {
    let text = match unproven {
        Unproven::NoCredential => {
            "send a SAS token as the password, or present a certificate in the TLS handshake"
        }
        Unproven::Malformed(_) => {
            "send SharedAccessSignature sr={idScope}%2Fregistrations%2F{registrationId}&sig={signature}&se={unix seconds}, \
             the signature in percent-encoded Base64"
        }
        Unproven::OtherResource { received, expected } => return on_other_resource(received, expected),
        Unproven::Expired { .. } => {
            "make a new token for each connection; if it was new, the device's clock is wrong: compare it with the times above"
        }
        Unproven::WrongKey(_) => {
            "sign with the primary or secondary key of that entry, Base64-decoded before use and not derived from, over sr as \
             sent, a line feed and se"
        }
        Unproven::NoEntry(EntriesTried { groups: 0, .. }) => {
            "create an individual enrollment with this id, or a group whose registrationIdPrefix it begins with"
        }
        Unproven::NoEntry(_) => {
            "create an individual enrollment with this id, or sign with Base64(HMAC-SHA256(group key, registration id)), \
             the id as the device's user name spells it or in lower case, and the group's key Base64-decoded; \
             `harbormaster device-key derive` computes it"
        }
        Unproven::GroupKeyUsedDirectly(_) => {
            "derive the device's key: harbormaster device-key derive --group-key ... --registration-id ..."
        }
        Unproven::CertificateWanted(_) => {
            "present the enrolled certificate in the TLS handshake, or change the enrollment's attestation"
        }
        Unproven::TokenWanted(_) => {
            "send a SAS token as the password, or change the enrollment's attestation"
        }
        Unproven::TpmKeysWanted(_) => {
            "send the public parts of the endorsement key and of the storage root key as the member tpm of the body, first without a token"
        }
        Unproven::TpmKeys(_) => {
            "present an RSA-2048 endorsement key and storage root key of the default templates, each as TPM2B_PUBLIC"
        }
        Unproven::OtherTpm { .. } => {
            "present the TPM that is enrolled, or put this endorsement key into the enrollment"
        }
        Unproven::NotTheChallenge => {
            "sign with the key of the latest challenge to this device, within five minutes of it; a TPM that was cleared has another storage root key"
        }
        Unproven::BadChain(_) => {
            "send at most 10 certificates in DER, the device's own first, each with nothing behind it"
        }
        Unproven::OtherCertificate(_) => {
            "present one of the certificates named, or put this one into the enrollment: thumbprints are of the whole certificate, \
             so a renewed one differs"
        }
        Unproven::EnrolledForAnother(_) => "use that enrollment's registration id, or delete the enrollment",
        Unproven::UnverifiedCa { .. } => {
            "verify the CA certificate: `harbormaster certificate verification-code`, sign a certificate with that code as its common \
             name, `harbormaster certificate verify`"
        }
        Unproven::Chain(broken) => on_chain(&broken.fault),
    };
    text.to_owned()
}

/// Spec: DPS-X509-21.
fn on_chain(fault: &ChainFault) -> &'static str {
    match fault {
        ChainFault::CommonName(_) => {
            "issue the device a certificate with one common name: its registration id"
        }
        ChainFault::OtherRegistrationId { .. } => {
            "connect with the certificate's common name as the registration id, or issue a certificate with this one"
        }
        ChainFault::Expired { .. } => {
            "renew that certificate; if it is new, compare the service's clock with the times above"
        }
        ChainFault::NotYetValid { .. } => "wait, or mend the clock of whoever issued it",
        ChainFault::Version(_) => {
            "issue it as X.509 v3: a CA needs basicConstraints; allow_v1_leaf and allow_v1_self_signed_anchor of the instance \
             say what passes"
        }
        ChainFault::CriticalExtension(_) | ChainFault::NameConstraints => {
            "issue it without that extension; one that is not evaluated cannot be honoured"
        }
        ChainFault::NotForClients => "issue it with clientAuth in its extended key usage, or without one",
        ChainFault::CaLeaf => {
            "issue the device a certificate of its own without CA:TRUE; `openssl req -x509` makes CA certificates unless told otherwise"
        }
        ChainFault::NotACa { .. } => "issue what signs certificates with basicConstraints CA:TRUE",
        ChainFault::MayNotSign => "issue what signs certificates with keyCertSign in its key usage",
        ChainFault::PathLength { .. } => {
            "raise the pathLenConstraint of that certificate, or issue the device's with fewer CAs in between"
        }
        ChainFault::Signature { why: SignatureFault::Wrong, .. } => {
            "send the issuer that signed it: another certificate has the same name and another key"
        }
        ChainFault::Signature { .. } => {
            "sign with ECDSA (P-256, P-384, P-521), Ed25519 or RSA of 2,048 bits and more, with SHA-256, SHA-384 or SHA-512"
        }
        ChainFault::NoIssuer { .. } => {
            "send the certificate of that issuer along with the device's own, upload it as a CA certificate, or enroll it in a group"
        }
        ChainFault::NotEnrolled => {
            "enroll it: in a group if it signs devices' certificates, in an individual enrollment if it is a device's own"
        }
        ChainFault::TooDeep => "enroll a certificate nearer to the device's",
        ChainFault::TooManySignatures(_) => {
            "give certificates of one subject one key, and key identifiers, so that fewer signatures are tried"
        }
    }
}

/// Says what of `sr` differs. `received` is the literal text, `expected` decoded.
fn on_other_resource(received: &str, expected: &str) -> String {
    let form = format!("sign sr={expected}, percent-encoded once or not at all");
    let same = |text: &str| text.eq_ignore_ascii_case(expected);
    let Some(decoded) = percent::decode(received) else {
        return format!("{form}; the received sr has a broken percent-encoding");
    };
    if percent::decode(&decoded).is_some_and(|twice| same(&twice)) {
        return format!("{form}; the received sr is encoded twice");
    }
    let parts: Vec<_> = decoded.split('/').collect();
    let wanted: Vec<_> = expected.split('/').collect();
    let differs =
        |at: usize| parts.get(at).zip(wanted.get(at)).is_none_or(|(a, b)| !a.eq_ignore_ascii_case(b));
    let why = if parts.get(1).is_some_and(|word| word.eq_ignore_ascii_case("devices")) {
        "the received sr is that of a token for a hub"
    } else if parts.len() != wanted.len() || differs(1) {
        "the received sr has another form"
    } else if differs(0) && differs(2) {
        "the received sr names another ID scope and another device than the user name"
    } else if differs(0) {
        "the received sr names another ID scope than the user name"
    } else {
        "the received sr names another device than the user name"
    };
    format!("{form}; {why}")
}

/// For a connection that was closed; nothing where nothing went wrong.
pub fn on_close(reason: &CloseReason) -> Option<String> {
    let text = match reason {
        CloseReason::Disconnected
        | CloseReason::ConnectionEnded
        | CloseReason::Shutdown
        | CloseReason::TakenOver => return None,
        CloseReason::RefusedConnect(refusal) => on_connect(refusal),
        CloseReason::NotConnectFirst { first_byte } if first_byte.is_ascii_uppercase() => {
            "this port speaks MQTT 3.1.1 over TLS, and what came looks like HTTP"
        }
        CloseReason::NotConnectFirst { .. } => "begin with an MQTT 3.1.1 CONNECT once TLS stands",
        CloseReason::SecondConnect => "send CONNECT once; open another connection to log in again",
        CloseReason::Malformed(Malformed::Oversize { .. }) => "keep the packet within the size named",
        CloseReason::Malformed(Malformed::Qos2Handshake(_)) | CloseReason::Qos2Publish => {
            "publish with QoS 0 or 1"
        }
        CloseReason::Malformed(_) | CloseReason::OutOfPlace(_) => {
            "send packets of MQTT 3.1.1 alone; `harbormaster device register --trace` shows those of a whole registration"
        }
        CloseReason::BadTopic { why: BadTopic::Unknown, .. } => {
            "publish to $dps/registrations/PUT/iotdps-register/?$rid={number} or \
             $dps/registrations/GET/iotdps-get-operationstatus/?$rid={number}&operationId={id}"
        }
        CloseReason::BadTopic { why: BadTopic::NoRequestId, .. } => {
            "end the topic in ?$rid={number}: the answer comes under that number"
        }
        CloseReason::ConnectTimeout { .. } => "send CONNECT as soon as TLS stands",
        CloseReason::NotAttestedInTime { .. } => {
            "register soon after CONNECT; a register that is refused does not count, its own explanation says why it was"
        }
        CloseReason::KeepAlive { .. } => {
            "send PINGREQ within each keepalive, or name a longer one in CONNECT; 0 promises nothing"
        }
        CloseReason::Idle { .. } => "disconnect when the registration is done, or send PINGREQ now and then",
        CloseReason::BufferBudget => CONNECT_LATER,
        CloseReason::AnswerOverdue | CloseReason::AnswerTooLarge => SERVICE_AT_FAULT,
    };
    Some(text.to_owned())
}

fn on_connect(refusal: &ConnectRefusal) -> &'static str {
    match refusal {
        ConnectRefusal::Level { .. } => "set the client to MQTT 3.1.1, protocol level 4",
        ConnectRefusal::UserName(BadUserName::Missing | BadUserName::Form) => USER_NAME,
        ConnectRefusal::UserName(BadUserName::IdScope(_)) => {
            "begin the user name with the ID scope: 4 to 32 letters and digits, as in 0ne00000001/registrations/..."
        }
        ConnectRefusal::UserName(BadUserName::RegistrationId(_)) => {
            "use a registration id of at most 128 letters, digits, '-', '.', '_' and ':' that ends in a letter or a digit, \
             not percent-encoded"
        }
        ConnectRefusal::ClientId { .. } => "use the registration id as the MQTT client id",
        ConnectRefusal::UnknownIdScope => UNKNOWN_ID_SCOPE,
    }
}

/// For a TLS handshake that failed.
pub fn on_handshake(fault: &HandshakeFault) -> &'static str {
    match fault {
        HandshakeFault::TimedOut { .. } => {
            "finish the handshake within the time named; a device on a slow network may need limits.handshake_within_s raised"
        }
        HandshakeFault::TooLong => {
            "no device needs so many bytes: see which program connects from that address"
        }
        HandshakeFault::NotTls(_) => {
            "connect with TLS: this port takes nothing else; a balancer that sends the PROXY protocol belongs into listen.proxy_protocol_from"
        }
        HandshakeFault::ServerNotTrusted(_) => {
            "give the device the CA file, and connect by a host name that the server certificate carries"
        }
        HandshakeFault::NothingInCommon(_) => {
            "let the device offer TLS 1.2 or 1.3 with an ECDHE suite that uses AES-GCM or ChaCha20, and P-256 or X25519"
        }
        HandshakeFault::BrokenOff => {
            "look at the device's own log: some hang up without a word when they do not trust the server certificate or run \
             out of memory or time"
        }
        HandshakeFault::Certificates(CertificatesRefused::TooMany(_) | CertificatesRefused::TooLong(_)) => {
            "send the device's own certificate and the CA certificates above it, and nothing else"
        }
        HandshakeFault::Certificates(CertificatesRefused::Unreadable | CertificatesRefused::Key(_)) => {
            "give the device a certificate with an ECDSA key (P-256, P-384, P-521), an Ed25519 key or an RSA key of 2,048 bits or more"
        }
        HandshakeFault::Certificates(CertificatesRefused::OtherKey) => {
            "give the device the private key that belongs to its certificate: `openssl pkey -in KEY -pubout` and \
             `openssl x509 -in CERTIFICATE -noout -pubkey` print the same for a pair"
        }
        HandshakeFault::NoRoom => CONNECT_LATER,
        HandshakeFault::Lost(_) => "look at the network between the device and the service",
        HandshakeFault::Refused(_) | HandshakeFault::Broken(_) => {
            "look at the device's own log and TLS settings: what is named here broke the handshake"
        }
    }
}

/// For a balancer whose connection has no header that can be used.
pub fn on_proxy_header(fault: &HeaderFault) -> &'static str {
    match fault {
        HeaderFault::Bad(BadHeader::Missing(Instead::VersionOne) | BadHeader::Version(_)) => {
            "have the balancer send version 2 of the PROXY protocol: send-proxy-v2 in HAProxy"
        }
        HeaderFault::Bad(BadHeader::Missing(Instead::Tls)) => {
            "have the balancer send version 2 of the PROXY protocol, or take its address out of listen.proxy_protocol_from; a device that \
             connects from an address in it has to go through the balancer"
        }
        HeaderFault::Bad(BadHeader::Missing(Instead::Other)) => {
            "see which program connects from that address: listen.proxy_protocol_from names it as a balancer's"
        }
        HeaderFault::Bad(BadHeader::Command(_) | BadHeader::Family { .. } | BadHeader::TooShort { .. }) => {
            "have the balancer take connections over TCP and pass them on over TCP, as the PROXY protocol has it"
        }
        HeaderFault::Bad(BadHeader::TooLong(_)) => {
            "have the balancer send fewer fields after the addresses, such as no certificates of clients"
        }
        HeaderFault::TimedOut { .. } => {
            "have the balancer send the header at once, before it waits for the device: with it, the TLS handshake has the time named"
        }
        HeaderFault::Nothing => "nothing needs to be done: balancers look so whether somebody listens",
        HeaderFault::BrokenOff => "look at the balancer's own log: it hung up",
        HeaderFault::Lost(_) => "look at the network between the balancer and the service",
    }
}

/// For a connection that was closed before its handshake.
pub fn on_turned_away(refused: NotAdmitted) -> &'static str {
    match refused {
        NotAdmitted::Address(_) => {
            "close connections that are done; many devices behind one address need limits.connections_per_address raised"
        }
        NotAdmitted::Unattested => {
            "connect again later; if it lasts, strangers hold many connections, or limits.unattested_connections is too small"
        }
    }
}
