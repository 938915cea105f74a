//! How each client reads an answer, and where it breaks. After the clients' own sources.

use serde_json::Value;

/// What a client makes of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    Poll {
        operation_id: String,
        wait_s: u32,
    },
    /// Sends the same request again.
    Again {
        wait_s: u32,
    },
    End(Outcome),
}

/// What a client reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Assigned {
        hub: String,
        device_id: String,
    },
    Failed(u64),
    Disabled,
    Refused(u64),
    /// An outage that this client does not wait for.
    GaveUp(u16),
    /// Another CONNACK than 0.
    NotLetIn(u8),
    /// The server is wrong in this client's eyes.
    Broken(&'static str),
}

/// Status and retry-after of a topic.
pub(crate) type Topic = (u16, Option<u32>);

type ReadTopic = Result<Topic, &'static str>;

const PREFIX: &str = "$dps/registrations/res/";

/// `^\$dps/registrations/res/(.*?)/\?\$rid=(.*?)$`, then the parameters ignoring case.
pub(crate) fn csharp_topic(topic: &str) -> ReadTopic {
    let rest = topic.strip_prefix(PREFIX).ok_or("the topic is not that of an answer")?;
    let (status, parameters) = rest.split_once("/?$rid=").ok_or("$rid is not first")?;
    let retry_after = parameters.split('&').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("retry-after").then(|| value.parse().ok()).flatten()
    });
    Ok((status.parse().map_err(|_| "the status is no number")?, retry_after))
}

/// Cuts the value at a fixed place of each `&` part, so `retry-after` must not be in the first.
pub(crate) fn java_topic(topic: &str) -> ReadTopic {
    let mut retry_after = None;
    for part in topic.split('&') {
        if part.contains("retry-after") {
            let value = part.get("retry-after=".len()..).unwrap_or_default();
            retry_after = Some(value.parse().map_err(|_| "NumberFormatException in retry-after")?);
        }
    }
    Ok((0, retry_after))
}

/// Prefix and whatever number follows, then `retry-after=` in lower case wherever it stands. What is no number is 0.
pub(crate) fn c_sdk_topic(topic: &str) -> ReadTopic {
    let rest = topic.strip_prefix(PREFIX).ok_or("the topic is not that of an answer")?;
    let number =
        |text: &str| text.chars().map_while(|c| c.to_digit(10)).fold(0, |sum, digit| sum * 10 + digit);
    let retry_after = rest.split_once("retry-after=").map(|(_, value)| number(value));
    Ok((number(rest) as u16, retry_after))
}

