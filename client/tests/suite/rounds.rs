//! Rounds that lose nothing, whichever side goes away and comes back.

use std::sync::{Arc, atomic::Ordering};

use fedlora_adapter::{Adapter, AdapterUpdate, ClientId, ModuleName, Side, encode, names};
use fedlora_client::{DiskStore, MemoryStore};
use fedlora_learner::{ToyTrainer, Watch};

use crate::{
    coordinator::Coordinator,
    support::{ALL, Client, Counting, Patient, SHARE_A, adapter, zeros},
};

const CLIENT: ClientId = ClientId(5);
/// Wide enough for an update of five chunks: 2 x 600,000 values of `A` are 4.6 MiB.
const WIDE: usize = 600_000;

fn bytes(adapter: &Adapter) -> Vec<u8> {
    let update = AdapterUpdate::select(adapter, ALL);
    encode(update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()))).expect("encodable")
}

#[test]
fn a_run_is_played_from_the_first_task_to_the_last_receipt() {
    let coordinator = Coordinator::start(zeros(4), 3);
    let place = tempfile::tempdir().expect("a temporary directory");
    let target = adapter(4, 2);
    let trained = Client::start(&coordinator, place.path()).play_to(&target).expect("the run completes");
    assert_eq!(trained, 3);
    coordinator.change(|book| {
        assert_eq!(book.updates.iter().map(|(header, _)| header.round).collect::<Vec<_>>(), [1, 2, 3]);
        for (header, update) in &book.updates {
            assert_eq!((header.run_id, header.examples, header.steps), (3, 7, 1));
            assert!(*update == bytes(&target), "the update is not what was trained");
        }
        assert_eq!((book.hellos.len(), book.hellos[0].examples), (1, 7));
        assert_eq!(book.tokens, ["Bearer open-sesame"]);
    });
}

#[test]
fn an_upload_that_breaks_after_any_chunk_goes_on_there() {
    /// What the client sends at a time.
    const CHUNK: usize = 256 * 1024;
    let size = bytes(&adapter(WIDE, 2)).len();
    let whole = size.div_ceil(CHUNK);
    assert!(whole > 5, "{size} bytes are few");
    for after in 0..=whole {
        let coordinator = Coordinator::start(adapter(WIDE, 1), 1);
        coordinator.change(|book| book.upload_breaks.push_back(after));
        let place = tempfile::tempdir().expect("a temporary directory");
        let trained = Client::start(&coordinator, place.path()).play_to(&adapter(WIDE, 2)).expect("the run completes");
        assert_eq!(trained, 1, "an upload that breaks is no reason to train again");
        coordinator.change(|book| {
            assert_eq!((book.uploads, book.updates.len()), (2, 1));
            let places: Vec<u64> = book.chunks.iter().map(|(offset, _)| *offset).collect();
            let expected: Vec<u64> = (0..whole).map(|chunk| (chunk * CHUNK) as u64).collect();
            assert_eq!(places, expected, "broken after {after} chunks");
            assert_eq!(book.chunks.iter().map(|(_, length)| length).sum::<usize>(), size);
        });
    }
}

#[test]
fn a_download_that_breaks_goes_on_where_it_stopped() {
    let coordinator = Coordinator::start(adapter(WIDE, 1), 1);
    coordinator.change(|book| book.download_breaks.extend([0, 2, 1]));
    let place = tempfile::tempdir().expect("a temporary directory");
    Client::start(&coordinator, place.path()).play_to(&adapter(WIDE, 2)).expect("the run completes");
    coordinator.change(|book| assert_eq!(book.downloads, [0, 0, 2 << 20, 3 << 20]));
}

#[test]
fn a_coordinator_that_restarts_while_a_client_trains_gets_the_update_of_that_training() {
    let mut coordinator = Coordinator::start(adapter(4, 1), 2);
    let handle = coordinator.handle();
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut client = Client::start(&coordinator, place.path());
    let target = adapter(4, 2);
    let (begun, training) = std::sync::mpsc::channel();
    let (restarted, go_on) = std::sync::mpsc::channel::<()>();
    let trainer = Counting::new(ToyTrainer::new(1.0, 1).with_target(CLIENT, target, 7));
    let mut first = true;
    let trainer = trainer.before(move || {
        if std::mem::take(&mut first) {
            begun.send(()).expect("the test waits");
            go_on.recv().expect("the test restarts the coordinator");
            // The same task comes again with the new session, before this training ends.
            handle.wait(|book| book.hellos.len() == 2);
        }
    });
    let count = trainer.count();
    let playing = std::thread::spawn(move || client.play(trainer, MemoryStore::default()).map(|_| ()));
    training.recv().expect("training begins");
    coordinator.restart();
    restarted.send(()).expect("the trainer waits");
    playing.join().expect("no panic").expect("the run completes");
    assert_eq!(count.load(Ordering::SeqCst), 2, "the task that came again was trained twice");
    coordinator.change(|book| assert_eq!(book.updates.len(), 2));
}

#[test]
fn a_run_that_ends_while_a_client_is_away_is_over_for_it() {
    let mut coordinator = Coordinator::start(adapter(4, 1), 2);
    let (begun, training) = std::sync::mpsc::channel();
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut client = Client::start(&coordinator, place.path());
    let watch: Watch = client.watch.clone();
    let trainer = Patient { watch, endless: 1, begun: Box::new(move || begun.send(()).expect("the test waits")) };
    let playing = std::thread::spawn(move || client.play(trainer, MemoryStore::default()).map(|_| ()));
    training.recv().expect("training begins");
    coordinator.change(|book| book.ended = true);
    coordinator.restart();
    playing.join().expect("no panic").expect("the end of a run is no failure");
    coordinator.change(|book| assert_eq!((book.hellos.len(), book.updates.len()), (2, 0)));
}

