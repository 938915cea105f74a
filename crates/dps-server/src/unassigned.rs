//! Devices that proved themselves and have no hub all the same. Spec: DPS-EXPLAIN-10.

use dps_core::registration::{Failure, Registration, State};

use crate::fault;

/// Why a register that was carried out ended without a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unassigned {
    /// The status that the device is told.
    pub outcome: &'static str,
    /// What the device is told beside it: an error code, or the status once more where there is none.
    pub told: String,
    /// What was wrong.
    pub reason: String,
    /// What would have worked.
    pub advice: &'static str,
}

impl Unassigned {
    /// `None` for a device that has a hub, or will have one.
    pub fn of(registration: &Registration) -> Option<Self> {
        match &registration.state {
            State::Assigned { .. } | State::Assigning { .. } => None,
            State::Disabled { .. } => Some(Self {
                outcome: "disabled",
                told: "disabled".to_owned(),
                reason: format!("the credential proves the device, and {} is disabled", registration.entry),
                advice: "enable the enrollment",
            }),
            State::Failed { failure, .. } => Some(Self {
                outcome: "failed",
                told: fault::of_failure(*failure).0.to_string(),
                reason: failure.to_string(),
                advice: match failure {
                    Failure::NoUsableHub | Failure::EnrollmentGone => {
                        "link a hub that the enrollment allows and whose allocation weight is not 0"
                    }
                    Failure::DeviceIdRefused => {
                        "give the device an id without '.', '+', '*' and '#': deviceId of its individual enrollment, or another \
                         registration id"
                    }
                },
            }),
        }
    }
}
