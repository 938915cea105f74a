//! Who changed what. Spec: DPS-AUDIT-1 to DPS-AUDIT-4.

use std::sync::Arc;

use dps_core::audit::{Action, AuditFilter, AuditRecord, Author, Principal};
use dps_core::ports::{Condition, Store, WriteOrder};

use super::fixtures::*;

super::on_every_store!(
    every_change_that_has_an_author_is_recorded_with_it,
    what_is_refused_or_has_no_author_is_not_recorded,
    records_are_listed_newest_first_by_id_and_from_any_on,
);

fn author(number: u32) -> Author {
    let principal = match number % 2 {
        0 => Principal::Admin,
        _ => Principal::Policy("Owner".into()),
    };
    let address = number.is_multiple_of(3).then(|| "127.0.0.1".parse().unwrap());
    let tracking_id = uuid::Uuid::from_bytes([number as u8; 16]);
    Author { principal, address, tracking_id: (number % 2 == 1).then_some(tracking_id), at: time(number) }
}

fn by(number: u32, condition: Condition) -> WriteOrder {
    WriteOrder::by(author(number), condition)
}

async fn all(store: &dyn Store) -> Vec<AuditRecord> {
    store.audit_records(&scope(), &AuditFilter::default(), 99).await.unwrap()
}

fn told(record: &AuditRecord) -> String {
    let AuditRecord { action, subject, etag, .. } = record;
    let etag = etag.as_ref().map_or("-", |etag| etag.as_str());
    format!("{} {} {} {etag}", action.as_str(), subject.kind(), subject.id())
}

/// DPS-AUDIT-1
async fn every_change_that_has_an_author_is_recorded_with_it(store: Arc<dyn Store>) {
    let (scope, always) = (scope(), || Condition::Always);
    let ca_name = || "P".parse().unwrap();
    store.put_individual_enrollment(&scope, enrollment("Dev-1", 1), by(1, always())).await.unwrap();
    store.put_individual_enrollment(&scope, enrollment("dev-1", 2), by(2, always())).await.unwrap();
    store.put_enrollment_group(&scope, group("Line", 3), by(3, Condition::IfAbsent)).await.unwrap();
    store.put_ca_certificate(&scope, ca("P", &certificate("P"), 4), by(4, always())).await.unwrap();
    committed(store.commit(first(record("Dev-1", 1))).await);
    store.delete_registration(&scope, &device("Dev-1"), by(5, always())).await.unwrap();
    store.delete_individual_enrollment(&scope, &device("DEV-1"), by(6, always())).await.unwrap();
    store
        .put_enrollment_group(&scope, group("Line", 7), by(7, Condition::IfMatches(etag("e3"))))
        .await
        .unwrap();
    store.delete_enrollment_group(&scope, &group_id("Line"), by(8, always())).await.unwrap();
    store.delete_ca_certificate(&scope, &ca_name(), by(9, always())).await.unwrap();
    let records = all(&*store).await;
    let expected = [
        "deleted certificate P -",
        "deleted enrollmentGroup Line -",
        "replaced enrollmentGroup Line e7",
        "deleted enrollment DEV-1 -",
        "deleted registration Dev-1 -",
        "created certificate P c4",
        "created enrollmentGroup Line e3",
        "replaced enrollment dev-1 e2",
        "created enrollment Dev-1 e1",
    ];
    assert_eq!(records.iter().map(told).collect::<Vec<_>>(), expected);
    for (record, number) in records.iter().zip((1..=9).rev()) {
        assert_eq!(record.author, author(number), "{record:?}");
    }
    assert!(records.windows(2).all(|pair| pair[0].number > pair[1].number));
    let theirs = store.audit_records(&other_scope(), &AuditFilter::default(), 9).await.unwrap();
    assert!(theirs.is_empty());
}

/// DPS-AUDIT-2
async fn what_is_refused_or_has_no_author_is_not_recorded(store: Arc<dyn Store>) {
    let scope = scope();
    put(&*store, enrollment("d", 1)).await;
    for condition in [Condition::IfAbsent, Condition::IfMatches(etag("other"))] {
        let refused =
            store.put_individual_enrollment(&scope, enrollment("d", 2), by(1, condition.clone())).await;
        assert_ne!(outcome(&refused), "written");
        let refused = store.delete_enrollment_group(&scope, &group_id("g"), by(2, condition)).await;
        assert_eq!(outcome(&refused), "missing");
    }
    assert_eq!(all(&*store).await, []);
}

/// DPS-AUDIT-4
async fn records_are_listed_newest_first_by_id_and_from_any_on(store: Arc<dyn Store>) {
    let scope = scope();
    for number in 1..=9 {
        let id = format!("Dev-{}", number % 3);
        store
            .put_individual_enrollment(&scope, enrollment(&id, number), by(number, Condition::Always))
            .await
            .unwrap();
    }
    let of = |subject: Option<&str>, before| AuditFilter { before, subject: subject.map(Into::into) };
    let list = async |filter: AuditFilter, limit| {
        let records = store.audit_records(&scope, &filter, limit).await.unwrap();
        let numbers =
            records.iter().map(|record| record.etag.as_ref().unwrap().as_str()[1..].parse().unwrap());
        (numbers.collect::<Vec<u32>>(), records.last().map(|record| record.number))
    };
    let (newest, last) = list(of(None, None), 4).await;
    assert_eq!(newest, [9, 8, 7, 6]);
    assert_eq!(list(of(None, last), 99).await.0, [5, 4, 3, 2, 1]);
    let (newest, last) = list(of(Some("dev-1"), None), 2).await;
    assert_eq!(newest, [7, 4]);
    assert_eq!(list(of(Some("dev-1"), last), 2).await.0, [1]);
    assert_eq!(list(of(Some("dev-9"), None), 9).await.0, [0; 0]);
    assert_eq!(all(&*store).await.iter().filter(|record| record.action == Action::Created).count(), 3);
}
