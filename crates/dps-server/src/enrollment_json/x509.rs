//! X.509 attestation in the service API's JSON shapes. Spec: DPS-X509-26 to DPS-X509-29.

use std::sync::Arc;

use dps_core::enrollment::{
    Attestation, CaReferences, CertificatePair, EnrollmentGroup, GroupAttestation, IndividualEnrollment,
    Signers,
};
use dps_core::x509::{Certificate, NoCertificate};
use dps_proto::date;
use serde_json::{Map, Value, json};

use super::EnrollmentEntry;
use crate::json_members::{BadMember, Members};

/// What may stand in `x509`, of which one does.
const CONTAINERS: [&str; 3] = [CLIENT, SIGNING, REFERENCES];
const CLIENT: &str = "clientCertificates";
const SIGNING: &str = "signingCertificates";
const REFERENCES: &str = "caReferences";

/// What an entry's `x509` says.
pub(super) enum X509 {
    Client(CertificatePair),
    Signers(Signers),
}

/// Reads the member `x509`; a certificate that has `info` alone is that of `kept`.
pub(super) fn read(attestation: &Members<'_>, kept: Option<&EnrollmentEntry>) -> Result<X509, BadMember> {
    let x509 = attestation.object("x509")?.ok_or_else(|| attestation.missing("x509"))?;
    let mut given = CONTAINERS.into_iter().filter(|name| x509.present(name).is_some());
    let Some(container) = given.next() else {
        return Err(
            attestation.wrong("x509", "needs one of clientCertificates, signingCertificates, caReferences")
        );
    };
    if let Some(other) = given.next() {
        return Err(x509.wrong(other, format!("must not stand beside {container}")));
    }
    let members = x509.object(container)?.ok_or_else(|| x509.missing(container))?;
    match container {
        REFERENCES => {
            let primary = members.required("primary")?;
            Ok(X509::Signers(Signers::CaReferences(CaReferences {
                primary,
                secondary: members.parsed("secondary")?,
            })))
        }
        _ => {
            let kept = kept.and_then(|kept| pair_of(kept, container));
            let primary = slot(&members, "primary", kept.map(|pair| &pair.primary))?;
            let pair = CertificatePair {
                primary: primary.ok_or_else(|| members.missing("primary"))?,
                secondary: slot(&members, "secondary", kept.and_then(|pair| pair.secondary.as_ref()))?,
            };
            let is_client = container == CLIENT;
            Ok(if is_client { X509::Client(pair) } else { X509::Signers(Signers::Certificates(pair)) })
        }
    }
}

/// Spec: DPS-X509-28.
fn slot(
    members: &Members<'_>,
    name: &str,
    kept: Option<&Arc<Certificate>>,
) -> Result<Option<Arc<Certificate>>, BadMember> {
    let Some(holder) = members.object(name)? else { return Ok(None) };
    match (holder.text("certificate")?.filter(|text| !text.is_empty()), kept) {
        (Some(text), _) => {
            let read =
                text.parse().map_err(|why: NoCertificate| holder.wrong("certificate", why.to_string()))?;
            Ok(Some(Arc::new(read)))
        }
        (None, Some(kept)) if holder.present("info").is_some() => Ok(Some(Arc::clone(kept))),
        (None, _) => Err(holder.missing("certificate")),
    }
}

fn pair_of<'e>(entry: &'e EnrollmentEntry, container: &str) -> Option<&'e CertificatePair> {
    match (entry, container) {
        (
            EnrollmentEntry::Individual(IndividualEnrollment {
                attestation: Attestation::ClientCertificates(pair),
                ..
            }),
            CLIENT,
        )
        | (
            EnrollmentEntry::Individual(IndividualEnrollment {
                attestation: Attestation::Signers(Signers::Certificates(pair)),
                ..
            })
            | EnrollmentEntry::Group(EnrollmentGroup {
                attestation: GroupAttestation::Signers(Signers::Certificates(pair)),
                ..
            }),
            SIGNING,
        ) => Some(pair),
        _ => None,
    }
}

/// Spec: DPS-X509-27, DPS-X509-29.
pub(super) fn client(pair: &CertificatePair) -> Value {
    attestation(CLIENT, certificates(pair))
}

/// Spec: DPS-X509-27, DPS-X509-29.
pub(super) fn signers(signers: &Signers) -> Value {
    match signers {
        Signers::Certificates(pair) => attestation(SIGNING, certificates(pair)),
        Signers::CaReferences(names) => {
            let secondary = names.secondary.as_ref().map(|name| json!(name.as_str()));
            attestation(REFERENCES, both(json!(names.primary.as_str()), secondary))
        }
    }
}

fn attestation(container: &str, content: Value) -> Value {
    json!({"type": "x509", "x509": {container: content}})
}

fn certificates(pair: &CertificatePair) -> Value {
    let shown = |certificate: &Certificate| json!({"info": info(certificate)});
    both(shown(&pair.primary), pair.secondary.as_deref().map(shown))
}

/// A missing secondary is left out: clients take a null for an error, or for one that is there.
fn both(primary: Value, secondary: Option<Value>) -> Value {
    let mut members = Map::from_iter([("primary".to_owned(), primary)]);
    members.extend(secondary.map(|secondary| ("secondary".to_owned(), secondary)));
    members.into()
}

/// What is known of a certificate, as DPS words it. Spec: DPS-X509-27.
pub fn info(certificate: &Certificate) -> Value {
    let serial_number: String =
        certificate.serial_number().iter().map(|byte| format!("{byte:02X}")).collect();
    json!({
        "subjectName": certificate.subject_text(),
        "sha1Thumbprint": certificate.sha1_thumbprint().to_string(),
        "sha256Thumbprint": certificate.thumbprint().to_string(),
        "issuerName": certificate.issuer_text(),
        "notBeforeUtc": date::format(certificate.not_before()),
        "notAfterUtc": date::format(certificate.not_after()),
        "serialNumber": serial_number,
        "version": certificate.version(),
    })
}
