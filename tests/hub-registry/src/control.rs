//! Faults on command over HTTPS, for tests in other languages: `POST` and `DELETE /.control/faults`.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::fault::{Fault, Faults};
use crate::refusal::Refusal;

const PREFIX: &str = "/.control/";

/// Does what a request to the control path says; `None` where it is none.
pub(crate) fn run(method: &Method, path: &str, body: &Value, faults: &mut Faults) -> Option<Answer> {
    let resource = path.strip_prefix(PREFIX)?;
    Some(match (method, resource) {
        (&Method::POST, "faults") => match serde_json::from_value::<Fault>(body.clone()) {
            Ok(fault) => {
                faults.plan(fault);
                Answer::json(StatusCode::OK, json!({}))
            }
            Err(why) => Refusal::argument_invalid(why.to_string()).into(),
        },
        (&Method::DELETE, "faults") => {
            faults.clear();
            Answer::json(StatusCode::OK, json!({}))
        }
        _ => Refusal::unknown(&format!("{method} {path}")).into(),
    })
}
