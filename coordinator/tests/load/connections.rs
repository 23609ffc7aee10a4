//! Many clients that are there at the same time, and come back at the same time.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use fedlora_proto::federation::{ClientMessage, Heartbeat, client_message::Kind as Up, server_message::Kind as Down};
use rustls::ClientConfig;
use tokio::{
    sync::watch,
    time::{Instant, interval_at, timeout},
};
use tonic::Status;

use crate::{
    clients::{Client, back_off},
    mebibytes, number,
    process::{Process, allow_files, free_address, log_text, processor_seconds},
    world::{MODULE_BYTES, World},
};

/// How long all may take to connect, on any machine.
const LONG: Duration = Duration::from_mins(10);

/// Bytes that a connected client may cost: 28 KiB of buffers of HTTP/2, of which half is never touched, 8 KiB of TLS, and
/// as much again for the tasks, timers, channels and names of a connection and its session, with what an allocator adds.
const CLIENT_BYTES: u64 = 50 * 1024;
/// Bytes that the process may grow by whatever the number of clients: heaps of threads, the database's cache.
const PROCESS_BYTES: u64 = 64 << 20;

/// What the clients of this process count.
struct Crowd {
    address: SocketAddr,
    heartbeat: Duration,
    connected: watch::Sender<u64>,
    refused: AtomicU32,
    dropped: AtomicU32,
    /// Why the last one was refused or dropped.
    last: Mutex<String>,
    beats: watch::Sender<u64>,
    answers: Mutex<Vec<Duration>>,
}

impl Crowd {
    fn new(address: SocketAddr, heartbeat: Duration) -> Self {
        let [(connected, _), (beats, _)] = [watch::channel(0), watch::channel(0)];
        let (refused, dropped, last, answers) = Default::default();
        Self { address, heartbeat, connected, refused, dropped, last, beats, answers }
    }

    /// One client for ever: it connects, and connects again.
    async fn stay(self: Arc<Self>, id: u64, config: Arc<ClientConfig>) {
        let mut failures = 0;
        loop {
            let why = match Client::join(self.address, &config).await {
                Ok(client) => {
                    failures = 0;
                    self.connected.send_modify(|connected| *connected += 1);
                    let why = self.live(id, client).await;
                    self.connected.send_modify(|connected| *connected -= 1);
                    self.dropped.fetch_add(1, SeqCst);
                    why
                }
                Err(why) => {
                    self.refused.fetch_add(1, SeqCst);
                    why
                }
            };
            *self.last.lock().expect("no panics") = why.to_string();
            back_off(id, failures).await;
            failures += 1;
        }
    }

    /// Heartbeats until the connection breaks.
    async fn live(&self, id: u64, mut client: Client) -> Status {
        // Spread over the interval, as clients that came at different times are.
        let first = self.heartbeat.mul_f64((id % 1000) as f64 / 1000.0);
        let mut beats = interval_at(Instant::now() + first, self.heartbeat);
        let (mut sent, mut sequence) = (Instant::now(), 0);
        loop {
            tokio::select! {
                message = client.hear() => match message {
                    Err(status) => return status,
                    Ok(Down::Heartbeat(beat)) if beat.sequence == sequence => {
                        self.beats.send_modify(|beats| *beats += 1);
                        self.answers.lock().expect("no panics").push(sent.elapsed());
                    }
                    Ok(_) => {}
                },
                _ = beats.tick() => {
                    (sent, sequence) = (Instant::now(), sequence + 1);
                    let beat = Heartbeat { sequence, round: 1, steps_done: sequence };
                    // A stream that is over says why on its other half.
                    let _ = client.up.send(ClientMessage { kind: Some(Up::Heartbeat(beat)) }).await;
                }
            }
        }
    }

    /// Waits until as many are connected; the time that took.
    async fn are(&self, clients: u64) -> Duration {
        let begin = Instant::now();
        let mut connected = self.connected.subscribe();
        let all = timeout(LONG, connected.wait_for(|connected| *connected == clients)).await;
        assert!(all.is_ok(), "{} of {clients}: {}", *self.connected.borrow(), self.last.lock().expect("no panics"));
        begin.elapsed()
    }

