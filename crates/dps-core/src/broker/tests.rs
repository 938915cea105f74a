//! Who is let in, and who is not.

use dps_proto::ids::InstanceSecret;
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_proto::percent;

use super::*;
use crate::access::{Right, SharedAccessPolicy};
use crate::instance::HubKind;
use crate::instance_settings::{HubSettings, InstanceSettings};
use crate::instances::Origin;
use crate::ports::{Hub, HubDevice, HubFactory, Placement};
use crate::x509::Sha256Thumbprint;

const EXPIRY: i64 = 1_800_000_000;

struct Idle;
impl HubFactory for Idle {
    fn hub(&self, _: &HubSettings) -> Arc<dyn Hub> {
        Arc::new(Self)
    }
}
impl Hub for Idle {
    fn place(&self, _: HubDevice) -> Placement {
        unreachable!("nobody registers")
    }
}

fn key(byte: u8) -> SymmetricKey {
    SymmetricKey::from_bytes(vec![byte; 32]).unwrap()
}

fn instance(scope: &str, hubs: &[(&str, HubKind)]) -> ServiceInstance {
    let owner = SharedAccessPolicy {
        name: SharedAccessPolicy::OWNER.parse().unwrap(),
        keys: KeyPair { primary: key(9), secondary: key(9) },
        rights: Right::ALL.to_vec(),
    };
    let linked = |(name, kind): &(&str, HubKind)| HubSettings::new(name.parse().unwrap(), *kind);
    let linked_hubs = hubs.iter().map(linked).collect();
    let settings = InstanceSettings { linked_hubs, ..InstanceSettings::new(scope.parse().unwrap(), owner) };
    ServiceInstance::new(settings, InstanceSecret::new([0; 32]), &Idle)
}

/// One hub that is the only one; with `more`, others beside it.
fn instances(more: bool) -> Arc<Instances> {
    let both = [
        instance("0neA", &[("a.x", HubKind::Local), ("static.x", HubKind::Static)]),
        instance("0neB", &[("b.x", HubKind::Local), ("both.x", HubKind::Local)]),
        instance("0neC", &[("both.x", HubKind::Local)]),
    ];
    Instances::of(Origin::Store, both.into_iter().take(if more { 3 } else { 1 }))
}

fn rules(root_hub: Option<&str>, trusts_certificates: bool) -> BrokerRules {
    BrokerRules { root_hub: root_hub.map(|hub| hub.parse().unwrap()), trusts_certificates }
}

fn user(text: &str) -> Asker {
    match text.split_once('/') {
        Some((hub, device_id)) => Asker::OfHub(hub.parse().unwrap(), device_id.parse().unwrap()),
        None => Asker::ByCertificate(text.parse().unwrap()),
    }
}

