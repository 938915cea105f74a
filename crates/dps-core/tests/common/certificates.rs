//! Certificate authorities and devices' certificates for tests, good from 2020 to 2060 unless said otherwise.

use std::sync::Arc;

use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::ports::SearchTurn;
use dps_core::x509::{Certificate, PresentedChain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::entries::SCOPE;

/// A CA with its key.
pub(crate) struct Authority {
    pub(crate) certificate: Arc<Certificate>,
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    /// One that signed itself.
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (ca_params(name), key());
        let certificate = read(&params.self_signed(&key).unwrap());
        Self { certificate, params, key }
    }

    /// One below this.
    pub(crate) fn authority(&self, name: &str) -> Self {
        self.authority_with(name, |_| {})
    }

    pub(crate) fn authority_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (ca_params(name), key());
        change(&mut params);
        let certificate = read(&params.signed_by(&key, &self.issuer()).unwrap());
        Self { certificate, params, key }
    }

    /// This CA's name and key again, certified by `other`: a cross-signed certificate.
    pub(crate) fn certified_by(&self, other: &Self) -> Arc<Certificate> {
        read(&self.params.signed_by(&self.key, &other.issuer()).unwrap())
    }

    /// A device's certificate.
    pub(crate) fn device(&self, common_name: &str) -> Arc<Certificate> {
        self.device_with(common_name, |_| {})
    }

    pub(crate) fn device_with(
        &self,
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Arc<Certificate> {
        let mut params = device_params(common_name);
        change(&mut params);
        read(&params.signed_by(&key(), &self.issuer()).unwrap())
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// A device's certificate that it signed itself.
pub(crate) fn self_signed(common_name: &str) -> Arc<Certificate> {
    self_signed_with(common_name, |_| {})
}

pub(crate) fn self_signed_with(
    common_name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Arc<Certificate> {
    let mut params = device_params(common_name);
    change(&mut params);
    read(&params.self_signed(&key()).unwrap())
}

/// A device with this chain, its own certificate first, and no password.
pub(crate) fn presenting(id: &str, chain: &[&Arc<Certificate>]) -> DeviceClaim {
    let chain = PresentedChain::read(chain.iter().map(|certificate| certificate.der())).unwrap();
    DeviceClaim {
        id_scope: SCOPE.parse().unwrap(),
        registration_id: id.parse().unwrap(),
        credential: Credential { certificates: Some(Ok(Arc::new(chain))), ..Credential::default() },
        search_turn: SearchTurn::InOrder,
        predates_reprovisioning: false,
        address: None,
    }
}

pub(crate) fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = device_params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

pub(crate) fn device_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2060, 1, 1));
    params
}

fn read(certificate: &rcgen::Certificate) -> Arc<Certificate> {
    Arc::new(Certificate::from_der(certificate.der()).unwrap())
}
