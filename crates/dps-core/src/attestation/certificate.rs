//! Certificates: an individual enrollment's, or a chain that leads to a signing certificate. Spec: DPS-X509-3 to DPS-X509-10.

use std::fmt;

use super::{Admission, Attested, Entry, Judge};
use crate::ca_certificate::{CaCertificate, CaName};
use crate::enrollment::{
    Attestation, CertificatePair, EnrollmentGroup, GroupAttestation, IndividualEnrollment, Signers,
};
use crate::ports::{ChainWanted, HubAuthentication};
use crate::refusal::{OtherCertificate, Refusal, Unproven};
use crate::registration::HubCredential;
use crate::x509::{
    Anchor, BrokenChain, CaLeaf, ChainFault, PresentedChain, Reached, Uploaded, judge_leaf, walk,
};
use dps_proto::ids::RegistrationId;

/// Whose signing certificate it is, and whether it may admit anybody.
#[derive(Debug, Clone, Copy)]
struct Holder<'a> {
    entry: &'a Entry,
    /// The CA certificate that the entry refers to, where that is not verified.
    unverified: Option<&'a CaName>,
}

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.name().fmt(f)
    }
}

/// What the device presented, if it is a chain and this device's. Spec: DPS-X509-3, DPS-X509-11.
pub(super) fn chain_of<'a>(
    presented: &'a crate::x509::Presented,
    id: &RegistrationId,
) -> Result<&'a PresentedChain, Unproven> {
    let chain = presented.as_ref().map_err(|why| Unproven::BadChain(why.clone()))?;
    let fault = match chain.leaf().common_name() {
        Ok(name) if name.eq_ignore_ascii_case(id.as_str()) => return Ok(chain),
        Ok(common_name) => {
            ChainFault::OtherRegistrationId { common_name, registration_id: id.as_str().to_owned() }
        }
        Err(why) => why.into(),
    };
    Err(refused(BrokenChain::at_leaf(chain, fault)))
}

impl Judge<'_> {
    /// Spec: DPS-X509-4.
    pub(super) fn by_client_certificate(
        &self,
        chain: &PresentedChain,
        entry: Entry,
        enrolled: &CertificatePair,
    ) -> Result<Attested, Unproven> {
        let leaf = chain.leaf().thumbprint();
        if !enrolled.iter().any(|certificate| certificate.thumbprint() == leaf) {
            let other = OtherCertificate {
                entry: entry.name(),
                presented: chain.leaf().into(),
                enrolled: enrolled.iter().map(|certificate| (&**certificate).into()).collect(),
            };
            return Err(Unproven::OtherCertificate(Box::new(other)));
        }
        self.judge_exact(chain)?;
        let other = enrolled.iter().map(|certificate| certificate.thumbprint()).find(|other| *other != leaf);
        Ok(Attested {
            entry,
            admission: Admission::Admitted {
                authentication: HubAuthentication::SelfSigned {
                    primary: leaf,
                    secondary: other.unwrap_or(leaf),
                },
                credential: HubCredential::Certificate { thumbprint: leaf },
            },
            signer_expires_at: None,
            path: Vec::new(),
        })
    }

    /// Spec: DPS-X509-5.
    pub(super) async fn by_own_signers(
        &self,
        chain: &PresentedChain,
        entry: Entry,
        signers: &Signers,
    ) -> Result<Attested, Refusal> {
        self.judge_under_signer(chain)?;
        let authorities = self.store.ca_certificates(&self.device.id_scope).await?;
        let mut anchors = Vec::new();
        add_anchors(&mut anchors, &entry, signers, &authorities)?;
        let reached =
            walk(chain, &anchors, &verified(&authorities), self.rules, self.judged_at).map_err(refused)?;
        Ok(self.decide(chain, &reached)?)
    }

    /// Spec: DPS-X509-6, DPS-X509-7.
    pub(super) async fn by_chain(&self, chain: &PresentedChain) -> Result<Attested, Refusal> {
        let scope = &self.device.id_scope;
        let sent = chain.certificates().iter().skip(1);
        let wanted = ChainWanted {
            leaf: chain.leaf().thumbprint(),
            issuer: chain.leaf().issuer(),
            sent: sent.map(|certificate| (certificate.subject(), certificate.issuer())).collect(),
        };
        let entries = self.store.chain_entries(scope, &wanted).await?;
        let mut holders =
            entries.individual_enrollments.iter().map(|holder| Entry::Individual(holder.clone()));
        let holder = holders.clone().find(|holder| !holder.is_enabled()).or_else(|| holders.next());
        if let Some(entry) = holder {
            return Ok(self.by_holder(chain, entry)?);
        }
        self.judge_under_signer(chain)?;
        let groups: Vec<Entry> = entries.groups.into_iter().map(Entry::Group).collect();
        let mut anchors = Vec::new();
        for entry in &groups {
            if let Entry::Group(group) = entry
                && let EnrollmentGroup { attestation: GroupAttestation::Signers(signers), .. } = &**group
            {
                // A reference that leads nowhere admits nobody, and must not keep the device from its own group.
                let _ = add_anchors(&mut anchors, entry, signers, &entries.authorities);
            }
        }
        let uploaded = verified(&entries.authorities);
        let reached = walk(chain, &anchors, &uploaded, self.rules, self.judged_at).map_err(refused)?;
        Ok(self.decide(chain, &reached)?)
    }

    /// Judges by an individual enrollment of another registration id that has exactly this certificate. Spec: DPS-X509-6.
    fn by_holder(&self, chain: &PresentedChain, entry: Entry) -> Result<Attested, Unproven> {
        if entry.is_enabled() {
            return Err(Unproven::EnrolledForAnother(entry.name()));
        }
        self.judge_exact(chain)?;
        Ok(Attested { entry, admission: Admission::Disabled, signer_expires_at: None, path: Vec::new() })
    }

    /// The device's certificate where an entry has exactly that one. Spec: DPS-X509-18.
    fn judge_exact(&self, chain: &PresentedChain) -> Result<(), Unproven> {
        let may_be_ca = self.rules.allow_ca_leaf != CaLeaf::Never;
        judge_leaf(chain, may_be_ca, self.rules, self.judged_at).map_err(refused)
    }

    /// The device's certificate where its signer counts. Spec: DPS-X509-18.
    fn judge_under_signer(&self, chain: &PresentedChain) -> Result<(), Unproven> {
        let may_be_ca = self.rules.allow_ca_leaf == CaLeaf::Always;
        judge_leaf(chain, may_be_ca, self.rules, self.judged_at).map_err(refused)
    }

    /// Whether the device's own individual enrollment, disabled though it is, has its certificate. Spec: DPS-X509-8.
    pub(super) async fn proves_itself_by(
        &self,
        chain: &PresentedChain,
        enrollment: &IndividualEnrollment,
        entry: Entry,
    ) -> Result<(), Refusal> {
        match &enrollment.attestation {
            Attestation::ClientCertificates(enrolled) => {
                self.by_client_certificate(chain, entry, enrolled)?;
                Ok(())
            }
            Attestation::Signers(signers) => self.by_own_signers(chain, entry, signers).await.map(drop),
            Attestation::SymmetricKey(_) | Attestation::Tpm { .. } => {
                Err(Unproven::TokenWanted(entry.name()).into())
            }
        }
    }

    /// Disabled before enabled, then the older; whoever cannot admit anybody only if there is no other. Spec: DPS-X509-7.
    fn decide(
        &self,
        chain: &PresentedChain,
        reached: &[Reached<'_, Holder<'_>>],
    ) -> Result<Attested, Unproven> {
        let is_fit = |reached: &&Reached<'_, Holder<'_>>| {
            reached.unfit.is_none() && reached.holder.unverified.is_none()
        };
        let age = |reached: &&Reached<'_, Holder<'_>>| {
            let settings = reached.holder.entry.settings();
            (settings.created_at, reached.holder.entry.name().to_string())
        };
        let Some(admits) = reached.iter().filter(is_fit).min_by_key(age) else {
            return Err(unfit(chain, reached));
        };
        let path = || if self.tells_path { admits.path() } else { Vec::new() };
        if let Some(disabled) = reached.iter().find(|reached| !reached.holder.entry.is_enabled()) {
            let entry = disabled.holder.entry.clone();
            return Ok(Attested {
                entry,
                admission: Admission::Disabled,
                signer_expires_at: None,
                path: path(),
            });
        }
        let leaf = chain.leaf().thumbprint();
        Ok(Attested {
            entry: admits.holder.entry.clone(),
            admission: Admission::Admitted {
                authentication: HubAuthentication::SelfSigned { primary: leaf, secondary: leaf },
                credential: HubCredential::Certificate { thumbprint: leaf },
            },
            signer_expires_at: Some(admits.certificate.not_after()),
            path: path(),
        })
    }
}

