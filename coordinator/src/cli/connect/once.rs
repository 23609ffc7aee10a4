//! One connection, and why it ended: a channel that loses it asks for another one, and gets the reason instead.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Why the connection ended, once it has.
#[derive(Debug, Clone, Default)]
pub(super) struct Reason(Arc<Mutex<Option<io::Error>>>);

impl Reason {
    /// Keeps the first reason: what follows is its consequence.
    fn keep(&self, error: &io::Error) {
        let mut reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reason.get_or_insert_with(|| io::Error::new(error.kind(), error.to_string()));
    }

    pub(super) fn take(&self) -> io::Error {
        let mut reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reason.take().unwrap_or_else(|| io::Error::new(io::ErrorKind::ConnectionAborted, "the other end closed it"))
    }
}

/// A stream that remembers why it ended.
#[derive(Debug)]
pub(super) struct Once<S> {
    pub(super) stream: S,
    pub(super) reason: Reason,
}

impl<S: AsyncRead + Unpin> AsyncRead for Once<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read {
            self.reason.keep(error);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Once<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
