//! Columns of an assignment, of which a record has two sets: where the device lives, and where it is to live.

use dps_core::registration::{Assignment, HubCredential};
use dps_proto::ids::HubName;

use super::columns::Columns;
use super::fault::Fault;
use super::signers;

/// All NULL where there is no assignment.
#[derive(Default)]
pub(super) struct AssignmentColumns<'record> {
    pub(super) hub: Option<&'record str>,
    pub(super) device_id: Option<&'record str>,
    pub(super) derived_spelling: Option<&'record str>,
    pub(super) thumbprint: Option<&'record [u8; 32]>,
    pub(super) storage_root_key: Option<&'record [u8]>,
}

impl<'record> AssignmentColumns<'record> {
    pub(super) fn of(assignment: Option<&'record Assignment>) -> Self {
        let Some(assignment) = assignment else { return Self::default() };
        let (hub, device_id) = (Some(assignment.hub.as_str()), Some(assignment.device_id.as_str()));
        Self { hub, device_id, ..Self::by(&assignment.credential) }
    }

    /// The credential alone.
    pub(super) fn by(credential: &'record HubCredential) -> Self {
        let bare = Self::default();
        match credential {
            HubCredential::EnrollmentKeys => bare,
            HubCredential::DerivedKeys { spelling } => Self { derived_spelling: Some(spelling), ..bare },
            HubCredential::Certificate { thumbprint } => {
                Self { thumbprint: Some(thumbprint.as_bytes()), ..bare }
            }
            HubCredential::Tpm { storage_root_key } => {
                Self { storage_root_key: Some(storage_root_key), ..bare }
            }
        }
    }
}

/// The assignment, if there is one, and the credential that stands there in any case.
pub(super) fn read(columns: &mut Columns<'_>) -> Result<(Option<Assignment>, HubCredential), Fault> {
    let hub: Option<HubName> = columns.optional()?;
    let device_id = columns.optional()?;
    let derived_spelling: Option<&str> = columns.value()?;
    let thumbprint = signers::thumbprint(columns)?;
    let storage_root_key: Option<&[u8]> = columns.value()?;
    let credential = match (derived_spelling, thumbprint, storage_root_key) {
        (Some(spelling), _, _) => HubCredential::DerivedKeys { spelling: spelling.into() },
        (None, Some(thumbprint), _) => HubCredential::Certificate { thumbprint },
        (None, None, Some(key)) => HubCredential::Tpm { storage_root_key: key.into() },
        (None, None, None) => HubCredential::EnrollmentKeys,
    };
    let assignment = hub.zip(device_id);
    let assignment =
        assignment.map(|(hub, device_id)| Assignment { hub, device_id, credential: credential.clone() });
    Ok((assignment, credential))
}
