//! Entries and records, listed page by page. Spec: DPS-STORE-11.

use std::sync::Arc;

use dps_core::enrollment::EntryRef;
use dps_core::ports::Store;
use dps_core::registration::Registration;

use super::fixtures::*;

super::on_every_store!(
    individual_enrollments_are_listed_in_the_order_of_their_folded_ids,
    enrollment_groups_are_listed_in_the_order_of_their_folded_ids,
    the_records_of_a_group_are_listed_and_no_others,
    lists_of_two_id_scopes_never_meet,
);

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
        let page = store.individual_enrollments(&scope(), after.as_ref(), 2).await.unwrap();
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
    assert_eq!(ids(store.enrollment_groups(&scope(), None, 3).await.unwrap()), SORTED[..3]);
    let after = group_id("B-2");
    assert_eq!(ids(store.enrollment_groups(&scope(), Some(&after), 9).await.unwrap()), ["c3", "c_3", "zz"]);
    // A group that is deleted meanwhile does not stop who comes after it.
    let gone = group_id("c4");
    assert_eq!(ids(store.enrollment_groups(&scope(), Some(&gone), 9).await.unwrap()), ["c_3", "zz"]);
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
    assert!(store.individual_enrollments(&theirs, None, 9).await.unwrap().is_empty());
    assert!(store.enrollment_groups(&theirs, None, 9).await.unwrap().is_empty());
    assert!(store.registrations_of_group(&theirs, &group_id("line"), None, 9).await.unwrap().is_empty());
}
