//! Seven clients that people have in their devices, each with the habits and the weak points of the real one.
//!
//! The nRF client of the field proves itself by certificate only; here it has a token, everything else is its own.

use serde_json::Value;

use crate::reading::{self, Read, Topic};
use crate::token::{Spelling, Token};
use crate::web_socket::Asks;

/// How one client goes about it.
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) web_socket: Asks,
    /// What follows the registration id in the user name.
    pub(crate) parameters: &'static str,
    pub(crate) clean: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) subscribe_qos: u8,
    pub(crate) publish_qos: u8,
    pub(crate) waits_for_suback: bool,
    /// Takes return code 0x80 in SUBACK for a failure.
    pub(crate) minds_suback: bool,
    /// The request id is 1 each time, not a counter.
    pub(crate) constant_rid: bool,
    pub(crate) register_body: fn(&str) -> String,
    /// Whether a poll carries the register body; else it is empty.
    pub(crate) poll_has_body: bool,
    pub(crate) token: Token,
    /// Every packet in its place, session-present 0, a receipt for every answer.
    pub(crate) is_strict: bool,
    /// One answer for each request, no more.
    pub(crate) counts_answers: bool,
    pub(crate) patience: Patience,
    pub(crate) topic_bytes_max: usize,
    pub(crate) payload_bytes_max: usize,
    pub(crate) polls_max: u32,
    pub(crate) says_goodbye: bool,
    pub(crate) read_topic: fn(&str) -> Result<Topic, &'static str>,
    pub(crate) read: fn(Topic, &Value) -> Read,
}

/// How many seconds a client waits; `None` where it waits for ever, or where nobody has found out.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) register_s: Option<u64>,
    pub(crate) poll_s: Option<u64>,
    /// Without any packet, between an answer and the next request too.
    pub(crate) silence_s: Option<u64>,
}

const ENDLESS: Patience = Patience { register_s: None, poll_s: None, silence_s: None };

const PLAIN: Model = Model {
    name: "",
    web_socket: Asks { target: "/$iothub/websocket", protocol: "mqtt" },
    parameters: "api-version=2019-03-31",
    clean: true,
    keep_alive_s: 60,
    subscribe_qos: 1,
    publish_qos: 1,
    waits_for_suback: true,
    minds_suback: false,
    constant_rid: false,
    register_body: compact,
    poll_has_body: false,
    token: Token { spelling: Spelling::Mixed, skn: "", seconds: 3_600 },
    is_strict: false,
    counts_answers: false,
    patience: ENDLESS,
    topic_bytes_max: 65_535,
    payload_bytes_max: 65_536,
    polls_max: u32::MAX,
    says_goodbye: false,
    read_topic: reading::azure_sdk_for_c_topic,
    read: reading::azure_sdk_for_c,
};

pub(crate) const CSHARP: Model = Model {
    name: "C#",
    web_socket: Asks { target: "/", protocol: "mqtt" },
    parameters: "api-version=2019-03-31&ClientVersion=Microsoft.Azure.Devices.Provisioning.Client%2F1.19.4%20%28.NET%208.0%29",
    keep_alive_s: 0,
    register_body: |_| String::new(),
    token: Token { spelling: Spelling::Upper, skn: "&skn=registration", seconds: 86_400 },
    is_strict: true,
    counts_answers: true,
    patience: Patience { silence_s: Some(60), ..ENDLESS },
    says_goodbye: true,
    read_topic: reading::csharp_topic,
    read: reading::csharp,
    ..PLAIN
};

pub(crate) const JAVA: Model = Model {
    name: "Java",
    web_socket: Asks { target: "/mqtt", protocol: "mqtt" },
    parameters: "api-version=2019-03-31&ClientVersion=2019-03-31",
    clean: false,
    keep_alive_s: 230,
    publish_qos: 0,
    token: Token { spelling: Spelling::Raw, skn: "&skn=", seconds: 3_600 },
    patience: Patience { register_s: Some(90), poll_s: Some(10), silence_s: None },
    read_topic: reading::java_topic,
    read: reading::java,
    ..PLAIN
};

pub(crate) const C_SDK: Model = Model {
    name: "C",
    web_socket: Asks { target: "/$iothub/websocket", protocol: "MQTT" },
    parameters: "api-version=2021-06-01&ClientVersion=1.15.0",
    keep_alive_s: 0,
    publish_qos: 0,
    minds_suback: true,
    poll_has_body: true,
    token: Token { spelling: Spelling::Lower, skn: "&skn=registration", seconds: 2_400 },
    says_goodbye: true,
    read_topic: reading::c_sdk_topic,
    read: reading::c_sdk,
    ..PLAIN
};

pub(crate) const AZURE_SDK_FOR_C: Model = Model {
    name: "azure-sdk-for-c",
    clean: false,
    keep_alive_s: 240,
    publish_qos: 0,
    constant_rid: true,
    ..PLAIN
};

pub(crate) const FREERTOS: Model = Model {
    name: "FreeRTOS",
    parameters: "api-version=2019-03-31&ClientVersion=azsdk-c%2F1.5.0%28FreeRTOS%29",
    subscribe_qos: 0,
    publish_qos: 0,
    constant_rid: true,
    poll_has_body: true,
    topic_bytes_max: 128,
    payload_bytes_max: 512,
    read: reading::freertos,
    ..PLAIN
};

pub(crate) const NETX: Model = Model {
    name: "NetX",
    clean: false,
    keep_alive_s: 240,
    subscribe_qos: 0,
    waits_for_suback: false,
    counts_answers: true,
    constant_rid: true,
    register_body: |id| format!(r#"{{"registrationId" : "{id}"}}"#),
    poll_has_body: true,
    token: Token { spelling: Spelling::Mixed, skn: "&skn=registration", seconds: 3_600 },
    read: reading::netx,
    ..PLAIN
};

pub(crate) const NRF: Model = Model {
    name: "nRF",
    subscribe_qos: 0,
    constant_rid: true,
    register_body: |_| String::new(),
    patience: Patience { silence_s: Some(90), ..ENDLESS },
    topic_bytes_max: 224,
    polls_max: 10,
    read: reading::nrf,
    ..PLAIN
};

pub(crate) const ALL: [Model; 7] = [CSHARP, JAVA, C_SDK, AZURE_SDK_FOR_C, FREERTOS, NETX, NRF];

fn compact(id: &str) -> String {
    format!(r#"{{"registrationId":"{id}"}}"#)
}
