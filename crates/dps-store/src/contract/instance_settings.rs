//! Service instances whose settings the store keeps. Spec: DPS-INST-1 to DPS-INST-10.

use std::sync::Arc;

use dps_core::access::{Right, SharedAccessPolicy};
use dps_core::audit::{AuditFilter, Author, Principal};
use dps_core::enrollment::{AllocationPolicy, Signers};
use dps_core::entry_filter::EntryFilter;
use dps_core::instance::{ClaimAcrossGroups, HubKind, WhenSourceUnavailable};
use dps_core::instance_settings::{HubSettings, INSTANCES_MAX, InstanceSettings, StoredInstance};
use dps_core::ports::{
    ChainWanted, CleanUp, Commit, Condition, HubWrite, RegistrationWrite, Store, Sweep, WriteError,
    WriteOrder,
};
use dps_core::x509::{CaLeaf, ChainRules};
use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::ids::{IdScope, InstanceSecret};
use dps_proto::key::{KeyPair, SymmetricKey};

use super::fixtures::*;

super::on_every_store!(
    empty:
    settings_are_kept_as_they_were_written_and_the_secret_as_it_was_first,
    an_instance_is_written_on_its_condition_alone,
    a_service_host_belongs_to_one_instance,
    no_more_instances_than_may_be,
    each_change_is_recorded_for_itself,
    a_deleted_instance_leaves_nothing_but_its_audit,
    what_is_being_deleted_is_made_again_only_when_nothing_is_left,
    nothing_is_written_to_an_instance_that_is_not_there,
);

fn key(byte: u8) -> SymmetricKey {
    SymmetricKey::from_bytes(vec![byte; 32]).unwrap()
}

fn policy(name: &str, byte: u8, rights: &[Right]) -> SharedAccessPolicy {
    let keys = KeyPair { primary: key(byte), secondary: key(byte + 1) };
    SharedAccessPolicy { name: name.parse().unwrap(), keys, rights: rights.to_vec() }
}

fn hub(name: &str, kind: HubKind, allocation_weight: u16) -> HubSettings {
    HubSettings { allocation_weight, ..HubSettings::new(name.parse().unwrap(), kind) }
}

pub(crate) fn instance(scope: &IdScope, number: u32) -> StoredInstance {
    StoredInstance {
        settings: InstanceSettings::new(scope.clone(), policy("Owner", 1, &Right::ALL)),
        secret: InstanceSecret::new([number as u8; 32]),
        etag: etag(&format!("i{number}")),
        created_at: time(number),
        updated_at: time(number),
    }
}

/// An instance in which every setting has a value of its own.
pub(crate) fn full_instance(scope: &IdScope, number: u32) -> StoredInstance {
    let mut full = instance(scope, number);
    full.settings = InstanceSettings {
        service_hosts: vec!["a.example".parse().unwrap(), "::1".parse().unwrap()],
        default_allocation_policy: AllocationPolicy::Static,
        claim_across_groups: ClaimAcrossGroups::Refuse,
        when_source_unavailable: WhenSourceUnavailable::Reset,
        passes_over_unhealthy_hubs: true,
        chain_rules: ChainRules {
            allow_v1_leaf: false,
            allow_v1_self_signed_anchor: true,
            allow_ca_leaf: CaLeaf::Never,
            enforce_anchor_expiry: false,
        },
        linked_hubs: vec![
            HubSettings {
                applies_allocation_policy: false,
                networks: ["10.1.0.0/16", "2001:db8::/48"].map(|network| network.parse().unwrap()).into(),
                ..hub("Z.example", HubKind::Local, 7)
            },
            hub("a.example", HubKind::Static, 1_000),
            HubSettings {
                is_draining: true,
                ..HubSettings::azure("M.Example".parse().unwrap(), connection_string("M.Example", 7))
            },
            HubSettings::azure("n.example".parse().unwrap(), connection_string("n.example:8443", 8)),
        ],
        shared_access_policies: vec![
            policy("Writer", 5, &[Right::EnrollmentWrite, Right::EnrollmentRead]),
            policy("owner", 1, &Right::ALL),
            policy("nothing", 3, &[]),
        ],
        ..full.settings
    };
    full
}

fn connection_string(host: &str, byte: u8) -> ServiceConnectionString {
    let key = key(byte).expose_base64();
    let text = format!("HostName={host};SharedAccessKeyName=Registry a=b;SharedAccessKey={}", *key);
    text.parse().unwrap()
}

