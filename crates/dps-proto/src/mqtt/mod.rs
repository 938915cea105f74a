//! MQTT 3.1.1 as devices speak it to the service: packets, and both sides of the session. Spec: DPS-MQTT-1 to
//! DPS-MQTT-28 (docs/spec/mqtt.md).
//!
//! Bytes and times go in, bytes and questions come out; sockets, clocks and enrollments are the caller's.
//!
//! - [`Packet`] is one control packet; [`decode()`] takes it off the front of a buffer, [`encode()`] puts it at the end of
//!   one, [`Malformed`] names what a peer did wrong.
//! - [`Session`] is the server side of one connection, [`DeviceSession`] the device side of one registration. Tests
//!   drive the two against each other under a clock of their own.

mod close;
mod decode;
mod device;
mod encode;
mod malformed;
mod outcome;
mod packet;
mod password;
mod session;

pub use close::{CloseReason, ConnectRefusal};
pub use decode::{
    ANSWER_TOPIC_BYTES_MAX, CONNECT_BYTES_MAX, PAYLOAD_BYTES_MAX, PUBLISH_BYTES_MAX, SUBSCRIBE_BYTES_MAX,
    decode, packet_length,
};
pub use device::{DeviceLogin, DeviceOptions, DeviceOutput, DeviceSession, RETRY_AFTER_MAX, TRIES_MAX};
pub use encode::{TooLarge, encode};
pub use malformed::{Field, Limit, Malformed};
pub use outcome::{DeviceFailure, DeviceOutcome, DeviceStep};
pub use packet::{
    ConnAck, Connect, ConnectCode, Credentials, Delivery, Kind, Packet, Peer, Publish, Qos, SubAck,
    Subscribe, SubscribeCode, Subscription, Unsubscribe, Will,
};
pub use password::Password;
pub use session::{ANSWER_WITHIN, Answer, ConnectVerdict, Login, Output, Request, Session, SessionLimits};
