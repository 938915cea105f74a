//! Who may connect to a broker that is a local hub, and what of it is whose. Spec: DPS-BROKER-4 to DPS-BROKER-12
//! (docs/spec/broker.md).

use std::sync::Arc;

use dps_proto::ids::{DeviceId, HubName, NotALevel};
use dps_proto::sas::{MalformedToken, SKEW, SasToken, hub_device_resource};
use jiff::Timestamp;

use crate::instance::ServiceInstance;
use crate::instances::{Instances, LocalHubOwner};
use crate::ports::{HubAuthentication, HubDeviceStatus, StoredHubDevice};

/// The virtual host that a broker has from the start.
const ROOT: &str = "/";

/// What of a broker is settled by whoever runs the service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerRules {
    /// The hub that the virtual host `/` is, and that of devices which log in by certificate alone; where absent, the only
    /// local hub there is. Spec: DPS-BROKER-5.
    pub root_hub: Option<HubName>,
    /// Whether a name that the broker took from a certificate proves a device. Spec: DPS-BROKER-8.
    pub trusts_certificates: bool,
}

/// Who a broker says is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// A device, by its hub and its id there.
    OfHub(HubName, DeviceId),
    /// A device, by the name that the broker took from a certificate.
    ByCertificate(DeviceId),
}

/// What a broker says that a device showed.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A password.
    Password(Result<SasToken, MalformedToken>),
    /// None: a certificate, by the broker's own judgement.
    Certificate,
}

/// Why a broker is told no. The texts are for people, and hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerRefusal {
    /// No such hub is kept here.
    #[error("no service instance links a local hub {0}")]
    UnknownHub(HubName),
    /// Which is meant?
    #[error("several service instances link a local hub {0}, so the name means none of them")]
    SharedHub(HubName),
    /// Which hub is the broker?
    #[error(
        "the virtual host / is no one hub's: there are several local hubs, or none, and listen.broker.hub names none"
    )]
    NoRootHub,
    /// Its topics belong to the devices of another hub.
    #[error("the virtual host {virtual_host:?} is not that of the hub {hub}")]
    VirtualHost {
        /// Where the device wants to go.
        virtual_host: String,
        /// Where it lives.
        hub: HubName,
    },
    /// It would take another device's place.
    #[error("the MQTT client id is {}, and has to be the device id {device_id}", quoted(.found))]
    ClientId {
        /// What it has to be.
        device_id: DeviceId,
        /// What it is.
        found: Option<String>,
    },
    /// Its topics would be others' too. Spec: DPS-BROKER-11.
    #[error(transparent)]
    DeviceId(#[from] NotALevel),
    /// Nobody was assigned under that id.
    #[error("the hub {hub} has no device {device_id}")]
    UnknownDevice {
        /// The hub.
        hub: HubName,
        /// The id.
        device_id: DeviceId,
    },
    /// The password is no token.
    #[error("the password is no SAS token: {0}")]
    Malformed(MalformedToken),
    /// A token for something else.
    #[error("the token is for {received:?}, and has to be for {expected:?}")]
    OtherResource {
        /// Decoded.
        expected: String,
        /// As it came.
        received: String,
    },
    /// It was good once.
    #[error("the token expired at {expired}; it is {now} here, and {} minutes are allowed for", SKEW.as_mins())]
    Expired {
        /// When it did.
        expired: Timestamp,
        /// When it was judged.
        now: Timestamp,
    },
    /// Neither of the device's keys made the signature.
    #[error("the token is signed with neither of the device's keys")]
    WrongKey,
    /// The device has a certificate, and came with a password.
    #[error("the device was assigned by certificate, and has no key that could sign a token")]
    CertificateWanted,
    /// The device has keys, and came with none.
    #[error("the device was assigned with keys, and came without a token")]
    TokenWanted,
    /// The broker's word is not enough here.
    #[error("the broker vouches for a certificate, and listen.broker.certificate_login is not set")]
    CertificatesNotTrusted,
    /// It proves itself, and may not connect all the same. Spec: DPS-BROKER-12.
    #[error("the device is disabled at its hub")]
    Disabled,
}

fn quoted(found: &Option<String>) -> String {
    found.as_ref().map_or_else(|| "missing".to_owned(), |found| format!("{found:?}"))
}

/// A device as it is known before anything of it is looked up.
#[derive(Clone)]
pub struct Named {
    /// The instance that the hub belongs to. Who holds it keeps the instance from being deleted meanwhile.
    pub instance: Arc<ServiceInstance>,
    /// The hub.
    pub hub: HubName,
    /// The device id there, one whole level of a topic.
    pub device_id: DeviceId,
}

