//! HTTP/2 as hostile peers leave it standing: windows, streams and headers are bounded, and dead peers are noticed.

use std::time::Duration;

use tonic::transport::Server;
use tower::layer::util::{Identity, Stack};

use super::CountBytesLayer;

/// Bytes that one stream may have on their way: what a peer can park in memory per call.
const STREAM_WINDOW_BYTES: u32 = 192 * 1024;
/// Bytes that all streams of one connection may have on their way.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// Largest frame: fewer, larger frames cost less, and none is larger than half a window.
const FRAME_BYTES: u32 = 96 * 1024;
/// Calls that one connection may have open: a session, an upload, a download, and some to spare.
const STREAMS: u32 = 8;
/// Bytes of all headers of one call.
const HEADER_BYTES: u32 = 16 * 1024;
/// Calls that a peer may reset before they are answered.
const RESETS: usize = 32;
/// How often a quiet peer is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// After this time peers are asked to connect anew, so that addresses and certificates do not grow old.
const CONNECTION_AGE: Duration = Duration::from_hours(24);

/// A server that any services can be added to.
#[must_use]
pub fn server() -> Server<Stack<CountBytesLayer, Identity>> {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_connection_age(CONNECTION_AGE)
        .layer(CountBytesLayer)
}
