//! How a client's HTTPS connection ended, for whoever looks for the cause. Spec: DPS-EXPLAIN-4, DPS-METRICS-2, DPS-METRICS-3.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::advice;
use crate::limits::BudgetSpent;
use crate::metrics::{Closed, Limit};
use crate::write_deadline::NotTaken;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The client was done, or went.
    #[error("the client closed the connection")]
    ByClient,
    /// Its request was refused, and it had never been let in.
    #[error("the client was never let in, and has one request")]
    NotLetIn,
    /// The network ended it.
    #[error("the connection was lost: {0}")]
    Lost(io::ErrorKind),
    /// The service stops.
    #[error("the service is shutting down")]
    Shutdown,
    /// What came is no HTTP/1.1.
    #[error("what came is no request: {0}")]
    NoRequest(String),
    /// Head or header lines are too many bytes.
    #[error("the head of the request is larger than {bytes} bytes, or has more than {lines} header lines")]
    HeadTooLarge {
        /// Most bytes.
        bytes: usize,
        /// Most lines.
        lines: usize,
    },
    /// No whole head came before the client had been let in.
    #[error("no whole head of a request within {within:?}")]
    HeadTimeout {
        /// The limit.
        within: Duration,
    },
    /// No whole head came after the last answer.
    #[error("no whole head of a further request within {after:?}")]
    Idle {
        /// The limit.
        after: Duration,
    },
    /// Its certificates are more than the connections that have not proved themselves may hold together. Spec: DPS-X509-2.
    #[error("certificates of a client that has not proved itself: {BudgetSpent}")]
    NoRoom,
    /// The client did not read.
    #[error("the client did not take what it was sent")]
    WriteTimeout,
}

impl End {
    /// What brought about an error of HTTP that is neither a time-out nor a head too large.
    pub(super) fn of_error(why: &hyper::Error) -> Self {
        let mut cause = why.source();
        while let Some(inner) = cause.filter(|inner| !inner.is::<io::Error>()) {
            cause = inner.source();
        }
        let io = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
        if io.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<NotTaken>()) {
            Self::WriteTimeout
        } else if why.is_parse() {
            Self::NoRequest(why.to_string())
        } else if let Some(io) = io {
            Self::Lost(io.kind())
        } else {
            // In the middle of a request.
            Self::ByClient
        }
    }

    /// Whether the log need not warn.
    pub fn is_normal(&self) -> bool {
        self.limit().is_none() && !matches!(self, Self::NoRequest(_))
    }

    /// For the numbers.
    pub fn outcome(&self) -> Closed {
        match self {
            Self::ByClient | Self::Lost(_) => Closed::ByDevice,
            Self::NotLetIn => Closed::Refused,
            Self::Shutdown => Closed::Shutdown,
            Self::NoRequest(_) | Self::HeadTooLarge { .. } => Closed::Broken,
            Self::HeadTimeout { .. } | Self::Idle { .. } | Self::NoRoom | Self::WriteTimeout => Closed::Limit,
        }
    }

    /// The limit that the client ran into, if it did.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::ByClient | Self::NotLetIn | Self::Lost(_) | Self::Shutdown | Self::NoRequest(_) => None,
            Self::HeadTooLarge { .. } => Some(Limit::Packet),
            Self::HeadTimeout { .. } => Some(Limit::AttestTime),
            Self::Idle { .. } => Some(Limit::IdleTime),
            Self::NoRoom => Some(Limit::UnattestedBytes),
            Self::WriteTimeout => Some(Limit::WriteTime),
        }
    }

    /// What would have worked; nothing where nothing went wrong, or where the request has an explanation of its own.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::ByClient | Self::NotLetIn | Self::Lost(_) | Self::Shutdown => return None,
            Self::NoRequest(_) => "send HTTP/1.1 over TLS",
            Self::HeadTooLarge { .. } => "send a shorter head: the URL, a token and a few headers",
            Self::HeadTimeout { .. } => "send the request as soon as TLS stands",
            Self::Idle { .. } => {
                "connect anew for a request after such a pause; most HTTP clients do so by themselves"
            }
            Self::NoRoom => advice::CONNECT_LATER,
            Self::WriteTimeout => advice::READ_WHAT_IS_SENT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-METRICS-2, DPS-METRICS-3
    #[test]
    fn an_end_is_counted_by_who_brought_it_about_and_by_the_limit_behind_it() {
        let within = Duration::from_secs(60);
        let rows = [
            (End::ByClient, Closed::ByDevice, None, true),
            (End::NotLetIn, Closed::Refused, None, true),
            (End::Lost(io::ErrorKind::ConnectionReset), Closed::ByDevice, None, true),
            (End::Shutdown, Closed::Shutdown, None, true),
            (End::NoRequest("x".into()), Closed::Broken, None, false),
            (End::HeadTooLarge { bytes: 1, lines: 1 }, Closed::Broken, Some(Limit::Packet), false),
            (End::HeadTimeout { within }, Closed::Limit, Some(Limit::AttestTime), false),
            (End::Idle { after: within }, Closed::Limit, Some(Limit::IdleTime), false),
            (End::NoRoom, Closed::Limit, Some(Limit::UnattestedBytes), false),
            (End::WriteTimeout, Closed::Limit, Some(Limit::WriteTime), false),
        ];
        for (end, outcome, limit, is_normal) in rows {
            assert_eq!((end.outcome(), end.limit(), end.is_normal()), (outcome, limit, is_normal), "{end}");
            assert_eq!(end.advice().is_some(), !is_normal, "{end}");
        }
    }
}
