//! A server by hand that says just what it was told to say.

use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

use crate::wire::{self, Seen};

pub(crate) struct Script {
    pub(crate) session_present: bool,
    /// The granted QoS, or 0x80; `None` grants what was asked.
    pub(crate) suback: Option<u8>,
    pub(crate) receipt_first: bool,
    pub(crate) unasked_pingresp: bool,
    pub(crate) answers_twice: bool,
    pub(crate) answer_qos: u8,
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
            session_present: false,
            suback: None,
            receipt_first: true,
            unasked_pingresp: false,
            answers_twice: false,
            answer_qos: 0,
            topic_202: "$dps/registrations/res/202/?$rid={rid}&retry-after=3".into(),
            body_202: r#"{"operationId":"5.x","status":"assigning"}"#.into(),
            topic_200: "$dps/registrations/res/200/?$rid={rid}".into(),
            body_200: format!(r#"{{"operationId":"5.x","status":"assigned","registrationState":{state}}}"#),
        }
    }

    /// The client's end of a connection to it.
    pub(crate) fn serve(self) -> DuplexStream {
        let (client, mut server) = duplex(16_384);
        tokio::spawn(async move {
            while let Some(seen) = wire::read(&mut server).await {
                let answer = self.answer(seen);
                if server.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
        client
    }

    fn answer(&self, seen: Seen) -> Vec<u8> {
        match seen {
            Seen::Connect => wire::packet(0x20, &[u8::from(self.session_present), 0]),
            Seen::Subscribe(qos) => wire::packet(0x90, &[0, 1, self.suback.unwrap_or(qos)]),
            Seen::Publish { topic, qos, id, .. } => {
                let rid = topic.split("$rid=").nth(1).unwrap().split('&').next().unwrap();
                let (topic, body) = if topic.contains("iotdps-register") {
                    (&self.topic_202, &self.body_202)
                } else {
                    (&self.topic_200, &self.body_200)
                };
                let answer = wire::publish(&topic.replace("{rid}", rid), self.answer_qos, 1, body);
                let receipt = if qos > 0 { wire::packet(0x40, &id.to_be_bytes()) } else { Vec::new() };
                let again = if self.answers_twice { answer.clone() } else { Vec::new() };
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
