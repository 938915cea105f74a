//! MQTT devices. Spec: DPS-MQTT-1 to DPS-MQTT-30.

pub mod connection;
pub mod end;
mod takeover;

pub use takeover::Takeovers;
