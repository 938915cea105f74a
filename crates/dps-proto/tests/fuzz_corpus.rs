//! The fuzz targets' checks over the committed corpus and mutations of it, without a fuzzer. Spec: DPS-MQTT-21,
//! DPS-MQTT-24, DPS-MQTT-28, DPS-SAS-1.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a library of its own for the fuzz targets")]
mod checks;

use std::path::Path;

/// How many mutations of the corpus are tried for each target.
const MUTATIONS: usize = 20_000;

/// Where the pseudo-random numbers begin; another one tries other mutations.
const SEED: u64 = 0x0DB5_0001_D3A1_7E57;

/// DPS-MQTT-28
#[test]
fn every_packet_that_is_read_can_be_written_and_read_again() {
    replay("mqtt_packet", checks::mqtt_packet);
}

/// DPS-MQTT-21, DPS-MQTT-24
#[test]
fn a_session_keeps_its_promises_whatever_comes() {
    replay("mqtt_session", checks::mqtt_session);
}

/// DPS-MQTT-2, DPS-MQTT-14, DPS-SAS-1
#[test]
fn no_token_topic_or_user_name_makes_its_parser_panic() {
    replay("sas_token", checks::sas_token);
}

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The order of a folder differs between machines, and the mutations with it.
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(corpus.len() >= 24, "{} files in {}", corpus.len(), folder.display());
    eprintln!("seed {SEED:#x}");
    let mut random = Random(SEED);
    let mutations = std::iter::repeat_with(|| random.mutation(&corpus)).take(MUTATIONS);
    for input in corpus.iter().cloned().chain(mutations) {
        let tried = Tried(input);
        check(&tried.0);
    }
}

/// Shows the input that failed a check.
struct Tried(Vec<u8>);

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed by b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// Xorshift: not for secrets, but the same everywhere.
struct Random(u64);

impl Random {
    fn mutation(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 => bytes.insert(at, self.next() as u8),
                1 => bytes.truncate(at),
                2 => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len() + 1);
                    bytes.splice(at.., other[from..].iter().copied());
                }
                _ if at == bytes.len() => {}
                3 => bytes[at] = self.next() as u8,
                4 => bytes[at] ^= 1 << self.below(8),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
