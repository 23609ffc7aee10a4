//! Tables in memory, for tests and for runs that leave no trace.

use std::collections::BTreeMap;

use super::{Pair, RoundStore, StoreError, Table, Write};

/// Tables that last as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
}

impl RoundStore for MemoryStore {
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        for Write { table, key, value } in writes {
            self.records.insert((*table, key.clone()), value.clone());
        }
        Ok(())
    }

    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.records.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &mut self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        youngest_first: bool,
    ) -> Result<Vec<Pair>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = self.records.range((table, from.to_vec())..(table, to.to_vec()));
        let pair = |((_, key), value): (&(Table, Vec<u8>), &Vec<u8>)| (key.clone(), value.clone());
        Ok(if youngest_first {
            range.rev().take(limit).map(pair).collect()
        } else {
            range.take(limit).map(pair).collect()
        })
    }
}
