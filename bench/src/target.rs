//! The server under load, and how a device reaches it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use dps_proto::ids::IdScope;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where the server is.
#[derive(Args)]
pub(crate) struct Options {
    /// Address and port of the listener.
    #[arg(long)]
    address: SocketAddr,
    /// ID scope of the service instance.
    #[arg(long)]
    pub(crate) id_scope: IdScope,
    /// The one TLS version that devices offer.
    #[arg(long, default_value = "1.3")]
    tls: TlsVersion,
    /// How devices speak to it.
    #[arg(long, default_value = "mqtt")]
    transport: Transport,
    /// Address that devices connect from.
    #[arg(long, default_value = "127.0.0.1")]
    source: IpAddr,
}

/// What a device speaks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// MQTT over TLS.
    Mqtt,
    /// MQTT over WebSocket.
    MqttWs,
    /// HTTPS, on one connection.
    Https,
    /// HTTPS, each request on a connection of its own.
    HttpsAnew,
}

#[derive(Clone, Copy, ValueEnum)]
enum TlsVersion {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

/// The server under load.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    source: IpAddr,
    pub(crate) transport: Transport,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

impl Target {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let version = match options.tls {
            TlsVersion::Tls12 => &rustls::version::TLS12,
            TlsVersion::Tls13 => &rustls::version::TLS13,
        };
        let mut provider = aws_lc_rs::default_provider();
        // What devices offer: no post-quantum share, which would take longer than all else.
        provider.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self {
            address: options.address,
            source: options.source,
            transport: options.transport,
            server_name: ServerName::try_from("localhost")?,
            tls: Arc::new(config),
        })
    }

    /// The same server, reached from another address.
    pub(crate) fn from(&self, source: IpAddr) -> Self {
        Self { source, ..self.clone() }
    }

    /// TCP and TLS, in which `identity` is shown.
    pub(crate) async fn connect(
        &self,
        identity: Option<Arc<CertifiedKey>>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let tls = match identity {
            None => Arc::clone(&self.tls),
            Some(identity) => {
                let mut config = ClientConfig::clone(&self.tls);
                config.client_auth_cert_resolver = Arc::new(Shows(identity));
                Arc::new(config)
            }
        };
        let socket = TcpSocket::new_v4()?;
        if self.source != IpAddr::from([127, 0, 0, 1]) {
            socket.bind((self.source, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Box::pin(TlsConnector::from(tls).connect(self.server_name.clone(), stream)).await
    }
}

/// Shows one certificate to whoever asks.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes every certificate: what a driver computes is not measured, and must not hold the server back.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
