//! One certificate of a plain chain made odd: the device's, the intermediate, or what is enrolled.

use crate::Case;
use crate::der::{
    BIT_STRING, BMP, GENERALIZED_TIME, IA5, OCTET_STRING, PRINTABLE, T61, UTC_TIME, UTF8, extension,
    sequence, tlv,
};
use crate::recipe::*;

/// A change to one certificate, and what comes of it.
struct Row {
    name: &'static str,
    change: fn(&mut Recipe),
    ours: &'static str,
    openssl: bool,
    why: &'static str,
}

const fn row(
    name: &'static str,
    change: fn(&mut Recipe),
    ours: &'static str,
    openssl: bool,
    why: &'static str,
) -> Row {
    Row { name, change, ours, openssl, why }
}

const STRICT_SHAPE: &str = "what is not signed, or what decides, must not be written in two ways";
const NO_PURPOSE: &str = "openssl verify is given no purpose";
const OWN_NAME: &str = "the common name is the registration id; openssl does not look at it";
const LENIENT: &str = "harmless, and devices in the field have it";

/// The device's own certificate.
const DEVICES: &[Row] = &[
    row("nothing but a name", |_| {}, "admitted", true, ""),
    row("X.509 v1", |it| it.version = None, "admitted", true, ""),
    row(
        "X.509 v2 with issuerUniqueID",
        |it| {
            it.version = Some(1);
            it.unique_ids = tlv(0x81, &[0, 1]);
        },
        "admitted",
        true,
        "",
    ),
    row("issuerUniqueID", |it| it.unique_ids = tlv(0x81, &[0, 1]), "admitted", true, ""),
    row("no common name", |it| it.subject = organised(&[]), "common-name", true, OWN_NAME),
    row(
        "two common names",
        |it| it.subject = organised(&["press-1", "press-2"]),
        "common-name",
        true,
        OWN_NAME,
    ),
    row("an empty common name", |it| it.subject = name(UTF8, b""), "common-name", true, OWN_NAME),
    row(
        "a NUL in the common name",
        |it| it.subject = name(UTF8, b"press\x001"),
        "common-name",
        true,
        OWN_NAME,
    ),
    row(
        "a common name in PrintableString",
        |it| it.subject = name(PRINTABLE, b"press-1"),
        "admitted",
        true,
        "",
    ),
    row("a common name in IA5String", |it| it.subject = name(IA5, b"press-1"), "admitted", true, ""),
    row("a common name in T61String", |it| it.subject = name(T61, b"press-1"), "admitted", true, ""),
    row(
        "a common name in BMPString",
        |it| it.subject = name(BMP, b"\0p\0r\0e\0s\0s\0-\x001"),
        "admitted",
        true,
        "",
    ),
    row(
        "a common name in broken UTF-8",
        |it| it.subject = name(UTF8, b"press\xff"),
        "common-name",
        false,
        "",
    ),
    row("an organisation before the name", |it| it.subject = organised(&["press-1"]), "admitted", true, ""),
    row(
        "CA:TRUE",
        |it| it.extensions.push(authority_constraints(None)),
        "ca-leaf",
        true,
        "a device's own is not that of a CA (allow_ca_leaf)",
    ),
    row("CA:FALSE", |it| it.extensions.push(no_authority()), "admitted", true, ""),
    row("EKU clientAuth", |it| it.extensions.push(purposes(&[2])), "admitted", true, ""),
    row("EKU serverAuth and clientAuth", |it| it.extensions.push(purposes(&[1, 2])), "admitted", true, ""),
    row("EKU any", |it| it.extensions.push(any_purpose()), "admitted", true, ""),
    row("EKU serverAuth", |it| it.extensions.push(purposes(&[1])), "extended-key-usage", true, NO_PURPOSE),
    row("EKU codeSigning", |it| it.extensions.push(purposes(&[3])), "extended-key-usage", true, NO_PURPOSE),
    row(
        "keyUsage digitalSignature",
        |it| it.extensions.push(key_usage(&[3, 2, 7, 0x80])),
        "admitted",
        true,
        "",
    ),
    row(
        "keyUsage keyEncipherment alone",
        |it| it.extensions.push(key_usage(&[3, 2, 5, 0x20])),
        "admitted",
        true,
        "",
    ),
    row("an unknown extension", |it| it.extensions.push(unknown(false)), "admitted", true, ""),
    row(
        "an unknown critical extension",
        |it| it.extensions.push(unknown(true)),
        "critical-extension",
        false,
        "",
    ),
    row(
        "one extension twice",
        |it| it.extensions = vec![unknown(false), unknown(false)],
        "unreadable",
        true,
        "which of the two would count is anyone\'s guess",
    ),
    row(
        "basicConstraints twice",
        |it| it.extensions = vec![no_authority(), no_authority()],
        "unreadable",
        false,
        "",
    ),
    row(
        "name constraints",
        |it| it.extensions.push(name_constraints(true)),
        "name-constraints",
        true,
        "they mean nothing in a device's certificate; we evaluate none and refuse all",
    ),
    row(
        "a critical subjectAltName",
        |it| {
            it.extensions.push(extension(
                ALTERNATIVE_NAME,
                &[1, 1, 0xFF],
                &sequence(&[&tlv(0x82, b"press-1")]),
            ))
        },
        "admitted",
        true,
        "",
    ),
    row(
        "garbage for a subjectAltName",
        |it| it.extensions.push(extension(ALTERNATIVE_NAME, &[], &[1, 2, 3, 4])),
        "admitted",
        false,
        LENIENT,
    ),
    row(
        "a critical certificatePolicies",
        |it| {
            it.extensions.push(extension(
                POLICIES,
                &[1, 1, 0xFF],
                &sequence(&[&sequence(&[&tlv(6, &[0x2A, 3])])]),
            ))
        },
        "admitted",
        true,
        "",
    ),
    row(
        "BOOLEAN TRUE written as 01",
        |it| it.extensions.push(extension(UNKNOWN, &[1, 1, 1], &[5, 0])),
        "critical-extension",
        false,
        "",
    ),
    row("expired", |it| it.not_after = tlv(UTC_TIME, b"250101000000Z"), "expired", false, ""),
    row("not valid yet", |it| it.not_before = tlv(UTC_TIME, b"300101000000Z"), "not-yet-valid", false, ""),
    row(
        "without end: 99991231235959Z",
        |it| it.not_after = tlv(GENERALIZED_TIME, b"99991231235959Z"),
        "admitted",
        true,
        "",
    ),
    row(
        "GeneralizedTime before 2050",
        |it| it.not_before = tlv(GENERALIZED_TIME, b"20200101000000Z"),
        "admitted",
        true,
        "",
    ),
    row("from 1950 on", |it| it.not_before = tlv(UTC_TIME, b"500101000000Z"), "admitted", true, ""),
    row(
        "a date of fractions of a second",
        |it| it.not_before = tlv(GENERALIZED_TIME, b"20200101000000.5Z"),
        "admitted",
        false,
        LENIENT,
    ),
    row(
        "a date without seconds",
        |it| it.not_before = tlv(UTC_TIME, b"2001010000Z"),
        "admitted",
        false,
        LENIENT,
    ),
    row("a date that is none", |it| it.not_before = tlv(UTC_TIME, b"209901000000Z"), "unreadable", false, ""),
    row("a serial number of 30 bytes", |it| it.serial = vec![0x11; 30], "admitted", true, ""),
    row("a serial number with leading zeros", |it| it.serial = vec![0, 0, 1], "admitted", false, LENIENT),
    row("a negative serial number", |it| it.serial = vec![0xFF], "admitted", true, ""),
    row("serial number 0", |it| it.serial = vec![0], "admitted", true, ""),
    row("a byte behind it", |it| it.trailing = vec![0], "unreadable", true, STRICT_SHAPE),
    row(
        "another algorithm inside",
        |it| it.inner_algorithm = Some(Key::new(Kind::Ed25519).algorithm()),
        "unreadable",
        false,
        "",
    ),
    row("a changed signature", |it| it.is_tampered = true, "signature", false, ""),
    row(
        "garbage for basicConstraints",
        |it| it.extensions.push(extension(BASIC_CONSTRAINTS, &[], &[1, 2, 3])),
        "unreadable",
        false,
        "",
    ),
    row(
        "garbage for keyUsage",
        |it| it.extensions.push(extension(KEY_USAGE, &[], &tlv(OCTET_STRING, &[1]))),
        "unreadable",
        false,
        "",
    ),
    row(
        "an empty EKU",
        |it| it.extensions.push(extension(EXTENDED_KEY_USAGE, &[], &sequence(&[]))),
        "extended-key-usage",
        true,
        NO_PURPOSE,
    ),
];