/// DPS-BROKER-4, DPS-BROKER-5, DPS-BROKER-11
#[test]
fn a_user_name_means_one_device_of_one_hub_at_the_virtual_host_of_that_hub() {
    use BrokerRefusal as R;
    let named = |more, root: Option<&str>, user_name: &str, virtual_host: Option<&str>| {
        rules(root, true)
            .named(&instances(more), &user(user_name), virtual_host)
            .map(|named| format!("{} {} {}", named.instance.id_scope, named.hub, named.device_id))
    };
    // The only local hub is the virtual host `/`, and has one of its own name.
    for virtual_host in [None, Some("/"), Some("a.x"), Some("A.X")] {
        assert_eq!(named(false, None, "A.x/d", virtual_host).unwrap(), "0neA A.x d");
    }
    assert_eq!(named(false, None, "d", None).unwrap(), "0neA a.x d");
    for virtual_host in ["", "//", "b.x", "a.x/", "other"] {
        let refused = named(false, None, "a.x/d", Some(virtual_host)).unwrap_err();
        assert!(matches!(refused, R::VirtualHost { .. }), "{virtual_host:?}: {refused}");
    }
    // With several, `/` is that of the configuration, or nobody's.
    assert_eq!(named(true, None, "a.x/d", Some("/")), Err(R::NoRootHub));
    assert_eq!(named(true, None, "d", None), Err(R::NoRootHub));
    assert_eq!(named(true, Some("a.x"), "a.x/d", Some("/")).unwrap(), "0neA a.x d");
    assert_eq!(named(true, Some("b.x"), "d", Some("/")).unwrap(), "0neB b.x d");
    assert!(matches!(named(true, Some("b.x"), "a.x/d", Some("/")), Err(R::VirtualHost { .. })));
    assert_eq!(named(true, None, "b.x/d", Some("b.x")).unwrap(), "0neB b.x d");
    // A hub that is not kept here, or whose name means two.
    for hub in ["none.x", "static.x"] {
        let refused = named(true, None, &format!("{hub}/d"), Some(hub)).unwrap_err();
        assert!(matches!(refused, R::UnknownHub(_)), "{refused}");
    }
    assert!(matches!(named(true, None, "both.x/d", Some("both.x")), Err(R::SharedHub(_))));
    // An id from before a broker asked.
    for id in ["+", "#", "*", "a.b", "."] {
        let refused = named(false, None, &format!("a.x/{id}"), None).unwrap_err();
        assert!(matches!(refused, R::DeviceId(_)), "{id}: {refused}");
    }
    let untrusting = rules(None, false).named(&instances(false), &user("d"), None);
    assert_eq!(untrusting.map(drop), Err(R::CertificatesNotTrusted));
}

fn named() -> Named {
    rules(None, true).named(&instances(false), &user("a.x/Press-7"), None).unwrap()
}

/// DPS-BROKER-6
#[test]
fn the_client_id_is_the_device_id_to_the_letter() {
    assert_eq!(named().check_client_id(Some("Press-7")), Ok(()));
    for found in [None, Some(""), Some("press-7"), Some("Press-7 "), Some("Press-70"), Some("a.x/Press-7")] {
        let refused = named().check_client_id(found).unwrap_err();
        assert!(matches!(refused, BrokerRefusal::ClientId { .. }), "{found:?}");
    }
}

