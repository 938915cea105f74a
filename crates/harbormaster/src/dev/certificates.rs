//! The CA and the server certificates of `dev`. Spec: DPS-DEV-1, DPS-DEV-2, DPS-DEV-6, DPS-DEV-7.
//!
//! The CA keys stay in the data directory, so that devices may trust `ca.pem` for good; server certificates are issued
//! anew at each start, for the host names of that start.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use dps_server::tls::{CertificateFiles, ServerCertificates, TlsError};
use dps_store::DataDir;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType, date_time_ymd,
};

/// A host name or an address for the server certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Address))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The files of a data directory that TLS needs.
pub(super) struct Certificates {
    directory: PathBuf,
    first_host: String,
    hosts: Vec<Host>,
}

/// The two kinds of key: each has a CA of its own, since a client that cannot verify ECDSA cannot verify such a CA either.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Ecdsa,
    Rsa,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
        }
    }

    fn key(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
    }
}

impl Certificates {
    /// Makes what is missing, and the server certificates.
    pub(super) fn make(data_dir: &DataDir, hosts: &[Host], bind: IpAddr) -> anyhow::Result<Self> {
        let names = names(hosts, bind);
        let mut ca_pem = String::new();
        for kind in [Kind::Ecdsa, Kind::Rsa] {
            let word = kind.word();
            let ca_key = key(data_dir, &format!("ca-{word}.key"), kind)?;
            let ca = ca_params(kind)?;
            let ca_certificate =
                kept(data_dir, &format!("ca-{word}.pem"), || Ok(ca.self_signed(&ca_key)?.pem()))?;
            ca_pem.push_str(&ca_certificate);

            let server_key = key(data_dir, &format!("server-{word}.key"), kind)?;
            let certificate = server_params(&names)?.signed_by(&server_key, &Issuer::new(ca, ca_key))?;
            replace(data_dir, &format!("server-{word}.pem"), &certificate.pem())?;
        }
        replace(data_dir, "ca.pem", &ca_pem)?;
        let first_host = match hosts.first() {
            Some(host) => host.to_string(),
            None if bind.is_unspecified() || bind == Ipv4Addr::LOCALHOST || bind == Ipv6Addr::LOCALHOST => {
                "localhost".to_owned()
            }
            None => bind.to_string(),
        };
        Ok(Self { directory: data_dir.path().to_owned(), first_host, hosts: names })
    }

    /// What devices connect to.
    pub(super) fn first_host(&self) -> &str {
        &self.first_host
    }

    /// Both roots, PEM.
    pub(super) fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    pub(super) fn load(&self) -> Result<Arc<ServerCertificates>, TlsError> {
        self.with_files(ServerCertificates::load)
    }

    /// Exchanges what is served for what the files hold now, whoever put it there; warns of names that are no longer
    /// carried and of keys that others may read.
    pub(super) fn reload(&self, certificates: &ServerCertificates) -> Result<(), TlsError> {
        self.with_files(|files| {
            certificates.reload(files, Timestamp::now())?;
            for key in files.iter().map(|files| files.key) {
                if let Err(why) = dps_store::warn_if_open_to_others(key) {
                    tracing::warn!(file = %key.display(), reason = %why, "the rights to a key file are not known");
                }
            }
            for host in self.hosts.iter().map(Host::to_string).filter(|host| !certificates.carry(host)) {
                tracing::warn!(host, "no certificate carries the name: clients will refuse to connect");
            }
            Ok(())
        })
    }

    /// ECDSA first: RSA is for those who cannot verify it.
    fn with_files<T>(&self, use_files: impl FnOnce(&[CertificateFiles<'_>]) -> T) -> T {
        let path = |name| self.directory.join(name);
        let ecdsa = (path("server-ecdsa.pem"), path("server-ecdsa.key"));
        let rsa = (path("server-rsa.pem"), path("server-rsa.key"));
        use_files(&[
            CertificateFiles { chain: &ecdsa.0, key: &ecdsa.1 },
            CertificateFiles { chain: &rsa.0, key: &rsa.1 },
        ])
    }
}

pub(super) fn key(data_dir: &DataDir, name: &str, kind: Kind) -> anyhow::Result<KeyPair> {
    let pem = kept(data_dir, name, || Ok(kind.key()?.serialize_pem()))?;
    KeyPair::from_pem(&pem).with_context(|| name.to_owned())
}

/// The text of a file; made, and kept for the next start, if there is none.
pub(super) fn kept(
    data_dir: &DataDir,
    name: &str,
    make: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let fresh = if data_dir.file(name)?.exists() { String::new() } else { make()? };
    let bytes = data_dir.secret_file(name, || fresh.into_bytes())?;
    String::from_utf8(bytes.to_vec()).with_context(|| format!("{name} is not text"))
}

fn ca_params(kind: Kind) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name = common_name(&format!("Harbormaster development CA ({})", kind.word()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for_days(&mut params, 3_650);
    Ok(params)
}

/// Loopback, what was asked for, and where it listens.
pub(super) fn names(hosts: &[Host], bind: IpAddr) -> Vec<Host> {
    let mut names = vec![
        Host::Name("localhost".to_owned()),
        Host::Address(Ipv4Addr::LOCALHOST.into()),
        Host::Address(Ipv6Addr::LOCALHOST.into()),
    ];
    let more = hosts.iter().cloned().chain((!bind.is_unspecified()).then_some(Host::Address(bind)));
    for host in more {
        if !names.contains(&host) {
            names.push(host);
        }
    }
    names
}

fn server_params(names: &[Host]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    for host in names {
        params.subject_alt_names.push(match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Host::Address(address) => SanType::IpAddress(*address),
        });
    }
    params.distinguished_name = common_name("Harbormaster development server");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for_days(&mut params, 397);
    Ok(params)
}

pub(super) fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// From yesterday, for devices whose clocks are behind.
pub(super) fn valid_for_days(params: &mut CertificateParams, days: i32) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    // Months and days are positive and below 32.
    let at = |date: Date| {
        date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = at(today.saturating_sub(1.day()));
    params.not_after = at(today.saturating_add(days.days()));
}

/// Writes a file that is made anew at each start. A crash leaves the old one or the new.
pub(super) fn replace(data_dir: &DataDir, name: &str, content: &str) -> anyhow::Result<()> {
    let (path, unfinished) = (data_dir.file(name)?, data_dir.file(&format!(".{name}.unfinished"))?);
    let write = |path: &Path| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(content.as_bytes())
    };
    write(&unfinished)
        .and_then(|()| fs::rename(&unfinished, &path))
        .with_context(|| path.display().to_string())
}
