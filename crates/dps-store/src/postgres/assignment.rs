//! Columns of an assignment, of which a record has two sets: where the device lives, and where it is to live.

use dps_core::registration::{Assignment, HubCredential};
use dps_proto::ids::HubName;

use super::columns::Columns;
use super::fault::Fault;
use super::signers;

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
