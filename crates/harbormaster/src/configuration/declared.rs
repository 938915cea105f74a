//! The document of `apply` and `diff`: service instances as a configuration has them, with their CA certificates.
//! Spec: DPS-CLI-30 (docs/spec/cli.md).

use std::path::Path;

use dps_core::ca_certificate::CaName;
use dps_core::x509::Certificate;

use super::document::Table;
use super::fault::{Fault, Located};
use super::instances::{self, Instance};
use super::key::{Key, Section, Standard};
use super::names::{self, Names};
use super::{Faults, chain_rules, hub, judged, text_of};

/// All that a document says.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) instances: Vec<DeclaredInstance>,
    pub(crate) warnings: Vec<Fault>,
}

/// One service instance.
#[derive(Debug)]
pub(crate) struct DeclaredInstance {
    pub(crate) instance: Instance,
    pub(crate) ca_certificates: Vec<DeclaredCaCertificate>,
}

/// A CA certificate of an instance.
#[derive(Debug)]
pub(crate) struct DeclaredCaCertificate {
    pub(crate) name: Located<CaName>,
    pub(crate) certificate: Certificate,
    /// Whether it counts as verified at once.
    pub(crate) is_verified: bool,
}

/// Reads and judges a document, the files it names, and the environment of this process.
pub(crate) fn read(file: &Path) -> Result<Declared, Faults> {
    let environment = |name: &str| std::env::var(name).ok();
    let text = text_of(file, ("--file", "harbormaster export prints one"))?;
    let (instances, warnings) = judged(file, &text, &environment, &sections(), judge)?;
    Ok(Declared { instances, warnings })
}

/// The tables of a document, in the order in which they are shown.
fn sections() -> [Section; 5] {
    [
        instances::section(),
        chain_rules::section(),
        hub::section(),
        instances::policy_section(),
        ca_certificate_section(),
    ]
}

fn ca_certificate_section() -> Section {
    Section {
        path: "instance.ca_certificate",
        repeated: true,
        about: "A CA certificate of the instance above it.",
        keys: vec![
            Key::new(
                "name",
                "1 to 64 letters, digits, `-`, `.`, `_`",
                Standard::Required,
                "By which enrollments refer to it.",
            ),
            Key::new(
                "certificate",
                "PEM, or Base64 of DER",
                Standard::Required,
                "The certificate. One of the two is required.",
            ),
            Key::new(
                "certificate_file",
                "path of a file with PEM",
                Standard::Required,
                "The certificate. One of the two is required.",
            ),
            Key::new(
                "verified",
                "true or false",
                Standard::Value("false".to_owned()),
                "Whether it is yours beyond doubt; without it, it admits nobody before a proof of possession.",
            ),
        ],
    }
}

/// Reads every key, whatever is wrong with the others.
fn judge(root: &Table<'_>) -> Option<Vec<DeclaredInstance>> {
    let tables = root.tables("instance");
    if tables.is_empty() {
        let advice = "add an [[instance]] with an id_scope; harbormaster export writes such a file";
        root.fault(root.at(), "instance", "there is no service instance", advice);
    }
    let mut names = Names::default();
    let instances: Vec<_> = tables
        .iter()
        .map(|table| {
            let (instance, ca_certificates) = (Instance::read(table, &mut names), read_certificates(table));
            Some(DeclaredInstance { instance: instance?, ca_certificates: ca_certificates? })
        })
        .collect();
    names.check_repeated(root.context);
    instances.into_iter().collect()
}

fn read_certificates(table: &Table<'_>) -> Option<Vec<DeclaredCaCertificate>> {
    let tables = table.tables("ca_certificate");
    let certificates: Vec<_> = tables.iter().map(DeclaredCaCertificate::read).collect();
    let certificates = certificates.into_iter().collect::<Option<Vec<_>>>()?;
    let named = certificates.iter().map(|ca| (ca.name.value.folded(), &ca.name));
    let advice = "give each certificate a name of its own; case makes no difference";
    names::note_repeated(table.context, "instance.ca_certificate.name", named, advice);
    Some(certificates)
}

impl DeclaredCaCertificate {
    fn read(table: &Table<'_>) -> Option<Self> {
        let name = table.parsed("name", "choose 1 to 64 letters, digits, '-', '.', '_'");
        if !table.has("name") {
            table.missing("name", "enrollments refer to it by that");
        }
        let certificate = read_certificate(table);
        let is_verified = table.flag("verified").is_some_and(|flag| flag.value);
        Some(Self { name: name?, certificate: certificate?, is_verified })
    }
}

fn read_certificate(table: &Table<'_>) -> Option<Certificate> {
    const ADVICE: &str = "give one certificate, PEM or Base64 of DER";
    match (table.has("certificate"), table.has("certificate_file")) {
        (true, true) => {
            let at = table.text("certificate_file")?.at;
            table.fault(at, "certificate_file", "certificate is there already", "leave one of the two out");
            None
        }
        (false, false) => {
            table.missing("certificate", "give it, or name its file with certificate_file");
            None
        }
        (true, false) => {
            let text = table.text("certificate")?;
            let certificate = text.value.parse::<Certificate>();
            certificate.map_err(|why| table.fault(text.at, "certificate", format!("it {why}"), ADVICE)).ok()
        }
        (false, true) => {
            let path = table.path("certificate_file")?;
            let text = match crate::file_option::text("certificate_file", &path.value) {
                Ok(text) => text,
                Err(why) => {
                    let why = crate::exit::told(&why);
                    table.fault(path.at, "certificate_file", why, "name a file that can be read");
                    return None;
                }
            };
            let certificate = text.parse::<Certificate>();
            certificate
                .map_err(|why| table.fault(path.at, "certificate_file", format!("it {why}"), ADVICE))
                .ok()
        }
    }
}
