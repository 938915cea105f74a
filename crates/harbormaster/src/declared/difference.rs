//! How an instance differs from what a file says of it. Spec: DPS-CLI-31.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use super::wanted::{Wanted, WantedCertificate};
use super::{Current, is_named};
use crate::manage::table::text;

/// Settings of the instance itself: where the admin API has them, and what they are called in a file.
const SETTINGS: [(&str, &str); 9] = [
    ("/serviceHosts", "service_hosts"),
    ("/defaultAllocationPolicy", "default_allocation_policy"),
    ("/claimAcrossGroups", "claim_across_groups"),
    ("/whenSourceUnavailable", "when_source_unavailable"),
    ("/passOverUnhealthyHubs", "pass_over_unhealthy_hubs"),
    ("/x509/allowV1Leaf", "x509.allow_v1_leaf"),
    ("/x509/allowV1SelfSignedAnchor", "x509.allow_v1_self_signed_anchor"),
    ("/x509/allowCaLeaf", "x509.allow_ca_leaf"),
    ("/x509/enforceAnchorExpiry", "x509.enforce_anchor_expiry"),
];

/// One thing that is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    kind: Kind,
    /// Such as `linked hub a.example`.
    what: String,
    /// Such as `weight 1 -> 2`. Never a key.
    how: String,
    /// What is done to a CA certificate, where it is one.
    certificate: Option<CertificateChange>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Made,
    Changed,
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct CertificateChange {
    name: String,
    /// `None`: it is deleted.
    wanted: Option<WantedCertificate>,
}

/// Everything by which `current` differs from what is wanted, what is deleted last.
pub(super) fn between(wanted: &Wanted, current: Option<&Current>) -> Vec<Difference> {
    let nothing = Value::Null;
    let have = current.map_or(&nothing, |current| &current.settings);
    let mut differences = Vec::new();
    if current.is_none() {
        differences.push(Difference::made("the instance", String::new()));
    }
    for (pointer, name) in SETTINGS {
        let (new, old) = (wanted.settings.pointer(pointer), have.pointer(pointer));
        if new != old {
            let shown = |value: Option<&Value>| format!("[{}]", value.map(text).unwrap_or_default());
            let how = match old {
                Some(_) => format!("{} -> {}", shown(old), shown(new)),
                None => shown(new),
            };
            differences.push(Difference { kind: Kind::of(old.is_some()), ..Difference::made(name, how) });
        }
    }
    let lists = [
        ("linkedHubs", "linked hub", Part::Hub),
        ("sharedAccessPolicies", "shared access policy", Part::Policy),
    ];
    for (member, noun, part) in lists {
        compare_parts(part, noun, &wanted.settings[member], &have[member], &mut differences);
    }
    let certificates = current.map(|current| current.certificates.as_slice()).unwrap_or_default();
    compare_certificates(&wanted.certificates, certificates, &mut differences);
    // What is made may take the place of what goes.
    differences.sort_by_key(|difference| difference.kind == Kind::Gone);
    differences
}

/// What stands in a list of an instance.
#[derive(Clone, Copy)]
enum Part {
    Hub,
    Policy,
}

impl Part {
    /// What is worth telling of one that is new.
    fn describe(self, item: &Value) -> String {
        match self {
            Self::Hub => format!("{}, weight {}", text(&item["kind"]), item["allocationWeight"]),
            Self::Policy => text(&item["rights"]),
        }
    }

    /// By what it differs.
    fn changes(self, new: &Value, old: &Value) -> Vec<String> {
        let mut changes = Vec::new();
        let mut compare = |member: &str, name: &str| {
            if new[member] != old[member] {
                changes.push(format!("{name} {} -> {}", text(&old[member]), text(&new[member])));
            }
        };
        match self {
            Self::Hub => {
                compare("kind", "kind");
                compare("allocationWeight", "weight");
                compare("applyAllocationPolicy", "apply_allocation_policy");
                compare("networks", "networks");
                compare("draining", "draining");
                let connection = |hub: &Value| hub["connection"].clone();
                if connection(new) != connection(old) {
                    changes.push("another connection string".to_owned());
                }
            }
            Self::Policy => {
                let rights = |policy: &Value| {
                    policy["rights"].as_array().into_iter().flatten().map(text).collect::<BTreeSet<_>>()
                };
                if rights(new) != rights(old) {
                    compare("rights", "rights");
                }
                for (member, name) in
                    [("primaryKeySha256", "primary key"), ("secondaryKeySha256", "secondary key")]
                {
                    if new[member] != old[member] {
                        changes.push(format!("another {name}"));
                    }
                }
            }
        }
        changes
    }
}

