//! Enrollment groups, and which of them a device may belong to.

use std::sync::Arc;

use dps_core::enrollment::EnrollmentGroup;
use dps_core::ports::{CandidateGroups, Condition, Store};

use super::fixtures::*;

super::on_every_store!(
    a_group_comes_back_as_it_was_written,
    a_group_is_found_in_any_case,
    a_replaced_group_keeps_its_first_spelling_and_its_creation_and_nothing_else,
    a_group_is_written_only_on_its_condition,
    a_group_is_deleted_only_on_its_condition,
    groups_of_two_id_scopes_never_meet,
    the_longest_matching_prefix_comes_first,
    groups_of_one_prefix_come_oldest_first,
    a_prefix_is_text_and_no_pattern,
    groups_without_prefix_come_oldest_first_and_match_every_device,
    candidates_show_a_group_as_it_was_last_written,
    a_group_that_was_deleted_is_no_candidate,
);

async fn find(store: &dyn Store, id: &str) -> Option<Arc<EnrollmentGroup>> {
    store.enrollment_group(&scope(), &group_id(id)).await.unwrap()
}

#[track_caller]
fn same(found: Option<Arc<EnrollmentGroup>>, expected: &EnrollmentGroup) {
    assert_eq!(shown_group(&found.expect("it is stored")), shown_group(expected));
}

async fn candidates(store: &dyn Store, id: &str) -> CandidateGroups {
    store.candidate_groups(&scope(), &device(id)).await.unwrap()
}

fn names(groups: &[Arc<EnrollmentGroup>]) -> Vec<&str> {
    groups.iter().map(|group| group.id.as_str()).collect()
}

/// DPS-STORE-9
async fn a_group_comes_back_as_it_was_written(store: Arc<dyn Store>) {
    let full = EnrollmentGroup { settings: full_settings(3), ..prefixed_group("Full", "Line-7.", 3) };
    for group in [group("Plain", 1), prefixed_group("Prefixed", "a", 2), full] {
        put_group(&*store, group.clone()).await;
        same(find(&*store, group.id.as_str()).await, &group);
    }
}

/// DPS-ID-2
async fn a_group_is_found_in_any_case(store: Arc<dyn Store>) {
    put_group(&*store, group("Line", 1)).await;
    for id in ["Line", "line", "LINE"] {
        same(find(&*store, id).await, &group("Line", 1));
    }
    assert!(find(&*store, "lines").await.is_none());
}

/// DPS-ID-2
async fn a_replaced_group_keeps_its_first_spelling_and_its_creation_and_nothing_else(store: Arc<dyn Store>) {
    put_group(&*store, group("Line", 1)).await;
    let replacing = EnrollmentGroup { settings: full_settings(5), ..prefixed_group("LINE", "p", 5) };
    put_group(&*store, replacing.clone()).await;
    let mut expected = EnrollmentGroup { id: group_id("Line"), ..replacing };
    expected.settings.created_at = time(1);
    same(find(&*store, "line").await, &expected);
}

/// DPS-STORE-10
async fn a_group_is_written_only_on_its_condition(store: Arc<dyn Store>) {
    for (condition, where_none_is, where_one_is, _) in conditions("e1") {
        let _ = store.delete_enrollment_group(&scope(), &group_id("g"), Condition::Always.into()).await;
        let written = store.put_enrollment_group(&scope(), group("g", 2), condition.clone().into()).await;
        assert_eq!(outcome(&written), where_none_is, "{condition:?}");
        assert_eq!(find(&*store, "g").await.is_some(), written.is_ok(), "{condition:?}");

        put_group(&*store, group("g", 1)).await;
        let written = store.put_enrollment_group(&scope(), group("G", 2), condition.clone().into()).await;
        assert_eq!(outcome(&written), where_one_is, "{condition:?}");
        let expected = if written.is_ok() { "e2" } else { "e1" };
        assert_eq!(find(&*store, "g").await.unwrap().settings.etag, etag(expected), "{condition:?}");
    }
}

/// DPS-STORE-10
async fn a_group_is_deleted_only_on_its_condition(store: Arc<dyn Store>) {
    for (condition, .., deletion) in conditions("e1") {
        let deleted = store.delete_enrollment_group(&scope(), &group_id("g"), condition.clone().into()).await;
        assert_eq!(outcome(&deleted), "missing", "{condition:?}");
        put_group(&*store, group("g", 1)).await;
        let deleted = store.delete_enrollment_group(&scope(), &group_id("G"), condition.clone().into()).await;
        assert_eq!(outcome(&deleted), deletion, "{condition:?}");
        assert_eq!(find(&*store, "g").await.is_none(), deleted.is_ok(), "{condition:?}");
        let _ = store.delete_enrollment_group(&scope(), &group_id("g"), Condition::Always.into()).await;
    }
}

