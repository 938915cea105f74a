//! From a device's certificate to its issuer, and so on, up to the first that somebody enrolled.
//! Spec: DPS-X509-7, DPS-X509-13 to DPS-X509-20.
//!
//! All certificates that lie equally far from the device's are looked at together, and each of them once, by whichever way it
//! was reached first: the work is bounded by what a chain and an instance may hold, however they are signed across.

use std::fmt;

use jiff::Timestamp;

use super::certificate::Certificate;
use super::chain::PresentedChain;
use super::extensions::Authority;
use super::fault::{BrokenChain, ChainFault, Place, ShownCertificate, Step, Which};
use super::rules::ChainRules;

/// Most certificates above the device's. Spec: DPS-X509-20.
pub(super) const DEPTH_MAX: usize = 6;

/// Most signatures that are verified for one request. Spec: DPS-X509-20.
const SIGNATURES_MAX: u32 = 32;

/// A signing certificate that somebody enrolled, and who.
#[derive(Debug, Clone, Copy)]
pub struct Anchor<'a, T> {
    /// Known by its subject and its key.
    pub certificate: &'a Certificate,
    /// Who enrolled it; its text names the entry.
    pub holder: T,
}

/// A CA certificate of the instance that may fill a gap.
#[derive(Debug, Clone, Copy)]
pub struct Uploaded<'a> {
    /// Its name.
    pub name: &'a str,
    /// It.
    pub certificate: &'a Certificate,
}

/// An enrolled signing certificate that a chain leads to.
#[derive(Debug)]
pub struct Reached<'a, T> {
    /// Who enrolled it.
    pub holder: T,
    /// It.
    pub certificate: &'a Certificate,
    /// Why it admits nobody all the same, if it does not.
    pub unfit: Option<ChainFault>,
    path: Vec<Node<'a>>,
}

/// A certificate on the way, reached from the one below it.
#[derive(Debug, Clone, Copy)]
struct Node<'a> {
    certificate: &'a Certificate,
    source: Source<'a>,
    /// Its place in the list of nodes; none for the device's own.
    below: Option<usize>,
    /// CA certificates below it that count for pathLenConstraint.
    authorities_below: u32,
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Presented(usize),
    Uploaded(&'a str),
}

/// The device's own certificate, apart from who signed it. Spec: DPS-X509-14 to DPS-X509-18.
pub fn judge_leaf(
    chain: &PresentedChain,
    may_be_ca: bool,
    rules: &ChainRules,
    at: Timestamp,
) -> Result<(), Box<BrokenChain>> {
    let leaf = chain.leaf();
    let judge = || {
        if leaf.version() < 3 && !rules.allow_v1_leaf {
            return Err(ChainFault::Version(leaf.version()));
        }
        judge_extensions(leaf)?;
        if !may_be_ca && matches!(leaf.authority(), Authority::Yes { .. }) {
            return Err(ChainFault::CaLeaf);
        }
        judge_dates(leaf, at)
    };
    judge().map_err(|fault| BrokenChain::at_leaf(chain, fault))
}

/// Every enrolled signing certificate at the smallest distance at which there is one. The device's own certificate is not
/// judged here: see [`judge_leaf`].
pub fn walk<'a, T: Copy + fmt::Display>(
    chain: &'a PresentedChain,
    anchors: &[Anchor<'a, T>],
    uploaded: &[Uploaded<'a>],
    rules: &ChainRules,
    at: Timestamp,
) -> Result<Vec<Reached<'a, T>>, Box<BrokenChain>> {
    let mut walk = Walk { chain, rules, at, nodes: Vec::new(), budget: SIGNATURES_MAX, farthest: None };
    walk.nodes.push(Node {
        certificate: chain.leaf(),
        source: Source::Presented(0),
        below: None,
        authorities_below: 0,
    });
    let mut level = 0..1;
    for _ in 0..DEPTH_MAX {
        let reached = walk.reached(level.clone(), anchors);
        if !reached.is_empty() {
            return Ok(reached);
        }
        let above = walk.nodes.len();
        level.clone().for_each(|child| walk.climb(child, uploaded));
        if above == walk.nodes.len() {
            return Err(walk.broken(level));
        }
        level = above..walk.nodes.len();
    }
    let last = level.start;
    walk.fails(last, Subject::Node(last), ChainFault::TooDeep);
    Err(walk.broken(level))
}

struct Walk<'a, 'w> {
    chain: &'a PresentedChain,
    rules: &'w ChainRules,
    at: Timestamp,
    nodes: Vec<Node<'a>>,
    budget: u32,
    farthest: Option<Failure>,
}

/// What is told, unless a longer path is found that fails too.
struct Failure {
    distance: usize,
    path: Vec<Step>,
    which: Which,
    fault: ChainFault,
}

