//! `harbormaster dev`: a service ready for devices, with no configuration. Spec: DPS-DEV-1 to DPS-DEV-5, DPS-DEV-12 (docs/spec/dev.md).
//!
//! [`run`] prepares data directory, certificates, store, enrollments, instance and hub; [`Service::run`] does the rest.

mod announce;
mod certificates;
mod enrollments;
mod host_name;
mod instance;
mod ports;
mod sample_device;

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use dps_core::access::{ServiceHost, SharedAccessPolicy};
use dps_core::broker::BrokerRules;
use dps_core::instance_settings::InstanceSettings;
use dps_core::ports::Store;
use dps_hub::HubKinds;
use dps_hub::outbound::{AllowedTargets, Trust};
use dps_proto::ids::IdScope;
use dps_proto::key::SymmetricKey;
use dps_server::admin;
use dps_server::limits::Limits;
use dps_server::proxy_protocol::Balancers;
use dps_server::tls;
use dps_store::{DataDir, DataDirError, Sealer, SealingKey, SqliteOptions, SqliteStore, Synchronous};
use tokio::net::TcpListener;

use crate::argument;
use crate::exit::Failure;
use crate::key_option::KeyOption;
use crate::logging::{self, Format, Level};
use crate::running_dev;
use crate::service::{self, BrokerSettings, Listeners, Service, admin_token, random};
use crate::store_place::{DEV_SEALING_KEY, STORE_FILE};
use certificates::{Certificates, Host};
use sample_device::SampleDevice;

#[derive(Args)]
#[command(after_help = logging::HELP)]
pub(crate) struct Options {
    /// Keep everything in this directory and find it again at the next start [default: a temporary one, gone at exit].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDR", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_parser = argument::address)]
    bind: IpAddr,
    /// Another name or address for the server certificate; devices are told the first. May be repeated.
    #[arg(long = "host", value_name = "NAME|IP")]
    hosts: Vec<Host>,
    /// Port for MQTT over TLS; 0 picks a free one [default: 8883].
    #[arg(long, value_name = "PORT", value_parser = argument::port)]
    mqtt_port: Option<u16>,
    /// Port for the service API over HTTPS; 0 picks a free one [default: 443].
    #[arg(long, value_name = "PORT", value_parser = argument::port)]
    https_port: Option<u16>,
    /// Port for the admin listener; 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0, value_parser = argument::port)]
    admin_port: u16,
    /// Port where a broker that is the hub asks who its devices are, on loopback; 0 picks a free one [default: none].
    #[arg(long, value_name = "PORT", value_parser = argument::port)]
    broker_port: Option<u16>,
    /// ID scope of the service instance [default: the one kept in the data directory, else a new one].
    #[arg(long, value_name = "ID")]
    id_scope: Option<IdScope>,
    /// Primary key of the sample group "dev-group", Base64, for firmware that has it burnt in.
    #[arg(long, value_name = "KEY", env = "HARBORMASTER_DEV_GROUP_KEY", hide_env_values = true, value_parser = KeyOption)]
    group_key: Option<SymmetricKey>,
    /// JSON array of individual enrollments and enrollment groups, in the shapes of the service API.
    #[arg(long, value_name = "FILE")]
    enrollments: Option<PathBuf>,
    /// What to print on standard output once every port accepts.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// How the log looks, which goes to standard error.
    #[arg(long, value_enum, value_name = "FORMAT", env = "HARBORMASTER_LOG_FORMAT", default_value_t = Format::Text)]
    log_format: Format,
    /// Do not wait for the disk: a crash of the machine may lose what devices were told. The durability check uses it to
    /// show that it can fail.
    #[arg(long, hide = true)]
    unsafe_no_sync: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// How to provision a device, for people.
    Text,
    /// One line of JSON, for programs.
    Json,
}

pub(crate) fn run(options: Options) -> Result<ExitCode, Failure> {
    logging::start(options.log_format, Level::Info)?;
    service::runtime()?.block_on(serve(options))
}

