//! `pki issue`: certificates of devices, in the order in which devices send them, and proofs of possession. Spec: DPS-CLI-18.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use dps_proto::ids::RegistrationId;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use super::KeyType;
use super::authority::{Authority, Which, named, valid_for};
use crate::exit::Failure;
use crate::new_file;

/// Longest common name that X.509 allows (ub-common-name of RFC 5280).
const COMMON_NAME_CHARACTERS_MAX: usize = 64;

#[derive(Args)]
pub(crate) struct Options {
    /// The devices: each gets ID.pem, its certificate and then that of the issuing CA, and ID.key.
    #[arg(value_name = "REGISTRATION_ID", required_unless_present = "verification_code")]
    registration_ids: Vec<RegistrationId>,
    /// Directory of `pki init`, for the new files as well.
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
    /// Days for which the certificates are valid.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Kind of the devices' keys.
    #[arg(long, value_enum, default_value_t = KeyType::P256)]
    key_type: KeyType,
    /// The devices sign their certificates themselves: for individual enrollments.
    #[arg(long, conflicts_with = "verification_code")]
    self_signed: bool,
    /// Instead of devices: the proof that the CA's key is yours, proof.pem. `certificate verification-code` gives the code.
    #[arg(long, value_name = "CODE", conflicts_with = "registration_ids")]
    verification_code: Option<String>,
    /// Which CA proves itself.
    #[arg(long, value_enum, default_value_t = Which::Root, requires = "verification_code")]
    signer: Which,
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    let Options { registration_ids, dir, days, key_type, self_signed, verification_code, signer } = options;
    let mut out = std::io::stdout().lock();
    if let Some(code) = verification_code {
        if code.is_empty() || code.len() > COMMON_NAME_CHARACTERS_MAX {
            return Err(Failure::usage(anyhow!("--verification-code: it is no code of a service")));
        }
        let authority = Authority::read(signer, &dir).map_err(Failure::usage)?;
        let mut params = named(&code)?;
        valid_for(&mut params, 30)?;
        let file = dir.join("proof.pem");
        new_file::write_public(&file, &authority.sign(&params, &key_type.generate()?)?)?;
        writeln!(out, "{}", file.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    for id in &registration_ids {
        check_name(id).map_err(Failure::usage)?;
    }
    let authority = (!self_signed).then(|| Authority::read(Which::Issuing, &dir)).transpose();
    let authority = authority.map_err(Failure::usage)?;
    new_file::directory(&dir)?;
    for id in &registration_ids {
        let (chain, key) = issue(id, &dir, days, key_type, authority.as_ref())?;
        writeln!(out, "{id}   {}   {}", chain.display(), key.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check_name(id: &RegistrationId) -> anyhow::Result<()> {
    let length = id.as_str().len();
    if length > COMMON_NAME_CHARACTERS_MAX {
        bail!(
            "{id}: {length} characters do not fit into the common name of a certificate, which has {COMMON_NAME_CHARACTERS_MAX}"
        );
    }
    Ok(())
}

fn issue(
    id: &RegistrationId,
    dir: &Path,
    days: u32,
    key_type: KeyType,
    authority: Option<&Authority>,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (chain_file, key_path) = (dir.join(format!("{id}.pem")), dir.join(format!("{id}.key")));
    new_file::must_be_absent(&chain_file)?;
    let key = key_type.generate().context("a key")?;
    let mut params = device(id)?;
    valid_for(&mut params, days)?;
    let chain = match authority {
        Some(authority) => authority.sign(&params, &key)? + &authority.pem,
        None => {
            // There is no other certificate whose key it could name.
            params.use_authority_key_identifier_extension = false;
            params.self_signed(&key)?.pem()
        }
    };
    new_file::write_secret(&key_path, &key.serialize_pem())?;
    new_file::write_public(&chain_file, &chain)?;
    Ok((chain_file, key_path))
}

fn device(id: &RegistrationId) -> anyhow::Result<CertificateParams> {
    let mut params = named(id.as_str())?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}