/// The certificate that a fault is about.
enum Subject {
    Node(usize),
    Other(Which, ShownCertificate),
}

impl<'a> Walk<'a, '_> {
    /// The anchors that signed what is at this level.
    fn reached<T: Copy + fmt::Display>(
        &mut self,
        level: std::ops::Range<usize>,
        anchors: &[Anchor<'a, T>],
    ) -> Vec<Reached<'a, T>> {
        let mut reached = Vec::new();
        for child in level {
            let issuer = self.nodes[child].certificate.issuer();
            let mut named: Vec<_> =
                anchors.iter().filter(|anchor| anchor.certificate.subject() == issuer).collect();
            named.sort_by_key(|anchor| !self.identifies(child, anchor.certificate));
            for anchor in named {
                let which = || enrolled(anchor.certificate, anchor.holder.to_string());
                if self.signed(child, anchor.certificate, which) {
                    let below = self.authorities_below(child);
                    let unfit = self.judge_signer(anchor.certificate, true, below).err();
                    let path = self.nodes_to(child);
                    reached.push(Reached {
                        holder: anchor.holder,
                        certificate: anchor.certificate,
                        unfit,
                        path,
                    });
                }
            }
        }
        reached
    }

    /// Adds the certificates that signed `child` and may have.
    fn climb(&mut self, child: usize, uploaded: &[Uploaded<'a>]) {
        let certificate = self.nodes[child].certificate;
        let sent = self.chain.certificates().iter().enumerate().skip(1);
        let sent = sent.map(|(at, sent)| (sent, Source::Presented(at)));
        let known = uploaded.iter().map(|ca| (ca.certificate, Source::Uploaded(ca.name)));
        let mut candidates: Vec<_> =
            sent.chain(known).filter(|(candidate, _)| candidate.subject() == certificate.issuer()).collect();
        candidates.sort_by_key(|(candidate, _)| !self.identifies(child, candidate));
        let before = candidates.len();
        for (candidate, source) in candidates {
            let is_known =
                self.nodes.iter().any(|node| node.certificate.thumbprint() == candidate.thumbprint());
            if is_known || !self.signed(child, candidate, || which(candidate, source)) {
                continue;
            }
            let authorities_below = self.authorities_below(child);
            match self.judge_signer(candidate, false, authorities_below) {
                Ok(()) => self.nodes.push(Node {
                    certificate: candidate,
                    source,
                    below: Some(child),
                    authorities_below,
                }),
                Err(fault) => {
                    let subject = Subject::Other(which(candidate, source), candidate.into());
                    self.fails(child, subject, fault);
                }
            }
        }
        if certificate.is_self_issued() {
            self.fails(child, Subject::Node(child), ChainFault::NotEnrolled);
        } else if before == 0 {
            let issuer = certificate.issuer_text();
            self.fails(child, Subject::Node(child), ChainFault::NoIssuer { issuer });
        }
    }

    /// Whether the key of `issuer` signed `child`; a fault is kept where not.
    fn signed(&mut self, child: usize, issuer: &Certificate, which: impl FnOnce() -> Which) -> bool {
        let certificate = self.nodes[child].certificate;
        let fault = match self.chain.is_signed(certificate, issuer.public_key(), &mut self.budget) {
            Some(Ok(())) => return true,
            Some(Err(why)) => ChainFault::Signature { issuer: Box::new(which()), why },
            None => ChainFault::TooManySignatures(SIGNATURES_MAX),
        };
        self.fails(child, Subject::Node(child), fault);
        false
    }

    /// Spec: DPS-X509-13 to DPS-X509-17.
    fn judge_signer(
        &mut self,
        signer: &Certificate,
        is_anchor: bool,
        authorities_below: u32,
    ) -> Result<(), ChainFault> {
        if signer.version() < 3 {
            let is_allowed = is_anchor && self.rules.allow_v1_self_signed_anchor && signer.is_self_issued();
            if !is_allowed
                || self.chain.is_signed(signer, signer.public_key(), &mut self.budget) != Some(Ok(()))
            {
                return Err(ChainFault::Version(signer.version()));
            }
        } else {
            let path_length = match signer.authority() {
                Authority::Yes { path_length } => path_length,
                Authority::No => return Err(ChainFault::NotACa { is_said: true }),
                Authority::Unsaid => return Err(ChainFault::NotACa { is_said: false }),
            };
            if signer.may_sign_certificates() == Some(false) {
                return Err(ChainFault::MayNotSign);
            }
            if let Some(allowed) = path_length
                && authorities_below > allowed
            {
                return Err(ChainFault::PathLength { allowed, below: authorities_below });
            }
        }
        judge_extensions(signer)?;
        if is_anchor && !self.rules.enforce_anchor_expiry {
            return Ok(());
        }
        judge_dates(signer, self.at)
    }

    /// How many CA certificates stand below whoever signed `child`. Spec: DPS-X509-13.
    fn authorities_below(&self, child: usize) -> u32 {
        let node = &self.nodes[child];
        let counts = node.below.is_some() && !node.certificate.is_self_issued();
        node.authorities_below + u32::from(counts)
    }

    /// Whether `child` says that this is its issuer's key, or does not say: a hint, by which fewer signatures are tried.
    fn identifies(&self, child: usize, issuer: &Certificate) -> bool {
        let wanted = self.nodes[child].certificate.extensions().authority_key_id.as_ref();
        match (wanted, issuer.extensions().subject_key_id.as_ref()) {
            (Some(wanted), Some(has)) => wanted == has,
            _ => true,
        }
    }

    /// Keeps the fault that says most: of the longest path, then the weightiest, then the first.
    fn fails(&mut self, child: usize, subject: Subject, fault: ChainFault) {
        let path = self.nodes_to(child);
        let distance = path.len() + usize::from(matches!(subject, Subject::Other(..)));
        let weight = |distance, fault: &ChainFault| (distance, fault.weight());
        if self
            .farthest
            .as_ref()
            .is_some_and(|kept| weight(kept.distance, &kept.fault) >= weight(distance, &fault))
        {
            return;
        }
        let mut path = steps(&path);
        let which = match subject {
            Subject::Node(node) => self.nodes[node].which(),
            Subject::Other(which, certificate) => {
                path.push(Step { which: which.clone(), certificate });
                which
            }
        };
        self.farthest = Some(Failure { distance, path, which, fault });
    }

    fn broken(self, level: std::ops::Range<usize>) -> Box<BrokenChain> {
        match self.farthest {
            Some(Failure { path, which, fault, .. }) => BrokenChain::new(self.chain, path, which, fault),
            // A level with nothing above it has failed somewhere.
            None => {
                let node = &self.nodes[level.start];
                let path = steps(&self.nodes_to(level.start));
                BrokenChain::new(self.chain, path, node.which(), ChainFault::NotEnrolled)
            }
        }
    }

    /// The way from the device's certificate to this one.
    fn nodes_to(&self, node: usize) -> Vec<Node<'a>> {
        let mut way = vec![self.nodes[node]];
        let mut below = self.nodes[node].below;
        while let Some(at) = below {
            way.push(self.nodes[at]);
            below = self.nodes[at].below;
        }
        way.reverse();
        way
    }
}

