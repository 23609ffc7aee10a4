//! A disk and a file system that forget, when power fails, what was not made durable.
//!
//! The disk keeps every write since the last flush apart. At a crash each sector of 512 bytes of each such write is
//! there or not, as a coin says: lost, reordered and torn writes at once. The file system does the same with contents,
//! and with names that their folder's flush has not reached: each name means its old or its new file. Files lie in a
//! real folder, because update files are read with positioned reads; what is written there past this file system, as
//! uploads are, it finds out before that can matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use rand::{Rng, RngExt};
use redb::StorageBackend;

use crate::blobs::Files;

/// What reaches the medium whole or not at all.
const SECTOR: usize = 512;

/// Operations that are left before power fails.
#[derive(Debug, Clone)]
pub(super) struct Power(Arc<AtomicI64>);

impl Power {
    pub(super) fn on() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }

    pub(super) fn fails_after(&self, operations: i64) {
        self.0.store(operations, Ordering::SeqCst);
    }

    pub(super) fn restore(&self) {
        self.fails_after(i64::MAX);
    }

    fn draw(&self) -> io::Result<()> {
        if self.0.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        self.fails_after(0);
        Err(io::Error::other("the power is off"))
    }
}

/// Takes each sector of `new` where a coin says so; the rest is `old`, or zero where that has no such bytes.
fn tear(old: &[u8], new: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut torn = old.to_vec();
    torn.resize(new.len(), 0);
    for (torn, new) in torn.chunks_mut(SECTOR).zip(new.chunks(SECTOR)) {
        if rng.random::<bool>() {
            torn.copy_from_slice(new);
        }
    }
    torn
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk for one database.
#[derive(Debug, Clone)]
pub(super) struct CrashDisk {
    power: Power,
    state: Arc<Mutex<DiskState>>,
}

#[derive(Debug, Default)]
struct DiskState {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Since the last flush, in order; a change of length has no bytes.
    pending: Vec<(usize, Vec<u8>)>,
}

impl CrashDisk {
    pub(super) fn new(power: &Power) -> Self {
        Self { power: power.clone(), state: Arc::default() }
    }

    /// The power fails: what is found afterwards.
    pub(super) fn crash(&self, rng: &mut impl Rng) {
        let mut state = lock(&self.state);
        let length = if rng.random::<bool>() { state.current.len() } else { state.durable.len() };
        let mut found = std::mem::take(&mut state.durable);
        found.resize(found.len().max(state.current.len()), 0);
        for (offset, bytes) in std::mem::take(&mut state.pending) {
            // Sectors of the disk, not of the write.
            let mut place = offset;
            while place < offset + bytes.len() {
                let end = ((place / SECTOR + 1) * SECTOR).min(offset + bytes.len());
                if rng.random::<bool>() {
                    found[place..end].copy_from_slice(&bytes[place - offset..end - offset]);
                }
                place = end;
            }
        }
        found.truncate(length);
        (state.durable, state.current) = (found.clone(), found);
    }
}

impl StorageBackend for CrashDisk {
    fn len(&self) -> io::Result<u64> {
        self.power.draw()?;
        Ok(lock(&self.state).current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.power.draw()?;
        let state = lock(&self.state);
        let found = state.current.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.power.draw()?;
        lock(&self.state).current.resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.power.draw()?;
        let mut state = lock(&self.state);
        let DiskState { durable, current, pending } = &mut *state;
        durable.resize(current.len(), 0);
        for (offset, bytes) in pending.drain(..) {
            // A write beyond a later, shorter length is gone.
            let end = (offset + bytes.len()).min(durable.len());
            if offset < end {
                durable[offset..end].copy_from_slice(&bytes[..end - offset]);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.power.draw()?;
        let mut state = lock(&self.state);
        let place = offset as usize;
        let target = state.current.get_mut(place..place + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        target.copy_from_slice(data);
        state.pending.push((place, data.to_vec()));
        Ok(())
    }
}

/// A file system below one folder.
#[derive(Debug)]
pub(super) struct CrashFiles {
    power: Power,
    state: Mutex<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    /// Contents: what is durable, and what is read now.
    contents: Vec<(Vec<u8>, Vec<u8>)>,
    durable: BTreeMap<PathBuf, usize>,
    current: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
}

impl FileState {
    /// Looks at a file that may have been written or removed past this file system. None of that is durable.
    fn catch_up(&mut self, path: &Path) {
        let Ok(bytes) = fs::read(path) else {
            self.current.remove(path);
            return;
        };
        if let Some(file) = self.current.get(path).copied() {
            self.contents[file].1 = bytes;
        } else {
            self.contents.push((Vec::new(), bytes));
            self.current.insert(path.to_owned(), self.contents.len() - 1);
        }
    }

    /// Looks at every file.
    fn catch_up_all(&mut self) {
        let there = self.folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        let there = there.map(|entry| entry.path()).filter(|path| path.is_file());
        let paths: BTreeSet<PathBuf> = there.chain(self.current.keys().cloned()).collect();
        for path in paths {
            self.catch_up(&path);
        }
    }
}

impl CrashFiles {
    pub(super) fn new(power: &Power) -> Self {
        Self { power: power.clone(), state: Mutex::default() }
    }

    /// The power fails: what is found afterwards, also in the real folder.
    pub(super) fn crash(&self, rng: &mut impl Rng) {
        let mut state = lock(&self.state);
        state.catch_up_all();
        let paths: BTreeSet<PathBuf> = state.durable.keys().chain(state.current.keys()).cloned().collect();
        let mut found = FileState { folders: state.folders.clone(), ..FileState::default() };
        for path in paths {
            let (old, new) = (state.durable.get(&path), state.current.get(&path));
            let file = if rng.random::<bool>() { new } else { old };
            // Names of the dead that the real folder still has must go.
            let _ = fs::remove_file(&path);
            let Some(&file) = file else { continue };
            let (durable, current) = &state.contents[file];
            let bytes = if durable == current { durable.clone() } else { tear(durable, current, rng) };
            fs::write(&path, &bytes).expect("a writable folder");
            found.contents.push((bytes.clone(), bytes));
            found.durable.insert(path.clone(), found.contents.len() - 1);
            found.current.insert(path, found.contents.len() - 1);
        }
        *state = found;
    }
}

impl Files for CrashFiles {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.power.draw()?;
        lock(&self.state).folders.insert(path.to_owned());
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.power.draw()?;
        fs::write(path, bytes)?;
        let bytes = bytes.to_vec();
        let mut state = lock(&self.state);
        // Writing over a file changes the same file; what was durable of it may be torn.
        if let Some(file) = state.current.get(path).copied() {
            state.contents[file].1 = bytes;
        } else {
            state.contents.push((Vec::new(), bytes));
            let file = state.contents.len() - 1;
            state.current.insert(path.to_owned(), file);
        }
        Ok(())
    }

    fn begin(&self, path: &Path) -> io::Result<fs::File> {
        self.write(path, &[])?;
        // What is written to it is found out when it is made durable, or when power fails.
        fs::File::options().read(true).write(true).open(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.power.draw()?;
        let mut state = lock(&self.state);
        state.catch_up(path);
        let file = *state.current.get(path).ok_or(io::ErrorKind::NotFound)?;
        let (durable, current) = &mut state.contents[file];
        durable.clone_from(current);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.power.draw()?;
        let mut state = lock(&self.state);
        let FileState { durable, current, .. } = &mut *state;
        durable.retain(|name, _| name.parent() != Some(path));
        durable.extend(current.iter().filter(|(name, _)| name.parent() == Some(path)).map(|(n, f)| (n.clone(), *f)));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.power.draw()?;
        fs::rename(from, to)?;
        let mut state = lock(&self.state);
        let file = state.current.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.current.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.power.draw()?;
        fs::remove_file(path)?;
        lock(&self.state).current.remove(path);
        Ok(())
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        self.power.draw()?;
        Ok(fs::metadata(path)?.len())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.power.draw()?;
        let mut found: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        // The system's order is nobody's business, and a failing seed must replay.
        found.sort();
        Ok(found)
    }
}