/// Why none of the signing certificates that were reached admits anybody.
fn unfit(chain: &PresentedChain, reached: &[Reached<'_, Holder<'_>>]) -> Unproven {
    let why = reached.iter().find_map(|reached| match (&reached.unfit, reached.holder.unverified) {
        (_, Some(name)) => {
            Some(Unproven::UnverifiedCa { entry: reached.holder.entry.name(), name: name.clone() })
        }
        (Some(fault), None) => Some(refused(reached.broken(chain, fault.clone()))),
        (None, None) => None,
    });
    // Whatever is not fit has one of the two reasons.
    why.unwrap_or(Unproven::NoCredential)
}

fn add_anchors<'a>(
    anchors: &mut Vec<Anchor<'a, Holder<'a>>>,
    entry: &'a Entry,
    signers: &'a Signers,
    authorities: &'a [std::sync::Arc<CaCertificate>],
) -> Result<(), Unproven> {
    match signers {
        Signers::Certificates(pair) => {
            anchors.extend(
                pair.iter()
                    .map(|certificate| Anchor { certificate, holder: Holder { entry, unverified: None } }),
            );
        }
        Signers::CaReferences(names) => {
            for name in names.iter() {
                let Some(ca) = authorities.iter().find(|ca| ca.name.is(name)) else {
                    return Err(Unproven::UnverifiedCa { entry: entry.name(), name: name.clone() });
                };
                let unverified = Some(&ca.name).filter(|_| !ca.is_verified());
                anchors.push(Anchor { certificate: &ca.certificate, holder: Holder { entry, unverified } });
            }
        }
    }
    Ok(())
}

/// Spec: DPS-X509-9.
fn verified(authorities: &[std::sync::Arc<CaCertificate>]) -> Vec<Uploaded<'_>> {
    authorities
        .iter()
        .filter(|ca| ca.is_verified())
        .map(|ca| Uploaded { name: ca.name.as_str(), certificate: &ca.certificate })
        .collect()
}

fn refused(broken: Box<BrokenChain>) -> Unproven {
    Unproven::Chain(broken)
}
