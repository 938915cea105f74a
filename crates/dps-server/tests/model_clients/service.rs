//! The front end in one process, with a store in memory and time that waits for nobody.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dps_core::enrollment::{
    AllocationPolicy, EnrollmentGroup, EntrySettings, GroupAttestation, ProvisioningStatus, TwinDocument,
};
use dps_core::instance::{ClaimAcrossGroups, HubKind, LinkedHub, ServiceInstance, WhenSourceUnavailable};
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{
    Condition, DeviceRegistry, Hub, HubAuthentication, HubDevice, HubDeviceStatus, Placement, PoolBusy,
    RegistryDevice, RegistryError, SearchPool, SearchTurn, Store,
};
use dps_core::register::Registrar;
use dps_hub::LocalHub;
use dps_proto::ids::{DeviceId, ETag, InstanceSecret};
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_server::assignment::PlacementWorker;
use dps_server::explain::{Explanation, Wanted};
use dps_server::fault::Transport;
use dps_server::front_end::{FrontEnd, Peer};
use dps_server::https;
use dps_server::limits::Limits;
use dps_server::moments::SystemMoments;
use dps_server::mqtt::connection;
use dps_server::service_api::ServiceApi;
use dps_store::MemoryStore;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::SCOPE;
use crate::certificates;
use crate::failing_store::FailingStore;
use crate::showing::Showing;

/// Groups without prefix: more than are searched without the pool.
const GROUPS: u32 = 9;

/// What fails for a number of requests.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Outage {
    /// 429.
    Busy,
    /// No answer in time: 503.
    Hangs,
    /// The store cannot be reached: 503.
    StoreGone,
}

pub(crate) struct Service {
    front_end: Arc<FrontEnd>,
    service_api: Arc<ServiceApi>,
    _stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
}

struct Pool {
    outage: Outage,
    left: AtomicU32,
}

#[async_trait]
impl SearchPool for Pool {
    async fn run(&self, _: SearchTurn, _: u32, job: Box<dyn FnOnce() + Send>) -> Result<(), PoolBusy> {
        let is_out =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        match self.outage {
            Outage::Busy if is_out => return Err(PoolBusy),
            Outage::Hangs if is_out => pending().await,
            _ => job(),
        }
        Ok(())
    }
}

/// A hub outside that takes eight seconds to make a device, and has none but those.
struct SlowHub;

impl Hub for SlowHub {
    fn place(&self, _: HubDevice) -> Placement {
        Placement::Outside
    }

    fn registry(&self) -> Option<&dyn DeviceRegistry> {
        Some(self)
    }
}

#[async_trait]
impl DeviceRegistry for SlowHub {
    async fn create(&self, _: &HubDevice, _: HubDeviceStatus) -> Result<(), RegistryError> {
        sleep(Duration::from_secs(8)).await;
        Ok(())
    }

    async fn identity(&self, _: &DeviceId) -> Result<RegistryDevice, RegistryError> {
        Err(RegistryError::Absent)
    }

    async fn set_authentication(
        &self,
        _: &RegistryDevice,
        _: &HubAuthentication,
    ) -> Result<(), RegistryError> {
        Err(RegistryError::Absent)
    }

    async fn delete(&self, _: &RegistryDevice) -> Result<(), RegistryError> {
        Err(RegistryError::Absent)
    }

    async fn twin(&self, _: &DeviceId) -> Result<TwinDocument, RegistryError> {
        Err(RegistryError::Absent)
    }
}

impl Service {
    pub(crate) fn new() -> Self {
        Self::build(Some(Arc::new(LocalHub::default())), ProvisioningStatus::Enabled, Outage::Busy, 0)
    }

    pub(crate) fn without_hubs() -> Self {
        Self::build(None, ProvisioningStatus::Enabled, Outage::Busy, 0)
    }

    pub(crate) fn disabled() -> Self {
        Self::build(Some(Arc::new(LocalHub::default())), ProvisioningStatus::Disabled, Outage::Busy, 0)
    }

    /// The first `requests` requests fail.
    pub(crate) fn out_of_order(outage: Outage, requests: u32) -> Self {
        Self::build(Some(Arc::new(LocalHub::default())), ProvisioningStatus::Enabled, outage, requests)
    }

    pub(crate) fn with_slow_hub() -> Self {
        let service = Self::build(Some(Arc::new(SlowHub)), ProvisioningStatus::Enabled, Outage::Busy, 0);
        tokio::spawn(PlacementWorker::new(Arc::clone(&service.front_end)).run(service.stopping.clone()));
        service
    }

    /// All connections not yet attested may buffer `bytes` together, beyond what is each one's own.
    pub(crate) fn with_bytes(bytes: usize) -> Self {
        let service = Self::new();
        let FrontEnd { registrar, moments, limits, .. } = &*service.front_end;
        let limits = Limits { unattested_bytes: bytes, ..limits.clone() };
        let front_end = FrontEnd::new(Arc::clone(registrar), Arc::clone(moments), limits);
        Self { front_end: Arc::new(front_end), ..service }
    }