async fn serve(options: Options) -> Result<ExitCode, Failure> {
    let enrollment_file =
        options.enrollments.as_deref().map(enrollments::File::read).transpose().map_err(Failure::usage)?;
    // Judged before anything is made.
    let hosts = certificates::names(&options.hosts, options.bind);
    let mut service_hosts = Vec::new();
    for host in hosts.iter().map(service_host) {
        let host = host?;
        if !service_hosts.contains(&host) {
            service_hosts.push(host);
        }
    }
    ports::judge(options.bind).await?;

    // The temporary directory outlives everything in it and is removed on every way out of this function.
    let temporary = match options.data_dir {
        Some(_) => None,
        None => Some(temporary_directory().context("a temporary directory")?),
    };
    let path = options.data_dir.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()));
    // Those who are told of files in it may be in another directory.
    let path = std::path::absolute(path.unwrap_or_default()).map_err(Failure::usage)?;
    let data_dir = DataDir::open(path).map_err(|why| {
        let advice = match why {
            DataDirError::Io { .. } => "; name a directory that this user may make, and write to",
            DataDirError::InUse { .. } | DataDirError::BadName(_) => "",
        };
        Failure::usage(anyhow!("--data-dir: {why}{advice}"))
    })?;
    let certificates = Certificates::make(&data_dir, &options.hosts, options.bind)
        .context("the certificates could not be made")?;
    let server_certificates = certificates.load()?;
    let tls = tls::server_config(Arc::clone(&server_certificates))?;
    let admin_token = data_dir.secret_file("admin-token", admin_token)?;
    let admin_token = String::from_utf8(admin_token.to_vec()).context("admin-token is not text")?;

    let store: Arc<dyn Store> = Arc::new(open_store(&data_dir, options.unsafe_no_sync)?);
    admin::sweep_at_start(&*store).await?;
    let InstanceSettings { id_scope, linked_hubs, shared_access_policies, .. } =
        instance::prepare(&*store, options.id_scope.clone(), &service_hosts).await?;
    let owner = shared_access_policies.into_iter().find(SharedAccessPolicy::is_owner);
    let owner = owner.context("the service instance has no owner")?;
    let device =
        SampleDevice::make(&data_dir).context("the sample device's certificate could not be made")?;
    let (group_key, file) = (options.group_key.clone(), enrollment_file.as_ref());
    let groups = enrollments::prepare(&*store, &id_scope, group_key, &device, file).await?;

    let mqtt = ports::MQTT.bind(options.bind, options.mqtt_port).await?;
    let https = ports::HTTPS.bind(options.bind, options.https_port).await?;
    let admin_listener = ports::admin(options.admin_port).await?;
    let broker = match options.broker_port {
        Some(port) => Some(ports::broker(port).await?),
        None => None,
    };
    let bind = options.bind;
    let hosts_line = match options.output {
        Output::Text => warned(host_name::missing_line(certificates.first_host(), bind).await),
        Output::Json => {
            // A program does not wait for it.
            let host = certificates.first_host().to_owned();
            tokio::spawn(async move { warned(host_name::missing_line(&host, bind).await) });
            None
        }
    };
    let ready = announce::Ready {
        hosts_line,
        id_scope,
        host: certificates.first_host().to_owned(),
        mqtt: mqtt.local_addr()?,
        https: https.local_addr()?,
        owner,
        admin: admin_listener.local_addr()?,
        broker: broker.as_ref().map(TcpListener::local_addr).transpose()?,
        admin_token_file: data_dir.path().join("admin-token"),
        ca_file: certificates.ca_file(),
        groups,
        device,
        linked_hubs: linked_hubs.into_iter().map(|hub| hub.name).collect(),
    };

    // Spec: DPS-DEV-16. The author of a webhook tries it on this very machine.
    let allowed = AllowedTargets::parse(["public", "127.0.0.0/8", "::1"])?;
    let outbound = service::outbound(allowed, &Trust::SystemAnd(certificates.ca_file()))?;
    let hubs = HubKinds::new(broker.is_some(), outbound.clone());
    let service = Service {
        instances: service::instances(Vec::new(), &*store, &hubs).await?,
        store,
        // Spec: DPS-LIMIT-7, DPS-LIMIT-8. Whoever tries things out fails often.
        limits: Limits {
            failed_attestations_per_minute: None,
            guesses_per_minute: None,
            ..Limits::default()
        },
        balancers: Balancers::default(),
        tls,
        certificates: Arc::clone(&server_certificates),
        outbound,
        admin_token,
        hubs,
        // Whoever tries things out has devices with certificates too. Spec: DPS-BROKER-15.
        broker: BrokerSettings {
            rules: BrokerRules { root_hub: None, trusts_certificates: true },
            tls: None,
        },
    };
    // Taken back when this function ends.
    let mut announcement = None;
    let announce = || {
        match running_dev::announce(&ready.contract()) {
            Ok(announced) => announcement = Some(announced),
            Err(why) => {
                tracing::warn!(reason = %why, "other commands will not find this service by themselves")
            }
        }
        match options.output {
            Output::Json => ready.print_json(),
            Output::Text => ready.print_guide(),
        }
        .context("standard output")
    };
    let reload = async || match certificates.reload(&server_certificates) {
        Ok(()) => tracing::info!("certificates read again"),
        Err(why) => {
            tracing::error!(reason = %why, "the certificates could not be read again; the old ones stay")
        }
    };
    let ended = service
        .run(
            Listeners { mqtt: vec![mqtt], https: vec![https], admin: admin_listener, broker },
            announce,
            reload,
        )
        .await;
    drop(announcement);
    ended
}

/// Spec: DPS-DEV-12.
fn warned(hosts_line: Option<String>) -> Option<String> {
    if let Some(hosts_line) = &hosts_line {
        tracing::warn!(
            hosts_line,
            "this machine does not find the host name here: add the line to /etc/hosts"
        );
    }
    hosts_line
}

/// Spec: DPS-STORE-8: it holds secrets, and lies where others may look.
fn temporary_directory() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("harbormaster-").permissions(Permissions::from_mode(0o700)).tempdir()
}

fn open_store(data_dir: &DataDir, unsafe_no_sync: bool) -> anyhow::Result<SqliteStore> {
    let sealing_key = data_dir.secret_file(DEV_SEALING_KEY, || random::<32>().to_vec())?;
    let sealing_key = SealingKey::try_from(&sealing_key[..]).context(DEV_SEALING_KEY)?;
    let mut options = SqliteOptions::default();
    if unsafe_no_sync {
        tracing::warn!("--unsafe-no-sync: a crash of the machine may lose what devices were told");
        options.synchronous = Synchronous::Off;
    }
    let file = data_dir.file(STORE_FILE)?;
    SqliteStore::open(&file, options, Sealer::new(&sealing_key)).with_context(|| file.display().to_string())
}

fn service_host(host: &Host) -> Result<ServiceHost, Failure> {
    let text = host.to_string();
    text.parse()
        .map_err(|why| Failure::usage(anyhow!("--host {text}: {why}; give a host name or an address")))
}
