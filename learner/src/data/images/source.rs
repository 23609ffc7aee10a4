//! Which files hold the training and the test images, and how each is read.

use std::path::{Path, PathBuf};

use super::{LabelledImage, digits, folder, idx, npz};
use crate::data::{DataConfig, DataError, Format, layout};

const KNOWN: &str = "expected IDX images, a .npz archive, optdigits (.tra, .tes), semeion, or a folder of labels";

/// Where images to train on and to test on are.
#[derive(Debug)]
pub(in crate::data) struct Sources {
    pub(in crate::data) train: Vec<PathBuf>,
    test: Option<PathBuf>,
    format: Format,
}

/// Whether the configuration's format, or what its path shows, are images.
pub(in crate::data) fn has_images(config: &DataConfig) -> bool {
    match config.format {
        Format::Auto => match config.train_files.first() {
            Some(first) => shown(&config.path.join(first)).is_some(),
            None => shown(&config.path).is_some(),
        },
        known => known.is_images(),
    }
}

/// The format that a path's name or content shows.
fn shown(path: &Path) -> Option<Format> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let ends = |end: &str| name.ends_with(end);
    if path.is_dir() {
        let idx = idx_file(path, &["train"]).is_some();
        return match (idx, folder::is_labelled(&path.join("train"))) {
            (true, _) => Some(Format::Idx),
            (false, true) => Some(Format::ImageFolder),
            (false, false) => folder::is_labelled(path).then_some(Format::ImageFolder),
        };
    }
    if idx::is_images(path) {
        Some(Format::Idx)
    } else if ends(".npz") {
        Some(Format::Npz)
    } else if ends(".tra") || ends(".tes") {
        Some(Format::Optdigits)
    } else if name.starts_with("semeion") {
        Some(Format::Semeion)
    } else {
        None
    }
}

impl Sources {
    /// Finds the files and folders.
    pub(in crate::data) fn find(config: &DataConfig) -> Result<Self, DataError> {
        let path = &config.path;
        let format = match config.format {
            Format::Auto => shown(path).unwrap_or(Format::Auto),
            known => known,
        };
        let named = !config.train_files.is_empty();
        let (train, own_test) = match format {
            _ if named => (config.train_files.iter().map(|file| path.join(file)).collect(), None),
            Format::ImageFolder => parts(path),
            _ if !path.is_dir() => (vec![path.clone()], None),
            Format::Idx => (vec![required(path, idx_file(path, &["train"]))?], idx_file(path, &["t10k", "test"])),
            Format::Optdigits => (vec![path.join("optdigits.tra")], Some(path.join("optdigits.tes"))),
            _ => return Err(DataError::UnknownFormat { path: path.clone(), expected: KNOWN }),
        };
        let test = match config.test_fraction {
            Some(_) => None,
            None => layout::test_path(config).or(own_test),
        };
        Ok(Self { train, test, format: config.format })
    }

    /// The images of one of the training files.
    pub(in crate::data) fn read_train(
        &self,
        file: &Path,
        config: &DataConfig,
    ) -> Result<Vec<LabelledImage>, DataError> {
        self.read(file, "train", config)
    }

    /// The images to test on; none if no file holds any.
    pub(in crate::data) fn read_test(&self, config: &DataConfig) -> Result<Option<Vec<LabelledImage>>, DataError> {
        match (&self.test, self.train.as_slice()) {
            (Some(file), _) => self.read(file, "test", config).map(Some),
            (None, [file]) if config.test_fraction.is_none() && self.format_of(file)? == Format::Npz => {
                npz::read(file, "test", config)
            }
            _ => Ok(None),
        }
    }

    fn read(&self, file: &Path, part: &str, config: &DataConfig) -> Result<Vec<LabelledImage>, DataError> {
        match self.format_of(file)? {
            Format::Idx => idx::read(file, config),
            Format::Optdigits => digits::optdigits(file),
            Format::Semeion => digits::semeion(file),
            Format::ImageFolder => folder::read(file),
            _ => {
                let rows = npz::read(file, part, config)?;
                rows.ok_or_else(|| super::content(file, format!("an array {part}_images"), "none"))
            }
        }
    }

    /// The configured format, or what the file shows.
    fn format_of(&self, file: &Path) -> Result<Format, DataError> {
        if self.format != Format::Auto {
            return Ok(self.format);
        }
        shown(file).ok_or_else(|| DataError::UnknownFormat { path: file.into(), expected: KNOWN })
    }
}

/// What a source is called as a client: its name without what says how it is packed.
pub(in crate::data) fn source_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = if file.is_dir() { name.as_str() } else { name.split('.').next().unwrap_or_default() };
    idx::prefix(file).unwrap_or_else(|| stem.to_owned())
}

/// The folders `train` and `test` of a folder, or all of it.
fn parts(folder: &Path) -> (Vec<PathBuf>, Option<PathBuf>) {
    let train = folder.join("train");
    if !train.is_dir() {
        return (vec![folder.to_owned()], None);
    }
    let test = ["test", "validation", "val"].into_iter().map(|name| folder.join(name)).find(|part| part.is_dir());
    (vec![train], test)
}

/// The folder's IDX images with one of the prefixes.
fn idx_file(folder: &Path, prefixes: &[&str]) -> Option<PathBuf> {
    let names = prefixes.iter().flat_map(|prefix| {
        ["-images-idx3-ubyte", "-images.idx3-ubyte"]
            .into_iter()
            .flat_map(move |rest| ["", ".gz"].into_iter().map(move |end| format!("{prefix}{rest}{end}")))
    });
    names.map(|name| folder.join(name)).find(|file| file.is_file())
}

fn required(folder: &Path, file: Option<PathBuf>) -> Result<PathBuf, DataError> {
    file.ok_or_else(|| DataError::MissingFile { folder: folder.into(), expected: "train-images-idx3-ubyte" })
}
