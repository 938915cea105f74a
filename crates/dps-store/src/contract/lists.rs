//! Entries and records, listed page by page. Spec: DPS-STORE-11.

use std::sync::Arc;

use dps_core::enrollment::{
    AllocationPolicy, Attestation, EnrollmentGroup, EntryRef, EntrySettings, GroupAttestation,
    IndividualEnrollment, ProvisioningStatus, Signers,
};
use dps_core::entry_filter::{AttestationKind, EntryFilter, IdFilter, PolicyFilter, TimeRange};
use dps_core::ports::Store;
use dps_core::registration::Registration;

use super::fixtures::*;

super::on_every_store!(
    individual_enrollments_are_listed_in_the_order_of_their_folded_ids,
    enrollment_groups_are_listed_in_the_order_of_their_folded_ids,
    the_records_of_a_group_are_listed_and_no_others,
    lists_of_two_id_scopes_never_meet,
    a_list_holds_the_entries_that_its_filter_takes,
);

/// Takes everything.
fn all() -> EntryFilter {
    EntryFilter::default()
}

/// Written in no order; `_` stands between the upper and the lower case of ASCII, and ids sort by their lower case.
const IDS: [&str; 5] = ["b-2", "A-1", "c_3", "B-10", "c3"];
const SORTED: [&str; 5] = ["A-1", "B-10", "b-2", "c3", "c_3"];

