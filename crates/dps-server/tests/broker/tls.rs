//! Brokers from elsewhere. Spec: DPS-BROKER-1.

use std::fs;
use std::sync::Arc;

use dps_server::broker_auth::{BadClientCa, ClientCa, server_config};
use dps_server::limits::Limits;
use dps_server::tls::{CertificateFiles, ServerCertificates, provider};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::desk::{Answer, Desk, USER, form, key, post, token};

fn authority() -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params, KeyPair::generate().unwrap())
}

/// DPS-BROKER-1
#[tokio::test]
async fn over_tls_a_broker_shows_a_certificate_of_the_ca_and_nobody_else_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key_file) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&server_key).unwrap();
    fs::write(&chain, server.pem()).unwrap();
    fs::write(&key_file, server_key.serialize_pem()).unwrap();
    let files = CertificateFiles { chain: &chain, key: &key_file };
    let certificates = ServerCertificates::load(&[files]).unwrap();
    let (ca_params, ca_key) = authority();
    let client_ca = ClientCa::from_pem(ca_params.self_signed(&ca_key).unwrap().pem().as_bytes()).unwrap();
    let tls = server_config(certificates, &client_ca).unwrap();
    let desk = Desk::with(Limits::default(), false, Some(tls)).await;

    let mut roots = RootCertStore::empty();
    roots.add(server.der().clone()).unwrap();
    let client = |signer: Option<(CertificateParams, KeyPair)>| {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone());
        match signer {
            None => builder.with_no_client_auth(),
            Some((params, signer_key)) => {
                let own = KeyPair::generate().unwrap();
                let issuer = Issuer::new(params, signer_key);
                let certificate =
                    CertificateParams::new(["broker".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
                let own = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], own).unwrap()
            }
        }
    };
    let body = form(&[
        ("username", "hub.example/press-7"),
        ("password", &token("press-7", &key(1), 600)),
        ("vhost", "/"),
        ("client_id", "press-7"),
    ]);
    let connect = async |config: ClientConfig| {
        let stream = TcpStream::connect(desk.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let mut broker = connect(client(Some((ca_params, ca_key)))).await.unwrap();
    assert_eq!(post(&mut broker, USER, &body).await, Answer(200, "allow".to_owned()));
    for stranger in [None, Some(authority())] {
        // TLS 1.3 tells a client after its own side has finished.
        if let Ok(mut stream) = connect(client(stranger)).await {
            assert!(stream.read(&mut [0; 64]).await.is_err());
        }
    }
    let mut plain = TcpStream::connect(desk.address).await.unwrap();
    let asked = crate::desk::request("POST", USER, "application/x-www-form-urlencoded", &body);
    tokio::io::AsyncWriteExt::write_all(&mut plain, asked.as_bytes()).await.unwrap();
    let mut answered = Vec::new();
    let _ = plain.read_to_end(&mut answered).await;
    assert!(!String::from_utf8_lossy(&answered).contains("allow"));
}

/// DPS-BROKER-1
#[test]
fn a_text_without_ca_certificates_is_refused() {
    let refused = |text: &str| ClientCa::from_pem(text.as_bytes()).map(drop).unwrap_err();
    assert_eq!(refused(""), BadClientCa::Nothing);
    assert_eq!(
        refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        BadClientCa::Unusable
    );
    assert_eq!(refused("-----BEGIN CERTIFICATE-----\nAAAA\n"), BadClientCa::Unusable);
}
