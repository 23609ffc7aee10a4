//! Things that must not go unnoticed: a disk, a coordinator, a server step and clients that break a promise.

use crate::{Pair, RoundStore, StoreError, Table, Write};

/// What is made wrong on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sabotage {
    #[default]
    None,
    /// The store forgets updates that count.
    Amnesia,
    /// The store says that all is durable, and keeps nothing of a transaction with an update.
    LyingDisk,
    /// Receipts leave before the transaction.
    EarlyReceipts,
    /// A server step leaves an update out.
    LossyStep,
    /// Clients take a broken call for an answer.
    ForgetfulClients,
}

/// A store that forgets.
#[derive(Debug)]
pub(super) struct Amnesia<S> {
    store: S,
    forgets_all: bool,
}

impl<S: RoundStore> Amnesia<S> {
    pub(super) fn over(store: S, forgets_all: bool) -> Self {
        Self { store, forgets_all }
    }
}

impl<S: RoundStore> RoundStore for Amnesia<S> {
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let is_update = |write: &Write| write.table == Table::Updates;
        let has_update = writes.iter().any(is_update);
        let forgets_all = has_update && self.forgets_all;
        let kept: Vec<Write> = writes.iter().filter(|write| !forgets_all && !is_update(write)).cloned().collect();
        self.store.commit(&kept)
    }

    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(table, key)
    }

    fn scan(
        &mut self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        youngest_first: bool,
    ) -> Result<Vec<Pair>, StoreError> {
        self.store.scan(table, from, to, limit, youngest_first)
    }
}
