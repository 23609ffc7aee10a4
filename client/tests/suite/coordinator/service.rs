//! The services, answered out of the book.

use std::{pin::Pin, sync::Arc};

use fedlora_adapter::Digest;
use fedlora_proto::{
    digest_bytes,
    federation::{
        Chunk, ClientMessage, DownloadRequest, EnrolRequest, EnrolResponse, Hello, Receipt, RenewRequest,
        ServerMessage, UploadHeader, UploadMessage, UploadStatusRequest, UploadStatusResponse, Verdict, Welcome,
        client_message, federation_server::Federation, identity_server::Identity, server_message::Kind, upload_message,
    },
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    CHUNK, Shared,
    book::{Outgoing, message},
};

type Pushes = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

#[derive(Clone)]
pub(super) struct Service(pub(super) Arc<Shared>);

impl Service {
    fn welcome(&self, hello: Hello, outgoing: Outgoing) {
        self.0.change(|book| {
            book.hellos.push(hello);
            let (heartbeat_interval_ms, run) = (3_600_000, (!book.ended).then(|| book.run()));
            let welcome = Welcome { client_id: 5, heartbeat_interval_ms, server_time_ms: 0, run };
            outgoing.try_send(Ok(message(Kind::Welcome(welcome)))).expect("room");
            if book.round > 0 && !book.ended && !book.answered(book.round) {
                outgoing.try_send(Ok(book.task())).expect("room");
            }
            book.sessions.push(outgoing);
        });
    }

    async fn listen(self, mut incoming: Streaming<ClientMessage>, outgoing: Outgoing) {
        while let Ok(Some(message)) = incoming.message().await {
            match message.kind {
                Some(client_message::Kind::Hello(hello)) => self.welcome(hello, outgoing.clone()),
                Some(client_message::Kind::Decline(decline)) => self.0.change(|book| book.declines.push(decline)),
                Some(client_message::Kind::Heartbeat(_)) | None => {}
            }
        }
        self.0.change(|book| {
            book.ended_sessions += 1;
            book.sessions.retain(|session| !session.same_channel(&outgoing));
        });
    }

    fn complete(&self, header: UploadHeader, bytes: Vec<u8>) -> Receipt {
        let digest = digest_bytes(Digest::of(&bytes));
        assert_eq!(digest, header.blake3, "the bytes are not those that were announced");
        self.0.change(|book| {
            let verdict = if header.round == book.round { Verdict::Accepted } else { Verdict::Late };
            book.updates.push((header, bytes));
            if book.advances {
                book.advance();
            }
            Receipt { verdict: verdict.into(), reason: String::new(), detail: String::new() }
        })
    }
}

#[tonic::async_trait]
impl Federation for Service {
    type ParticipateStream = Pushes;
    type DownloadStream = Chunks;

    async fn participate(&self, request: Request<Streaming<ClientMessage>>) -> Result<Response<Pushes>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = token.unwrap_or_default().to_owned();
        let refusal = self.0.change(|book| {
            book.tokens.push(token);
            book.refusals.pop_front()
        });
        if let Some(status) = refusal {
            return Err(status);
        }
        let (outgoing, pushes) = mpsc::channel(64);
        tokio::spawn(self.clone().listen(request.into_inner(), outgoing));
        Ok(Response::new(Box::pin(ReceiverStream::new(pushes))))
    }

    async fn download(&self, request: Request<DownloadRequest>) -> Result<Response<Chunks>, Status> {
        let request = request.into_inner();
        let (blob, limit, lost) = self.0.change(|book| {
            book.downloads.push(request.offset);
            (book.blob.clone(), book.download_breaks.pop_front(), book.lost_blobs.pop_front())
        });
        if let Some(status) = lost {
            return Err(status);
        }
        let rest = blob[request.offset as usize..].to_vec();
        let mut offset = request.offset;
        let mut chunks = Vec::new();
        for data in rest.chunks(CHUNK) {
            if limit.is_some_and(|limit| chunks.len() >= limit) {
                break;
            }
            let crc32c = crc32c::crc32c(data);
            chunks.push(Ok(Chunk { offset, data: data.to_vec().into(), crc32c }));
            offset += data.len() as u64;
        }
        chunks.extend(limit.map(|_| Err(Status::unavailable("broken by the test"))));
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn upload(&self, request: Request<Streaming<UploadMessage>>) -> Result<Response<Receipt>, Status> {
        let mut incoming = request.into_inner();
        let mut limit = self.0.change(|book| {
            book.uploads += 1;
            book.upload_breaks.pop_front()
        });
        let mut header = None;
        while let Some(message) = incoming.next().await {
            match message?.kind {
                Some(upload_message::Kind::Header(found)) => {
                    header = Some(found);
                    if limit == Some(0) {
                        return Err(Status::unavailable("broken by the test"));
                    }
                }
                Some(upload_message::Kind::Chunk(chunk)) => {
                    let header: &UploadHeader = header.as_ref().expect("the header comes first");
                    assert_eq!(crc32c::crc32c(&chunk.data), chunk.crc32c);
                    self.0.change(|book| {
                        book.chunks.push((chunk.offset, chunk.data.len()));
                        let spool = book.spool.entry(header.blake3.to_vec()).or_default();
                        assert_eq!(spool.len() as u64, chunk.offset, "a gap, or bytes sent twice");
                        spool.extend_from_slice(&chunk.data);
                    });
                    limit = limit.map(|left| left - 1);
                    if limit == Some(0) {
                        return Err(Status::unavailable("broken by the test"));
                    }
                }
                None => {}
            }
        }
        let header = header.expect("an upload has a header");
        let bytes = self.0.change(|book| book.spool.get(&header.blake3.to_vec()).cloned()).unwrap_or_default();
        if (bytes.len() as u64) < header.size_bytes {
            return Err(Status::unavailable("the upload ended early"));
        }
        Ok(Response::new(self.complete(header, bytes)))
    }

    async fn upload_status(
        &self,
        request: Request<UploadStatusRequest>,
    ) -> Result<Response<UploadStatusResponse>, Status> {
        let blake3 = request.into_inner().blake3.to_vec();
        let committed = self.0.lock().spool.get(&blake3).map_or(0, Vec::len);
        Ok(Response::new(UploadStatusResponse { committed_bytes: committed as u64, receipt: None }))
    }
}

#[tonic::async_trait]
impl Identity for Service {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let request = request.into_inner();
        if request.token != "fl1_good" {
            return Err(Status::permission_denied("this token was used before"));
        }
        Ok(Response::new(answer(&request.csr_pem)))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<EnrolResponse>, Status> {
        Ok(Response::new(answer(&request.into_inner().csr_pem)))
    }
}

/// A certificate for the key of a request, by an authority made on the spot.
fn answer(csr_pem: &str) -> EnrolResponse {
    let request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).expect("a request");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(params, key);
    let certificate = request.signed_by(&issuer).expect("a certificate");
    EnrolResponse {
        certificate_pem: certificate.pem(),
        ca_pem: String::new(),
        client_id: 5,
        name: "north".to_owned(),
        not_after_ms: 1,
        access_token: "open-sesame".to_owned(),
    }
}