fn compare_parts(part: Part, noun: &str, wanted: &Value, have: &Value, differences: &mut Vec<Difference>) {
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let (wanted, have) = (items(wanted), items(have));
    let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
    for new in &wanted {
        let what = format!("{noun} {}", text(&new["name"]));
        match have.iter().find(|old| is_named(&old["name"], &name(new))) {
            None => differences.push(Difference::made(&what, part.describe(new))),
            Some(old) => {
                let changes = part.changes(new, old);
                if !changes.is_empty() {
                    let how = changes.join(", ");
                    differences.push(Difference { kind: Kind::Changed, ..Difference::made(&what, how) });
                }
            }
        }
    }
    for old in have.iter().filter(|old| !wanted.iter().any(|new| is_named(&new["name"], &name(old)))) {
        let what = format!("{noun} {}", text(&old["name"]));
        differences.push(Difference { kind: Kind::Gone, ..Difference::made(&what, String::new()) });
    }
}

fn compare_certificates(wanted: &[WantedCertificate], have: &[Value], differences: &mut Vec<Difference>) {
    for new in wanted {
        let old = have.iter().find(|old| is_named(&old["name"], &new.name));
        let is_other = old.is_some_and(|old| old["certificate"] != *new.certificate);
        // One that was verified by a proof meanwhile stays so.
        let is_unverified = new.is_verified && old.is_some_and(|old| old["isVerified"] != true);
        let how = match old {
            None if new.is_verified => "verified".to_owned(),
            None => "admits nobody before it is verified".to_owned(),
            Some(_) if is_other => "another certificate".to_owned(),
            Some(_) if is_unverified => "verified".to_owned(),
            Some(_) => continue,
        };
        let what = format!("CA certificate {}", new.name);
        let certificate = Some(CertificateChange { name: new.name.clone(), wanted: Some(new.clone()) });
        let kind = Kind::of(old.is_some());
        differences.push(Difference { kind, certificate, ..Difference::made(&what, how) });
    }
    let is_wanted = |old: &Value| wanted.iter().any(|new| is_named(&old["name"], &new.name));
    for old in have.iter().filter(|old| !is_wanted(old)) {
        let name = old["name"].as_str().unwrap_or_default().to_owned();
        let what = format!("CA certificate {}", text(&old["name"]));
        let certificate = Some(CertificateChange { name, wanted: None });
        differences.push(Difference {
            kind: Kind::Gone,
            certificate,
            ..Difference::made(&what, String::new())
        });
    }
}

impl Kind {
    /// What happens to what was there before, or was not.
    fn of(was_there: bool) -> Self {
        if was_there { Self::Changed } else { Self::Made }
    }
}

impl Difference {
    fn made(what: &str, how: String) -> Self {
        Self { kind: Kind::Made, what: what.to_owned(), how, certificate: None }
    }

    /// Whether the settings are to be written for it.
    pub(super) fn is_of_settings(&self) -> bool {
        self.certificate.is_none()
    }

    /// The name of a CA certificate, and what it is to be; `None` where it goes.
    pub(super) fn certificate(&self) -> Option<(&str, Option<&WantedCertificate>)> {
        let change = self.certificate.as_ref()?;
        Some((&change.name, change.wanted.as_ref()))
    }

