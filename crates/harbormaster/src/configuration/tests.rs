//! Configurations, good and bad.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use dps_core::instance::WhenSourceUnavailable;
use tempfile::TempDir;

use super::key::{Standard, sections};
use super::secret::Source;
use super::*;

/// Base64 of 32 bytes.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A directory with everything that [`GOOD`] names.
struct Harbor {
    directory: TempDir,
}

const GOOD: &str = r#"[store]
data_dir = "data"
sealing_key_env = "SEALING"
[[tls.certificate]]
chain_file = "server.pem"
key_file = "server.key"
[[instance]]
id_scope = "0ne00C0FFEE"
service_hosts = ["dps.example"]
[[instance.hub]]
name = "hub.example"
kind = "local"
[[instance.shared_access_policy]]
name = "provisioningserviceowner"
rights = ["ServiceConfig", "EnrollmentRead", "EnrollmentWrite", "DeviceConnect", "RegistrationStatusRead", "RegistrationStatusWrite"]
primary_key_file = "owner.key"
"#;

impl Harbor {
    fn new() -> Self {
        let harbor = Self { directory: tempfile::tempdir().unwrap() };
        let made = rcgen::generate_simple_self_signed(["dps.example".to_owned()]).unwrap();
        harbor.write("server.pem", &made.cert.pem(), 0o644);
        harbor.write("server.key", &made.signing_key.serialize_pem(), 0o600);
        harbor.write("owner.key", KEY, 0o600);
        fs::create_dir(harbor.path("credentials")).unwrap();
        // As systemd leaves a credential: the group's rights are those of the access control list.
        harbor.write("credentials/owner.key", KEY, 0o440);
        harbor
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str, mode: u32) {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn parse(&self, text: &str) -> Result<Configuration, Faults> {
        let environment = |name: &str| match name {
            "SEALING" => Some(KEY.to_owned()),
            "SHORT" => Some("c2hvcnQ=".to_owned()),
            "DATABASE" => Some("postgresql://dps:s3cret@db.example/dps".to_owned()),
            "HOSTLESS" => Some("user=dps password=s3cret".to_owned()),
            "TOKEN" => Some("0123456789abcdef0123456789abcdef".to_owned()),
            "CREDENTIALS_DIRECTORY" => Some(self.path("credentials").display().to_string()),
            _ => None,
        };
        parse(&self.path("harbormaster.toml"), text, &environment)
    }

    /// The faults as `line:column: key: why`.
    fn faults(&self, text: &str) -> Vec<String> {
        let Err(Faults(faults)) = self.parse(text) else { return Vec::new() };
        let told = |fault: &Fault| {
            let Position { line, column } = fault.at;
            assert!(!fault.advice.is_empty(), "{fault}");
            format!("{line}:{column}: {}: {}", fault.key, fault.why)
        };
        faults.iter().map(told).collect()
    }

    fn warnings(&self, text: &str) -> Vec<String> {
        let warnings = self.parse(text).unwrap().warnings;
        warnings
            .iter()
            .map(|warning| format!("{}: {}: {}", warning.at.line, warning.key, warning.why))
            .collect()
    }
}

/// [`GOOD`] with `line` instead of the line that begins as `line` does up to its `=`, and what is wrong with it.
#[track_caller]
fn check_line(line: &str, expected: &[&str]) {
    check_instead(&format!("{} =", line.split(" =").next().unwrap()), line, expected);
}

#[track_caller]
fn check_instead(beginning: &str, line: &str, expected: &[&str]) {
    let replaced =
        |old: &'static str| if old.starts_with(beginning) { line.to_owned() } else { old.to_owned() };
    let text: Vec<String> = GOOD.lines().map(replaced).collect();
    assert_ne!(text.join("\n").trim(), GOOD.trim(), "nothing replaced");
    assert_eq!(Harbor::new().faults(&text.join("\n")), expected, "{line}");
}

#[track_caller]
fn check_more(lines: &str, expected: &[&str]) {
    assert_eq!(Harbor::new().faults(&format!("{GOOD}{lines}\n")), expected, "{lines}");
}

/// DPS-SERVE-1
#[test]
fn a_good_configuration_is_read_with_paths_from_its_own_directory() {
    let harbor = Harbor::new();
    let read = harbor.parse(GOOD).unwrap();
    assert_eq!(read.warnings, []);
    let Place::DataDir(data_dir) = &read.store.place else { panic!("{:?}", read.store) };
    assert_eq!(data_dir.value, harbor.path("data"));
    assert_eq!(read.certificates[0].key_file.value, harbor.path("server.key"));
    let [instance] = &*read.instances else { panic!("{:?}", read.instances) };
    assert_eq!(instance.id_scope.value.as_str(), "0ne00C0FFEE");
    assert_eq!(instance.policies[0].primary.source, Source::File(harbor.path("owner.key")));
    let credential = GOOD.replace("\"owner.key\"", "\"$CREDENTIALS_DIRECTORY/owner.key\"");
    let instance = &harbor.parse(&credential).unwrap().instances[0];
    assert_eq!(instance.policies[0].primary.source, Source::File(harbor.path("credentials/owner.key")));
}

/// [`GOOD`] with a database instead of a directory, and an admin token.
fn on_postgresql() -> String {
    let store = "kind = \"postgresql\"\nurl_env = \"DATABASE\"\nschema = \"dps_1\"\nconnections = 4\n";
    format!("{}[listen]\nadmin_token_env = \"TOKEN\"\n", GOOD.replace("data_dir = \"data\"\n", store))
}

/// DPS-SERVE-21
#[test]
fn a_database_is_named_by_a_secret_that_is_never_shown() {
    let harbor = Harbor::new();
    let made = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
    harbor.write("ca.pem", &made.cert.pem(), 0o644);
    let text = on_postgresql().replace("connections", "ca_file = \"ca.pem\"\nconnections");
    let read = harbor.parse(&text).unwrap();
    let Place::Postgres(postgres) = &read.store.place else { panic!("{:?}", read.store) };
    assert_eq!(postgres.url.source, Source::Environment("DATABASE".to_owned()));
    let options = postgres.options();
    assert_eq!((options.schema.as_str(), options.connections.get()), ("dps_1", 4));
    assert_eq!((options.root_certificates.len(), options.allow_loss), (1, false));
    let shown = show(&read);
    assert!(shown.contains("url_env = \"DATABASE\"") && shown.contains("connections = 4"), "{shown}");
    assert!(!format!("{shown}{read:?}").contains("s3cret"));
    let again = harbor.parse(&shown).unwrap();
    assert_eq!(show(&again), shown);
}

/// DPS-SERVE-21
#[test]
fn keys_of_one_kind_of_store_are_faults_beside_the_other() {
    let harbor = Harbor::new();
    let text = on_postgresql();
    let told = |text: &str| harbor.faults(text);
    let in_clear = "2:12: store.url_env: the connection string names no host";
    for (text, expected) in [
        (
            text.replace("\"postgresql\"", "\"sqlite\""),
            &[
                "1:1: store.data_dir: is missing",
                "3:11: store.url_env: means nothing for sqlite",
                "4:10: store.schema: means nothing for sqlite",
                "5:15: store.connections: means nothing for sqlite",
            ][..],
        ),
        (
            text.replace("connections = 4", "data_dir = \"data\""),
            &["5:12: store.data_dir: means nothing for postgresql"],
        ),
        (text.replace("url_env = \"DATABASE\"\n", ""), &["1:1: store.url_file: is missing"]),
        (text.replace("\"DATABASE\"", "\"HOSTLESS\""), &[&*in_clear.replace("2:12", "3:11")]),
        (
            text.replace("url_env = \"DATABASE\"", "url = \"postgresql://a:s3cret@db.example/d\""),
            &["3:1: store.url: a secret may not stand in the configuration itself"],
        ),
        (
            text.replace("\"dps_1\"", "\"DPS\""),
            &[
                "4:10: store.schema: \"DPS\": the name of a schema has 1 to 63 of a-z, 0-9 and _, begins with no digit, and not with pg_",
            ],
        ),
        (
            text.replace("connections = 4", "ca_file = \"owner.key\""),
            &["5:11: store.ca_file: there is no certificate in it"],
        ),
    ] {
        assert_eq!(told(&text), expected, "{text}");
    }
    let without_token = told(&text.replace("admin_token_env = \"TOKEN\"\n", ""));
    assert!(without_token[0].ends_with("listen.admin_token_file: is missing"), "{without_token:?}");
}

/// DPS-SERVE-2
#[test]
fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
    let harbor = Harbor::new();
    let text = "[listen]\nadmin = \"here\"\n[store]\nkind = \"paper\"\n[[instance]]\nid_scope = \"no-good\"\n\
                [[instance.hub]]\nname = \"a\"\n[[instance.hub]]\nname = \"A\"\nkind = \"local\"\n";
    let told = harbor.faults(text);
    let keys: Vec<&str> = told.iter().map(|fault| fault.split(": ").nth(1).unwrap()).collect();
    assert_eq!(
        keys,
        [
            "tls.certificate",
            "listen.admin",
            "store.sealing_key_file",
            "store.kind",
            "instance.shared_access_policy",
            "instance.id_scope",
            "instance.hub.kind",
            "instance.hub.name",
        ],
        "{told:#?}"
    );
}

