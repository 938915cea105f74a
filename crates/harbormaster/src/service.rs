//! The service as it runs, whoever configured it: registrar, front ends, listeners, signals.
//!
//! [`Service::run`] is the architecture: what `dev` and `serve` prepared is put together here, and nowhere else.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use dps_core::broker::BrokerRules;
use dps_core::instance::ServiceInstance;
use dps_core::instance_settings::StoredInstance;
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{Store, StoreError};
use dps_core::register::Registrar;
use dps_hub::HubKinds;
use dps_hub::outbound::{AllowedTargets, Outbound, Trust, TrustedRoots};
use dps_hub::webhook::Webhook;
use dps_server::admin::Admin;
use dps_server::allocation::AllocationWorker;
use dps_server::assignment::{CleanUpWorker, HubWatch, PlacementWorker};
use dps_server::broker_auth::BrokerAuth;
use dps_server::counted_searches::CountedSearches;
use dps_server::front_end::FrontEnd;
use dps_server::limits::Limits;
use dps_server::listen;
use dps_server::metrics::Metrics;
use dps_server::moments::StoreMoments;
use dps_server::proxy_protocol::Balancers;
use dps_server::search_pool::SearchThreads;
use dps_server::service_api::ServiceApi;
use dps_server::tls::ServerCertificates;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::exit::Failure;
use crate::{stop, supervisor};

/// What a service is made of.
pub(crate) struct Service {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) instances: Arc<Instances>,
    pub(crate) limits: Limits,
    /// Who names the clients of the connections that it passes on.
    pub(crate) balancers: Balancers,
    /// For devices and for the service API.
    pub(crate) tls: Arc<ServerConfig>,
    /// What `tls` serves: its expiry is shown in the metrics.
    pub(crate) certificates: Arc<ServerCertificates>,
    /// By which webhooks are asked, and `hubs` asks.
    pub(crate) outbound: Outbound,
    /// Opens the admin listener.
    pub(crate) admin_token: String,
    /// What makes the hubs of instances.
    pub(crate) hubs: HubKinds,
    /// How brokers are answered.
    pub(crate) broker: BrokerSettings,
}

/// How brokers that are local hubs are answered. Spec: DPS-BROKER-1.
#[derive(Default)]
pub(crate) struct BrokerSettings {
    pub(crate) rules: BrokerRules,
    /// Asks them for certificates.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// Where it listens: bound already, so that what cannot be bound is known before anything begins.
pub(crate) struct Listeners {
    /// For devices.
    pub(crate) mqtt: Vec<TcpListener>,
    /// For the service API.
    pub(crate) https: Vec<TcpListener>,
    pub(crate) admin: TcpListener,
    /// For brokers, where there may be one.
    pub(crate) broker: Option<TcpListener>,
}

impl Service {
    /// Serves until SIGTERM or Ctrl-C, then drains; a second one ends it at once. `ready` is called once every port accepts, `reload` at each SIGHUP.
    pub(crate) async fn run(
        self,
        listeners: Listeners,
        ready: impl FnOnce() -> anyhow::Result<()>,
        reload: impl AsyncFn(),
    ) -> Result<ExitCode, Failure> {
        let Self {
            store,
            instances,
            limits,
            balancers,
            tls,
            certificates,
            outbound,
            admin_token,
            hubs,
            broker,
        } = self;
        let metrics = Arc::new(Metrics::default());
        metrics.certificates(certificates.expiry());
        store.observe_writes(Arc::clone(&metrics) as _);
        let threads = SearchThreads::start(1, SearchThreads::SIGNATURES_DEFAULT)?;
        let pool = Arc::new(CountedSearches::new(threads, Arc::clone(&metrics)));
        let registrar = Arc::new(Registrar::new(Arc::clone(&store), pool, instances));
        let moments = StoreMoments::of(&*store).await?;
        let front_end = FrontEnd::new(registrar, Arc::clone(&moments) as _, limits);
        let front_end = Arc::new(FrontEnd { metrics: Arc::clone(&metrics), balancers, ..front_end });
        let service_api = ServiceApi::new(Arc::clone(&store), Arc::clone(&front_end));

        let (stop, stopping) = watch::channel(false);
        let mut signals = stop::Signals::listen()?;
        let broker_auth = BrokerAuth::new(Arc::clone(&store), Arc::clone(&front_end), broker.rules);
        let admin = Admin::new(Arc::clone(&store), &front_end, Arc::new(hubs), admin_token);
        let mut following = JoinSet::new();
        following.spawn(moments.follow(store, stopping.clone()));
        following.spawn(Arc::clone(&admin).follow_other_nodes(stopping.clone()));
        let admin = admin.serve(listeners.admin, stopping.clone());
        let mut admin = tokio::spawn(admin);
        let mut serving = JoinSet::new();
        for listener in listeners.mqtt {
            let (tls, front_end) = (Arc::clone(&tls), Arc::clone(&front_end));
            serving.spawn(listen::mqtt(listener, tls, front_end, stopping.clone()));
        }
        for listener in listeners.https {
            let (tls, front_end) = (Arc::clone(&tls), Arc::clone(&front_end));
            serving.spawn(listen::https(
                listener,
                tls,
                front_end,
                Arc::clone(&service_api),
                stopping.clone(),
            ));
        }
        let worker = AllocationWorker::new(Arc::clone(&front_end), Arc::new(Webhook::new(outbound)));
        serving.spawn(worker.run(stopping.clone()));
        serving.spawn(PlacementWorker::new(Arc::clone(&front_end)).run(stopping.clone()));
        serving.spawn(CleanUpWorker::new(Arc::clone(&front_end)).run(stopping.clone()));
        serving.spawn(HubWatch::new(Arc::clone(&front_end)).run(stopping.clone()));
        if let Some(listener) = listeners.broker {
            serving.spawn(broker_auth.serve(listener, broker.tls, stopping.clone()));
        }
        ready()?;
        supervisor::ready();
        let watchdog = supervisor::keep_awake();

        loop {
            let signal = tokio::select! {
                signal = signals.next() => signal,
                why = ended_by_itself(&mut serving, &mut admin) => return Err(why.into()),
            };
            if let stop::Signal::Stop = signal {
                break;
            }
            supervisor::reloading();
            reload().await;
            metrics.certificates(certificates.expiry());
            supervisor::ready();
        }
        tracing::info!("stopping");
        supervisor::stopping();
        stop.send_replace(true);
        let drained = async {
            while let Some(ended) = serving.join_next().await {
                ended.context("a listener or a worker")?;
            }
            admin.await.context("the admin listener")
        };
        tokio::select! {
            drained = drained => drained?,
            () = signals.stop() => tracing::warn!("stopped again: connections that are still open are cut"),
        }
        // To the end: a drain that hangs is for the supervisor to end as well.
        watchdog.abort();
        Ok(ExitCode::SUCCESS)
    }
}

/// Waits for a listener to end, which none does before a stop: a service that no longer accepts must not go on as if it were
/// ready. Spec: DPS-METRICS-4.
async fn ended_by_itself(serving: &mut JoinSet<()>, admin: &mut JoinHandle<()>) -> anyhow::Error {
    let (which, ended) = tokio::select! {
        Some(ended) = serving.join_next() => ("a listener for devices, for the service API or for brokers, or a worker that asks webhooks or hubs,", ended),
        ended = admin => ("the admin listener", ended),
    };
    match ended {
        Ok(()) => anyhow!("{which} ended by itself"),
        Err(why) => anyhow!(why).context(format!("{which} ended by itself")),
    }
}

/// The way out for requests that users cause. Spec: DPS-HUB-2, DPS-HUB-6.
pub(crate) fn outbound(allowed: AllowedTargets, trust: &Trust) -> anyhow::Result<Outbound> {
    let roots = TrustedRoots::read(trust)?;
    if roots.is_empty() {
        tracing::warn!(
            "this system trusts no certificate authority, so no webhook and no hub can be called: install its CA certificates, or name a \
             file by outbound.ca_file"
        );
    }
    Ok(Outbound::new(allowed, roots)?)
}

/// The threads that everything asynchronous runs on.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        // The random generator takes milliseconds to seed in each thread: before the first device, not during it.
        .on_thread_start(|| {
            let _ = aws_lc_rs::rand::fill(&mut [0; 16]);
        })
        .build()?;
    let within = runtime.enter();
    stop::outlive_file_size_limit()?;
    drop(within);
    Ok(runtime)
}

