//! Four clients of the HTTPS device API, each with the habits and the weak points of the real one.
//! Spec: DPS-HTTPS-1, DPS-HTTPS-3 to DPS-HTTPS-5, DPS-HTTPS-7, DPS-HTTPS-9.

use std::collections::HashMap;
use std::time::Duration;

use dps_proto::key::SymmetricKey;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep};

use crate::reading::Outcome;
use crate::token::{Spelling, Token};

/// How one client goes about it.
pub(crate) struct Model {
    pub(crate) name: &'static str,
    api_version: &'static str,
    /// The colon of an id in a path.
    colon: &'static str,
    /// Header lines of every request, but for the token.
    headers: &'static str,
    authorization: &'static str,
    register_body: fn(&str) -> String,
    poll_body: Option<&'static str>,
    token: Token,
    lowers_audience: bool,
    /// Statuses that it takes for an answer to a register.
    accepts_register: fn(u16) -> bool,
    /// Seconds until the next poll.
    pace: fn(Option<u64>) -> u64,
    read_final: fn(&Value) -> Result<Outcome, &'static str>,
    /// Whether its connection ends with each answer.
    connects_anew: bool,
}

pub(crate) const C_SDK: Model = Model {
    name: "C",
    api_version: "2021-06-01",
    colon: "%3a",
    headers: "UserAgent: prov_device_client/1.0\r\nAccept: application/json\r\nContent-Type: application/json; charset=utf-8\r\n\
              Connection: keep-alive\r\n",
    authorization: "Authorization",
    register_body: |id| format!(r#"{{"registrationId":"{id}"}}"#),
    poll_body: Some(""),
    token: Token { spelling: Spelling::Lower, skn: "&skn=registration", seconds: 2_400 },
    lowers_audience: false,
    accepts_register: |status| (200..=226).contains(&status),
    pace: |retry_after| retry_after.filter(|seconds| (1..=300).contains(seconds)).unwrap_or(1),
    read_final: by_state,
    connects_anew: false,
};

pub(crate) const CSHARP: Model = Model {
    name: "C#",
    api_version: "2019-03-31",
    colon: "%3A",
    headers: "User-Agent: .NET\r\nContent-Type: application/json; charset=utf-8\r\n",
    register_body: |id| format!("{{\r\n  \"registrationId\": \"{id}\"\r\n}}"),
    poll_body: None,
    token: Token { spelling: Spelling::Upper, skn: "&skn=registration", seconds: 86_400 },
    accepts_register: |status| status == 202,
    pace: |retry_after| retry_after.unwrap_or(0).max(2),
    ..C_SDK
};

pub(crate) const JAVA: Model = Model {
    name: "Java",
    api_version: "2019-03-31",
    colon: ":",
    headers: "Accept: application/json\r\nContent-Type: application/json; charset=utf-8\r\n",
    authorization: "authorization",
    token: Token { spelling: Spelling::Raw, skn: "&skn=", seconds: 3_600 },
    accepts_register: |status| status <= 300,
    pace: |retry_after| retry_after.filter(|seconds| (2..=5).contains(seconds)).unwrap_or(2),
    poll_body: None,
    connects_anew: true,
    ..C_SDK
};

/// Reads nothing but the operation id of a register, polls every 5 s, with a token that lives for 30.
pub(crate) const IDENTITY_SERVICE: Model = Model {
    name: "iot-identity-service",
    colon: "%3A",
    headers: "Content-Type: application/json\r\n",
    token: Token { spelling: Spelling::Upper, skn: "&skn=registration", seconds: 30 },
    lowers_audience: true,
    accepts_register: |status| status == 202,
    pace: |_| 5,
    poll_body: None,
    connects_anew: true,
    ..C_SDK
};

pub(crate) const ALL: [Model; 4] = [C_SDK, CSHARP, JAVA, IDENTITY_SERVICE];

struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Value,
}

impl Model {
    /// The whole registration; each call of `connect` is a connection. How long it took, too.
    pub(crate) async fn run(
        &self,
        mut connect: impl FnMut() -> DuplexStream,
        scope: &str,
        id: &str,
        key: &SymmetricKey,
    ) -> (Outcome, u64) {
        let began = Instant::now();
        let outcome = self.exchange(&mut connect, scope, id, key).await.unwrap_or_else(Outcome::Broken);
        (outcome, began.elapsed().as_secs())
    }