/// DPS-SERVE-2
#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let told = Harbor::new().faults("[store\ndata_dir = \"a\"\n[limits]\nidle_s = 60\nidle_s = 70\n");
    assert!(told[0].starts_with("1:7: TOML: ") && told[1].starts_with("5:1: TOML: "), "{told:?}");
    // A secret on a broken line is not repeated.
    let secret = "primary_key = \"almostasecret\n";
    let Err(faults) = Harbor::new().parse(secret) else { panic!("{secret}") };
    assert!(!faults.to_string().contains("almostasecret"), "{faults}");
}

/// DPS-SERVE-2
#[test]
fn a_text_without_quotation_marks_is_told_apart() {
    for (text, is_bare) in [
        ("[[instance]]\nid_scope = 0ne00C0FFEE\n", true),
        ("[store]\ndata_dir = /var/lib/harbormaster # here\n", true),
        ("[store]\ndata_dir = \"/var/lib\n", false),
        ("[store\n", false),
    ] {
        let faults = Harbor::new().parse(text).unwrap_err().0;
        assert_eq!(faults[0].advice.contains("in quotation marks"), is_bare, "{faults:?}");
    }
}

/// DPS-SERVE-2
#[test]
fn a_path_that_only_a_shell_understands_and_a_data_dir_that_is_a_file_are_refused() {
    for path in ["~/data", "$HOME/data", "${HOME}/data"] {
        let why =
            "2:12: store.data_dir: a path is taken as it stands: only a shell would replace ~ or a variable";
        check_line(&format!("data_dir = \"{path}\""), &[why]);
    }
    check_line("data_dir = \"server.pem\"", &["2:12: store.data_dir: that is no directory"]);
}

