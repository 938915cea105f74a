//! What went wrong, and what to do next. Spec: DPS-CLI-14, DPS-CLI-15.

use anyhow::anyhow;
use dps_client::service::{Refusal, ServiceError};

use super::table::printable;
use crate::exit::{self, Failure};

/// What a command is about, in the words of the command line.
pub(super) struct Subject {
    /// Such as `enrollment`: the command.
    pub(super) noun: &'static str,
    /// Such as `press-7`, or nothing where all of them are meant.
    pub(super) id: String,
    /// The command that lists those that there are.
    pub(super) list: String,
}

/// The failure that ends the command.
pub(super) fn of(error: &ServiceError, subject: &Subject) -> Failure {
    let (code, advice) = match error {
        ServiceError::Refused(refusal) => refused(refusal, subject),
        ServiceError::Unreachable { .. } => (
            exit::UNAVAILABLE,
            "is the service running, and is HostName of the connection string its host and HTTPS port?".to_owned(),
        ),
        ServiceError::ServerName(_) => {
            (exit::USAGE, "mend HostName of the connection string".to_owned())
        }
        ServiceError::Untrusted { .. } => (
            exit::UNAVAILABLE,
            "if it is the service that you mean, give its CA with --ca-file (ca.pem of its data directory)".to_owned(),
        ),
        ServiceError::OtherName { .. } => (
            exit::UNAVAILABLE,
            "write a name that the certificate carries into HostName of the connection string, or make one for this name \
             (`harbormaster dev --host`)"
                .to_owned(),
        ),
        ServiceError::Tls { .. } | ServiceError::Broken { .. } | ServiceError::NotOfTheApi { .. } => (
            exit::UNAVAILABLE,
            "is this the HTTPS port of a provisioning service, and --ca-file that of its CA?".to_owned(),
        ),
        ServiceError::TimedOut { .. } => (exit::UNAVAILABLE, "try again, or look at the service's log".to_owned()),
        ServiceError::Request(_) => (exit::USAGE, "is --etag the text of the member etag?".to_owned()),
    };
    let Subject { noun, id, list } = subject;
    let about = if id.is_empty() { list.clone() } else { format!("{noun} {id}") };
    let separator = if advice.is_empty() { "" } else { "; " };
    // What the service wrote goes to a terminal.
    Failure { code, why: anyhow!("{about}: {}{separator}{advice}", printable(&error.to_string())) }
}

fn refused(refusal: &Refusal, subject: &Subject) -> (u8, String) {
    let Subject { noun, id, list } = subject;
    match (refusal.status, refusal.error_code) {
        (404, Some(404_201 | 404_202 | 404_204)) => {
            (exit::NOT_FOUND, format!("list them with `harbormaster {list}`"))
        }
        (404, _) => (
            exit::NOT_FOUND,
            "the service does not know this address: check HostName of the connection string".to_owned(),
        ),
        (409, _) => (
            exit::EXISTS,
            format!("it exists: change it with `harbormaster {noun} update {id}`, or delete it first"),
        ),
        (412, _) => (
            exit::CHANGED,
            format!(
                "its etag is another: somebody changed it meanwhile, or --etag is not the text of its member etag; read it \
                 again with `harbormaster {noun} show {id}`, or do without the condition (update --force, delete without --etag)"
            ),
        ),
        (401, _) => (
            exit::NOT_ALLOWED,
            "check policy name and key of the connection string, and the clock of this machine".to_owned(),
        ),
        (403, _) => (
            exit::NOT_ALLOWED,
            "the policy of the connection string lacks a right: reading needs EnrollmentRead, writing and keys \
             EnrollmentWrite, records RegistrationStatusRead and RegistrationStatusWrite"
                .to_owned(),
        ),
        (429 | 500.., _) => (exit::UNAVAILABLE, "try again later, or look at the service's log".to_owned()),
        _ => (exit::FAILED, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn told(status: u16, error_code: Option<u32>, code: u8, advice: &str) {
        let refusal = Refusal {
            status,
            error_code,
            message: "text\u{1b}[2J".to_owned(),
            tracking_id: Some("id".to_owned()),
            retry_after: None,
        };
        let list = "enrollment-group list".to_owned();
        let subject = Subject { noun: "enrollment-group", id: "line-7".to_owned(), list };
        let failure = of(&ServiceError::Refused(refusal), &subject);
        let text = failure.why.to_string();
        assert_eq!(failure.code, code, "{text}");
        assert!(text.starts_with("enrollment-group line-7: "), "{text}");
        assert!(
            text.contains(advice) && text.contains("(trackingId id)") && !text.contains('\u{1b}'),
            "{text}"
        );
    }

    /// DPS-CLI-15
    #[test]
    fn a_list_that_fails_is_named_by_its_command() {
        let subject = Subject { noun: "enrollment", id: String::new(), list: "enrollment list".to_owned() };
        let text = of(&ServiceError::Refused(Refusal::default()), &subject).why.to_string();
        assert!(text.starts_with("enrollment list: "), "{text}");
    }

    /// DPS-CLI-14, DPS-CLI-15
    #[test]
    fn every_refusal_has_its_exit_code_and_says_what_to_do_next() {
        told(404, Some(404_204), 66, "list them with `harbormaster enrollment-group list`");
        told(404, None, 66, "check HostName");
        told(409, Some(409_201), 73, "`harbormaster enrollment-group update line-7`");
        told(412, Some(412_001), 75, "`harbormaster enrollment-group show line-7`");
        told(401, Some(401_002), 77, "check policy name and key");
        told(403, Some(403_000), 77, "lacks a right");
        told(429, Some(429_001), 69, "try again later");
        told(500, Some(500_000), 69, "log");
        told(400, Some(400_004), 1, "400004 text");
    }
}
