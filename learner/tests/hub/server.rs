//! A Hugging Face Hub on this machine: one repository with real files, and trouble where it is asked for.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
};

use serde_json::json;
use sha2::{Digest, Sha256};

/// The repository.
pub(crate) const REPOSITORY: &str = "org/tiny-bert";
/// Its commit.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server knows and does.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Requests so far: path, and the header lines in lower case.
    pub(crate) requests: Vec<(String, Vec<String>)>,
    /// Bytes of a file after which every answer breaks off.
    pub(crate) cut: Option<usize>,
    /// Answers about files until it hangs up on every request for one.
    pub(crate) patience: Option<usize>,
    /// Status and error code of every answer.
    pub(crate) refusal: Option<(u16, Option<&'static str>)>,
    /// Where requests for files are sent.
    pub(crate) elsewhere: Option<String>,
    /// What is listed as the SHA-256 of files, in place of the true one.
    pub(crate) digest: Option<String>,
}

/// Serves until it is dropped.
pub(crate) struct Server {
    address: String,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A server of a directory's files.
    pub(crate) fn of(directory: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback is there");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let file = |path: &Path| {
            let name = path.file_name().expect("files have names").to_string_lossy().into_owned();
            (name, fs::read(path).expect("readable"))
        };
        let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("readable").path());
        let files = entries.map(|path| file(&path)).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let shared = Arc::clone(&state);
        let serve = move || {
            // An empty request ends it.
            while let Ok((stream, _)) = listener.accept() {
                if answer(stream, &shared).is_none() {
                    return;
                }
            }
        };
        Self { address, state, thread: Some(thread::spawn(serve)) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    /// The paths that were asked for since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests).into_iter().map(|(path, _)| path).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A connection without a request.
        drop(TcpStream::connect(self.address.trim_start_matches("http://")));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request and closes the connection; none if there was no request.
fn answer(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let mut state = state.lock().expect("no answer panics");
    state.requests.push((path.clone(), headers.clone()));
    let (cut, patience) = (state.cut, state.patience);
    if path.contains("/resolve/") {
        state.patience = patience.map(|left| left.saturating_sub(1));
    }
    let listing = format!("/api/models/{REPOSITORY}/revision/");
    let (name, revision) = (path.rsplit('/').next().unwrap_or_default(), path.strip_prefix(&listing));
    let bytes = match (state.refusal, revision, &state.elsewhere) {
        (Some((status, code)), ..) => {
            let code = code.map(|code| format!("x-error-code: {code}\r\n")).unwrap_or_default();
            head(status, &code, 0)
        }
        (None, Some(revision), _) => listed(&state, revision),
        (None, None, Some(other)) => head(302, &format!("location: {other}{path}\r\n"), 0),
        (None, None, None) if patience == Some(0) => Vec::new(),
        (None, None, None) => match state.files.get(name) {
            Some(content) => part(content, &headers, cut),
            None => head(404, "x-error-code: EntryNotFound\r\n", 0),
        },
    };
    // A client that has enough hangs up.
    let _ = stream.write_all(&bytes);
    Some(())
}

fn head(status: u16, headers: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n").into_bytes()
}

/// Commit and files of the two revisions that there are.
fn listed(state: &State, revision: &str) -> Vec<u8> {
    let revision = revision.split('?').next().unwrap_or_default();
    if !["main", "release%2F1", COMMIT].contains(&revision) {
        return head(404, "x-error-code: RevisionNotFound\r\n", 0);
    }
    let sibling = |(name, content): (&String, &Vec<u8>)| {
        let size = content.len();
        let mut file =
            json!({ "rfilename": name, "size": size, "blobId": format!("{:040x}", name.len() * 1000 + size) });
        if name.ends_with(".safetensors") {
            let digest: String =
                Sha256::digest(content).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            let digest = state.digest.clone().unwrap_or(digest);
            file["lfs"] = json!({ "sha256": digest, "size": size, "pointerSize": 134 });
        }
        file
    };
    let siblings: Vec<_> = state.files.iter().map(sibling).collect();
    let body = json!({ "sha": COMMIT, "siblings": siblings }).to_string();
    [head(200, "", body.len()), body.into_bytes()].concat()
}

/// The part of a file that was asked for, or less of it.
fn part(content: &[u8], headers: &[String], cut: Option<usize>) -> Vec<u8> {
    let range = headers.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let start: usize = range.unwrap_or(0);
    let body = &content[start..];
    let (total, last) = (content.len(), content.len() - 1);
    let head = match range {
        Some(_) => head(206, &format!("content-range: bytes {start}-{last}/{total}\r\n"), body.len()),
        None => head(200, "", body.len()),
    };
    [head.as_slice(), &body[..cut.unwrap_or(usize::MAX).min(body.len())]].concat()
}
