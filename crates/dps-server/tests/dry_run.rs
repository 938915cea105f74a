//! What would happen to a device, said without one. Spec: DPS-EXPLAIN-6, DPS-EXPLAIN-7.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

use std::sync::Arc;

use dps_core::custom_allocation::CustomAllocation;
use dps_core::enrollment::{
    AllocationPolicy, EnrollmentGroup, EntrySettings, GroupAttestation, ProvisioningStatus,
};
use dps_core::instance::{ClaimAcrossGroups, HubKind, LinkedHub, ServiceInstance, WhenSourceUnavailable};
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{Condition, Store};
use dps_core::register::Registrar;
use dps_hub::LocalHub;
use dps_proto::ids::{ETag, IdScope, InstanceSecret};
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_proto::sas::sign_device_token;
use dps_server::dry_run::DryRun;
use dps_server::front_end::FrontEnd;
use dps_server::limits::Limits;
use dps_server::moments::{Moments as _, SystemMoments};
use dps_server::search_pool::SearchThreads;
use dps_store::MemoryStore;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const SCOPE: &str = "0ne00000001";

struct Service {
    front_end: FrontEnd,
    store: Arc<MemoryStore>,
}

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_bytes(format!("{text:.<32}").into_bytes()).unwrap()
}

fn group(name: &str, provisioning_status: ProvisioningStatus) -> EnrollmentGroup {
    EnrollmentGroup {
        id: name.parse().unwrap(),
        registration_id_prefix: None,
        attestation: GroupAttestation::SymmetricKey(KeyPair { primary: key(name), secondary: key("second") }),
        settings: EntrySettings {
            provisioning_status,
            custom_allocation: None,
            allocation_policy: None,
            hubs: Vec::new(),
            initial_twin: None,
            iot_edge: false,
            reprovision_policy: None,
            other_members: None,
            etag: ETag::generate([1; 16], 0),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        },
    }
}

fn instance(scope: &str, has_hub: bool) -> ServiceInstance {
    let hub = || LinkedHub {
        name: "hub.example".parse().unwrap(),
        kind: HubKind::Local,
        allocation_weight: 1,
        applies_allocation_policy: true,
        networks: Vec::new(),
        is_draining: false,
        connection_string: None,
        hub: Arc::new(LocalHub::default()),
    };
    ServiceInstance {
        id_scope: scope.parse().unwrap(),
        secret: InstanceSecret::new([7; 32]),
        linked_hubs: has_hub.then(hub).into_iter().collect(),
        default_allocation_policy: AllocationPolicy::Hashed,
        claim_across_groups: ClaimAcrossGroups::Allow,
        when_source_unavailable: WhenSourceUnavailable::Fail,
        passes_over_unhealthy_hubs: false,
        chain_rules: dps_core::x509::ChainRules::default(),
        service_hosts: Vec::new(),
        shared_access_policies: Vec::new(),
    }
}

impl Service {
    async fn new(instances: Vec<ServiceInstance>) -> Self {
        let store = Arc::new(MemoryStore::new());
        let scope = SCOPE.parse().unwrap();
        store.open_instance(&scope, InstanceSecret::new([7; 32])).await.unwrap();
        for group in
            [group("fleet", ProvisioningStatus::Enabled), group("retired", ProvisioningStatus::Disabled)]
        {
            store.put_enrollment_group(&scope, group, Condition::Always.into()).await.unwrap();
        }
        let pool = Arc::new(SearchThreads::start(1, SearchThreads::SIGNATURES_DEFAULT).unwrap());
        let registrar = Arc::new(Registrar::new(
            Arc::clone(&store) as _,
            pool,
            Instances::of(Origin::Configuration, instances),
        ));
        let front_end = FrontEnd::new(registrar, Arc::new(SystemMoments), Limits::default());
        Self { front_end, store }
    }

    async fn judge(&self, body: &Value) -> Value {
        let judged = DryRun::of(&self.front_end).judge(body.to_string().as_bytes()).await.unwrap();
        // Not even where its resource is what is wrong.
        let token = body["sasToken"].as_str().unwrap_or_default();
        let signature = token.split("sig=").nth(1).and_then(|rest| rest.split('&').next());
        for secret in signature.into_iter().chain([token].into_iter().filter(|token| !token.is_empty())) {
            assert!(!judged.to_string().contains(secret), "{judged}");
        }
        judged
    }
}

fn token(scope: &str, id: &str, key: &SymmetricKey, hours: i64) -> String {
    let expiry = Timestamp::now() + SignedDuration::from_hours(hours);
    sign_device_token(&scope.parse::<IdScope>().unwrap(), &id.parse().unwrap(), key, expiry)
}

fn claim(id: &str, token: String) -> Value {
    json!({"registrationId": id, "sasToken": token})
}

