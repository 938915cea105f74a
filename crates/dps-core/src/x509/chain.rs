//! The certificates that a device sent. Spec: DPS-X509-2, DPS-X509-11, DPS-X509-20.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;

use super::certificate::{BadCertificate, Certificate};
use super::signature::{self, SignatureFault};

/// Outcomes of signatures that are remembered: more than an honest chain ever has.
const REMEMBERED_MAX: usize = 128;

/// A device's certificates as it sent them, its own first. The device has proved that it has the key of its own; nothing
/// else is known.
#[derive(Debug)]
pub struct PresentedChain {
    certificates: Vec<Certificate>,
    /// What was verified on this connection already: a signature does not change.
    verified: Mutex<HashMap<[u8; 32], Result<(), SignatureFault>>>,
}

/// Why what a device sent is no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    /// There is not even one.
    #[error("there is no certificate in it")]
    Empty,
    /// Too many.
    #[error("it has {0} certificates, more than {max}", max = PresentedChain::CERTIFICATES_MAX)]
    TooMany(usize),
    /// One of them is none.
    #[error("certificate {number} of {count}: {why}")]
    Certificate {
        /// Counted from 1, the device's own.
        number: usize,
        /// How many there are.
        count: usize,
        /// What is wrong.
        #[source]
        why: BadCertificate,
    },
}

impl PresentedChain {
    /// Most certificates of one device.
    pub const CERTIFICATES_MAX: usize = 10;

    /// Reads certificates in DER, the device's own first.
    pub fn read<'d>(certificates: impl IntoIterator<Item = &'d [u8]>) -> Result<Self, BadChain> {
        let ders: Vec<&[u8]> = certificates.into_iter().take(Self::CERTIFICATES_MAX + 1).collect();
        let count = ders.len();
        match count {
            0 => return Err(BadChain::Empty),
            count if count > Self::CERTIFICATES_MAX => return Err(BadChain::TooMany(count)),
            _ => {}
        }
        let read = |(at, der)| {
            Certificate::from_der(der).map_err(|why| BadChain::Certificate { number: at + 1, count, why })
        };
        let certificates = ders.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Self { certificates, verified: Mutex::default() })
    }

    /// The device's own certificate.
    pub fn leaf(&self) -> &Certificate {
        // There is at least one.
        &self.certificates[0]
    }

    /// All of them, the device's own first.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Whether `public_key` signed `certificate`. `budget` is spent where that was not known already, and `None` is the answer
    /// where nothing is left of it.
    pub(super) fn is_signed(
        &self,
        certificate: &Certificate,
        public_key: &[u8],
        budget: &mut u32,
    ) -> Option<Result<(), SignatureFault>> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(certificate.thumbprint().as_bytes());
        context.update(public_key);
        let mut pair = [0; 32];
        pair.copy_from_slice(context.finish().as_ref());
        if let Some(known) = self.verified().get(&pair) {
            return Some(known.clone());
        }
        *budget = budget.checked_sub(1)?;
        let outcome = signature::verify(certificate, public_key);
        let mut verified = self.verified();
        if verified.len() < REMEMBERED_MAX {
            verified.insert(pair, outcome.clone());
        }
        Some(outcome)
    }

    fn verified(&self) -> MutexGuard<'_, HashMap<[u8; 32], Result<(), SignatureFault>>> {
        // An entry is put in one step.
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a device presented, read or not.
pub type Presented = Result<Arc<PresentedChain>, BadChain>;
