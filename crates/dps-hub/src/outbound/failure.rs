//! Why a request had no answer. Spec: DPS-HUB-8.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::allowed_targets::RefusedAddress;
use super::https_url::HttpsUrl;

/// Most characters of what a peer has a say in, such as the names of its certificate.
const REASON_CHARACTERS_MAX: usize = 300;

/// Why a request had no answer. No variant holds a query, a header or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// Nothing was sent: the address is not to be asked. Spec: DPS-HUB-2, DPS-HUB-3.
    #[error(transparent)]
    Refused(#[from] RefusedAddress),
    /// The name has no address, or too many. Nothing was sent.
    #[error("the name {host} cannot be resolved: {why}")]
    Unresolvable {
        /// The name.
        host: String,
        /// What the system said.
        why: String,
    },
    /// Nothing accepts connections there. Nothing was sent.
    #[error("cannot connect to {authority}: {why}")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// What the system said.
        why: String,
    },
    /// The handshake failed; mostly over the certificate. Nothing was sent.
    #[error("TLS with {authority} failed: {why}")]
    Tls {
        /// Host and port.
        authority: String,
        /// What rustls said.
        why: String,
    },
    /// The exchange took too long, wherever it was. What was asked for may have been done.
    #[error("{authority} did not answer within {} s", within.as_secs_f32())]
    TimedOut {
        /// Host and port.
        authority: String,
        /// The deadline of the whole exchange.
        within: Duration,
    },
    /// The body of the answer is larger than it may be. What was asked for may have been done.
    #[error("the answer of {authority} has more than {bytes_max} bytes")]
    AnswerTooLarge {
        /// Host and port.
        authority: String,
        /// The limit that was reached.
        bytes_max: usize,
    },
    /// The connection broke off, or what came is no HTTP. What was asked for may have been done.
    #[error("the answer of {authority} cannot be read: {why}")]
    Broken {
        /// Host and port.
        authority: String,
        /// What is wrong.
        why: String,
    },
}

/// That a name has no address: on its way through the library that connects.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAddress(pub(super) String);

impl OutboundError {
    /// Whether what was asked for may have been done, or yet be.
    pub fn may_have_been_sent(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Unresolvable { .. } | Self::Unreachable { .. } | Self::Tls { .. } => {
                false
            }
            Self::TimedOut { .. } | Self::AnswerTooLarge { .. } | Self::Broken { .. } => true,
        }
    }

    /// What the library's error comes down to. Its own text names the URL.
    pub(super) fn of(url: &HttpsUrl, failed: &reqwest::Error) -> Self {
        let authority = url.authority();
        let mut root: &(dyn Error + 'static) = failed;
        let mut cause: Option<&(dyn Error + 'static)> = Some(failed);
        while let Some(mut error) = cause {
            // What an io::Error wraps, often another one, is not its source.
            while let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                error = inner;
            }
            if let Some(refused) = error.downcast_ref::<RefusedAddress>() {
                return Self::Refused(refused.clone());
            }
            if let Some(NoAddress(why)) = error.downcast_ref() {
                return Self::Unresolvable { host: url.host().to_owned(), why: shown(why) };
            }
            // After the handshake it is a connection that broke off, and the request may have come through.
            if failed.is_connect()
                && let Some(why) = error.downcast_ref::<rustls::Error>()
            {
                return Self::Tls { authority, why: shown(&why.to_string()) };
            }
            root = error;
            cause = error.source();
        }
        let why = if root.is::<reqwest::Error>() {
            "no reason is given".to_owned()
        } else {
            shown(&root.to_string())
        };
        if failed.is_connect() {
            Self::Unreachable { authority, why }
        } else {
            Self::Broken { authority, why }
        }
    }
}

/// One line of bounded length.
fn shown(why: &str) -> String {
    let printable = why.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(REASON_CHARACTERS_MAX).collect()
}
