//! Service instances and their secrets.

use std::sync::Arc;

use dps_core::ports::Store;
use dps_proto::ids::{IdScope, InstanceSecret};

use super::fixtures::{other_scope, scope};

super::on_every_store!(
    empty:
    an_instance_keeps_the_secret_that_it_was_first_opened_with,
    each_instance_has_a_secret_of_its_own,
    id_scopes_come_in_the_order_of_their_creation,
    an_id_scope_is_one_in_any_case_and_keeps_its_first_spelling,
);

/// DPS-ID-4
async fn an_instance_keeps_the_secret_that_it_was_first_opened_with(store: Arc<dyn Store>) {
    for fresh in [1, 2, 3] {
        let secret = store.open_instance(&scope(), InstanceSecret::new([fresh; 32])).await.unwrap();
        assert_eq!(secret.expose(), &[1; 32]);
    }
}

/// DPS-STORE-1
async fn each_instance_has_a_secret_of_its_own(store: Arc<dyn Store>) {
    store.open_instance(&scope(), InstanceSecret::new([1; 32])).await.unwrap();
    let secret = store.open_instance(&other_scope(), InstanceSecret::new([2; 32])).await.unwrap();
    assert_eq!(secret.expose(), &[2; 32]);
}

async fn id_scopes_come_in_the_order_of_their_creation(store: Arc<dyn Store>) {
    assert!(store.id_scopes().await.unwrap().is_empty());
    let created = ["zzzz", "0ne00000001", "aaaa", "mmmm"].map(|text| text.parse::<IdScope>().unwrap());
    for scope in created.iter().chain(&created) {
        store.open_instance(scope, InstanceSecret::new([1; 32])).await.unwrap();
    }
    assert_eq!(store.id_scopes().await.unwrap(), created);
}

/// DPS-ID-2
async fn an_id_scope_is_one_in_any_case_and_keeps_its_first_spelling(store: Arc<dyn Store>) {
    for (spelling, fresh) in [("0NE0000abcd", 1), ("0ne0000ABCD", 2)] {
        let secret =
            store.open_instance(&spelling.parse().unwrap(), InstanceSecret::new([fresh; 32])).await.unwrap();
        assert_eq!(secret.expose(), &[1; 32]);
    }
    let scopes = store.id_scopes().await.unwrap();
    assert_eq!(scopes.iter().map(IdScope::as_str).collect::<Vec<_>>(), ["0NE0000abcd"]);
}
