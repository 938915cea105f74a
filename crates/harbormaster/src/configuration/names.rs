//! Names that may stand once. Spec: DPS-SERVE-4.

use std::collections::HashMap;
use std::hash::Hash;

use dps_core::access::ServiceHost;
use dps_proto::ids::IdScope;
use dps_server::tls::ServerCertificates;

use super::document::Context;
use super::fault::{Located, Position};
use super::tls::Certificate;

const HOSTS: &str = "instance.service_hosts";

/// By what devices and clients choose an instance.
#[derive(Default)]
pub(super) struct Names {
    pub(super) id_scopes: Vec<Located<IdScope>>,
    pub(super) service_hosts: Vec<Located<ServiceHost>>,
    /// Instances that list no host.
    pub(super) without_hosts: Vec<Position>,
}

impl Names {
    /// Notes what names two instances, and warns of names that no client can use.
    pub(super) fn check(&self, context: &Context<'_>, certificates: &[Certificate], serves_https: bool) {
        self.check_repeated(context);
        if !serves_https {
            return;
        }
        for at in &self.without_hosts {
            let why = "the instance has no host name: nobody can call its service API";
            context.warning(*at, HOSTS, why, "list its host names");
        }
        warn_of_uncovered(context, &self.service_hosts, certificates);
    }

    /// Notes what names two instances.
    pub(super) fn check_repeated(&self, context: &Context<'_>) {
        let scopes = self.id_scopes.iter().map(|scope| (scope.value.folded(), scope));
        let advice = "devices choose the instance by its ID scope: give each one of its own";
        note_repeated(context, "instance.id_scope", scopes, advice);
        let hosts = self.service_hosts.iter().map(|host| (host.value.as_str(), host));
        let advice = "clients choose the instance by its host name: list each name once";
        note_repeated(context, HOSTS, hosts, advice);
    }
}

/// Warns of each service host that no certificate carries, if all of them can be read.
pub(super) fn warn_of_uncovered(
    context: &Context<'_>,
    hosts: &[Located<ServiceHost>],
    certificates: &[Certificate],
) {
    let files: Vec<_> = certificates.iter().map(Certificate::files).collect();
    // What is wrong with a file is noted where each is read.
    let Ok(loaded) = ServerCertificates::load(&files) else { return };
    for host in hosts.iter().filter(|host| !loaded.carry(host.value.as_str())) {
        let why = format!("no certificate carries the name {}: clients will refuse to connect", host.value);
        let advice = "add a [[tls.certificate]] that carries it, or leave the name out";
        context.warning(host.at, HOSTS, why, advice);
    }
}

/// Notes each item whose name was there before.
pub(super) fn note_repeated<'i, K: Eq + Hash, T: ToString + 'i>(
    context: &Context<'_>,
    key: &str,
    items: impl Iterator<Item = (K, &'i Located<T>)>,
    advice: &str,
) {
    let mut seen: HashMap<K, Position> = HashMap::new();
    for (name, item) in items {
        if let Some(first) = seen.get(&name) {
            let why = format!("{} stands in line {} already", item.value.to_string(), first.line);
            context.fault(item.at, key, why, advice);
        } else {
            seen.insert(name, item.at);
        }
    }
}
