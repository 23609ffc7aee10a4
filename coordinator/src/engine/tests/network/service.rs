//! The coordinator's services for clients, without a runtime: what they read, keep and ask of the engine, in the order
//! in which the real ones do. Spool files and checks are the real ones.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use fedlora_adapter::{ClientId, Digest, RoundId};
use tonic::codegen::Bytes;

use super::{
    message::{Down, Up},
    wire::Line,
};
use crate::{
    Handle, ReasonCode, Receipt, RunId, SessionId, UpdateMeta, Verdict,
    check::{CheckError, DEFAULT_MAX_FACTOR_DISTANCE, Rejection, check_update},
    upload::parts::{Spool, Target, check_header, remove_spooled},
};

/// Bytes of an adapter sent at a time.
const CHUNK: usize = 1_500;

/// Something to ask the engine.
#[derive(Debug)]
pub(super) enum Ask {
    Connect(Line, ClientId, u64),
    Disconnect(ClientId, SessionId),
    Decline(ClientId, SessionId, RoundId),
    /// A client asks what became of its update.
    Status(Line, ClientId, RunId, RoundId, Digest),
    /// An upload asks whether its update was judged before.
    Known(Line, UpdateMeta),
    Submit(Line, UpdateMeta),
    Refuse(Line, UpdateMeta, ReasonCode, String),
}

impl Ask {
    /// Whether the engine is only asked what is so.
    pub(super) fn is_question(&self) -> bool {
        matches!(self, Self::Status(..) | Self::Known(..))
    }
}

#[derive(Debug)]
struct Upload {
    update: UpdateMeta,
    /// What came before the engine had answered.
    early: Vec<Up>,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    spool: Spool,
    target: Target,
    committed: u64,
    has_begun: bool,
}

/// The services.
pub(super) struct Service {
    handle: Handle,
    streams: BTreeMap<Line, (ClientId, SessionId)>,
    uploads: BTreeMap<Line, Upload>,
    /// A client's last partial upload.
    spooled: BTreeMap<ClientId, PathBuf>,
    /// Clients whose upload is being checked, and younger ones of theirs that wait for the end of that.
    checking: BTreeMap<ClientId, Vec<(Line, UpdateMeta)>>,
    /// Uploads that are whole: what their check, which takes its time, will ask.
    pub(super) checked: Vec<(ClientId, Ask)>,
    pub(super) answers: Vec<(Line, Down)>,
    pub(super) asks: Vec<Ask>,
}

