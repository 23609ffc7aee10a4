//! A coordinator of one client, made of memory: it plays rounds, breaks calls where it is told to, and remembers.

mod book;
mod service;

use std::{
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use fedlora_adapter::{Adapter, Directive};
use fedlora_proto::federation::{federation_server::FederationServer, identity_server::IdentityServer};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, transport::Server};

pub(crate) use self::book::Book;
use self::service::Service;

/// Longest wait for something that must happen; only a failing test waits for so long.
const PATIENCE: Duration = Duration::from_mins(1);
const CHUNK: usize = 1 << 20;

struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no test thread panicked")
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.changed.notify_all();
        outcome
    }
}

/// A coordinator at an address of its own.
pub(crate) struct Coordinator {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Coordinator {
    /// A coordinator of a run of so many rounds that start from `global`.
    pub(crate) fn start(global: Adapter, rounds: u64) -> Self {
        let shared = Arc::new(Shared { book: Mutex::new(Book::new(global, rounds)), changed: Condvar::new() });
        let (runtime, address) = serve(&shared, "127.0.0.1:0".parse().expect("an address"));
        Self { address, shared, runtime: Some(runtime) }
    }

    pub(crate) fn with_directive(self, directive: Directive) -> Self {
        self.change(|book| book.directive = directive);
        self
    }

    /// Rounds close only when the test says so.
    pub(crate) fn by_hand(self) -> Self {
        self.change(|book| book.advances = false);
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        self.shared.change(change)
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Breaks all connections and forgets all sessions, as a killed process does, and comes back with the same book.
    pub(crate) fn restart(&mut self) {
        self.runtime.take().expect("running").shutdown_timeout(PATIENCE);
        self.change(|book| book.sessions.clear());
        self.runtime = Some(serve(&self.shared, self.address).0);
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Watches and steers a coordinator from a trainer's thread.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    /// Waits until the book is as asked.
    pub(crate) fn wait(&self, condition: impl Fn(&Book) -> bool) {
        let book = self.0.lock();
        let waited = self.0.changed.wait_timeout_while(book, PATIENCE, |book| !condition(book));
        let timed_out = waited.expect("no test thread panicked").1.timed_out();
        assert!(!timed_out, "what the test waits for did not happen");
    }

    /// Closes the open round whether or not its update has come.
    pub(crate) fn close_round(&self) {
        self.0.change(Book::advance);
    }

    /// Ends all sessions with a status.
    pub(crate) fn end_sessions(&self, status: &Status) {
        self.0.change(|book| {
            for session in book.sessions.drain(..) {
                session.try_send(Err(status.clone())).expect("room");
            }
        });
    }
}

fn serve(shared: &Arc<Shared>, address: SocketAddr) -> (Runtime, SocketAddr) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let listener = runtime.block_on(TcpListener::bind(address)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let service = Service(Arc::clone(shared));
    let federation = FederationServer::new(service.clone()).max_decoding_message_size(2 * CHUNK);
    let server = Server::builder().add_service(federation).add_service(IdentityServer::new(service));
    runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (runtime, address)
}
