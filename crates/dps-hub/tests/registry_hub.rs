//! An Azure IoT Hub behind the ports, against a registry, which fails on command at each step.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

use std::time::Duration;

use dps_core::enrollment::TwinDocument;
use dps_core::ports::{
    DeviceRegistry as _, Hub as _, HubAuthentication, HubDevice, HubDeviceStatus, HubHealth, Placement,
    RegistryDevice, RegistryError,
};
use dps_core::x509::Sha256Thumbprint;
use dps_hub::azure::RegistryHub;
use dps_hub::outbound::{AllowedTargets, Outbound, Trust, TrustedRoots};
use dps_proto::ids::DeviceId;
use dps_proto::key::{KeyPair, SymmetricKey};
use hub_registry::{Authority, Effect, Fault, HubRegistry, Options, Policy, Step};
use serde_json::Value;

/// Short enough to wait for what never comes.
const IMPATIENT: Duration = Duration::from_millis(300);

/// Long enough for a request to be done, whose answer never comes, on a machine that has other things to do.
const LESS_IMPATIENT: Duration = Duration::from_secs(1);

/// A registry, and the hub that asks it.
struct Asked {
    registry: HubRegistry,
    outbound: Outbound,
    hub: RegistryHub,
}

impl Asked {
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
        let hub = RegistryHub::new(registry.connection_string().parse().unwrap(), outbound.clone());
        Self { registry, outbound, hub }
    }

    fn another_hub(&self) -> RegistryHub {
        let string = self.registry.connection_string_of(Policy::IotHubOwner);
        RegistryHub::new(string.parse().unwrap(), self.outbound.clone())
    }

    async fn create(&self, name: &str) -> RegistryDevice {
        self.hub.create(&device(name), HubDeviceStatus::Enabled).await.unwrap();
        self.hub.identity(&id(name)).await.unwrap()
    }

    fn identity(&self, name: &str) -> Value {
        self.registry.with(|devices| devices.identity(name)).unwrap()
    }

    fn refuse(&self, step: Step, status: u16, code: &str, retry_after: Option<u32>, times: u32) {
        let effect = Effect::Refuse { status, code: code.to_owned(), retry_after };
        self.registry.plan(Fault { step, effect, times });
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

fn device(name: &str) -> HubDevice {
    HubDevice {
        id_scope: "0ne00000000".parse().unwrap(),
        hub: "localhost".parse().unwrap(),
        device_id: id(name),
        registration_id: "registration".parse().unwrap(),
        authentication: keys(1),
        iot_edge: false,
        initial_twin: None,
    }
}

/// DPS-REG-40
#[tokio::test]
async fn a_device_is_placed_by_asking_the_registry_and_placing_it_asks_nobody() {
    let asked = Asked::start().await;
    assert!(matches!(asked.hub.place(device("d")), Placement::Outside));
    assert!(asked.hub.registry().is_some() && asked.registry.requests().is_empty());
    assert_eq!((asked.hub.health(), asked.hub.paused_for()), (HubHealth::Healthy, None));
}

/// DPS-REG-41, DPS-REG-42, DPS-HUB-12
#[tokio::test]
async fn a_device_is_made_enabled_or_disabled_and_read_with_all_that_it_takes_along() {
    let asked = Asked::start().await;
    let text = r#"{"tags":{"floor":1.0},"properties":{"desired":{"big":12345678901234567890123},"reported":{"on":true}}}"#;
    for status in HubDeviceStatus::ALL {
        let name = status.as_str();
        let made =
            HubDevice { iot_edge: true, initial_twin: Some(TwinDocument(text.into())), ..device(name) };
        asked.hub.create(&made, status).await.unwrap();
        assert_eq!(asked.identity(name)["status"], name);
        let read = asked.hub.identity(&id(name)).await.unwrap();
        assert_eq!((read.device_id.as_str(), read.status, read.iot_edge), (name, status, true));
        assert_eq!(&*asked.hub.twin(&id(name)).await.unwrap().0, text);
        let again = asked.hub.create(&made, status).await;
        assert_eq!(again, Err(RegistryError::Exists));
    }
    let plain = asked.create("plain").await;
    assert!(!plain.iot_edge);
    let malformed = HubDevice { initial_twin: Some(TwinDocument("[]".into())), ..device("malformed") };
    let why = asked.hub.create(&malformed, HubDeviceStatus::Enabled).await.unwrap_err();
    assert!(matches!(&why, RegistryError::Refused { said, .. } if said.contains("twin")), "{why:?}");
}

/// DPS-REG-41, DPS-REG-44, DPS-HUB-14: whoever read the device before a write has an old version in hand.
#[tokio::test]
async fn each_change_makes_another_version_even_of_the_authentication_that_is_there() {
    let asked = Asked::start().await;
    let made = HubDevice { iot_edge: true, ..device("d") };
    asked.hub.create(&made, HubDeviceStatus::Disabled).await.unwrap();
    let (before, first) = (asked.identity("d"), asked.hub.identity(&id("d")).await.unwrap());
    asked.hub.set_authentication(&first, &keys(1)).await.unwrap();
    let second = asked.hub.identity(&id("d")).await.unwrap();
    assert_ne!(first.etag, second.etag);
    assert_eq!(asked.hub.set_authentication(&first, &keys(2)).await, Err(RegistryError::Changed));
    assert_eq!(asked.hub.delete(&first).await, Err(RegistryError::Changed));
    asked.hub.set_authentication(&second, &thumbprints(1)).await.unwrap();
    let after = asked.identity("d");
    assert_eq!(after["authentication"]["type"], "selfSigned");
    for member in ["generationId", "status", "capabilities", "deviceScope", "parentScopes"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    let third = asked.hub.identity(&id("d")).await.unwrap();
    assert_eq!((third.status, third.iot_edge), (HubDeviceStatus::Disabled, true));
    asked.hub.delete(&third).await.unwrap();
    assert!(asked.registry.with(|devices| devices.ids()).is_empty());
}

/// DPS-HUB-16
#[tokio::test]
async fn a_device_that_is_not_there_is_absent_for_every_call() {
    let asked = Asked::start().await;
    let gone = asked.create("d").await;
    asked.registry.with(|devices| devices.remove("d")).unwrap();
    let told = [
        asked.hub.identity(&id("d")).await.map(drop),
        asked.hub.twin(&id("d")).await.map(drop),
        asked.hub.set_authentication(&gone, &keys(2)).await,
        asked.hub.delete(&gone).await,
    ];
    assert!(told.iter().all(|told| *told == Err(RegistryError::Absent)), "{told:?}");
    for name in [".", ".."] {
        let unaddressable = [
            asked.hub.identity(&id(name)).await.map(drop),
            asked.hub.create(&device(name), HubDeviceStatus::Enabled).await,
        ];
        assert!(unaddressable.iter().all(|it| *it == Err(RegistryError::Unaddressable)), "{unaddressable:?}");
    }
}

/// DPS-REG-45, DPS-REG-46, DPS-HUB-17, DPS-HUB-19
#[tokio::test]
async fn a_key_that_is_no_longer_the_hub_s_is_a_refusal_in_its_words_and_makes_it_unhealthy_at_once() {
    let asked = Asked::start().await;
    asked.create("d").await;
    asked.registry.renew_key(Policy::IotHubOwner);
    let why = asked.hub.create(&device("e"), HubDeviceStatus::Enabled).await.unwrap_err();
    let RegistryError::Refused { said, reason } = &why else { panic!("{why:?}") };
    assert!(said.starts_with(r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized","#), "{said}");
    assert!(reason.contains("401002") && !reason.contains("Tracking"), "{reason}");
    let HubHealth::Unhealthy { reason: told, .. } = asked.hub.health() else { panic!("healthy") };
    assert_eq!(told, *reason);
    let renewed = asked.another_hub();
    renewed.identity(&id("d")).await.unwrap();
    assert_eq!(renewed.health(), HubHealth::Healthy);
}

/// DPS-HUB-16, DPS-HUB-17
#[tokio::test]
async fn a_hub_that_is_full_refuses_and_is_healthy() {
    let asked = Asked::with(Options { devices_max: Some(1), ..Options::default() }).await;
    asked.create("a").await;
    let why = asked.hub.create(&device("b"), HubDeviceStatus::Enabled).await.unwrap_err();
    let RegistryError::Refused { said, .. } = &why else { panic!("{why:?}") };
    assert!(said.contains("413002"), "{said}");
    assert_eq!(asked.hub.health(), HubHealth::Healthy);
}

/// DPS-REG-46, DPS-HUB-19
#[tokio::test]
async fn three_calls_in_a_row_that_come_to_nothing_make_it_unhealthy_until_it_answers_anything() {
    let asked = Asked::start().await;
    let stale = asked.create("d").await;
    asked.registry.with(|devices| devices.touch("d")).unwrap();
    for answered in 0..3 {
        asked.refuse(Step::ReadIdentity, 503, "ServiceUnavailable", Some(7), 2);
        asked.registry.plan(Fault { step: Step::ReadIdentity, effect: Effect::CutAfter, times: 1 });
        for call in 0..3 {
            assert_eq!(asked.hub.health(), HubHealth::Healthy, "{call}");
            let why = asked.hub.identity(&id("d")).await.unwrap_err();
            match call {
                0 | 1 => assert!(matches!(why, RegistryError::Unavailable { .. }), "{why:?}"),
                _ => assert!(matches!(why, RegistryError::Unanswered { .. }), "{why:?}"),
            }
        }
        assert!(matches!(asked.hub.health(), HubHealth::Unhealthy { .. }));
        assert_eq!(asked.hub.paused_for(), None, "503 asks for no pause");
        // It is well again when it says that there is none, that there is one, or that it has changed.
        let (told, expected) = match answered {
            0 => (asked.hub.identity(&id("none")).await.map(drop), RegistryError::Absent),
            1 => (asked.hub.create(&device("d"), HubDeviceStatus::Enabled).await, RegistryError::Exists),
            _ => (asked.hub.delete(&stale).await, RegistryError::Changed),
        };
        assert_eq!((told, asked.hub.health()), (Err(expected), HubHealth::Healthy));
    }
}

/// DPS-REG-45
#[tokio::test]
async fn a_hub_that_throttles_is_left_alone_for_as_long_as_it_says() {
    let asked = Asked::start().await;
    let asks = async || asked.hub.identity(&id("d")).await.unwrap_err();
    let paused = || asked.hub.paused_for().unwrap_or_default();
    let seconds = Duration::from_secs;
    asked.refuse(Step::ReadIdentity, 429, "ThrottlingException", None, 1);
    let why = asks().await;
    assert!(matches!(why, RegistryError::Throttled { retry_after: None, .. }), "{why:?}");
    assert!(paused() > Duration::ZERO && paused() <= seconds(1), "{:?}", paused());
    asked.refuse(Step::ReadIdentity, 429, "ThrottlingException", Some(0), 1);
    let why = asks().await;
    assert!(matches!(why, RegistryError::Throttled { retry_after: None, .. }), "{why:?}");
    assert!(paused() > seconds(1) && paused() <= seconds(2), "{:?}", paused());
    asked.refuse(Step::ReadIdentity, 429, "ThrottlingException", Some(30), 1);
    let why = asks().await;
    let RegistryError::Throttled { retry_after, reason } = &why else { panic!("{why:?}") };
    assert_eq!((*retry_after, asked.hub.health()), (Some(seconds(30)), HubHealth::Healthy));
    assert!(reason.contains("429001"), "{reason}");
    assert!(paused() > seconds(25) && paused() <= seconds(30), "{:?}", paused());
}

/// A call, on what was read before.
async fn call(hub: &RegistryHub, step: Step, read: &RegistryDevice) -> Result<(), RegistryError> {
    match step {
        Step::Bulk => hub.create(&device("new"), HubDeviceStatus::Enabled).await,
        Step::ReadIdentity => hub.identity(&read.device_id).await.map(drop),
        Step::WriteIdentity => hub.set_authentication(read, &keys(2)).await,
        Step::DeleteIdentity => hub.delete(read).await,
        Step::ReadTwin => hub.twin(&read.device_id).await.map(drop),
        Step::ReplaceTwin | Step::MergeTwin | Step::Connect => unreachable!("no call"),
    }
}

const CALLS: [Step; 5] =
    [Step::Bulk, Step::ReadIdentity, Step::WriteIdentity, Step::DeleteIdentity, Step::ReadTwin];

/// DPS-HUB-19: whatever may have been done is never told as undone.
#[tokio::test]
async fn each_way_to_fail_at_each_step_says_whether_it_may_have_been_done() {
    for step in CALLS {
        let refused =
            |status: u16, code: &str| Effect::Refuse { status, code: code.into(), retry_after: None };
        let rows = [
            (refused(500, "ServerError"), "unavailable"),
            (refused(503, "ServiceUnavailable"), "unavailable"),
            (refused(408, "RequestTimeout"), "unavailable"),
            (refused(502, ""), "unanswered"),
            (refused(504, ""), "unanswered"),
            (refused(500, "GenericTimeout"), "unanswered"),
            (refused(429, "ThrottlingException"), "throttled"),
            (refused(400, "ArgumentInvalid"), "refused"),
            (refused(403, "IotHubQuotaExceeded"), "refused"),
            (Effect::Stall, "unanswered"),
            (Effect::StallAfter, "unanswered"),
            (Effect::Cut, "unanswered"),
            (Effect::CutAfter, "unanswered"),
            (Effect::Garble, "unanswered"),
        ];
        for (effect, expected) in rows {
            let asked = Asked::start().await;
            let read = asked.create("d").await;
            let is_done = matches!(effect, Effect::StallAfter | Effect::CutAfter | Effect::Garble);
            let before = asked.registry.with(|devices| devices.ids()).len();
            asked.registry.plan(Fault { step, effect: effect.clone(), times: 1 });
            let hub = match effect {
                Effect::Stall => asked.another_hub().within(IMPATIENT),
                Effect::StallAfter => asked.another_hub().within(LESS_IMPATIENT),
                _ => asked.another_hub(),
            };
            let why = call(&hub, step, &read).await.unwrap_err();
            let found = match &why {
                RegistryError::Unavailable { .. } => "unavailable",
                RegistryError::Unanswered { .. } => "unanswered",
                RegistryError::Throttled { .. } => "throttled",
                RegistryError::Refused { said, .. } if said.contains("on command") => "refused",
                _ => "something else",
            };
            assert_eq!(found, expected, "{step:?} {effect:?}: {why:?}");
            let after = asked.registry.with(|devices| devices.ids()).len();
            let changed = matches!(step, Step::Bulk | Step::DeleteIdentity) && is_done;
            assert_eq!(after != before, changed, "{step:?} {effect:?}");
        }
    }
}