/// DPS-SERVE-3
#[test]
fn an_unknown_key_is_told_with_the_nearest_known_one() {
    let told = |text: &str| Harbor::new().parse(&format!("{GOOD}{text}")).unwrap_err().0.remove(0);
    let unknown = told("[limits]\nconections = 5\n");
    assert_eq!((unknown.key.as_str(), unknown.at.line), ("limits.conections", 18));
    assert_eq!(unknown.advice, "did you mean connections?");
    assert_eq!(told("[lisen]\n").advice, "did you mean listen?");
    assert_eq!(told("[[instance.hubs]]\n").advice, "did you mean hub?");
    assert!(told("[log]\nzzz = 1\n").advice.contains("there are format, level"));
}

/// DPS-SERVE-16
#[test]
fn where_requests_may_go_is_judged_with_all_else() {
    let harbor = Harbor::new();
    let default = harbor.parse(GOOD).unwrap().outbound;
    assert_eq!((&*default.allow, default.ca_file), (&["public".to_owned()][..], None));
    let more = "[outbound]\nallow = [\"*.hooks.example\", \"10.0.0.0/8\"]\nca_file = \"server.pem\"\n";
    let read = harbor.parse(&format!("{GOOD}{more}")).unwrap().outbound;
    assert_eq!(read.allow, ["*.hooks.example", "10.0.0.0/8"]);
    assert_eq!(read.trust(), dps_hub::outbound::Trust::SystemAnd(harbor.path("server.pem")));
    let faults =
        harbor.faults(&format!("{GOOD}[outbound]\nallow = [\"10.0.0.1/8\"]\nca_file = \"owner.key\"\n"));
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults[0].starts_with("18:10: outbound.allow: ") && faults[0].contains("is no network"),
        "{faults:?}"
    );
    assert!(faults[1].contains("outbound.ca_file: ") && faults[1].contains("no certificate"), "{faults:?}");
}

