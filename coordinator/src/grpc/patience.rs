//! Connections that say nothing are closed.
//!
//! HTTP/2's own pings begin after its preface, so a peer that never sends one would be waited for without end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

/// A connection that ends if its first byte does not come in time.
#[derive(Debug)]
pub struct Patient<IO> {
    io: IO,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Connections that must begin to speak within `first_byte`.
pub fn patient<IO>(
    incoming: impl Stream<Item = io::Result<IO>>,
    first_byte: Duration,
) -> impl Stream<Item = io::Result<Patient<IO>>> {
    incoming.map(move |io| Ok(Patient { io: io?, deadline: Some(Box::pin(sleep(first_byte))) }))
}

impl<IO: Connected> Connected for Patient<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> IO::ConnectInfo {
        self.io.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Patient<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ready = Pin::new(&mut self.io).poll_read(context, buffer);
        let Some(deadline) = &mut self.deadline else { return ready };
        if ready.is_ready() {
            self.deadline = None;
            return ready;
        }
        deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Patient<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_and_one_that_spoke_is_waited_for() {
        let (server, mut client) = duplex(64);
        let mut incoming = Box::pin(patient(tokio_stream::once(Ok(server)), Duration::from_secs(10)));
        let mut connection = incoming.next().await.expect("one").expect("open");
        client.write_all(b"P").await.expect("open");
        assert_eq!(connection.read_u8().await.expect("came in time"), b'P');
        let late = tokio::time::timeout(Duration::from_hours(1), connection.read_u8()).await;
        late.expect_err("an hour of silence after the first byte is for others to judge");

        let (server, _client) = duplex(64);
        let mut incoming = Box::pin(patient(tokio_stream::once(Ok(server)), Duration::from_secs(10)));
        let mut silent = incoming.next().await.expect("one").expect("open");
        assert_eq!(silent.read_u8().await.expect_err("silent").kind(), io::ErrorKind::TimedOut);
    }
}
