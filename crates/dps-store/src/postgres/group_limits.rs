//! How many groups there may be that a device is tried with. Spec: DPS-REG-3, DPS-REG-21.
//!
//! Whoever writes a group of an ID scope holds the row of that scope in `enrollment_group_version`, so that what is counted here is
//! so when the transaction ends.

use deadpool_postgres::Transaction;
use dps_core::enrollment::{
    EnrollmentGroup, GroupAttestation, OPEN_GROUPS_MAX, PREFIXED_GROUPS_MAX, RegistrationIdPrefix,
};
use dps_core::ports::WriteError;
use dps_proto::ids::EnrollmentGroupId;

use super::columns::Columns;
use super::fault::Fault;
use super::transaction::query;

/// Whether there is room for a group beside the others.
pub(super) async fn check(
    transaction: &Transaction<'_>,
    scope: &str,
    group: &EnrollmentGroup,
    has_prefix_already: bool,
) -> Result<Result<(), WriteError>, Fault> {
    match &group.registration_id_prefix {
        None if matches!(group.attestation, GroupAttestation::Signers(_)) => {}
        None => {
            let others = other_open_groups(transaction, scope, &group.id).await?;
            if others >= OPEN_GROUPS_MAX {
                return Ok(Err(WriteError::TooManyOpenGroups(others)));
            }
        }
        Some(wanted) if !has_prefix_already => {
            let most = wanted.most_on_one_id(other_prefixes(transaction, scope, &group.id, wanted).await?);
            if most > PREFIXED_GROUPS_MAX {
                return Ok(Err(WriteError::TooManyPrefixedGroups(most)));
            }
        }
        Some(_) => {}
    }
    Ok(Ok(()))
}

/// Spec: DPS-REG-3.
async fn other_open_groups(
    transaction: &Transaction<'_>,
    scope: &str,
    id: &EnrollmentGroupId,
) -> Result<usize, Fault> {
    let select = "SELECT count(*) FROM enrollment_group
                  WHERE id_scope = $1 AND registration_id_prefix IS NULL AND attestation = 'symmetric_key'
                    AND enrollment_group_id <> $2";
    let rows = query(transaction, select, &[&scope, &id.folded()]).await?;
    rows.first().map_or(Ok(0), |row| Columns::of(row).number())
}

/// Of the other groups, those whose prefix is the beginning of `prefix` or goes on from it.
async fn other_prefixes(
    transaction: &Transaction<'_>,
    scope: &str,
    id: &EnrollmentGroupId,
    prefix: &RegistrationIdPrefix,
) -> Result<Vec<RegistrationIdPrefix>, Fault> {
    let mut shorter = beginnings(prefix.as_str());
    shorter.pop();
    // No prefix holds a character as high as DEL.
    let after = format!("{}\u{7f}", prefix.as_str());
    let select = "SELECT registration_id_prefix FROM enrollment_group
                  WHERE id_scope = $1 AND enrollment_group_id <> $2
                    AND registration_id_prefix >= $3 AND registration_id_prefix < $4
                  UNION ALL
                  SELECT registration_id_prefix FROM enrollment_group
                  WHERE id_scope = $1 AND enrollment_group_id <> $2 AND registration_id_prefix = ANY ($5)";
    let rows =
        query(transaction, select, &[&scope, &id.folded(), &prefix.as_str(), &after, &shorter]).await?;
    rows.iter().map(|row| Columns::of(row).parsed()).collect()
}

/// Every text that an id begins with, itself last; ids are ASCII.
pub(super) fn beginnings(id: &str) -> Vec<&str> {
    (1..=id.len()).filter_map(|length| id.get(..length)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-REG-2
    #[test]
    fn an_id_begins_with_all_of_its_beginnings() {
        assert_eq!(beginnings("abc"), ["a", "ab", "abc"]);
        assert_eq!(beginnings(""), [""; 0]);
    }
}
