//! A device's record. Spec: DPS-REG-10, DPS-REG-11, DPS-REG-14.

use std::fmt;
use std::sync::Arc;

use dps_proto::ids::{DeviceId, ETag, HubName, IdScope, RegistrationId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::enrollment::{EntryRef, TwinDocument};
use crate::x509::{Certificate, Sha256Thumbprint};

/// What the service knows of one device: one record for each registration id of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The service instance.
    pub id_scope: IdScope,
    /// The device, in the spelling it first registered with.
    pub registration_id: RegistrationId,
    /// The entry it last came in by, or was last told `disabled` under.
    pub entry: EntryRef,
    /// First creation.
    pub created_at: Timestamp,
    /// Last write.
    pub updated_at: Timestamp,
    /// Version of the record. Spec: DPS-ID-6.
    pub etag: ETag,
    /// The latest operation.
    pub operation: Operation,
    /// TPM2B_PUBLIC of the storage root key of the TPM that the operation was proved by: its polls have the token alone.
    /// Spec: DPS-TPM-1.
    pub storage_root_key: Option<Box<[u8]>>,
    /// What the webhook that chose the hub has for the device. Spec: DPS-REG-30.
    pub payload: Option<JsonText>,
    /// Until then a call that was given up may still make the device at a hub that it was to go to. Spec: DPS-REG-44.
    pub strays_until: Option<Timestamp>,
    /// How that operation stands.
    pub state: State,
}

/// One run of the assignment; its id is derived from the guid. Spec: DPS-ID-4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The random part of the operation id.
    pub guid: Uuid,
    /// When it began: polls judge the token's expiry by it. Spec: DPS-REG-6.
    pub began_at: Timestamp,
}

/// How the latest operation stands. Every state but the assigned one may remember where the device lives. Spec: DPS-REG-11.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A webhook is to choose the hub. Spec: DPS-REG-27.
    Choosing {
        /// What it is asked about, and when.
        waiting: Box<Waiting>,
        /// The last good assignment.
        last: Option<Assignment>,
    },
    /// A hub outside is being asked. Spec: DPS-REG-40.
    Assigning {
        /// What it is asked for, and when.
        placing: Box<Placing>,
        /// The last good assignment.
        last: Option<Assignment>,
    },
    /// The device has a hub.
    Assigned {
        /// Where it lives.
        assignment: Assignment,
        /// What the operation did to its data.
        substatus: Substatus,
    },
    /// The operation ended without one.
    Failed {
        /// Why.
        failure: Failure,
        /// The last good assignment.
        last: Option<Assignment>,
    },
    /// The entry was disabled.
    Disabled {
        /// The last good assignment.
        last: Option<Assignment>,
    },
}

/// An operation whose hub a webhook has yet to choose. Spec: DPS-REG-27, DPS-REG-32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What verified: the identity at the hub is made of it.
    pub credential: HubCredential,
    /// The certificate that the device used, where it used one.
    pub certificate: Option<Arc<Certificate>>,
    /// What the device sent along, of as many bytes as a register may have; forgotten when the operation ends.
    pub payload: Option<JsonText>,
    /// As in [`crate::attestation::DeviceClaim::predates_reprovisioning`].
    pub predates_reprovisioning: bool,
    /// [`crate::custom_allocation::WebhookUrl::host`] at the time of the register.
    pub webhook_host: Box<str>,
    /// How often it was claimed for a call: the number of its latest lease.
    pub tries: u32,
    /// When it may be claimed, next or again.
    pub due_at: Timestamp,
}

/// An operation whose device has yet to be placed at a hub outside, or brought from one. Spec: DPS-REG-40.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placing {
    /// Where the device is to live.
    pub target: Assignment,
    /// Whether it brings along what it has at the hub that it leaves. Spec: DPS-REG-42.
    pub takes_along: bool,
    /// Whether a device that begins anew is an IoT Edge device.
    pub iot_edge: bool,
    /// The twin of a device that begins anew.
    pub initial_twin: Option<TwinDocument>,
    /// Whom it asks: what waits for one peer keeps that of another from nothing. Spec: DPS-REG-40.
    pub peer: Box<str>,
    /// When it began to wait for a hub: the time that it is tried for counts from then.
    pub since: Timestamp,
    /// When a call was last given up that may be carried out all the same. Spec: DPS-REG-44.
    pub unanswered_at: Option<Timestamp>,
    /// How often it was claimed: the number of its latest lease.
    pub tries: u32,
    /// When it may be claimed, next or again.
    pub due_at: Timestamp,
}

/// JSON as text, of a device or for one. Its `Debug` tells its length alone.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(pub Box<str>);

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({} bytes)", self.0.len())
    }
}

