//! What the coordinator knows and what it heard.

use std::collections::{BTreeMap, VecDeque};

use fedlora_adapter::{Adapter, AdapterUpdate, Digest, Directive, RoundId, RoundPlan, encode};
use fedlora_proto::{
    digest_bytes,
    federation::{
        AdapterSpec as WireSpec, Decline, Hello, RoundClosed, RoundPlan as WirePlan, Run, RunFinished, ServerMessage,
        Task, UploadHeader, server_message::Kind,
    },
};
use tokio::sync::mpsc;
use tonic::Status;

use crate::support::{ALL, base_model, local};

/// Messages to one session.
pub(super) type Outgoing = mpsc::Sender<Result<ServerMessage, Status>>;

/// What it knows and what it heard.
pub(crate) struct Book {
    global: Adapter,
    pub(super) blob: Vec<u8>,
    pub(super) directive: Directive,
    rounds: u64,
    /// The open round; 0 for none.
    pub(super) round: u64,
    /// Advance to the next round with each accepted update.
    pub(super) advances: bool,
    /// The run is over, and nobody is told.
    pub(crate) ended: bool,
    /// Answers to calls of Download, before any chunk.
    pub(crate) lost_blobs: VecDeque<Status>,
    pub(super) sessions: Vec<Outgoing>,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) tokens: Vec<String>,
    pub(crate) declines: Vec<Decline>,
    /// Answers to calls of Participate, before any session.
    pub(crate) refusals: VecDeque<Status>,
    /// Break the next uploads after so many chunks.
    pub(crate) upload_breaks: VecDeque<usize>,
    /// Break the next downloads after so many chunks.
    pub(crate) download_breaks: VecDeque<usize>,
    /// Offset and length of every chunk that came.
    pub(crate) chunks: Vec<(u64, usize)>,
    pub(super) spool: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Headers and bytes of whole updates.
    pub(crate) updates: Vec<(UploadHeader, Vec<u8>)>,
    pub(crate) uploads: usize,
    pub(crate) downloads: Vec<u64>,
    pub(crate) ended_sessions: usize,
}

impl Book {
    /// The book of a run of so many rounds that start from `global`.
    pub(super) fn new(global: Adapter, rounds: u64) -> Self {
        let whole = AdapterUpdate::select(&global, ALL);
        let blob =
            encode(whole.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()))).expect("encodable");
        Self {
            global,
            blob,
            directive: ALL,
            rounds,
            round: 1,
            advances: true,
            ended: false,
            lost_blobs: VecDeque::new(),
            sessions: Vec::new(),
            hellos: Vec::new(),
            tokens: Vec::new(),
            declines: Vec::new(),
            refusals: VecDeque::new(),
            upload_breaks: VecDeque::new(),
            download_breaks: VecDeque::new(),
            chunks: Vec::new(),
            spool: BTreeMap::new(),
            updates: Vec::new(),
            uploads: 0,
            downloads: Vec::new(),
            ended_sessions: 0,
        }
    }

    fn spec_digest(&self) -> Digest {
        self.global.spec().digest()
    }

    pub(super) fn run(&self) -> Run {
        Run {
            run_id: 3,
            name: "trial".to_owned(),
            spec: Some(WireSpec::from(&**self.global.spec())),
            base_model: digest_bytes(base_model()),
            labels: vec!["no".to_owned(), "yes".to_owned()],
        }
    }

    pub(super) fn task(&self) -> ServerMessage {
        let plan = RoundPlan {
            run: "trial".to_owned(),
            round: RoundId(self.round),
            num_rounds: self.rounds,
            directive: self.directive,
            spec: self.spec_digest(),
            base: self.global.digest(),
            seed: 1,
            local: local(),
        };
        message(Kind::Task(Task {
            run_id: 3,
            plan: Some(WirePlan::from(&plan)),
            blob: digest_bytes(Digest::of(&self.blob)),
            blob_bytes: self.blob.len() as u64,
            deadline_ms: 0,
        }))
    }

    fn push(&mut self, message: &ServerMessage) {
        // A session that is gone stays gone.
        self.sessions.retain(|session| session.try_send(Ok(message.clone())).is_ok());
    }

    pub(super) fn advance(&mut self) {
        let closed = RoundClosed { run_id: 3, round: self.round };
        self.push(&message(Kind::RoundClosed(closed)));
        if self.round == self.rounds {
            self.round = 0;
            let finished = RunFinished { run_id: 3, status: "finished:completed".to_owned() };
            self.push(&message(Kind::RunFinished(finished)));
        } else {
            self.round += 1;
            let task = self.task();
            self.push(&task);
        }
    }

    pub(super) fn answered(&self, round: u64) -> bool {
        self.updates.iter().any(|(header, _)| header.round == round)
    }
}

pub(super) fn message(kind: Kind) -> ServerMessage {
    ServerMessage { kind: Some(kind) }
}
