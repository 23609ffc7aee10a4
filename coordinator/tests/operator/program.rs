//! A service on a port of this machine, and the program that talks to it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use fedlora_proto::operator::operator_server::OperatorServer;
use serde_json::Value;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::fake::{Fake, Known};

/// A service and a directory with identities for it.
pub(crate) struct Place {
    pub(crate) fake: Fake,
    directory: tempfile::TempDir,
    address: String,
    /// Serves as long as it lives.
    runtime: Runtime,
}

impl Place {
    pub(crate) fn new(known: Known) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let fake = Fake::new(known);
        let runtime = Runtime::new().expect("threads can be started");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let service = OperatorServer::new(fake.service(directory.path().join("state")));
        fs::create_dir(directory.path().join("state")).expect("writable");
        runtime.spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        let place = Self { fake, directory, address, runtime };
        for role in ["operator", "auditor", "client", "nobody"] {
            place.write(&format!("{role}/access-token"), role);
        }
        place
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn spawn(&self, future: impl Future<Output: Send> + Send + 'static) {
        self.runtime.spawn(future);
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file and the directory above it.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("directories can be made");
        fs::write(path, content).expect("the directory is writable");
    }

    /// The program as an operator, with arguments that are separated by blanks.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        self.command_as("operator", arguments)
    }

    pub(crate) fn command_as(&self, role: &str, arguments: &str) -> Command {
        let mut command = program(arguments);
        command.current_dir(self.directory.path()).arg("--insecure");
        command.args(["--server", &self.address, "--identity", role]);
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Outcome {
        Outcome::of(&self.command(arguments).output().expect("the program can be started"))
    }

    pub(crate) fn run_as(&self, role: &str, arguments: &str) -> Outcome {
        Outcome::of(&self.command_as(role, arguments).output().expect("the program can be started"))
    }

    /// The program as it goes on, to be read line by line.
    pub(crate) fn follow(&self, arguments: &str) -> Following {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Following { child, lines }
    }
}

/// The program, in an environment that sets nothing.
pub(crate) fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fedlora-coordinator"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command.env_remove("FEDLORA_SERVER").env_remove("FEDLORA_IDENTITY");
    command
}

/// A program that has not ended.
pub(crate) struct Following {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Following {
    /// Its next line; empty when it has ended.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the program writes UTF-8");
        line.trim_end().to_owned()
    }

    /// Waits for its end and gives its exit code.
    pub(crate) fn code(mut self) -> Option<i32> {
        self.child.wait().expect("it was started").code()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It has ended if the test went as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a finished program left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8");
        let outcome = Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
        outcome
    }

    /// The program succeeded without a word on standard error; what it said.
    #[track_caller]
    pub(crate) fn says(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout
    }

    /// The program failed with this code and one message that contains all of these.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, evidence: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for part in evidence {
            assert!(self.stderr.contains(part), "{part:?} is not in {}", self.stderr);
        }
    }

    /// Standard output as one JSON value on one line.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