/// Where a device lives, and with which credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The hub.
    pub hub: HubName,
    /// The device id there.
    pub device_id: DeviceId,
    /// What the hub identity was given.
    pub credential: HubCredential,
}

/// What the identity at the hub authenticates with. Spec: DPS-REG-17, DPS-X509-22.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubCredential {
    /// The keys of the individual enrollment.
    EnrollmentKeys,
    /// Keys derived from both group keys over this spelling of the registration id.
    DerivedKeys {
        /// The spelling that verified.
        spelling: Box<str>,
    },
    /// Keys that follow from its TPM. Spec: DPS-TPM-7.
    Tpm {
        /// TPM2B_PUBLIC of its storage root key: what it is told later is wrapped for that.
        storage_root_key: Box<[u8]>,
    },
    /// The certificate with this thumbprint. Spec: DPS-X509-22.
    Certificate {
        /// That of the certificate that the device used.
        thumbprint: Sha256Thumbprint,
    },
}

/// What an operation did to the device's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Substatus {
    /// First assignment.
    InitialAssignment,
    /// The device stayed where it was. Spec: DPS-BODY-7.
    ReprovisionedToInitialAssignment,
    /// It moved and its data moved along.
    DeviceDataMigrated,
    /// It moved and began anew.
    DeviceDataReset,
}

/// Why an operation ended without a hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No linked hub may take the device. Spec: DPS-REG-15.
    #[error("no linked hub may take the device")]
    NoUsableHub,
    /// The entry was deleted before a hub outside had answered.
    #[error("the enrollment was deleted while the hub was asked")]
    EnrollmentGone,
    /// The webhook named no hub. Spec: DPS-REG-28, as all below.
    #[error("the webhook chose no hub")]
    WebhookChoseNone,
    /// The webhook answered 401.
    #[error("the webhook answered 401: it does not accept the key in its URL, or wants another proof")]
    WebhookUnauthorized,
    /// The webhook answered another status that is none of success.
    #[error("the webhook answered {0}")]
    WebhookStatus(u16),
    /// The webhook did not answer, and was asked as often as may be.
    #[error("the webhook did not answer")]
    WebhookSilent,
    /// The webhook named a hub that was not offered.
    #[error("the webhook chose a hub that is not linked, or that the enrollment does not allow")]
    WebhookChoseAnother,
    /// The answer of the webhook says nothing.
    #[error("the answer of the webhook cannot be read")]
    WebhookUnreadable,
    /// The webhook could not be asked: its address is not allowed, there is too much to tell, or the entry has none.
    #[error("the webhook may not be called")]
    WebhookNotCalled,
    /// The hub cannot take a device of this id. Spec: DPS-BROKER-11.
    #[error(
        "a broker serves the hub, and the device id would be more than one level of its topics: it holds '.', '+', '*' or '#'"
    )]
    DeviceIdRefused,
    /// The hub outside refused, or the one that the device leaves. Spec: DPS-REG-45, as all below.
    #[error("the hub refused")]
    HubRefused {
        /// What it said, for the device. Spec: DPS-HUB-17.
        said: Box<str>,
    },
    /// The hub did not answer, or could not, for as long as it is tried.
    #[error("the hub did not answer")]
    HubUnavailable,
    /// The hub had no time for the device, for as long as it is tried.
    #[error("the hub was asked too often")]
    HubThrottled,
    /// The hub that the device leaves did not answer, and the instance does not let devices go without their data.
    #[error("the hub that the device leaves did not answer, and the device was to take its data along")]
    SourceUnavailable,
    /// The address of a hub is none that this server asks. Spec: DPS-HUB-2.
    #[error("the address of the hub is not allowed")]
    HubNotAllowed,
    /// No request to the hub can name the device. Spec: DPS-HUB-11.
    #[error("no request to the hub can name a device of this id")]
    DeviceIdUnaddressable,
}

impl State {
    /// The status that a device is told, in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Choosing { .. } | Self::Assigning { .. } => "assigning",
            Self::Assigned { .. } => "assigned",
            Self::Failed { .. } => "failed",
            Self::Disabled { .. } => "disabled",
        }
    }
}

impl Registration {
    /// Where the device lives, whatever became of the latest operation. Spec: DPS-REG-11.
    pub fn assignment(&self) -> Option<&Assignment> {
        match &self.state {
            State::Assigned { assignment, .. } => Some(assignment),
            State::Choosing { last, .. }
            | State::Assigning { last, .. }
            | State::Failed { last, .. }
            | State::Disabled { last } => last.as_ref(),
        }
    }

    /// The record of a device that is told `disabled`, whether or not it is written so.
    pub(crate) fn disabled(mut self) -> Self {
        self.state = State::Disabled { last: self.assignment().cloned() };
        self
    }
}