/// Fresh random bytes.
pub(crate) fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        // Keys made of nothing would be worse than no service.
        std::process::abort();
    }
    bytes
}

/// The instances of a configuration, and those whose settings the store keeps. Warns of what of the latter does not count, and of
/// those that have settings nowhere. Spec: DPS-INST-1, DPS-SERVE-14.
pub(crate) async fn instances(
    configured: Vec<ServiceInstance>,
    store: &dyn Store,
    hubs: &HubKinds,
) -> Result<Arc<Instances>, StoreError> {
    let instances = Instances::of(Origin::Configuration, configured);
    for StoredInstance { settings, secret, .. } in store.service_instances().await? {
        let id_scope = settings.id_scope.clone();
        if instances.of_scope(&id_scope).is_some() {
            tracing::warn!(
                %id_scope,
                "the configuration has the service instance {id_scope}: the settings in the store do not count"
            );
            continue;
        }
        for host in settings.service_hosts.iter().filter(|host| instances.of_host(host.as_str()).is_some()) {
            tracing::warn!(
                %id_scope,
                %host,
                "the service host {host} is that of an instance in the configuration, and not of {id_scope} in the store"
            );
        }
        instances.set(Origin::Store, ServiceInstance::new(settings, secret, hubs));
    }
    for id_scope in store.id_scopes().await?.iter().filter(|id_scope| instances.of_scope(id_scope).is_none())
    {
        tracing::warn!(
            %id_scope,
            "the store holds the service instance {id_scope}, which has no settings: its devices are refused"
        );
    }
    Ok(instances)
}

/// A new admin token.
pub(crate) fn admin_token() -> Vec<u8> {
    random::<32>().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// DPS-METRICS-4
    #[tokio::test]
    async fn a_listener_that_ends_by_itself_is_noticed() {
        let (mut serving, mut admin) = (JoinSet::new(), tokio::spawn(pending()));
        serving.spawn(pending());
        let a_while = Duration::from_millis(20);
        assert!(timeout(a_while, ended_by_itself(&mut serving, &mut admin)).await.is_err());

        serving.spawn(async { panic!("as a bug would") });
        let why = ended_by_itself(&mut serving, &mut admin).await;
        assert!(format!("{why:#}").contains("panic"), "{why:#}");

        let mut admin = tokio::spawn(async {});
        let why = ended_by_itself(&mut serving, &mut admin).await;
        assert_eq!(why.to_string(), "the admin listener ended by itself");
    }
}
