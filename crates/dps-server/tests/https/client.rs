//! A client of the service API, and the service it calls.

use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dps_core::access::{Right, SharedAccessPolicy};
use dps_core::enrollment::AllocationPolicy;
use dps_core::instance::{ClaimAcrossGroups, HubKind, LinkedHub, ServiceInstance, WhenSourceUnavailable};
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{PoolBusy, SearchPool, SearchTurn, Store};
use dps_core::register::Registrar;
use dps_hub::LocalHub;
use dps_proto::ids::InstanceSecret;
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_proto::percent;
use dps_server::front_end::{FrontEnd, Peer};
use dps_server::limits::Limits;
use dps_server::moments::SystemMoments;
use dps_server::service_api::ServiceApi;
use dps_store::MemoryStore;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response};
use jiff::Timestamp;
use serde_json::Value;

use crate::{HOST, SCOPE};

/// One service with one instance.
pub(crate) struct Client {
    pub(crate) front_end: Arc<FrontEnd>,
    pub(crate) registrar: Arc<Registrar>,
    api: Arc<ServiceApi>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    response: Response<()>,
    pub(crate) body: Value,
}

/// How the token of a request is made; good as it is.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) resource: String,
    pub(crate) key: SymmetricKey,
    pub(crate) policy: &'static str,
    /// Seconds from now.
    pub(crate) lives: i64,
}

pub(crate) fn key(byte: u8) -> SymmetricKey {
    SymmetricKey::from_bytes(vec![byte; 32]).unwrap()
}

impl Default for Token {
    fn default() -> Self {
        let resource = HOST.to_owned();
        Self { resource, key: key(1), policy: SharedAccessPolicy::OWNER, lives: 600 }
    }
}

impl Token {
    pub(crate) fn text(&self) -> String {
        let expiry = (Timestamp::now().as_second() + self.lives).to_string();
        let signature = STANDARD.encode(self.key.sign(&[self.resource.as_bytes(), b"\n", expiry.as_bytes()]));
        let Self { resource, policy, .. } = self;
        let signature = percent::encode(&signature);
        format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={policy}")
    }
}

struct Pool;

#[async_trait]
impl SearchPool for Pool {
    async fn run(&self, _: SearchTurn, _: u32, job: Box<dyn FnOnce() + Send>) -> Result<(), PoolBusy> {
        job();
        Ok(())
    }
}

fn policy(name: &str, byte: u8, rights: &[Right]) -> SharedAccessPolicy {
    let keys = KeyPair { primary: key(byte), secondary: key(byte + 100) };
    SharedAccessPolicy { name: name.parse().unwrap(), keys, rights: rights.to_vec() }
}

impl Client {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        let (store, scope) = (MemoryStore::default(), SCOPE.parse().unwrap());
        // It never waits.
        let opened = store.open_instance(&scope, InstanceSecret::new([7; 32])).now_or_never();
        assert!(opened.unwrap().is_ok());
        Self::on(Arc::new(store), limits)
    }

    pub(crate) fn on(store: Arc<dyn Store>, limits: Limits) -> Self {
        let link = |name: &str| LinkedHub {
            name: name.parse().unwrap(),
            kind: HubKind::Local,
            allocation_weight: 1,
            applies_allocation_policy: true,
            networks: Vec::new(),
            is_draining: false,
            connection_string: None,
            hub: Arc::new(LocalHub::default()),
        };
        let instance = |scope: &str, host: &str, policies| ServiceInstance {
            id_scope: scope.parse().unwrap(),
            secret: InstanceSecret::new([7; 32]),
            linked_hubs: vec![link("hub.localhost"), link("other.localhost")],
            default_allocation_policy: AllocationPolicy::Hashed,
            claim_across_groups: ClaimAcrossGroups::Allow,
            when_source_unavailable: WhenSourceUnavailable::Fail,
            passes_over_unhealthy_hubs: false,
            chain_rules: dps_core::x509::ChainRules::default(),
            service_hosts: vec![host.parse().unwrap(), "127.0.0.1".parse().unwrap()],
            shared_access_policies: policies,
        };
        let mine = vec![
            policy(SharedAccessPolicy::OWNER, 1, &Right::ALL),
            policy("reader", 2, &[Right::EnrollmentRead, Right::RegistrationStatusRead]),
        ];
        let theirs = vec![policy(SharedAccessPolicy::OWNER, 3, &Right::ALL)];
        let mut other = instance("0ne0000b002", "other.example", theirs);
        other.service_hosts.truncate(1);
        let instances = vec![instance(SCOPE, HOST, mine), other];
        let instances = Instances::of(Origin::Configuration, instances);
        let registrar = Arc::new(Registrar::new(Arc::clone(&store), Arc::new(Pool), instances));
        let front_end = Arc::new(FrontEnd::new(Arc::clone(&registrar), Arc::new(SystemMoments), limits));
        let api = ServiceApi::new(store, Arc::clone(&front_end));
        Self { front_end, registrar, api }
    }

    /// What a connection is served with.
    pub(crate) fn api(&self) -> Arc<ServiceApi> {
        Arc::clone(&self.api)
    }

    /// Sends a request as it stands.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Answer {
        let (head, body) = request.into_parts();
        let peer = Peer { connection: 1, address: (Ipv4Addr::LOCALHOST, 50_000).into() };
        let answered = self.api.answer(&head, Full::new(body), peer).await;
        let (head, body) = answered.response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Answer { status: head.status.as_u16(), response: Response::from_parts(head, ()), body }
    }

    /// A request of the owner, with these headers besides.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{path}?api-version=2021-10-01"))
            .header("host", HOST)
            .header("authorization", Token::default().text());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    pub(crate) async fn put(&self, path: &str, if_match: Option<&str>, body: &Value) -> Answer {
        let headers: Vec<_> = if_match.map(|tag| ("if-match", tag)).into_iter().collect();
        self.ask(Method::PUT, path, &headers, body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, if_match: Option<&str>) -> Answer {
        let headers: Vec<_> = if_match.map(|tag| ("if-match", tag)).into_iter().collect();
        self.ask(Method::DELETE, path, &headers, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(Method::POST, path, &[], body.to_owned()).await
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    /// Status and error code of a refusal, each of whose forms agrees with the others. Spec: DPS-SERVICE-5, DPS-SERVICE-6.
    #[track_caller]
    pub(crate) fn refused(&self) -> (u16, i64) {
        let code = self.body["errorCode"].as_i64().unwrap();
        assert_eq!(self.header("x-ms-error-code"), Some(code.to_string().as_str()));
        assert_eq!(self.header("x-ms-request-id"), self.body["trackingId"].as_str());
        assert_eq!(self.header("content-type"), Some("application/json; charset=utf-8"));
        assert!(!self.body["message"].as_str().unwrap().is_empty());
        assert!(self.body["timestampUtc"].as_str().unwrap().ends_with('Z'));
        assert_eq!(i64::from(self.status), code / 1_000);
        (self.status, code)
    }
}
