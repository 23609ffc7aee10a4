//! `export`: a published adapter as a PEFT folder on this machine.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use fedlora_proto::operator::{ExportRequest, FilePiece};
use serde_json::json;

use super::{
    Answer, Failure,
    connect::{Operator, Target},
    remote, words,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator export --out adapter
  fedlora-coordinator export --run 2 --round 7 --out adapter-7
  python -c \"from peft import AutoPeftModel; AutoPeftModel.from_pretrained('adapter')\"";

/// Which adapter, and where to.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Folder to make; it must not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of the run [default: the live one, or the last]
    #[arg(long)]
    run: Option<u64>,
    /// Round whose adapter to export; 0 for the one that the run started from [default: the last published]
    #[arg(long)]
    round: Option<u64>,
}

pub(super) fn run(args: &ExportArgs, target: &Target) -> Result<Answer, Failure> {
    if args.out.exists() {
        return Err(Failure::files(format!("{} exists already", args.out.display())));
    }
    remote(target, async |operator| export(args, operator).await)
}

async fn export(args: &ExportArgs, operator: &mut Operator) -> Result<Answer, Failure> {
    let request = ExportRequest { run_id: args.run.unwrap_or(0), round: args.round };
    let stream = operator.export(request).await.map_err(|status| Failure::of(&status))?;
    let mut stream = stream.into_inner();
    let mut folder = Partial::new(&args.out)?;
    while let Some(piece) = stream.message().await.map_err(|status| Failure::of(&status))? {
        folder.take(&piece)?;
    }
    let sizes = folder.finish(&args.out)?;
    let lines: Vec<String> = sizes
        .iter()
        .map(|(name, &size)| format!("{} ({})", args.out.join(name).display(), words::bytes(size)))
        .collect();
    Ok(Answer::new(lines.join("\n"), json!({ "directory": args.out, "files": sizes })))
}

/// The folder while it is incomplete: beside its final name, and gone if the export fails.
#[derive(Debug)]
struct Partial {
    path: PathBuf,
    sizes: BTreeMap<String, u64>,
    open: Option<(String, fs::File)>,
}

impl Partial {
    fn new(out: &Path) -> Result<Self, Failure> {
        let mut path = out.to_owned();
        path.as_mut_os_string().push(".partial");
        let made = fs::remove_dir_all(&path).or(Ok(())).and_then(|()| fs::create_dir_all(&path));
        made.map_err(|error| Failure::file("create", &path, &error))?;
        Ok(Self { path, sizes: BTreeMap::new(), open: None })
    }

    /// Writes a piece, if it is the next one.
    fn take(&mut self, piece: &FilePiece) -> Result<(), Failure> {
        let FilePiece { name, offset, data, crc32c } = piece;
        let broken = |why: &str| Failure::unreachable(format!("the coordinator's answer is broken: {name:?} {why}"));
        if Path::new(name).file_name() != Some(OsStr::new(name)) {
            return Err(broken("is no plain file name"));
        }
        if crc32c::crc32c(data) != *crc32c {
            return Err(broken("was damaged on the way"));
        }
        if self.sizes.get(name).copied().unwrap_or(0) != *offset {
            return Err(broken("came out of order"));
        }
        let path = self.path.join(name);
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            self.close()?;
            let file = fs::OpenOptions::new().create_new(true).write(true).open(&path);
            self.open = Some((name.clone(), file.map_err(|error| Failure::file("create", &path, &error))?));
        }
        if let Some((_, file)) = &mut self.open {
            file.write_all(data).map_err(|error| Failure::file("write", &path, &error))?;
        }
        *self.sizes.entry(name.clone()).or_default() += data.len() as u64;
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        let Some((name, file)) = self.open.take() else { return Ok(()) };
        file.sync_all().map_err(|error| Failure::file("write", &self.path.join(name), &error))
    }

    /// Gives the folder its name; the sizes of its files.
    fn finish(mut self, out: &Path) -> Result<BTreeMap<String, u64>, Failure> {
        self.close()?;
        if self.sizes.is_empty() {
            return Err(Failure::refused("the coordinator sent no files"));
        }
        fs::rename(&self.path, out).map_err(|error| Failure::file("create", out, &error))?;
        Ok(std::mem::take(&mut self.sizes))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename nothing is there to be removed.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(name: &str, offset: u64, data: &[u8]) -> FilePiece {
        FilePiece { name: name.to_owned(), offset, data: data.to_vec().into(), crc32c: crc32c::crc32c(data) }
    }

    fn refusal(pieces: &[FilePiece]) -> String {
        let place = tempfile::tempdir().expect("a temporary directory can be made");
        let out = place.path().join("adapter");
        let mut folder = Partial::new(&out).expect("the directory is writable");
        let refused = pieces.iter().find_map(|piece| folder.take(piece).err()).expect("the last piece is wrong");
        drop(folder);
        assert_eq!(fs::read_dir(place.path()).expect("readable").count(), 0, "something was left");
        refused.to_string()
    }

    #[test]
    fn pieces_become_files() {
        let place = tempfile::tempdir().expect("a temporary directory can be made");
        let out = place.path().join("adapter");
        let mut folder = Partial::new(&out).expect("the directory is writable");
        for piece in [piece("a", 0, b"one"), piece("a", 3, b"two"), piece("b", 0, b"")] {
            folder.take(&piece).expect("in order");
        }
        let sizes = folder.finish(&out).expect("complete");
        assert_eq!(sizes, BTreeMap::from([("a".to_owned(), 6), ("b".to_owned(), 0)]));
        assert_eq!(fs::read(out.join("a")).expect("readable"), b"onetwo");
    }

    #[test]
    fn a_name_never_leaves_the_folder() {
        for name in ["../a", "/a", "a/b", "..", ".", ""] {
            assert!(refusal(&[piece(name, 0, b"x")]).contains("plain file name"), "{name}");
        }
    }

    #[test]
    fn gaps_repetitions_and_damage_are_noticed() {
        assert!(refusal(&[piece("a", 0, b"one"), piece("a", 4, b"two")]).contains("out of order"));
        assert!(refusal(&[piece("a", 0, b"one"), piece("a", 0, b"one")]).contains("out of order"));
        assert!(refusal(&[FilePiece { crc32c: 1, ..piece("a", 0, b"one") }]).contains("damaged"));
    }
}