/// DPS-STORE-11
async fn individual_enrollments_are_listed_in_the_order_of_their_folded_ids(store: Arc<dyn Store>) {
    for (id, number) in IDS.iter().zip(1..) {
        put(&*store, enrollment(id, number)).await;
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.individual_enrollments(&scope(), &all(), after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(device(&last.registration_id.as_str().to_uppercase()));
        seen.extend(page.iter().map(|enrollment| shown_enrollment(enrollment)));
    }
    let number = |id: &str| IDS.iter().position(|known| *known == id).unwrap() as u32 + 1;
    let expected: Vec<_> = SORTED.iter().map(|id| shown_enrollment(&enrollment(id, number(id)))).collect();
    assert_eq!(seen, expected);
}

/// DPS-STORE-11
async fn enrollment_groups_are_listed_in_the_order_of_their_folded_ids(store: Arc<dyn Store>) {
    for (id, number) in IDS.iter().zip(1..) {
        put_group(&*store, group(id, number)).await;
    }
    put_group(&*store, prefixed_group("zz", "line-", 9)).await;
    let ids = |page: Vec<Arc<dps_core::enrollment::EnrollmentGroup>>| -> Vec<String> {
        page.iter().map(|group| group.id.to_string()).collect()
    };
    assert_eq!(ids(store.enrollment_groups(&scope(), &all(), None, 3).await.unwrap()), SORTED[..3]);
    let after = group_id("B-2");
    assert_eq!(
        ids(store.enrollment_groups(&scope(), &all(), Some(&after), 9).await.unwrap()),
        ["c3", "c_3", "zz"]
    );
    // A group that is deleted meanwhile does not stop who comes after it.
    let gone = group_id("c4");
    assert_eq!(ids(store.enrollment_groups(&scope(), &all(), Some(&gone), 9).await.unwrap()), ["c_3", "zz"]);
}

/// DPS-STORE-11
async fn the_records_of_a_group_are_listed_and_no_others(store: Arc<dyn Store>) {
    for (id, number) in IDS.iter().zip(1..) {
        committed(store.commit(first(record(id, number))).await);
    }
    let of_other = Registration { entry: EntryRef::Group(group_id("line-2")), ..record("other", 7) };
    let individual = Registration { entry: EntryRef::Individual(device("line")), ..record("single", 8) };
    committed(store.commit(first(of_other)).await);
    committed(store.commit(first(individual)).await);

    let line = group_id("LINE");
    let page = store.registrations_of_group(&scope(), &line, None, 3).await.unwrap();
    assert_eq!(page, [record("A-1", 2), record("B-10", 4), record("b-2", 1)]);
    let after = page.last().unwrap().registration_id.clone();
    let rest = store.registrations_of_group(&scope(), &line, Some(&after), 9).await.unwrap();
    assert_eq!(rest, [record("c3", 5), record("c_3", 3)]);
    // A device that came in by another group since is listed there.
    let moved =
        Registration { entry: EntryRef::Group(group_id("line-2")), etag: etag("r9"), ..record("c3", 5) };
    committed(store.commit(over(5, moved)).await);
    assert_eq!(store.registrations_of_group(&scope(), &line, None, 9).await.unwrap().len(), 4);
    assert_eq!(store.registrations_of_group(&scope(), &group_id("line-2"), None, 9).await.unwrap().len(), 2);
    assert!(store.registrations_of_group(&scope(), &group_id("none"), None, 9).await.unwrap().is_empty());
}

/// DPS-STORE-1, DPS-STORE-11
async fn lists_of_two_id_scopes_never_meet(store: Arc<dyn Store>) {
    put(&*store, enrollment("d", 1)).await;
    put_group(&*store, group("line", 1)).await;
    committed(store.commit(first(record("d", 1))).await);
    let theirs = other_scope();
    assert!(store.individual_enrollments(&theirs, &all(), None, 9).await.unwrap().is_empty());
    assert!(store.enrollment_groups(&theirs, &all(), None, 9).await.unwrap().is_empty());
    assert!(store.registrations_of_group(&theirs, &group_id("line"), None, 9).await.unwrap().is_empty());
}

/// Settings of five kinds, so that each condition has entries on both sides.
fn various_settings(number: u32) -> EntrySettings {
    let plain = settings(number);
    match number % 5 {
        0 => full_settings(number),
        1 => EntrySettings { provisioning_status: ProvisioningStatus::Disabled, ..plain },
        2 => EntrySettings { allocation_policy: Some(AllocationPolicy::Hashed), ..plain },
        3 => EntrySettings { hubs: vec![hub("hub-TWO.example")], ..plain },
        _ => plain,
    }
}

/// Filters, and how many of [`various_individuals`] each takes.
fn filters() -> Vec<(EntryFilter, usize)> {
    let with_id = |id| EntryFilter { id: Some(id), ..all() };
    let with_policy = |policy, is_default| EntryFilter {
        allocation_policy: Some(PolicyFilter { policy, is_default }),
        ..all()
    };
    let of_kind = |kind| EntryFilter { attestation: Some(kind), ..all() };
    let disabled = || EntryFilter { provisioning_status: Some(ProvisioningStatus::Disabled), ..all() };
    let (first, last) = ("0001-01-01T00:00:00Z".parse().unwrap(), "9999-01-01T00:00:00Z".parse().unwrap());
    vec![
        (all(), 40),
        (with_id(IdFilter::Is("line-07".into())), 1),
        (with_id(IdFilter::Is("line-0".into())), 0),
        (with_id(IdFilter::BeginsWith("line-0".into())), 10),
        (with_id(IdFilter::BeginsWith("".into())), 40),
        (with_id(IdFilter::BeginsWith("lines".into())), 0),
        (disabled(), 16),
        (EntryFilter { provisioning_status: Some(ProvisioningStatus::Enabled), ..all() }, 24),
        (of_kind(AttestationKind::SymmetricKey), 20),
        (of_kind(AttestationKind::X509), 10),
        (of_kind(AttestationKind::Tpm), 10),
        (with_policy(AllocationPolicy::Custom, false), 8),
        (with_policy(AllocationPolicy::Hashed, false), 8),
        (with_policy(AllocationPolicy::Hashed, true), 32),
        (EntryFilter { hub: Some(hub("HUB-two.example")), ..all() }, 16),
        (EntryFilter { hub: Some(hub("two.example")), ..all() }, 0),
        (EntryFilter { created_at: TimeRange { from: Some(time(10)), to: Some(time(19)) }, ..all() }, 10),
        // Of every fifth entry the last write is a second later.
        (EntryFilter { updated_at: TimeRange { from: Some(time(20)), to: None }, ..all() }, 20),
        (EntryFilter { updated_at: TimeRange { from: Some(time(21)), to: None }, ..all() }, 20),
        (EntryFilter { updated_at: TimeRange { from: None, to: Some(time(0)) }, ..all() }, 0),
        (EntryFilter { created_at: TimeRange { from: Some(first), to: Some(last) }, ..all() }, 40),
        (EntryFilter { created_at: TimeRange { from: Some(last), to: None }, ..all() }, 0),
        (
            EntryFilter {
                id: Some(IdFilter::BeginsWith("line-1".into())),
                attestation: Some(AttestationKind::SymmetricKey),
                hub: Some(hub("hub-two.example")),
                ..disabled()
            },
            2,
        ),
    ]
}

/// DPS-STORE-11, DPS-SERVICE-23: page by page, as one list; what each store takes is what a filter says of the entry.
async fn a_list_holds_the_entries_that_its_filter_takes(store: Arc<dyn Store>) {
    let (mut individuals, mut groups): (Vec<IndividualEnrollment>, Vec<EnrollmentGroup>) = Default::default();
    let signers = pair(&certificate("Signer"), None);
    for number in 0..40 {
        let id = format!("Line-{number:02}");
        let attestation = match number % 4 {
            0 => Attestation::Tpm { endorsement_key: Box::from([number as u8; 4]) },
            1 if number % 8 == 1 => Attestation::ClientCertificates(pair(&certificate(&id), None)),
            1 => Attestation::Signers(Signers::Certificates(signers.clone())),
            _ => Attestation::SymmetricKey(keys(1)),
        };
        let settings = various_settings(number);
        individuals.push(IndividualEnrollment { attestation, settings, ..enrollment(&id, number) });
        let attestation = match number {
            4 => GroupAttestation::Signers(Signers::Certificates(signers.clone())),
            _ => GroupAttestation::SymmetricKey(keys(1)),
        };
        let settings = various_settings(number);
        groups.push(EnrollmentGroup { attestation, settings, ..group(&id, number) });
    }
    for (enrollment, group) in individuals.iter().zip(&groups) {
        put(&*store, enrollment.clone()).await;
        put_group(&*store, group.clone()).await;
    }
    for (filter, count) in filters() {
        let expected: Vec<_> = individuals.iter().filter(|entry| filter.takes_individual(entry)).collect();
        assert_eq!(expected.len(), count, "{filter:?}");
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = store.individual_enrollments(&scope(), &filter, after.as_ref(), 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.registration_id.clone());
            listed.extend(page);
        }
        let ids = |entry: &IndividualEnrollment| entry.registration_id.to_string();
        let expected: Vec<_> = expected.into_iter().map(ids).collect();
        assert_eq!(listed.iter().map(|entry| ids(entry)).collect::<Vec<_>>(), expected, "{filter:?}");

        let ids = |entry: &EnrollmentGroup| entry.id.to_string();
        let expected: Vec<_> = groups.iter().filter(|group| filter.takes_group(group)).map(ids).collect();
        let listed = store.enrollment_groups(&scope(), &filter, None, 99).await.unwrap();
        assert_eq!(listed.iter().map(|group| ids(group)).collect::<Vec<_>>(), expected, "{filter:?}");
        let after = group_id("line-12");
        let listed = store.enrollment_groups(&scope(), &filter, Some(&after), 2).await.unwrap();
        let expected: Vec<_> = expected.into_iter().filter(|id| id.as_str() > "Line-12").take(2).collect();
        assert_eq!(listed.iter().map(|group| ids(group)).collect::<Vec<_>>(), expected, "{filter:?}");
    }
}
