//! `harbormaster serve`: the service that a configuration describes. Spec: DPS-SERVE-1 to DPS-SERVE-14 (docs/spec/serve.md).
//!
//! [`run`] reads the whole configuration; [`serve`] opens what it names and gives it to [`Service::run`].

pub(crate) mod opened_store;
pub(crate) mod place;
mod ready;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use dps_core::instance::ServiceInstance;
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{Store, StoreError};
use dps_hub::HubKinds;
use dps_hub::outbound::AllowedTargets;
use dps_proto::ids::{IdScope, InstanceSecret};
use dps_server::proxy_protocol::Balancers;
use dps_server::tls::{self, ServerCertificates, TlsError};
use dps_server::{admin, broker_auth};
use dps_store::{Sealed, Sealer, SqliteStore};
use tokio::net::TcpListener;

use crate::activation::{self, Passed, Purpose};
use crate::configuration::{
    self, Broker, Certificate, Configuration, Fault, Instance, Listen, Located, Reload,
};
use crate::exit::{self, Failure};
use crate::service::{self, BrokerSettings, Listeners, Service, admin_token, random};
use crate::store_place::STORE_FILE;
use crate::{config, logging};
use opened_store::Opened;
use place::Place;
use ready::Ready;

#[derive(Args)]
#[command(after_help = logging::HELP)]
pub(crate) struct Options {
    /// The configuration; `harbormaster config show --defaults` prints one with every key.
    #[arg(long = "config", value_name = "FILE", env = "HARBORMASTER_CONFIG")]
    file: PathBuf,
    /// What to print on standard output once every port accepts.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Nothing: the log says where it listens.
    Text,
    /// One line of JSON, for programs.
    Json,
}

pub(crate) fn run(options: Options) -> Result<ExitCode, Failure> {
    // Takes them out of the environment, which only a process of one thread may do.
    let passed = activation::take().map_err(Failure::usage)?;
    let configuration = match configuration::read(&options.file) {
        Ok(configuration) => configuration,
        Err(faults) => return config::refuse(&faults),
    };
    logging::start(configuration.log.format, configuration.log.level)?;
    for warning in &configuration.warnings {
        warning.log();
    }
    warn_of_descriptors(configuration.limits.connections);
    service::runtime()?.block_on(serve(configuration, &options, passed))
}

