//! A stream whose peer may not send much before it is answered. Spec: DPS-LIMIT-11.
//!
//! rustls keeps an unfinished handshake message of up to 64 KiB; no client needs a tenth of that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of one flight: what a peer sends until it is answered.
const FLIGHT_BYTES_MAX: usize = 8 * 1024;

/// Fails a read beyond the limit, until [`FlightLimit::lift`] is called.
#[derive(Debug)]
pub struct FlightLimit<S> {
    stream: S,
    /// What the flight may still bring; `None` once it no longer counts.
    left: Option<usize>,
}

/// The peer sent more than a flight may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent more than {FLIGHT_BYTES_MAX} bytes of a TLS handshake at once")]
pub struct FlightTooLong;

impl<S> FlightLimit<S> {
    /// The first flight begins.
    pub fn new(stream: S) -> Self {
        Self { stream, left: Some(FLIGHT_BYTES_MAX) }
    }

    /// The handshake is over: other limits hold from here on.
    pub fn lift(&mut self) {
        self.left = None;
    }

    fn answered(&mut self) {
        if let Some(left) = &mut self.left {
            *left = FLIGHT_BYTES_MAX;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FlightLimit<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(left) = &mut self.left {
            let came = buffer.filled().len() - before;
            *left = left.checked_sub(came).ok_or_else(|| io::Error::other(FlightTooLong))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FlightLimit<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answered();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answered();
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// DPS-LIMIT-11
    #[tokio::test]
    async fn each_flight_is_limited_until_the_handshake_is_over() {
        let (mut peer, stream) = duplex(1024 * 1024);
        let mut stream = FlightLimit::new(stream);
        let mut whole = vec![0; FLIGHT_BYTES_MAX];
        peer.write_all(&vec![1; 3 * FLIGHT_BYTES_MAX + 1]).await.unwrap();
        stream.read_exact(&mut whole).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.read_exact(&mut whole).await.unwrap();
        let why = stream.read_u8().await.unwrap_err();
        assert!(why.get_ref().unwrap().is::<FlightTooLong>(), "{why}");
        stream.lift();
        stream.read_exact(&mut whole).await.unwrap();
    }
}