/// DPS-SERVE-2
#[test]
fn a_value_of_the_wrong_type_or_form_is_told() {
    check_more("[listen]\nmqtt = \"0.0.0.0:8883\"", &["18:8: listen.mqtt: a text stands there"]);
    check_more(
        "[listen]\nmqtt = [\"8883\"]",
        &["18:9: listen.mqtt: \"8883\": invalid socket address syntax"],
    );
    check_more("[listen]\nadmin = 9883", &["18:9: listen.admin: a whole number stands there"]);
    check_more("[log]\nformat = \"xml\"", &["18:10: log.format: \"xml\" is not known here"]);
    check_more("[limits]\nretry_after_s = 6", &["18:17: limits.retry_after_s: 6 is out of range"]);
    check_more("[limits]\nidle_s = -60", &["18:10: limits.idle_s: -60 is out of range"]);
    check_more("[limits]\nconnections = true", &["18:15: limits.connections: true or false stands there"]);
    check_instead(
        "[store]",
        "[[store]]",
        &[
            "1:1: store: a list stands there",
            "1:1: store.data_dir: is missing",
            "1:1: store.sealing_key_file: is missing",
        ],
    );
    check_line(
        "id_scope = \"enrollments\"",
        &["8:12: instance.id_scope: \"enrollments\": \"enrollments\" is reserved"],
    );
    check_line("kind = \"azure\"", &["12:8: instance.hub.kind: \"azure\" is not known here"]);
    check_line(
        "name = \"-\"",
        &[
            "11:8: instance.hub.name: \"-\": it is not of the form host.example: labels of 1 to 63 characters that neither \
         begin nor end in '-'",
        ],
    );
    check_line("data_dir = \"\"", &["2:12: store.data_dir: is empty"]);
}

/// DPS-SERVE-4
#[test]
fn a_hub_has_a_weight_from_1_to_1000() {
    for (weight, good) in [("1", true), ("1000", true), ("0", false), ("1001", false)] {
        let text =
            GOOD.replace("kind = \"local\"", &format!("kind = \"static\"\nallocation_weight = {weight}"));
        assert_eq!(Harbor::new().parse(&text).is_ok(), good, "{weight}");
    }
}

/// DPS-SERVE-17
#[test]
fn an_azure_iot_hub_and_no_other_has_a_connection_string() {
    let harbor = Harbor::new();
    let connection_string = |host: &str, key: &str| {
        format!("HostName={host};SharedAccessKeyName=registry;SharedAccessKey={key}\n")
    };
    harbor.write("hub.txt", &connection_string("HUB.example", KEY), 0o600);
    harbor.write("elsewhere.txt", &connection_string("other.example:8443", KEY), 0o600);
    harbor.write("bad.txt", &connection_string("hub.example", "almostasecret!"), 0o600);
    harbor.write("device.txt", &format!("HostName=hub.example;DeviceId=d;SharedAccessKey={KEY}"), 0o600);
    harbor.write("open.txt", &connection_string("hub.example", KEY), 0o644);
    let with = |lines: &str| GOOD.replace("kind = \"local\"", lines);
    let azure = "kind = \"azureIotHub\"\nconnection_string_file = \"hub.txt\"\ndraining = true";
    let read = harbor.parse(&with(azure)).unwrap();
    assert_eq!(read.warnings, []);
    let shown = show(&read);
    assert!(shown.contains("kind = \"azureIotHub\"") && shown.contains("draining = true"), "{shown}");
    assert!(shown.contains(&format!("connection_string_file = {:?}", harbor.path("hub.txt"))), "{shown}");
    assert!(!shown.contains(KEY), "{shown}");
    assert_eq!(show(&harbor.parse(&shown).unwrap()), shown);
    let [instance] = <[Instance; 1]>::try_from(read.instances).unwrap();
    let hub = instance.settings().checked().unwrap().linked_hubs.remove(0);
    let given = hub.connection_string.unwrap();
    assert_eq!((hub.is_draining, given.host(), given.policy()), (true, "HUB.example", "registry"));

    let elsewhere = azure.replace("hub.txt", "elsewhere.txt");
    assert_eq!(
        harbor.warnings(&with(&elsewhere)),
        [
            "11: instance.hub.name: the connection string leads to other.example, and devices are told hub.example"
        ]
    );
    let key = "instance.hub.connection_string";
    for (lines, expected) in [
        ("kind = \"azureIotHub\"", "10:1: KEY_file: is missing"),
        (
            "kind = \"local\"\nconnection_string_file = \"hub.txt\"",
            "12:8: instance.hub.kind: the hub has a connection string and is no Azure IoT Hub",
        ),
        (
            "kind = \"azureIotHub\"\nconnection_string = \"almostasecret\"",
            "13:1: KEY: a secret may not stand in the configuration itself",
        ),
        (
            "kind = \"azureIotHub\"\nconnection_string_file = \"bad.txt\"",
            "13:26: KEY_file: the connection string: SharedAccessKey: the key is not Base64",
        ),
        (
            "kind = \"azureIotHub\"\nconnection_string_file = \"device.txt\"",
            "13:26: KEY_file: the connection string: DeviceId has no place here: this is the connection string of a device, a hub or \
             another service",
        ),
        (
            "kind = \"azureIotHub\"\nconnection_string_file = \"open.txt\"",
            "13:26: KEY_file: others than its owner have rights to the file (its mode is 0644)",
        ),
        (
            "kind = \"azureIotHub\"\nconnection_string_env = \"SHORT\"",
            "13:25: KEY_env: the connection string: part 1 is none of HostName, SharedAccessKeyName and SharedAccessKey",
        ),
        (
            "kind = \"azureIotHub\"\nconnection_string_env = \"NONE\"",
            "13:25: KEY_env: no environment variable of that name is set",
        ),
    ] {
        let faults = harbor.parse(&with(lines)).unwrap_err();
        assert!(
            !format!("{faults}").contains("almostasecret") && !format!("{faults}").contains(KEY),
            "{faults}"
        );
        assert_eq!(harbor.faults(&with(lines)), [expected.replace("KEY", key)], "{lines}");
    }
}

