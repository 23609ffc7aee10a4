//! A coordinator and its clients as an institution would start them, in a directory of their own.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use fedlora_client::{Dialer, Identity};
use serde_json::Value;

use super::patience::{self, Lines};

/// A program of this workspace, built beside the tests.
pub(super) fn program(name: &str) -> Command {
    let tests = std::env::current_exe().expect("a test knows where it is");
    let folder = tests.parent().and_then(Path::parent).expect("tests lie in deps, beside the programs");
    let path = folder.join(name);
    assert!(path.exists(), "{} is built by `cargo test --workspace`", path.display());
    Command::new(path)
}

/// Runs a command and demands success.
pub(super) fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// Runs a program that must fail; its exit code and what it says.
pub(super) fn fail(site: &Site, name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = program(name);
    let output = site.within(command.args(arguments)).output().expect("the program starts");
    assert!(!output.status.success(), "{arguments:?} succeeded");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A process that does not outlive its test.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    pub(super) fn spawn(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the program starts"))
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }

    /// SIGTERM; the exit code.
    pub(super) fn terminate(mut self) -> Option<i32> {
        succeed(Command::new("kill").arg(self.0.id().to_string()));
        self.wait()
    }

    /// Waits for the end; the exit code.
    pub(super) fn wait(&mut self) -> Option<i32> {
        patience::end_of(&mut self.0).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended processes cannot be killed, and that is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with a coordinator's state and configuration.
#[derive(Debug)]
pub(super) struct Site {
    directory: tempfile::TempDir,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Site {
    /// A site with a certificate authority, whose coordinator is not started yet.
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let [grpc, http] = free_addresses();
        let site = Self { directory, grpc, http };
        let pki = ["pki", "init", "--dir", "state", "--host", "localhost"];
        succeed(site.within(program("fedlora-coordinator").args(pki)));
        let config = format!("listen = '{grpc}'\nhttp-listen = '{http}'\nstate-dir = 'state'\n");
        site.write("coordinator.toml", config);
        site
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it lies in the directory")).expect("directories can be made");
        fs::write(path, text).expect("files can be written");
    }

    /// The command, to be run in this directory.
    pub(super) fn within<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(self.directory.path())
    }

    /// Where clients and operators connect.
    pub(super) fn server(&self) -> String {
        format!("https://localhost:{}", self.grpc.port())
    }

    /// Starts the coordinator and waits until it is ready; also how long that took.
    pub(super) fn serve(&self) -> (Process, Duration) {
        let mut command = program("fedlora-coordinator");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("coordinator.log"));
        let log = log.expect("a log can be written");
        let arguments = ["serve", "--config", "coordinator.toml"];
        let command = self.within(command.args(arguments)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn(command);
        let said = Lines::of(process.0.stderr.take().expect("a pipe"), log);
        let serving = |line: &str| line.contains(": serving ").then_some(());
        let ((), time) = said.until("the coordinator does not get ready", serving);
        let answer = self.get("/readyz").expect("it listens");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        (process, time)
    }

    /// An answer of the HTTP listener, head included.
    pub(super) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// What an operator's command answers, as data.
    pub(super) fn operator(&self, arguments: &[&str]) -> Value {
        let output = succeed(&mut self.operators_command(arguments));
        data(&String::from_utf8(output.stdout).expect("text"))
    }

    fn operators_command(&self, arguments: &[&str]) -> Command {
        let mut command = program("fedlora-coordinator");
        let server = self.server();
        command.args(arguments).args(["--format", "json", "--server", &server, "--identity", "state/operator"]);
        self.within(&mut command);
        command
    }

    /// Makes a client's identity in the folder `identity-<name>`.
    pub(super) fn enrol(&self, name: &str) {
        let token = format!("{name}.token");
        self.operator(&["tokens", "create", "--name", name, "--out", &token]);
        let (server, folder) = (self.server(), format!("identity-{name}"));
        let mut command = program("fedlora-client");
        command.args(["enroll", "--server", &server, "--token-file", &token, "--identity", &folder]);
        succeed(self.within(command.args(["--ca", "state/pki/ca.pem"])));
    }

    /// Calls as an enrolled client.
    pub(super) fn dialer(&self, name: &str) -> Dialer {
        let identity = Identity::load(&self.path(format!("identity-{name}"))).expect("it is enrolled");
        let server = self.server().parse().expect("an address");
        Dialer::new(&server, &identity, &Arc::default()).expect("its certificate can be used")
    }

    /// Waits until the live run has ended in this way; its summary.
    pub(super) fn wait_for(&self, end: &str) -> Value {
        let run = || self.operator(&["run", "list"])["runs"][0].clone();
        let id = run()["run_id"].clone();
        let mut follow = self.operators_command(&["log", "--follow"]);
        let mut log = Process::spawn(follow.stdout(Stdio::piped()));
        let events = Lines::of(log.0.stdout.take().expect("a pipe"), io::sink());
        let is_over = |line: &str| {
            let event = data(line)["event"].clone();
            let over = ["run-completed", "run-failed", "run-stopped"].iter().any(|kind| event["kind"] == *kind);
            (over && event["run_id"] == id).then_some(())
        };
        events.until("the run does not end", is_over);
        let run = run();
        assert_eq!(run["status"], end, "{run}");
        run
    }
}

/// The data in an answer.
fn data(answer: &str) -> Value {
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    answer["data"].clone()
}

/// Two addresses that nobody listens on. Another process could take them in between; nothing else here does.
fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [0, 1].map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("loopback is there"));
    listeners.map(|listener| listener.local_addr().expect("it is bound"))
}