    /// Members are only ever added.
    pub(super) fn to_json(&self, id_scope: &str) -> Value {
        let change = match self.kind {
            Kind::Made => "made",
            Kind::Changed => "changed",
            Kind::Gone => "deleted",
        };
        json!({"idScope": id_scope, "change": change, "what": self.what, "how": self.how})
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            Kind::Made => '+',
            Kind::Changed => '~',
            Kind::Gone => '-',
        };
        write!(f, "{sign} {}", self.what)?;
        if self.how.is_empty() { Ok(()) } else { write!(f, ": {}", self.how) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Value {
        json!({
            "idScope": "0ne0000000A",
            "serviceHosts": ["a.example"],
            "defaultAllocationPolicy": "hashed",
            "claimAcrossGroups": "allow",
            "whenSourceUnavailable": "fail",
            "passOverUnhealthyHubs": false,
            "x509": {"allowV1Leaf": true, "allowV1SelfSignedAnchor": true, "allowCaLeaf": "enrolled", "enforceAnchorExpiry": true},
            "linkedHubs": [{"name": "a.hub", "kind": "local", "allocationWeight": 1}],
            "sharedAccessPolicies": [
                {"name": "owner", "rights": ["A", "B"], "primaryKeySha256": "11", "secondaryKeySha256": "22"}
            ],
        })
    }

    fn wanted(settings: Value, certificates: &[(&str, &str, bool)]) -> Wanted {
        let certificate = |(name, certificate, is_verified): &(&str, &str, bool)| WantedCertificate {
            name: (*name).to_owned(),
            certificate: (*certificate).to_owned(),
            is_verified: *is_verified,
        };
        Wanted {
            id_scope: "0ne0000000A".to_owned(),
            body: settings.clone(),
            settings,
            certificates: certificates.iter().map(certificate).collect(),
        }
    }

    fn told(wanted: &Wanted, current: Option<Current>) -> Vec<String> {
        between(wanted, current.as_ref()).iter().map(ToString::to_string).collect()
    }

    /// DPS-CLI-31
    #[test]
    fn what_is_the_same_in_another_case_or_order_does_not_differ() {
        let mut other = settings();
        other["sharedAccessPolicies"][0]["name"] = "OWNER".into();
        other["sharedAccessPolicies"][0]["rights"] = json!(["B", "A"]);
        other["linkedHubs"][0]["name"] = "A.hub".into();
        other["etag"] = "e".into();
        let certificates = vec![json!({"name": "PLANT", "certificate": "x", "isVerified": true})];
        let current = Current { settings: other, certificates };
        assert_eq!(told(&wanted(settings(), &[("plant", "x", false)]), Some(current)), [""; 0]);
    }

    /// DPS-CLI-31
    #[test]
    fn each_difference_is_told_in_the_words_of_the_file_and_what_goes_comes_last() {
        let mut new = settings();
        new["serviceHosts"] = json!(["a.example", "b.example"]);
        new["x509"]["allowCaLeaf"] = "never".into();
        new["linkedHubs"] = json!([
            {"name": "a.hub", "kind": "local", "allocationWeight": 7},
            {"name": "b.hub", "kind": "static", "allocationWeight": 1},
        ]);
        new["sharedAccessPolicies"][0]["primaryKeySha256"] = "33".into();
        let mut old = settings();
        let policies = old["sharedAccessPolicies"].as_array_mut().unwrap();
        policies.push(
            json!({"name": "reader", "rights": [], "primaryKeySha256": "4", "secondaryKeySha256": "5"}),
        );
        let certificates = vec![
            json!({"name": "old", "certificate": "o", "isVerified": true}),
            json!({"name": "same", "certificate": "s", "isVerified": false}),
        ];
        let reached = |fingerprint: &str| json!({"hostName": "c.hub", "sharedAccessKeyName": "r", "sharedAccessKeySha256": fingerprint});
        let azure = |connection: Value, draining: bool| {
            json!({
                "name": "c.hub", "kind": "azureIotHub", "allocationWeight": 1, "draining": draining, "connection": connection,
            })
        };
        new["linkedHubs"].as_array_mut().unwrap().push(azure(reached("11"), true));
        old["linkedHubs"].as_array_mut().unwrap().push(azure(reached("22"), false));
        new["whenSourceUnavailable"] = "reset".into();
        new["passOverUnhealthyHubs"] = true.into();
        let wanted = wanted(new, &[("same", "s", true), ("new", "n", false)]);
        assert_eq!(
            told(&wanted, Some(Current { settings: old, certificates })),
            [
                "~ service_hosts: [a.example] -> [a.example, b.example]",
                "~ when_source_unavailable: [fail] -> [reset]",
                "~ pass_over_unhealthy_hubs: [false] -> [true]",
                "~ x509.allow_ca_leaf: [enrolled] -> [never]",
                "~ linked hub a.hub: weight 1 -> 7",
                "+ linked hub b.hub: static, weight 1",
                "~ linked hub c.hub: draining false -> true, another connection string",
                "~ shared access policy owner: another primary key",
                "~ CA certificate same: verified",
                "+ CA certificate new: admits nobody before it is verified",
                "- shared access policy reader",
                "- CA certificate old",
            ]
        );
        assert_eq!(told(&wanted, None)[0], "+ the instance");
    }
}
