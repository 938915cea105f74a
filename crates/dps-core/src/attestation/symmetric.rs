//! Symmetric keys: an individual enrollment's, or one derived from a group's. Spec: DPS-SAS-7 to DPS-SAS-9, DPS-REG-2,
//! DPS-REG-4.

use std::sync::{Arc, OnceLock};

use dps_proto::ids::RegistrationId;
use dps_proto::key::KeyPair;
use dps_proto::sas::SasToken;

use crate::enrollment::{EnrollmentGroup, GroupAttestation, ProvisioningStatus};
use crate::ports::{CandidateGroups, SearchPool, SearchTurn};
use crate::refusal::{EntriesTried, Refusal, Unproven};

/// Most groups that are tried on the caller's own thread; handing a job over costs about as much. Spec: DPS-REG-4.
const GROUPS_INLINE_MAX: usize = 8;

/// The group whose derived key made a signature.
#[derive(Debug, Clone)]
pub(crate) struct GroupMatch {
    pub(crate) group: Arc<EnrollmentGroup>,
    /// The spelling of the registration id that the keys are derived from.
    pub(crate) spelling: Box<str>,
    /// The device's keys.
    pub(crate) keys: KeyPair,
}

/// Spec: DPS-SAS-8.
pub(crate) fn signed_by_either(token: &SasToken, keys: &KeyPair) -> bool {
    token.is_signed_by(&keys.primary) || token.is_signed_by(&keys.secondary)
}

/// Whether the token is signed with the device key of this group. Spec: DPS-SAS-7, DPS-SAS-8.
pub(crate) fn verify_group(
    token: &SasToken,
    group: &Arc<EnrollmentGroup>,
    id: &RegistrationId,
) -> Option<GroupMatch> {
    let group_keys = keys_of(group)?;
    spellings(id).find_map(|spelling| {
        let keys = group_keys.derive(spelling);
        signed_by_either(token, &keys).then(|| GroupMatch {
            group: Arc::clone(group),
            spelling: spelling.into(),
            keys,
        })
    })
}

/// Tries the candidates in their order. Spec: DPS-REG-2, DPS-REG-4.
pub(crate) async fn search(
    pool: &dyn SearchPool,
    turn: SearchTurn,
    token: &SasToken,
    id: &RegistrationId,
    candidates: CandidateGroups,
) -> Result<GroupMatch, Refusal> {
    let groups = in_order(candidates);
    let tried = EntriesTried {
        disabled: None,
        groups: groups.len(),
        groups_named: groups
            .iter()
            .take(EntriesTried::GROUPS_NAMED_MAX)
            .map(|group| group.id.clone())
            .collect(),
        spellings: spellings(id).map(Into::into).collect(),
    };
    let verdict = if groups.len() <= GROUPS_INLINE_MAX {
        try_all(token, &groups, id)
    } else {
        let verdict = Arc::new(OnceLock::new());
        // Deriving and verifying for both keys and each spelling; on failure once more with the group's own keys.
        let signatures_per_group = 4 * spellings(id).count() + 2;
        let signatures = u32::try_from(groups.len() * signatures_per_group).unwrap_or(u32::MAX);
        let job = {
            let (token, id, verdict) = (token.clone(), id.clone(), Arc::clone(&verdict));
            move || {
                // The pool runs a job once, so the cell is empty.
                let _ = verdict.set(try_all(&token, &groups, &id));
            }
        };
        pool.run(turn, signatures, Box::new(job)).await.map_err(|_| Refusal::Busy)?;
        // A pool that lost its job answers like a busy one: the device asks again.
        Arc::try_unwrap(verdict).ok().and_then(OnceLock::into_inner).ok_or(Refusal::Busy)?
    };
    verdict.map_err(|misuse| {
        let why = match misuse {
            Some(group) => Unproven::GroupKeyUsedDirectly(group.id.clone()),
            None => Unproven::NoEntry(tried),
        };
        Refusal::Unproven(why)
    })
}

/// The first match; else the group whose own key was used, if there is one. Spec: DPS-SAS-9.
fn try_all(
    token: &SasToken,
    groups: &[Arc<EnrollmentGroup>],
    id: &RegistrationId,
) -> Result<GroupMatch, Option<Arc<EnrollmentGroup>>> {
    groups.iter().find_map(|group| verify_group(token, group, id)).ok_or_else(|| {
        let misused =
            groups.iter().find(|group| keys_of(group).is_some_and(|keys| signed_by_either(token, keys)));
        misused.cloned()
    })
}

fn keys_of(group: &EnrollmentGroup) -> Option<&KeyPair> {
    match &group.attestation {
        GroupAttestation::SymmetricKey(keys) => Some(keys),
        GroupAttestation::Signers(_) => None,
    }
}

/// As presented, then in lower case if that is another text. Spec: DPS-SAS-7.
fn spellings(id: &RegistrationId) -> impl Iterator<Item = &str> {
    let folded = Some(id.folded()).filter(|folded| *folded != id.as_str());
    std::iter::once(id.as_str()).chain(folded)
}

/// Longest prefix first, then groups without one; among equals disabled before enabled. Spec: DPS-REG-2.
fn in_order(candidates: CandidateGroups) -> Vec<Arc<EnrollmentGroup>> {
    let mut groups = candidates.prefixed;
    groups.extend(candidates.open.iter().cloned());
    let prefix_length = |group: &EnrollmentGroup| {
        group.registration_id_prefix.as_ref().map_or(0, |prefix| prefix.as_str().len())
    };
    groups.sort_by_key(|group| {
        let is_enabled = group.settings.provisioning_status == ProvisioningStatus::Enabled;
        (std::cmp::Reverse(prefix_length(group)), is_enabled)
    });
    groups
}
