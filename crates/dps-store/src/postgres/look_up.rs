//! What is known of one device, or may be asked for it, each seen at one point in time: no node remembers it.
//! Spec: DPS-REG-2, DPS-NODE-1.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use dps_core::ca_certificate::CaCertificate;
use dps_core::ports::{CandidateGroups, ChainEntries, ChainWanted, LookUp};
use dps_proto::ids::{IdScope, RegistrationId};

use super::ca_certificate::CaCertificates;
use super::columns::Columns;
use super::enrollment_group::{self, OpenGroups};
use super::fault::Fault;
use super::remembered::Remembered;
use super::transaction::{Work, query};
use super::{individual_enrollment, registration};
use crate::sealing::Sealer;

/// One row in any case, and one statement, so that all is seen at one point in time.
pub(super) const LOOK_UP: &str = concat!(
    "SELECT ",
    individual_enrollment::columns!(),
    ", ",
    registration::columns!(),
    ", ",
    enrollment_group::columns!(),
    " FROM (SELECT $1::text AS id_scope, $2::text AS registration_id) device
     LEFT JOIN individual_enrollment e ON e.id_scope = $1 AND e.registration_id = $2
     LEFT JOIN registration r ON r.id_scope = $1 AND r.registration_id = $2
     LEFT JOIN enrollment_group g
         ON r.entry_kind = 'group' AND g.id_scope = $1 AND g.enrollment_group_id = r.entry_id"
);

/// Its enrollment, its record and the group of that.
pub(super) async fn look_up(
    on: &impl GenericClient,
    sealer: &Sealer,
    scope: &IdScope,
    id: &RegistrationId,
) -> Result<LookUp, Fault> {
    let rows = query(on, LOOK_UP, &[&scope.folded(), &id.folded()]).await?;
    let Some(row) = rows.first() else { return Ok(LookUp::default()) };
    let mut found = LookUp::default();
    let mut columns = Columns::of(row);
    if columns.is_null()? {
        columns.skip(individual_enrollment::COLUMNS);
    } else {
        found.individual_enrollment =
            Some(Arc::new(individual_enrollment::read(&mut columns, sealer, scope)?));
    }
    if columns.is_null()? {
        columns.skip(registration::COLUMNS);
    } else {
        found.registration = Some(registration::read(&mut columns, scope)?);
    }
    if !columns.is_null()? {
        found.registration_group = Some(Arc::new(enrollment_group::read(&mut columns, sealer, scope)?));
    }
    Ok(found)
}

/// The groups that a device may belong to.
pub(super) struct Candidates<'r> {
    pub(super) sealer: &'r Sealer,
    pub(super) scope: &'r IdScope,
    pub(super) id: &'r RegistrationId,
    pub(super) open_groups: &'r Remembered<OpenGroups>,
}

#[async_trait]
impl Work for Candidates<'_> {
    type Outcome = CandidateGroups;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<CandidateGroups, Fault> {
        let Self { sealer, scope, id, open_groups } = self;
        let (prefixed, open) = tokio::try_join!(
            enrollment_group::with_prefix_of(transaction, sealer, scope, id),
            open_groups.at(transaction, sealer, scope),
        )?;
        Ok(CandidateGroups { prefixed, open })
    }
}

/// What a chain may lead to. Spec: DPS-X509-6, DPS-X509-7.
pub(super) struct Chain<'r> {
    pub(super) sealer: &'r Sealer,
    pub(super) scope: &'r IdScope,
    pub(super) wanted: &'r ChainWanted,
    pub(super) ca_certificates: &'r Remembered<CaCertificates>,
}

#[async_trait]
impl Work for Chain<'_> {
    type Outcome = ChainEntries;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<ChainEntries, Fault> {
        let Self { sealer, scope, wanted, ca_certificates } = self;
        let authorities = ca_certificates.at(transaction, sealer, scope).await?;
        let anchors = wanted.anchors(&authorities);
        let (individual_enrollments, groups) = tokio::try_join!(
            individual_enrollment::of_thumbprint(transaction, sealer, scope, &wanted.leaf),
            enrollment_group::of_anchors(transaction, sealer, scope, &anchors),
        )?;
        Ok(ChainEntries { individual_enrollments, groups, authorities })
    }
}

/// The CA certificates of an instance.
pub(super) struct Authorities<'r> {
    pub(super) sealer: &'r Sealer,
    pub(super) scope: &'r IdScope,
    pub(super) ca_certificates: &'r Remembered<CaCertificates>,
}

#[async_trait]
impl Work for Authorities<'_> {
    type Outcome = Arc<[Arc<CaCertificate>]>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        self.ca_certificates.at(transaction, self.sealer, self.scope).await
    }
}
