//! What a round costs on the wire, for people to read: over TCP on this machine, both ends in this process.

use std::{fs, sync::Arc};

use fedlora_adapter::Digest;
use fedlora_coordinator::{
    Timestamp,
    grpc::{FederationService, Gate, RateLimits, Rounds, Settings, server},
    metrics::Metrics,
};
use fedlora_proto::{
    digest_bytes,
    federation::{
        DownloadRequest, UploadHeader, UploadMessage, Verdict, federation_client::FederationClient,
        upload_message::Kind,
    },
};
use tokio::{net::TcpListener, sync::mpsc, time::Instant};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    codegen::Bytes,
    transport::{Channel, Endpoint},
};

use crate::{
    engine::{FakeEngine, Trusting},
    files::{self, STEPS},
    support::{chunk, from},
};

/// Bytes of a client's chunks.
const CHUNK: usize = 256 * 1024;

/// Seconds of processor time that this process has used, to the hundredth.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let numbers = stat.rsplit(')').next().expect("a name in brackets").split_whitespace();
    // Fields 14 and 15 of proc(5), in ticks of a hundredth; the name was the second.
    numbers.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

/// Downloads the adapter and uploads a file.
async fn round(mut client: FederationClient<Channel>, id: u64, blob: Digest, header: UploadHeader, file: Bytes) {
    let request = DownloadRequest { blob: digest_bytes(blob), offset: 0 };
    let mut stream = client.download(from(id, request)).await.expect("a blob").into_inner();
    let mut hasher = blake3::Hasher::new();
    while let Some(chunk) = stream.message().await.expect("whole") {
        assert_eq!(crc32c::crc32c(&chunk.data), chunk.crc32c);
        hasher.update(&chunk.data);
    }
    assert_eq!(hasher.finalize().as_bytes(), blob.as_bytes());
    let (sender, receiver) = mpsc::channel(2);
    let send = async move {
        sender.send(UploadMessage { kind: Some(Kind::Header(header)) }).await.expect("open");
        for place in (0..file.len()).step_by(CHUNK) {
            let piece = chunk(place as u64, &file[place..file.len().min(place + CHUNK)]);
            sender.send(UploadMessage { kind: Some(Kind::Chunk(piece)) }).await.expect("open");
        }
    };
    let (receipt, ()) = tokio::join!(client.upload(from(id, ReceiverStream::new(receiver))), send);
    assert_eq!(receipt.expect("a receipt").into_inner().verdict(), Verdict::Accepted);
}

async fn measure(mebibytes: f64) {
    let width = (mebibytes * f64::from(1 << 20) / 8.0) as usize;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = FakeEngine::new(folder.path());
    let blob = files::bytes(&files::global(width));
    let digest = Digest::of(&blob);
    fs::write(engine.blob_path(digest), &blob).expect("writable");
    engine.open(files::run(width), Some(files::round(width, &blob)), files::global(width));
    let service = FederationService::new(
        engine.clone(),
        Trusting(engine),
        Arc::new(|| Timestamp(0)),
        Arc::new(Gate::new(RateLimits::default())),
        Settings::default(),
        Arc::new(Metrics::default()),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(server().add_service(service.into_server()).serve_with_incoming(TcpListenerStream::new(listener)));
    let plan = files::plan(width);
    let jobs: Vec<_> = [1, 2]
        .map(|id| {
            let file = Bytes::from(files::honest(width, id));
            let header = UploadHeader {
                run_id: 7,
                round: plan.round.0,
                spec: digest_bytes(plan.spec),
                base: digest_bytes(plan.base),
                size_bytes: file.len() as u64,
                blake3: digest_bytes(Digest::of(&file)),
                examples: 20,
                steps: u64::from(STEPS),
                train_loss: Some(0.5),
            };
            (id, header, file)
        })
        .into();
    let mut clients = Vec::new();
    for (id, header, file) in jobs {
        let channel =
            Endpoint::from_shared(format!("http://{address}")).expect("valid").connect().await.expect("there");
        clients.push((FederationClient::new(channel), id, header, file));
    }
    let (begin, used) = (Instant::now(), processor_seconds());
    let calls =
        clients.into_iter().map(|(client, id, header, file)| tokio::spawn(round(client, id, digest, header, file)));
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic");
    }
    let (wall, used) = (begin.elapsed().as_secs_f64(), processor_seconds() - used);
    let gibibytes = 4.0 * mebibytes / 1024.0;
    println!(
        "{mebibytes} MiB x 2 clients, down and up: {wall:.3} s, {used:.2} CPU-s, {:.2} CPU-s/GiB",
        used / gibibytes
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run with --ignored --nocapture"]
async fn a_round_of_two_clients() {
    for mebibytes in [1.0, 1.0, 13.0, 100.0, 100.0] {
        measure(mebibytes).await;
    }
}
