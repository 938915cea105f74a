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
    /// Done and answered so much later, whether or not anybody waits for it: a request that was on its way when its sender ended.
    Late {
        /// In milliseconds.
        milliseconds: u32,
    },
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

/// A fault as it is planned over HTTPS: it may be that of one device, and begin later.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PlannedFault {
    step: Step,
    effect: Effect,
    #[serde(default = "once")]
    times: u32,
    /// Whose requests fail; those of every device where there is none.
    #[serde(default)]
    device_id: Option<String>,
    /// How often the step goes well before.
    #[serde(default)]
    after: u32,
}

impl From<Fault> for PlannedFault {
    fn from(Fault { step, effect, times }: Fault) -> Self {
        Self { step, effect, times, device_id: None, after: 0 }
    }
}

impl PlannedFault {
    fn is_of(&self, step: Step, device_id: &str) -> bool {
        self.step == step && self.device_id.as_ref().is_none_or(|of| of == device_id)
    }
}

/// The faults to come, those of one step in the order of their planning.
#[derive(Default)]
pub(crate) struct Faults(Vec<PlannedFault>);

impl Faults {
    pub(crate) fn plan(&mut self, fault: PlannedFault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// How a step fails that is asked for a device; the empty id is that of no device.
    pub(crate) fn next(&mut self, step: Step, device_id: &str) -> Option<Effect> {
        let fault = self.0.iter_mut().find(|fault| fault.times > 0 && fault.is_of(step, device_id))?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.effect.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_one_device_is_none_of_another_and_begins_when_it_is_to() {
        let plan = r#"{"step": "readTwin", "effect": "cut", "deviceId": "a", "after": 1, "times": 2}"#;
        let mut faults = Faults::default();
        faults.plan(serde_json::from_str(plan).unwrap());
        assert_eq!(faults.next(Step::ReadTwin, "b"), None);
        assert_eq!(faults.next(Step::ReadIdentity, "a"), None);
        let seen: Vec<_> = (0..4).map(|_| faults.next(Step::ReadTwin, "a")).collect();
        assert_eq!(seen, [None, Some(Effect::Cut), Some(Effect::Cut), None]);
        assert!(
            serde_json::from_str::<PlannedFault>(r#"{"step": "bulk", "effect": "cut", "time": 1}"#).is_err()
        );
    }
}