impl BrokerRules {
    /// Who is meant at a virtual host, where one is told. Spec: DPS-BROKER-4, DPS-BROKER-5, DPS-BROKER-11.
    pub fn named(
        &self,
        instances: &Instances,
        asker: &Asker,
        virtual_host: Option<&str>,
    ) -> Result<Named, BrokerRefusal> {
        let root_hub = || self.root_hub.clone().or_else(|| instances.only_local_hub());
        let (hub, device_id) = match asker {
            Asker::OfHub(hub, device_id) => (hub.clone(), device_id.clone()),
            Asker::ByCertificate(_) if !self.trusts_certificates => {
                return Err(BrokerRefusal::CertificatesNotTrusted);
            }
            Asker::ByCertificate(device_id) => {
                (root_hub().ok_or(BrokerRefusal::NoRootHub)?, device_id.clone())
            }
        };
        let instance = match instances.of_local_hub(&hub) {
            LocalHubOwner::Nobody => return Err(BrokerRefusal::UnknownHub(hub)),
            LocalHubOwner::Several => return Err(BrokerRefusal::SharedHub(hub)),
            LocalHubOwner::One(instance) => instance,
        };
        let is_there = match virtual_host {
            None => true,
            Some(ROOT) => root_hub().ok_or(BrokerRefusal::NoRootHub)? == hub,
            Some(name) => name.eq_ignore_ascii_case(hub.as_str()),
        };
        if let Some(virtual_host) = virtual_host
            && !is_there
        {
            return Err(BrokerRefusal::VirtualHost { virtual_host: virtual_host.to_owned(), hub });
        }
        device_id.check_level()?;
        Ok(Named { instance, hub, device_id })
    }
}

impl Named {
    /// Whether the client id is the device's own: by another one it would cut off, or listen to, another client.
    /// Spec: DPS-BROKER-6.
    pub fn check_client_id(&self, found: Option<&str>) -> Result<(), BrokerRefusal> {
        if found == Some(self.device_id.as_str()) {
            return Ok(());
        }
        Err(BrokerRefusal::ClientId { device_id: self.device_id.clone(), found: found.map(str::to_owned) })
    }

    /// Judges a CONNECT; `stored` is the device as its hub has it. What it proves comes before whether it is disabled.
    /// Spec: DPS-BROKER-7, DPS-BROKER-8, DPS-BROKER-12.
    pub fn admit(
        &self,
        stored: Option<&StoredHubDevice>,
        credential: &Credential,
        at: Timestamp,
    ) -> Result<(), BrokerRefusal> {
        let stored = self.known(stored)?;
        match (&stored.device.authentication, credential) {
            (HubAuthentication::Keys(keys), Credential::Password(token)) => {
                let token = token.as_ref().map_err(|why| BrokerRefusal::Malformed(*why))?;
                if !token.is_for_hub_device(&self.hub, &self.device_id) {
                    return Err(BrokerRefusal::OtherResource {
                        expected: hub_device_resource(&self.hub, &self.device_id),
                        received: token.shown_resource().to_owned(),
                    });
                }
                // Both are tried whatever the first gave: how long it takes tells nothing.
                if !(token.is_signed_by(&keys.primary) | token.is_signed_by(&keys.secondary)) {
                    return Err(BrokerRefusal::WrongKey);
                }
                if token.is_expired_at(at) {
                    return Err(BrokerRefusal::Expired { expired: token.expiry(), now: at });
                }
            }
            (HubAuthentication::SelfSigned { .. }, Credential::Certificate) => {}
            (HubAuthentication::SelfSigned { .. }, Credential::Password(_)) => {
                return Err(BrokerRefusal::CertificateWanted);
            }
            (HubAuthentication::Keys(_), Credential::Certificate) => return Err(BrokerRefusal::TokenWanted),
        }
        check_enabled(stored)
    }

    /// Judges what is asked for a device that has connected: it may have been disabled or gone since. Spec: DPS-BROKER-12.
    pub fn still_admit(&self, stored: Option<&StoredHubDevice>, asker: &Asker) -> Result<(), BrokerRefusal> {
        let stored = self.known(stored)?;
        match (asker, &stored.device.authentication) {
            (Asker::ByCertificate(_), HubAuthentication::Keys(_)) => Err(BrokerRefusal::TokenWanted),
            _ => check_enabled(stored),
        }
    }

    fn known<'s>(&self, stored: Option<&'s StoredHubDevice>) -> Result<&'s StoredHubDevice, BrokerRefusal> {
        stored.ok_or_else(|| BrokerRefusal::UnknownDevice {
            hub: self.hub.clone(),
            device_id: self.device_id.clone(),
        })
    }
}

fn check_enabled(stored: &StoredHubDevice) -> Result<(), BrokerRefusal> {
    match stored.status {
        HubDeviceStatus::Enabled => Ok(()),
        HubDeviceStatus::Disabled => Err(BrokerRefusal::Disabled),
    }
}

#[cfg(test)]
mod tests;
