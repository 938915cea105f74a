//! openssl: the other opinion, and the maker of what our own crypto refuses to make.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::der::pem;
use crate::recipe::{Key, Recipe};
use crate::{Case, NOW};

fn openssl(folder: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|why| panic!("openssl cannot be run ({why}): install the Debian package openssl"))
}

/// Whether `openssl verify -partial_chain` takes the chain.
pub(crate) fn takes(folder: &Path, case: &Case) -> bool {
    let write = |name: &str, ders: &[Vec<u8>]| {
        let text: String = ders.iter().map(|der| pem(der)).collect();
        std::fs::write(folder.join(name), text).unwrap();
    };
    write("leaf.pem", &case.sent[..1]);
    write("rest.pem", &case.sent[1..]);
    write("anchors.pem", &case.anchors);
    let at = NOW.to_string();
    let mut arguments = vec!["verify", "-partial_chain", "-no-CAfile", "-no-CApath", "-no-CAstore"];
    arguments.extend(["-attime", &at, "-trusted", "anchors.pem"]);
    if case.sent.len() > 1 {
        arguments.extend(["-untrusted", "rest.pem"]);
    }
    arguments.push("leaf.pem");
    openssl(folder, &arguments).status.success()
}

/// A key in a file, with which openssl signs by this hash.
pub(crate) struct Weak {
    folder: PathBuf,
    hash: &'static str,
    pub(crate) is_rsa: bool,
    /// The last number of the algorithm, of RSA.
    pub(crate) number: u8,
}

impl Weak {
    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = openssl(&self.folder, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn generate(self, option: &str) -> Self {
        let algorithm = if self.is_rsa { "RSA" } else { "EC" };
        self.run(&["genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", "weak.key"]);
        self
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        self.run(&["pkey", "-in", "weak.key", "-pubout", "-outform", "DER"])
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        std::fs::write(self.folder.join("message"), message).unwrap();
        self.run(&["dgst", self.hash, "-sign", "weak.key", "-binary", "message"])
    }
}

/// Signatures by keys and hashes that are too weak.
pub(crate) fn weak_cases(folder: &Path) -> Vec<Case> {
    const WHY: &str = "openssl verify takes weak signatures unless it is given a security level";
    let weak = |hash, is_rsa, number, option| {
        Weak { folder: folder.to_owned(), hash, is_rsa, number }.generate(option)
    };
    let rows = [
        ("signed with ECDSA and SHA-1", "-sha1", false, 0, "ec_paramgen_curve:P-256"),
        ("signed with RSA and SHA-1", "-sha1", true, 5, "rsa_keygen_bits:2048"),
        ("signed by RSA of 1,024 bits", "-sha256", true, 11, "rsa_keygen_bits:1024"),
    ];
    let mut cases = Vec::new();
    for (name, hash, is_rsa, number, option) in rows {
        let root = Recipe::authority("Weak").self_signed_with(Key::Weak(weak(hash, is_rsa, number, option)));
        cases.push(Case {
            name: name.to_owned(),
            sent: vec![Recipe::device("press-1").by(&root).der],
            anchors: vec![root.der],
            ours: "signature-algorithm",
            openssl: true,
            why: WHY,
        });
    }
    cases
}
