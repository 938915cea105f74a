//! A stream without TLS, for tests that begin where the handshake has ended.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use dps_server::client_certificates::DeviceStream;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// What a device has shown of itself in the handshake, which these tests do not go through.
pub(crate) struct Showing {
    pub(crate) stream: DuplexStream,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

impl DeviceStream for Showing {
    fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

impl AsyncRead for Showing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Showing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
