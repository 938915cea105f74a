//! What tests in other languages do to a registry, over HTTPS below `/.control/`.
//!
//! | Request | |
//! |---|---|
//! | `POST`, `DELETE` `faults` | plans a fault; nothing fails any more |
//! | `GET` `requests` | what was asked, in its order, and when |
//! | `POST` `reported/{id}` | a device reports the properties of the body |
//! | `POST` `renew-key` | the owner's connection string becomes another, and the old one is refused |

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::access::Policy;
use crate::answer::Answer;
use crate::fault::PlannedFault;
use crate::refusal::Refusal;
use crate::server::{Shared, lock};

const PREFIX: &str = "/.control/";

/// Does what a request to a control path says; `None` where it is none.
pub(crate) fn run(method: &Method, path: &str, body: &Value, shared: &Shared) -> Option<Answer> {
    let resource = path.strip_prefix(PREFIX)?;
    let unknown = || Refusal::unknown(&format!("{method} {path}"));
    let done = match (method.as_str(), resource.split_once('/').unwrap_or((resource, ""))) {
        ("POST", ("faults", "")) => plan(body, shared),
        ("DELETE", ("faults", "")) => {
            lock(&shared.faults).clear();
            Ok(json!({}))
        }
        ("GET", ("requests", "")) => Ok(requests(shared)),
        ("POST", ("reported", id)) => report(id, body, shared),
        ("POST", ("renew-key", "")) => {
            lock(&shared.access).renew_key(Policy::IotHubOwner);
            Ok(json!({"connectionString": shared.connection_string_of(Policy::IotHubOwner)}))
        }
        _ => Err(unknown()),
    };
    Some(done.map_or_else(Answer::from, |body| Answer::json(StatusCode::OK, body)))
}

fn plan(body: &Value, shared: &Shared) -> Result<Value, Refusal> {
    let fault: PlannedFault =
        serde_json::from_value(body.clone()).map_err(|why| Refusal::argument_invalid(why.to_string()))?;
    lock(&shared.faults).plan(fault);
    Ok(json!({}))
}

fn requests(shared: &Shared) -> Value {
    let seen = lock(&shared.seen);
    let told = seen.iter().map(|seen| {
        json!({
            "line": seen.line,
            "ifMatch": seen.if_match,
            "body": seen.body,
            "atMilliseconds": seen.at.as_millisecond(),
        })
    });
    told.collect()
}

fn report(id: &str, body: &Value, shared: &Shared) -> Result<Value, Refusal> {
    let refused = || Refusal::argument_invalid("A device reports an object.");
    let id = dps_proto::percent::decode(id).ok_or_else(refused)?;
    let reported = body.as_object().ok_or_else(refused)?.clone();
    lock(&shared.registry).report(&id, reported)?;
    Ok(json!({}))
}
