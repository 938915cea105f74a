//! What goes wrong on command.

use serde::{Deserialize, Serialize};

/// What a registry is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// TCP and TLS, before there is a request. It knows `stall` and `cut`.
    Connect,
    /// `POST /devices`.
    Bulk,
    /// `GET /devices/{id}`.
    ReadIdentity,
    /// `PUT /devices/{id}`.
    WriteIdentity,
    /// `DELETE /devices/{id}`.
    DeleteIdentity,
    /// `GET /twins/{id}`.
    ReadTwin,
    /// `PUT /twins/{id}`.
    ReplaceTwin,
    /// `PATCH /twins/{id}`.
    MergeTwin,
}

/// How a step fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// Refused, and not done.
    Refuse {
        /// HTTP status.
        status: u16,
        /// What `iothub-errorcode` says.
        code: String,
        /// What `retry-after` says.
        retry_after: Option<u32>,
    },
    /// Not done and never answered.
    Stall,
    /// Done and never answered.
    StallAfter,
    /// Not done; the connection ends.
    Cut,
    /// Done; the connection ends without an answer.
    CutAfter,
    /// Done; the connection ends in the middle of the answer.
    CutMidway,
    /// Done; the answer is a page of HTML.
    Garble,
}

/// A step that fails, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which.
    pub step: Step,
    /// How.
    pub effect: Effect,
    /// How often, from the next time on.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// The faults to come, those of one step in the order of their planning.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn plan(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn next(&mut self, step: Step) -> Option<Effect> {
        let fault = self.0.iter_mut().find(|fault| fault.step == step && fault.times > 0)?;
        fault.times -= 1;
        Some(fault.effect.clone())
    }
}