/// DPS-STORE-1
async fn groups_of_two_id_scopes_never_meet(store: Arc<dyn Store>) {
    let theirs = other_scope();
    put_group(&*store, group("Line", 1)).await;
    put_group(&*store, prefixed_group("Prefixed", "d", 2)).await;
    assert!(store.enrollment_group(&theirs, &group_id("Line")).await.unwrap().is_none());
    let found = store.candidate_groups(&theirs, &device("d")).await.unwrap();
    assert!(found.open.is_empty() && found.prefixed.is_empty());
    let deleted = store.delete_enrollment_group(&theirs, &group_id("Line"), Condition::Always.into()).await;
    assert_eq!(outcome(&deleted), "missing");

    store.put_enrollment_group(&theirs, group("line", 3), Condition::IfAbsent.into()).await.unwrap();
    same(find(&*store, "Line").await, &group("Line", 1));
    let found = store.candidate_groups(&theirs, &device("d")).await.unwrap();
    assert_eq!((names(&found.open), names(&found.prefixed)), (vec!["line"], vec![]));
    let found = candidates(&*store, "d").await;
    assert_eq!((names(&found.open), names(&found.prefixed)), (vec!["Line"], vec!["Prefixed"]));
}

/// DPS-REG-2
async fn the_longest_matching_prefix_comes_first(store: Arc<dyn Store>) {
    let groups = [
        ("middle", "line-7"),
        ("short", "L"),
        ("whole", "line-7.press"),
        ("longer", "line-7.press-"),
        ("no", "x"),
    ];
    for (number, (id, prefix)) in (1..).zip(groups) {
        put_group(&*store, prefixed_group(id, prefix, number)).await;
    }
    for (id, expected) in [
        ("Line-7.Press", &["whole", "middle", "short"][..]),
        ("line-7.press-2", &["longer", "whole", "middle", "short"]),
        ("line-8", &["short"]),
        ("l", &["short"]),
        ("other", &[]),
    ] {
        assert_eq!(names(&candidates(&*store, id).await.prefixed), expected, "{id}");
    }
    let long = "l".repeat(128);
    assert_eq!(names(&candidates(&*store, &long).await.prefixed), ["short"]);
    put_group(&*store, prefixed_group("longest", &long[1..], 9)).await;
    assert_eq!(names(&candidates(&*store, &long).await.prefixed), ["longest", "short"]);
}

/// DPS-REG-2
async fn groups_of_one_prefix_come_oldest_first(store: Arc<dyn Store>) {
    for (id, number) in [("c", 3), ("a", 2), ("d", 1), ("b", 2)] {
        put_group(&*store, prefixed_group(id, "p", number)).await;
    }
    assert_eq!(names(&candidates(&*store, "press").await.prefixed), ["d", "a", "b", "c"]);
}

/// DPS-REG-2
async fn a_prefix_is_text_and_no_pattern(store: Arc<dyn Store>) {
    put_group(&*store, prefixed_group("underscore", "a_b", 1)).await;
    put_group(&*store, prefixed_group("dot", "a.b", 2)).await;
    assert_eq!(names(&candidates(&*store, "A_B-1").await.prefixed), ["underscore"]);
    assert!(candidates(&*store, "axb-1").await.prefixed.is_empty());
}

/// DPS-REG-2
async fn groups_without_prefix_come_oldest_first_and_match_every_device(store: Arc<dyn Store>) {
    for (id, number) in [("c", 3), ("A", 2), ("d", 1), ("b", 2)] {
        put_group(&*store, group(id, number)).await;
    }
    put_group(&*store, prefixed_group("prefixed", "p", 0)).await;
    for id in ["press", "other", "1"] {
        assert_eq!(names(&candidates(&*store, id).await.open), ["d", "A", "b", "c"], "{id}");
    }
    // A newer write makes a group no younger.
    put_group(&*store, group("d", 9)).await;
    assert_eq!(names(&candidates(&*store, "press").await.open), ["d", "A", "b", "c"]);
}

/// DPS-REG-2: a key that was taken back must not admit anyone a moment longer.
async fn candidates_show_a_group_as_it_was_last_written(store: Arc<dyn Store>) {
    for number in 1..=60 {
        let written = match number % 3 {
            0 => prefixed_group("line", "d", number),
            _ => EnrollmentGroup { settings: full_settings(number), ..group("line", number) },
        };
        put_group(&*store, written.clone()).await;
        let found = candidates(&*store, "device-1").await;
        let (found, none) = match number % 3 {
            0 => (found.prefixed, found.open.to_vec()),
            _ => (found.open.to_vec(), found.prefixed),
        };
        assert!(none.is_empty(), "{number}");
        let mut expected = written;
        expected.settings.created_at = time(1);
        same(found.first().cloned(), &expected);
    }
}

/// DPS-REG-2
async fn a_group_that_was_deleted_is_no_candidate(store: Arc<dyn Store>) {
    for number in 1..=20 {
        put_group(&*store, group("open", number)).await;
        put_group(&*store, prefixed_group("prefixed", "d", number)).await;
        let found = candidates(&*store, "d").await;
        assert_eq!((found.open.len(), found.prefixed.len()), (1, 1));
        for id in ["open", "prefixed"] {
            store.delete_enrollment_group(&scope(), &group_id(id), Condition::Always.into()).await.unwrap();
        }
        let found = candidates(&*store, "d").await;
        assert_eq!((found.open.len(), found.prefixed.len()), (0, 0));
    }
}