async fn put(store: &dyn Store, instance: StoredInstance) {
    store.put_service_instance(instance, Condition::Always.into()).await.unwrap();
}

/// Everything of an instance, with the bytes of its keys.
pub(crate) fn told(stored: &StoredInstance) -> String {
    let keys = stored
        .settings
        .shared_access_policies
        .iter()
        .map(|policy| (policy.keys.primary.expose().to_vec(), policy.keys.secondary.expose().to_vec()));
    let connection_strings =
        stored.settings.linked_hubs.iter().filter_map(|hub| hub.connection_string.as_ref());
    let connection_strings: Vec<_> = connection_strings.map(ServiceConnectionString::expose).collect();
    let keys: Vec<_> = keys.collect();
    format!("{stored:?} {:?} {keys:?} {connection_strings:?}", stored.secret.expose())
}

/// DPS-INST-1, DPS-INST-6, DPS-STORE-6, DPS-REG-42, DPS-REG-46, DPS-REG-47, DPS-HUB-10
async fn settings_are_kept_as_they_were_written_and_the_secret_as_it_was_first(store: Arc<dyn Store>) {
    store.open_instance(&other_scope(), InstanceSecret::new([9; 32])).await.unwrap();
    assert!(store.service_instances().await.unwrap().is_empty(), "a configuration has its settings");
    let first = full_instance(&scope(), 1);
    put(&*store, first.clone()).await;
    put(&*store, instance(&other_scope(), 2)).await;
    let kept = store.service_instances().await.unwrap();
    assert_eq!(
        kept.iter().map(|kept| kept.settings.id_scope.clone()).collect::<Vec<_>>(),
        [other_scope(), scope()]
    );
    assert_eq!(told(&kept[1]), told(&first));
    assert_eq!(kept[0].secret.expose(), &[9; 32], "it was opened before");

    let second = StoredInstance { created_at: time(1), ..instance(&scope(), 3) };
    put(&*store, StoredInstance { created_at: time(3), ..second.clone() }).await;
    let kept = store.service_instances().await.unwrap().pop().unwrap();
    assert_eq!(told(&kept), told(&StoredInstance { secret: first.secret, ..second }));
    assert_eq!(store.open_instance(&scope(), InstanceSecret::new([8; 32])).await.unwrap().expose(), &[1; 32]);
}

/// DPS-INST-4
async fn an_instance_is_written_on_its_condition_alone(store: Arc<dyn Store>) {
    let matches = |text: &str| Condition::IfMatches(etag(text));
    for (condition, number, expected) in [
        (matches("i1"), 1, "missing"),
        (Condition::IfAbsent, 1, "written"),
        (Condition::IfAbsent, 2, "exists"),
        (matches("i2"), 2, "changed"),
        (matches("i1"), 2, "written"),
        (Condition::Always, 3, "written"),
    ] {
        let written = store.put_service_instance(instance(&scope(), number), condition.clone().into()).await;
        assert_eq!(outcome(&written), expected, "{condition:?}");
    }
    for (condition, expected) in
        [(matches("i2"), "changed"), (matches("i3"), "written"), (matches("i3"), "missing")]
    {
        let deleted = store.delete_service_instance(&scope(), condition.into()).await;
        assert_eq!(outcome(&deleted), expected);
    }
}

/// DPS-INST-3
async fn a_service_host_belongs_to_one_instance(store: Arc<dyn Store>) {
    let with_hosts = |scope: &IdScope, number, hosts: &[&str]| {
        let mut instance = instance(scope, number);
        instance.settings.service_hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        instance
    };
    put(&*store, with_hosts(&scope(), 1, &["a.example", "B.example"])).await;
    put(&*store, with_hosts(&scope(), 2, &["b.example", "c.example"])).await;
    let refused = store
        .put_service_instance(
            with_hosts(&other_scope(), 3, &["d.x", "C.example"]),
            Condition::IfAbsent.into(),
        )
        .await;
    let Err(WriteError::ServiceHostTaken(host, owner)) = refused else { panic!("{refused:?}") };
    assert_eq!((host.as_str(), owner), ("c.example", scope()));
    assert_eq!(store.id_scopes().await.unwrap(), [scope()], "what was refused left nothing");
    put(&*store, with_hosts(&other_scope(), 3, &["a.example"])).await;
    store.delete_service_instance(&scope(), Condition::Always.into()).await.unwrap();
    put(&*store, with_hosts(&other_scope(), 4, &["b.example", "c.example"])).await;
}

