//! `[instance.x509]`: what of certificates passes that standards leave open. Spec: DPS-X509-14, DPS-X509-15, DPS-X509-18.

use dps_core::x509::{CaLeaf, ChainRules};

use super::document::Table;
use super::key::{Key, Section, Standard};

pub(super) const CA_LEAVES: [(&str, CaLeaf); 3] =
    [("enrolled", CaLeaf::Enrolled), ("always", CaLeaf::Always), ("never", CaLeaf::Never)];

pub(super) fn section() -> Section {
    const FLAG: &str = "true or false";
    let value = |text: &str| Standard::Value(text.to_owned());
    Section {
        path: "instance.x509",
        repeated: false,
        about: "What passes of the certificates of the instance's devices that standards leave open. It stands above the \
                instance's hubs and policies.",
        keys: vec![
            Key::new(
                "allow_v1_leaf",
                FLAG,
                value("true"),
                "Whether a device's own certificate may be of X.509 v1 or v2.",
            ),
            Key::new(
                "allow_v1_self_signed_anchor",
                FLAG,
                value("true"),
                "Whether an enrolled signing certificate may be of X.509 v1 or v2, if it is self-signed.",
            ),
            Key::new(
                "allow_ca_leaf",
                r#""enrolled", "always" or "never""#,
                value("\"enrolled\""),
                "Whether a device's own certificate may be that of a CA: where an individual enrollment has exactly that \
                 one, under a group too, or nowhere.",
            ),
            Key::new(
                "enforce_anchor_expiry",
                FLAG,
                value("true"),
                "Whether an enrolled signing certificate that has expired admits nobody any more.",
            ),
        ],
    }
}

/// What is left out stays as it is by default; what cannot be read is noted.
pub(super) fn read(table: &Table<'_>) -> ChainRules {
    let standard = ChainRules::default();
    let flag = |name, standard| table.flag(name).map_or(standard, |flag| flag.value);
    ChainRules {
        allow_v1_leaf: flag("allow_v1_leaf", standard.allow_v1_leaf),
        allow_v1_self_signed_anchor: flag(
            "allow_v1_self_signed_anchor",
            standard.allow_v1_self_signed_anchor,
        ),
        allow_ca_leaf: table
            .word("allow_ca_leaf", &CA_LEAVES)
            .map_or(standard.allow_ca_leaf, |word| word.value),
        enforce_anchor_expiry: flag("enforce_anchor_expiry", standard.enforce_anchor_expiry),
    }
}
