//! What a broker that is a local hub asks of its devices, as RabbitMQ's HTTP backend does. Spec: DPS-BROKER-1 to DPS-BROKER-14
//! (docs/spec/broker.md).
//!
//! `question` reads what is asked, `dps_core::broker` decides who may connect and `dps_proto::hub` which topics are whose,
//! `refused` tells people why not.

mod listener;
mod question;
mod refused;

use std::fmt;
use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Router, middleware};
use dps_core::broker::{Asker, BrokerRules, Credential, Named};
use dps_core::ports::{Store, StoreError, StoredHubDevice};
use dps_proto::hub::{HubUserName, Permission, ResourceKind, TopicAccess, check_resource, check_topic};
use rustls::ServerConfig;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::front_end::{FrontEnd, Peer};
use crate::metrics::{BrokerAnswer, Limit};
use question::{Asked, Form, Question, ResourceForm, TopicForm, UserForm, VirtualHostForm};
use refused::Denied;

pub use listener::{BadClientCa, ClientCa, server_config};

/// Largest body of a question, in bytes: a user name twice, a token and a topic, each byte as three.
const BODY_BYTES_MAX: usize = 32 * 1_024;

/// Answers brokers.
pub struct BrokerAuth {
    store: Arc<dyn Store>,
    front_end: Arc<FrontEnd>,
    rules: BrokerRules,
}

/// Why a question is not answered with yes.
#[derive(Debug, thiserror::Error)]
enum BrokerFault {
    /// The answer is no.
    #[error("{why}")]
    Refused {
        /// Why.
        why: Denied,
        /// Who was meant, as far as that is known.
        who: Option<Box<Who>>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It took too long.
    #[error("the question was not decided in time")]
    TimedOut,
}

/// The device that a question is about.
struct Who {
    named: Named,
    stored: Option<StoredHubDevice>,
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.named.hub, self.named.device_id)
    }
}

impl<D: Into<Denied>> From<D> for BrokerFault {
    fn from(why: D) -> Self {
        Self::Refused { why: why.into(), who: None }
    }
}

impl BrokerAuth {
    /// Answers from `store` by `rules`; what it refuses is counted and explained by `front_end`.
    pub fn new(store: Arc<dyn Store>, front_end: Arc<FrontEnd>, rules: BrokerRules) -> Arc<Self> {
        Arc::new(Self { store, front_end, rules })
    }

    /// Serves until `stopping` becomes true, then lets questions in flight finish: over TLS, with `tls` asking for the broker's
    /// certificate, else plain. Spec: DPS-BROKER-1, DPS-BROKER-3.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        stopping: watch::Receiver<bool>,
    ) {
        let drain_within = self.front_end.limits.drain_within;
        let handshake_within = self.front_end.limits.handshake_within;
        listener::serve(listener, tls, self.router(), stopping, handshake_within, drain_within).await;
    }

    /// Spec: DPS-BROKER-2.
    fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/broker/v1/user", post(answer::<UserForm>))
            .route("/broker/v1/vhost", post(answer::<VirtualHostForm>))
            .route("/broker/v1/resource", post(answer::<ResourceForm>))
            .route("/broker/v1/topic", post(answer::<TopicForm>))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn_with_state(Arc::clone(&self), limited))
            .with_state(self)
    }

    /// The answer to one question; a no is logged and explained here, once.
    async fn decide(&self, peer: Peer, asked: Asked) -> Result<(), BrokerFault> {
        let within = self.front_end.limits.request_within;
        let decided = timeout(within, self.judge(&asked)).await;
        decided.unwrap_or(Err(BrokerFault::TimedOut)).inspect_err(|fault| self.tell(peer, &asked, fault))
    }

    async fn judge(&self, asked: &Asked) -> Result<(), BrokerFault> {
        let asker = match asked.user_name.parse().map_err(Denied::UserName)? {
            HubUserName::OfHub { hub, device_id } => Asker::OfHub(hub, device_id),
            // A word with a password is somebody else's than a device's: of the broker's own users, mostly.
            HubUserName::Bare(name) if asked.has_password() => return Err(Denied::NoHub(name).into()),
            HubUserName::Bare(name) => Asker::ByCertificate(name),
        };
        let instances = self.front_end.registrar.instances();
        let named = self.rules.named(instances, &asker, asked.virtual_host.as_deref())?;
        let scope = &named.instance.id_scope;
        let stored = self.store.hub_device(scope, &named.hub, &named.device_id).await?;
        let client_id = match (&asked.question, asked.client_id.as_deref()) {
            // RabbitMQ does not say it where a certificate logs in; it does when it asks for the virtual host, which is next.
            (Question::User { credential: Credential::Certificate }, None) => Ok(()),
            (_, client_id) => named.check_client_id(client_id),
        };
        let judged = client_id.map_err(Denied::from).and_then(|()| match &asked.question {
            Question::User { credential } => {
                let at = self.front_end.moments.moment().now;
                Ok(named.admit(stored.as_ref(), credential, at)?)
            }
            question => {
                named.still_admit(stored.as_ref(), &asker)?;
                may(&named, question)
            }
        });
        judged.map_err(|why| BrokerFault::Refused { why, who: Some(Box::new(Who { named, stored })) })
    }
}

