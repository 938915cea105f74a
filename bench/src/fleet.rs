//! Which devices there are, and what they prove themselves with. Entries and devices are numbered, and every key follows
//! from its number, so that the filled store and the drivers agree without a file between them.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use dps_proto::ids::{EnrollmentGroupId, IdScope, RegistrationId};
use dps_proto::key::{KeyPair as SymmetricKeys, SymmetricKey};
use dps_proto::mqtt::{DeviceLogin, Password};
use dps_proto::sas::sign_device_token;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// Keys of entries are derived from it. No secret: it opens nothing but stores of this program.
const SEED: [u8; 32] = *b"harbormaster bench, no secret...";

/// A prime that divides no number of entries in use: it scatters consecutive devices over all entries, each once.
const STRIDE: u64 = 7_919;

/// How long a token of the drivers is good.
const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(6);

/// The devices of a run, by what enrolls them: `group:KEY`, `certificates:DATA_DIR`, `open-groups:N`, `prefixed-groups:N` or
/// `individual:N`.
#[derive(Clone)]
pub(crate) enum Fleet {
    /// All of one group, with this key.
    Group(SymmetricKey),
    /// All of the sample group of `dev` whose devices have certificates.
    Certificates(Arc<DeviceCa>),
    /// Spread over so many groups without a prefix.
    OpenGroups(u64),
    /// Spread over so many groups, each with a prefix of its own.
    PrefixedGroups(u64),
    /// Each with an individual enrollment, of so many.
    Individual(u64),
}

impl FromStr for Fleet {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (kind, value) = text.split_once(':').context("a fleet is KIND:VALUE")?;
        let count = || {
            let count = value.parse::<u64>().ok().filter(|count| *count > 0);
            count.context("the number of entries must be a whole one above 0")
        };
        Ok(match kind {
            "group" => Self::Group(value.parse()?),
            "certificates" => Self::Certificates(Arc::new(DeviceCa::read(Path::new(value))?)),
            "open-groups" => Self::OpenGroups(count()?),
            "prefixed-groups" => Self::PrefixedGroups(count()?),
            "individual" => Self::Individual(count()?),
            _ => bail!("there is no fleet of {kind:?}"),
        })
    }
}

impl Fleet {
    /// The registration id of a device.
    pub(crate) fn registration_id(&self, number: u64) -> anyhow::Result<RegistrationId> {
        Ok(match self {
            Self::Group(_) | Self::Certificates(_) | Self::OpenGroups(_) => {
                format!("device-{number:08}").parse()?
            }
            Self::PrefixedGroups(count) => {
                let prefix = group_prefix(scattered(number, *count));
                format!("{prefix}{number:08}").parse()?
            }
            Self::Individual(count) => individual_id(scattered(number, *count))?,
        })
    }

    /// What a device connects with.
    pub(crate) fn credentials(&self, scope: &IdScope, number: u64) -> anyhow::Result<Credentials> {
        let id = self.registration_id(number)?;
        let key = match self {
            Self::Certificates(ca) => {
                let identity = Some(ca.issue(&id)?);
                return Ok(Credentials { login: unsigned(scope, id)?, identity });
            }
            Self::Group(key) => key.derive(id.as_str()),
            Self::OpenGroups(count) | Self::PrefixedGroups(count) => {
                group_keys(scattered(number, *count))?.primary.derive(id.as_str())
            }
            Self::Individual(count) => individual_keys(scattered(number, *count))?.primary,
        };
        Ok(Credentials { login: login(scope, id, &key)?, identity: None })
    }
}

/// What a device says and shows.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) login: DeviceLogin,
    /// Its certificate and key, where it has any.
    pub(crate) identity: Option<Arc<CertifiedKey>>,
}

/// The CA of the sample group of `dev`, by which every device of a run gets a certificate. They share one key: who signs with it
/// is the driver, which is not measured.
pub(crate) struct DeviceCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
}

impl DeviceCa {
    fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| std::fs::read_to_string(data_dir.join(name)).with_context(|| name.to_owned());
        let pem = read("device-ca.pem")?;
        let issuer = Issuer::from_ca_cert_pem(&pem, KeyPair::from_pem(&read("device-ca.key")?)?)?;
        let key = KeyPair::generate()?;
        let signing = any_supported_type(&PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
        Ok(Self { issuer, certificate: CertificateDer::from_pem_slice(pem.as_bytes())?, key, signing })
    }

    /// The device's certificate and that of the CA, as devices send them.
    fn issue(&self, id: &RegistrationId) -> anyhow::Result<Arc<CertifiedKey>> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, id.as_str());
        let own = params.signed_by(&self.key, &self.issuer)?.der().clone();
        let chain = vec![own, self.certificate.clone()];
        Ok(Arc::new(CertifiedKey::new(chain, Arc::clone(&self.signing))))
    }
}

/// A device that signs with `key`.
pub(crate) fn login(scope: &IdScope, id: RegistrationId, key: &SymmetricKey) -> anyhow::Result<DeviceLogin> {
    let token = sign_device_token(scope, &id, key, Timestamp::now() + TOKEN_LIFETIME);
    Ok(DeviceLogin { password: Some(Password::new(token)), ..unsigned(scope, id)? })
}

/// A device without a password.
fn unsigned(scope: &IdScope, id: RegistrationId) -> anyhow::Result<DeviceLogin> {
    Ok(DeviceLogin {
        id_scope: scope.clone(),
        registration_id: id,
        api_version: "2019-03-31".parse()?,
        client_version: "harbormaster-bench".to_owned(),
        password: None,
    })
}

/// A key that no entry has.
pub(crate) fn strange_key() -> anyhow::Result<SymmetricKey> {
    Ok(SymmetricKey::from_bytes(SEED.to_vec())?.derive("stranger"))
}

pub(crate) fn group_id(number: u64) -> anyhow::Result<EnrollmentGroupId> {
    Ok(format!("group-{number:06}").parse()?)
}

pub(crate) fn group_prefix(number: u64) -> String {
    format!("line-{number:06}-")
}

pub(crate) fn group_keys(number: u64) -> anyhow::Result<SymmetricKeys> {
    keys(&format!("group/{number}"))
}

pub(crate) fn individual_id(number: u64) -> anyhow::Result<RegistrationId> {
    Ok(format!("meter-{number:08}").parse()?)
}

pub(crate) fn individual_keys(number: u64) -> anyhow::Result<SymmetricKeys> {
    keys(&format!("individual/{number}"))
}

fn keys(name: &str) -> anyhow::Result<SymmetricKeys> {
    let seed = SymmetricKey::from_bytes(SEED.to_vec())?;
    let key = |which: &str| seed.derive(&format!("{name}/{which}"));
    Ok(SymmetricKeys { primary: key("primary"), secondary: key("secondary") })
}

fn scattered(number: u64, count: u64) -> u64 {
    number.wrapping_mul(STRIDE) % count
}