impl<T: Copy + fmt::Display> Reached<'_, T> {
    /// The whole way, the enrolled certificate last.
    pub fn path(&self) -> Vec<Step> {
        let mut path = steps(&self.path);
        path.push(Step { which: self.which(), certificate: self.certificate.into() });
        path
    }

    /// The enrolled certificate, by its entry.
    pub fn which(&self) -> Which {
        enrolled(self.certificate, self.holder.to_string())
    }

    /// That this certificate admits nobody, and why.
    pub fn broken(&self, chain: &PresentedChain, fault: ChainFault) -> Box<BrokenChain> {
        BrokenChain::new(chain, self.path(), self.which(), fault)
    }
}

impl Node<'_> {
    fn which(&self) -> Which {
        which(self.certificate, self.source)
    }
}

fn steps(path: &[Node<'_>]) -> Vec<Step> {
    path.iter().map(|node| Step { which: node.which(), certificate: node.certificate.into() }).collect()
}

fn which(certificate: &Certificate, source: Source<'_>) -> Which {
    let place = match source {
        Source::Presented(at) => Place::Presented(at),
        Source::Uploaded(name) => Place::Uploaded(name.to_owned()),
    };
    Which { place, subject: certificate.subject_text() }
}

fn enrolled(certificate: &Certificate, entry: String) -> Which {
    Which { place: Place::Enrolled(entry), subject: certificate.subject_text() }
}

/// What every certificate of a path has to keep to. Spec: DPS-X509-16, DPS-X509-17.
fn judge_extensions(certificate: &Certificate) -> Result<(), ChainFault> {
    let extensions = certificate.extensions();
    if let Some(extension) = &extensions.not_understood {
        return Err(ChainFault::CriticalExtension(extension.clone()));
    }
    if extensions.has_name_constraints {
        return Err(ChainFault::NameConstraints);
    }
    if extensions.may_authenticate_clients == Some(false) {
        return Err(ChainFault::NotForClients);
    }
    Ok(())
}

/// Spec: DPS-X509-14.
fn judge_dates(certificate: &Certificate, at: Timestamp) -> Result<(), ChainFault> {
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    if at < not_before {
        return Err(ChainFault::NotYetValid { not_before, judged_at: at });
    }
    // Its last second belongs to it.
    if at.as_second() > not_after.as_second() {
        return Err(ChainFault::Expired { not_after, judged_at: at });
    }
    Ok(())
}
