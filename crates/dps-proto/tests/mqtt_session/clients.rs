//! What the official clients do, packet for packet.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dps_proto::mqtt::*;
use dps_proto::topic::ANSWER_FILTER;

use crate::device::*;

/// What one official client does. Bodies and topics are its own.
struct Client {
    name: &'static str,
    clean_session: bool,
    keep_alive_s: u16,
    parameters: &'static str,
    password: bool,
    subscribe_qos: Qos,
    publish_qos: Qos,
    rid: &'static str,
    register_body: &'static str,
    poll_body: &'static str,
}

const CLIENTS: [Client; 9] = [
    Client {
        name: "Python",
        clean_session: false,
        keep_alive_s: 60,
        parameters: "api-version=2019-03-31&ClientVersion=azure-iot-device-provisioning-py%2F2.14.0%283.11.7%3BLinux%29",
        password: true,
        subscribe_qos: Qos::AtLeastOnce,
        publish_qos: Qos::AtLeastOnce,
        rid: "5f1d3b1e-3e0e-4b0c-8f6f-0f4f0e7c3a11",
        register_body: r#"{"payload": null, "registrationId": "dev-1"}"#,
        poll_body: " ",
    },
    Client {
        name: "Node",
        clean_session: true,
        keep_alive_s: 180,
        parameters: "api-version=2019-03-31&ClientVersion=azure-iot-provisioning-device%2F1.9.1",
        password: true,
        subscribe_qos: Qos::AtLeastOnce,
        publish_qos: Qos::AtLeastOnce,
        rid: "0a9e4d5c-97a8-4d0e-8dfb-8cf3c8f4ce0d",
        register_body: r#"{"registrationId":"dev-1"}"#,
        poll_body: " ",
    },
    Client {
        name: "C",
        clean_session: true,
        keep_alive_s: 0,
        parameters: "api-version=2021-06-01&ClientVersion=1.15.0",
        password: true,
        subscribe_qos: Qos::AtLeastOnce,
        publish_qos: Qos::AtMostOnce,
        rid: "2",
        register_body: r#"{"registrationId":"dev-1"}"#,
        poll_body: r#"{"registrationId":"dev-1"}"#,
    },
    Client {
        name: "Java",
        clean_session: false,
        keep_alive_s: 230,
        parameters: "api-version=2019-03-31&ClientVersion=2019-03-31",
        password: true,
        subscribe_qos: Qos::AtLeastOnce,
        publish_qos: Qos::AtMostOnce,
        rid: "1",
        register_body: r#"{"registrationId":"dev-1","payload":"{\"a\":1}"}"#,
        poll_body: "",
    },
    Client {
        name: "C#",
        clean_session: true,
        keep_alive_s: 0,
        parameters: "api-version=2019-03-31&ClientVersion=Microsoft.Azure.Devices.Provisioning.Client%2F1.19.4%20%28.NET%29",
        password: false,
        subscribe_qos: Qos::AtLeastOnce,
        publish_qos: Qos::AtLeastOnce,
        rid: "2",
        register_body: "",
        poll_body: "",
    },
    Client {
        name: "azure-sdk-for-c",
        clean_session: false,
        keep_alive_s: 240,
        parameters: "api-version=2019-03-31",
        password: false,
        subscribe_qos: Qos::AtLeastOnce,
        publish_qos: Qos::AtMostOnce,
        rid: "1",
        register_body: r#"{"registrationId":"dev-1"}"#,
        poll_body: "",
    },
    Client {
        name: "FreeRTOS",
        clean_session: true,
        keep_alive_s: 60,
        parameters: "api-version=2019-03-31&ClientVersion=c%2F1.5.0",
        password: true,
        subscribe_qos: Qos::AtMostOnce,
        publish_qos: Qos::AtMostOnce,
        rid: "1",
        register_body: r#"{"registrationId":"dev-1"}"#,
        poll_body: r#"{"registrationId":"dev-1"}"#,
    },
    Client {
        name: "NetX Duo",
        clean_session: false,
        keep_alive_s: 240,
        parameters: "api-version=2019-03-31&ClientVersion=netx",
        password: true,
        subscribe_qos: Qos::AtMostOnce,
        publish_qos: Qos::AtLeastOnce,
        rid: "1",
        register_body: r#"{"registrationId" : "dev-1"}"#,
        poll_body: r#"{"registrationId" : "dev-1"}"#,
    },
    Client {
        name: "nRF Connect",
        clean_session: true,
        keep_alive_s: 1_200,
        parameters: "api-version=2019-03-31",
        password: false,
        subscribe_qos: Qos::AtMostOnce,
        publish_qos: Qos::AtLeastOnce,
        rid: "1",
        register_body: "",
        poll_body: "",
    },
];

