//! A stream under a WebSocket: what comes of an unfinished message is buffered where the connection cannot see it.
//! Spec: DPS-MQTT-30, DPS-LIMIT-10.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::Charge;

/// What each connection may send of a message whatever others do: CONNECT and an ordinary register fit.
const OWN_BYTES: usize = 4 * 1024;

/// Fails a read when neither its own bytes nor those that all share suffice.
pub(super) struct Metered<S> {
    stream: S,
    /// `None` once it no longer counts.
    unfinished: Option<Unfinished>,
}

struct Unfinished {
    bytes: usize,
    charge: Charge,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, charge: Charge) -> Self {
        Self { stream, unfinished: Some(Unfinished { bytes: 0, charge }) }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// A message has come whole and was passed on.
    pub(super) fn message_came(&mut self) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.bytes = 0;
            // Giving back does not fail.
            let _ = unfinished.charge.resize(0);
        }
    }

    /// The device has proved itself.
    pub(super) fn lift(&mut self) {
        self.unfinished = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(Unfinished { bytes, charge }) = &mut self.unfinished {
            *bytes += buffer.filled().len() - before;
            charge.resize(bytes.saturating_sub(OWN_BYTES)).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
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
