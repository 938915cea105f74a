//! What must hold for any certificates in any company. Spec: DPS-X509-11, DPS-X509-20.
//!
//! Input is a list of certificates: a byte that says where each stands (sent, enrolled, uploaded), two for its length, and as many
//! bytes as that says.

use dps_core::x509::{Anchor, Certificate, ChainRules, PresentedChain, Uploaded, judge_leaf, walk};
use jiff::Timestamp;

/// More enrolled or uploaded certificates than any honest chain has names for.
const CERTIFICATES_MAX: usize = 16;

/// Nothing panics, a judgement is the same the second time, and no path is longer than may be.
pub fn certificate_chain(data: &[u8]) {
    let (mut sent, mut enrolled, mut uploaded) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = data;
    while let [place, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (der, after) = after.split_at(after.len().min(length));
        rest = after;
        match place % 3 {
            0 => sent.push(der),
            1 => enrolled.push(der),
            _ => uploaded.push(der),
        }
    }
    let read = |ders: Vec<&[u8]>| -> Vec<Certificate> {
        let read = ders.into_iter().filter_map(|der| Certificate::from_der(der).ok());
        read.take(CERTIFICATES_MAX).inspect(look_at).collect()
    };
    let (enrolled, uploaded) = (read(enrolled), read(uploaded));
    let judged = || {
        let chain = PresentedChain::read(sent.iter().copied()).map_err(|why| why.to_string())?;
        let anchors: Vec<_> =
            enrolled.iter().map(|certificate| Anchor { certificate, holder: "entry" }).collect();
        let known: Vec<_> = uploaded.iter().map(|certificate| Uploaded { name: "ca", certificate }).collect();
        let (rules, at) = (ChainRules::default(), Timestamp::UNIX_EPOCH);
        let at = at + jiff::SignedDuration::from_secs(1_780_000_000);
        judge_leaf(&chain, false, &rules, at).map_err(|broken| broken.to_string())?;
        let reached = walk(&chain, &anchors, &known, &rules, at).map_err(|broken| {
            assert!(broken.path.len() <= 8, "{}", broken.path.len());
            broken.to_string()
        })?;
        let shown = reached.iter().map(|reached| {
            let path = reached.path();
            assert!(path.len() <= 8, "{}", path.len());
            format!("{path:?} {:?}", reached.unfit)
        });
        Ok::<Vec<String>, String>(shown.collect())
    };
    assert_eq!(judged(), judged());
}

/// Everything that is shown of a certificate.
fn look_at(certificate: &Certificate) {
    let _ = (certificate.common_name(), certificate.subject_text(), certificate.issuer_text());
    let _ = (certificate.key_kind(), certificate.sha1_thumbprint(), certificate.serial_number());
    assert_eq!(certificate.thumbprint().to_string().len(), 64);
}
