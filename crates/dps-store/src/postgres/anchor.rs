//! Rows of `enrollment_group_anchor`: what chains find groups by. Spec: DPS-X509-7, DPS-X509-30.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use dps_core::ca_certificate::CaName;
use dps_core::enrollment::{EnrollmentGroup, GROUPS_OF_ONE_SUBJECT_MAX, GroupAttestation, Signers};
use dps_core::ports::{AnchorsWanted, WriteError};
use dps_core::x509::NameKey;
use dps_proto::ids::EnrollmentGroupId;

use super::columns::Columns;
use super::fault::Fault;
use super::transaction::{execute, query};

/// Puts the anchors of a group in place of those that it had, if there is room for them beside those of others.
pub(super) async fn replace(
    transaction: &Transaction<'_>,
    scope: &str,
    group: &EnrollmentGroup,
) -> Result<Result<(), WriteError>, Fault> {
    let (anchors, id) = (anchors(group), group.id.folded());
    let count = "SELECT count(*) FROM enrollment_group_anchor
                 WHERE id_scope = $1 AND anchor = $2 AND enrollment_group_id <> $3";
    for anchor in &anchors {
        let rows = query(transaction, count, &[&scope, anchor, &id]).await?;
        let others: usize = rows.first().map_or(Ok(0), |row| Columns::of(row).number())?;
        if others >= GROUPS_OF_ONE_SUBJECT_MAX {
            return Ok(Err(WriteError::TooManyGroupsOfOneSubject(GROUPS_OF_ONE_SUBJECT_MAX)));
        }
    }
    delete(transaction, scope, &group.id).await?;
    let insert =
        "INSERT INTO enrollment_group_anchor (id_scope, anchor, enrollment_group_id) VALUES ($1, $2, $3)";
    for anchor in &anchors {
        execute(transaction, insert, &[&scope, anchor, &id]).await?;
    }
    Ok(Ok(()))
}

pub(super) async fn delete(
    transaction: &Transaction<'_>,
    scope: &str,
    id: &EnrollmentGroupId,
) -> Result<(), Fault> {
    let delete = "DELETE FROM enrollment_group_anchor WHERE id_scope = $1 AND enrollment_group_id = $2";
    execute(transaction, delete, &[&scope, &id.folded()]).await?;
    Ok(())
}

/// The anchors that a chain may lead to.
pub(super) fn wanted(wanted: &AnchorsWanted) -> Vec<String> {
    wanted.subjects.iter().map(of_subject).chain(wanted.ca_names.iter().map(of_ca)).collect()
}

/// The anchor of a CA certificate.
pub(super) fn of_ca(name: &CaName) -> String {
    format!("ca/{}", name.folded())
}

/// What chains find a group by.
fn anchors(group: &EnrollmentGroup) -> BTreeSet<String> {
    match &group.attestation {
        GroupAttestation::SymmetricKey(_) => BTreeSet::new(),
        GroupAttestation::Signers(Signers::Certificates(pair)) => {
            pair.iter().map(|certificate| of_subject(&certificate.subject())).collect()
        }
        GroupAttestation::Signers(Signers::CaReferences(names)) => names.iter().map(of_ca).collect(),
    }
}

fn of_subject(subject: &NameKey) -> String {
    let digits = subject.as_bytes().iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    "subject/".chars().chain(digits).collect()
}
