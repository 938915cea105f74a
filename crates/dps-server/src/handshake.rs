//! Why a TLS handshake failed, sorted by what its author can do about it. Spec: DPS-EXPLAIN-4, DPS-DEV-8.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

use crate::client_certificates::CertificatesRefused;
use crate::flight_limit::FlightTooLong;
use crate::limits::BudgetSpent;

/// Why a TLS handshake failed. Its text stands alone in a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFault {
    /// Too slow, or silent.
    #[error("the TLS handshake was not finished within {} s", .within.as_secs_f64())]
    TimedOut {
        /// The limit.
        within: Duration,
    },
    /// Too many bytes. Spec: DPS-LIMIT-11.
    #[error("{}", FlightTooLong)]
    TooLong,
    /// The first bytes are something else.
    #[error("what came is no TLS: {0}")]
    NotTls(String),
    /// The device says that it does not trust us.
    #[error("the device does not trust the server's certificate: it sent the alert {0}")]
    ServerNotTrusted(String),
    /// No version, cipher suite or group that both have.
    #[error("the device and the service have no way of speaking TLS in common: {0}")]
    NothingInCommon(String),
    /// The device hung up without an alert.
    #[error("the device closed the connection in the middle of the TLS handshake")]
    BrokenOff,
    /// The network did.
    #[error("the connection was lost in the TLS handshake: {0}")]
    Lost(io::ErrorKind),
    /// The device refused for another reason.
    #[error("the device broke off the TLS handshake with the alert {0}")]
    Refused(String),
    /// Its certificates do not pass. Spec: DPS-X509-1, DPS-X509-2.
    #[error("{0}")]
    Certificates(#[source] CertificatesRefused),
    /// The bytes that connections not yet attested may buffer are used up. Spec: DPS-MQTT-30.
    #[error("{BudgetSpent}")]
    NoRoom,
    /// The service refused for another reason.
    #[error("the TLS handshake failed: {0}")]
    Broken(String),
}

impl From<&io::Error> for HandshakeFault {
    fn from(error: &io::Error) -> Self {
        if error.get_ref().is_some_and(|why| why.is::<FlightTooLong>()) {
            return Self::TooLong;
        }
        if error.get_ref().is_some_and(|why| why.is::<BudgetSpent>()) {
            return Self::NoRoom;
        }
        let Some(why) = error.get_ref().and_then(|why| why.downcast_ref::<Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => Self::BrokenOff,
                kind => Self::Lost(kind),
            };
        };
        match why {
            Error::InvalidMessage(_) => Self::NotTls(why.to_string()),
            Error::AlertReceived(alert) => match alert {
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown => Self::ServerNotTrusted(format!("{alert:?}")),
                AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity => Self::NothingInCommon(format!("{alert:?}")),
                other => Self::Refused(format!("{other:?}")),
            },
            Error::PeerIncompatible(_) => Self::NothingInCommon(why.to_string()),
            Error::InvalidCertificate(CertificateError::BadSignature) => {
                Self::Certificates(CertificatesRefused::OtherKey)
            }
            Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => {
                match why.downcast_ref::<CertificatesRefused>() {
                    Some(why) => Self::Certificates(why.clone()),
                    None => Self::Broken(why.to_string()),
                }
            }
            other => Self::Broken(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::{InvalidMessage, PeerIncompatible, PeerMisbehaved};

    use super::*;

    #[track_caller]
    fn check(error: io::Error, expected: HandshakeFault) {
        assert_eq!(HandshakeFault::from(&error), expected);
    }

    /// DPS-EXPLAIN-4
    #[test]
    fn errors_of_tls_are_sorted_by_what_can_be_done() {
        let tls = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let text = |error: &Error| error.to_string();
        let plain = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        check(tls(plain.clone()), HandshakeFault::NotTls(text(&plain)));
        let alert = |alert| tls(Error::AlertReceived(alert));
        check(alert(AlertDescription::UnknownCA), HandshakeFault::ServerNotTrusted("UnknownCA".into()));
        check(
            alert(AlertDescription::ProtocolVersion),
            HandshakeFault::NothingInCommon("ProtocolVersion".into()),
        );
        check(alert(AlertDescription::DecryptError), HandshakeFault::Refused("DecryptError".into()));
        let old = Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired);
        check(tls(old.clone()), HandshakeFault::NothingInCommon(text(&old)));
        let odd = Error::PeerMisbehaved(PeerMisbehaved::MissingKeyShare);
        check(tls(odd.clone()), HandshakeFault::Broken(text(&odd)));
        check(io::Error::other(FlightTooLong), HandshakeFault::TooLong);
        check(io::Error::other(BudgetSpent), HandshakeFault::NoRoom);
        check(io::ErrorKind::UnexpectedEof.into(), HandshakeFault::BrokenOff);
        check(io::ErrorKind::ConnectionReset.into(), HandshakeFault::Lost(io::ErrorKind::ConnectionReset));
    }
}
