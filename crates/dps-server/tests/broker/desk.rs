//! A node with one local hub, and a broker that asks it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dps_core::broker::BrokerRules;
use dps_core::enrollment::{AllocationPolicy, EntryRef};
use dps_core::instance::{ClaimAcrossGroups, HubKind, LinkedHub, ServiceInstance, WhenSourceUnavailable};
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{
    Commit, HubAuthentication, HubDevice, HubDeviceStatus, HubWrite, PoolBusy, RegistrationWrite, SearchPool,
    SearchTurn, Store,
};
use dps_core::register::Registrar;
use dps_core::registration::{Assignment, HubCredential, Operation, Registration, State, Substatus};
use dps_core::x509::Sha256Thumbprint;
use dps_hub::LocalHub;
use dps_proto::ids::{ETag, InstanceSecret, OperationId};
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_proto::percent;
use dps_proto::sas::hub_device_resource;
use dps_server::broker_auth::BrokerAuth;
use dps_server::explain::{Explanation, Wanted};
use dps_server::front_end::FrontEnd;
use dps_server::limits::Limits;
use dps_server::moments::SystemMoments;
use dps_store::MemoryStore;
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) const SCOPE: &str = "0ne00000001";
pub(crate) const HUB: &str = "hub.example";
pub(crate) const USER: &str = "/broker/v1/user";
pub(crate) const VHOST: &str = "/broker/v1/vhost";
pub(crate) const RESOURCE: &str = "/broker/v1/resource";
pub(crate) const TOPIC: &str = "/broker/v1/topic";

pub(crate) struct Desk {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) front_end: Arc<FrontEnd>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) serving: tokio::task::JoinHandle<()>,
}

/// An answer: its status and its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) u16, pub(crate) String);

struct Pool;

#[async_trait]
impl SearchPool for Pool {
    async fn run(&self, _: SearchTurn, _: u32, job: Box<dyn FnOnce() + Send>) -> Result<(), PoolBusy> {
        job();
        Ok(())
    }
}

fn instance() -> ServiceInstance {
    ServiceInstance {
        id_scope: SCOPE.parse().unwrap(),
        secret: InstanceSecret::new([7; 32]),
        linked_hubs: vec![LinkedHub {
            name: HUB.parse().unwrap(),
            kind: HubKind::Local,
            allocation_weight: 1,
            applies_allocation_policy: true,
            networks: Vec::new(),
            is_draining: false,
            connection_string: None,
            hub: Arc::new(LocalHub { serves_broker: true }),
        }],
        default_allocation_policy: AllocationPolicy::Hashed,
        claim_across_groups: ClaimAcrossGroups::Allow,
        when_source_unavailable: WhenSourceUnavailable::Fail,
        passes_over_unhealthy_hubs: false,
        chain_rules: dps_core::x509::ChainRules::default(),
        service_hosts: Vec::new(),
        shared_access_policies: Vec::new(),
    }
}

pub(crate) fn key(byte: u8) -> SymmetricKey {
    SymmetricKey::from_bytes(vec![byte; 32]).unwrap()
}

pub(crate) fn with_keys() -> HubAuthentication {
    HubAuthentication::Keys(KeyPair { primary: key(1), secondary: key(2) })
}

pub(crate) fn with_certificate() -> HubAuthentication {
    let [primary, secondary] = [[1; 32]; 2].map(Sha256Thumbprint::from_bytes);
    HubAuthentication::SelfSigned { primary, secondary }
}