    async fn exchange(
        &self,
        connect: &mut impl FnMut() -> DuplexStream,
        scope: &str,
        id: &str,
        key: &SymmetricKey,
    ) -> Result<Outcome, &'static str> {
        let token = match self.lowers_audience {
            true => self.token.write(&scope.to_lowercase(), &id.to_lowercase(), key),
            false => self.token.write(scope, id, key),
        };
        let path = format!("/{scope}/registrations/{}", id.replace(':', self.colon));
        let mut stream = connect();
        let body = (self.register_body)(id);
        let mut answer =
            self.ask(&mut stream, "PUT", &format!("{path}/register"), &token, Some(&body)).await?;
        if !(self.accepts_register)(answer.status) {
            return refusal(&answer);
        }
        let mut operation = None;
        loop {
            match answer.body["status"].as_str() {
                Some("assigning") => {}
                // It looks at nothing else in the answer to a register.
                Some(_) if self.lowers_audience && operation.is_none() => {}
                Some(_) => return (self.read_final)(&answer.body),
                None => return Err("no status"),
            }
            let known = answer.body["operationId"].as_str().map(str::to_owned);
            let known = operation.insert(known.filter(|it| !it.is_empty()).ok_or("no operationId")?).clone();
            let wait =
                answer.headers.get("retry-after").map(|seconds| seconds.parse().map_err(|_| "retry-after"));
            sleep(Duration::from_secs((self.pace)(wait.transpose()?))).await;
            if self.connects_anew {
                stream = connect();
            }
            let poll = format!("{path}/operations/{known}");
            answer = self.ask(&mut stream, "GET", &poll, &token, self.poll_body).await?;
            if ![200, 202].contains(&answer.status) {
                return refusal(&answer);
            }
            if answer.body["registrationState"]["registrationId"].is_null() {
                return Err("no registrationState.registrationId");
            }
        }
    }

    async fn ask(
        &self,
        stream: &mut DuplexStream,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&str>,
    ) -> Result<Answer, &'static str> {
        let Self { api_version, headers, authorization, .. } = self;
        let length = body.map(|body| format!("content-length: {}\r\n", body.len())).unwrap_or_default();
        let request = format!(
            "{method} {path}?api-version={api_version} HTTP/1.1\r\nHost: dps.example:443\r\n{headers}{authorization}: {token}\r\n\
             {length}\r\n{}",
            body.unwrap_or_default()
        );
        stream.write_all(request.as_bytes()).await.map_err(|_| "the connection was closed")?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.map_err(|_| "the connection was closed")?);
        }
        let head = String::from_utf8(head).map_err(|_| "no text")?;
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok()).ok_or("no status line")?;
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        if !headers.get("content-type").is_some_and(|it| it.contains("application/json")) {
            return Err("no JSON by its content-type");
        }
        let length: usize =
            headers.get("content-length").and_then(|it| it.parse().ok()).ok_or("no content-length")?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.map_err(|_| "the connection was closed")?;
        let body = serde_json::from_slice(&body).map_err(|_| "no JSON")?;
        Ok(Answer { status, headers, body })
    }
}

fn refusal(answer: &Answer) -> Result<Outcome, &'static str> {
    match answer.body["errorCode"].as_u64() {
        Some(code) if code / 1_000 == u64::from(answer.status) => Ok(Outcome::Refused(code)),
        _ => Err("no errorCode"),
    }
}

/// What all of them need of a final answer.
fn by_state(body: &Value) -> Result<Outcome, &'static str> {
    let state = &body["registrationState"];
    if state["status"] != body["status"] || state["registrationId"].is_null() {
        return Err("registrationState");
    }
    let text = |name: &str| state[name].as_str().map(str::to_owned);
    match body["status"].as_str() {
        Some("assigned") => {
            let (hub, device_id) = (text("assignedHub"), text("deviceId"));
            Ok(Outcome::Assigned { hub: hub.ok_or("assignedHub")?, device_id: device_id.ok_or("deviceId")? })
        }
        Some("failed") => Ok(Outcome::Failed(state["errorCode"].as_u64().ok_or("errorCode")?)),
        Some("disabled") => Ok(Outcome::Disabled),
        _ => Err("status"),
    }
}
