//! One file from the Hub into the cache, from where it was interrupted.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use ureq::{Body, http::Response};

use super::{
    Hub, HubError,
    answer::{Wanted, escaped},
    snapshot::Snapshot,
};

/// Attempts that bring nothing new before it is given up.
const ATTEMPTS: usize = 3;
const BUFFER: usize = 1 << 16;

/// Where a file comes from and where it goes.
struct Transfer<'a> {
    hub: &'a Hub,
    snapshot: &'a Snapshot,
    wanted: Wanted<'a>,
    url: String,
    incomplete: PathBuf,
}

impl Hub {
    /// Brings a file into a snapshot, unless it is there.
    pub(super) fn bring(&self, snapshot: &Snapshot, wanted: Wanted<'_>) -> Result<(), HubError> {
        if snapshot.directory().join(wanted.name).exists() {
            return Ok(());
        }
        let unlisted = || HubError::Unlisted { repository: snapshot.repository(), file: wanted.name.to_owned() };
        let etag = wanted.etag.filter(|etag| etag.bytes().all(|letter| letter.is_ascii_alphanumeric()));
        let etag = etag.filter(|etag| !etag.is_empty()).ok_or_else(unlisted)?;
        let blobs = snapshot.blobs();
        let blob = blobs.join(etag);
        // Held until the file is there: several clients on one machine fetch a model once.
        let _lock = lock(&snapshot.locks(), etag)?;
        if !blob.exists() {
            create(&blobs)?;
            let url = format!(
                "{}/{}/resolve/{}/{}",
                self.settings.endpoint,
                snapshot.name(),
                snapshot.commit(),
                escaped(wanted.name)
            );
            let incomplete = blobs.join(format!("{etag}.incomplete"));
            let transfer = Transfer { hub: self, snapshot, wanted: wanted.clone(), url, incomplete };
            transfer.complete()?;
            fs::rename(&transfer.incomplete, &blob).map_err(|source| HubError::File { file: blob.clone(), source })?;
        }
        snapshot.link(wanted.name, &blob)
    }
}

impl Transfer<'_> {
    /// Makes the incomplete file a complete one.
    fn complete(&self) -> Result<(), HubError> {
        let mut idle = 0;
        self.open(true).map_err(|error| self.failed(error))?;
        loop {
            let before = self.length()?;
            if before == self.wanted.size {
                return self.check();
            }
            let too_long = before > self.wanted.size;
            let outcome = if too_long { self.discard().map_err(Broken::down) } else { self.part(before) };
            let after = self.length()?;
            idle = if after > before { 0 } else { idle + 1 };
            match outcome {
                Err(Broken::Down(error)) => return Err(*error),
                // What broke off goes on from where it is, as long as something comes.
                _ if after == self.wanted.size || idle < ATTEMPTS => {}
                Ok(()) => return Err(self.interrupted(after, None)),
                Err(Broken::Off(source)) => return Err(self.interrupted(after, Some(source))),
            }
        }
    }

    /// Adds to the incomplete file what one request brings.
    fn part(&self, start: u64) -> Result<(), Broken> {
        let name = self.snapshot.name();
        let response = self.hub.get(name, &self.url, Some(start)).map_err(|error| match error {
            HubError::Unreachable { source, .. } if start > 0 => Broken::Off(io::Error::other(source)),
            other => Broken::down(other),
        })?;
        let appends = match response.status().as_u16() {
            206 if starts_at(&response, start) => true,
            200 => false,
            _ => {
                let refusal = self.hub.refusal(name, self.snapshot.commit(), self.url.clone(), &response);
                return Err(Broken::down(refusal));
            }
        };
        let mut file = self.open(appends).map_err(|error| Broken::down(self.failed(error)))?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            match body.read(&mut buffer).map_err(Broken::Off)? {
                0 => return Ok(()),
                count => file.write_all(&buffer[..count]).map_err(|error| Broken::down(self.failed(error)))?,
            }
        }
    }

    fn open(&self, appends: bool) -> io::Result<File> {
        OpenOptions::new().create(true).append(appends).write(true).truncate(!appends).open(&self.incomplete)
    }

    /// Checks the whole file; one that is another is thrown away.
    fn check(&self) -> Result<(), HubError> {
        if !self.wanted.is_digest {
            return Ok(());
        }
        let found = sha256(&self.incomplete).map_err(|error| self.failed(error))?;
        let expected = self.wanted.etag.unwrap_or_default();
        if found == expected {
            return Ok(());
        }
        self.discard()?;
        Err(HubError::Damaged {
            repository: self.snapshot.repository(),
            file: self.wanted.name.to_owned(),
            expected: format!("SHA-256 {expected}"),
            found: format!("SHA-256 {found}"),
        })
    }

    fn length(&self) -> Result<u64, HubError> {
        Ok(fs::metadata(&self.incomplete).map_err(|source| self.failed(source))?.len())
    }

    /// Empties the incomplete file.
    fn discard(&self) -> Result<(), HubError> {
        self.open(false).map(drop).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> HubError {
        HubError::File { file: self.incomplete.clone(), source }
    }

    fn interrupted(&self, got: u64, source: Option<io::Error>) -> HubError {
        let (repository, file) = (self.snapshot.repository(), self.wanted.name.to_owned());
        HubError::Interrupted { repository, file, got, size: self.wanted.size, source }
    }
}

/// Why a part of a file did not come to its end.
enum Broken {
    /// The connection broke off; another may bring the rest.
    Off(io::Error),
    /// Another would break too.
    Down(Box<HubError>),
}

impl Broken {
    fn down(error: HubError) -> Self {
        Self::Down(Box::new(error))
    }
}

/// Whether an answer to a request for a part has the part that was asked for.
fn starts_at(response: &Response<Body>, start: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")))
}

fn sha256(file: &Path) -> io::Result<String> {
    let (mut file, mut digest, mut buffer) = (File::open(file)?, Sha256::new(), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Waits for the right to write one content.
fn lock(folder: &Path, etag: &str) -> Result<File, HubError> {
    create(folder)?;
    let path = folder.join(format!("{etag}.lock"));
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| HubError::File { file: path, source })
}

fn create(folder: &Path) -> Result<(), HubError> {
    fs::create_dir_all(folder).map_err(|source| HubError::File { file: folder.to_owned(), source })
}