impl Desk {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default(), true, None).await
    }

    pub(crate) async fn with(
        limits: Limits,
        trusts_certificates: bool,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let store = Arc::new(MemoryStore::new());
        let secret = InstanceSecret::new([7; 32]);
        store.open_instance(&SCOPE.parse().unwrap(), secret).await.unwrap();
        let instances = Instances::of(Origin::Configuration, [instance()]);
        let registrar = Arc::new(Registrar::new(Arc::clone(&store) as _, Arc::new(Pool), instances));
        let front_end = Arc::new(FrontEnd::new(registrar, Arc::new(SystemMoments), limits));
        let rules = BrokerRules { root_hub: None, trusts_certificates };
        let broker = BrokerAuth::new(Arc::clone(&store) as _, Arc::clone(&front_end), rules);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(broker.serve(listener, tls, stopping));
        let desk = Self { store, front_end, address, stop, serving };
        desk.assign("press-7", with_keys()).await;
        desk.assign("other-8", with_keys()).await;
        desk.assign("cert-9", with_certificate()).await;
        desk
    }

    /// A device as a register leaves it.
    pub(crate) async fn assign(&self, id: &str, authentication: HubAuthentication) {
        let now = Timestamp::now();
        let operation_id: OperationId =
            format!("5.{}.{}", "0".repeat(16), "00000000-0000-4000-8000-000000000000").parse().unwrap();
        let registration_id: dps_proto::ids::RegistrationId =
            id.parse().unwrap_or_else(|_| "odd-device".parse().unwrap());
        let assignment = Assignment {
            hub: HUB.parse().unwrap(),
            device_id: id.parse().unwrap(),
            credential: HubCredential::EnrollmentKeys,
        };
        let registration = Registration {
            id_scope: SCOPE.parse().unwrap(),
            registration_id: registration_id.clone(),
            entry: EntryRef::Individual(registration_id.clone()),
            created_at: now,
            updated_at: now,
            etag: ETag::generate([1; 16], 0),
            operation: Operation { guid: operation_id.guid(), began_at: now },
            payload: None,
            strays_until: None,
            storage_root_key: None,
            state: State::Assigned { assignment, substatus: Substatus::InitialAssignment },
        };
        let before = self.store.look_up(&registration.id_scope, &registration_id).await.unwrap().registration;
        let device = HubDevice {
            id_scope: SCOPE.parse().unwrap(),
            hub: HUB.parse().unwrap(),
            device_id: id.parse().unwrap(),
            registration_id,
            authentication,
            iot_edge: false,
            initial_twin: None,
        };
        let write = RegistrationWrite {
            registration,
            under_claim: None,
            replaces: before.map(|before| before.etag),
            decided_on: None,
            hub_writes: vec![HubWrite::PutDevice(Box::new(device))],
        };
        assert_eq!(self.store.commit(write).await.unwrap(), Commit::Done);
    }

    pub(crate) async fn set(&self, id: &str, status: HubDeviceStatus) {
        let (scope, hub) = (SCOPE.parse().unwrap(), HUB.parse().unwrap());
        self.store.set_hub_device_status(&scope, &hub, &id.parse().unwrap(), status, None).await.unwrap();
    }

    /// POSTs a form on a connection of its own.
    pub(crate) async fn ask(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        post(&mut stream, path, &form(fields)).await
    }

    /// The answer to a form that RabbitMQ could have sent; its no and its yes are 200.
    pub(crate) async fn allowed(&self, path: &str, fields: &[(&str, &str)]) -> bool {
        let Answer(status, body) = self.ask(path, fields).await;
        assert_eq!(status, 200, "{body}");
        match body.as_str() {
            "allow" => true,
            "deny" => false,
            other => panic!("{other:?}"),
        }
    }

    /// The latest refusal.
    pub(crate) fn latest(&self) -> Explanation {
        let found = self.front_end.explanations.find(&Wanted::default(), 1);
        Explanation::clone(&found[0])
    }

    pub(crate) fn explanations(&self) -> usize {
        self.front_end.explanations.find(&Wanted::default(), usize::MAX).len()
    }

    pub(crate) fn counted(&self, line: &str) -> bool {
        self.front_end.metrics.render().lines().any(|found| found == line)
    }
}

/// A token as a device makes it for its hub.
pub(crate) fn token(device_id: &str, key: &SymmetricKey, lives_s: i64) -> String {
    use base64::Engine as _;
    let resource = hub_device_resource(&HUB.parse().unwrap(), &device_id.parse().unwrap());
    let resource = percent::encode(&resource);
    let expiry = (Timestamp::now().as_second() + lives_s).to_string();
    let signature = key.sign(&[resource.as_bytes(), b"\n", expiry.as_bytes()]);
    let signature = percent::encode(&base64::engine::general_purpose::STANDARD.encode(signature));
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
}

/// As RabbitMQ encodes it: a space as `+`.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let field =
        |(name, value): &(&str, &str)| format!("{name}={}", percent::encode(value).replace("%20", "+"));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

pub(crate) fn request(method: &str, path: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: broker\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

pub(crate) async fn post<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    path: &str,
    body: &str,
) -> Answer {
    let request = request("POST", path, "application/x-www-form-urlencoded", body);
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// One answer, the connection left open.
pub(crate) async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Answer {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer(status, String::from_utf8(body).unwrap())
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap()
}
