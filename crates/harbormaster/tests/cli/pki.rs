//! `pki` and `certificate`: from an empty directory to a chain that a running service would admit.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::command::User;
use crate::dev::Dev;

fn mode(user: &User, file: &str) -> u32 {
    std::fs::metadata(user.home().join(file)).unwrap().permissions().mode() & 0o777
}

/// A user with a PKI and the chains of these devices.
fn with_devices(devices: &[&str]) -> User {
    let user = User::new();
    user.run(&["pki", "init"]).done();
    user.run(&[&["pki", "issue"], devices].concat()).done();
    user
}

/// DPS-CLI-18
#[test]
fn certificates_are_made_once_and_keys_are_for_their_owner_alone() {
    let user = with_devices(&["press-1", "Press:2"]);
    assert_eq!(mode(&user, "pki"), 0o700);
    for (file, expected) in [
        ("root-ca.key", 0o600),
        ("issuing-ca.key", 0o600),
        ("press-1.key", 0o600),
        ("root-ca.pem", 0o644),
        ("Press:2.pem", 0o644),
    ] {
        assert_eq!(mode(&user, &format!("pki/{file}")), expected, "{file}");
    }
    let before = std::fs::read(user.home().join("pki/root-ca.key")).unwrap();
    user.run(&["pki", "init"]).failed(1, &["pki/root-ca.pem: it is there already", "name another place"]);
    user.run(&["pki", "issue", "press-1"]).failed(1, &["pki/press-1.pem: it is there already"]);
    assert_eq!(std::fs::read(user.home().join("pki/root-ca.key")).unwrap(), before);
    user.run(&["pki", "issue", "press-3", "--dir", "nowhere"]).failed(64, &["`pki init` makes it"]);
    user.run(&["pki", "issue", &"x".repeat(65)]).failed(64, &["do not fit into the common name"]);
}

/// DPS-CLI-18, DPS-CLI-19
#[test]
fn each_kind_of_key_signs_chains_that_hold() {
    for (authority, device, shown) in
        [("p256", "p384", "P-384"), ("p384", "rsa2048", "RSA 2048"), ("rsa2048", "p256", "P-256")]
    {
        let user = User::new();
        user.run(&["pki", "init", "--key-type", authority, "--name", "Plant 7"]).done();
        user.run(&["pki", "issue", "press-1", "--key-type", device]).done();
        let inspected = user.run(&["pki", "inspect", "pki/press-1.pem", "--output", "json"]).json();
        let (own, issuing) = (&inspected[0], &inspected[1]);
        assert_eq!(own["subjectName"], "CN=press-1");
        assert_eq!(
            (&own["keyKind"], &own["isCa"], &own["nextIsIssuer"]),
            (&shown.into(), &false.into(), &true.into())
        );
        assert_eq!(
            (&issuing["issuerName"], &issuing["pathLength"]),
            (&"CN=Plant 7 root CA".into(), &0.into())
        );
        assert_eq!(own["sha1Thumbprint"].as_str().unwrap().len(), 40);
        user.run(&["pki", "verify", "pki/press-1.pem", "--signer", "pki/root-ca.pem"]).done();
    }
}

/// DPS-CLI-19
#[test]
fn what_is_no_certificate_is_not_inspected() {
    let user = with_devices(&["press-1"]);
    let told = user.run(&["pki", "inspect", "pki/issuing-ca.pem"]).done();
    for words in
        ["CN=Harbormaster issuing CA", "yes, 0 CAs below it at most", "may sign certificates", "P-256"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    user.run(&["pki", "inspect", "pki/press-1.key"]).failed(64, &["there is no certificate in it"]);
    let cut = user.file("cut.der", [0x30, 0x03, 0x02]);
    user.run(&["pki", "inspect", &cut]).failed(64, &["certificate 1: it is not an X.509 certificate in DER"]);
}

/// DPS-CLI-20
#[test]
fn a_chain_is_judged_by_signing_certificates_at_hand() {
    let user = with_devices(&["press-1"]);
    user.run(&["pki", "issue", "lone", "--self-signed"]).done();
    let judged = |arguments: &[&str]| user.run(&[&["pki", "verify"], arguments].concat());
    let admitted = judged(&["pki/press-1.pem", "--signer", "pki/root-ca.pem"]).done();
    assert!(
        admitted.contains("the signing certificate of pki/root-ca.pem, CN=Harbormaster root CA"),
        "{admitted}"
    );
    for (arguments, rule) in [
        (["pki/lone.pem", "--signer", "pki/root-ca.pem"].as_slice(), "not-enrolled"),
        (&["pki/issuing-ca.pem", "--signer", "pki/root-ca.pem"], "ca-leaf"),
        (&["pki/press-1.pem", "--signer", "pki/lone.pem"], "no-issuer"),
        (
            &["pki/press-1.pem", "--signer", "pki/root-ca.pem", "--registration-id", "press-2"],
            "registration-id",
        ),
    ] {
        let ended = judged(&[arguments, &["--output", "json"]].concat());
        let json: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((ended.code, &json["rule"]), (77, &rule.into()), "{json}");
    }
}

/// DPS-CLI-17, DPS-CLI-20, DPS-EXPLAIN-13, DPS-X509-24
#[test]
fn a_running_service_says_what_it_would_make_of_a_chain() {
    let user = with_devices(&["press-1"]);
    let _dev = Dev::start(&user);
    let refused = user.run(&["pki", "verify", "pki/press-1.pem"]);
    assert_eq!(refused.code, 77);
    for words in ["be refused", "neither sent along nor uploaded nor enrolled", "path tried", "broke at"] {
        assert!(refused.out.contains(words), "{words}: {}", refused.out);
    }
    let created = user.run(&["certificate", "create", "plant", "--certificate", "pki/root-ca.pem"]);
    assert!(created.code == 0 && created.err.contains("certificate verification-code plant"), "{created:?}");
    user.run(&["certificate", "create", "Plant", "--certificate", "pki/root-ca.pem"])
        .failed(73, &["already"]);
    let code = user.run(&["certificate", "verification-code", "plant", "--output", "json"]).json();
    let code = code["verificationCode"].as_str().unwrap().to_owned();
    user.run(&["certificate", "verify", "plant", "--certificate", "pki/root-ca.pem"])
        .failed(1, &["its common name is not the verification code"]);
    user.run(&["pki", "issue", "--verification-code", &code]).done();
    let verified = user.run(&["certificate", "verify", "plant", "--certificate", "pki/proof.pem"]).done();
    assert!(verified.contains("verified     yes"), "{verified}");

    user.run(&["enrollment-group", "create", "line", "--certificate", "pki/root-ca.pem"]).done();
    let admitted = user.run(&["pki", "verify", "pki/press-1.pem", "--output", "json"]).json();
    assert_eq!(
        (&admitted["outcome"], &admitted["entry"]),
        (&"admitted".into(), &"enrollment group line".into())
    );
    assert_eq!(admitted["path"].as_array().unwrap().len(), 3);
    assert_eq!(user.run(&["certificate", "list", "--output", "json"]).json()[0]["isVerified"], true);
    user.run(&["certificate", "delete", "plant"]).done();
    user.run(&["certificate", "show", "plant"]).failed(66, &["there is no CA certificate plant"]);
}
