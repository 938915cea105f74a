//! Certificates: what one says, and whether a chain leads to one that somebody enrolled. Pure: the time is an argument.
//! Spec: DPS-X509-3, DPS-X509-11 to DPS-X509-21.
//!
//! X.509 is read by a lenient parser, so that a certificate of an odd make can be named in a refusal; every rule is then ours.

mod certificate;
mod chain;
mod extensions;
mod fault;
mod name;
mod rules;
mod signature;
mod thumbprint;
mod walk;
mod written;

pub use certificate::{BadCertificate, Certificate};
pub use chain::{BadChain, Presented, PresentedChain};
pub use extensions::Authority;
pub use fault::{BrokenChain, ChainFault, Place, ShownCertificate, Step, Which, shown};
pub use name::{BadCommonName, NameKey};
pub use rules::{CaLeaf, ChainRules};
pub use signature::SignatureFault;
pub use thumbprint::{BadThumbprint, Sha1Thumbprint, Sha256Thumbprint};
pub use walk::{Anchor, Reached, Uploaded, judge_leaf, walk};
pub use written::NoCertificate;
