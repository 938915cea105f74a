//! The sample group whose devices have certificates, and one such device, ready to use. Spec: DPS-DEV-13.
//!
//! The CA stays in the data directory; the device's certificate is issued anew at each start, over the same key.

use std::path::PathBuf;
use std::sync::Arc;

use dps_core::enrollment::{CertificatePair, GroupAttestation, Signers};
use dps_core::x509::Certificate;
use dps_store::DataDir;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose};

use super::certificates::{Kind, common_name, kept, key, replace, valid_for_days};

/// The group.
pub(super) const GROUP: &str = "dev-x509-group";

/// The device.
pub(super) const DEVICE: &str = "my-x509-device";

/// Where the device's certificate and key lie.
pub(super) struct SampleDevice {
    /// The certificate, then that of the CA: as a device sends them.
    pub(super) certificate_file: PathBuf,
    pub(super) key_file: PathBuf,
    signer: Arc<Certificate>,
}

impl SampleDevice {
    /// Makes what is missing, and the device's certificate.
    pub(super) fn make(data_dir: &DataDir) -> anyhow::Result<Self> {
        let ca_key = key(data_dir, "device-ca.key", Kind::Ecdsa)?;
        let ca = ca_params()?;
        let ca_pem = kept(data_dir, "device-ca.pem", || Ok(ca.self_signed(&ca_key)?.pem()))?;
        let signer: Certificate = ca_pem.parse()?;
        let device_key = key(data_dir, "device.key", Kind::Ecdsa)?;
        let device = device_params()?.signed_by(&device_key, &Issuer::new(ca, ca_key))?;
        replace(data_dir, "device.pem", &(device.pem() + &ca_pem))?;
        Ok(Self {
            certificate_file: data_dir.file("device.pem")?,
            key_file: data_dir.file("device.key")?,
            signer: Arc::new(signer),
        })
    }

    /// What the group asks of its devices.
    pub(super) fn attestation(&self) -> GroupAttestation {
        let primary = Arc::clone(&self.signer);
        GroupAttestation::Signers(Signers::Certificates(CertificatePair { primary, secondary: None }))
    }
}

fn ca_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name = common_name("Harbormaster development CA for devices");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for_days(&mut params, 3_650);
    Ok(params)
}

fn device_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name = common_name(DEVICE);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for_days(&mut params, 397);
    Ok(params)
}
