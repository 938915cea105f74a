//! `harbormaster pki`: certificates for a desk or a factory line, and what a service makes of them. Spec: DPS-CLI-18 to DPS-CLI-20.

mod authority;
mod inspect;
mod issue;
mod verify;

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};

use crate::exit::Failure;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a root CA and an issuing CA below it. Nothing that is there is written over.
    Init(authority::Options),
    /// Issue certificates to devices, or the proof of possession of a CA.
    Issue(issue::Options),
    /// Show what stands in certificates, thumbprints as DPS shows them.
    Inspect(inspect::Options),
    /// Say whether a chain would be admitted, by which entry, or exactly why not. Exit code 0 only if it would.
    Verify(Box<verify::Options>),
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Init(options) => authority::run(options),
        Command::Issue(options) => issue::run(options),
        Command::Inspect(options) => inspect::run(options),
        Command::Verify(options) => verify::run(*options),
    }
}

/// The kind of a new key.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyType {
    /// ECDSA on P-256: small, and known to every device.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2,048 bits.
    Rsa2048,
    /// RSA of 3,072 bits.
    Rsa3072,
    /// RSA of 4,096 bits.
    Rsa4096,
}

impl KeyType {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
            Self::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
        }
    }
}

/// How the result is printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: members are only ever added.
    Json,
}
