//! Running a check over a committed corpus and mutations of it, without a fuzzer.

use std::path::Path;

/// Where the pseudo-random numbers begin; another one tries other mutations.
const SEED: u64 = 0x0DB5_0001_D3A1_7E57;

/// Every file of the folder, then so many mutations of them.
pub(crate) fn replay(folder: &Path, mutations: usize, check: fn(&[u8])) {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The order of a folder differs between machines, and the mutations with it.
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(corpus.len() >= 24, "{} files in {}", corpus.len(), folder.display());
    eprintln!("seed {SEED:#x}");
    let mut random = Random(SEED);
    let mutations = std::iter::repeat_with(|| random.mutation(&corpus)).take(mutations);
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