/// DPS-SERVE-1, DPS-REG-42, DPS-REG-46
#[test]
fn an_instance_says_what_is_done_about_hubs_that_do_not_answer() {
    let harbor = Harbor::new();
    let settings = |text: &str| harbor.parse(text).unwrap().instances.remove(0).settings();
    let standard = settings(GOOD);
    assert_eq!(standard.when_source_unavailable, WhenSourceUnavailable::Fail);
    assert!(!standard.passes_over_unhealthy_hubs);
    let lines =
        "id_scope = \"0ne00C0FFEE\"\nwhen_source_unavailable = \"reset\"\npass_over_unhealthy_hubs = true";
    let text = GOOD.replace("id_scope = \"0ne00C0FFEE\"", lines);
    let set = settings(&text);
    assert_eq!(set.when_source_unavailable, WhenSourceUnavailable::Reset);
    assert!(set.passes_over_unhealthy_hubs);
    let shown = show(&harbor.parse(&text).unwrap());
    assert_eq!(show(&harbor.parse(&shown).unwrap()), shown);
    let faults = harbor.faults(&text.replace("\"reset\"", "\"wait\""));
    assert_eq!(faults, ["9:27: instance.when_source_unavailable: \"wait\" is not known here"]);
}

/// DPS-SERVE-4
#[test]
fn what_may_stand_once_is_refused_the_second_time() {
    check_more(
        "[[instance.hub]]\nname = \"HUB.example\"\nkind = \"static\"",
        &["18:8: instance.hub.name: HUB.example stands in line 11 already"],
    );
    let second = GOOD[GOOD.find("[[instance]]").unwrap()..].to_owned();
    check_more(
        &second,
        &[
            "18:12: instance.id_scope: 0ne00C0FFEE stands in line 8 already",
            "19:18: instance.service_hosts: dps.example stands in line 9 already",
        ],
    );
    let policy = second[second.find("[[instance.shared").unwrap()..].replace("provisioning", "Provisioning");
    check_more(
        &policy,
        &["18:8: instance.shared_access_policy.name: Provisioningserviceowner stands in line 14 already"],
    );
    check_more(
        "[listen]\nmqtt = [\"127.0.0.1:9883\"]",
        &["17:1: listen.admin: 127.0.0.1:9883 is listened on already, in line 18"],
    );
}

