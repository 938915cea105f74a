//! The configuration as it counts, every default included, in TOML. Spec: DPS-SERVE-8.

use std::collections::HashSet;
use std::fmt::{Display, Write as _};

use dps_core::access::Right;
use dps_server::limits::Limits;

use super::chain_rules::CA_LEAVES;
use super::fault::Located;
use super::hub::{HUB_KINDS, Hub};
use super::instances::{ALLOCATION_POLICIES, CLAIMS, Instance, Policy, UNAVAILABLE};
use super::key::{Key, Section, Standard, sections};
use super::limits::LIMITS;
use super::secret::{Secret, Source};
use super::store::{Place, Postgres, Store};
use super::{Broker, Configuration};

/// Widest comment, in characters.
const WIDTH: usize = 110;

/// The values of one table, in TOML.
type Values = Vec<(&'static str, String)>;

/// What `configuration` says, and what it leaves to the defaults. Of secrets it shows where they lie.
pub(crate) fn show(configuration: &Configuration) -> String {
    let Configuration { listen, certificates, store, limits, outbound, log, instances, warnings: _ } =
        configuration;
    let mut page = Page::default();
    for section in sections() {
        match section.path {
            "listen" => {
                let addresses = |all: &[Located<_>]| list(all.iter().map(|address| quoted(&address.value)));
                let mut values = vec![
                    ("mqtt", addresses(&listen.mqtt)),
                    ("https", addresses(&listen.https)),
                    ("admin", quoted(&listen.admin.value)),
                    (
                        "proxy_protocol_from",
                        list(listen.proxy_protocol_from.iter().map(|from| quoted(&from.value.0))),
                    ),
                ];
                values.extend(
                    listen
                        .admin_token
                        .as_ref()
                        .map(|token| secret(token, ["admin_token_file", "admin_token_env"])),
                );
                page.table(&section, &values);
            }
            "listen.broker" => page.table(&section, &broker_values(listen.broker.as_ref())),
            "tls.certificate" => {
                for certificate in certificates {
                    let path = |path: &Located<std::path::PathBuf>| quoted(&path.value.display());
                    let (chain, key) = (path(&certificate.chain_file), path(&certificate.key_file));
                    page.table(&section, &[("chain_file", chain), ("key_file", key)]);
                }
            }
            "store" => {
                page.table(&section, &store_values(store));
            }
            "limits" => page.table(&section, &limit_values(limits)),
            "outbound" => {
                let mut values = vec![("allow", list(outbound.allow.iter().map(quoted)))];
                let file = outbound.ca_file.as_ref();
                values.extend(file.map(|file| ("ca_file", quoted(&file.value.display()))));
                page.table(&section, &values);
            }
            "log" => {
                let values = [("format", quoted(&log.format.word())), ("level", quoted(&log.level.word()))];
                page.table(&section, &values);
            }
            "instance" => instances.iter().for_each(|instance| show_instance(&mut page, instance)),
            // Those of an instance stand below it.
            _ => {}
        }
    }
    page.text
}

fn store_values(store: &Store) -> Values {
    let mut values = vec![
        ("kind", quoted(&store.kind())),
        secret(&store.sealing_key, ["sealing_key_file", "sealing_key_env"]),
    ];
    match &store.place {
        Place::DataDir(data_dir) => values.push(("data_dir", quoted(&data_dir.value.display()))),
        Place::Postgres(postgres) => {
            let Postgres { url, schema, connections, ca, allow_unsafe_durability } = &**postgres;
            values.extend([
                secret(url, ["url_file", "url_env"]),
                ("schema", quoted(&schema.as_str())),
                ("connections", connections.to_string()),
                ("allow_unsafe_durability", allow_unsafe_durability.to_string()),
            ]);
            values.extend(ca.as_ref().map(|(path, _)| ("ca_file", quoted(&path.value.display()))));
        }
    }
    values
}

fn broker_values(broker: Option<&Broker>) -> Values {
    let certificate_login = broker.is_some_and(|broker| broker.certificate_login);
    let mut values = vec![("certificate_login", certificate_login.to_string())];
    if let Some(Broker { address, client_ca, hub, .. }) = broker {
        values.push(("address", quoted(&address.value)));
        values.extend(client_ca.as_ref().map(|(path, _)| ("client_ca_file", quoted(&path.value.display()))));
        values.extend(hub.as_ref().map(|hub| ("hub", quoted(&hub.value))));
    }
    values
}

/// Every key, its default where it has one, all of it commented out but the headers of tables that stand once.
pub(crate) fn show_defaults() -> String {
    let mut page = Page::default();
    for section in sections() {
        page.table(&section, &[]);
    }
    let comment_out =
        |line: &str| if line.starts_with("[[") { format!("# {line}\n") } else { format!("{line}\n") };
    page.text.lines().map(comment_out).collect()
}

fn show_instance(page: &mut Page, instance: &Instance) {
    for section in sections() {
        match section.path {
            "instance" => {
                let hosts = instance.service_hosts.iter().map(|host| quoted(&host.value));
                let values = [
                    ("id_scope", quoted(&instance.id_scope.value)),
                    ("service_hosts", list(hosts)),
                    (
                        "default_allocation_policy",
                        word(&ALLOCATION_POLICIES, &instance.default_allocation_policy),
                    ),
                    ("claim_across_groups", word(&CLAIMS, &instance.claim_across_groups)),
                    ("when_source_unavailable", word(&UNAVAILABLE, &instance.when_source_unavailable)),
                    ("pass_over_unhealthy_hubs", instance.passes_over_unhealthy_hubs.to_string()),
                ];
                page.table(&section, &values);
            }
            "instance.x509" => {
                let rules = &instance.chain_rules;
                let values = [
                    ("allow_v1_leaf", rules.allow_v1_leaf.to_string()),
                    ("allow_v1_self_signed_anchor", rules.allow_v1_self_signed_anchor.to_string()),
                    ("allow_ca_leaf", word(&CA_LEAVES, &rules.allow_ca_leaf)),
                    ("enforce_anchor_expiry", rules.enforce_anchor_expiry.to_string()),
                ];
                page.table(&section, &values);
            }
            "instance.hub" => {
                for hub in &instance.hubs {
                    page.table(&section, &hub_values(hub));
                }
            }
            "instance.shared_access_policy" => {
                for Policy { name, rights, primary, secondary } in &instance.policies {
                    let mut values = vec![
                        ("name", quoted(&name.value)),
                        ("rights", list(rights.iter().map(|right: &Right| quoted(right)))),
                        secret(primary, ["primary_key_file", "primary_key_env"]),
                    ];
                    let secondary = secondary.as_ref();
                    values.extend(
                        secondary.map(|key| secret(key, ["secondary_key_file", "secondary_key_env"])),
                    );
                    page.table(&section, &values);
                }
            }
            _ => {}
        }
    }
}

fn hub_values(hub: &Hub) -> Values {
    let mut values = vec![
        ("name", quoted(&hub.name.value)),
        ("kind", word(&HUB_KINDS, &hub.kind)),
        ("allocation_weight", hub.allocation_weight.to_string()),
        ("apply_allocation_policy", hub.applies_allocation_policy.to_string()),
        ("networks", list(hub.networks.iter().map(quoted))),
        ("draining", hub.is_draining.to_string()),
    ];
    let connection_string = hub.connection_string.as_ref();
    values.extend(
        connection_string.map(|given| secret(given, ["connection_string_file", "connection_string_env"])),
    );
    values
}

fn limit_values(limits: &Limits) -> Values {
    LIMITS.iter().filter_map(|limit| Some((limit.name, (limit.get)(limits)?.to_string()))).collect()
}

/// Tables, one below the other.
#[derive(Default)]
struct Page {
    text: String,
    explained: HashSet<&'static str>,
}

impl Page {
    /// A table, the first of its kind with comments. There, a key without a value is shown as a comment, with its default
    /// where it has one.
    fn table(&mut self, section: &Section, values: &[(&'static str, String)]) {
        let text = &mut self.text;
        let is_first = self.explained.insert(section.path);
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        if is_first {
            comment(text, section.about);
        }
        let _ = writeln!(text, "{}", section.header());
        for key in &section.keys {
            if is_first {
                text.push('\n');
                comment(text, key.meaning);
                comment(text, &terms(key));
            }
            let value = values.iter().find(|(name, _)| *name == key.name).map(|(_, value)| value);
            let _ = match (value, &key.default) {
                (Some(value), _) => writeln!(text, "{} = {value}", key.name),
                _ if !is_first => Ok(()),
                (None, Standard::Value(value)) => writeln!(text, "# {} = {value}", key.name),
                (None, Standard::Required | Standard::Nothing(_)) => writeln!(text, "# {} =", key.name),
            };
        }
    }
}

/// What may stand there, and what counts when nothing does.
fn terms(key: &Key) -> String {
    let default = match &key.default {
        Standard::Required => "required".to_owned(),
        Standard::Nothing(meaning) => format!("without it: {meaning}"),
        Standard::Value(value) => format!("default {value}"),
    };
    format!("{}; {default}", key.form)
}

fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

fn secret<T>(secret: &Secret<T>, [file, environment]: [&'static str; 2]) -> (&'static str, String) {
    match &secret.source {
        Source::File(path) => (file, quoted(&path.display())),
        Source::Environment(name) => (environment, quoted(name)),
    }
}

fn word<T: PartialEq>(words: &[(&str, T)], value: &T) -> String {
    words.iter().find(|(_, other)| other == value).map(|(word, _)| quoted(word)).unwrap_or_default()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A TOML text.
fn quoted(text: &impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}
