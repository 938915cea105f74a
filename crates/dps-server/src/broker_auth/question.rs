//! A broker's question, as RabbitMQ's HTTP backend sends it: a form for each path. Spec: DPS-BROKER-2.

use dps_core::broker::Credential;
use dps_proto::hub::{Permission, ResourceKind, TopicAccess};
use dps_proto::sas::SasToken;
use serde::Deserialize;

use crate::metrics::BrokerAsked;

/// What is asked, and of whom.
pub(super) struct Asked {
    pub(super) user_name: String,
    /// Absent where a broker does not say it before the user is known.
    pub(super) virtual_host: Option<String>,
    /// Absent where the client speaks no MQTT.
    pub(super) client_id: Option<String>,
    pub(super) question: Question,
}

impl Asked {
    /// Whether a user is asked about who came with a password.
    pub(super) fn has_password(&self) -> bool {
        matches!(self.question, Question::User { credential: Credential::Password(_) })
    }

    /// Which question it is.
    pub(super) fn kind(&self) -> BrokerAsked {
        match self.question {
            Question::User { .. } => BrokerAsked::User,
            Question::VirtualHost => BrokerAsked::VirtualHost,
            Question::Resource { .. } => BrokerAsked::Resource,
            Question::Topic { .. } => BrokerAsked::Topic,
        }
    }
}

/// What is asked.
pub(super) enum Question {
    /// Whether it may connect.
    User { credential: Credential },
    /// Whether it may use the virtual host.
    VirtualHost,
    /// Whether it may use a queue or an exchange.
    Resource { kind: ResourceKind, name: String, permission: Permission },
    /// Whether it may use a topic.
    Topic { exchange: String, access: TopicAccess, topic: String },
}

/// A form of one of the paths.
pub(super) trait Form {
    /// Which.
    const ASKED: BrokerAsked;

    /// What it asks; `None` where it holds a word that no question has.
    fn question(self) -> Option<Asked>;
}

#[derive(Deserialize)]
pub(super) struct UserForm {
    username: String,
    password: Option<String>,
    vhost: Option<String>,
    client_id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct VirtualHostForm {
    username: String,
    vhost: String,
    client_id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ResourceForm {
    username: String,
    vhost: String,
    resource: String,
    name: String,
    permission: String,
    client_id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct TopicForm {
    username: String,
    vhost: String,
    name: String,
    permission: String,
    routing_key: String,
    #[serde(rename = "variable_map.client_id")]
    client_id: Option<String>,
}

impl Form for UserForm {
    const ASKED: BrokerAsked = BrokerAsked::User;

    fn question(self) -> Option<Asked> {
        let credential = match self.password {
            Some(password) => Credential::Password(SasToken::parse(password.as_bytes())),
            None => Credential::Certificate,
        };
        Some(Asked {
            user_name: self.username,
            virtual_host: self.vhost,
            client_id: self.client_id,
            question: Question::User { credential },
        })
    }
}

impl Form for VirtualHostForm {
    const ASKED: BrokerAsked = BrokerAsked::VirtualHost;

    fn question(self) -> Option<Asked> {
        let Self { username: user_name, vhost, client_id } = self;
        Some(Asked { user_name, virtual_host: Some(vhost), client_id, question: Question::VirtualHost })
    }
}

impl Form for ResourceForm {
    const ASKED: BrokerAsked = BrokerAsked::Resource;

    fn question(self) -> Option<Asked> {
        let kind = match &*self.resource {
            "exchange" => ResourceKind::Exchange,
            "queue" => ResourceKind::Queue,
            _ => return None,
        };
        let permission = match &*self.permission {
            "configure" => Permission::Configure,
            "write" => Permission::Write,
            "read" => Permission::Read,
            _ => return None,
        };
        Some(Asked {
            user_name: self.username,
            virtual_host: Some(self.vhost),
            client_id: self.client_id,
            question: Question::Resource { kind, name: self.name, permission },
        })
    }
}

impl Form for TopicForm {
    const ASKED: BrokerAsked = BrokerAsked::Topic;

    fn question(self) -> Option<Asked> {
        let access = match &*self.permission {
            "write" => TopicAccess::Write,
            "read" => TopicAccess::Read,
            _ => return None,
        };
        Some(Asked {
            user_name: self.username,
            virtual_host: Some(self.vhost),
            client_id: self.client_id,
            question: Question::Topic { exchange: self.name, access, topic: self.routing_key },
        })
    }
}
