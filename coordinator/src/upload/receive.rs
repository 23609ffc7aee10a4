//! The body of an upload: chunks in order and without a gap, each with its checksum.

use fedlora_proto::{
    MAX_CHUNK_BYTES,
    federation::{Chunk, UploadMessage, upload_message::Kind},
};
use tonic::codegen::Bytes;

use super::{
    Upload,
    pace::Pace,
    slot::Slot,
    spool::{self, Spool},
    writer::{WriteError, Writer},
};
use crate::{
    UpdateMeta,
    check::{CheckError, Rejection},
    grpc::{Rounds, status::CallError},
};

impl<R: Rounds> Upload<R> {
    /// Takes in the body; a rejection comes as soon as the header of the file is seen to be bad.
    ///
    /// Whatever ends the call, the chunks that came in whole are in the spool file afterwards.
    pub(super) async fn take_in(
        &mut self,
        spool: Spool,
        meta: &UpdateMeta,
        slot: &mut Slot,
    ) -> Result<Result<Spool, Rejection>, CallError> {
        let path = spool.path().to_owned();
        let mut body = Body { committed: spool.committed(), size: meta.size_bytes, begun: false };
        let mut writer = Writer::new(spool);
        let received = self.receive_chunks(&mut body, &mut writer, slot).await;
        let written = match received {
            Err(WriteError::Check(error)) => Err(WriteError::Check(error)),
            received => writer.flush().await.and(received),
        };
        match written {
            Ok(()) if body.committed < body.size => {
                Err(CallError::Incomplete { committed: body.committed, size: body.size })
            }
            Ok(()) => writer.into_spool().map(Ok).ok_or(CallError::CutOff),
            Err(WriteError::Call(error)) => Err(error),
            Err(WriteError::Check(error)) => {
                // Neither a file that can never count nor a damaged one nor half of one on a full disk is worth its place.
                spool::remove(&path);
                match error {
                    CheckError::Rejected(rejection) => Ok(Err(rejection)),
                    CheckError::Damaged => Err(CallError::SpoolDamaged),
                    CheckError::Io(error) => Err(error.into()),
                }
            }
        }
    }

    async fn receive_chunks(
        &mut self,
        body: &mut Body,
        writer: &mut Writer,
        slot: &mut Slot,
    ) -> Result<(), WriteError> {
        let mut pace = Pace::new(&self.desk.settings, self.received.clone());
        loop {
            let message = self.next(&mut pace, slot).await.map_err(WriteError::Call)?;
            let Some(message) = message else { break };
            let chunk = body.take(message).map_err(WriteError::Call)?;
            if !std::mem::replace(&mut body.begun, true) {
                writer.begin(chunk.offset).await?;
            }
            self.desk.metrics.add_received(chunk.data.len() as u64);
            writer.push(chunk.data).await?;
            pace.message();
        }
        if !body.begun {
            writer.begin(body.committed).await?;
        }
        Ok(())
    }

    /// The next message, unless there is a reason not to wait for it any longer.
    async fn next(&mut self, pace: &mut Pace, slot: &mut Slot) -> Result<Option<UploadMessage>, CallError> {
        loop {
            tokio::select! {
                biased;
                () = &mut self.revoked => return Err(CallError::Ended { reason: "revoked" }),
                () = slot.superseded() => return Err(CallError::Superseded),
                message = self.inbound.message() => return message.map_err(CallError::Broken),
                () = pace.window_end() => pace.judge()?,
            }
        }
    }
}

/// Where the body stands.
struct Body {
    committed: u64,
    size: u64,
    begun: bool,
}

impl Body {
    /// Checks a chunk's place and content.
    fn take(&mut self, message: UploadMessage) -> Result<Chunk, CallError> {
        let chunk = match message.kind {
            Some(Kind::Chunk(chunk)) => chunk,
            Some(Kind::Header(_)) => return Err(CallError::Repeated { expected: "UploadHeader" }),
            None => return Err(CallError::UnknownMessage),
        };
        let length = chunk.data.len();
        if length > MAX_CHUNK_BYTES {
            return Err(CallError::ChunkTooLarge { found: length });
        }
        if length == 0 {
            return Err(CallError::ChunkEmpty { offset: chunk.offset });
        }
        // A client that knows of no partial upload begins anew.
        let anew = !self.begun && chunk.offset == 0;
        let expected = if anew { 0 } else { self.committed };
        if chunk.offset != expected {
            return Err(CallError::ChunkOffset { expected, found: chunk.offset });
        }
        let end = expected + length as u64;
        if end > self.size {
            return Err(CallError::BeyondUpload { end, size: self.size });
        }
        undamaged(&chunk.data, chunk.offset, chunk.crc32c)?;
        self.committed = end;
        Ok(chunk)
    }
}

fn undamaged(data: &Bytes, offset: u64, declared: u32) -> Result<(), CallError> {
    let computed = crc32c::crc32c(data);
    if computed == declared { Ok(()) } else { Err(CallError::ChunkDamaged { offset, computed, declared }) }
}
