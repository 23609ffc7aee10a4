//! One upload per client at a time; a younger call takes over from an older one.
//!
//! A client whose connection broke calls again before the coordinator has noticed: the old call may hold its spool file
//! for as long as the keep-alive takes. So the younger call is the one that counts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fedlora_adapter::ClientId;
use tokio::{
    sync::{OwnedMutexGuard, watch},
    time::timeout,
};

use crate::grpc::status::CallError;

/// What is known of one client between its calls.
#[derive(Debug, Default)]
struct Place {
    /// The spool file of the last upload.
    spool: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Entry {
    youngest: watch::Sender<u64>,
    place: Arc<tokio::sync::Mutex<Place>>,
}

/// The slots of all clients that ever uploaded; enrolment bounds their number.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<BTreeMap<ClientId, Entry>>);

impl Slots {
    /// Takes a client's slot, from an older call if need be, which has `patience` to let go.
    pub(super) async fn take(&self, client: ClientId, patience: Duration) -> Result<Slot, CallError> {
        let (entry, mut youngest, number) = self.announce(client);
        let guard = tokio::select! {
            biased;
            () = changed(&mut youngest) => return Err(CallError::Superseded),
            guard = timeout(patience, entry.place.lock_owned()) => {
                guard.map_err(|_| CallError::Busy { retry_after: patience })?
            }
        };
        Ok(Slot { guard, youngest, number })
    }

    /// Tells an older call to let go.
    fn announce(&self, client: ClientId) -> (Entry, watch::Receiver<u64>, u64) {
        // A poisoned lock is a panic elsewhere; the map is whole between any two of its statements.
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = slots.entry(client).or_insert_with(|| {
            let place = Arc::default();
            Entry { youngest: watch::Sender::new(0), place }
        });
        entry.youngest.send_modify(|number| *number += 1);
        let youngest = entry.youngest.subscribe();
        let number = *youngest.borrow();
        (entry.clone(), youngest, number)
    }
}

/// Returns when the number changes; never if nobody is left to change it.
async fn changed(youngest: &mut watch::Receiver<u64>) {
    if youngest.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The right to upload for one client.
#[derive(Debug)]
pub(super) struct Slot {
    guard: OwnedMutexGuard<Place>,
    youngest: watch::Receiver<u64>,
    number: u64,
}

impl Slot {
    /// Returns when a younger call wants the slot. Cancel safe.
    pub(super) async fn superseded(&mut self) {
        if *self.youngest.borrow() == self.number {
            changed(&mut self.youngest).await;
        }
    }

    /// Remembers the spool file of this upload and says which earlier one it replaces.
    pub(super) fn replace(&mut self, spool: &Path) -> Option<PathBuf> {
        let old = self.guard.spool.replace(spool.to_owned());
        old.filter(|old| old != spool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_younger_call_waits_until_the_older_one_lets_go() {
        let slots = Slots::default();
        let mut older = slots.take(ClientId(1), PATIENCE).await.expect("free");
        let younger = slots.take(ClientId(1), PATIENCE);
        let older = async {
            older.superseded().await;
            drop(older);
        };
        let (younger, ()) = tokio::join!(younger, older);
        let mut younger = younger.expect("let go");
        timeout(PATIENCE, younger.superseded()).await.expect_err("nobody is younger");
        slots.take(ClientId(2), PATIENCE).await.expect("another client's slot is its own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_lets_go_is_not_waited_for_without_end() {
        let slots = Slots::default();
        let _stuck = slots.take(ClientId(1), PATIENCE).await.expect("free");
        let error = slots.take(ClientId(1), PATIENCE).await.expect_err("taken");
        assert!(matches!(error, CallError::Busy { .. }));
    }
}