impl Service {
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle,
            streams: BTreeMap::new(),
            uploads: BTreeMap::new(),
            spooled: BTreeMap::new(),
            checking: BTreeMap::new(),
            checked: Vec::new(),
            answers: Vec::new(),
            asks: Vec::new(),
        }
    }

    /// A message of a client, whose number is that of its certificate.
    pub(super) fn hear(&mut self, line: Line, client: ClientId, up: Up) {
        match up {
            Up::Hello { examples } => self.asks.push(Ask::Connect(line, client, examples)),
            Up::Decline { round } => {
                let session = self.streams.get(&line).map(|(_, session)| *session);
                self.asks.extend(session.map(|session| Ask::Decline(client, session, round)));
            }
            Up::Status { run, round, blob } => self.asks.push(Ask::Status(line, client, run, round, blob)),
            Up::Header(update) => self.begin(line, UpdateMeta { client, ..update }),
            Up::Fetch { blob, offset } => self.send(line, blob, offset),
            Up::Chunk { .. } | Up::End => self.take(line, up),
        }
    }

    /// A line broke, or its client hung up. What came in of an upload stays.
    pub(super) fn lost(&mut self, line: Line) {
        self.uploads.remove(&line);
        if let Some((client, session)) = self.streams.remove(&line) {
            self.asks.push(Ask::Disconnect(client, session));
        }
    }

    /// The engine opened a session. If the client is gone meanwhile, it is closed at once.
    pub(super) fn connected(&mut self, line: Line, client: ClientId, session: SessionId, is_there: bool) {
        if is_there {
            self.streams.insert(line, (client, session));
            self.answers.push((line, Down::Welcome));
        } else {
            self.asks.push(Ask::Disconnect(client, session));
        }
    }

    /// The line of a session.
    pub(super) fn line_of(&self, session: SessionId) -> Option<Line> {
        self.streams.iter().find(|(_, (_, open))| *open == session).map(|(line, _)| *line)
    }

    /// The engine ended a session.
    pub(super) fn end(&mut self, line: Line, reason: &'static str) {
        self.answers.push((line, Down::Failed(reason)));
        self.lost(line);
    }

    /// A client has one upload: a younger one takes over.
    fn begin(&mut self, line: Line, update: UpdateMeta) {
        let older = self.uploads.iter().filter(|(_, upload)| upload.update.client == update.client);
        for older in older.map(|(line, _)| *line).collect::<Vec<_>>() {
            self.fail(older, "superseded");
        }
        self.uploads.insert(line, Upload { update, early: Vec::new(), body: None });
        match self.checking.get_mut(&update.client) {
            Some(waiting) => waiting.push((line, update)),
            None => self.asks.push(Ask::Known(line, update)),
        }
    }

    /// The check of a client's upload is over.
    pub(super) fn hand_in(&mut self, client: ClientId, ask: Ask) {
        self.asks.push(ask);
        let waiting = self.checking.remove(&client).into_iter().flatten();
        self.asks.extend(waiting.map(|(line, update)| Ask::Known(line, update)));
    }

    fn fail(&mut self, line: Line, reason: &'static str) {
        self.uploads.remove(&line);
        self.answers.push((line, Down::Failed(reason)));
    }

    /// Whether an update was judged before, says the engine; if not, its body is taken in.
    pub(super) fn known(&mut self, line: Line, receipt: Option<Receipt>) {
        if let Some(receipt) = receipt {
            self.uploads.remove(&line);
            let verdict = if receipt.verdict == Verdict::Accepted { Verdict::Duplicate } else { receipt.verdict };
            self.answers.push((line, Down::Receipt(Receipt { verdict, ..receipt })));
            return;
        }
        let Some(upload) = self.uploads.get_mut(&line) else { return };
        let update = upload.update;
        match check_header(&self.handle, &update) {
            Err(rejection) => self.refuse(line, rejection),
            Ok(target) => self.open(line, &update, target),
        }
    }

    fn refuse(&mut self, line: Line, rejection: Rejection) {
        if let Some(upload) = self.uploads.remove(&line) {
            self.asks.push(Ask::Refuse(line, upload.update, rejection.code, rejection.detail));
        }
    }

    fn open(&mut self, line: Line, update: &UpdateMeta, target: Target) {
        let path = self.handle.blobs().spool_path(update.client, update.blob);
        if let Some(abandoned) = self.spooled.insert(update.client, path.clone()).filter(|old| *old != path) {
            remove_spooled(&abandoned);
        }
        let spool = Spool::open(path, update.size_bytes, target.layout.clone()).expect("a writable folder");
        let Some(upload) = self.uploads.get_mut(&line) else { return };
        upload.body = Some(Body { committed: spool.committed(), spool, target, has_begun: false });
        for up in std::mem::take(&mut upload.early) {
            self.take(line, up);
        }
    }

    /// A piece of an upload's body, or its end.
    fn take(&mut self, line: Line, up: Up) {
        let Some(upload) = self.uploads.get_mut(&line) else { return };
        let Some(body) = &mut upload.body else { return upload.early.push(up) };
        let Up::Chunk { offset, data } = up else { return self.finish(line) };
        match body.add(offset, data, upload.update.size_bytes) {
            Ok(true) => {}
            Ok(false) => self.fail(line, "a chunk out of place"),
            Err(error) => self.unusable(line, error),
        }
    }

    /// Everything was sent: digest, check, and the move to where updates lie.
    fn finish(&mut self, line: Line) {
        let Some(Upload { update, body: Some(body), .. }) = self.uploads.remove(&line) else { return };
        if body.committed < update.size_bytes {
            return self.answers.push((line, Down::Failed("incomplete")));
        }
        let path = body.spool.path().to_owned();
        match body.judge(&update) {
            Ok(()) => {
                self.handle.blobs().adopt(&path, update.blob).expect("a writable folder");
                self.checking.entry(update.client).or_default();
                self.checked.push((update.client, Ask::Submit(line, update)));
            }
            Err(error) => self.cannot_use(line, update, &path, error),
        }
    }

    /// The body breaks off where it shows that it is no update.
    fn unusable(&mut self, line: Line, error: CheckError) {
        let Some(Upload { update, body: Some(body), .. }) = self.uploads.remove(&line) else { return };
        self.cannot_use(line, update, body.spool.path(), error);
    }

    fn cannot_use(&mut self, line: Line, update: UpdateMeta, path: &Path, error: CheckError) {
        remove_spooled(path);
        match error {
            CheckError::Rejected(Rejection { code, detail }) => self.asks.push(Ask::Refuse(line, update, code, detail)),
            CheckError::Damaged | CheckError::Io(_) => self.answers.push((line, Down::Failed("storage"))),
        }
    }

    /// Sends an adapter from an offset on; only that of the open round is to be had.
    fn send(&mut self, line: Line, blob: Digest, offset: usize) {
        if self.handle.round().is_none_or(|round| round.blob != blob) {
            return self.answers.push((line, Down::Failed("unknown blob")));
        }
        let bytes = fs::read(self.handle.blobs().path(blob)).expect("the open round's adapter is there");
        let rest = bytes[offset.min(bytes.len())..].chunks(CHUNK).enumerate();
        let pieces = rest
            .map(|(place, piece)| Down::Bytes { offset: offset + place * CHUNK, data: Bytes::copy_from_slice(piece) });
        self.answers.extend(pieces.chain([Down::Done]).map(|down| (line, down)));
    }
}

impl Body {
    fn begin(&mut self, offset: u64) -> Result<(), CheckError> {
        self.has_begun = true;
        self.committed = offset;
        self.spool.begin(offset)
    }

    /// Adds a piece; false for one that is out of place. A client that knows of no partial upload begins anew.
    fn add(&mut self, offset: u64, data: Bytes, size: u64) -> Result<bool, CheckError> {
        let expected = if !self.has_begun && offset == 0 { 0 } else { self.committed };
        if offset != expected || expected + data.len() as u64 > size {
            return Ok(false);
        }
        if !self.has_begun {
            self.begin(offset)?;
        }
        self.committed = offset + data.len() as u64;
        self.spool.append(&[data]).map(|()| true)
    }

    fn judge(mut self, update: &UpdateMeta) -> Result<(), CheckError> {
        if !self.has_begun {
            self.begin(self.committed)?;
        }
        let path = self.spool.path().to_owned();
        self.spool.verify(update.blob)?;
        check_update(&path, &self.target.round.plan, &self.target.global, update, DEFAULT_MAX_FACTOR_DISTANCE)
    }
}
