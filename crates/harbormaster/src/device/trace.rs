//! The exchange, step by step, for people.

use std::io::{self, Write};
use std::time::Duration;

use dps_client::device::Step;
use dps_proto::mqtt::{Connect, Delivery, Packet, Publish};

/// Writes one step. A password is shown as its length only.
pub(super) fn step(out: &mut impl Write, at: Duration, step: &Step<'_>) -> io::Result<()> {
    let seconds = at.as_secs_f64();
    match step {
        Step::Connected { tls } => writeln!(out, "{seconds:8.3}  --  connected, {tls}"),
        Step::Upgraded => writeln!(out, "{seconds:8.3}  --  WebSocket, subprotocol mqtt"),
        Step::Asked { method, path, body } => {
            writeln!(out, "{seconds:8.3}  ->  {method} {path}{}", on_a_line_of_its_own(body))
        }
        Step::Answered { status, retry_after_s, body } => {
            let retry_after = retry_after_s.map(|seconds| format!(", Retry-After {seconds}"));
            let retry_after = retry_after.unwrap_or_default();
            writeln!(out, "{seconds:8.3}  <-  {status}{retry_after}{}", on_a_line_of_its_own(body))
        }
        Step::Sent(packet) => writeln!(out, "{seconds:8.3}  ->  {}", describe(packet)),
        Step::Received(packet) => writeln!(out, "{seconds:8.3}  <-  {}", describe(packet)),
    }
}

fn on_a_line_of_its_own(body: &[u8]) -> String {
    if body.is_empty() { String::new() } else { format!("\n{:14}{}", "", String::from_utf8_lossy(body)) }
}

fn describe(packet: &Packet) -> String {
    let kind = packet.kind();
    match packet {
        Packet::Connect(connect) => describe_connect(connect),
        Packet::ConnAck(connack) => format!(
            "{kind} code {} ({:?}), session present {}",
            connack.code as u8, connack.code, connack.session_present
        ),
        Packet::Publish(publish) => describe_publish(publish),
        Packet::PubAck { packet_id } => format!("{kind} {packet_id}"),
        Packet::Subscribe(subscribe) => {
            let filters: Vec<_> = subscribe
                .subscriptions
                .iter()
                .map(|line| format!("{} QoS {}", line.filter, line.qos as u8))
                .collect();
            format!("{kind} {} {}", subscribe.packet_id, filters.join(", "))
        }
        Packet::SubAck(suback) => format!("{kind} {} {:?}", suback.packet_id, suback.codes),
        Packet::Unsubscribe(unsubscribe) => format!("{kind} {}", unsubscribe.packet_id),
        Packet::UnsubAck { packet_id } => format!("{kind} {packet_id}"),
        Packet::ConnectOfOtherLevel { .. } | Packet::PingReq | Packet::PingResp | Packet::Disconnect => {
            kind.to_string()
        }
    }
}

fn describe_connect(connect: &Connect) -> String {
    let credentials = connect.credentials.as_ref();
    let user_name = credentials.map_or("none", |credentials| &credentials.user_name);
    let password = match credentials.and_then(|credentials| credentials.password.as_ref()) {
        Some(password) => format!("a SAS token of {} bytes", password.expose().len()),
        None => "none".to_owned(),
    };
    format!(
        "CONNECT client id {}, clean session {}, keepalive {} s\n\
         {:14}user name {user_name}\n\
         {:14}password {password}",
        connect.client_id, connect.clean_session, connect.keep_alive_s, "", ""
    )
}

fn describe_publish(publish: &Publish) -> String {
    let delivery = match publish.delivery {
        Delivery::AtMostOnce => "QoS 0".to_owned(),
        Delivery::AtLeastOnce { packet_id, .. } => format!("QoS 1, id {packet_id}"),
        Delivery::ExactlyOnce { .. } => "QoS 2".to_owned(),
    };
    let body = String::from_utf8_lossy(&publish.payload);
    let body = if body.trim().is_empty() { "(no body)".into() } else { body };
    format!("PUBLISH {delivery}\n{:14}{}\n{:14}{body}", "", publish.topic, "")
}
