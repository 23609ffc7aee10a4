//! Sending an update, and going on with it after a broken call.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fedlora_proto::{
    digest_bytes,
    federation::{Chunk, Receipt, UploadHeader, UploadMessage, UploadStatusRequest, Verdict, upload_message::Kind},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{LinkError, shared::Shared, transfer::Transfer};
use crate::outbox::Letter;

/// Bytes of a chunk: a quarter of what the protocol allows. The coordinator holds a few of them for each upload, and on
/// the wire larger ones save nothing.
const CHUNK_BYTES: u64 = 256 * 1024;

/// Chunks read ahead of the connection: one on its way, one ready.
const READ_AHEAD: usize = 2;

/// What became of an upload.
#[derive(Debug)]
pub(super) enum Sent {
    /// The coordinator has it, and says what it made of it.
    Receipt(Receipt),
    /// The round closed first.
    TooLate,
    /// The client is to stop; the update stays in the outbox.
    Stopped,
}

/// What one try came to.
enum Try {
    Done(Receipt),
    Unwanted,
    Failed(Status),
}

impl Transfer {
    /// Sends an update until it has a receipt, or nobody wants it any more.
    ///
    /// # Errors
    /// A coordinator that refuses this client; a file that cannot be read.
    pub(super) async fn upload(&self, letter: &Letter, file: &Path) -> Result<Sent, LinkError> {
        let mut backoff = self.backoff.clone();
        let round = letter.task.round.0;
        self.shared.progress.say(&format!("round {round}: sending {} bytes", letter.size_bytes));
        loop {
            match self.try_upload(letter, file).await? {
                Try::Done(receipt) => return Ok(Sent::Receipt(receipt)),
                Try::Failed(status) if self.wait(&status, &mut backoff).await? => {}
                Try::Failed(_) | Try::Unwanted if self.shared.is_stopping() => return Ok(Sent::Stopped),
                Try::Failed(_) | Try::Unwanted => {
                    tracing::info!(round, "the round closed before the update was sent");
                    return Ok(Sent::TooLate);
                }
            }
        }
    }

    async fn try_upload(&self, letter: &Letter, file: &Path) -> Result<Try, LinkError> {
        let request = UploadStatusRequest {
            run_id: letter.task.run,
            round: letter.task.round.0,
            blake3: digest_bytes(letter.blob),
        };
        let status = self.dialer.federation().upload_status(self.dialer.request(request)).await;
        let offset = match status.map(tonic::Response::into_inner) {
            Ok(status) => match status.receipt {
                Some(receipt) => return Ok(Try::Done(receipt)),
                None => status.committed_bytes.min(letter.size_bytes),
            },
            Err(status) => return Ok(Try::Failed(status)),
        };
        self.send_from(letter, file, offset).await
    }

    async fn send_from(&self, letter: &Letter, file: &Path, offset: u64) -> Result<Try, LinkError> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let all_sent = Arc::new(AtomicBool::new(false));
        let feeder = Feeder { letter: letter.clone(), file: file.to_owned(), offset, all_sent: Arc::clone(&all_sent) };
        let feeding = tokio::task::spawn_blocking(move || feeder.feed(&sender));
        let mut client = self.dialer.federation();
        let call = client.upload(self.dialer.request(ReceiverStream::new(receiver)));
        tokio::pin!(call);
        let outcome = tokio::select! {
            outcome = &mut call => outcome,
            () = self.shared.unwanted() => {
                // With everything on its way the receipt is near, and often it is this update that closed the round.
                if self.shared.is_stopping() || !all_sent.load(Ordering::Acquire) {
                    return Ok(Try::Unwanted);
                }
                tokio::select! {
                    outcome = &mut call => outcome,
                    () = self.shared.stopping() => return Ok(Try::Unwanted),
                }
            }
        };
        match outcome {
            Ok(receipt) => Ok(Try::Done(receipt.into_inner())),
            Err(status) => match feeding.await {
                // What the file did explains the call's end better than the call does.
                Ok(Err(source)) => Err(LinkError::File { path: file.to_owned(), source }),
                _ => Ok(Try::Failed(status)),
            },
        }
    }
}

/// Reads a file into messages, on a thread that may block.
struct Feeder {
    letter: Letter,
    file: PathBuf,
    offset: u64,
    all_sent: Arc<AtomicBool>,
}

impl Feeder {
    fn feed(self, sender: &mpsc::Sender<UploadMessage>) -> io::Result<()> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset))?;
        // A receiver that is gone means that the call has ended, and the call says why.
        if sender.blocking_send(message(Kind::Header(header(&self.letter)))).is_err() {
            return Ok(());
        }
        let mut offset = self.offset;
        while offset < self.letter.size_bytes {
            let length = (self.letter.size_bytes - offset).min(CHUNK_BYTES);
            let mut data = vec![0; length as usize];
            file.read_exact(&mut data)?;
            let crc32c = crc32c::crc32c(&data);
            if sender.blocking_send(message(Kind::Chunk(Chunk { offset, data: data.into(), crc32c }))).is_err() {
                return Ok(());
            }
            offset += length;
        }
        self.all_sent.store(true, Ordering::Release);
        Ok(())
    }
}

fn message(kind: Kind) -> UploadMessage {
    UploadMessage { kind: Some(kind) }
}

fn header(letter: &Letter) -> UploadHeader {
    UploadHeader {
        run_id: letter.task.run,
        round: letter.task.round.0,
        spec: digest_bytes(letter.spec),
        base: digest_bytes(letter.task.base),
        size_bytes: letter.size_bytes,
        blake3: digest_bytes(letter.blob),
        examples: letter.examples,
        steps: letter.steps,
        train_loss: letter.train_loss,
    }
}

/// Says what the coordinator made of an update. A client acts on no verdict: the next task comes by itself.
pub(super) fn report(shared: &Shared, letter: &Letter, receipt: &Receipt) {
    let round = letter.task.round.0;
    let (reason, detail) = (receipt.reason.as_str(), receipt.detail.as_str());
    let words = match receipt.verdict() {
        Verdict::Accepted | Verdict::Duplicate => {
            tracing::info!(round, "update accepted");
            return;
        }
        Verdict::Late => "came too late for its round",
        Verdict::NotInvited => "was not asked for in this round",
        Verdict::Conflict => "differs from one that this client sent before; the first one counts",
        Verdict::Rejected | Verdict::Unspecified => "was refused",
    };
    tracing::warn!(round, reason, detail, "update {words}");
    shared.progress.note(&format!("round {round}: the update {words} ({reason} {detail})"));
}
