//! The body of a request: read once, within a time and up to a size, or thrown away.
//! Spec: DPS-SERVICE-1, DPS-SERVICE-18, DPS-HTTPS-8.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderValue};
use tokio::time::{Instant, timeout_at};

use crate::limits::{BudgetSpent, Charge};

/// Most bytes of a body that are taken and thrown away, so that its sender can read the answer.
const DISCARDED_BYTES_MAX: usize = 1024 * 1024;

/// What a device may send whatever others do: an ordinary register fits. Spec: DPS-LIMIT-10.
const OWN_BYTES: usize = 4 * 1024;

/// What is left of a request's body.
pub(crate) struct RequestBody<B> {
    body: Limited<B>,
    within: Duration,
    deadline: Instant,
    is_small: bool,
    /// The client waits to be asked for it.
    holds_back: bool,
}

/// Why a body cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It is of another media type.
    #[error("the body is {0:?}, not application/json")]
    MediaType(String),
    /// It is too large.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The peer broke off.
    #[error("the body did not arrive: {0}")]
    Broken(String),
    /// The peer was too slow. Spec: DPS-LIMIT-3.
    #[error("the body did not arrive within {0:?}")]
    Late(Duration),
    /// Others, who have proved nothing either, have taken the room. Spec: DPS-MQTT-30.
    #[error("{BudgetSpent}")]
    NoRoom,
}

/// What bodies come in.
pub(crate) trait Incoming:
    Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin
{
}

impl<B> Incoming for B where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin
{
}

impl<B: Incoming> RequestBody<B> {
    /// The body must be there `within` this time.
    pub(crate) fn new(headers: &HeaderMap, body: B, within: Duration) -> Self {
        Self {
            is_small: body.size_hint().lower() <= DISCARDED_BYTES_MAX as u64,
            holds_back: headers.contains_key(header::EXPECT),
            body: Limited::new(body, DISCARDED_BYTES_MAX),
            within,
            deadline: Instant::now() + within,
        }
    }

    /// All of a body that must be JSON by what its head says of it, where there is one. What of it is more than a connection's own
    /// counts against `charge`, where there is one: whoever sends it has proved nothing. Spec: DPS-LIMIT-10.
    pub(crate) async fn json(
        &mut self,
        headers: &HeaderMap,
        bytes_max: usize,
        charge: Option<&mut Charge>,
    ) -> Result<Bytes, BodyFault> {
        self.holds_back = false;
        let late = BodyFault::Late(self.within);
        let body = timeout_at(self.deadline, self.collect(bytes_max, charge)).await.unwrap_or(Err(late))?;
        let media_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
        match media_type.filter(|_| !body.is_empty()) {
            Some(media_type) if !media_type.to_ascii_lowercase().contains("json") => {
                Err(BodyFault::MediaType(media_type.chars().take(128).collect()))
            }
            _ => Ok(body),
        }
    }

    async fn collect(
        &mut self,
        bytes_max: usize,
        mut charge: Option<&mut Charge>,
    ) -> Result<Bytes, BodyFault> {
        let mut body = Limited::new(&mut self.body, bytes_max);
        let mut collected = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let data = match frame {
                Err(why) if why.is::<LengthLimitError>() => return Err(BodyFault::TooLarge(bytes_max)),
                Err(why) => return Err(BodyFault::Broken(why.to_string())),
                // Trailers are of no use.
                Ok(frame) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            if let Some(charge) = &mut charge {
                let bytes = collected.len() + data.remaining();
                charge.resize(bytes.saturating_sub(OWN_BYTES)).map_err(|BudgetSpent| BodyFault::NoRoom)?;
            }
            collected.put(data);
        }
        Ok(collected.freeze())
    }

    /// Takes what nobody has read; where that is too much, or has not been asked for, the connection ends with the answer, for
    /// where the next request begins is not known.
    ///
    /// A connection is closed under a client that still sends: its next request fails, or even the answer to this one.
    pub(crate) async fn finish(mut self, answer: &mut HeaderMap) {
        // To read would be to ask for what the client has not sent yet and need not send.
        let is_read = self.body.is_end_stream()
            || (self.is_small
                && !self.holds_back
                && timeout_at(self.deadline, discard(&mut self.body)).await.unwrap_or(false));
        if !is_read {
            answer.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Whether it came to its end.
async fn discard<B: Body + Unpin>(body: &mut B) -> bool {
    loop {
        match body.frame().await {
            None => return true,
            Some(Ok(_)) => {}
            Some(Err(_)) => return false,
        }
    }
}
