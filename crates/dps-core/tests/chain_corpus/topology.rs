//! How chains are put together: order, company, namesakes, crossings, depth, keys.

use crate::Case;
use crate::der::{PRINTABLE, UTF8};
use crate::recipe::*;

fn case(
    name: &str,
    sent: &[&[u8]],
    anchors: &[&[u8]],
    ours: &'static str,
    openssl: bool,
    why: &'static str,
) -> Case {
    let owned = |ders: &[&[u8]]| ders.iter().map(|der| der.to_vec()).collect();
    Case { name: name.to_owned(), sent: owned(sent), anchors: owned(anchors), ours, openssl, why }
}

const EVERY_NAMESAKE: &str = "openssl settles on one of several issuers of a name; ours tries each";

pub(crate) fn cases() -> Vec<Case> {
    [orders(), namesakes(), limits(), keys(), names()].into_iter().flatten().collect()
}

fn orders() -> Vec<Case> {
    let root = Recipe::authority("Root").self_signed(Kind::P256);
    let issuing = Recipe::authority("Issuing").by(&root);
    let device = Recipe::device("press-1").by(&issuing);
    let stranger = Recipe::authority("Stranger").self_signed(Kind::P256);
    let own = Recipe::device("press-1").self_signed(Kind::P256);
    let (r, i, d, s) = (&root.der[..], &issuing.der[..], &device.der[..], &stranger.der[..]);
    vec![
        case("at the root: device and intermediate", &[d, i], &[r], "admitted", true, ""),
        case("at the root: the whole chain", &[d, i, r], &[r], "admitted", true, ""),
        case("at the root: wrong order", &[d, r, i], &[r], "admitted", true, ""),
        case("at the root: strangers between", &[d, s, i, s], &[r], "admitted", true, ""),
        case("at the root: one certificate twice", &[d, i, i, d], &[r], "admitted", true, ""),
        case("at the root: the intermediate is missing", &[d], &[r], "no-issuer", false, ""),
        case("at the root: the root in its place", &[d, r], &[r], "no-issuer", false, ""),
        case("at the intermediate: the device alone", &[d], &[i], "admitted", true, ""),
        case("at the intermediate: with itself", &[d, i], &[i], "admitted", true, ""),
        case("at the intermediate: the whole chain", &[d, i, r], &[i], "admitted", true, ""),
        case("at both", &[d, i], &[i, r], "admitted", true, ""),
        case("at a stranger's root", &[d, i], &[s], "no-issuer", false, ""),
        case("at a stranger's root, with our own sent", &[d, i, r], &[s], "not-enrolled", false, ""),
        case("self-signed, unknown", &[&own.der], &[r], "not-enrolled", false, ""),
        case(
            "the device's own certificate enrolled as what signs",
            &[&own.der],
            &[&own.der],
            "not-a-ca",
            true,
            "a signing certificate is a CA; a device's own belongs into an individual enrollment",
        ),
    ]
}

fn namesakes() -> Vec<Case> {
    let [first, second] = [(), ()].map(|()| Recipe::authority("Root").self_signed(Kind::P256));
    let device = Recipe::device("press-1").by(&second);
    let issuing = Recipe::authority("Issuing").by(&first);
    // The same name and key, certified by another.
    let other = Recipe::authority("Other").self_signed(Kind::P256);
    let crossed = Recipe::authority("Issuing").signed(&issuing.key, &other.key, &other.subject);
    let below = Recipe::device("press-1").by(&issuing);
    let impostor = Recipe::authority("Issuing").by(&first);
    let mut marked = Recipe::authority("Issuing");
    marked.extensions.push(subject_key_id(b"issuing"));
    let marked = marked.by(&first);
    let with_id = |id: &[u8]| {
        let mut recipe = Recipe::device("press-1");
        recipe.extensions.push(authority_key_id(id));
        recipe.by(&marked).der
    };
    let (f, s, i) = (&first.der[..], &second.der[..], &issuing.der[..]);
    vec![
        case(
            "two roots of one name, the second signed",
            &[&device.der],
            &[f, s],
            "admitted",
            false,
            EVERY_NAMESAKE,
        ),
        case("two roots of one name, the second alone", &[&device.der], &[s], "admitted", true, ""),
        case("a root of the right name and another key", &[&device.der], &[f], "signature", false, ""),
        case(
            "cross-signed: by the one root",
            &[&below.der, &crossed, i],
            &[f],
            "admitted",
            false,
            EVERY_NAMESAKE,
        ),
        case(
            "cross-signed: by the other root",
            &[&below.der, i, &crossed],
            &[&other.der],
            "admitted",
            false,
            EVERY_NAMESAKE,
        ),
        case(
            "cross-signed: the certificate of the other way is missing",
            &[&below.der, i],
            &[&other.der],
            "no-issuer",
            false,
            "",
        ),
        case(
            "an impostor before the intermediate",
            &[&below.der, &impostor.der, i],
            &[f],
            "admitted",
            false,
            EVERY_NAMESAKE,
        ),
        case("an impostor in its place", &[&below.der, &impostor.der], &[f], "signature", false, ""),
        case("enrolled by its cross-signed certificate", &[&below.der, i], &[&crossed], "admitted", true, ""),
        case(
            "authorityKeyIdentifier that fits",
            &[&with_id(b"issuing"), &marked.der],
            &[f],
            "admitted",
            true,
            "",
        ),
        case(
            "authorityKeyIdentifier of another key",
            &[&with_id(b"another"), &marked.der],
            &[f],
            "admitted",
            false,
            "key identifiers say where to look first, and the signature decides",
        ),
        case(
            "authorityKeyIdentifier without a counterpart",
            &[&with_id(b"another")],
            &[f],
            "no-issuer",
            false,
            "",
        ),
    ]
}

