//! Who is let in, and to what.

use dps_core::ports::HubDeviceStatus;
use dps_server::explain::Step;

use crate::desk::{
    Answer, Desk, HUB, RESOURCE, SCOPE, TOPIC, USER, VHOST, form, key, post, request, token, with_keys,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const NAME: &str = "hub.example/press-7/?api-version=2019-10-01&DeviceClientType=azure%2F1:0 (x)";

async fn user(desk: &Desk, name: &str, password: Option<&str>, client_id: Option<&str>) -> bool {
    let mut fields = vec![("username", name), ("vhost", "/")];
    fields.extend(password.map(|password| ("password", password)));
    fields.extend(client_id.map(|client_id| ("client_id", client_id)));
    desk.allowed(USER, &fields).await
}

/// DPS-BROKER-2, DPS-BROKER-4 to DPS-BROKER-7: byte for byte what RabbitMQ 3.10 asks of a device that connects, subscribes and
/// publishes, one question after the other on one connection.
#[tokio::test]
async fn a_whole_session_is_allowed_on_one_connection() {
    let desk = Desk::new().await;
    let mut stream = TcpStream::connect(desk.address).await.unwrap();
    let token = token("press-7", &key(2), 3_600);
    let who = ("username", NAME);
    let (client, vhost, tags) = (("client_id", "press-7"), ("vhost", "/"), ("tags", ""));
    let resource = |kind, name, permission| {
        let fields =
            [who, vhost, ("resource", kind), ("name", name), ("permission", permission), tags, client];
        (RESOURCE, form(&fields))
    };
    let topic = |permission, key| {
        let fields = [
            who,
            vhost,
            ("resource", "topic"),
            ("name", "amq.topic"),
            ("permission", permission),
            tags,
            ("routing_key", key),
            ("variable_map.client_id", "press-7"),
            ("variable_map.username", NAME),
            ("variable_map.vhost", "/"),
        ];
        (TOPIC, form(&fields))
    };
    for (path, body) in [
        (USER, form(&[who, ("password", &token), vhost, client])),
        (VHOST, form(&[who, vhost, ("ip", "192.0.2.1"), tags, client])),
        resource("queue", "mqtt-subscription-press-7qos1", "configure"),
        resource("queue", "mqtt-subscription-press-7qos1", "read"),
        resource("queue", "mqtt-subscription-press-7qos1", "write"),
        resource("exchange", "amq.topic", "read"),
        topic("read", "devices.press-7.messages.devicebound.#"),
        topic("write", "devices.press-7.messages.events.%24.ct=text&a=b"),
        resource("exchange", "amq.topic", "write"),
    ] {
        assert_eq!(post(&mut stream, path, &body).await, Answer(200, "allow".to_owned()), "{path} {body}");
    }
    assert!(desk.counted(r#"harbormaster_broker_questions_total{asked="Resource",outcome="Allowed"} 5"#));
    assert_eq!(desk.explanations(), 0);
}

/// DPS-BROKER-4 to DPS-BROKER-7, DPS-BROKER-13
#[tokio::test]
async fn what_does_not_prove_the_device_is_denied_and_explained() {
    let desk = Desk::new().await;
    let good = token("press-7", &key(1), 600);
    let (other_key, expired) = (token("press-7", &key(9), 600), token("press-7", &key(1), -301));
    let other_device = token("other-8", &key(1), 600);
    let id = Some("press-7");
    let plain = format!("{HUB}/press-7");
    assert!(user(&desk, &plain, Some(&good), id).await);
    assert!(user(&desk, &plain, Some(&token("press-7", &key(1), -295)), id).await, "within the skew");
    let rows: [(&str, Option<&str>, Option<&str>, &str); 12] = [
        (&plain, Some(&other_key), id, "neither of the device's keys"),
        (&plain, Some(&expired), id, "expired"),
        (&plain, Some(&other_device), id, "the token is for"),
        (&plain, Some("hunter2"), id, "no SAS token"),
        (&plain, Some(""), id, "no SAS token"),
        (&plain, None, id, "without a token"),
        (&plain, Some(&good), None, "client id is missing"),
        (&plain, Some(&good), Some("Press-7"), "client id is \"Press-7\""),
        ("hub.example/Press-7", Some(&good), Some("Press-7"), "has no device Press-7"),
        ("nowhere.example/press-7", Some(&good), id, "no service instance links"),
        ("press-7", Some(&good), id, "names no hub"),
        ("hub.example/press-7/module", Some(&good), id, "goes on after the device id"),
    ];
    for (name, password, client_id, reason) in rows {
        assert!(!user(&desk, name, password, client_id).await, "{name} {reason}");
        let told = desk.latest();
        assert!(told.reason.contains(reason), "{}", told.reason);
        assert_eq!((told.step, told.told.as_str(), told.transport), (Step::Broker, "deny", Some("broker")));
        assert!(told.tracking_id.is_some() && told.advice.is_some_and(|advice| !advice.is_empty()));
        if name.starts_with("hub.example/") && !name.ends_with("module") {
            assert_eq!(told.registration_id.unwrap().folded(), "press-7");
            assert_eq!(told.id_scope.unwrap().as_str(), SCOPE);
        }
    }
    assert!(desk.counted(r#"harbormaster_broker_questions_total{asked="User",outcome="Refused"} 12"#));
}

/// DPS-BROKER-13
#[tokio::test]
async fn no_explanation_holds_a_signature_or_a_key() {
    let desk = Desk::new().await;
    let tokens = [token("press-7", &key(9), 600), token("other-8", &key(1), 600), "almostasecret".to_owned()];
    for token in &tokens {
        assert!(!user(&desk, "hub.example/press-7", Some(token), Some("press-7")).await);
        let told = format!("{:?}", desk.latest());
        let secret = token.split("sig=").nth(1).unwrap_or(token);
        assert!(!told.contains(&secret[..12]), "{told}");
    }
    assert!(!desk.front_end.metrics.render().contains("press-7"));
}

/// DPS-BROKER-5
#[tokio::test]
async fn the_virtual_host_is_the_hubs_or_none() {
    let desk = Desk::new().await;
    for (virtual_host, expected) in
        [("/", true), (HUB, true), ("HUB.example", true), ("other", false), ("", false), ("%2F", false)]
    {
        let fields = [("username", NAME), ("vhost", virtual_host), ("client_id", "press-7")];
        assert_eq!(desk.allowed(VHOST, &fields).await, expected, "{virtual_host:?}");
        let token = token("press-7", &key(1), 600);
        let fields =
            [("username", NAME), ("password", &token), ("vhost", virtual_host), ("client_id", "press-7")];
        assert_eq!(desk.allowed(USER, &fields).await, expected, "{virtual_host:?}");
    }
}

/// DPS-BROKER-8
#[tokio::test]
async fn a_name_from_a_certificate_is_trusted_where_that_is_set_and_for_devices_with_certificates() {
    let later = [("vhost", "/"), ("client_id", "cert-9"), ("username", "cert-9")];
    let desk = Desk::new().await;
    assert!(user(&desk, "cert-9", None, Some("cert-9")).await);
    assert!(user(&desk, "cert-9", None, None).await, "RabbitMQ says no client id here");
    assert!(desk.allowed(VHOST, &later).await);
    assert!(!desk.allowed(VHOST, &later[..1].iter().chain(&later[2..]).copied().collect::<Vec<_>>()).await);
    assert!(!user(&desk, "cert-9", None, Some("press-7")).await);
    assert!(!user(&desk, "press-7", None, Some("press-7")).await, "it has keys");
    assert!(!desk.allowed(VHOST, &[("vhost", "/"), ("client_id", "press-7"), ("username", "press-7")]).await);
    assert!(!user(&desk, "CN=cert-9", None, Some("CN=cert-9")).await);
    let token = token("cert-9", &key(1), 600);
    assert!(!user(&desk, "hub.example/cert-9", Some(&token), Some("cert-9")).await);

    let untrusting = Desk::with(dps_server::limits::Limits::default(), false, None).await;
    assert!(!user(&untrusting, "cert-9", None, Some("cert-9")).await);
    assert!(!untrusting.allowed(VHOST, &later).await);
    assert!(untrusting.latest().reason.contains("listen.broker.certificate_login"));
}

/// DPS-BROKER-9, DPS-BROKER-10, DPS-BROKER-11
#[tokio::test]
async fn topics_and_resources_of_others_are_denied() {
    let desk = Desk::new().await;
    for id in ["+", "#", "a.b"] {
        // From before a broker asked.
        desk.assign(id, with_keys()).await;
    }
    let topic = async |id: &str, permission: &str, exchange: &str, key: &str| {
        let name = format!("{HUB}/{id}");
        let fields = [
            ("username", &*name),
            ("vhost", "/"),
            ("name", exchange),
            ("permission", permission),
            ("routing_key", key),
            ("variable_map.client_id", id),
        ];
        desk.allowed(TOPIC, &fields).await
    };
    assert!(topic("press-7", "write", "amq.topic", "devices.press-7.messages.events.").await);
    for (permission, exchange, key) in [
        ("write", "amq.topic", "devices.other-8.messages.events."),
        ("write", "amq.topic", "devices.*.messages.events."),
        ("write", "amq.topic", "devices/other-8/messages/events/"),
        ("read", "amq.topic", "devices.*.messages.devicebound.#"),
        ("read", "amq.topic", "#"),
        ("read", "amq.topic", "devices.other-8.messages.devicebound.#"),
        ("write", "orders", "devices.press-7.messages.events."),
    ] {
        assert!(!topic("press-7", permission, exchange, key).await, "{permission} {exchange} {key}");
        let told = desk.latest();
        assert!(told.reason.contains(if exchange == "orders" { "orders" } else { key }), "{}", told.reason);
    }
    for id in ["+", "#", "a.b"] {
        let name = format!("{HUB}/{id}");
        assert!(!user(&desk, &name, Some(&token(id, &key(1), 600)), Some(id)).await, "{id}");
        for level in [id, "a", "press-7", "*"] {
            assert!(!topic(id, "write", "amq.topic", &format!("devices.{level}.messages.events.")).await);
            assert!(
                !topic(id, "read", "amq.topic", &format!("devices.{level}.messages.devicebound.#")).await
            );
        }
    }
    for (kind, name) in
        [("queue", "mqtt-subscription-other-8qos1"), ("queue", "orders"), ("exchange", "amq.direct")]
    {
        let fields = [
            ("username", NAME),
            ("vhost", "/"),
            ("resource", kind),
            ("name", name),
            ("permission", "read"),
            ("client_id", "press-7"),
        ];
        assert!(!desk.allowed(RESOURCE, &fields).await, "{kind} {name}");
    }
}

/// DPS-BROKER-12
#[tokio::test]
async fn a_disabled_device_is_denied_whatever_is_asked_for_it_until_it_is_enabled() {
    let desk = Desk::new().await;
    let good = token("press-7", &key(1), 600);
    let later = [("username", NAME), ("vhost", "/"), ("client_id", "press-7")];
    let both =
        async || (user(&desk, NAME, Some(&good), Some("press-7")).await, desk.allowed(VHOST, &later).await);
    assert_eq!(both().await, (true, true));
    desk.set("press-7", HubDeviceStatus::Disabled).await;
    assert_eq!(both().await, (false, false));
    assert!(desk.latest().reason.contains("disabled"));
    desk.assign("press-7", with_keys()).await;
    assert_eq!(both().await, (false, false), "registering again changes nothing");
    desk.set("press-7", HubDeviceStatus::Enabled).await;
    assert_eq!(both().await, (true, true));
}

/// DPS-BROKER-2
#[tokio::test]
async fn what_is_no_question_is_told_by_its_status_and_never_with_yes() {
    let desk = Desk::new().await;
    const FORM: &str = "application/x-www-form-urlencoded";
    let token = token("press-7", &key(1), 600);
    let good = form(&[("username", NAME), ("password", &token), ("vhost", "/"), ("client_id", "press-7")]);
    let twice = format!("{good}&username=hub.example%2Fother-8");
    let odd = form(&[
        ("username", NAME),
        ("vhost", "/"),
        ("resource", "queue"),
        ("name", "x"),
        ("permission", "all"),
        ("client_id", "press-7"),
    ]);
    for (method, path, content_type, body, status) in [
        ("GET", &*format!("{USER}?{good}"), FORM, "", 405),
        ("PUT", USER, FORM, &good, 405),
        ("HEAD", USER, FORM, "", 405),
        ("POST", "/", FORM, &good, 404),
        ("POST", "/broker/v1/user/", FORM, &good, 404),
        ("POST", "/admin/v1/id-scopes", FORM, &good, 404),
        ("POST", USER, "application/json", "{}", 415),
        ("POST", USER, FORM, "", 422),
        ("POST", USER, FORM, "vhost=%2F", 422),
        ("POST", USER, FORM, &twice, 422),
        ("POST", RESOURCE, FORM, &odd, 400),
        ("POST", TOPIC, FORM, &good, 422),
    ] {
        let mut stream = TcpStream::connect(desk.address).await.unwrap();
        stream.write_all(request(method, path, content_type, body).as_bytes()).await.unwrap();
        let answered = if method == "HEAD" {
            let mut head = [0; 12];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head).await.unwrap();
            Answer(String::from_utf8_lossy(&head[9..]).parse().unwrap(), String::new())
        } else {
            crate::desk::answer(&mut stream).await
        };
        assert_eq!(answered.0, status, "{method} {path} {body}");
        assert!(!answered.1.contains("allow"), "{answered:?}");
    }
}
