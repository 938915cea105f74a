//! `serve` beside a broker that is one of its hubs. Spec: DPS-BROKER-1, DPS-BROKER-5, DPS-BROKER-11, DPS-BROKER-15.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod fleet;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_proto::percent;
use dps_proto::sas::hub_device_resource;
use fleet::{Fleet, Serving};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The answer to a question about the device `id` of the group of `instance`, at a virtual host.
async fn user(fleet: &Fleet, serving: &Serving, instance: usize, id: &str, virtual_host: &str) -> String {
    let hub = format!("hub-{instance}.test");
    let resource = percent::encode(&hub_device_resource(&hub.parse().unwrap(), &id.parse().unwrap()));
    let expiry = (Timestamp::now().as_second() + 60).to_string();
    let key = fleet.instances[instance].device_key(id);
    let signature = STANDARD.encode(key.sign(&[resource.as_bytes(), b"\n", expiry.as_bytes()]));
    let signature = percent::encode(&signature);
    let token = format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}");
    let fields = [
        ("username", format!("{hub}/{id}").as_str()),
        ("password", &token),
        ("vhost", virtual_host),
        ("client_id", id),
    ]
    .map(|(name, value)| format!("{name}={}", percent::encode(value)));
    let body = fields.join("&");
    let request = format!(
        "POST /broker/v1/user HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n{body}",
        body.len()
    );
    let broker = &serving.ready["broker"];
    let port: u16 = broker["port"].as_u64().unwrap().try_into().unwrap();
    let mut stream = TcpStream::connect((broker["address"].as_str().unwrap(), port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.rsplit("\r\n").next().unwrap().to_owned()
}

/// How the register of a device of the first instance ends.
async fn status(fleet: &Fleet, serving: &Serving, id: &str) -> String {
    fleet.register(serving, 0, id).await.unwrap().outcome().unwrap().status.unwrap()
}

/// DPS-BROKER-1, DPS-BROKER-5, DPS-BROKER-11, DPS-BROKER-15
#[tokio::test]
async fn a_broker_is_told_of_the_devices_of_its_hub_and_ids_with_dots_are_kept_from_it() {
    let fleet = Fleet::new();
    let serving = fleet.serve(&fleet.configuration());
    assert!(serving.ready.get("broker").is_none(), "{}", serving.ready);
    assert_eq!(status(&fleet, &serving, "early.7").await, "assigned", "no broker asks");
    assert!(serving.stop().success());

    let configuration = format!(
        "{}[listen.broker]\naddress = \"127.0.0.1:0\"\nhub = \"hub-0.test\"\n",
        fleet.configuration()
    );
    let serving = fleet.serve(&configuration);
    serving.wait_for_line("broker");
    for instance in [0, 1] {
        fleet.register(&serving, instance, "press-7").await.unwrap();
    }
    for (instance, virtual_host, expected) in [
        (0, "/", "allow"),
        (0, "hub-0.test", "allow"),
        (0, "hub-1.test", "deny"),
        (1, "/", "deny"),
        (1, "hub-1.test", "allow"),
    ] {
        let told = user(&fleet, &serving, instance, "press-7", virtual_host).await;
        assert_eq!(told, expected, "{instance} {virtual_host}");
    }
    assert_eq!(user(&fleet, &serving, 0, "nobody", "/").await, "deny");
    assert_eq!(user(&fleet, &serving, 0, "early.7", "/").await, "deny", "from before");
    assert_eq!(status(&fleet, &serving, "press.8").await, "failed");
    assert_eq!(user(&fleet, &serving, 0, "press.8", "/").await, "deny");
    // Hubs that were made anew know of the broker too.
    serving.signal("-HUP");
    serving.wait_for_line("service instances of the configuration read again");
    assert_eq!(status(&fleet, &serving, "press.8").await, "failed");
    assert_eq!(status(&fleet, &serving, "press-8").await, "assigned");
    assert!(serving.stop().success());
}
