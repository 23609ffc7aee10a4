//! The run directory while a run is under way: one line a round, and checkpoints to go on from.
//!
//! ```text
//! config.toml              every key, defaults written out
//! round_metrics.jsonl      one object a round
//! checkpoints/round-0042/  the global adapter (PEFT) and state.json
//! checkpoints/latest       name of the newest complete checkpoint
//! clients/                 what clients keep, by client and round
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{Adapter, AdapterError, AdapterSpec, ClientId, PeftOptions, RoundId, read_peft, write_peft};
use serde::{Deserialize, Serialize};

use crate::{
    files::{self, FileError},
    metrics::RoundMetrics,
    states::{Saved, StateError, States},
};

const ROUNDS: &str = "round_metrics.jsonl";
const CONFIG: &str = "config.toml";
const STATE: &str = "state.json";

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file's content makes no sense.
    #[error("{path} line {line} is damaged")]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An adapter of a checkpoint.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// What clients keep.
    #[error(transparent)]
    State(#[from] StateError),
    /// The directory holds a run already.
    #[error("{path} already holds a run; choose another --out, or --resume to go on with it")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds a run of another configuration.
    #[error("{path} was written by another configuration; --resume needs the same one (run `fedlora-sim config show`)")]
    OtherConfig {
        /// The configuration there.
        path: PathBuf,
    },
    /// The checkpoint's adapter is not the one it says it is.
    #[error("{path}: the adapter's digest is {found}, recorded was {expected}")]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// Digest recorded.
        expected: String,
        /// Digest found.
        found: String,
    },
    /// The checkpoint's state says that it is another round's.
    #[error("{path} says that it is of round {found}, expected {expected}")]
    OtherRound {
        /// The state.
        path: PathBuf,
        /// The name of the checkpoint's directory.
        expected: String,
        /// The round found.
        found: RoundId,
    },
}

/// What a checkpoint says beside the global adapter.
#[derive(Debug, Serialize, Deserialize)]
struct CheckpointState {
    round: RoundId,
    adapter_digest: String,
    clients: BTreeMap<ClientId, Saved>,
}

/// A written checkpoint that is not announced yet.
#[derive(Debug)]
pub struct Checkpoint {
    name: String,
    clients: BTreeMap<ClientId, Saved>,
}

/// Where a run goes on.
#[derive(Debug)]
pub struct Resumed {
    /// The last checkpointed round.
    pub done: RoundId,
    /// The global adapter after it.
    pub global: Adapter,
    /// Records up to it.
    pub rounds: Vec<RoundMetrics>,
}

/// Writes a run's directory.
#[derive(Debug)]
pub struct Recorder {
    directory: PathBuf,
    lines: File,
    every: u64,
    peft: PeftOptions,
}

impl Recorder {
    /// Starts a run in an empty or new directory.
    ///
    /// # Errors
    /// [`RecordError::Occupied`] where a run is already; files that cannot be written.
    pub fn create(directory: &Path, config: &str, every: u64, peft: PeftOptions) -> Result<Self, RecordError> {
        let rounds = directory.join(ROUNDS);
        if rounds.exists() || directory.join(CONFIG).exists() {
            return Err(RecordError::Occupied { path: directory.to_owned() });
        }
        files::write_atomically(&directory.join(CONFIG), config.as_bytes())?;
        files::write_atomically(&rounds, b"")?;
        Self::open(directory, every, peft)
    }

    /// Goes on with a run: back to its last checkpoint, with the records after that removed.
    ///
    /// A run that was stopped before its first checkpoint starts anew, as does one in an empty directory.
    ///
    /// # Errors
    /// Another configuration; a damaged checkpoint.
    pub fn resume(
        directory: &Path,
        config: &str,
        every: u64,
        peft: PeftOptions,
        spec: &Arc<AdapterSpec>,
        initial: Adapter,
        states: &States,
    ) -> Result<(Self, Resumed), RecordError> {
        let path = directory.join(CONFIG);
        if !path.exists() {
            let recorder = Self::create(directory, config, every, peft)?;
            return Ok((recorder, Resumed { done: RoundId(0), global: initial, rounds: Vec::new() }));
        }
        if read(&path)? != config {
            return Err(RecordError::OtherConfig { path });
        }
        let mut resumed = Resumed { done: RoundId(0), global: initial, rounds: Vec::new() };
        let latest = directory.join("checkpoints/latest");
        if latest.exists() {
            let name = read(&latest)?;
            let checkpoint = directory.join("checkpoints").join(name.trim());
            let state = read_state(&checkpoint.join(STATE), name.trim())?;
            let global = read_peft(&checkpoint, spec, &resumed.global)?;
            let found = global.digest().to_hex();
            if found != state.adapter_digest {
                return Err(RecordError::Damaged { path: checkpoint, expected: state.adapter_digest, found });
            }
            states.restore(&state.clients)?;
            let rounds = read_rounds(&directory.join(ROUNDS))?;
            let rounds = rounds.into_iter().filter(|metrics| metrics.round <= state.round.0).collect();
            resumed = Resumed { done: state.round, global, rounds };
        }
        let lines: Result<String, RecordError> = resumed.rounds.iter().map(line).collect();
        files::write_atomically(&directory.join(ROUNDS), lines?.as_bytes())?;
        Ok((Self::open(directory, every, peft)?, resumed))
    }