/// Whether a device that has connected may have what is asked for it. Spec: DPS-BROKER-9, DPS-BROKER-10.
fn may(named: &Named, question: &Question) -> Result<(), Denied> {
    let resource = |kind, name: &str, permission| {
        check_resource(&named.device_id, kind, name, permission)
            .map_err(|why| Denied::Resource { why, name: name.to_owned() })
    };
    match question {
        Question::User { .. } | Question::VirtualHost => Ok(()),
        Question::Resource { kind, name, permission } => resource(*kind, name, *permission),
        Question::Topic { exchange, access, topic } => {
            let permission = match access {
                TopicAccess::Write => Permission::Write,
                TopicAccess::Read => Permission::Read,
            };
            resource(ResourceKind::Exchange, exchange, permission)?;
            check_topic(&named.device_id, *access, topic)
                .map_err(|why| Denied::Topic { why, topic: topic.clone() })
        }
    }
}

/// Spec: DPS-BROKER-3.
async fn limited(
    State(broker): State<Arc<BrokerAuth>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: middleware::Next,
) -> Response {
    let FrontEnd { throttles, metrics, limits, .. } = &*broker.front_end;
    if throttles.broker_question(peer.address.ip()).is_err() {
        metrics.limit_hit(Limit::BrokerQuestions);
        tracing::debug!(connection = peer.connection, peer = %peer.address, "a broker asks too often");
        return (StatusCode::TOO_MANY_REQUESTS, "limits.broker_questions_per_second").into_response();
    }
    // The body included, which may come in drops.
    match timeout(limits.request_within, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            metrics.limit_hit(Limit::RequestTime);
            (StatusCode::REQUEST_TIMEOUT, "the question did not come in time").into_response()
        }
    }
}

async fn answer<F: Form + DeserializeOwned>(
    State(broker): State<Arc<BrokerAuth>>,
    Extension(peer): Extension<Peer>,
    form: Result<axum::Form<F>, FormRejection>,
) -> Response {
    let metrics = &broker.front_end.metrics;
    let unreadable = |why: &str| {
        metrics.broker_answered(F::ASKED, BrokerAnswer::Undecided);
        let asked = F::ASKED.as_str();
        tracing::warn!(connection = peer.connection, peer = %peer.address, asked, reason = why, "a broker's question cannot be read");
    };
    let question = match form {
        // What the library says of a form names its fields, and holds none of their values.
        Err(rejection) => {
            unreadable(&rejection.status().to_string());
            return rejection.status().into_response();
        }
        Ok(axum::Form(form)) => match form.question() {
            Some(question) => question,
            None => {
                unreadable("a word in it is none that RabbitMQ uses");
                return StatusCode::BAD_REQUEST.into_response();
            }
        },
    };
    let (answer, response) = match broker.decide(peer, question).await {
        Ok(()) => (BrokerAnswer::Allowed, "allow".into_response()),
        Err(BrokerFault::Refused { .. }) => (BrokerAnswer::Refused, "deny".into_response()),
        // Anything but 200 is a no as well, and the broker's log says that it was no judgement.
        Err(BrokerFault::Store(_) | BrokerFault::TimedOut) => {
            (BrokerAnswer::Undecided, StatusCode::SERVICE_UNAVAILABLE.into_response())
        }
    };
    metrics.broker_answered(F::ASKED, answer);
    response
}