/// Prefix, digits to the next slash, then `retry-after=` wherever it stands, with digits to the next `&`.
pub(crate) fn azure_sdk_for_c_topic(topic: &str) -> ReadTopic {
    let rest = topic.strip_prefix(PREFIX).ok_or("the topic is not that of an answer")?;
    let (status, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let status = status.parse().map_err(|_| "the status is no number")?;
    let retry_after = rest.split_once("retry-after=").map(|(_, value)| {
        value.split('&').next().unwrap_or_default().parse().map_err(|_| "retry-after is no number")
    });
    Ok((status, retry_after.transpose()?))
}

pub(crate) fn csharp((status, retry_after): Topic, body: &Value) -> Read {
    if status >= 400 {
        let whole =
            body["errorCode"].is_i64() && body["trackingId"].is_string() && body["message"].is_string();
        return match body["errorCode"].as_u64() {
            _ if !whole => broken("malformed server error message"),
            _ if status == 429 || status >= 500 => Read::End(Outcome::GaveUp(status)),
            code => Read::End(Outcome::Refused(code.unwrap_or_default())),
        };
    }
    match (body["status"].as_str(), body["operationId"].as_str()) {
        (Some("assigning" | "unassigned"), None) => broken("no operationId to poll"),
        (Some("assigning" | "unassigned"), Some(operation_id)) => {
            Read::Poll { operation_id: operation_id.to_owned(), wait_s: retry_after.unwrap_or(2).max(2) }
        }
        _ if !body["registrationState"].is_object() => broken("NullReferenceException: no registrationState"),
        _ => finals(body),
    }
}

pub(crate) fn java((_, retry_after): Topic, body: &Value) -> Read {
    let (Some(operation_id), Some(status)) = (body["operationId"].as_str(), body["status"].as_str()) else {
        return match body["errorCode"].as_u64() {
            Some(code) if code >= 429_000 => Read::End(Outcome::GaveUp((code / 1_000) as u16)),
            Some(code) => Read::End(Outcome::Refused(code)),
            None => broken("neither an operation nor an error"),
        };
    };
    let state = &body["registrationState"];
    if !state.is_null() {
        if !state["registrationId"].is_string() || !state["status"].is_string() {
            return broken("registrationState without registrationId or status");
        }
        if !state["payload"].is_null() && !state["payload"].is_object() {
            return broken("JsonSyntaxException: payload is no object");
        }
        for info in ["certificateInfo", "signingCertificateInfo"] {
            let info = &state["x509"][info];
            let members = [
                "subjectName",
                "sha1Thumbprint",
                "sha256Thumbprint",
                "issuerName",
                "notBeforeUtc",
                "notAfterUtc",
                "serialNumber",
                "version",
            ];
            if !info.is_null() && members.iter().any(|member| info[member].is_null()) {
                return broken("an incomplete certificate info");
            }
        }
    }
    match status {
        "assigning" | "unassigned" => {
            let wait_s = retry_after.filter(|seconds| (2..=5).contains(seconds)).unwrap_or(2);
            Read::Poll { operation_id: operation_id.to_owned(), wait_s }
        }
        _ if state.is_null() => broken("NullPointerException: no registrationState"),
        _ => finals(body),
    }
}

pub(crate) fn c_sdk((status, retry_after): Topic, body: &Value) -> Read {
    let wait_s = retry_after.filter(|seconds| (1..=300).contains(seconds)).unwrap_or(1);
    if status >= 429 {
        return Read::Again { wait_s };
    }
    match (body["status"].as_str(), body["operationId"].as_str()) {
        (Some("assigning"), Some(operation_id)) => {
            Read::Poll { operation_id: operation_id.to_owned(), wait_s }
        }
        (Some("unassigned"), _) => broken("a TPM challenge without a key"),
        (Some("failed"), None) => broken("failed without operationId"),
        (Some("failed"), _) if !body["registrationState"].is_object() => {
            broken("failed without registrationState")
        }
        (Some(_), _) => finals(body),
        (None, _) => Read::End(Outcome::Refused(body["errorCode"].as_u64().unwrap_or_default())),
    }
}

/// What all clients on azure-sdk-for-c share.
fn embedded(status: u16, body: &Value) -> Result<Option<String>, Outcome> {
    let Some(root) = body.as_object() else { return Err(Outcome::Broken("no JSON object")) };
    let text_or_absent = |holder: &Value, name: &str| holder.get(name).is_none_or(Value::is_string);
    let state = root.get("registrationState");
    if state.is_some_and(Value::is_null) {
        return Err(Outcome::Broken("registrationState is null"));
    }
    let names = ["operationId", "status", "trackingId", "message", "timestampUtc"];
    if !names.iter().all(|name| text_or_absent(body, name)) {
        return Err(Outcome::Broken("a null or a wrong type at the root"));
    }
    if let Some(state) = state {
        let names = ["assignedHub", "deviceId", "errorMessage", "lastUpdatedDateTimeUtc"];
        if !names.iter().all(|name| text_or_absent(state, name)) {
            return Err(Outcome::Broken("a null or a wrong type in registrationState"));
        }
        if state.get("assignedHub").is_some() != state.get("deviceId").is_some() {
            return Err(Outcome::Broken("assignedHub and deviceId do not stand together"));
        }
        if state.get("payload").is_some_and(|payload| !payload.is_object() && !payload.is_null()) {
            return Err(Outcome::Broken("payload is no object"));
        }
    }
    match (root.get("operationId").and_then(Value::as_str), root.get("status").and_then(Value::as_str)) {
        (Some(operation_id), Some("assigning" | "unassigned")) => Ok(Some(operation_id.to_owned())),
        (Some(_), Some(_)) => Ok(None),
        _ => match body["errorCode"].as_u64() {
            Some(_) if status == 429 || status >= 500 => Err(Outcome::GaveUp(status)),
            Some(code) => Err(Outcome::Refused(code)),
            None => Err(Outcome::Broken("no operation and no errorCode")),
        },
    }
}

pub(crate) fn azure_sdk_for_c((status, retry_after): Topic, body: &Value) -> Read {
    match embedded(status, body) {
        Ok(Some(_)) if retry_after.unwrap_or(0) == 0 => broken("polls without a pause"),
        Ok(Some(operation_id)) => Read::Poll { operation_id, wait_s: retry_after.unwrap_or(0) },
        Ok(None) => finals(body),
        Err(end) => Read::End(end),
    }
}

pub(crate) fn freertos((status, retry_after): Topic, body: &Value) -> Read {
    match embedded(status, body) {
        Ok(Some(_)) if body["status"] == "unassigned" => broken("unassigned leads nowhere"),
        Ok(Some(operation_id)) => {
            Read::Poll { operation_id, wait_s: retry_after.filter(|seconds| *seconds > 0).unwrap_or(3) }
        }
        Ok(None) => finals(body),
        Err(end) => Read::End(end),
    }
}

pub(crate) fn netx((status, retry_after): Topic, body: &Value) -> Read {
    let wait_s = retry_after.unwrap_or(0);
    match embedded(status, body) {
        Ok(Some(_)) if wait_s == 0 => broken("not assigned and no retry-after"),
        Ok(Some(operation_id)) => Read::Poll { operation_id, wait_s },
        Ok(None) => finals(body),
        Err(Outcome::Refused(_) | Outcome::GaveUp(_)) if wait_s > 0 => Read::Again { wait_s },
        Err(end) => Read::End(end),
    }
}

pub(crate) fn nrf((status, retry_after): Topic, body: &Value) -> Read {
    let wait_s = retry_after.filter(|seconds| *seconds > 0).unwrap_or(20);
    match embedded(status, body) {
        Ok(Some(operation_id)) if operation_id.len() > 60 => broken("the operation id does not fit"),
        Ok(Some(operation_id)) => Read::Poll { operation_id, wait_s },
        Ok(None) if body["registrationState"]["assignedHub"].as_str().is_some_and(|hub| hub.len() > 63) => {
            broken("the hub name is cut off")
        }
        Ok(None) if body["registrationState"]["deviceId"].as_str().is_some_and(|id| id.len() > 128) => {
            broken("the device id is cut off")
        }
        Ok(None) => finals(body),
        Err(Outcome::GaveUp(_)) => Read::Again { wait_s },
        Err(end) => Read::End(end),
    }
}

fn finals(body: &Value) -> Read {
    let state = &body["registrationState"];
    Read::End(match body["status"].as_str() {
        Some("assigned") => match (state["assignedHub"].as_str(), state["deviceId"].as_str()) {
            (Some(hub), Some(device_id)) if !hub.is_empty() && !device_id.is_empty() => {
                Outcome::Assigned { hub: hub.to_owned(), device_id: device_id.to_owned() }
            }
            _ => Outcome::Broken("assigned without assignedHub or deviceId"),
        },
        Some("failed") => Outcome::Failed(state["errorCode"].as_u64().unwrap_or_default()),
        Some("disabled") => Outcome::Disabled,
        _ => Outcome::Broken("an unknown status"),
    })
}

fn broken(why: &'static str) -> Read {
    Read::End(Outcome::Broken(why))
}