async fn serve(
    configuration: Configuration,
    options: &Options,
    passed: Vec<Passed>,
) -> Result<ExitCode, Failure> {
    let to_reload = Reload::of(options.file.clone(), &configuration);
    let Configuration { listen, certificates, store, limits, outbound, log: _, instances, warnings: _ } =
        configuration;
    let place = Place::of(&options.file);
    let files: Vec<_> = certificates.iter().map(Certificate::files).collect();
    let server_certificates = ServerCertificates::load(&files)?;
    let tls = tls::server_config(Arc::clone(&server_certificates))?;

    let broker = broker_settings(listen.broker.as_ref(), &server_certificates)?;
    let allowed = AllowedTargets::parse(&outbound.allow).map_err(Failure::usage)?;
    let outbound = service::outbound(allowed, &outbound.trust()).context("[outbound]")?;
    let hubs = HubKinds::new(listen.broker.is_some(), outbound.clone());

    let Opened { store: opened, data_dir } = opened_store::open(&store, &place).await?;
    let (admin_token, token_file) = match (listen.admin_token.clone(), &data_dir) {
        (Some(token), _) => (token.value, None),
        (None, Some(data_dir)) => {
            let token = data_dir.secret_file("admin-token", admin_token)?;
            let token = String::from_utf8(token.to_vec()).context("admin-token is not text")?;
            (token, Some(data_dir.path().join("admin-token")))
        }
        // Judged already.
        (None, None) => return Err(Failure::usage(anyhow!("listen.admin_token_file is missing"))),
    };
    admin::sweep_at_start(&*opened).await?;
    let instances = match all_instances(instances, &*opened, &hubs).await {
        Err(why @ StoreError::Unreadable(_)) => {
            // Of what makes it so, a damaged page as well, only the key is for the configuration to mend.
            let sealer = Sealer::new(&store.sealing_key.value);
            let is_of_another = match &data_dir {
                Some(data_dir) => {
                    let judged = SqliteStore::check_sealing_key(&data_dir.file(STORE_FILE)?, &sealer);
                    matches!(judged, Err(Sealed::ByAnother { .. }))
                }
                // A database server finds its own damage.
                None => true,
            };
            if !is_of_another {
                return Err(why.into());
            }
            let advice = "name the key that the store was made with";
            return Err(place.fault(store.sealing_key.at, "store.sealing_key", why, advice));
        }
        instances => instances?,
    };
    if instances.all().is_empty() {
        tracing::warn!(
            "there is no service instance, so every device is refused: make one with `harbormaster instance create`, or add an \
             [[instance]] to the configuration"
        );
    }

    let listeners = bind(&listen, passed, &place).await?;
    let id_scopes = instances.all().iter().map(|(_, instance)| instance.id_scope.to_string()).collect();
    let ready = Ready::of(&listeners, id_scopes, token_file)?;
    let announce = || {
        ready.log();
        if options.output == Output::Json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", ready.json()).and_then(|()| out.flush()).context("standard output")?;
        }
        Ok(())
    };
    let reload = async || {
        match to_reload.read_again(&server_certificates) {
            Ok(warnings) => {
                warnings.iter().for_each(Fault::log);
                tracing::info!("certificates read again");
            }
            Err(why) => {
                tracing::error!(reason = %why, "the certificates could not be read again; the old ones stay")
            }
        }
        match read_instances_again(&options.file, &*opened, &instances, &hubs).await {
            Ok(()) => tracing::info!("service instances of the configuration read again"),
            Err(why) => {
                tracing::error!(
                    reason = exit::told(&why),
                    "the configuration could not be read again; its service instances stay as they were"
                )
            }
        }
    };
    let service = Service {
        store: Arc::clone(&opened),
        instances: Arc::clone(&instances),
        limits,
        balancers: Balancers::new(listen.proxy_protocol_from.iter().map(|from| from.value.0)),
        tls,
        certificates: Arc::clone(&server_certificates),
        outbound,
        admin_token,
        hubs: hubs.clone(),
        broker,
    };
    service.run(listeners, announce, reload).await
}

/// Whether a disk is full or read-only, which is nobody's fault who wrote a configuration. Spec: DPS-SERVE-19.
fn is_about_the_disk(why: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(why.kind(), StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem)
}

/// Spec: DPS-BROKER-1.
fn broker_settings(
    broker: Option<&Broker>,
    certificates: &Arc<ServerCertificates>,
) -> Result<BrokerSettings, TlsError> {
    let Some(broker) = broker else { return Ok(BrokerSettings::default()) };
    let client_ca = broker.client_ca.as_ref().map(|(_, client_ca)| client_ca);
    let tls = client_ca.map(|client_ca| broker_auth::server_config(Arc::clone(certificates), client_ca));
    Ok(BrokerSettings { rules: broker.rules(), tls: tls.transpose()? })
}

/// Serves the instances of the configuration as they stand there now. Spec: DPS-SERVE-15.
async fn read_instances_again(
    file: &Path,
    store: &dyn Store,
    instances: &Instances,
    hubs: &HubKinds,
) -> anyhow::Result<()> {
    let configuration = configuration::read(file).map_err(|faults| {
        // One line of the log.
        anyhow!(faults.0.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))
    })?;
    let configured = opened(configuration.instances, store, hubs).await?;
    let is_there = |scope: &IdScope| configured.iter().any(|instance| instance.id_scope == *scope);
    let before = instances.all();
    let before = before.iter().filter(|(origin, _)| *origin == Origin::Configuration);
    let gone: Vec<_> =
        before.map(|(_, instance)| instance.id_scope.clone()).filter(|scope| !is_there(scope)).collect();
    configured.into_iter().for_each(|instance| instances.set(Origin::Configuration, instance));
    for scope in gone {
        instances.remove(&scope);
        // It may have been the store's before.
        if let Some(stored) = store.service_instance(&scope).await? {
            instances.set(Origin::Store, ServiceInstance::new(stored.settings, stored.secret, hubs));
        }
    }
    Ok(())
}

