//! What SIGHUP reads again, judged as it was at the start. Spec: DPS-SERVE-6.

use std::cell::RefCell;
use std::path::PathBuf;

use anyhow::anyhow;
use dps_core::access::ServiceHost;
use dps_server::tls::ServerCertificates;
use jiff::Timestamp;

use super::Configuration;
use super::document::Context;
use super::fault::{Fault, Lines, Located};
use super::names::warn_of_uncovered;
use super::tls::Certificate;

/// The certificates of a configuration, and the names that they should carry.
pub(crate) struct Reload {
    file: PathBuf,
    certificates: Vec<Certificate>,
    service_hosts: Vec<Located<ServiceHost>>,
}

impl Reload {
    /// Of the configuration that `file` holds.
    pub(crate) fn of(file: PathBuf, configuration: &Configuration) -> Self {
        let hosts =
            configuration.instances.iter().flat_map(|instance| instance.service_hosts.iter().cloned());
        let serves_https = !configuration.listen.https.is_empty();
        Self {
            file,
            certificates: configuration.certificates.clone(),
            service_hosts: if serves_https { hosts.collect() } else { Vec::new() },
        }
    }

    /// Exchanges what is served for what the files hold now; gives the warnings. What is served stays where a start would
    /// be refused, and where a new chain has expired and none of the old ones.
    pub(crate) fn read_again(&self, served: &ServerCertificates) -> anyhow::Result<Vec<Fault>> {
        let context = Context {
            file: &self.file,
            // The paths are absolute.
            directory: PathBuf::new(),
            lines: Lines::of(""),
            sections: &[],
            environment: &|name| std::env::var(name).ok(),
            faults: RefCell::default(),
            warnings: RefCell::default(),
        };
        for certificate in &self.certificates {
            certificate.check(&context);
        }
        warn_of_uncovered(&context, &self.service_hosts, &self.certificates);
        let faults = context.faults.into_inner();
        if !faults.is_empty() {
            // One line of the log.
            return Err(anyhow!(faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")));
        }
        let files: Vec<_> = self.certificates.iter().map(Certificate::files).collect();
        served.reload(&files, Timestamp::now())?;
        Ok(context.warnings.into_inner())
    }
}