fn stored(authentication: HubAuthentication) -> StoredHubDevice {
    StoredHubDevice {
        device: HubDevice {
            id_scope: "0neA".parse().unwrap(),
            hub: "a.x".parse().unwrap(),
            device_id: "Press-7".parse().unwrap(),
            registration_id: "press-7".parse().unwrap(),
            authentication,
            iot_edge: false,
            initial_twin: None,
        },
        status: HubDeviceStatus::Enabled,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn with_keys() -> StoredHubDevice {
    stored(HubAuthentication::Keys(KeyPair { primary: key(1), secondary: key(2) }))
}

fn with_certificate() -> StoredHubDevice {
    let [primary, secondary] = [[1; 32], [2; 32]].map(Sha256Thumbprint::from_bytes);
    stored(HubAuthentication::SelfSigned { primary, secondary })
}

fn signed(resource: &str, by: &SymmetricKey) -> Credential {
    use base64::Engine as _;
    let expiry = EXPIRY.to_string();
    let signature = by.sign(&[resource.as_bytes(), b"\n", expiry.as_bytes()]);
    let signature = percent::encode(&base64::engine::general_purpose::STANDARD.encode(signature));
    let token = format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}");
    Credential::Password(SasToken::parse(token.as_bytes()))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(EXPIRY + seconds).unwrap()
}

const RESOURCE: &str = "a.x%2Fdevices%2FPress-7";

/// DPS-BROKER-7
#[test]
fn a_token_of_either_key_for_the_device_at_its_hub_lets_it_in_until_five_minutes_after_it_expires() {
    use BrokerRefusal as R;
    let judge = |credential: &Credential, at| named().admit(Some(&with_keys()), credential, at);
    for by in [key(1), key(2)] {
        for resource in [RESOURCE, "A.X/devices/Press-7", "a.x%2fdevices%2fPress-7"] {
            assert_eq!(judge(&signed(resource, &by), at(0)), Ok(()), "{resource}");
        }
    }
    let good = signed(RESOURCE, &key(1));
    assert_eq!(judge(&good, at(300)), Ok(()));
    assert!(matches!(judge(&good, at(301)), Err(R::Expired { .. })));
    assert_eq!(judge(&signed(RESOURCE, &key(3)), at(0)), Err(R::WrongKey));
    for resource in [
        "a.x%2Fdevices%2Fpress-7",
        "a.x%2Fdevices%2FPress-8",
        "b.x%2Fdevices%2FPress-7",
        "a.x",
        "0neA%2Fregistrations%2Fpress-7",
        "a.x%2Fdevices%2FPress-7%2Fmodules%2Fm",
    ] {
        let refused = judge(&signed(resource, &key(1)), at(0)).unwrap_err();
        assert!(matches!(refused, R::OtherResource { .. }), "{resource}: {refused}");
    }
    let no_token = Credential::Password(SasToken::parse(b"hunter2"));
    assert_eq!(judge(&no_token, at(0)), Err(R::Malformed(MalformedToken::Scheme)));
    assert_eq!(judge(&Credential::Certificate, at(0)), Err(R::TokenWanted));
    assert!(matches!(named().admit(None, &good, at(0)), Err(R::UnknownDevice { .. })));
}

/// DPS-BROKER-8
#[test]
fn a_certificate_lets_in_a_device_that_was_assigned_by_one_and_a_token_does_not() {
    let judge = |credential: &Credential| named().admit(Some(&with_certificate()), credential, at(0));
    assert_eq!(judge(&Credential::Certificate), Ok(()));
    assert_eq!(judge(&signed(RESOURCE, &key(1))), Err(BrokerRefusal::CertificateWanted));
}

/// DPS-BROKER-12
#[test]
fn a_disabled_device_is_refused_after_its_proof_and_whatever_it_asks_later() {
    let disabled = |stored| StoredHubDevice { status: HubDeviceStatus::Disabled, ..stored };
    let (keys, certificate) = (disabled(with_keys()), disabled(with_certificate()));
    let good = signed(RESOURCE, &key(2));
    assert_eq!(named().admit(Some(&keys), &good, at(0)), Err(BrokerRefusal::Disabled));
    assert_eq!(
        named().admit(Some(&certificate), &Credential::Certificate, at(0)),
        Err(BrokerRefusal::Disabled)
    );
    let guessed = signed(RESOURCE, &key(3));
    assert_eq!(named().admit(Some(&keys), &guessed, at(0)), Err(BrokerRefusal::WrongKey));

    let later = |stored: Option<&StoredHubDevice>, name| named().still_admit(stored, &user(name));
    assert_eq!(later(Some(&with_keys()), "a.x/Press-7"), Ok(()));
    assert_eq!(later(Some(&with_certificate()), "Press-7"), Ok(()));
    assert_eq!(later(Some(&keys), "a.x/Press-7"), Err(BrokerRefusal::Disabled));
    assert_eq!(later(Some(&certificate), "Press-7"), Err(BrokerRefusal::Disabled));
    assert_eq!(later(Some(&with_keys()), "Press-7"), Err(BrokerRefusal::TokenWanted));
    assert!(matches!(later(None, "a.x/Press-7"), Err(BrokerRefusal::UnknownDevice { .. })));
}

/// DPS-BROKER-13
#[test]
fn no_reason_holds_a_key_that_came_in_the_wrong_place() {
    let misplaced = percent::encode(&key(7).expose_base64());
    let refused = named().admit(Some(&with_keys()), &signed(&misplaced, &key(1)), at(0)).unwrap_err();
    assert!(matches!(refused, BrokerRefusal::OtherResource { .. }));
    assert!(!refused.to_string().contains(&misplaced[..8]), "{refused}");
}
