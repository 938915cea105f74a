//! The floor: a server that shakes hands as the service does and answers with as many bytes, and does nothing else. With
//! certificates it is the floor of mutual TLS: the chain is judged, by rustls, against one CA.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Buf as _, BytesMut};
use clap::Args;
use dps_server::tls::{self, CertificateFiles, ServerCertificates};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::device::wants_answer;

/// Room made for each read, as the service does.
const READ_BYTES: usize = 1_024;

const DISCONNECT: u8 = 0xe0;

#[derive(Args)]
pub(crate) struct Options {
    /// Data directory of the service, whose certificates are used.
    #[arg(long)]
    data_dir: PathBuf,
    /// What `capture` printed.
    #[arg(long)]
    answers: String,
    /// The CA of the devices, where they have certificates: TLS itself judges their chains then, as in any mutual TLS.
    #[arg(long)]
    client_ca: Option<PathBuf>,
}

#[derive(Serialize)]
struct Ready {
    mqtt: Address,
}

#[derive(Serialize)]
struct Address {
    address: String,
    port: u16,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let answers: Vec<Vec<u8>> = serde_json::from_str(&options.answers).context("--answers")?;
    let answers: Arc<[Box<[u8]>]> = answers.into_iter().map(Vec::into_boxed_slice).collect();
    let certificates = certificates(&options.data_dir)?;
    let config = match &options.client_ca {
        Some(ca) => tls::server_config_with(certificates, verifier(ca)?)?,
        None => tls::server_config(certificates)?,
    };
    let acceptor = TlsAcceptor::from(config);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    crate::tell(&Ready { mqtt: Address { address: address.ip().to_string(), port: address.port() } })?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, answers) = (acceptor.clone(), Arc::clone(&answers));
        tokio::spawn(async move {
            // A device that breaks off is the driver's to report. Boxed, so that a connection does not keep the room of
            // its handshake for life.
            if let Ok(stream) = Box::pin(shake(acceptor, stream)).await {
                let _ = Box::pin(answer(stream, &answers)).await;
            }
        });
    }
}

fn certificates(data_dir: &Path) -> anyhow::Result<Arc<ServerCertificates>> {
    let path = |name| data_dir.join(name);
    let (ecdsa, ecdsa_key) = (path("server-ecdsa.pem"), path("server-ecdsa.key"));
    let (rsa, rsa_key) = (path("server-rsa.pem"), path("server-rsa.key"));
    Ok(ServerCertificates::load(&[
        CertificateFiles { chain: &ecdsa, key: &ecdsa_key },
        CertificateFiles { chain: &rsa, key: &rsa_key },
    ])?)
}

/// rustls's own, which wants a chain that leads to `ca`.
fn verifier(ca: &Path) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build()?)
}

async fn shake(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<Box<TlsStream<TcpStream>>> {
    stream.set_nodelay(true)?;
    acceptor.accept(stream).await.map(Box::new)
}

/// Sends the next answer for each packet that wants one.
async fn answer(mut stream: Box<TlsStream<TcpStream>>, answers: &[Box<[u8]>]) -> std::io::Result<()> {
    let mut answers = answers.iter();
    let mut buffer = BytesMut::new();
    loop {
        while let Some(first_byte) = take_packet(&mut buffer) {
            if first_byte == DISCONNECT {
                return stream.shutdown().await;
            }
            if wants_answer(first_byte)
                && let Some(answer) = answers.next()
            {
                stream.write_all(answer).await?;
                stream.flush().await?;
            }
        }
        if buffer.is_empty() {
            buffer = BytesMut::new();
        }
        buffer.reserve(READ_BYTES);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Takes one MQTT packet off the front; its first byte, where it is whole.
fn take_packet(buffer: &mut BytesMut) -> Option<u8> {
    let first_byte = *buffer.first()?;
    let mut length = 0;
    for (position, byte) in buffer.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            let whole = 2 + position + length;
            return (buffer.len() >= whole).then(|| {
                buffer.advance(whole);
                first_byte
            });
        }
    }
    None
}
