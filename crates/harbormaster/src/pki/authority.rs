//! `pki init`: a root CA, and an issuing CA below it. Spec: DPS-CLI-18.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Args;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::KeyType;
use crate::exit::Failure;
use crate::invocation;
use crate::new_file;

/// Days for which a root CA is valid.
const ROOT_DAYS: u32 = 20 * 365;

/// Days for which an issuing CA is valid.
const ISSUING_DAYS: u32 = 10 * 365;

#[derive(Args)]
pub(crate) struct Options {
    /// Directory for certificates and keys.
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
    /// What the CAs are called: "NAME root CA" and "NAME issuing CA".
    #[arg(long, default_value = "Harbormaster")]
    name: String,
    /// Kind of the CAs' keys.
    #[arg(long, value_enum, default_value_t = KeyType::P256)]
    key_type: KeyType,
}

/// Which of the two CAs.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Which {
    /// The root CA.
    Root,
    /// The issuing CA.
    Issuing,
}

impl Which {
    fn stem(self) -> &'static str {
        match self {
            Self::Root => "root-ca",
            Self::Issuing => "issuing-ca",
        }
    }

    pub(super) fn certificate_file(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.pem", self.stem()))
    }

    fn key_file(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.key", self.stem()))
    }
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    let Options { dir, name, key_type } = options;
    if name.trim().is_empty() || name.len() > 48 {
        return Err(Failure::usage(anyhow!("--name: 1 to 48 bytes")));
    }
    new_file::directory(&dir)?;
    for which in [Which::Root, Which::Issuing] {
        new_file::must_be_absent(&which.certificate_file(&dir))?;
        new_file::must_be_absent(&which.key_file(&dir))?;
    }
    let (root, root_key) = (params(&format!("{name} root CA"), 1, ROOT_DAYS)?, key_type.generate()?);
    let (issuing, issuing_key) =
        (params(&format!("{name} issuing CA"), 0, ISSUING_DAYS)?, key_type.generate()?);
    let root_pem = root.self_signed(&root_key)?.pem();
    let issuing_pem = issuing.signed_by(&issuing_key, &Issuer::from_params(&root, &root_key))?.pem();
    for (which, key, pem) in
        [(Which::Root, &root_key, &root_pem), (Which::Issuing, &issuing_key, &issuing_pem)]
    {
        new_file::write_secret(&which.key_file(&dir), &key.serialize_pem())?;
        new_file::write_public(&which.certificate_file(&dir), pem)?;
    }
    let (program, certificate) = (invocation::command(), Which::Issuing.certificate_file(&dir));
    writeln!(
        std::io::stdout(),
        "root CA      {}\nissuing CA   {}\n\nEnroll its devices, then issue to them:\n\n{program} enrollment-group create \
         plant --certificate {}\n{program} pki issue my-device --dir {}",
        Which::Root.certificate_file(&dir).display(),
        certificate.display(),
        invocation::quoted(&certificate.display().to_string()),
        invocation::quoted(&dir.display().to_string()),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A CA with its key, to sign with.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads what `pki init` made.
    pub(super) fn read(which: Which, dir: &Path) -> anyhow::Result<Self> {
        let read = |path: PathBuf| {
            std::fs::read_to_string(&path).with_context(|| format!("{}: `pki init` makes it", path.display()))
        };
        let pem = read(which.certificate_file(dir))?;
        let key = KeyPair::from_pem(&read(which.key_file(dir))?)
            .map_err(|_| anyhow!("{}: there is no private key in it", which.key_file(dir).display()))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .with_context(|| which.certificate_file(dir).display().to_string())?;
        Ok(Self { pem, issuer })
    }

    pub(super) fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<String, rcgen::Error> {
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

/// A CA that allows so many others below it.
fn params(name: &str, below: u8, days: u32) -> anyhow::Result<CertificateParams> {
    let mut params = named(name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, days)?;
    Ok(params)
}

/// Named so, and nothing else.
pub(super) fn named(common_name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// From yesterday, for devices and services whose clocks are behind.
pub(super) fn valid_for(params: &mut CertificateParams, days: u32) -> anyhow::Result<()> {
    let day = |offset: i64| -> anyhow::Result<_> {
        let at = Timestamp::now()
            .checked_add(jiff::SignedDuration::from_hours(24 * offset))
            .context("--days is out of range")?;
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        Ok(date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs()))
    };
    (params.not_before, params.not_after) = (day(-1)?, day(i64::from(days) + 1)?);
    Ok(())
}
