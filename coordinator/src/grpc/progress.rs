//! Counts the bytes of request bodies as they come in.
//!
//! A message is seen only when it is whole. Whether a slow sender makes progress within one can be told from its bytes
//! alone, so they are counted below the messages; a service finds the count among the request's extensions.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use tonic::{
    body::Body as TonicBody,
    codegen::{Bytes, Service, http},
};
use tower::Layer;

/// Bytes of one request's body so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received(Arc<AtomicU64>);

impl Received {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes [`CountBytes`] of a service.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountBytesLayer;

impl<S> Layer<S> for CountBytesLayer {
    type Service = CountBytes<S>;

    fn layer(&self, inner: S) -> CountBytes<S> {
        CountBytes { inner }
    }
}

/// A service whose requests know how many bytes of them have come in.
#[derive(Debug, Clone)]
pub struct CountBytes<S> {
    inner: S,
}

impl<S: Service<http::Request<TonicBody>>> Service<http::Request<TonicBody>> for CountBytes<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<TonicBody>) -> S::Future {
        let received = Received::default();
        request.extensions_mut().insert(received.clone());
        self.inner.call(request.map(|body| TonicBody::new(Counted { body, received })))
    }
}

struct Counted {
    body: TonicBody,
    received: Received,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.received.0.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