/// DPS-SERVE-20
#[test]
fn balancers_are_named_by_networks_and_addresses() {
    let harbor = Harbor::new();
    let with = |list: &str| format!("{GOOD}[listen]\nproxy_protocol_from = [{list}]\n");
    assert!(harbor.parse(GOOD).unwrap().listen.proxy_protocol_from.is_empty());
    let read = harbor.parse(&with(r#""10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1""#)).unwrap();
    let balancers = read.listen.proxy_protocol_from.iter().map(|balancer| balancer.value.0.to_string());
    assert_eq!(balancers.collect::<Vec<_>>(), ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::1/128"]);
    let shown = show(&read);
    let line = r#"proxy_protocol_from = ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::1/128"]"#;
    assert!(shown.contains(line), "{shown}");
    assert_eq!(show(&harbor.parse(&shown).unwrap()), shown);

    for (entry, why) in [
        ("balancer.example", "it is neither an address nor a network"),
        ("10.0.0.0/33", "it is neither an address nor a network"),
        ("10.0.0.1:443", "it is neither an address nor a network"),
        ("10.1.2.3/8", "it has bits beyond its prefix; the network is 10.0.0.0/8"),
    ] {
        let lines = format!("[listen]\nproxy_protocol_from = [\"192.0.2.1\", \"{entry}\"]");
        check_more(&lines, &[&format!("18:37: listen.proxy_protocol_from: {entry:?}: {why}")]);
    }
    let many = vec!["\"::1\""; 65].join(", ");
    let told = harbor.faults(&with(&many));
    assert!(told.len() == 1 && told[0].contains("listen.proxy_protocol_from: there are 65"), "{told:?}");
    let most = vec!["\"::1\""; 64].join(", ");
    assert_eq!(harbor.warnings(&with(&most)), [""; 0]);
    for all in ["0.0.0.0/0", "::/0"] {
        let told = harbor.warnings(&with(&format!("\"::1\", \"{all}\"")));
        let expected = format!("{all} is every address: whoever connects can name any address as its own");
        assert!(told.len() == 1 && told[0].contains(&expected), "{told:?}");
    }
}

/// DPS-BROKER-1
#[test]
fn a_broker_asks_on_loopback_or_shows_a_certificate() {
    let harbor = Harbor::new();
    let read = |lines: &str| harbor.parse(&format!("{GOOD}[listen.broker]\n{lines}\n"));
    assert!(harbor.parse(GOOD).unwrap().listen.broker.is_none(), "off unless it is asked for");
    assert!(read("").unwrap().listen.broker.is_none());
    for address in ["127.0.0.1:9884", "127.0.0.1:0", "[::1]:9884"] {
        let broker = read(&format!("address = \"{address}\"")).unwrap().listen.broker.unwrap();
        assert!(broker.client_ca.is_none());
        assert_eq!(broker.rules(), dps_core::broker::BrokerRules::default());
    }
    let all = "address = \"0.0.0.0:9884\"\nclient_ca_file = \"server.pem\"\nhub = \"hub.example\"\ncertificate_login = true";
    let broker = read(all).unwrap().listen.broker.unwrap();
    assert_eq!(broker.client_ca.as_ref().unwrap().0.value, harbor.path("server.pem"));
    let rules = broker.rules();
    assert!(rules.trusts_certificates && rules.root_hub.is_some_and(|hub| hub.as_str() == "hub.example"));
    let shown = show(&read(all).unwrap());
    assert_eq!(show(&harbor.parse(&shown).unwrap()), shown);

    for open in ["0.0.0.0:9884", "192.0.2.1:9884", "[::]:9884"] {
        let lines = format!("[listen.broker]\naddress = \"{open}\"");
        let why = format!(
            "18:11: listen.broker.address: {open} can be reached from outside, and would answer anyone"
        );
        check_more(&lines, &[&why]);
    }
    check_more("[listen.broker]\nhub = \"a.x\"", &["17:1: listen.broker.address: is missing"]);
    check_more(
        "[listen.broker]\naddress = \"127.0.0.1:1\"\nclient_ca_file = \"server.key\"",
        &["19:18: listen.broker.client_ca_file: there is no CA certificate in it"],
    );
    check_more(
        "[listen]\nadmin = \"127.0.0.1:9884\"\n[listen.broker]\naddress = \"127.0.0.1:9884\"",
        &["20:11: listen.broker.address: 127.0.0.1:9884 is listened on already, in line 18"],
    );
}

/// DPS-SERVE-4
#[test]
fn an_instance_without_an_owner_is_refused() {
    let why =
        "7:1: instance.shared_access_policy: the instance has no owner key: no policy has all six rights";
    check_line("rights = [\"EnrollmentRead\"]", &[why]);
    let without = &GOOD[..GOOD.find("[[instance.shared").unwrap()];
    assert_eq!(Harbor::new().faults(without), [why]);
    check_line(
        "rights = [\"All\"]",
        &[
            why,
            "15:11: instance.shared_access_policy.rights: \"All\": no right has that name; there are ServiceConfig, \
         EnrollmentRead, EnrollmentWrite, DeviceConnect, RegistrationStatusRead and RegistrationStatusWrite",
        ],
    );
}

/// DPS-SERVE-5
#[test]
fn a_secret_stands_in_a_file_or_in_the_environment_and_is_never_repeated() {
    let key = "instance.shared_access_policy.primary_key";
    let instead = |line: &str, expected: &str| {
        let text = GOOD.replace("primary_key_file = \"owner.key\"", line);
        let harbor = Harbor::new();
        harbor.write("open.key", KEY, 0o640);
        harbor.write("bad.key", "almostasecret!", 0o600);
        harbor.write("large.key", &"A".repeat(70_000), 0o600);
        let faults = harbor.parse(&text).unwrap_err();
        assert!(
            !faults.to_string().contains("almostasecret") && !faults.to_string().contains(KEY),
            "{faults}"
        );
        assert_eq!(harbor.faults(&text), [expected.replace("KEY", key)], "{line}");
    };
    instead(
        "primary_key = \"almostasecret\"",
        "16:1: KEY: a secret may not stand in the configuration itself",
    );
    instead(
        "primary_key_file = \"open.key\"",
        "16:20: KEY_file: others than its owner have rights to the file (its mode is 0640)",
    );
    instead("primary_key_file = \"bad.key\"", "16:20: KEY_file: the key is not Base64");
    instead("primary_key_file = \"large.key\"", "16:20: KEY_file: the file has over 65536 bytes");
    instead("primary_key_file = \"/\"", "16:20: KEY_file: that is no file");
    instead(
        &format!("primary_key_file = \"{KEY}\""),
        "16:20: KEY_file: the file cannot be read: No such file or directory (os error 2)",
    );
    instead(
        &format!("primary_key_env = \"{KEY}\""),
        "16:19: KEY_env: no environment variable of that name is set",
    );
    instead("primary_key_env = \"SHORT\"", "16:19: KEY_env: the key has 5 bytes; it must have 16 to 64");
    instead(
        "primary_key_env = \"SEALING\"\nprimary_key_file = \"owner.key\"",
        "16:19: KEY_env: KEY_file names this secret already".replace("KEY_file", "primary_key_file").as_str(),
    );
    instead("", "13:1: KEY_file: is missing");
    check_line(
        "sealing_key_env = \"SHORT\"",
        &["3:19: store.sealing_key_env: a sealing key has 32 bytes, not 8"],
    );
}

/// DPS-SERVE-6
#[test]
fn a_certificate_that_cannot_be_used_is_told() {
    let harbor = Harbor::new();
    let other = rcgen::KeyPair::generate().unwrap();
    harbor.write("other.key", &other.serialize_pem(), 0o600);
    harbor.write("open.key", &other.serialize_pem(), 0o604);
    let told = |from: &str, to: &str| harbor.faults(&GOOD.replace(from, to)).join("\n");
    assert!(told("server.pem", "none.pem").starts_with("5:14: tls.certificate.chain_file: "));
    assert!(told("server.key", "other.key").starts_with("6:12: tls.certificate.key_file: "));
    assert!(
        told("server.key", "open.key")
            .contains("others than its owner have rights to the file (its mode is 0604)")
    );
    fs::rename(harbor.path("server.key"), harbor.path("server.key.old")).unwrap();
    fs::copy(harbor.path("server.pem"), harbor.path("server.key")).unwrap();
    fs::set_permissions(harbor.path("server.key"), Permissions::from_mode(0o600)).unwrap();
    fs::rename(harbor.path("server.key.old"), harbor.path("server.pem")).unwrap();
    let exchanged = harbor.faults(GOOD);
    assert!(
        exchanged[0].ends_with("server.pem: there is no certificate in it")
            && exchanged[1].ends_with("server.key: there is no private key in it"),
        "{exchanged:?}"
    );
    assert!(told("key_file = \"server.key\"", "").starts_with("4:1: tls.certificate.key_file: is missing"));
    let none =
        GOOD.replace("[[tls.certificate]]\nchain_file = \"server.pem\"\nkey_file = \"server.key\"\n", "");
    assert_eq!(harbor.faults(&none), ["1:1: tls.certificate: there is no certificate"]);
}

/// DPS-SERVE-4, DPS-SERVE-6, DPS-SERVE-7
#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let harbor = Harbor::new();
    let named = GOOD.replace("[\"dps.example\"]", "[\"dps.example\", \"other.example\"]");
    assert_eq!(
        harbor.warnings(&named),
        [
            "9: instance.service_hosts: no certificate carries the name other.example: clients will refuse to connect"
        ]
    );
    let limits = format!("{GOOD}[limits]\nconnections = 500\n[listen]\nadmin = \"0.0.0.0:9883\"\n");
    let told = harbor.warnings(&limits);
    assert!(
        told[0].contains("limits.unattested_connections") && told[1].contains("listen.admin"),
        "{told:?}"
    );
    let slow = format!("{GOOD}[limits]\ndrain_within_s = 26\n");
    assert!(harbor.warnings(&slow)[0].contains("limits.drain_within_s"));
    assert!(harbor.warnings(&slow.replace("26", "25")).is_empty());
    let bare = GOOD.replace("service_hosts = [\"dps.example\"]\n", "");
    assert!(harbor.warnings(&bare)[0].contains("nobody can call its service API"));
}

/// DPS-SERVE-6
#[test]
fn a_certificate_that_is_about_to_expire_is_warned_of() {
    let harbor = Harbor::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["dps.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 2, 2);
    harbor.write("server.pem", &params.self_signed(&key).unwrap().pem(), 0o644);
    harbor.write("server.key", &key.serialize_pem(), 0o600);
    let told = harbor.warnings(GOOD);
    assert!(
        told[0].starts_with("5: tls.certificate.chain_file: ") && told[0].contains("expired at 2020-02-02"),
        "{told:?}"
    );
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    params.not_after = std::time::SystemTime::from(soon).into();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    harbor.write("server.pem", &params.self_signed(&key).unwrap().pem(), 0o644);
    let told = harbor.warnings(GOOD);
    assert!(told[0].contains("expires at") && told[1].contains("is itself a CA certificate"), "{told:?}");
}

/// DPS-SERVE-8
#[test]
fn what_is_shown_is_toml_that_reads_the_same_and_holds_no_secret() {
    let harbor = Harbor::new();
    let text = format!(
        "{GOOD}secondary_key_env = \"SEALING\"\n[limits]\nidle_s = 61\npolls_per_device_per_10_s = 5\n"
    );
    let shown = show(&harbor.parse(&text).unwrap());
    assert!(!shown.contains(KEY), "{shown}");
    for line in [
        "idle_s = 61",
        "polls_per_device_per_10_s = 5",
        "connections = 20000",
        "# registrations_per_minute =",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in:\n{shown}");
    }
    assert_eq!(show(&harbor.parse(&shown).unwrap()), shown);
}

/// DPS-SERVE-8
#[test]
fn the_defaults_that_are_told_are_those_that_count() {
    let minimal = GOOD.replace("service_hosts = [\"dps.example\"]\n", "");
    let mut shown = show(&Harbor::new().parse(&minimal).unwrap());
    let database = on_postgresql().replace("schema = \"dps_1\"\nconnections = 4\n", "");
    shown += &show(&Harbor::new().parse(&database).unwrap());
    for section in sections() {
        for key in section.keys {
            if let Standard::Value(value) = key.default {
                let line = format!("{} = {value}", key.name);
                assert!(shown.lines().any(|shown| shown == line), "{line} in:\n{shown}");
            }
        }
    }
}

/// DPS-SERVE-8
#[test]
fn the_defaults_print_as_toml() {
    let text = show_defaults();
    assert!(DeTable::parse(&text).is_ok(), "{text}");
    for section in sections() {
        assert!(text.contains(&section.header()), "{}", section.path);
    }
}