#[test]
fn a_round_that_closes_cancels_training_and_the_next_one_is_played() {
    let coordinator = Coordinator::start(adapter(4, 1), 2);
    let (handle, place) = (coordinator.handle(), tempfile::tempdir().expect("a temporary directory"));
    let mut client = Client::start(&coordinator, place.path());
    let watch: Watch = client.watch.clone();
    let trainer = Patient { watch, endless: 1, begun: Box::new(move || handle.close_round()) };
    client.play(trainer, MemoryStore::default()).expect("a cancelled training is no failure");
    coordinator.change(|book| {
        assert_eq!(book.updates.iter().map(|(header, _)| header.round).collect::<Vec<_>>(), [2]);
        assert!(book.declines.is_empty());
    });
}

#[test]
fn a_client_that_is_stopped_while_it_trains_says_goodbye_and_ends_well() {
    let coordinator = Coordinator::start(adapter(4, 1), 1);
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut client = Client::start(&coordinator, place.path());
    let (watch, stop) = (client.watch.clone(), client.stop.clone());
    let trainer = Patient { watch, endless: 1, begun: Box::new(move || stop.stop()) };
    client.play(trainer, MemoryStore::default()).expect("a stop is no failure");
    coordinator.handle().wait(|book| book.ended_sessions == 1);
    coordinator.change(|book| assert!(book.updates.is_empty()));
}

#[test]
fn an_update_on_its_way_is_sent_after_a_restart_and_not_trained_again() {
    let coordinator = Coordinator::start(zeros(WIDE), 1);
    // After the first two chunks broken calls for as long as the client lives, so that it cannot finish.
    coordinator.change(|book| book.upload_breaks.extend(std::iter::once(2).chain(std::iter::repeat_n(0, 100_000))));
    let (handle, place) = (coordinator.handle(), tempfile::tempdir().expect("a temporary directory"));
    let target = adapter(WIDE, 2);
    let mut client = Client::start(&coordinator, place.path());
    let stop = client.stop.clone();
    let stopping = {
        let handle = handle.clone();
        std::thread::spawn(move || {
            handle.wait(|book| book.chunks.len() == 2);
            stop.stop();
        })
    };
    assert_eq!(client.play_to(&target).expect("a stop is no failure"), 1);
    stopping.join().expect("no panic");
    coordinator.change(|book| {
        assert!(book.updates.is_empty());
        book.upload_breaks.clear();
    });
    let trained = Client::start(&coordinator, place.path()).play_to(&target).expect("the run completes");
    assert_eq!(trained, 0, "the update lay ready");
    coordinator.change(|book| {
        assert!(book.updates[0].1 == bytes(&target));
        assert_eq!(book.chunks.iter().map(|(_, length)| length).sum::<usize>(), book.updates[0].1.len());
    });
}

#[test]
fn what_a_client_keeps_survives_a_restart_and_an_interrupted_round_starts_from_the_state_before_it() {
    let coordinator = Coordinator::start(adapter(4, 1), 2).with_directive(SHARE_A).by_hand();
    let (handle, place) = (coordinator.handle(), tempfile::tempdir().expect("a temporary directory"));
    let (first, second) = (adapter(4, 2), adapter(4, 3));
    let kept = place.path().join("kept");
    let b = |adapter: &Adapter| adapter.modules()[&ModuleName::new("layer")].b.clone();
    let name = names::factor(first.spec().kind, &ModuleName::new("layer"), Side::B);
    // Round 1 is trained and sent; then the client is stopped.
    let mut client = Client::start(&coordinator, place.path());
    let stop = client.stop.clone();
    let watching = {
        let handle = handle.clone();
        std::thread::spawn(move || {
            handle.wait(|book| book.updates.len() == 1);
            stop.stop();
        })
    };
    let trainer = ToyTrainer::new(1.0, 1).with_target(CLIENT, first.clone(), 7);
    let store = DiskStore::new(kept.clone(), client.terms.clone());
    client.play(trainer, store).expect("a stop is no failure");
    watching.join().expect("no panic");
    // Round 2, by a new process: training starts from the B that was kept, not from the global one.
    handle.close_round();
    let mut client = Client::start(&coordinator, place.path());
    let terms = client.terms.clone();
    let seen = Arc::new(std::sync::Mutex::new(None));
    let (note, expected) = (Arc::clone(&seen), b(&first));
    let trainer = Watching { note, inner: ToyTrainer::new(1.0, 1).with_target(CLIENT, second, 7) };
    let store = DiskStore::new(kept, terms);
    let closing = std::thread::spawn(move || {
        handle.wait(|book| book.updates.len() == 2);
        handle.close_round();
    });
    client.play(trainer, store).expect("the run completes");
    closing.join().expect("no panic");
    let start = seen.lock().expect("no panic").take().expect("round 2 was trained");
    assert_eq!(b(&start), expected, "{name}");
    coordinator.change(|book| {
        let sizes: Vec<u64> = book.updates.iter().map(|(header, _)| header.size_bytes).collect();
        assert!(sizes.iter().all(|&size| size < bytes(&first).len() as u64), "B and head do not travel");
    });
}

/// Notes where training starts.
struct Watching {
    inner: ToyTrainer,
    note: Arc<std::sync::Mutex<Option<Adapter>>>,
}

impl fedlora_learner::Trainer for Watching {
    type Error = std::convert::Infallible;

    fn train(&mut self, jobs: &[fedlora_learner::Job]) -> Vec<Result<fedlora_learner::LocalOutcome, Self::Error>> {
        *self.note.lock().expect("no panic") = jobs.first().map(|job| job.start.clone());
        self.inner.train(jobs)
    }
}