/// The configuration's and the store's.
async fn all_instances(
    configured: Vec<Instance>,
    store: &dyn Store,
    hubs: &HubKinds,
) -> Result<Arc<Instances>, StoreError> {
    service::instances(opened(configured, store, hubs).await?, store, hubs).await
}

/// Instances of a configuration, each with its secret, which the store keeps.
async fn opened(
    configured: Vec<Instance>,
    store: &dyn Store,
    hubs: &HubKinds,
) -> Result<Vec<ServiceInstance>, StoreError> {
    let mut instances = Vec::new();
    for instance in configured {
        let fresh = InstanceSecret::new(random());
        let secret = store.open_instance(&instance.id_scope.value, fresh).await?;
        instances.push(ServiceInstance::new(instance.settings(), secret, hubs));
    }
    Ok(instances)
}

/// Binds what was not passed on. Spec: DPS-SERVE-4, DPS-SERVE-11.
async fn bind(listen: &Listen, passed: Vec<Passed>, place: &Place) -> Result<Listeners, Failure> {
    let (mut mqtt, mut https, mut admin) = (Vec::new(), Vec::new(), Vec::new());
    let mut bound: Vec<(Purpose, bool, SocketAddr)> = Vec::new();
    for Passed { name, address, listener } in passed {
        let purpose = activation::purpose(&name, address, listen).map_err(Failure::usage)?;
        let listener = TcpListener::from_std(listener)?;
        match purpose {
            Purpose::Mqtt => mqtt.push(listener),
            Purpose::Https => https.push(listener),
            Purpose::Admin => admin.push(listener),
        }
        bound.push((purpose, purpose.is_named(&name), address));
    }
    let admin_listed = std::slice::from_ref(&listen.admin);
    for (purpose, key, listed, listeners) in [
        (Purpose::Mqtt, "listen.mqtt", &*listen.mqtt, &mut mqtt),
        (Purpose::Https, "listen.https", &*listen.https, &mut https),
        (Purpose::Admin, "listen.admin", admin_listed, &mut admin),
    ] {
        for address in listed {
            // A socket that was passed by name stands for all that is listed, one without for its own address.
            let is_there = bound.iter().any(|(other, named, passed)| {
                *other == purpose && (*named || activation::covers(*passed, address.value))
            });
            if !is_there {
                listeners.push(listen_at(address, key, place).await?);
            }
        }
    }
    let broker = match &listen.broker {
        Some(broker) => Some(listen_at(&broker.address, "listen.broker.address", place).await?),
        None => None,
    };
    let mut admin = admin.into_iter();
    match (admin.next(), admin.next()) {
        (Some(admin), None) => Ok(Listeners { mqtt, https, admin, broker }),
        _ => {
            Err(Failure::usage(anyhow!("the supervisor passed on more than one admin socket; one is enough")))
        }
    }
}

async fn listen_at(address: &Located<SocketAddr>, key: &str, place: &Place) -> Result<TcpListener, Failure> {
    TcpListener::bind(address.value).await.map_err(|why| {
        let advice = match why.kind() {
            std::io::ErrorKind::AddrInUse => "another process listens there: stop it, or choose another port",
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE or a socket from the supervisor: see dist/harbormaster.service"
            }
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            _ => "choose another address",
        };
        place.fault(address.at, key, format!("cannot listen on {}: {why}", address.value), advice)
    })
}

/// Each connection takes a file descriptor. Spec: DPS-SERVE-7.
fn warn_of_descriptors(connections: usize) {
    /// For the store, listeners and standard streams.
    const OTHERS: usize = 100;
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else { return };
    if let Some(open_files) = soft_limit_of_open_files(&limits)
        && connections.saturating_add(OTHERS) > open_files
    {
        tracing::warn!(
            connections,
            open_files,
            "limits.connections needs more file descriptors than the process may open: raise LimitNOFILE= or ulimit -n, or \
             lower the limit"
        );
    }
}

/// Of the text of /proc/self/limits; `None` where there is no limit.
fn soft_limit_of_open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-SERVE-7
    #[test]
    fn the_soft_limit_of_open_files_is_the_first_number() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 1048576              files\n";
        assert_eq!(soft_limit_of_open_files(limits), Some(1_024));
        assert_eq!(soft_limit_of_open_files(&limits.replace("1024 ", "unlimited ")), None);
    }
}