    fn open(directory: &Path, every: u64, peft: PeftOptions) -> Result<Self, RecordError> {
        let path = directory.join(ROUNDS);
        let lines = OpenOptions::new().append(true).open(&path);
        let lines = lines.map_err(|source| RecordError::Read { path, source })?;
        Ok(Self { directory: directory.to_owned(), lines, every, peft })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Appends a round's record.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn round(&mut self, metrics: &RoundMetrics) -> Result<(), RecordError> {
        let path = self.directory.join(ROUNDS);
        let line = line(metrics)?;
        self.lines.write_all(line.as_bytes()).map_err(|source| FileError::new(&path, source).into())
    }

    /// Writes a checkpoint if one is due, as it always is after the last round; it counts once it is announced.
    ///
    /// # Errors
    /// A file that cannot be written; the previous checkpoint then stays the newest.
    pub fn checkpoint(
        &mut self,
        round: RoundId,
        global: &Adapter,
        states: &States,
        last: u64,
    ) -> Result<Option<Checkpoint>, RecordError> {
        let due = self.every > 0 && (round.0.is_multiple_of(self.every) || round.0 == last);
        if !due || round.0 == 0 {
            return Ok(None);
        }
        let name = checkpoint_name(round);
        let checkpoints = self.directory.join("checkpoints");
        let directory = checkpoints.join(&name);
        let clients = states.checkpoint()?;
        write_peft(&directory, global, &self.peft)?;
        let state = CheckpointState { round, adapter_digest: global.digest().to_hex(), clients };
        let path = directory.join(STATE);
        let json = serde_json::to_vec_pretty(&state).map_err(|source| RecordError::Json {
            path: path.clone(),
            line: 1,
            source,
        })?;
        files::write_atomically(&path, &json)?;
        Ok(Some(Checkpoint { name, clients: state.clients }))
    }

    /// Makes a checkpoint the one to go on from, after the records up to it, and removes those before.
    ///
    /// # Errors
    /// A file that cannot be written; the previous checkpoint then stays the newest.
    pub fn announce(&mut self, checkpoint: &Checkpoint, states: &States) -> Result<(), RecordError> {
        let checkpoints = self.directory.join("checkpoints");
        let lines = self.directory.join(ROUNDS);
        self.lines.sync_data().map_err(|source| FileError::new(&lines, source))?;
        files::write_atomically(&checkpoints.join("latest"), checkpoint.name.as_bytes())?;
        states.prune(&checkpoint.clients);
        remove_older(&checkpoints, &checkpoint.name);
        Ok(())
    }
}

fn checkpoint_name(round: RoundId) -> String {
    format!("round-{:04}", round.0)
}

fn read_state(path: &Path, name: &str) -> Result<CheckpointState, RecordError> {
    let state: CheckpointState = serde_json::from_str(&read(path)?).map_err(|source| RecordError::Json {
        path: path.to_owned(),
        line: source.line(),
        source,
    })?;
    if checkpoint_name(state.round) != name {
        let (path, expected) = (path.to_owned(), name.to_owned());
        return Err(RecordError::OtherRound { path, expected, found: state.round });
    }
    Ok(state)
}

/// Deletes all checkpoints but the newest.
fn remove_older(checkpoints: &Path, newest: &str) {
    let Ok(entries) = fs::read_dir(checkpoints) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("round-") && name != newest {
            // A checkpoint that stays costs space and nothing else.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The resolved configuration of a run, as TOML.
///
/// # Errors
/// A file that cannot be read.
pub fn read_config(directory: &Path) -> Result<String, RecordError> {
    read(&directory.join(CONFIG))
}

/// Reads the records of a run; a last line that was cut off is left out.
///
/// # Errors
/// A line that is no record.
pub fn read_rounds(path: &Path) -> Result<Vec<RoundMetrics>, RecordError> {
    let text = read(path)?;
    let lines: Vec<&str> = text.lines().collect();
    let mut rounds = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(metrics) => rounds.push(metrics),
            Err(_) if index + 1 == lines.len() && !text.ends_with('\n') => {}
            Err(source) => return Err(RecordError::Json { path: path.to_owned(), line: index + 1, source }),
        }
    }
    Ok(rounds)
}

fn line(metrics: &RoundMetrics) -> Result<String, RecordError> {
    let json = serde_json::to_string(metrics);
    let json =
        json.map_err(|source| RecordError::Json { path: ROUNDS.into(), line: metrics.round as usize, source })?;
    Ok(json + "\n")
}

fn read(path: &Path) -> Result<String, RecordError> {
    fs::read_to_string(path).map_err(|source| RecordError::Read { path: path.to_owned(), source })
}
