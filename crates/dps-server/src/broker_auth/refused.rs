//! What people are told of a broker's question that was answered with no. Spec: DPS-BROKER-13.

use dps_core::broker::BrokerRefusal;
use dps_proto::hub::{BadHubUserName, HubUserName, ResourceRefused, TopicRefused};
use dps_proto::ids::{DeviceId, RegistrationId};

use super::question::Asked;
use super::{BrokerAuth, BrokerFault, Who};
use crate::excerpt::excerpt;
use crate::explain::{Explanation, Step};
use crate::front_end::{FrontEnd, Peer};
use crate::metrics::Limit;

/// Longest reason in the log, in characters: what a broker sent may be in it.
const REASON_CHARACTERS_MAX: usize = 512;

/// What the log and explanations call this way of asking.
const TRANSPORT: &str = "broker";

/// Why a broker is told no. The texts are for people, and hold no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    /// It names nobody.
    #[error(transparent)]
    UserName(#[from] BadHubUserName),
    /// One word, with a password.
    #[error("the user name {0} names no hub: with a password it has to be {{hub}}/{{deviceId}}")]
    NoHub(DeviceId),
    /// The device does not prove itself, or may not connect.
    #[error(transparent)]
    Refused(#[from] BrokerRefusal),
    /// Something of the broker that is not the device's.
    #[error("{why}: {name:?}")]
    Resource {
        /// Why not.
        why: ResourceRefused,
        /// Its name.
        name: String,
    },
    /// A topic that is not the device's.
    #[error("{why}: {topic:?}")]
    Topic {
        /// Why not.
        why: TopicRefused,
        /// As the broker gave it.
        topic: String,
    },
}

impl BrokerAuth {
    /// Logs, counts and explains a question that was not answered with yes.
    pub(super) fn tell(&self, peer: Peer, asked: &Asked, fault: &BrokerFault) {
        let BrokerFault::Refused { why, who } = fault else {
            return tracing::error!(connection = peer.connection, peer = %peer.address, asked = asked.kind().as_str(), reason = %fault, "a broker's question was not decided");
        };
        let FrontEnd { throttles, metrics, moments, explanations, .. } = &*self.front_end;
        let named: Option<HubUserName> = asked.user_name.parse().ok();
        if throttles.broker_refused(peer.address.ip(), named.as_ref()).is_err() {
            // Each try was judged, and each was one: only the words for it are saved.
            metrics.limit_hit(Limit::BrokerRefusals);
            return tracing::debug!(connection = peer.connection, peer = %peer.address, "a broker's question was refused, as many before it");
        }
        let reason = excerpt(why.to_string(), REASON_CHARACTERS_MAX);
        let tracking_id = moments.tracking_id();
        let registration_id = registration_id(who.as_deref(), named.as_ref());
        let id_scope = who.as_ref().map(|who| &who.named.instance.id_scope);
        let hub = who.as_ref().map(|who| who.named.hub.as_str());
        let device_id = named.as_ref().map(|named| named.device_id().as_str());
        tracing::warn!(
            %tracking_id,
            connection = peer.connection,
            peer = %peer.address,
            transport = TRANSPORT,
            id_scope = id_scope.map(|id_scope| id_scope.as_str()),
            registration_id = registration_id.as_ref().map(|id| id.as_str()),
            hub,
            device_id,
            asked = asked.kind().as_str(),
            reason,
            "broker told no"
        );
        let explanation = Explanation {
            at: moments.moment().now,
            tracking_id: Some(tracking_id),
            connection: Some(peer.connection),
            peer: Some(peer.address),
            transport: Some(TRANSPORT),
            id_scope: id_scope.cloned(),
            registration_id,
            step: Step::Broker,
            told: "deny".to_owned(),
            reason,
            advice: Some(advice(why).to_owned()),
            chain: None,
        };
        explanations.keep(explanation, id_scope.is_some());
    }
}

/// That of the device's record; else the device id, which mostly is one.
fn registration_id(who: Option<&Who>, named: Option<&HubUserName>) -> Option<RegistrationId> {
    let stored = who.and_then(|who| who.stored.as_ref()).map(|stored| stored.device.registration_id.clone());
    stored.or_else(|| named?.device_id().as_str().parse().ok())
}

/// What would have worked.
fn advice(why: &Denied) -> &'static str {
    match why {
        Denied::UserName(_) | Denied::NoHub(_) => {
            "send the user name {hub}/{deviceId}, with what the device was told as assignedHub and deviceId; users of the broker's own \
             belong into auth_backends.1 = internal"
        }
        Denied::Refused(why) => on_refusal(why),
        Denied::Resource { .. } => {
            "speak MQTT: publish and subscribe, with the device id as the client id, and leave the broker's queues and exchanges alone"
        }
        Denied::Topic { why: TopicRefused::Shared, .. } => {
            "a broker has no twins and no direct methods: publish to devices/{deviceId}/messages/events/ and subscribe to \
             devices/{deviceId}/messages/devicebound/#"
        }
        Denied::Topic { .. } => {
            "publish to devices/{deviceId}/messages/events/, followed by properties or nothing, and subscribe to \
             devices/{deviceId}/messages/devicebound/#"
        }
    }
}

fn on_refusal(why: &BrokerRefusal) -> &'static str {
    match why {
        BrokerRefusal::UnknownHub(_) => {
            "connect with the assignedHub that the device was told, or link a local hub of that name"
        }
        BrokerRefusal::SharedHub(_) => "give the hub another name in all service instances but one",
        BrokerRefusal::NoRootHub => {
            "set listen.broker.hub to the hub that the virtual host / is, or use one virtual host for each hub, of its name"
        }
        BrokerRefusal::VirtualHost { .. } => {
            "use the virtual host of the hub's name (mqtt.vhost, or a port mapped to it), or set listen.broker.hub"
        }
        BrokerRefusal::ClientId { .. } => {
            "connect with MQTT, and the device id as the client id, in the same case"
        }
        BrokerRefusal::DeviceId(_) => {
            "give the device an id without '.', '+', '*' and '#' (deviceId of an individual enrollment, or another registration id)"
        }
        BrokerRefusal::UnknownDevice { .. } => {
            "let the device provision, and connect with the deviceId that it was told, in the same case"
        }
        BrokerRefusal::Malformed(_) => {
            "send a SAS token as the password: SharedAccessSignature sr=...&sig=...&se=..."
        }
        BrokerRefusal::OtherResource { .. } => "sign {hub}/devices/{deviceId}, percent-encoded, as sr",
        BrokerRefusal::Expired { .. } => "make a new token for each connection, and set the device's clock",
        BrokerRefusal::WrongKey => {
            "sign with the key that the device provisioned with: that of its individual enrollment, or the one derived from the group's \
             key; after a change of keys let the device provision again"
        }
        BrokerRefusal::CertificateWanted => {
            "log in by certificate, with neither user name nor password, where the broker and listen.broker.certificate_login allow \
             it; or provision with a symmetric key"
        }
        BrokerRefusal::TokenWanted => {
            "send {hub}/{deviceId} as the user name, and a SAS token as the password"
        }
        BrokerRefusal::CertificatesNotTrusted => {
            "set listen.broker.certificate_login where the broker asks devices for certificates and knows the CA of each"
        }
        BrokerRefusal::Disabled => "enable it: harbormaster hub-device enable HUB DEVICE_ID",
    }
}
