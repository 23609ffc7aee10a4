//! What a round costs when nobody trains: every client takes the global adapter, changes one value and sends it back.

use std::{sync::Arc, time::Duration};

use fedlora_adapter::Digest;
use fedlora_proto::{
    digest_bytes,
    federation::{
        Chunk, DownloadRequest, Task, UploadHeader, UploadMessage, Verdict, server_message::Kind as Down,
        upload_message::Kind,
    },
};
use tokio::{task::JoinSet, time::Instant};
use tonic::codegen::Bytes;

use crate::{
    clients::{Client, feed},
    mebibytes, number,
    process::{Process, free_address, processor_seconds},
    update::CHUNK_BYTES,
    world::World,
};

/// Nobody trains, so nobody is late.
const HEARTBEAT_MS: u64 = 300_000;

/// The rounds of one client until the run is over; when each of its tasks came.
async fn take_part(mut client: Client, id: u64) -> (Vec<Instant>, u64) {
    let (mut begun, mut bytes) = (Vec::new(), 0);
    loop {
        match client.hear().await.expect("a session") {
            Down::Task(task) => {
                begun.push(Instant::now());
                bytes += send_back(&mut client, id, task).await;
            }
            Down::RunFinished(over) => {
                assert_eq!(over.status, "completed");
                begun.push(Instant::now());
                return (begun, bytes);
            }
            _ => {}
        }
    }
}

/// Downloads the adapter and uploads it with another last value; the bytes that went over the wire.
async fn send_back(client: &mut Client, id: u64, task: Task) -> u64 {
    let plan = task.plan.expect("a plan");
    let request = DownloadRequest { blob: task.blob.clone(), offset: 0 };
    let mut stream = client.calls.download(request).await.expect("a blob").into_inner();
    let mut file = Vec::with_capacity(task.blob_bytes as usize);
    while let Some(chunk) = stream.message().await.expect("whole") {
        assert_eq!(crc32c::crc32c(&chunk.data), chunk.crc32c);
        file.extend_from_slice(&chunk.data);
    }
    assert_eq!(digest_bytes(Digest::of(&file)), task.blob);
    let last = file.len() - 4;
    file[last..].copy_from_slice(&(1e-4 * (plan.round + id) as f32).to_le_bytes());
    let header = UploadHeader {
        run_id: task.run_id,
        round: plan.round,
        spec: plan.spec,
        base: plan.base,
        size_bytes: file.len() as u64,
        blake3: digest_bytes(Digest::of(&file)),
        examples: 20,
        steps: 1,
        train_loss: Some(0.5),
    };
    let bytes = 2 * file.len() as u64;
    let receipt = client.calls.upload(feed(messages(header, file.into()))).await.expect("a receipt").into_inner();
    assert_eq!(receipt.verdict(), Verdict::Accepted, "{}", receipt.detail);
    bytes
}

fn messages(header: UploadHeader, file: Bytes) -> impl Iterator<Item = UploadMessage> + Send + 'static {
    let chunks = (0..file.len()).step_by(CHUNK_BYTES).map(move |offset| {
        let data = file.slice(offset..file.len().min(offset + CHUNK_BYTES));
        Kind::Chunk(Chunk { offset: offset as u64, crc32c: crc32c::crc32c(&data), data })
    });
    std::iter::once(Kind::Header(header)).chain(chunks).map(|kind| UploadMessage { kind: Some(kind) })
}

async fn measure(rounds: u64, clients: u64, bytes: u64) {
    let world = World::of_rounds(rounds, clients, bytes);
    let process = Process::start(world.state.path(), free_address().await, HEARTBEAT_MS).await;
    let used = || process.processor_seconds() + processor_seconds("self");
    let begin = used();
    let mut all = JoinSet::new();
    for (id, config) in (0..).zip(&world.clients) {
        let client = Client::join(process.address, &Arc::clone(config)).await.expect("a session");
        all.spawn(take_part(client, id));
    }
    let ended = all.join_all().await;
    let gibibytes = ended.iter().map(|(_, bytes)| bytes).sum::<u64>() as f64 / f64::from(1 << 30);
    let mut times: Vec<Duration> = ended[0].0.windows(2).map(|pair| pair[1] - pair[0]).collect();
    times.sort_unstable();
    println!(
        "{clients} clients, {:.1} MiB, {rounds} rounds: median {:.1?}, shortest {:.1?}, longest {:.1?}; {:.2} CPU-s/GiB",
        mebibytes(bytes),
        times[times.len() / 2],
        times[0],
        times[times.len() - 1],
        (used() - begin) / gibibytes
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run with --ignored --nocapture"]
async fn rounds_of_clients_that_train_nothing() {
    let rounds = number("FEDLORA_LOAD_ROUNDS", 20);
    measure(rounds, 2, 1 << 20).await;
    measure(rounds.div_ceil(4), 2, 100 << 20).await;
}