    fn build(hub: Option<Arc<dyn Hub>>, status: ProvisioningStatus, outage: Outage, requests: u32) -> Self {
        let (store, scope) = (MemoryStore::new(), SCOPE.parse().unwrap());
        let with_keys = (0..GROUPS).map(|number| {
            group(number, if number + 1 == GROUPS { status } else { ProvisioningStatus::Enabled })
        });
        let plant = EnrollmentGroup {
            id: "plant".parse().unwrap(),
            attestation: certificates::attestation(),
            ..group(GROUPS, status)
        };
        // The memory store never waits.
        let opened = store.open_instance(&scope, InstanceSecret::new([7; 32])).now_or_never();
        assert!(opened.unwrap().is_ok());
        for group in with_keys.chain([plant]) {
            let put = store.put_enrollment_group(&scope, group, Condition::Always.into()).now_or_never();
            assert!(put.unwrap().is_ok());
        }
        let linked = |hub| LinkedHub {
            name: "hub.localhost".parse().unwrap(),
            kind: HubKind::Local,
            allocation_weight: 1,
            applies_allocation_policy: true,
            networks: Vec::new(),
            is_draining: false,
            connection_string: None,
            hub,
        };
        let instance = ServiceInstance {
            id_scope: SCOPE.parse().unwrap(),
            secret: InstanceSecret::new([7; 32]),
            linked_hubs: hub.map(linked).into_iter().collect(),
            default_allocation_policy: AllocationPolicy::Hashed,
            claim_across_groups: ClaimAcrossGroups::Allow,
            when_source_unavailable: WhenSourceUnavailable::Fail,
            passes_over_unhealthy_hubs: false,
            chain_rules: dps_core::x509::ChainRules::default(),
            service_hosts: Vec::new(),
            shared_access_policies: Vec::new(),
        };
        let (looks, searches) = if outage == Outage::StoreGone { (requests, 0) } else { (0, requests) };
        let store = FailingStore { inner: store, left: AtomicU32::new(looks) };
        let pool = Arc::new(Pool { outage, left: AtomicU32::new(searches) });
        let store: Arc<dyn Store> = Arc::new(store);
        let registrar = Arc::new(Registrar::new(
            Arc::clone(&store),
            pool,
            Instances::of(Origin::Configuration, [instance]),
        ));
        let front_end = Arc::new(FrontEnd::new(registrar, Arc::new(SystemMoments), Limits::default()));
        let (stop, stopping) = watch::channel(false);
        let service_api = ServiceApi::new(store, Arc::clone(&front_end));
        Self { front_end, service_api, _stop: stop, stopping }
    }

    /// The client's end of a new connection, on which bytes travel at most `together` at a time.
    pub(crate) fn connect(&self, together: usize) -> DuplexStream {
        self.connect_showing(together, Vec::new())
    }

    /// A connection whose device has shown these certificates in the handshake.
    pub(crate) fn connect_showing(
        &self,
        together: usize,
        certificates: Vec<CertificateDer<'static>>,
    ) -> DuplexStream {
        let (client, server) = duplex(together);
        let (front_end, stopping) = (Arc::clone(&self.front_end), self.stopping.clone());
        tokio::spawn(async move {
            let peer = Peer { connection: 1, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)) };
            let place = front_end.admission.place().await.unwrap();
            let mut admitted = front_end.admission.admit(place).unwrap();
            admitted.comes_from(peer.address.ip()).unwrap();
            let server = Showing { stream: server, certificates };
            connection::serve(server, Transport::Mqtt, peer, admitted, &front_end, stopping).await;
        });
        client
    }

    /// The client's end of a new connection to the port of WebSockets and HTTPS.
    pub(crate) fn connect_to_443(&self, together: usize) -> DuplexStream {
        let (client, server) = duplex(together);
        let (front_end, stopping) = (Arc::clone(&self.front_end), self.stopping.clone());
        let service_api = Arc::clone(&self.service_api);
        tokio::spawn(async move {
            let peer = Peer { connection: 1, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)) };
            let place = front_end.admission.place().await.unwrap();
            let mut admitted = front_end.admission.admit(place).unwrap();
            admitted.comes_from(peer.address.ip()).unwrap();
            let server = Showing { stream: server, certificates: Vec::new() };
            https::serve(server, peer, admitted, &front_end, service_api, stopping).await;
        });
        client
    }

    pub(crate) fn explanations(&self) -> Vec<Arc<Explanation>> {
        self.front_end.explanations.find(&Wanted::default(), 99)
    }

    /// Derived from the last group that is searched.
    pub(crate) fn device_key(&self, id: &str) -> SymmetricKey {
        key(&format!("group-{}", GROUPS - 1)).derive(id)
    }
}

pub(crate) fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_bytes(format!("{text:.<32}").into_bytes()).unwrap()
}

fn group(number: u32, status: ProvisioningStatus) -> EnrollmentGroup {
    let name = format!("group-{number}");
    EnrollmentGroup {
        id: name.parse().unwrap(),
        registration_id_prefix: None,
        attestation: GroupAttestation::SymmetricKey(KeyPair {
            primary: key(&name),
            secondary: key("another"),
        }),
        settings: EntrySettings {
            provisioning_status: status,
            custom_allocation: None,
            allocation_policy: None,
            hubs: Vec::new(),
            initial_twin: None,
            iot_edge: false,
            reprovision_policy: None,
            other_members: None,
            etag: ETag::generate([number as u8; 16], 0),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        },
    }
}
