//! The coordinator's program as a process.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{interval, timeout},
};

/// How long a start may take, on a machine that is busy with other things.
const START: Duration = Duration::from_mins(2);

/// A running coordinator; it is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a coordinator over a state and waits until it listens.
    pub(crate) async fn start(state: &Path, address: SocketAddr, heartbeat_ms: u64) -> Self {
        let log = fs::File::options().create(true).append(true).open(log(state)).expect("a writable folder");
        let program = env::var("FEDLORA_LOAD_PROGRAM");
        let child = Command::new(program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_fedlora-coordinator").to_owned()))
            .args(["serve", "--log-filter", "warn", "--set", "http-listen=127.0.0.1:0"])
            .args(["--set", &format!("state-dir={}", state.display()), "--set", &format!("listen={address}")])
            .args(["--set", &format!("federation.heartbeat-interval-ms={heartbeat_ms}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the coordinator's program");
        let process = Self { child, address };
        let mut tries = interval(Duration::from_millis(10));
        let listening = async {
            while TcpStream::connect(address).await.is_err() {
                tries.tick().await;
            }
        };
        timeout(START, listening).await.unwrap_or_else(|_| panic!("see {}", log_text(state)));
        process
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("running until now");
        self.child.wait().expect("a child");
    }

    /// Bytes in memory.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most bytes in memory since the start or [`Process::forget_peak`].
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Starts a new phase: the peak is what there is now.
    pub(crate) fn forget_peak(&self) {
        // 5 is for the peak alone, see proc(5).
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("Linux, and a process of our own");
    }

    /// Seconds of processor time so far, to the hundredth.
    pub(crate) fn processor_seconds(&self) -> f64 {
        processor_seconds(&self.child.id().to_string())
    }

    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel knows it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

/// Seconds of processor time of a process, `self` for this one.
pub(crate) fn processor_seconds(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    let numbers = stat.rsplit(')').next().expect("a name in brackets").split_whitespace();
    // Fields 14 and 15 of proc(5), in ticks of a hundredth; the name was the second.
    numbers.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

fn log(state: &Path) -> PathBuf {
    state.join("log")
}

/// What the coordinator had to say.
pub(crate) fn log_text(state: &Path) -> String {
    fs::read_to_string(log(state)).unwrap_or_default()
}

/// A free address, which stays the same when the coordinator is started again.
pub(crate) async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    listener.local_addr().expect("bound")
}

/// Lets this process and its children have `connections` open files, or says that the machine does not.
pub(crate) fn allow_files(connections: u64) {
    let limits = getrlimit(Resource::Nofile);
    let wanted = connections + 200;
    if limits.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
        setrlimit(Resource::Nofile, raised).expect("up to the hard limit anybody may go");
        assert!(limits.maximum.is_none_or(|most| most >= wanted), "{wanted} open files are needed: ulimit -Hn");
    }
}
