//! Rounds of large updates: all of them at once, each to the byte, and how much memory that takes.

use std::{fs::File, path::Path, sync::Arc};

use fedlora_adapter::Digest;
use fedlora_coordinator::{Clock, Engine, EngineSettings, SystemClock};
use fedlora_proto::federation::{Verdict, server_message::Kind};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::Instant,
};

use crate::{
    clients::Client,
    mebibytes, number,
    process::{Process, allow_files, free_address},
    update::Updates,
    world::World,
};

/// Often enough that a client whose machine is busy is not taken for gone.
const HEARTBEAT_MS: u64 = 300_000;

/// Memory of the coordinator in a round, in bytes.
struct Figures {
    payload: u64,
    /// With all clients connected and nothing on its way.
    rest: u64,
    uploads: u64,
    step: u64,
}

/// One round of `clients` updates of about `bytes`. A further client sends its update last, so that the files of the
/// others can be looked at before the server step, which ends with their removal.
async fn round(clients: u64, bytes: u64) -> Figures {
    allow_files(2 * clients);
    let world = World::new(clients + 1, bytes);
    let updates = Updates::new(&world.global);
    let process = Process::start(world.state.path(), free_address().await, HEARTBEAT_MS).await;
    let mut sessions = join_all(&process, &world).await;
    let mut last = sessions.pop().expect("one more");
    let rest = process.resident();

    process.forget_peak();
    let wall = upload_all(sessions, &updates).await;
    let uploads = process.peak();
    let sent = mebibytes(clients * updates.bytes());
    println!("{clients} clients, {:.1} MiB each: uploads at {:.0} MiB/s", mebibytes(updates.bytes()), sent / wall);
    let (state, all) = (world.state.path().to_owned(), updates.clone());
    spawn_blocking(move || (0..clients).for_each(|id| look_at(&state, all.of(id).digest))).await.expect("all files");

    process.forget_peak();
    let begin = Instant::now();
    let (receipt, _) = last.upload(&updates, clients).await;
    assert_eq!(receipt.verdict(), Verdict::Accepted, "{}", receipt.detail);
    let status = loop {
        if let Kind::RunFinished(over) = last.hear().await.expect("a session") {
            break over.status;
        }
    };
    assert_eq!(status, "completed");
    println!("  the last upload and the server step: {:.1?}", begin.elapsed());
    let step = process.peak();
    process.kill();
    let mut engine =
        Engine::open(world.state.path(), EngineSettings::default(), SystemClock::new().now()).expect("a state");
    let (adapter, _) = engine.export(None, None).expect("a published adapter");
    assert_ne!(adapter.digest(), world.global.digest(), "the updates count");
    Figures { payload: updates.bytes(), rest, uploads, step }
}

/// Opens everybody's session and waits for the tasks.
async fn join_all(process: &Process, world: &World) -> Vec<Client> {
    let mut sessions = Vec::new();
    for config in &world.clients {
        sessions.push(Client::join(process.address, config).await.expect("a session"));
    }
    for session in &mut sessions {
        session.task().await;
    }
    sessions
}

/// Uploads everybody's update at the same time; seconds until the last receipt.
async fn upload_all(sessions: Vec<Client>, updates: &Updates) -> f64 {
    let updates = Arc::new(updates.clone());
    let begin = Instant::now();
    let mut calls = JoinSet::new();
    for (id, mut session) in (0..).zip(sessions) {
        let updates = Arc::clone(&updates);
        calls.spawn(async move {
            let (receipt, again) = session.upload(&updates, id).await;
            assert_eq!(receipt.verdict(), Verdict::Accepted, "{}", receipt.detail);
            // The session stays open until all are through.
            (session, again)
        });
    }
    let again: u32 = calls.join_all().await.iter().map(|(_, again)| again).sum();
    if again > 0 {
        println!("  calls that had to be made again: {again}");
    }
    begin.elapsed().as_secs_f64()
}

/// A stored update has the bytes that its name says.
fn look_at(state: &Path, digest: Digest) {
    let path = state.join("blobs").join(digest.to_hex());
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(&path).expect("stored")).expect("readable");
    assert_eq!(Digest::from_bytes(*hasher.finalize().as_bytes()), digest);
}

fn say(figures: &Figures) {
    let Figures { payload, rest, uploads, step } = *figures;
    let times = |bytes: u64| bytes as f64 / payload as f64;
    println!(
        "  resident: at rest {:.1} MiB, peak of the uploads {:.1} MiB, of the server step {:.1} MiB: {:.2}, {:.2} and \
         {:.2} payloads",
        mebibytes(rest),
        mebibytes(uploads),
        mebibytes(step),
        times(rest),
        times(uploads),
        times(step)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run with --ignored --nocapture"]
async fn many_uploads_at_once_are_all_accepted_to_the_byte() {
    let uploads = number("FEDLORA_LOAD_UPLOADS", 1_000);
    let figures = round(uploads, number("FEDLORA_LOAD_BYTES", 13_000_000)).await;
    say(&figures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run with --ignored --nocapture"]
async fn the_memory_of_rounds_of_few_and_of_many_clients() {
    for clients in [2, 8, 32] {
        let figures = round(clients, 100 << 20).await;
        say(&figures);
    }
}
