//! Flipping bits, and judging what comes of it.

use dps_core::x509::{
    Anchor, Certificate, ChainRules, Place, PresentedChain, Sha256Thumbprint, judge_leaf, walk,
};
use jiff::Timestamp;

use crate::chains::Shape;

/// The certificates of the path by which a chain is admitted, the device's own first; `None` where it is refused.
pub(crate) type Judge = fn(&PresentedChain, &[Certificate]) -> Option<Vec<Sha256Thumbprint>>;

/// What came of many flips.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) flips: u64,
    /// No longer a chain, or one that admits nobody.
    pub(crate) refused: u64,
    /// Admitted by a path without the flipped certificate.
    pub(crate) by_another_path: u64,
    /// Admitted with the flipped certificate on the path.
    pub(crate) violations: u64,
    /// The first of these: shape, certificate, bit.
    pub(crate) first: Option<(String, usize, usize)>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.flips += other.flips;
        self.refused += other.refused;
        self.by_another_path += other.by_another_path;
        self.violations += other.violations;
        if self.first.is_none() {
            self.first.clone_from(&other.first);
        }
    }
}

pub(crate) fn flip_many(shape: &Shape, flips: u64, seed: u64, judge: Judge) -> Tally {
    let sent = |chain: &[Vec<u8>]| PresentedChain::read(chain.iter().map(Vec::as_slice)).ok();
    let whole = sent(&shape.sent).expect("it can be read before a bit is flipped");
    assert!(judge(&whole, &shape.anchors).is_some(), "{} is admitted before a bit is flipped", shape.name);
    let mut tally = Tally::default();
    let mut random = seed;
    let mut chain = shape.sent.clone();
    for _ in 0..flips {
        let which = below(&mut random, shape.sent.len());
        let bit = below(&mut random, shape.sent[which].len() * 8);
        chain[which][bit / 8] ^= 1 << (bit % 8);
        tally.flips += 1;
        let path = sent(&chain).and_then(|read| judge(&read, &shape.anchors));
        let flipped = Sha256Thumbprint::of(&chain[which]);
        match path {
            None => tally.refused += 1,
            Some(path) if path.contains(&flipped) => {
                tally.violations += 1;
                tally.first.get_or_insert((shape.name.clone(), which, bit));
            }
            Some(_) => tally.by_another_path += 1,
        }
        chain[which][bit / 8] ^= 1 << (bit % 8);
    }
    tally
}

/// As the service judges.
pub(crate) fn walked(chain: &PresentedChain, anchors: &[Certificate]) -> Option<Vec<Sha256Thumbprint>> {
    let (rules, at) = (ChainRules::default(), now());
    judge_leaf(chain, false, &rules, at).ok()?;
    let anchors: Vec<_> =
        anchors.iter().map(|certificate| Anchor { certificate, holder: "the group" }).collect();
    let reached = walk(chain, &anchors, &[], &rules, at).ok()?;
    let admits = reached.iter().find(|reached| reached.unfit.is_none())?;
    let path = admits.path();
    // The enrolled certificate was not sent by anyone: a copy that was is not what the path ends in.
    let sent = path.iter().filter(|step| !matches!(step.which.place, Place::Enrolled(_)));
    Some(sent.map(|step| step.certificate.sha256_thumbprint).collect())
}

/// A walk that goes by names and takes every signature for good. It stands here and not in the library, where a way to leave
/// signatures out must not exist.
pub(crate) fn by_names_alone(
    chain: &PresentedChain,
    anchors: &[Certificate],
) -> Option<Vec<Sha256Thumbprint>> {
    judge_leaf(chain, false, &ChainRules::default(), now()).ok()?;
    let mut path = vec![chain.leaf()];
    loop {
        let last = *path.last()?;
        if anchors.iter().any(|anchor| anchor.subject() == last.issuer()) {
            return Some(path.iter().map(|certificate| certificate.thumbprint()).collect());
        }
        let above = chain.certificates().iter().find(|candidate| candidate.subject() == last.issuer())?;
        if path.len() > PresentedChain::CERTIFICATES_MAX {
            return None;
        }
        path.push(above);
    }
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

/// SplitMix64: every seed is as good as any other.
fn below(random: &mut u64, end: usize) -> usize {
    *random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) % end as u64) as usize
}
