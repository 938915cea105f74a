//! How many groups may be without a prefix, and how many may share a registration id. Spec: DPS-REG-3, DPS-REG-21.

use std::sync::Arc;

use dps_core::enrollment::{OPEN_GROUPS_MAX, PREFIXED_GROUPS_MAX};
use dps_core::ports::{Condition, Store, WriteError};

use super::fixtures::*;

super::on_every_store!(
    one_group_without_prefix_too_many_is_refused_with_advice,
    a_group_that_is_open_already_can_be_replaced_at_the_limit,
    a_prefixed_group_is_not_counted_until_it_loses_its_prefix,
    each_id_scope_has_a_limit_of_its_own,
    one_group_too_many_for_one_registration_id_is_refused_with_advice,
    a_group_at_the_limit_keeps_its_prefix_and_takes_no_other_full_one,
);

/// Makes as many open groups as may be.
async fn fill(store: &Arc<dyn Store>) {
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..OPEN_GROUPS_MAX {
        let store = Arc::clone(store);
        writes.spawn(async move { put_group(&*store, group(&format!("g{number}"), number as u32)).await });
    }
    writes.join_all().await;
}

async fn open_groups(store: &dyn Store) -> usize {
    store.candidate_groups(&scope(), &device("d")).await.unwrap().open.len()
}

/// DPS-REG-3
async fn one_group_without_prefix_too_many_is_refused_with_advice(store: Arc<dyn Store>) {
    fill(&store).await;
    let refused =
        store.put_enrollment_group(&scope(), group("more", 1), Condition::Always.into()).await.unwrap_err();
    assert!(matches!(refused, WriteError::TooManyOpenGroups(OPEN_GROUPS_MAX)), "{refused}");
    assert!(refused.to_string().contains("registrationIdPrefix"), "{refused}");
    assert!(store.enrollment_group(&scope(), &group_id("more")).await.unwrap().is_none());
    assert_eq!(open_groups(&*store).await, OPEN_GROUPS_MAX);

    store.delete_enrollment_group(&scope(), &group_id("g7"), Condition::Always.into()).await.unwrap();
    put_group(&*store, group("more", 1)).await;
    assert_eq!(open_groups(&*store).await, OPEN_GROUPS_MAX);
}

/// DPS-REG-3
async fn a_group_that_is_open_already_can_be_replaced_at_the_limit(store: Arc<dyn Store>) {
    fill(&store).await;
    let replaced =
        store.put_enrollment_group(&scope(), group("G7", 1), Condition::IfMatches(etag("e7")).into()).await;
    assert_eq!(outcome(&replaced), "written");
    assert_eq!(open_groups(&*store).await, OPEN_GROUPS_MAX);
}

/// DPS-REG-3
async fn a_prefixed_group_is_not_counted_until_it_loses_its_prefix(store: Arc<dyn Store>) {
    fill(&store).await;
    put_group(&*store, prefixed_group("prefixed", "p", 1)).await;
    let opened = store.put_enrollment_group(&scope(), group("prefixed", 2), Condition::Always.into()).await;
    assert_eq!(outcome(&opened), "too many");
    let still = store.enrollment_group(&scope(), &group_id("prefixed")).await.unwrap().unwrap();
    assert_eq!(shown_group(&still), shown_group(&prefixed_group("prefixed", "p", 1)));

    put_group(&*store, prefixed_group("g7", "q", 7)).await;
    put_group(&*store, group("prefixed", 2)).await;
    assert_eq!(open_groups(&*store).await, OPEN_GROUPS_MAX);
}

/// DPS-REG-3, DPS-STORE-1
async fn each_id_scope_has_a_limit_of_its_own(store: Arc<dyn Store>) {
    fill(&store).await;
    store.put_enrollment_group(&other_scope(), group("more", 1), Condition::Always.into()).await.unwrap();
}

/// Makes as many groups as one registration id may match, of two prefixes that `m-1` begins with.
async fn fill_prefixes(store: &dyn Store) {
    for number in 0..PREFIXED_GROUPS_MAX {
        let prefix = if number % 2 == 0 { "m" } else { "M-1" };
        put_group(store, prefixed_group(&format!("g{number}"), prefix, number as u32)).await;
    }
}

async fn put_prefixed(store: &dyn Store, id: &str, prefix: &str) -> Result<(), WriteError> {
    store.put_enrollment_group(&scope(), prefixed_group(id, prefix, 1), Condition::Always.into()).await
}

/// DPS-REG-21
async fn one_group_too_many_for_one_registration_id_is_refused_with_advice(store: Arc<dyn Store>) {
    fill_prefixes(&*store).await;
    for prefix in ["m", "m-", "m-1", "M-1-press"] {
        let refused = put_prefixed(&*store, "more", prefix).await.unwrap_err();
        assert!(matches!(refused, WriteError::TooManyPrefixedGroups(101)), "{prefix}: {refused}");
        assert!(refused.to_string().contains("longer registrationIdPrefix"), "{refused}");
    }
    assert!(store.enrollment_group(&scope(), &group_id("more")).await.unwrap().is_none());
    put_prefixed(&*store, "other", "m-2").await.unwrap();
    store
        .put_enrollment_group(&other_scope(), prefixed_group("theirs", "m", 1), Condition::Always.into())
        .await
        .unwrap();
    let found = store.candidate_groups(&scope(), &device("m-1-press")).await.unwrap();
    assert_eq!(found.prefixed.len(), PREFIXED_GROUPS_MAX);

    store.delete_enrollment_group(&scope(), &group_id("g0"), Condition::Always.into()).await.unwrap();
    put_prefixed(&*store, "more", "m-1-press").await.unwrap();
}

/// DPS-REG-21
async fn a_group_at_the_limit_keeps_its_prefix_and_takes_no_other_full_one(store: Arc<dyn Store>) {
    fill_prefixes(&*store).await;
    put_prefixed(&*store, "g0", "m").await.unwrap();
    put_prefixed(&*store, "g0", "m-1").await.unwrap();
    put_prefixed(&*store, "other", "n").await.unwrap();
    assert_eq!(outcome(&put_prefixed(&*store, "other", "m").await), "too many");
}