/// DPS-INST-2
async fn no_more_instances_than_may_be(store: Arc<dyn Store>) {
    let scope_of = |number: usize| format!("0ne{number:08X}").parse::<IdScope>().unwrap();
    for number in 0..INSTANCES_MAX {
        put(&*store, instance(&scope_of(number), 1)).await;
    }
    let one_more =
        store.put_service_instance(instance(&scope_of(INSTANCES_MAX), 1), Condition::Always.into()).await;
    assert!(matches!(one_more, Err(WriteError::TooManyInstances(INSTANCES_MAX))), "{one_more:?}");
    put(&*store, instance(&scope_of(7), 2)).await;
    assert_eq!(store.service_instances().await.unwrap().len(), INSTANCES_MAX);
}

/// DPS-INST-10
async fn each_change_is_recorded_for_itself(store: Arc<dyn Store>) {
    let by = |number| {
        let author =
            Author { principal: Principal::Admin, address: None, tracking_id: None, at: time(number) };
        WriteOrder::by(author, Condition::Always)
    };
    let mut settings = instance(&scope(), 1);
    store.put_service_instance(settings.clone(), by(1)).await.unwrap();
    settings.settings.linked_hubs.push(hub("A.x", HubKind::Local, 1));
    store.put_service_instance(settings.clone(), by(2)).await.unwrap();
    settings.settings.shared_access_policies[0].keys.primary = key(77);
    settings.settings.linked_hubs.clear();
    store.put_service_instance(settings, by(3)).await.unwrap();
    store.delete_service_instance(&scope(), by(4)).await.unwrap();
    let records = store.audit_records(&scope(), &AuditFilter::default(), 99).await.unwrap();
    let told = records.iter().map(|record| {
        let etag = record.etag.as_ref().map_or("-", |etag| etag.as_str());
        format!("{} {} {} {etag}", record.action.as_str(), record.subject.kind(), record.subject.id())
    });
    let mut told: Vec<_> = told.collect();
    // Of one write in no order.
    told[1..3].sort();
    let id_scope = scope();
    assert_eq!(
        told,
        [
            format!("deleted serviceInstance {id_scope} -"),
            "deleted linkedHub A.x -".to_owned(),
            "replaced sharedAccessPolicy Owner i1".to_owned(),
            "created linkedHub A.x i1".to_owned(),
            format!("created serviceInstance {id_scope} i1"),
        ]
    );
}

fn signers(common_name: &str) -> Signers {
    Signers::Certificates(pair(&certificate(common_name), None))
}

/// An instance with one or more of everything.
async fn fill(store: &dyn Store, scope: &IdScope) {
    let always = || WriteOrder::from(Condition::Always);
    for number in 0..7 {
        let id = format!("d-{number}");
        store.put_individual_enrollment(scope, enrollment(&id, 1), always()).await.unwrap();
        store.put_enrollment_group(scope, group(&id, 1), always()).await.unwrap();
        let mut write =
            first(dps_core::registration::Registration { id_scope: scope.clone(), ..record(&id, 1) });
        let gone = CleanUp { id_scope: scope.clone(), ..clean_up(&id, "old.example", 1) };
        write.hub_writes = vec![HubWrite::CleanUp(Box::new(gone))];
        committed(store.commit(write).await);
    }
    store.put_ca_certificate(scope, ca("P", &certificate("P"), 4), always()).await.unwrap();
    store.put_enrollment_group(scope, signed_group("signers", signers("S"), 1), always()).await.unwrap();
}

/// Everything that can be found of an instance.
async fn found(store: &dyn Store, scope: &IdScope) -> usize {
    let all = EntryFilter::default();
    let signer = certificate("S");
    let chain = ChainWanted { leaf: signer.thumbprint(), issuer: signer.subject(), sent: Vec::new() };
    let mut found = store.individual_enrollments(scope, &all, None, 99).await.unwrap().len()
        + store.enrollment_groups(scope, &all, None, 99).await.unwrap().len()
        + store.candidate_groups(scope, &device("x")).await.unwrap().open.len()
        + store.ca_certificates(scope).await.unwrap().len()
        + store.clean_ups(scope, None, 99).await.unwrap().len()
        + store.hub_loads(scope).await.unwrap().len()
        + store.chain_entries(scope, &chain).await.unwrap().groups.len();
    for number in 0..7 {
        let look_up = store.look_up(scope, &device(&format!("d-{number}"))).await.unwrap();
        found += usize::from(look_up.registration.is_some());
    }
    found
}