/// DPS-EXPLAIN-6
#[tokio::test]
async fn a_device_that_would_be_admitted_is_told_its_hub_and_leaves_no_trace() {
    let service = Service::new(vec![instance(SCOPE, true)]).await;
    let asked = claim("dev-1", token(SCOPE, "dev-1", &key("fleet").derive("dev-1"), 1));
    let judged = service.judge(&asked).await;
    assert_eq!(
        judged,
        json!({
            "idScope": SCOPE, "registrationId": "dev-1", "outcome": "admitted", "entry": "enrollment group fleet",
            "status": "assigned", "assignedHub": "hub.example", "deviceId": "dev-1", "keepsAssignment": false,
            "claimedFrom": null, "path": [],
        })
    );
    let look_up = service.store.look_up(&SCOPE.parse().unwrap(), &"dev-1".parse().unwrap()).await.unwrap();
    assert!(look_up.registration.is_none());
    assert!(service.front_end.explanations.find(&Default::default(), 9).is_empty());

    let real = dps_core::attestation::DeviceClaim {
        id_scope: SCOPE.parse().unwrap(),
        registration_id: "dev-1".parse().unwrap(),
        credential: dps_core::attestation::Credential {
            password: Some(dps_proto::sas::SasToken::parse(asked["sasToken"].as_str().unwrap().as_bytes())),
            certificates: None,
            ..dps_core::attestation::Credential::default()
        },
        search_turn: dps_core::ports::SearchTurn::InOrder,
        predates_reprovisioning: false,
        address: None,
    };
    service.front_end.registrar.register(&real, None, SystemMoments.moment()).await.unwrap();
    assert_eq!(service.judge(&asked).await["keepsAssignment"], true);
}

/// DPS-EXPLAIN-6, DPS-EXPLAIN-7
#[tokio::test]
async fn a_device_that_would_be_refused_is_told_the_code_the_reason_and_the_advice() {
    let service = Service::new(vec![instance(SCOPE, true)]).await;
    let derived = key("fleet").derive("dev-1");
    for (asked, told, reason) in [
        (claim("dev-1", token(SCOPE, "dev-1", &key("x"), 1)), "401002", "the 2 enrollment groups tried"),
        (claim("dev-1", token(SCOPE, "dev-1", &key("fleet"), 1)), "401002", "group fleet itself"),
        (claim("dev-1", token(SCOPE, "dev-1", &derived, -1)), "401002", "expired"),
        (claim("dev-2", token(SCOPE, "dev-1", &derived, 1)), "401002", "0ne00000001/registrations/dev-2"),
        (claim("dev-1", "no token".to_owned()), "401002", "does not begin with"),
        (json!({"registrationId": "dev-1"}), "401002", "neither a SAS token"),
        (
            json!({"registrationId": "dev-1", "idScope": "0ne0000000f", "sasToken": token("0ne0000000f", "dev-1", &derived, 1)}),
            "401002",
            "no service instance has the ID scope 0ne0000000f",
        ),
    ] {
        let judged = service.judge(&asked).await;
        assert_eq!((&judged["outcome"], &judged["told"]), (&json!("refused"), &json!(told)), "{judged}");
        assert!(judged["reason"].as_str().unwrap().contains(reason), "{judged}");
        assert!(!judged["advice"].as_str().unwrap().is_empty(), "{judged}");
    }
}

/// DPS-EXPLAIN-6
#[tokio::test]
async fn disabled_entries_and_instances_without_hubs_are_told_apart_from_refusals() {
    let service = Service::new(vec![instance(SCOPE, false)]).await;
    let by = |group: &str| claim("dev-1", token(SCOPE, "dev-1", &key(group).derive("dev-1"), 1));
    let disabled = service.judge(&by("retired")).await;
    assert_eq!(disabled["outcome"], "disabled");
    assert!(
        disabled["reason"].as_str().unwrap().contains("enrollment group retired is disabled"),
        "{disabled}"
    );
    let failed = service.judge(&by("fleet")).await;
    assert_eq!(failed["outcome"], "failed");
    assert_eq!(failed["reason"], "no linked hub may take the device");
}

/// DPS-EXPLAIN-6, DPS-EXPLAIN-7
#[tokio::test]
async fn what_cannot_be_judged_is_named_without_what_it_held() {
    let service = Service::new(vec![instance(SCOPE, true), instance("0ne00000002", true)]).await;
    for (body, words) in [
        (r#"{"registrationId":"d","sasTokn":"s3cret"}"#, "the body is not"),
        (r#"{"registrationId":"d","sasToken":["s3cret"]}"#, "the body is not"),
        (r#"s3cret"#, "the body is not"),
        (r#"{"registrationId":"a b"}"#, "registrationId: it holds the character ' '"),
        (r#"{"registrationId":"d","idScope":"x"}"#, "idScope: it has 1 characters"),
        (r#"{"registrationId":"d"}"#, "idScope: name it"),
    ] {
        let refused = DryRun::of(&service.front_end).judge(body.as_bytes()).await.unwrap_err().to_string();
        assert!(refused.contains(words) && !refused.contains("s3cret"), "{body}: {refused}");
    }
}

/// DPS-EXPLAIN-14
#[tokio::test]
async fn a_device_whose_webhook_would_be_asked_is_told_so_and_nobody_is_asked() {
    let service = Service::new(vec![instance(SCOPE, true)]).await;
    let mut hooked = group("hooked", ProvisioningStatus::Enabled);
    hooked.settings.allocation_policy = Some(AllocationPolicy::Custom);
    let webhook_url = "https://hook.example/".parse().unwrap();
    hooked.settings.custom_allocation =
        Some(CustomAllocation { webhook_url, api_version: "2019-03-31".into() });
    let scope = SCOPE.parse().unwrap();
    service.store.put_enrollment_group(&scope, hooked, Condition::Always.into()).await.unwrap();
    let judged =
        service.judge(&claim("dev-1", token(SCOPE, "dev-1", &key("hooked").derive("dev-1"), 1))).await;
    assert_eq!(
        judged,
        json!({
            "idScope": SCOPE, "registrationId": "dev-1", "outcome": "admitted", "entry": "enrollment group hooked",
            "status": "assigning", "claimedFrom": null, "path": [], "asksWebhook": true,
        })
    );
    assert!(service.store.look_up(&scope, &"dev-1".parse().unwrap()).await.unwrap().registration.is_none());
}
