//! The server side of the session against bytes as devices write them. Spec: DPS-MQTT-1 to DPS-MQTT-29.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod asking;
mod clients;
mod connecting;
mod device;
mod limits;
