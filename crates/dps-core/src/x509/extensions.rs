//! What the extensions of a certificate allow. Spec: DPS-X509-13, DPS-X509-16, DPS-X509-17.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS,
};

use super::certificate::BadCertificate;

/// Whether a certificate is that of a CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// It has no basicConstraints.
    Unsaid,
    /// Its basicConstraints say that it is none.
    No,
    /// It is one.
    Yes {
        /// CA certificates that may stand between it and the device's; any number where absent.
        path_length: Option<u32>,
    },
}

/// What the extensions say, as far as paths depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) authority: Authority,
    /// keyUsage, where present: whether it has keyCertSign.
    pub(super) may_sign_certificates: Option<bool>,
    /// extendedKeyUsage, where present: whether it has clientAuth or anyExtendedKeyUsage.
    pub(super) may_authenticate_clients: Option<bool>,
    /// The first critical extension that is not understood. Spec: DPS-X509-16.
    pub(super) not_understood: Option<Box<str>>,
    pub(super) has_name_constraints: bool,
    pub(super) subject_key_id: Option<Box<[u8]>>,
    pub(super) authority_key_id: Option<Box<[u8]>>,
}

impl Extensions {
    pub(super) fn read(certificate: &X509Certificate<'_>) -> Result<Self, BadCertificate> {
        // Which of two would count is anyone's guess.
        certificate.extensions_map().map_err(|_| BadCertificate::DuplicateExtension)?;
        let mut read = Self {
            authority: Authority::Unsaid,
            may_sign_certificates: None,
            may_authenticate_clients: None,
            not_understood: None,
            has_name_constraints: false,
            subject_key_id: None,
            authority_key_id: None,
        };
        let decisive = [
            OID_X509_EXT_BASIC_CONSTRAINTS,
            OID_X509_EXT_KEY_USAGE,
            OID_X509_EXT_EXTENDED_KEY_USAGE,
            OID_X509_EXT_NAME_CONSTRAINTS,
        ];
        for extension in certificate.extensions() {
            let understood = match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => {
                    read.authority = match (constraints.ca, constraints.path_len_constraint) {
                        (true, path_length) => Authority::Yes { path_length },
                        (false, _) => Authority::No,
                    };
                    true
                }
                ParsedExtension::KeyUsage(usage) => {
                    read.may_sign_certificates = Some(usage.key_cert_sign());
                    true
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    read.may_authenticate_clients = Some(usage.client_auth || usage.any);
                    true
                }
                ParsedExtension::NameConstraints(_) => {
                    read.has_name_constraints = true;
                    true
                }
                ParsedExtension::SubjectKeyIdentifier(id) => {
                    read.subject_key_id = Some(id.0.into());
                    false
                }
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    read.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.into());
                    false
                }
                // Without a policy that a verifier asks for, any policy will do.
                ParsedExtension::SubjectAlternativeName(_) | ParsedExtension::CertificatePolicies(_) => true,
                _ if decisive.contains(&extension.oid) => {
                    return Err(BadCertificate::Extension(extension.oid.to_id_string()));
                }
                _ => false,
            };
            if extension.critical && !understood {
                read.not_understood.get_or_insert_with(|| extension.oid.to_id_string().into());
            }
        }
        Ok(read)
    }
}
