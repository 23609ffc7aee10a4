//! Records with their types, keys and order, over any [`RoundStore`].

use std::{collections::BTreeMap, fmt::Write as _};

use fedlora_adapter::{ClientId, RoundId};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    CheckpointRecord, LogEntry, Rejection, RoundRecord, RoundStore, RunRecord, Snapshot, StoreError, Table, Write,
};
use crate::{RunId, UpdateMeta};

/// Version of the layout of all tables.
const SCHEMA: u32 = 1;
/// Key of [`SCHEMA`] in [`Table::Meta`].
const SCHEMA_KEY: &[u8] = b"schema";

/// Typed tables. Writes wait until [`Records::commit`], but are read back at once.
#[derive(Debug)]
pub(crate) struct Records {
    store: Box<dyn RoundStore>,
    pending: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    next_event: u64,
}

impl Records {
    /// Opens a store, or prepares an empty one.
    pub(crate) fn open(store: Box<dyn RoundStore>) -> Result<Self, StoreError> {
        let mut records = Self { store, pending: BTreeMap::new(), next_event: 1 };
        match records.get::<u32>(Table::Meta, SCHEMA_KEY)? {
            Some(SCHEMA) => {}
            Some(found) => return Err(StoreError::Schema { expected: SCHEMA, found }),
            None => {
                records.put(Table::Meta, SCHEMA_KEY.to_vec(), &SCHEMA)?;
                records.commit()?;
            }
        }
        records.reload()?;
        Ok(records)
    }

    /// Forgets what was not committed.
    pub(crate) fn reload(&mut self) -> Result<(), StoreError> {
        self.pending.clear();
        let last = self.scan::<LogEntry>(Table::Events, &[], &END, 1, true)?;
        self.next_event = last.first().map_or(1, |(number, _)| number + 1);
        Ok(())
    }

