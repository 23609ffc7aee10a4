//! An accepted connection, and what calls on it know of it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::identity::pki::PeerCertificate;

/// What a call's extensions hold about its connection.
#[derive(Debug, Clone, Default)]
pub struct ConnectionInfo {
    /// The other end.
    pub address: Option<SocketAddr>,
    /// The certificate that the other end proved to have the key of, if it showed one.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// The address that a call comes from, whatever the connection is made of.
#[must_use]
pub fn peer_address<T>(request: &tonic::Request<T>) -> Option<IpAddr> {
    let ours = request.extensions().get::<ConnectionInfo>().and_then(|info| info.address);
    let plain = || request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    ours.or_else(plain).map(|address| address.ip())
}

/// A connection that is ready for HTTP/2.
#[derive(Debug)]
pub struct TlsConnection {
    bytes: Bytes,
    info: ConnectionInfo,
}

#[derive(Debug)]
enum Bytes {
    /// The session's state is large beside a bare socket.
    Encrypted(Box<TlsStream<TcpStream>>),
    Clear(TcpStream),
}

impl TlsConnection {
    pub(super) fn clear(stream: TcpStream, address: SocketAddr) -> Self {
        let info = ConnectionInfo { address: Some(address), certificate: None };
        Self { bytes: Bytes::Clear(stream), info }
    }

    /// After the handshake. The certificate is read here, once, and not on every call.
    pub(super) fn encrypted(stream: TlsStream<TcpStream>, address: SocketAddr) -> io::Result<Self> {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        let certificate = shown.map(|der| PeerCertificate::new(der).map(Arc::new)).transpose();
        let info = ConnectionInfo { address: Some(address), certificate: certificate.map_err(io::Error::other)? };
        Ok(Self { bytes: Bytes::Encrypted(Box::new(stream)), info })
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Encrypted(stream) => Pin::new(stream).poll_read(cx, buffer),
            Bytes::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.bytes {
            Bytes::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
            Bytes::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.bytes {
            Bytes::Encrypted(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Bytes::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.bytes {
            Bytes::Encrypted(stream) => stream.is_write_vectored(),
            Bytes::Clear(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
            Bytes::Clear(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
            Bytes::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
