//! A server by hand that says just what it was told to say.

use std::time::Duration;

use tokio::io::{DuplexStream, duplex};
use tokio::time::sleep;

use crate::wire::{self, Link, Seen};

pub(crate) struct Script {
    pub(crate) connack_code: u8,
    pub(crate) session_present: bool,
    /// The granted QoS, or 0x80; `None` grants what was asked.
    pub(crate) suback: Option<u8>,
    pub(crate) receipt_first: bool,
    pub(crate) unasked_pingresp: bool,
    /// Sends the answer to a register twice.
    pub(crate) register_answered_twice: bool,
    /// Sends the answer to a poll twice.
    pub(crate) poll_answered_twice: bool,
    pub(crate) answer_qos: u8,
    pub(crate) answers_after: Duration,
    /// To a register; `{rid}` is what was asked.
    pub(crate) topic_202: String,
    pub(crate) body_202: String,
    /// To a poll.
    pub(crate) topic_200: String,
    pub(crate) body_200: String,
}

impl Script {
    pub(crate) fn right() -> Self {
        let state = r#"{"registrationId":"dev-1","assignedHub":"hub.localhost","deviceId":"dev-1","status":"assigned"}"#;
        Self {
            connack_code: 0,
            session_present: false,
            suback: None,
            receipt_first: true,
            unasked_pingresp: false,
            register_answered_twice: false,
            poll_answered_twice: false,
            answer_qos: 0,
            answers_after: Duration::ZERO,
            topic_202: "$dps/registrations/res/202/?$rid={rid}&retry-after=3".into(),
            body_202: r#"{"operationId":"5.x","status":"assigning"}"#.into(),
            topic_200: "$dps/registrations/res/200/?$rid={rid}".into(),
            body_200: format!(r#"{{"operationId":"5.x","status":"assigned","registrationState":{state}}}"#),
        }
    }

    /// The client's end of a connection to it.
    pub(crate) fn serve(self) -> DuplexStream {
        let (client, server) = duplex(16_384);
        tokio::spawn(async move {
            let mut link = Link::new(server);
            while let Some(seen) = link.next().await {
                if matches!(seen, Seen::Publish { .. }) {
                    sleep(self.answers_after).await;
                }
                if link.send(&self.answer(seen)).await.is_err() {
                    return;
                }
            }
        });
        client
    }

    fn answer(&self, seen: Seen) -> Vec<u8> {
        match seen {
            Seen::Connect => wire::packet(0x20, &[u8::from(self.session_present), self.connack_code]),
            Seen::Subscribe(qos) => wire::packet(0x90, &[0, 1, self.suback.unwrap_or(qos)]),
            Seen::Publish { topic, qos, id, .. } => {
                let rid = topic.split("$rid=").nth(1).unwrap().split('&').next().unwrap();
                let (topic, body, is_twice) = if topic.contains("iotdps-register") {
                    (&self.topic_202, &self.body_202, self.register_answered_twice)
                } else {
                    (&self.topic_200, &self.body_200, self.poll_answered_twice)
                };
                let answer = wire::publish(&topic.replace("{rid}", rid), self.answer_qos, 1, body);
                let receipt = if qos > 0 { wire::packet(0x40, &id.to_be_bytes()) } else { Vec::new() };
                let again = if is_twice { answer.clone() } else { Vec::new() };
                let ping = if self.unasked_pingresp { wire::packet(0xD0, &[]) } else { Vec::new() };
                let parts = if self.receipt_first {
                    [ping, receipt, answer, again]
                } else {
                    [ping, answer, receipt, again]
                };
                parts.concat()
            }
            _ => Vec::new(),
        }
    }
}