/// DPS-INST-8
async fn a_deleted_instance_leaves_nothing_but_its_audit(store: Arc<dyn Store>) {
    for (scope, number) in [(scope(), 1), (other_scope(), 2)] {
        put(&*store, instance(&scope, number)).await;
        fill(&*store, &scope).await;
    }
    let before = found(&*store, &other_scope()).await;
    assert_eq!(before, found(&*store, &scope()).await);
    store.delete_service_instance(&scope(), Condition::Always.into()).await.unwrap();
    assert_eq!(store.id_scopes().await.unwrap(), [other_scope()]);
    let mut steps = 0;
    let step = async |of: &IdScope| store.sweep_deleted_instances(Some(of), 2).await.unwrap();
    assert_eq!(step(&other_scope()).await, Sweep::Clean);
    assert_eq!(found(&*store, &scope()).await, before, "it is not the one that was named");
    while step(&scope()).await == Sweep::More {
        steps += 1;
        assert!(steps < 99);
    }
    assert_eq!(found(&*store, &scope()).await, 0);
    assert_eq!(found(&*store, &other_scope()).await, before);
    // What readers remember is not what they read before.
    put(&*store, instance(&scope(), 3)).await;
    assert_eq!(found(&*store, &scope()).await, 0);
    let fresh = store.open_instance(&scope(), InstanceSecret::new([4; 32])).await.unwrap();
    assert_eq!(fresh.expose(), &[3; 32], "operation ids of the old one are worthless");
}

/// DPS-INST-8
async fn what_is_being_deleted_is_made_again_only_when_nothing_is_left(store: Arc<dyn Store>) {
    put(&*store, instance(&scope(), 1)).await;
    fill(&*store, &scope()).await;
    store.delete_service_instance(&scope(), Condition::Always.into()).await.unwrap();
    let refused = store.put_service_instance(instance(&scope(), 2), Condition::Always.into()).await;
    assert!(matches!(&refused, Err(WriteError::InstanceBeingDeleted(of)) if *of == scope()), "{refused:?}");
    let refused = store.open_instance(&scope(), InstanceSecret::new([2; 32])).await.unwrap_err();
    assert!(refused.to_string().contains("is being deleted"), "{refused}");
    while store.sweep_deleted_instances(None, 100).await.unwrap() == Sweep::More {}
    put(&*store, instance(&scope(), 2)).await;
}

/// DPS-STORE-24
async fn nothing_is_written_to_an_instance_that_is_not_there(store: Arc<dyn Store>) {
    refuses_writes(&*store).await;
    put(&*store, instance(&scope(), 1)).await;
    fill(&*store, &scope()).await;
    store.delete_service_instance(&scope(), Condition::Always.into()).await.unwrap();
    while store.sweep_deleted_instances(None, 100).await.unwrap() == Sweep::More {}
    let told = store.audit_records(&scope(), &AuditFilter::default(), 99).await.unwrap().len();
    refuses_writes(&*store).await;
    assert_eq!(found(&*store, &scope()).await, 0);
    assert_eq!(store.audit_records(&scope(), &AuditFilter::default(), 99).await.unwrap().len(), told);
    put(&*store, instance(&scope(), 2)).await;
    assert_eq!(found(&*store, &scope()).await, 0);
    fill(&*store, &scope()).await;
}

/// As a request does that was taken while the instance was served.
async fn refuses_writes(store: &dyn Store) {
    let author = Author { principal: Principal::Admin, address: None, tracking_id: None, at: time(7) };
    let always = || WriteOrder::by(author.clone(), Condition::Always);
    let write = RegistrationWrite { decided_on: None, ..first(record("late", 1)) };
    assert_eq!(store.commit(write).await.unwrap(), Commit::Outdated);
    assert_eq!(store.clean_up_stray(clean_up("late", "old.example", 1)).await.unwrap(), Commit::Outdated);
    for refused in [
        store.put_individual_enrollment(&scope(), enrollment("late", 1), always()).await,
        store.put_enrollment_group(&scope(), group("late", 1), always()).await,
        store.put_ca_certificate(&scope(), ca("late", &certificate("late"), 4), always()).await,
    ] {
        assert!(
            matches!(&refused, Err(WriteError::InstanceBeingDeleted(of)) if *of == scope()),
            "{refused:?}"
        );
    }
}
