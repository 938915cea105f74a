//! More than a hundred chains through our judgement and through `openssl verify -partial_chain`. Spec: DPS-X509-3, DPS-X509-11 to
//! DPS-X509-20.
//!
//! Each case says what we make of it and what openssl does; where they differ it says why, and docs/x509-differences.md lists it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this program is a test in whole"
)]

mod certificates;
mod der;
mod oracle;
mod recipe;
mod topology;

use std::path::Path;

use dps_core::x509::{Anchor, Certificate, ChainRules, PresentedChain, judge_leaf, walk};

/// What `openssl verify` is told the time is, and we: 2026-05-28.
pub(crate) const NOW: i64 = 1_780_000_000;

/// A chain and what is made of it.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The device's own first.
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) anchors: Vec<Vec<u8>>,
    /// `admitted`, the word of the rule that is broken, or `unreadable`.
    pub(crate) ours: &'static str,
    /// Whether openssl takes it.
    pub(crate) openssl: bool,
    /// Why they differ; empty where they do not.
    pub(crate) why: &'static str,
}

/// As the service judges a device of a group with these signing certificates.
fn judged(case: &Case) -> &'static str {
    let at = jiff::Timestamp::from_second(NOW).unwrap();
    let rules = ChainRules::default();
    let read: Result<Vec<Certificate>, _> =
        case.anchors.iter().map(|der| Certificate::from_der(der)).collect();
    let (Ok(anchors), Ok(chain)) = (read, PresentedChain::read(case.sent.iter().map(Vec::as_slice))) else {
        return "unreadable";
    };
    if chain.leaf().common_name().is_err() {
        return "common-name";
    }
    if let Err(broken) = judge_leaf(&chain, false, &rules, at) {
        return broken.fault.rule();
    }
    let anchors: Vec<_> =
        anchors.iter().map(|certificate| Anchor { certificate, holder: "the group" }).collect();
    match walk(&chain, &anchors, &[], &rules, at) {
        Err(broken) => broken.fault.rule(),
        Ok(reached) => match reached.iter().find(|reached| reached.unfit.is_none()) {
            Some(_) => "admitted",
            None => reached[0].unfit.as_ref().unwrap().rule(),
        },
    }
}

fn all() -> Vec<Case> {
    let folder = tempfile::tempdir().unwrap();
    [certificates::cases(), topology::cases(), oracle::weak_cases(folder.path())]
        .into_iter()
        .flatten()
        .collect()
}

/// DPS-X509-3, DPS-X509-11, DPS-X509-12, DPS-X509-13, DPS-X509-14, DPS-X509-15, DPS-X509-16, DPS-X509-17, DPS-X509-18, DPS-X509-19
#[test]
fn every_chain_is_judged_as_written_and_every_difference_from_openssl_has_its_reason() {
    let cases = all();
    assert!(cases.len() >= 100, "{} cases", cases.len());
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let (ours, openssl) = (judged(case), oracle::takes(folder.path(), case));
        if (ours, openssl) != (case.ours, case.openssl) {
            wrong.push(format!("{}: ours {ours}, openssl {openssl}", case.name));
        }
        let differs = (case.ours == "admitted") != case.openssl;
        if differs == case.why.is_empty() {
            wrong.push(format!("{}: a difference has a reason, and only a difference", case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The document lists what differs, and nothing else.
#[test]
fn the_document_lists_every_difference() {
    let mut page = String::from(
        "# Where our judgement of chains differs from openssl's\n\nFrom `cargo test -p dps-core --test chain_corpus`, which takes each chain \
         through ours and through\n`openssl verify -partial_chain` and holds this page to it.\n\n| Chain | Ours | openssl | Why |\n|---|---|---|---|\n",
    );
    for case in all().iter().filter(|case| !case.why.is_empty()) {
        let openssl = if case.openssl { "OK" } else { "refused" };
        page.push_str(&format!("| {} | {} | {openssl} | {} |\n", case.name, case.ours, case.why));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/x509-differences.md");
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/x509-differences.md should read:\n\n{page}");
}
