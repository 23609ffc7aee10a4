//! The engine on its thread, under a clock in the test's hand.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use fedlora_adapter::{ClientId, RoundId};
use tokio::sync::mpsc::Receiver;

use super::{
    media::{CrashFiles, Power},
    support::{GRACE_MS, SharedStore, config, engine, model, upload},
};
use crate::{Blobs, Clock, Control, EngineError, EngineThread, Handle, Push, RunId, Timestamp, Verdict, engine::start};

#[derive(Debug, Default)]
struct VirtualClock(AtomicU64);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

struct Running {
    _folder: tempfile::TempDir,
    store: SharedStore,
    blobs: Blobs,
    clock: Arc<VirtualClock>,
    handle: Handle,
    thread: EngineThread,
}

fn running() -> Running {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blobs = Blobs::over(folder.path(), Arc::new(CrashFiles::new(&Power::on()))).expect("writable");
    let (store, clock) = (SharedStore::default(), Arc::new(VirtualClock::default()));
    let (handle, thread) =
        start(engine(&store, &blobs, 0), Arc::<VirtualClock>::clone(&clock)).expect("a thread to run on");
    Running { _folder: folder, store, blobs, clock, handle, thread }
}

impl Running {
    async fn begin(&self, keys: &str, clients: u64) -> Vec<Receiver<Push>> {
        self.handle.start_run(config(keys), model(), String::new()).await.expect("begun");
        let mut pushes = Vec::new();
        for client in 0..clients {
            pushes.push(self.handle.connect(ClientId(client), 1).await.expect("connected").1);
        }
        pushes
    }

    async fn submit(&self, client: u64) -> Verdict {
        let (run, round) = (self.handle.run().expect("live"), self.handle.round().expect("open"));
        let update = upload(&self.blobs, &run.spec, &round, client, 1.0).expect("writable");
        self.handle.submit(update).await.expect("kept").verdict
    }

    async fn wait(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
        self.handle.wake().await;
    }
}

async fn next_task(pushes: &mut Receiver<Push>) -> u64 {
    loop {
        match pushes.recv().await.expect("a session") {
            Push::Task(round) => return round.plan.round.0,
            Push::Run(_) | Push::RoundClosed(..) => {}
            other => panic!("expected work, found {other:?}"),
        }
    }
}

#[tokio::test]
async fn rounds_go_by_without_anybody_asking() {
    let running = running();
    let mut pushes = running.begin("num-rounds = 3\nmin-available-clients = 2", 2).await;
    for round in 1..=3 {
        for pushes in &mut pushes {
            assert_eq!(next_task(pushes).await, round);
        }
        let (first, second) = tokio::join!(running.submit(0), running.submit(1));
        assert_eq!((first, second), (Verdict::Accepted, Verdict::Accepted));
    }
    let last = loop {
        match pushes[0].recv().await.expect("a session") {
            Push::RoundClosed(..) => {}
            other => break other,
        }
    };
    assert!(matches!(last, Push::RunFinished(RunId(1), _)), "{last:?}");
    assert!(running.handle.run().is_none() && running.handle.connected() == 2);
    let (adapter, _) = running.handle.export(None, None).await.expect("published");
    let metrics = running.handle.metrics(None, 2).await.expect("known");
    assert_eq!(metrics[0].summary.as_ref().expect("filled in").adapter, adapter.digest().to_hex());
}

#[tokio::test]
async fn who_is_expelled_hears_it_and_its_stream_ends() {
    let running = running();
    let mut pushes = running.begin("num-rounds = 1\nmin-available-clients = 2", 2).await;
    next_task(&mut pushes[1]).await;
    running.handle.expel(ClientId(1)).await;
    assert_eq!(pushes[1].recv().await, Some(Push::End("revoked")));
    assert_eq!(pushes[1].recv().await, None);
}

#[tokio::test]
async fn time_closes_rounds_and_ends_the_wait_for_lost_clients() {
    let running = running();
    let keys = "num-rounds = 3\nmin-available-clients = 2\nround-deadline-ms = 1000";
    let (mut pushes, mut changes) = (running.begin(keys, 2).await, running.handle.changes());
    running.submit(0).await;
    running.wait(1_000).await;
    next_task(&mut pushes[0]).await;
    assert_eq!(next_task(&mut pushes[0]).await, 2, "client 1 was too slow for round 1");
    let (session, _pushes) = running.handle.connect(ClientId(1), 1).await.expect("connected");
    running.handle.disconnect(ClientId(1), session).await;
    changes.mark_unchanged();
    running.wait(GRACE_MS).await;
    changes.changed().await.expect("the engine is there");
    let kinds: Vec<String> =
        running.handle.events(0, usize::MAX).await.expect("readable").into_iter().map(|event| event.kind).collect();
    assert!(kinds.iter().any(|kind| kind == "client-left"), "{kinds:?}");
}

#[tokio::test]
async fn a_shutdown_ends_sessions_and_the_next_engine_goes_on() {
    let running = running();
    let mut pushes = running.begin("num-rounds = 3\nmin-available-clients = 2", 2).await;
    running.submit(1).await;
    let mut changes = running.handle.changes();
    running.handle.shutdown().await;
    running.thread.join();
    let mut last = None;
    while let Some(push) = pushes[0].recv().await {
        last = Some(push);
    }
    assert_eq!(last, Some(Push::End("draining")));
    while changes.changed().await.is_ok() {}
    let control = running.handle.control(None, Control::Stop).await;
    assert!(matches!(control, Err(EngineError::Stopped)));
    let (handle, _thread) =
        start(engine(&running.store, &running.blobs, 0), running.clock).expect("a thread to run on");
    assert_eq!(handle.round().expect("open").plan.round, RoundId(1));
    let receipt = handle.round_detail(None, None).await.expect("a round");
    assert_eq!(receipt.summary.expect("filled in").accepted, 1);
}

#[tokio::test]
async fn a_session_that_reads_nothing_is_dropped() {
    let running = running();
    let mut pushes = running.begin("num-rounds = 200\nmin-available-clients = 1", 1).await;
    let (_, mut reader) = running.handle.connect(ClientId(1), 1).await.expect("connected");
    // Client 1 declines nothing and sends nothing: its pushes pile up while client 0 plays alone with deadlines.
    for _ in 0..40 {
        let round = next_task(&mut pushes[0]).await;
        running.submit(0).await;
        if round > 1 {
            running.submit(1).await;
        }
    }
    let mut heard = 0;
    while reader.recv().await.is_some() {
        heard += 1;
    }
    assert!(heard <= 40, "a bounded queue, then the end: {heard}");
}