fn limits() -> Vec<Case> {
    let limited = |name: &str, most: u8| {
        let mut recipe = Recipe::authority(name);
        recipe.extensions[0] = authority_constraints(Some(most));
        recipe
    };
    let mut cases = Vec::new();
    for most in 0..3_u8 {
        for below in 0..4_usize {
            let root = limited("Top", most).self_signed(Kind::P256);
            let mut chain = Vec::new();
            let mut last = root;
            let anchor = last.der.clone();
            for number in 0..below {
                last = Recipe::authority(&format!("Below {number}")).by(&last);
                chain.insert(0, last.der.clone());
            }
            chain.insert(0, Recipe::device("press-1").by(&last).der);
            let is_fit = below <= usize::from(most);
            let sent: Vec<_> = chain.iter().map(Vec::as_slice).collect();
            let ours = if is_fit { "admitted" } else { "path-length" };
            cases.push(case(
                &format!("pathLen {most} with {below} CAs below"),
                &sent,
                &[&anchor],
                ours,
                is_fit,
                "",
            ));
        }
    }
    // A CA that certifies itself anew does not count.
    let root = limited("Top", 0).self_signed(Kind::P256);
    let renewed = limited("Top", 0).by(&root);
    let device = Recipe::device("press-1").by(&renewed);
    cases.push(case(
        "pathLen 0 with a self-issued certificate below",
        &[&device.der, &renewed.der],
        &[&root.der],
        "admitted",
        false,
        EVERY_NAMESAKE,
    ));
    for count in [5_usize, 6, 7, 9] {
        let root = Recipe::authority("Top").self_signed(Kind::P256);
        let mut chain = Vec::new();
        let anchor = root.der.clone();
        let mut last = root;
        for number in 1..count {
            last = Recipe::authority(&format!("Below {number}")).by(&last);
            chain.insert(0, last.der.clone());
        }
        chain.insert(0, Recipe::device("press-1").by(&last).der);
        let sent: Vec<_> = chain.iter().map(Vec::as_slice).collect();
        let is_fit = count <= 6;
        let why = if is_fit { "" } else { "no more than 6 certificates above the device's are walked" };
        let ours = if is_fit { "admitted" } else { "too-deep" };
        cases.push(case(
            &format!("{count} certificates above the device's"),
            &sent,
            &[&anchor],
            ours,
            true,
            why,
        ));
    }
    cases
}

fn keys() -> Vec<Case> {
    let kinds = [Kind::P256, Kind::P384, Kind::P521, Kind::Ed25519, Kind::Rsa, Kind::RsaPss, Kind::RsaNoNull];
    let mut cases = Vec::new();
    for kind in kinds {
        let root = Recipe::authority("Root").self_signed(kind);
        let issuing = Recipe::authority("Issuing").by_with(&root, kind);
        let device = Recipe::device("press-1").by_with(&issuing, kind);
        let sent = [&device.der[..], &issuing.der];
        cases.push(case(
            &format!("keys and signatures: {kind:?}"),
            &sent,
            &[&root.der],
            "admitted",
            true,
            "",
        ));
        let mut changed = Recipe::device("press-1");
        changed.is_tampered = true;
        let device = changed.by_with(&issuing, kind);
        let sent = [&device.der[..], &issuing.der];
        cases.push(case(
            &format!("a changed signature: {kind:?}"),
            &sent,
            &[&root.der],
            "signature",
            false,
            "",
        ));
    }
    cases
}

fn names() -> Vec<Case> {
    let issuing = Recipe::authority("Issuing CA").self_signed(Kind::P256);
    let mut cases = Vec::new();
    for (label, spelled, is_fit) in [
        ("in another kind of string", name(PRINTABLE, b"Issuing CA"), true),
        ("in other case", name(UTF8, b"ISSUING ca"), true),
        ("with more white space", name(UTF8, b" Issuing   CA "), true),
        ("with another letter", name(UTF8, b"Issuing CB"), false),
        ("with an organisation", organised(&["Issuing CA"]), false),
    ] {
        let mut recipe = Recipe::device("press-1");
        recipe.issuer = Some(spelled);
        let device = recipe.by(&issuing);
        let ours = if is_fit { "admitted" } else { "no-issuer" };
        cases.push(case(
            &format!("issuer's name {label}"),
            &[&device.der],
            &[&issuing.der],
            ours,
            is_fit,
            "",
        ));
    }
    cases
}
