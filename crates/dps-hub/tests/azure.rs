//! The client of Azure IoT Hub against a registry, which fails on command at each step.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

use std::time::Duration;

use dps_core::ports::{HubAuthentication, HubDeviceStatus};
use dps_core::x509::Sha256Thumbprint;
use dps_hub::azure::{AzureHub, HubETag, HubError, Identity, NewIdentity, Twin, TwinContent};
use dps_hub::outbound::{AllowedTargets, Outbound, OutboundError, Trust, TrustedRoots};
use dps_proto::ids::DeviceId;
use dps_proto::key::{KeyPair, SymmetricKey};
use hub_registry::{Authority, Effect, Fault, HubRegistry, Options, Policy, Step};
use serde_json::{Value, json};

/// Short enough to wait for what never comes.
const IMPATIENT: Duration = Duration::from_millis(300);

/// Long enough for a request to be done, whose answer never comes, on a machine that has other things to do.
const LESS_IMPATIENT: Duration = Duration::from_secs(1);

/// A registry, and what it takes to ask it.
struct Hub {
    registry: HubRegistry,
    outbound: Outbound,
    client: AzureHub,
}

impl Hub {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let authority = Authority::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.pem");
        authority.write(&ca_file).unwrap();
        let registry = HubRegistry::start(&authority, options).await.unwrap();
        let roots = TrustedRoots::read(&Trust::Only(ca_file)).unwrap();
        let outbound = Outbound::new(AllowedTargets::parse(["localhost"]).unwrap(), roots).unwrap();
        let client = AzureHub::new(registry.connection_string().parse().unwrap(), outbound.clone()).unwrap();
        Self { registry, outbound, client }
    }

    fn client_of(&self, policy: Policy) -> AzureHub {
        let string = self.registry.connection_string_of(policy);
        AzureHub::new(string.parse().unwrap(), self.outbound.clone()).unwrap()
    }

    async fn create(&self, id: &DeviceId) -> Identity {
        self.client.create(new(id, &keys(1))).await.unwrap();
        self.client.identity(id).await.unwrap()
    }

    fn identity(&self, id: &DeviceId) -> Option<Value> {
        self.registry.with(|devices| devices.identity(id.as_str()).ok())
    }

    fn twin(&self, id: &DeviceId) -> Option<Value> {
        self.registry.with(|devices| devices.twin(id.as_str()).ok())
    }

    fn touch(&self, id: &DeviceId) {
        self.registry.with(|devices| devices.touch(id.as_str()).unwrap());
    }
}

fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

fn keys(first: u8) -> HubAuthentication {
    let key = |byte| SymmetricKey::from_bytes(vec![byte; 32]).unwrap();
    HubAuthentication::Keys(KeyPair { primary: key(first), secondary: key(first + 100) })
}

fn thumbprints(first: u8) -> HubAuthentication {
    let of = |byte| Sha256Thumbprint::from_bytes([byte; 32]);
    HubAuthentication::SelfSigned { primary: of(first), secondary: of(first + 100) }
}

fn new<'d>(device_id: &'d DeviceId, authentication: &'d HubAuthentication) -> NewIdentity<'d> {
    NewIdentity { device_id, authentication, status: HubDeviceStatus::Enabled, iot_edge: false, twin: None }
}

fn content(text: &str) -> TwinContent {
    TwinContent::parse(text).unwrap()
}

