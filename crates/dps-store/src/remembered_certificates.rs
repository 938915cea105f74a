//! Signing certificates that were read lately: every register by certificate asks for some, few change, and what one says
//! depends on its bytes alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dps_core::x509::{BadCertificate, Certificate};

/// Most that are remembered, of a few KiB each. Beyond it all are forgotten, and read again as they are asked for.
const REMEMBERED_MAX: usize = 1_024;

static REMEMBERED: Mutex<BTreeMap<Box<[u8]>, Arc<Certificate>>> = Mutex::new(BTreeMap::new());

/// As [`Certificate::from_der`], once for the same bytes.
pub(crate) fn read(der: &[u8]) -> Result<Arc<Certificate>, BadCertificate> {
    // What it holds is whole at any time.
    let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(certificate) = remembered.get(der) {
        return Ok(Arc::clone(certificate));
    }
    let certificate = Arc::new(Certificate::from_der(der)?);
    if remembered.len() >= REMEMBERED_MAX {
        remembered.clear();
    }
    remembered.insert(der.into(), Arc::clone(&certificate));
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn each_is_what_its_own_bytes_say_however_many_there_are() {
        let key = KeyPair::generate().unwrap();
        let der = |number: usize| {
            let mut params = CertificateParams::new([]).unwrap();
            params.serial_number = Some((number as u64).into());
            params.self_signed(&key).unwrap().der().to_vec()
        };
        let ders: Vec<_> = (0..REMEMBERED_MAX + 2).map(der).collect();
        for der in ders.iter().chain(&ders) {
            assert_eq!(read(der).unwrap().der(), der);
        }
        assert!(Arc::ptr_eq(&read(&ders[0]).unwrap(), &read(&ders[0]).unwrap()));
        assert!(read(&ders[0][1..]).is_err());
    }
}
