//! The official clients of the service API that CI cannot run, as models: each sends what its client sends and dies of what that dies of
//! (Microsoft's sources of `Microsoft.Azure.Devices.Provisioning.Service`, `provisioning-service-client` and `provisioning_service_client`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, Request};
use jiff::civil::DateTime;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::HOST;
use crate::client::{Answer, Client, Token};

/// A client that CI cannot run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    CSharp,
    Java,
    C,
}

const MODELS: [Model; 3] = [Model::CSharp, Model::Java, Model::C];

impl Model {
    fn api_version(self) -> &'static str {
        match self {
            Self::CSharp | Self::Java => "2019-03-31",
            Self::C => "2018-04-01",
        }
    }

    /// What it makes of an id in a path.
    fn encoded(self, id: &str) -> String {
        match self {
            Self::Java => id.to_owned(),
            Self::CSharp => id.replace(':', "%3A"),
            Self::C => id.replace(':', "%3a"),
        }
    }

    fn condition(self, etag: &str) -> String {
        match self {
            // An EntityTagHeaderValue, whatever it is given; "*" too.
            Self::CSharp => format!("\"{etag}\""),
            Self::Java | Self::C => etag.to_owned(),
        }
    }

    async fn send(
        self,
        service: &Client,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("{path}?api-version={}", self.api_version()))
            .header("host", HOST)
            .header("authorization", Token::default().text());
        match self {
            Self::CSharp => {
                request =
                    request.header("accept", "application/json").header("user-agent", "Microsoft.Azure");
                if body.is_some() {
                    request = request.header("content-type", "application/json; charset=utf-8");
                }
            }
            Self::Java => {
                for (name, value) in [
                    ("user-agent", "com.microsoft.azure.sdk.iot.provisioning.service"),
                    ("request-id", "1001"),
                    ("accept", "application/json"),
                    ("content-type", "application/json"),
                    ("charset", "utf-8"),
                ] {
                    request = request.header(name, value);
                }
                if body.is_none() {
                    request = request.header("content-length", "0");
                }
            }
            Self::C => {
                for (name, value) in [
                    ("useragent", "iothub_dps_prov_client/1.0"),
                    ("accept", "application/json"),
                    ("content-type", "application/json; charset=utf-8"),
                ] {
                    request = request.header(name, value);
                }
            }
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let answer = service.send(request.body(text.into()).unwrap()).await;
        // All three ask for JSON and give up where a success has none; a deletion has no body.
        if answer.status == 200 {
            assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"), "{self:?}");
            assert!(!answer.body.is_null(), "{self:?}");
        }
        answer
    }

    async fn put(self, service: &Client, path: &str, entry: &Value, etag: Option<&str>) -> Answer {
        let condition = etag.map(|etag| self.condition(etag));
        let headers: Vec<_> = condition.iter().map(|tag| ("if-match", tag.as_str())).collect();
        let answer = self.send(service, Method::PUT, path, &headers, Some(entry)).await;
        if answer.status == 200 {
            self.read_entry(&answer.body);
        }
        answer
    }

    async fn delete(self, service: &Client, path: &str, etag: Option<&str>) -> u16 {
        let condition = etag.map(|etag| self.condition(etag));
        let headers: Vec<_> = condition.iter().map(|tag| ("if-match", tag.as_str())).collect();
        self.send(service, Method::DELETE, path, &headers, None).await.status
    }

    /// What each parser cannot do without.
    fn read_entry(self, entry: &Value) {
        assert!(entry["etag"].is_string(), "{entry}");
        let attestation = &entry["attestation"];
        let kind = attestation["type"].as_str().unwrap_or_else(|| panic!("{entry}"));
        match self {
            Self::CSharp => assert!(["symmetricKey", "x509", "tpm"].contains(&kind), "{entry}"),
            // It knows nothing of symmetric keys, and fails.
            Self::C => assert!(["x509", "tpm"].contains(&kind), "{entry}"),
            Self::Java => {
                for name in ["createdDateTimeUtc", "lastUpdatedDateTimeUtc"] {
                    java_date(&entry[name]);
                }
                if kind == "x509" {
                    let holders = ["clientCertificates", "signingCertificates"];
                    let holder =
                        holders.map(|name| &attestation["x509"][name]).into_iter().find(|it| it.is_object());
                    let info = &holder.unwrap_or_else(|| panic!("{entry}"))["primary"]["info"];
                    java_date(&info["notBeforeUtc"]);
                    java_date(&info["notAfterUtc"]);
                    for name in
                        ["subjectName", "sha1Thumbprint", "sha256Thumbprint", "issuerName", "serialNumber"]
                    {
                        assert!(info[name].is_string(), "{name}: {entry}");
                    }
                    assert!(info["version"].is_u64(), "{entry}");
                }
            }
        }
    }

    /// Follows the pages as it does; the items of all.
    async fn query(self, service: &Client, path: &str, item_type: &str, page: &str) -> Vec<Value> {
        let text = match self {
            Self::Java => "select * from enrollments",
            Self::CSharp | Self::C => "SELECT * FROM enrollments",
        };
        let (mut items, mut continuation) = (Vec::new(), None::<String>);
        loop {
            let mut headers = vec![("x-ms-max-item-count", page)];
            headers.extend(continuation.as_deref().map(|token| ("x-ms-continuation", token)));
            let answer =
                self.send(service, Method::POST, path, &headers, Some(&json!({"query": text}))).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let told =
                answer.header("x-ms-item-type").unwrap_or_else(|| panic!("{self:?} fails without the type"));
            match self {
                Self::C => assert_eq!(told, item_type),
                Self::CSharp | Self::Java => assert!(told.eq_ignore_ascii_case(item_type), "{told}"),
            }
            items.extend(answer.body.as_array().unwrap().iter().cloned());
            continuation = answer.header("x-ms-continuation").map(str::to_owned);
            match &continuation {
                None => return items,
                // "Header present" means that there is more: an empty one would be asked for ever.
                Some(token) => assert!(!token.is_empty()),
            }
        }
    }

    /// A bulk operation: the ids that failed.
    async fn bulk(self, service: &Client, mode: &str, entries: &[Value]) -> Vec<String> {
        let path = if self == Self::C { "/enrollments/" } else { "/enrollments" };
        let body = json!({"mode": mode, "enrollments": entries});
        let answer = self.send(service, Method::POST, path, &[], Some(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let is_successful =
            answer.body["isSuccessful"].as_bool().unwrap_or_else(|| panic!("{}", answer.body));
        let errors = answer.body["errors"].as_array().cloned().unwrap_or_default();
        assert_eq!(is_successful, errors.is_empty());
        errors.iter().map(|error| error["registrationId"].as_str().unwrap().to_owned()).collect()
    }
}

/// As `ParserUtility.dateTimeUtc` splits it: on dots, commas and Z, the first part alone being read; an offset makes it fail.
fn java_date(date: &Value) {
    let text = date.as_str().unwrap_or_else(|| panic!("{date}"));
    let parts: Vec<_> = text.split(['.', ',', 'Z']).collect();
    assert!(text.ends_with('Z') && parts[0].parse::<DateTime>().is_ok(), "{text}");
}

fn certificate() -> String {
    let params = CertificateParams::new([]).unwrap();
    // Without the lines of PEM, as all three send it.
    STANDARD.encode(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
}

fn x509(id_member: &str, id: &str, holder: &str) -> Value {
    let certificates = json!({holder: {"primary": {"certificate": certificate()}}});
    json!({id_member: id, "attestation": {"type": "x509", "x509": certificates}})
}

/// DPS-SERVICE-4, DPS-SERVICE-6 to DPS-SERVICE-8, DPS-SERVICE-14, DPS-SERVICE-20, DPS-SERVICE-21
#[tokio::test]
async fn each_client_manages_entries_of_both_kinds() {
    for model in MODELS {
        let service = Client::new();
        for (collection, id_member, holder, item_type) in [
            ("/enrollments", "registrationId", "clientCertificates", "Enrollment"),
            ("/enrollmentGroups", "enrollmentGroupId", "signingCertificates", "EnrollmentGroup"),
        ] {
            let path = |id: &str| format!("{collection}/{}", model.encoded(id));
            let one = path("Line4:Press-1");
            let entry = x509(id_member, "Line4:Press-1", holder);
            let made = model.put(&service, &one, &entry, None).await;
            assert_eq!(
                (made.status, made.body[id_member].as_str()),
                (200, Some("Line4:Press-1")),
                "{model:?}"
            );
            assert_eq!(model.put(&service, &one, &entry, None).await.status, 409);

            let read = model.send(&service, Method::GET, &one, &[], None).await;
            model.read_entry(&read.body);
            // Changed and written back as it was read: of the certificate, its `info` alone.
            let mut changed = read.body.clone();
            changed["provisioningStatus"] = json!("disabled");
            let etag = read.body["etag"].as_str().unwrap();
            let written = model.put(&service, &one, &changed, Some(etag)).await;
            assert_eq!(
                (written.status, &written.body["provisioningStatus"]),
                (200, &json!("disabled")),
                "{model:?}"
            );
            let stale = model.put(&service, &one, &changed, Some(etag)).await;
            assert_eq!((stale.status, stale.body["errorCode"].as_i64()), (412, Some(412_001)), "{model:?}");
            assert_eq!(model.put(&service, &one, &changed, Some("*")).await.status, 200, "{model:?}");

            for number in 0..4 {
                let id = format!("more-{number}");
                assert_eq!(
                    model.put(&service, &path(&id), &x509(id_member, &id, holder), None).await.status,
                    200
                );
            }
            let listed = model.query(&service, &format!("{collection}/query"), item_type, "2").await;
            assert_eq!(listed.len(), 5, "{model:?}");
            for entry in &listed {
                model.read_entry(entry);
            }
            let mechanism = model
                .send(&service, Method::POST, &format!("{one}/attestationmechanism"), &[], Some(&json!({})))
                .await;
            assert_eq!((mechanism.status, &mechanism.body["type"]), (200, &json!("x509")));
            assert_eq!(model.delete(&service, &one, Some("stale")).await, 412);
            assert_eq!(model.delete(&service, &one, Some("*")).await, 204, "{model:?}");
            assert_eq!(model.delete(&service, &one, None).await, 404);
        }
        let new = |id: &str| x509("registrationId", id, "clientCertificates");
        assert_eq!(model.bulk(&service, "create", &[new("b-1"), new("b-2")]).await, [""; 0]);
        assert_eq!(model.bulk(&service, "create", &[new("b-2"), new("b-3")]).await, ["b-2"]);
        assert_eq!(model.bulk(&service, "delete", &[new("b-1"), new("none"), new("b-3")]).await, ["none"]);
        let records = model.query(&service, "/registrations/line/query", "DeviceRegistration", "10").await;
        assert!(records.is_empty());
    }
}

/// DPS-SERVICE-5, DPS-SERVICE-13: what a refusal is read from.
#[tokio::test]
async fn each_client_reads_why_it_was_refused() {
    let service = Client::new();
    for model in MODELS {
        let answer = model.send(&service, Method::GET, "/enrollments/none", &[], None).await;
        assert_eq!(answer.refused(), (404, 404_201), "{model:?}");
        assert!(answer.body["message"].is_string() && answer.body["trackingId"].is_string());
    }
}

/// That the models can fail: each dies of what its client dies of.
#[test]
fn the_models_die_of_what_their_clients_die_of() {
    let dies = |read: &(dyn Fn() + std::panic::RefUnwindSafe)| std::panic::catch_unwind(read).is_err();
    let symmetric = json!({"etag": "x", "attestation": {"type": "symmetricKey"}});
    assert!(dies(&|| Model::C.read_entry(&symmetric)));
    assert!(dies(&|| Model::CSharp.read_entry(&json!({"etag": "x"}))));
    assert!(dies(&|| Model::Java.read_entry(&symmetric)), "no dates");
    assert!(dies(&|| java_date(&json!("2026-11-20T08:00:00+00:00"))));
    assert!(!dies(&|| java_date(&json!("2026-11-20T08:00:00.1234567Z"))));
}