/// What signs: an intermediate that is sent, or the same one enrolled. In turn what openssl says of each.
struct Signer {
    name: &'static str,
    change: fn(&mut Recipe),
    ours: &'static str,
    sent: bool,
    enrolled: bool,
    why: [&'static str; 2],
}

const fn signer(
    name: &'static str,
    change: fn(&mut Recipe),
    ours: &'static str,
    sent: bool,
    enrolled: bool,
    why: [&'static str; 2],
) -> Signer {
    Signer { name, change, ours, sent, enrolled, why }
}

const SAME: [&str; 2] = ["", ""];

const SIGNERS: &[Signer] = &[
    signer("plain", |_| {}, "admitted", true, true, SAME),
    signer(
        "no basicConstraints",
        |it| {
            it.extensions.remove(0);
        },
        "not-a-ca",
        false,
        true,
        ["", "of what is trusted, keyCertSign is enough for openssl"],
    ),
    signer("no extensions", |it| it.extensions.clear(), "not-a-ca", false, false, SAME),
    signer("CA:FALSE", |it| it.extensions[0] = no_authority(), "not-a-ca", false, false, SAME),
    signer(
        "X.509 v1",
        |it| {
            it.version = None;
            it.extensions.clear();
        },
        "version",
        false,
        false,
        SAME,
    ),
    signer(
        "no keyCertSign",
        |it| it.extensions[1] = key_usage(&[BIT_STRING, 2, 7, 0x80]),
        "key-usage",
        false,
        false,
        SAME,
    ),
    signer(
        "no keyUsage",
        |it| {
            it.extensions.pop();
        },
        "admitted",
        true,
        true,
        SAME,
    ),
    signer("pathLen 0", |it| it.extensions[0] = authority_constraints(Some(0)), "admitted", true, true, SAME),
    signer("expired", |it| it.not_after = tlv(UTC_TIME, b"250101000000Z"), "expired", false, false, SAME),
    signer(
        "not valid yet",
        |it| it.not_before = tlv(UTC_TIME, b"300101000000Z"),
        "not-yet-valid",
        false,
        false,
        SAME,
    ),
    signer(
        "an unknown critical extension",
        |it| it.extensions.push(unknown(true)),
        "critical-extension",
        false,
        false,
        SAME,
    ),
    signer(
        "EKU serverAuth",
        |it| it.extensions.push(purposes(&[1])),
        "extended-key-usage",
        true,
        true,
        [NO_PURPOSE; 2],
    ),
    signer("EKU clientAuth", |it| it.extensions.push(purposes(&[2])), "admitted", true, true, SAME),
    signer(
        "name constraints",
        |it| it.extensions.push(name_constraints(true)),
        "name-constraints",
        true,
        true,
        ["we evaluate none and refuse all"; 2],
    ),
    signer("a changed signature", |it| it.is_tampered = true, "signature", false, true, SAME),
    signer("a byte behind it", |it| it.trailing = vec![0], "unreadable", true, true, [STRICT_SHAPE; 2]),
    signer(
        "BOOLEAN TRUE written as 01",
        |it| it.extensions[0] = extension(BASIC_CONSTRAINTS, &[1, 1, 1], &sequence(&[&[1, 1, 1]])),
        "admitted",
        true,
        true,
        SAME,
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let root = Recipe::authority("Root").self_signed(Kind::P256);
    let issuing = Recipe::authority("Issuing").by(&root);
    for Row { name, change, ours, openssl, why } in DEVICES {
        let mut recipe = Recipe::device("press-1");
        change(&mut recipe);
        cases.push(Case {
            name: format!("device: {name}"),
            sent: vec![recipe.by(&issuing).der, issuing.der.clone()],
            anchors: vec![root.der.clone()],
            ours,
            openssl: *openssl,
            why,
        });
    }
    for Signer { name, change, ours, sent, enrolled, why } in SIGNERS {
        let mut recipe = Recipe::authority("Issuing");
        change(&mut recipe);
        let signer = recipe.by(&root);
        let device = Recipe::device("press-1").by(&signer).der;
        let is_tampered = recipe.is_tampered;
        cases.push(Case {
            name: format!("intermediate: {name}"),
            sent: vec![device.clone(), signer.der.clone()],
            anchors: vec![root.der.clone()],
            ours,
            openssl: *sent,
            why: why[0],
        });
        cases.push(Case {
            name: format!("enrolled intermediate: {name}"),
            sent: vec![device],
            anchors: vec![signer.der],
            // Its own signature is nobody's business: it is trusted for its key.
            ours: if is_tampered { "admitted" } else { ours },
            openssl: *enrolled,
            why: why[1],
        });
    }
    for Signer { name, change, ours, enrolled, why, .. } in SIGNERS {
        let mut recipe = Recipe::authority("Root");
        change(&mut recipe);
        let signer = recipe.self_signed(Kind::P256);
        let v1 = recipe.version.is_none();
        cases.push(Case {
            name: format!("enrolled root: {name}"),
            sent: vec![Recipe::device("press-1").by(&signer).der],
            anchors: vec![signer.der],
            ours: if v1 || recipe.is_tampered { "admitted" } else { ours },
            openssl: v1 || *enrolled,
            why: why[1],
        });
    }
    cases
}
