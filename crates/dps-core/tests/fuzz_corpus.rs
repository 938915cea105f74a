//! The check of the fuzz target for chains, over the committed corpus and mutations of it, without a fuzzer.
//! Spec: DPS-X509-11, DPS-X509-20.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../fuzz/src/chain.rs"]
#[allow(unreachable_pub, reason = "it belongs to the fuzz targets")]
mod chain;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use std::path::Path;

/// How many mutations of the corpus are tried.
const MUTATIONS: usize = 20_000;

/// DPS-X509-11, DPS-X509-20
#[test]
fn no_chain_makes_its_judgement_panic_or_waver() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/certificate_chain");
    replay::replay(&corpus, MUTATIONS, chain::certificate_chain);
}