/// DPS-MQTT-1, DPS-MQTT-2, DPS-MQTT-5, DPS-MQTT-6, DPS-MQTT-12, DPS-MQTT-14, DPS-MQTT-17, DPS-MQTT-18, DPS-MQTT-20,
/// DPS-MQTT-21
#[test]
fn every_official_client_is_served_as_it_expects() {
    for client in CLIENTS {
        check_client(&client);
    }
}

#[track_caller]
fn check_client(client: &Client) {
    let name = client.name;
    let mut device = Device::new();
    let user_name = format!("0ne1/registrations/dev-1/{}", client.parameters);
    let password =
        client.password.then(|| Password::new(*b"SharedAccessSignature sr=0ne1%2Fregistrations%2Fdev-1"));
    let login = device.says(Packet::Connect(Connect {
        clean_session: client.clean_session,
        keep_alive_s: client.keep_alive_s,
        client_id: "dev-1".into(),
        will: None,
        credentials: Some(Credentials { user_name: user_name.into(), password: password.clone() }),
    }));
    let [Output::Login(login)] = &login[..] else { unreachable!("{name}: {login:?}") };
    let Login { user, password: read, keep_alive_s, clean_session, .. } = &**login;
    assert_eq!((user.id_scope.as_str(), user.registration_id.as_str()), ("0ne1", "dev-1"), "{name}");
    assert_eq!((read, *keep_alive_s), (&password, client.keep_alive_s), "{name}");
    assert_eq!(*clean_session, client.clean_session, "{name}");
    device.session.verdict(ConnectVerdict::Accept, device.now);
    assert_eq!(device.takes(), [Output::Send(Bytes::from_static(&[0x20, 2, 0, 0]))], "{name}");

    let granted = client.subscribe_qos as u8;
    let suback = Bytes::copy_from_slice(&[0x90, 3, 0, 9, granted]);
    assert_eq!(
        device.says(subscribe(9, ANSWER_FILTER, client.subscribe_qos)),
        [Output::Send(suback)],
        "{name}"
    );

    let register = publish(&format!("{REGISTER}{}", client.rid), client.publish_qos, 7, client.register_body);
    let payload = Bytes::from_static(client.register_body.as_bytes());
    assert_eq!(device.says(register), [Output::Request(Request::Register { payload })], "{name}");
    device.session.attested(device.now);
    let topic = format!("$dps/registrations/res/202/?$rid={}&retry-after=3", client.rid);
    assert_eq!(device.is_answered(202, Some(3), "{}"), answer(client, &topic, 7, 1, "{}"), "{name}");

    device.now += Duration::from_secs(3);
    let poll = format!("{POLL}{}&operationId=5.0123456789abcdef.x", client.rid);
    let operation_id = "5.0123456789abcdef.x".into();
    let poll = device.says(publish(&poll, client.publish_qos, 8, client.poll_body));
    assert_eq!(poll, [Output::Request(Request::Poll { operation_id })], "{name}");
    let topic = format!("$dps/registrations/res/200/?$rid={}", client.rid);
    assert_eq!(
        device.is_answered(200, None, "{\"a\":1}"),
        answer(client, &topic, 8, 2, "{\"a\":1}"),
        "{name}"
    );

    assert_eq!(device.says(Packet::Disconnect), [Output::Close(CloseReason::Disconnected)], "{name}");
}

/// One write: the PUBACK of a QoS 1 request, then the message.
fn answer(client: &Client, topic: &str, request_id: u16, own_id: u16, body: &'static str) -> Vec<Output> {
    let mut bytes = BytesMut::new();
    if client.publish_qos == Qos::AtLeastOnce {
        bytes.extend_from_slice(&[0x40, 2, 0, request_id as u8]);
    }
    let first_byte = 0x30 | (client.subscribe_qos as u8) << 1;
    let id_bytes = 2 * (client.subscribe_qos as usize);
    bytes.extend_from_slice(&[
        first_byte,
        (2 + topic.len() + id_bytes + body.len()) as u8,
        0,
        topic.len() as u8,
    ]);
    bytes.extend_from_slice(topic.as_bytes());
    if client.subscribe_qos == Qos::AtLeastOnce {
        bytes.extend_from_slice(&own_id.to_be_bytes());
    }
    bytes.extend_from_slice(body.as_bytes());
    vec![Output::Send(bytes.freeze())]
}
