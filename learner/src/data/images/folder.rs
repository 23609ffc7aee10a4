//! A folder of folders, each named after the label of the pictures in it, as `torchvision`'s `ImageFolder` reads them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    content,
    picture::{LabelledImage, Picture},
};
use crate::data::{DataError, Origin};

const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// The pictures of all labels, by label and name; hidden files are passed over.
pub(super) fn read(folder: &Path) -> Result<Vec<LabelledImage>, DataError> {
    let mut rows = Vec::new();
    for class in entries(folder)? {
        if !class.is_dir() {
            return Err(content(&class, "a folder named after a label", "a file"));
        }
        let label = class.file_name().unwrap_or_default().to_string_lossy().trim().to_owned();
        let before = rows.len();
        for file in entries(&class)? {
            if !is_picture(&file) {
                return Err(content(&file, "a .png, .jpg or .jpeg file", "another kind"));
            }
            let (label, origin) = (label.clone(), Origin::at(&Arc::from(file), 1));
            rows.push(LabelledImage { picture: Picture::Encoded, label, origin });
        }
        if rows.len() == before {
            return Err(DataError::NoRows { file: class });
        }
    }
    if rows.is_empty() { Err(DataError::NoRows { file: folder.into() }) } else { Ok(rows) }
}

/// Whether a folder has folders with pictures in them.
pub(super) fn is_labelled(folder: &Path) -> bool {
    let classes = entries(folder).unwrap_or_default();
    classes.iter().any(|class| class.is_dir() && entries(class).unwrap_or_default().iter().any(|file| is_picture(file)))
}

/// What a folder holds but for hidden files, in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = |source| DataError::Read { file: folder.into(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_picture(file: &Path) -> bool {
    let end = file.extension().and_then(|end| end.to_str()).unwrap_or_default();
    file.is_file() && ENDINGS.iter().any(|known| end.eq_ignore_ascii_case(known))
}
