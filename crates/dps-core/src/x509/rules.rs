//! What an instance lets pass that standards leave open. Spec: DPS-X509-14, DPS-X509-15, DPS-X509-18.

/// Switches of a service instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainRules {
    /// A device's certificate may be of X.509 v1 or v2.
    pub allow_v1_leaf: bool,
    /// So may an enrolled certificate that is self-signed.
    pub allow_v1_self_signed_anchor: bool,
    /// Whether a device's certificate may be that of a CA.
    pub allow_ca_leaf: CaLeaf,
    /// Whether the dates of enrolled signing certificates count.
    pub enforce_anchor_expiry: bool,
}

/// Where a CA certificate may be the device's own. Spec: DPS-X509-18.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaLeaf {
    /// Where an individual enrollment has exactly that certificate.
    Enrolled,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl CaLeaf {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Enrolled, Self::Always, Self::Never];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

impl Default for ChainRules {
    fn default() -> Self {
        Self {
            allow_v1_leaf: true,
            allow_v1_self_signed_anchor: true,
            allow_ca_leaf: CaLeaf::Enrolled,
            enforce_anchor_expiry: true,
        }
    }
}
