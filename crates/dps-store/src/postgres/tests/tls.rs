//! TLS to the server.

use std::net::TcpListener;

use dps_core::ports::Store;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;

use crate::postgres::server::{self, Server};
use crate::postgres::{PostgresOpenError, PostgresOptions, PostgresStore};

/// A server whose certificate is for `localhost`, its port, and that certificate.
fn server() -> (Server, u16, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    // Free now, and nobody else is told of it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::with_tls(port, (&certificate.pem(), &key.serialize_pem()));
    (server, port, certificate.der().clone())
}

/// DPS-STORE-17
#[tokio::test]
async fn the_server_is_who_its_certificate_says_or_nothing_is_sent() {
    let (server, port, certificate) = server();
    let other = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let other = other.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
    let options = |target: String, root: &CertificateDer<'static>| PostgresOptions {
        target: target.parse().unwrap(),
        root_certificates: vec![root.clone()],
        ..server.options()
    };
    let to = |host: &str, mode: &str| format!("host={host} port={port} user=postgres dbname=postgres{mode}");

    let trusted = options(to("localhost", " sslmode=require"), &certificate);
    let store = server::open(&trusted).await;
    store.is_writable().await.unwrap();
    let session = store.connections.get().await.unwrap();
    let select = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let is_encrypted: bool = session.client().unwrap().query_one(select, &[]).await.unwrap().get(0);
    assert!(is_encrypted);

    for refused in [
        options(to("localhost", " sslmode=require"), &other),
        // The certificate is for another name.
        options(to("127.0.0.1", " sslmode=require"), &certificate),
    ] {
        let error = PostgresStore::open(&refused, server::sealer()).await.err().unwrap();
        assert!(
            matches!(&error, PostgresOpenError::Unreachable(why) if why.contains("certificate")),
            "{error}"
        );
    }

    // On this machine, and because the connection string says so.
    for mode in ["", " sslmode=disable"] {
        let clear =
            PostgresOptions { schema: trusted.schema.clone(), ..options(to("127.0.0.1", mode), &other) };
        server::open(&clear).await.is_writable().await.unwrap();
    }
}
