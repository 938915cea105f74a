//! Refusals, as clients of the service API read them. Spec: DPS-SERVICE-5, DPS-SERVICE-13, DPS-SERVICE-18, DPS-NODE-6.

use std::borrow::Cow;

use dps_core::access::Denied;
use dps_core::enrollment::EntryRef;
use dps_core::ports::{StoreError, WriteError};
use dps_proto::api_version::BadApiVersion;
use dps_proto::code::ErrorCode;

use super::lists::CONTINUATION;
use super::query::BadQuery;
use super::route::NoRoute;
use crate::advice;
use crate::enrollment_json::BadMember;
use crate::https::body::BodyFault;
use crate::metrics::Limit;
use crate::throttle::Throttled;

/// Why a request to the service API is not answered with what it asked for. The text is for the log.
#[derive(Debug, thiserror::Error)]
pub enum ServiceFault {
    /// Spec: DPS-ACCESS-2.
    #[error("no service instance has the host {0:?}")]
    UnknownHost(String),
    /// Spec: DPS-SERVICE-2.
    #[error(transparent)]
    ApiVersion(#[from] BadApiVersion),
    /// Spec: DPS-SERVICE-3.
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    /// Spec: DPS-ACCESS-3 to DPS-ACCESS-7.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Spec: DPS-SERVICE-18.
    #[error(transparent)]
    Body(#[from] BodyFault),
    /// Spec: DPS-SERVICE-18.
    #[error("the body is no JSON: {0}")]
    NotJson(String),
    /// Spec: DPS-SERVICE-18.
    #[error(transparent)]
    Member(#[from] BadMember),
    /// Spec: DPS-SERVICE-25.
    #[error(transparent)]
    Query(#[from] BadQuery),
    /// Spec: DPS-SERVICE-14.
    #[error("the header {0} cannot be read")]
    Header(&'static str),
    /// Spec: DPS-SERVICE-13.
    #[error("there is no {0}")]
    NoEntry(EntryRef),
    /// Spec: DPS-SERVICE-13.
    #[error("there is no record of this registration id")]
    NoRecord,
    /// Spec: DPS-SERVICE-7.
    #[error("the {0} exists already, and the request has no If-Match")]
    Exists(EntryRef),
    /// Spec: DPS-SERVICE-7.
    #[error("{0}")]
    ETagMismatch(&'static str),
    /// The entry would go beyond a limit, or refers to nothing. Spec: DPS-REG-3, DPS-REG-21, DPS-X509-25, DPS-X509-30.
    #[error("{0}")]
    NotTaken(WriteError),
    /// Spec: DPS-LIMIT-4.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Others write the same entry all the time.
    #[error("the entry changed at each of several attempts to write it")]
    Contended,
    /// It took longer than a client should wait. Spec: DPS-LIMIT-3.
    #[error("the request was not decided in time")]
    TimedOut,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceFault {
    /// What the client is told.
    pub fn told(&self) -> (ErrorCode, Cow<'static, str>) {
        let (code, message): (_, Cow<'static, str>) = match self {
            Self::UnknownHost(_) => {
                (ErrorCode::NOT_FOUND, "No service instance is served under this host name.".into())
            }
            Self::ApiVersion(_) => {
                (ErrorCode::BAD_REQUEST, "The api-version is missing or malformed.".into())
            }
            Self::NoRoute(NoRoute::Path) => (ErrorCode::NOT_FOUND, "Not found.".into()),
            Self::NoRoute(NoRoute::Method) => (ErrorCode::METHOD_NOT_ALLOWED, "Method not allowed.".into()),
            Self::NoRoute(NoRoute::Id(_) | NoRoute::Encoding)
            | Self::Member(_)
            | Self::Query(_)
            | Self::Header(_) => (ErrorCode::INVALID_ARGUMENT, self.to_string().into()),
            Self::Denied(Denied::Lacks { right, .. }) => {
                (ErrorCode::FORBIDDEN, format!("The shared access policy lacks the right {right}.").into())
            }
            Self::Denied(_) => (ErrorCode::UNAUTHORIZED, "Unauthorized".into()),
            Self::Body(BodyFault::MediaType(_)) => {
                (ErrorCode::MEDIA_TYPE, "The body must be application/json.".into())
            }
            Self::NotJson(_) => (ErrorCode::BAD_REQUEST, "The request body is not JSON.".into()),
            Self::Body(BodyFault::TooLarge(bytes)) => {
                (ErrorCode::TOO_LARGE, format!("The body must not exceed {bytes} bytes.").into())
            }
            Self::Body(BodyFault::Broken(_)) => {
                (ErrorCode::BAD_REQUEST, "The request body did not arrive.".into())
            }
            Self::Body(BodyFault::Late(_)) => {
                (ErrorCode::BAD_REQUEST, "The request body did not arrive in time.".into())
            }
            Self::NoEntry(EntryRef::Individual(_)) => {
                (ErrorCode::ENROLLMENT_NOT_FOUND, "Enrollment not found.".into())
            }
            Self::NoEntry(EntryRef::Group(_)) => {
                (ErrorCode::GROUP_NOT_FOUND, "Enrollment group not found.".into())
            }
            Self::NoRecord => (ErrorCode::REGISTRATION_NOT_FOUND, "Registration not found.".into()),
            Self::Exists(EntryRef::Individual(_)) => {
                (ErrorCode::ALREADY_EXISTS, "Enrollment already exists.".into())
            }
            Self::Exists(EntryRef::Group(_)) => {
                (ErrorCode::ALREADY_EXISTS, "Enrollment group already exists.".into())
            }
            Self::ETagMismatch(_) => (ErrorCode::PRECONDITION_FAILED, "ETag mismatch.".into()),
            Self::NotTaken(why) => (ErrorCode::INVALID_ARGUMENT, why.to_string().into()),
            // Clients of the service API have proved who they are before their body is read.
            Self::Throttled(_) | Self::Body(BodyFault::NoRoom) => {
                (ErrorCode::THROTTLED, "Operations are being throttled for this tenant.".into())
            }
            Self::Contended | Self::TimedOut | Self::Store(StoreError::Unavailable(_)) => {
                (ErrorCode::UNAVAILABLE, "The service is not available. Try again later.".into())
            }
            Self::Store(StoreError::Unreadable(_)) => (ErrorCode::INTERNAL, "Internal server error.".into()),
        };
        (code, message)
    }

    /// The limit that the client ran into, if it did. Spec: DPS-METRICS-3.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Body(BodyFault::TooLarge(_)) => Some(Limit::Body),
            Self::Body(BodyFault::Late(_)) => Some(Limit::BodyTime),
            Self::TimedOut => Some(Limit::RequestTime),
            Self::Throttled(throttled) => Some((*throttled).into()),
            _ => None,
        }
    }

    /// What would have worked. Spec: DPS-EXPLAIN-3, DPS-EXPLAIN-8.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::UnknownHost(_) => {
                "call the service by a name of its service_hosts, or add this one to them"
            }
            Self::ApiVersion(_) => "add ?api-version=2021-10-01 (or any other date) to the URL",
            Self::NoRoute(route) => on_route(route),
            Self::Denied(denied) => on_denied(denied),
            Self::Body(BodyFault::MediaType(_)) => "send Content-Type: application/json",
            Self::NotJson(_) => "send one JSON object in UTF-8, complete and with nothing behind it",
            Self::Body(BodyFault::TooLarge(_)) => "send less: an initial twin is most of a large entry",
            Self::Body(BodyFault::Broken(_)) => {
                "send as many bytes as Content-Length says, or chunks to their end, before the connection is closed"
            }
            Self::Body(BodyFault::NoRoom) => advice::COME_BACK_WITH_LESS,
            Self::Body(BodyFault::Late(_)) => {
                "send the whole body at once, behind the head; a client on a slow network may need limits.request_within_s raised"
            }
            Self::Member(_) => "correct the member named: what it may be stands with it",
            Self::Query(_) => {
                "correct the WHERE at the word named, or leave it out to list everything: docs/queries.md has what can be run"
            }
            Self::Header(CONTINUATION) => {
                "send the x-ms-continuation of the page before as it came, for the same query"
            }
            Self::Header(_) => "send a whole number in this header, or leave it out",
            Self::NoEntry(_) => "create it, or correct the id of the path; a query lists what there is",
            Self::NoRecord => "let the device register first, or correct the id of the path",
            Self::Exists(_) => "send If-Match with the etag that was read, or * to replace whatever is there",
            Self::ETagMismatch(_) => {
                "read the entry again and send its etag, or * to replace whatever is there"
            }
            Self::NotTaken(WriteError::NoSuchCaCertificate(_)) => {
                "upload the CA certificate first, or correct its name; `harbormaster certificate list` shows what there is"
            }
            Self::NotTaken(WriteError::TooManyGroupsOfOneSubject(_)) => {
                "give each signing certificate a subject of its own, or let one group have the devices of several"
            }
            Self::NotTaken(_) => "give the group a registrationIdPrefix, or delete groups without one",
            Self::Throttled(throttled) => advice::on_throttle(*throttled),
            Self::Contended => "ask again, and let one client at a time write this entry",
            Self::TimedOut => {
                "wait for retry-after and ask again; the service is overloaded or its store is slow: see its log and metrics"
            }
            Self::Store(StoreError::Unavailable(_)) => {
                "wait for retry-after and ask again; the service's store needs attention: see its log"
            }
            Self::Store(StoreError::Unreadable(_)) => {
                "restore the store from a backup, or write the entry anew: what is stored of it cannot be read"
            }
        }
    }
}

fn on_route(route: &NoRoute) -> &'static str {
    match route {
        NoRoute::Path => {
            "ask for /enrollments, /enrollmentGroups or /registrations, followed by /{id} or, with POST, by /query"
        }
        NoRoute::Method => {
            "use GET, PUT or DELETE for /{id}, and POST for /query and /{id}/attestationmechanism; records take no PUT"
        }
        NoRoute::Id(_) => "correct the id: at most 128 letters, digits, '-', '.', '_' and ':'",
        NoRoute::Encoding => "percent-encode the id's bytes in UTF-8, each as % and two hex digits",
    }
}

fn on_denied(denied: &Denied) -> &'static str {
    match denied {
        Denied::NoToken => "send Authorization: SharedAccessSignature sr=...&sig=...&se=...&skn=...",
        Denied::Malformed(_) => {
            "send SharedAccessSignature sr={host}&sig={signature}&se={unix seconds}&skn={policy}"
        }
        Denied::UnknownPolicy(_) => "name a shared access policy of this instance in skn",
        Denied::KeyAsPolicy => "send the policy's name as skn, not one of its keys",
        Denied::WrongKey(_) => {
            "sign with the policy's primary or secondary key, Base64-decoded before use, over sr, a line feed and se"
        }
        Denied::OtherResource { .. } => "sign for the host that the request goes to",
        Denied::Expired { .. } => "make a new token; if it was new, the client's clock is wrong",
        Denied::Lacks { .. } => "use a policy that has this right, or add it to this one",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// DPS-SERVICE-13, DPS-SERVICE-5: clients and Microsoft's own tests tell these apart by their numbers.
    #[test]
    fn each_refusal_has_the_code_that_clients_know() {
        let individual = || EntryRef::Individual("a".parse().unwrap());
        let group = || EntryRef::Group("a".parse().unwrap());
        let rows = [
            (ServiceFault::NoEntry(individual()), 404_201),
            (ServiceFault::NoEntry(group()), 404_204),
            (ServiceFault::NoRecord, 404_202),
            (ServiceFault::Exists(individual()), 409_201),
            (ServiceFault::Exists(group()), 409_201),
            (ServiceFault::ETagMismatch("x"), 412_001),
            (Denied::NoToken.into(), 401_002),
            (
                Denied::Lacks {
                    policy: "p".parse().unwrap(),
                    right: dps_core::access::Right::EnrollmentRead,
                }
                .into(),
                403_000,
            ),
            (NoRoute::Path.into(), 404_000),
            (NoRoute::Method.into(), 405_000),
            (NoRoute::Encoding.into(), 400_004),
            (ServiceFault::UnknownHost("x".into()), 404_000),
            (ServiceFault::Body(BodyFault::MediaType("x".into())), 415_000),
            (ServiceFault::NotJson("x".into()), 400_000),
            (BadQuery::NoText.into(), 400_004),
            (ServiceFault::Body(BodyFault::TooLarge(1)), 413_000),
            (ServiceFault::Body(BodyFault::Broken("x".into())), 400_000),
            (ServiceFault::Body(BodyFault::Late(Duration::from_secs(20))), 400_000),
            (ServiceFault::TimedOut, 503_000),
            (ServiceFault::Contended, 503_000),
            (Throttled::InFlight.into(), 429_001),
            (StoreError::Unavailable("x".into()).into(), 503_000),
            (StoreError::Unreadable("x".into()).into(), 500_000),
        ];
        for (fault, code) in rows {
            assert_eq!(fault.told().0.value(), code, "{fault}");
        }
    }

    /// DPS-EXPLAIN-3, DPS-EXPLAIN-8
    #[test]
    fn what_looks_alike_to_the_client_has_an_advice_of_its_own() {
        let late = Duration::from_secs(20);
        let rows: [(ServiceFault, &str); 20] = [
            (NoRoute::Path.into(), "/enrollmentGroups"),
            (NoRoute::Method.into(), "POST for /query"),
            (NoRoute::Encoding.into(), "percent-encode"),
            (NoRoute::Id(dps_proto::ids::BadId::Length(0)).into(), "at most 128"),
            (Denied::KeyAsPolicy.into(), "the policy's name as skn"),
            (ServiceFault::Body(BodyFault::MediaType("text/plain".into())), "application/json"),
            (ServiceFault::NotJson("x".into()), "one JSON object"),
            (ServiceFault::Body(BodyFault::TooLarge(1)), "send less"),
            (ServiceFault::Body(BodyFault::Broken("x".into())), "Content-Length"),
            (ServiceFault::Body(BodyFault::Late(late)), "limits.request_within_s"),
            (BadQuery::NoText.into(), "leave it out"),
            (ServiceFault::Header(CONTINUATION), "x-ms-continuation"),
            (ServiceFault::Header("x-ms-max-item-count"), "whole number"),
            (ServiceFault::NoEntry(EntryRef::Group("a".parse().unwrap())), "create it"),
            (ServiceFault::NoRecord, "register first"),
            (Throttled::InFlight.into(), "limits.requests_in_flight"),
            (ServiceFault::Contended, "one client at a time"),
            (ServiceFault::TimedOut, "overloaded"),
            (StoreError::Unavailable("x".into()).into(), "needs attention"),
            (StoreError::Unreadable("x".into()).into(), "backup"),
        ];
        for (fault, words) in rows {
            assert!(fault.advice().contains(words), "{fault}: {}", fault.advice());
        }
    }
}