    /// Waits until so many heartbeats were answered.
    async fn have_heard(&self, answers: u64) {
        let mut beats = self.beats.subscribe();
        let heard = timeout(LONG, beats.wait_for(|beats| *beats >= answers)).await;
        assert!(heard.is_ok(), "{} of {answers}: {}", *self.beats.borrow(), self.last.lock().expect("no panics"));
    }

    /// Counts from here on.
    fn count_anew(&self) {
        self.refused.store(0, SeqCst);
        self.dropped.store(0, SeqCst);
        self.beats.send_replace(0);
        self.answers.lock().expect("no panics").clear();
    }

    fn say_refused(&self) {
        let refused = self.refused.load(SeqCst);
        if refused > 0 {
            println!("  attempts that failed: {refused}, the last: {}", self.last.lock().expect("no panics"));
        }
    }

    /// Median, 99th percentile and maximum of the heartbeats' way there and back.
    fn say_answers(&self) {
        let mut answers = std::mem::take(&mut *self.answers.lock().expect("no panics"));
        answers.sort_unstable();
        let at =
            |share: f64| answers.get(((answers.len() as f64 * share) as usize).min(answers.len().saturating_sub(1)));
        println!(
            "  {} heartbeats answered; median {:.1?}, 99 % within {:.1?}, longest {:.1?}",
            *self.beats.borrow(),
            at(0.5).copied().unwrap_or_default(),
            at(0.99).copied().unwrap_or_default(),
            at(1.0).copied().unwrap_or_default()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run with --ignored --nocapture"]
async fn many_clients_stay_and_all_come_back_after_a_crash() {
    let clients = number("FEDLORA_LOAD_CLIENTS", 10_000);
    let heartbeats = number("FEDLORA_LOAD_HEARTBEATS", 4);
    let heartbeat_ms = number("FEDLORA_LOAD_HEARTBEAT_MS", 30_000);
    allow_files(clients);
    let begin = Instant::now();
    let world = World::new(clients, MODULE_BYTES);
    println!("{clients} clients enrolled in {:.1?}", begin.elapsed());
    let address = free_address().await;
    let process = Process::start(world.state.path(), address, heartbeat_ms).await;
    let idle = process.resident();
    println!("coordinator without clients: {:.1} MiB", mebibytes(idle));

    let crowd = Arc::new(Crowd::new(address, Duration::from_millis(heartbeat_ms)));
    for (id, config) in (0..).zip(&world.clients) {
        tokio::spawn(Arc::clone(&crowd).stay(id, Arc::clone(config)));
    }
    println!("all connected, each over TLS of its own and with its task, in {:.1?}", crowd.are(clients).await);
    println!("  the coordinator used {:.1} s of processor time", process.processor_seconds());
    crowd.say_refused();
    say_memory(&process, idle, clients);

    crowd.count_anew();
    let begin = Instant::now();
    crowd.have_heard(clients * heartbeats).await;
    let stay = begin.elapsed();
    let dropped = crowd.dropped.load(SeqCst);
    println!("after {stay:.1?} with a heartbeat every {heartbeat_ms} ms: {dropped} dropped");
    crowd.say_answers();
    say_memory(&process, idle, clients);
    assert_eq!(dropped, 0, "{}\n{}", crowd.last.lock().expect("no panics"), log_text(world.state.path()));

    process.kill();
    crowd.are(0).await;
    crowd.count_anew();
    let (begin, used) = (Instant::now(), processor_seconds("self"));
    let process = Process::start(world.state.path(), address, heartbeat_ms).await;
    println!("killed; listening again after {:.1?}", begin.elapsed());
    crowd.are(clients).await;
    println!("all are back {:.1?} after the start", begin.elapsed());
    let (coordinator, clients_used) = (process.processor_seconds(), processor_seconds("self") - used);
    println!("  processor time: {coordinator:.1} s of the coordinator, {clients_used:.1} s of its clients");
    crowd.say_refused();
    say_memory(&process, idle, clients);
}

fn say_memory(process: &Process, idle: u64, clients: u64) {
    let (resident, peak) = (process.resident(), process.peak());
    let each = resident.saturating_sub(idle) as f64 / clients as f64 / 1024.0;
    println!("  resident {:.1} MiB, peak {:.1} MiB; {each:.1} KiB per client", mebibytes(resident), mebibytes(peak));
    assert!(resident <= idle + PROCESS_BYTES + clients * CLIENT_BYTES, "{resident} bytes");
}