    /// Whether something waits to be committed.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Makes all waiting writes durable, in one transaction.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let writes: Vec<Write> = pending.into_iter().map(|((table, key), value)| Write { table, key, value }).collect();
        self.store.commit(&writes)
    }

    /// Number of the last event, 0 if there is none.
    pub(crate) fn last_event(&self) -> u64 {
        self.next_event - 1
    }

    /// Adds to the log.
    pub(crate) fn log(&mut self, entry: &LogEntry) -> Result<(), StoreError> {
        self.put(Table::Events, key(&[self.next_event]), entry)?;
        self.next_event += 1;
        Ok(())
    }

    /// Events after a number, oldest first.
    pub(crate) fn events(&mut self, after: u64, limit: usize) -> Result<Vec<(u64, LogEntry)>, StoreError> {
        self.scan(Table::Events, &key(&[after.saturating_add(1)]), &END, limit, false)
    }

    pub(crate) fn last_entry(&mut self) -> Result<Option<LogEntry>, StoreError> {
        Ok(self.scan(Table::Events, &[], &END, 1, true)?.pop().map(|(_, entry)| entry))
    }

    pub(crate) fn run(&mut self, run: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.get(Table::Runs, &key(&[run.0]))
    }

    /// Youngest first.
    pub(crate) fn runs(&mut self, limit: usize) -> Result<Vec<(RunId, RunRecord)>, StoreError> {
        let runs = self.scan(Table::Runs, &[], &END, limit, true)?;
        Ok(runs.into_iter().map(|(run, record)| (RunId(run), record)).collect())
    }

    pub(crate) fn put_run(&mut self, run: RunId, record: &RunRecord) -> Result<(), StoreError> {
        self.put(Table::Runs, key(&[run.0]), record)
    }

    pub(crate) fn snapshot(&mut self, run: RunId) -> Result<Option<Snapshot>, StoreError> {
        self.get(Table::Snapshots, &key(&[run.0]))
    }

    pub(crate) fn put_snapshot(&mut self, run: RunId, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.put(Table::Snapshots, key(&[run.0]), snapshot)
    }

    pub(crate) fn update(
        &mut self,
        run: RunId,
        round: RoundId,
        client: ClientId,
    ) -> Result<Option<UpdateMeta>, StoreError> {
        self.get(Table::Updates, &key(&[run.0, round.0, client.0]))
    }

    /// In client order.
    pub(crate) fn updates(&mut self, run: RunId, round: RoundId) -> Result<Vec<UpdateMeta>, StoreError> {
        self.of_round(Table::Updates, run, round).map(|updates| updates.into_iter().map(|(_, update)| update).collect())
    }

    /// The client of every update that ever counted, once for each.
    pub(crate) fn accepted_clients(&mut self) -> Result<Vec<ClientId>, StoreError> {
        let all = self.scan::<UpdateMeta>(Table::Updates, &[], &[u8::MAX; 25], usize::MAX, false)?;
        Ok(all.into_iter().map(|(client, _)| ClientId(client)).collect())
    }

    pub(crate) fn put_update(&mut self, update: &UpdateMeta) -> Result<(), StoreError> {
        self.put(Table::Updates, key(&[update.run.0, update.round.0, update.client.0]), update)
    }

    pub(crate) fn rejection(
        &mut self,
        run: RunId,
        round: RoundId,
        client: ClientId,
    ) -> Result<Option<Rejection>, StoreError> {
        self.get(Table::Rejections, &key(&[run.0, round.0, client.0]))
    }

    pub(crate) fn rejections(
        &mut self,
        run: RunId,
        round: RoundId,
    ) -> Result<BTreeMap<ClientId, Rejection>, StoreError> {
        let rejections = self.of_round(Table::Rejections, run, round)?;
        Ok(rejections.into_iter().map(|(client, rejection)| (ClientId(client), rejection)).collect())
    }

    pub(crate) fn put_rejection(&mut self, update: &UpdateMeta, rejection: &Rejection) -> Result<(), StoreError> {
        self.put(Table::Rejections, key(&[update.run.0, update.round.0, update.client.0]), rejection)
    }

    pub(crate) fn round(&mut self, run: RunId, round: RoundId) -> Result<Option<RoundRecord>, StoreError> {
        self.get(Table::Rounds, &key(&[run.0, round.0]))
    }

    pub(crate) fn rounds_after(
        &mut self,
        run: RunId,
        round: RoundId,
    ) -> Result<Vec<(RoundId, RoundRecord)>, StoreError> {
        let from = key(&[run.0, round.0.saturating_add(1)]);
        let rounds = self.scan(Table::Rounds, &from, &key(&[run.0.saturating_add(1)]), usize::MAX, false)?;
        Ok(rounds.into_iter().map(|(round, record)| (RoundId(round), record)).collect())
    }

    /// Youngest first.
    pub(crate) fn rounds(&mut self, run: RunId, limit: usize) -> Result<Vec<(RoundId, RoundRecord)>, StoreError> {
        let rounds = self.scan(Table::Rounds, &key(&[run.0]), &key(&[run.0.saturating_add(1)]), limit, true)?;
        Ok(rounds.into_iter().map(|(round, record)| (RoundId(round), record)).collect())
    }

    pub(crate) fn put_round(&mut self, run: RunId, round: RoundId, record: &RoundRecord) -> Result<(), StoreError> {
        self.put(Table::Rounds, key(&[run.0, round.0]), record)
    }

    pub(crate) fn checkpoint(&mut self, run: RunId, round: RoundId) -> Result<Option<CheckpointRecord>, StoreError> {
        self.get(Table::Checkpoints, &key(&[run.0, round.0]))
    }

    /// Of one run, oldest first.
    pub(crate) fn checkpoints(&mut self, run: RunId) -> Result<Vec<(RoundId, CheckpointRecord)>, StoreError> {
        let found =
            self.scan(Table::Checkpoints, &key(&[run.0]), &key(&[run.0.saturating_add(1)]), usize::MAX, false)?;
        Ok(found.into_iter().map(|(round, record)| (RoundId(round), record)).collect())
    }

    /// Of all runs.
    pub(crate) fn all_checkpoints(&mut self) -> Result<Vec<CheckpointRecord>, StoreError> {
        let found = self.scan(Table::Checkpoints, &[], &END, usize::MAX, false)?;
        Ok(found.into_iter().map(|(_, record)| record).collect())
    }

    pub(crate) fn put_checkpoint(
        &mut self,
        run: RunId,
        round: RoundId,
        record: &CheckpointRecord,
    ) -> Result<(), StoreError> {
        self.put(Table::Checkpoints, key(&[run.0, round.0]), record)
    }

    pub(crate) fn run_of_key(&mut self, idempotency_key: &str) -> Result<Option<RunId>, StoreError> {
        self.get(Table::Keys, idempotency_key.as_bytes())
    }

    pub(crate) fn put_key(&mut self, idempotency_key: &str, run: RunId) -> Result<(), StoreError> {
        self.put(Table::Keys, idempotency_key.as_bytes().to_vec(), &run)
    }

    pub(crate) fn drained(&mut self) -> Result<Vec<ClientId>, StoreError> {
        let found = self.scan::<bool>(Table::Drained, &[], &END, usize::MAX, false)?;
        Ok(found.into_iter().map(|(client, _)| ClientId(client)).collect())
    }

    pub(crate) fn put_drained(&mut self, client: ClientId) -> Result<(), StoreError> {
        self.put(Table::Drained, key(&[client.0]), &true)
    }

    fn of_round<T: DeserializeOwned>(
        &mut self,
        table: Table,
        run: RunId,
        round: RoundId,
    ) -> Result<Vec<(u64, T)>, StoreError> {
        self.scan(table, &key(&[run.0, round.0]), &key(&[run.0, round.0.saturating_add(1)]), usize::MAX, false)
    }

    fn put<T: Serialize>(&mut self, table: Table, key: Vec<u8>, value: &T) -> Result<(), StoreError> {
        let value =
            serde_json::to_vec(value).map_err(|source| StoreError::Unwritable { table: table.name(), source })?;
        self.pending.insert((table, key), value);
        Ok(())
    }

    fn get<T: DeserializeOwned>(&mut self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        let waiting = self.pending.get(&(table, key.to_vec())).cloned();
        let value = if waiting.is_some() { waiting } else { self.store.get(table, key)? };
        value.map(|value| parse(table, key, &value)).transpose()
    }

    /// Values with the last number of their key, what waits to be committed included.
    fn scan<T: DeserializeOwned>(
        &mut self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        youngest_first: bool,
    ) -> Result<Vec<(u64, T)>, StoreError> {
        let mut found: BTreeMap<Vec<u8>, Vec<u8>> =
            self.store.scan(table, from, to, limit, youngest_first)?.into_iter().collect();
        let waiting = self.pending.range((table, from.to_vec())..(table, to.to_vec()));
        found.extend(waiting.map(|((_, key), value)| (key.clone(), value.clone())));
        let typed = |(key, value): (Vec<u8>, Vec<u8>)| Ok((last_number(&key), parse(table, &key, &value)?));
        if youngest_first {
            found.into_iter().rev().take(limit).map(typed).collect()
        } else {
            found.into_iter().take(limit).map(typed).collect()
        }
    }
}

/// Behind every key that is made of numbers.
const END: [u8; 33] = [0xff; 33];

fn key(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn last_number(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn parse<T: DeserializeOwned>(table: Table, key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|source| {
        let text = key.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        StoreError::Record { table: table.name(), key: text, source }
    })
}