/// DPS-HUB-11, DPS-HUB-12, DPS-HUB-13
#[tokio::test]
async fn a_device_is_made_with_its_twin_and_read_as_it_was_made() {
    let hub = Hub::start().await;
    let twin = content(r#"{"tags":{"floor":1.0},"properties":{"desired":{"big":12345678901234567890123}}}"#);
    for (name, authentication) in [("plain", keys(1)), ("a:b#%?'()@$;=,+!*", thumbprints(1))] {
        let id = id(name);
        let device = NewIdentity { iot_edge: true, twin: Some(&twin), ..new(&id, &authentication) };
        hub.client.create(device).await.unwrap();
        let read = hub.client.identity(&id).await.unwrap();
        assert!(read.authenticates_with(&authentication) && !read.authenticates_with(&keys(2)), "{name}");
        assert!(read.is_iot_edge() && read.is_enabled(), "{name}");
        assert_eq!(hub.client.twin(&id).await.unwrap().content.tags, twin.tags);
        let kept = hub.twin(&id).unwrap();
        assert_eq!(kept["properties"]["desired"]["big"].to_string(), "12345678901234567890123");
        assert_eq!(kept["tags"].to_string(), r#"{"floor":1.0}"#);
        let again = hub.client.create(device).await.unwrap_err();
        assert!(matches!(&again, HubError::Exists(refusal) if refusal.error_code() == 409_001), "{again:?}");
    }
    assert_eq!(hub.registry.with(|devices| devices.ids()), ["a:b#%?'()@$;=,+!*", "plain"]);
}

/// DPS-HUB-14
#[tokio::test]
async fn keys_become_thumbprints_and_all_else_stays() {
    let hub = Hub::start().await;
    let id = id("d");
    let twin = content(r#"{"tags":{"a":1}}"#);
    let authentication = keys(1);
    let made = NewIdentity { iot_edge: true, twin: Some(&twin), ..new(&id, &authentication) };
    hub.client.create(made).await.unwrap();
    let (before, twin_before) = (hub.identity(&id).unwrap(), hub.twin(&id).unwrap());
    let read = hub.client.identity(&id).await.unwrap();
    let changed = hub.client.set_authentication(&read, &thumbprints(1)).await.unwrap();
    assert!(changed.authenticates_with(&thumbprints(1)) && changed.etag() != read.etag());
    let after = hub.identity(&id).unwrap();
    for member in ["generationId", "status", "capabilities", "deviceScope", "parentScopes"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert_eq!(hub.twin(&id).unwrap()["etag"], twin_before["etag"]);
    // The answer's version is the one to go on with.
    hub.client.set_authentication(&changed, &keys(2)).await.unwrap();
}

/// DPS-HUB-14, DPS-HUB-15: whoever came between keeps what he did.
#[tokio::test]
async fn what_changed_since_it_was_read_is_left_alone() {
    let hub = Hub::start().await;
    let id = id("d");
    let read = hub.create(&id).await;
    let twin = hub.client.twin(&id).await.unwrap();
    hub.touch(&id);
    let before = (hub.identity(&id), hub.twin(&id));
    let change = content(r#"{"tags":{"a":1}}"#);
    let refused = [
        hub.client.set_authentication(&read, &keys(2)).await.map(|_| ()),
        hub.client.delete(&id, read.etag()).await,
        hub.client.replace_twin(&id, &twin.etag, &change).await.map(|_| ()),
        hub.client.merge_twin(&id, &twin.etag, &change).await.map(|_| ()),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(HubError::PreconditionFailed(_))), "{refused:?}");
    }
    assert_eq!((hub.identity(&id), hub.twin(&id)), before);
    assert!(
        hub.registry.requests().iter().all(|request| !request
            .if_match
            .as_deref()
            .unwrap_or("")
            .contains('*'))
    );
}

/// DPS-HUB-15: as a device moves from one hub to another.
#[tokio::test]
async fn a_twin_moves_with_what_the_device_reported() {
    let (from, to) = (Hub::start().await, Hub::start().await);
    let id = id("d");
    let twin = content(r#"{"tags":{"a":1.50},"properties":{"desired":{"b":{"c":[1,"2"]}}}}"#);
    from.client.create(NewIdentity { twin: Some(&twin), ..new(&id, &keys(1)) }).await.unwrap();
    let Value::Object(reported) = json!({"on": true}) else { unreachable!() };
    from.registry.with(|devices| devices.report("d", reported)).unwrap();
    let read = from.client.identity(&id).await.unwrap();
    let Twin { content, .. } = from.client.twin(&id).await.unwrap();
    to.client.create(NewIdentity { twin: Some(&content), ..new(&id, &keys(1)) }).await.unwrap();
    from.client.delete(&id, read.etag()).await.unwrap();
    assert_eq!(from.identity(&id), None);
    let moved = to.client.twin(&id).await.unwrap();
    assert_eq!(moved.content, content);
    assert_eq!(to.twin(&id).unwrap()["properties"]["reported"]["$version"], 2);
}

/// DPS-HUB-15
#[tokio::test]
async fn a_twin_is_merged_into_or_replaced() {
    let hub = Hub::start().await;
    let id = id("d");
    hub.create(&id).await;
    let twin = hub.client.twin(&id).await.unwrap();
    let first = content(r#"{"tags":{"a":1,"b":{"c":2}},"properties":{"desired":{"x":1}}}"#);
    let replaced = hub.client.replace_twin(&id, &twin.etag, &first).await.unwrap();
    assert_eq!((&replaced.content.tags, &replaced.content.desired), (&first.tags, &first.desired));
    let patch = content(r#"{"tags":{"b":{"c":null,"d":3}}}"#);
    let merged = hub.client.merge_twin(&id, &replaced.etag, &patch).await.unwrap();
    assert_eq!(
        merged.content,
        content(r#"{"tags":{"a":1,"b":{"d":3}},"properties":{"desired":{"x":1},"reported":{}}}"#)
    );
    let emptied = hub.client.replace_twin(&id, &merged.etag, &TwinContent::default()).await.unwrap();
    assert_eq!(emptied.content, content(r#"{"tags":{},"properties":{"desired":{},"reported":{}}}"#));
    let stale = hub.client.merge_twin(&id, &merged.etag, &patch).await.unwrap_err();
    assert!(matches!(stale, HubError::PreconditionFailed(_)), "{stale:?}");
}

/// DPS-HUB-16
#[tokio::test]
async fn a_device_that_is_absent_is_absent_to_every_call() {
    let hub = Hub::start().await;
    let (there, gone) = (id("there"), id("gone"));
    let etag: HubETag = "MTIz".parse().unwrap();
    let gone_identity = {
        let made = hub.create(&gone).await;
        hub.client.delete(&gone, made.etag()).await.unwrap();
        made
    };
    hub.create(&there).await;
    let absent = [
        hub.client.identity(&gone).await.map(|_| ()),
        hub.client.set_authentication(&gone_identity, &keys(1)).await.map(|_| ()),
        hub.client.delete(&gone, &etag).await,
        hub.client.twin(&gone).await.map(|_| ()),
        hub.client.replace_twin(&gone, &etag, &TwinContent::default()).await.map(|_| ()),
        hub.client.merge_twin(&gone, &etag, &TwinContent::default()).await.map(|_| ()),
    ];
    for absent in absent {
        assert!(
            matches!(&absent, Err(HubError::Absent(refusal)) if refusal.error_code() == 404_001),
            "{absent:?}"
        );
    }
    assert!(hub.identity(&there).is_some());
}

/// DPS-HUB-16, DPS-HUB-17, DPS-HUB-18
#[tokio::test]
async fn a_key_that_is_no_longer_the_hub_s_and_a_right_that_lacks_are_told_as_the_hub_tells_them() {
    let hub = Hub::start().await;
    let id = id("d");
    let read = hub.create(&id).await;
    let of_twins = hub.client_of(Policy::Service);
    of_twins.twin(&id).await.unwrap();
    let of_identities = hub.client_of(Policy::RegistryReadWrite);
    of_identities.identity(&id).await.unwrap();
    let reader = hub.client_of(Policy::RegistryRead);
    reader.identity(&id).await.unwrap();
    hub.registry.renew_key(Policy::IotHubOwner);
    let refused = [
        of_twins.identity(&id).await.map(|_| ()),
        of_identities.twin(&id).await.map(|_| ()),
        reader.delete(&id, read.etag()).await,
        reader.create(new(&id, &keys(1))).await,
        hub.client.identity(&id).await.map(|_| ()),
        hub.client.create(new(&id, &keys(1))).await,
    ];
    for refused in refused {
        let why = refused.unwrap_err();
        let HubError::Unauthorized(refusal) = &why else { panic!("{why:?}") };
        assert_eq!((refusal.status(), refusal.error_code()), (401, 401_002));
        let raw = r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized","ExceptionMessage":"Tracking ID:"#;
        assert!(refusal.body().starts_with(raw), "{}", refusal.body());
        assert!(!why.is_retryable() && !why.to_string().contains("Tracking"), "{why}");
    }
    hub.client_of(Policy::IotHubOwner).identity(&id).await.unwrap();
}

/// DPS-HUB-16
#[tokio::test]
async fn a_hub_that_is_full_says_so() {
    let hub = Hub::with(Options { devices_max: Some(1), ..Options::default() }).await;
    hub.create(&id("a")).await;
    let why = hub.client.create(new(&id("b"), &keys(1))).await.unwrap_err();
    assert!(matches!(&why, HubError::TooManyDevices(refusal) if refusal.error_code() == 413_002), "{why:?}");
    assert!(!why.is_retryable());
}

/// A call, on what was read before.
async fn call(client: &AzureHub, step: Step, read: &Identity, twin: &Twin) -> Result<(), HubError> {
    let (id, change) = (read.device_id(), content(r#"{"tags":{"changed":true}}"#));
    match step {
        Step::Bulk => client.create(new(&self::id("new"), &keys(1))).await,
        Step::ReadIdentity => client.identity(id).await.map(|_| ()),
        Step::WriteIdentity => client.set_authentication(read, &keys(2)).await.map(|_| ()),
        Step::DeleteIdentity => client.delete(id, read.etag()).await,
        Step::ReadTwin => client.twin(id).await.map(|_| ()),
        Step::ReplaceTwin => client.replace_twin(id, &twin.etag, &change).await.map(|_| ()),
        Step::MergeTwin => client.merge_twin(id, &twin.etag, &change).await.map(|_| ()),
        Step::Connect => unreachable!("no call"),
    }
}

const CALLS: [Step; 7] = [
    Step::Bulk,
    Step::ReadIdentity,
    Step::WriteIdentity,
    Step::DeleteIdentity,
    Step::ReadTwin,
    Step::ReplaceTwin,
    Step::MergeTwin,
];

/// What a call comes to that was done already, its answer lost.
fn is_repetition(step: Step, repeated: &Result<(), HubError>) -> bool {
    match step {
        Step::Bulk => matches!(repeated, Err(HubError::Exists(_))),
        Step::ReadIdentity | Step::ReadTwin => repeated.is_ok(),
        Step::DeleteIdentity => matches!(repeated, Err(HubError::Absent(_))),
        _ => matches!(repeated, Err(HubError::PreconditionFailed(_))),
    }
}

/// Has `step` fail once, calls it, and calls it once more.
async fn failed(step: Step, effect: Effect) -> (HubError, Result<(), HubError>) {
    let hub = Hub::start().await;
    let id = id("d");
    let read = hub.create(&id).await;
    let twin = hub.client.twin(&id).await.unwrap();
    let owner = hub.client_of(Policy::IotHubOwner);
    let client = match effect {
        Effect::Stall => owner.within(IMPATIENT),
        Effect::StallAfter => owner.within(LESS_IMPATIENT),
        _ => owner,
    };
    hub.registry.plan(Fault { step, effect, times: 1 });
    let why = call(&client, step, &read, &twin).await.unwrap_err();
    (why, call(&hub.client, step, &read, &twin).await)
}

/// DPS-HUB-16: the hub says no, and nothing was done.
#[tokio::test]
async fn a_hub_that_fails_or_throttles_at_any_step_did_nothing() {
    for step in CALLS {
        for (status, code) in
            [(429, "ThrottlingException"), (500, "ServerError"), (503, "ServiceUnavailable")]
        {
            let effect = Effect::Refuse { status, code: code.to_owned(), retry_after: Some(7) };
            let (why, repeated) = failed(step, effect).await;
            let is_expected = match &why {
                HubError::Throttled(_) => status == 429,
                HubError::Unavailable(_) => status >= 500,
                _ => false,
            };
            assert!(is_expected && why.is_retryable(), "{step:?} {status}: {why:?}");
            assert_eq!(why.answered().unwrap().retry_after(), Some(Duration::from_secs(7)), "{step:?}");
            assert!(repeated.is_ok(), "{step:?} {status}: {repeated:?}");
        }
    }
}

/// Whether a repeated call tells that the first one was done, or that it was not.
fn tells(is_done: bool, step: Step, repeated: &Result<(), HubError>) -> bool {
    if is_done { is_repetition(step, repeated) } else { repeated.is_ok() }
}

/// DPS-HUB-10, DPS-HUB-16: silence says nothing of what was done; the repeated call does.
#[tokio::test]
async fn a_call_that_is_never_answered_at_any_step_may_have_been_done() {
    for step in CALLS {
        for (effect, is_done) in [(Effect::Stall, false), (Effect::StallAfter, true)] {
            let (why, repeated) = failed(step, effect.clone()).await;
            let is_timeout = matches!(&why, HubError::NoAnswer(OutboundError::TimedOut { .. }));
            assert!(is_timeout && why.is_retryable(), "{step:?} {effect:?}: {why:?}");
            assert!(tells(is_done, step, &repeated), "{step:?} {effect:?}: {repeated:?}");
        }
    }
}

/// DPS-HUB-16
#[tokio::test]
async fn a_connection_that_is_cut_at_any_step_may_have_brought_the_request() {
    for step in CALLS {
        for (effect, is_done) in [(Effect::Cut, false), (Effect::CutAfter, true), (Effect::CutMidway, true)] {
            // The answer to a deletion has no middle.
            if (step, &effect) == (Step::DeleteIdentity, &Effect::CutMidway) {
                continue;
            }
            let (why, repeated) = failed(step, effect.clone()).await;
            let is_broken = matches!(&why, HubError::NoAnswer(OutboundError::Broken { .. }));
            assert!(is_broken && why.is_retryable(), "{step:?} {effect:?}: {why:?}");
            assert!(tells(is_done, step, &repeated), "{step:?} {effect:?}: {repeated:?}");
        }
    }
}

/// DPS-HUB-16
#[tokio::test]
async fn a_page_in_place_of_an_answer_is_no_success_at_any_step() {
    for step in CALLS {
        let (why, repeated) = failed(step, Effect::Garble).await;
        assert!(matches!(&why, HubError::Malformed(_)) && why.is_retryable(), "{step:?}: {why:?}");
        assert!(is_repetition(step, &repeated), "{step:?}: {repeated:?}");
    }
}

/// DPS-HUB-7, DPS-HUB-16
#[tokio::test]
async fn a_hub_that_accepts_and_says_nothing_or_ends_the_connection_is_not_waited_for() {
    let hub = Hub::start().await;
    let client = hub.client_of(Policy::IotHubOwner).within(IMPATIENT);
    hub.registry.plan(Fault { step: Step::Connect, effect: Effect::Stall, times: 1 });
    let why = client.identity(&id("d")).await.unwrap_err();
    assert!(matches!(&why, HubError::NoAnswer(OutboundError::TimedOut { within: IMPATIENT, .. })), "{why:?}");
    hub.registry.plan(Fault { step: Step::Connect, effect: Effect::Cut, times: 1 });
    let why = hub.client_of(Policy::IotHubOwner).identity(&id("d")).await.unwrap_err();
    assert!(
        matches!(&why, HubError::NoAnswer(OutboundError::Unreachable { .. } | OutboundError::Tls { .. })),
        "{why:?}"
    );
    assert!(why.is_retryable() && hub.registry.requests().is_empty());
}
