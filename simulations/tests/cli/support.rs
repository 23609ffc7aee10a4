//! A directory of its own for each test, and the program started in it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// A BERT of two layers, 27 tokens and three shards.
pub(crate) const TINY_BERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../learner/tests/golden/tiny_bert");

/// Six clients with the embedded digits; random weights need no pretraining.
const DIGITS: &str = r#"
name = "digits"
num-rounds = 2
local-steps = 3
learning-rate = 0.01
evaluate-every = 16
evaluate-clients = 2
[method]
name = "fedavg"
[lora]
r = 4
[model]
path = "builtin:digits-vit"
random-weights = true
[data]
path = "builtin:digits"
[data.partition]
kind = "files"
personal-test-fraction = 0.2
"#;

const SENTENCES: &str = r#"
num-rounds = 2
batch-size = 4
learning-rate = 0.01
[method]
name = "fedavg"
[lora]
r = 2
[data]
path = "data"
[data.partition]
num-clients = 3
min-partition-size = 2
personal-test-fraction = 0.2
"#;

/// The working directory of a test.
#[derive(Debug)]
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    /// An empty directory.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    /// A directory with `job.toml`, which trains a small vision transformer on the embedded digits.
    pub(crate) fn with_digits() -> Self {
        let place = Self::new();
        place.write("job.toml", DIGITS);
        place
    }

    /// A directory with `job.toml`, which trains [`TINY_BERT`] on `data/train.csv` and `data/test.csv`.
    pub(crate) fn with_sentences() -> Self {
        let place = Self::new();
        place.write("job.toml", format!("{SENTENCES}[model]\npath = '{TINY_BERT}'\n"));
        place.write("data/train.csv", format!("text,label\n{}", sentences(20)));
        place.write("data/test.csv", format!("text,label\n{}", sentences(5)));
        place
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Writes a file and the directories above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("files lie below the directory")).expect("directories can be made");
        fs::write(&path, content).expect("the directory is writable");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// All files below a directory with their bytes.
    pub(crate) fn tree(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.path(name), Path::new(""), &mut files);
        files
    }

    /// The program with arguments that are separated by blanks, not yet started.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fedlora-sim"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    /// Starts the program and leaves it running.
    pub(crate) fn start(&self, arguments: &str) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the program can be started")
    }

    /// Runs the program to its end.
    pub(crate) fn sim(&self, arguments: &str) -> Outcome {
        Outcome::of(&self.command(arguments).output().expect("the program can be started"))
    }
}

/// What a finished process left.
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

    /// The process succeeded, and said nothing on standard error, but that central privacy is loud: with a handful of
    /// clients it always is.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        let is_expected = |line: &str| line.starts_with("warning: central privacy: ");
        assert_eq!((self.code, self.stderr.lines().all(is_expected)), (Some(0), true), "{self:?}");
        self
    }

    /// The process failed with this code and one message on standard error that contains all of these.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, evidence: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for part in evidence {
            assert!(self.stderr.contains(part), "{part:?} is not in {}", self.stderr);
        }
    }

    /// Standard output as one JSON value with nothing around it.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Labelled sentences of the words that [`TINY_BERT`] knows, `count` of each label, as lines of CSV.
pub(crate) fn sentences(count: usize) -> String {
    let subjects = ["the cat", "a dog", "the film", "dogs", "a mat"];
    let line = |index: usize| {
        let (subject, times) = (subjects[index % subjects.len()], "very ".repeat(index / subjects.len()));
        format!("{subject} {times}good !,good\n{subject} {times}bad .,bad\n")
    };
    (0..count).map(line).collect()
}

fn collect(directory: &Path, name: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
        let path = entry.expect("a directory's entries can be read").path();
        let name = name.join(path.file_name().expect("entries have names"));
        if path.is_dir() {
            collect(&path, &name, files);
        } else {
            files.insert(name, fs::read(&path).expect("files can be read"));
        }
    }
}
