//! IDX files, as MNIST (`LeCun` et al.) and its successors come: a big-endian header, then bytes.
//!
//! Files that belong together are named alike: beside `PREFIX-images-idx3-ubyte` lies `PREFIX-labels-idx1-ubyte`, and
//! any other `PREFIX-NAME-idx1-ubyte` is a column `NAME` of the same rows. Each may end in `.gz`.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    content, files, one_each,
    picture::{LabelledImage, Picture},
};
use crate::{
    data::{Column, DataConfig, DataError, Origin},
    images::Image,
};

/// What the name of a file of images holds, with either mark before `idx3`.
const IMAGES: [&str; 2] = ["images-idx3", "images.idx3"];

/// Whether a file's name says that it holds IDX images.
pub(super) fn is_images(file: &Path) -> bool {
    let name = name(file);
    IMAGES.iter().any(|part| name.contains(part))
}

/// What the images are called without the words that all IDX files share.
pub(super) fn prefix(file: &Path) -> Option<String> {
    let name = name(file);
    let start = IMAGES.iter().find_map(|part| name.find(part))?;
    Some(name[..start].trim_end_matches(['-', '.', '_']).to_owned())
}

/// The images of a file with their labels and, where the configuration names columns of them, natural clients and users.
pub(super) fn read(file: &Path, config: &DataConfig) -> Result<Vec<LabelledImage>, DataError> {
    let ([count, height, width], pixels) = values::<3>(file)?;
    let size = height * width;
    if count == 0 || size == 0 {
        return Err(DataError::NoRows { file: file.into() });
    }
    let labels = config.label_column.as_ref().map_or_else(|| "labels".to_owned(), ToString::to_string);
    let labels = column(file, &labels, count)?;
    let named = |name: Option<&Column>| name.map(|name| column(file, &name.to_string(), count)).transpose();
    let (groups, users) = (named(config.group_column.as_ref())?, named(config.user_column.as_ref())?);
    let shared: Arc<Path> = file.into();
    let row = |((index, pixels), label): ((usize, &[u8]), u8)| {
        // None only for other counts than the header's, which were checked.
        let picture = Picture::Decoded(Image::new(1, height, width, pixels)?);
        let of = |column: Option<&Vec<u8>>| column.and_then(|values| values.get(index)).map(u8::to_string);
        let (group, user) = (of(groups.as_ref()), of(users.as_ref()));
        let origin = Origin { group, user, ..Origin::at(&shared, index + 1) };
        Some(LabelledImage { picture, label: label.to_string(), origin })
    };
    Ok(pixels.chunks_exact(size).enumerate().zip(labels).filter_map(row).collect())
}

/// The column of this name beside a file of images.
fn column(images: &Path, column: &str, count: usize) -> Result<Vec<u8>, DataError> {
    let file = column_file(images, column)?;
    let ([found], values) = values::<1>(&file)?;
    one_each(&file, column, count, found)?;
    Ok(values)
}

/// Packed like the images, or else the other way.
fn column_file(images: &Path, column: &str) -> Result<PathBuf, DataError> {
    let own = name(images);
    let Some(part) = IMAGES.iter().find(|part| own.contains(**part)) else {
        return Err(content(images, "a name like train-images-idx3-ubyte", own));
    };
    let alike = own.replace(part, &part.replace("images", column).replace("idx3", "idx1"));
    let other = alike.strip_suffix(".gz").map_or_else(|| format!("{alike}.gz"), str::to_owned);
    let (alike, other) = (images.with_file_name(alike), images.with_file_name(other));
    Ok(if !alike.exists() && other.exists() { other } else { alike })
}

/// Sizes and values of a file of unsigned bytes with `D` dimensions.
fn values<const D: usize>(file: &Path) -> Result<([usize; D], Vec<u8>), DataError> {
    let mut reader = files::open(file)?;
    let mut magic = [0; 4];
    let expected = [0, 0, 8, D as u8];
    let cut = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof => content(file, "an IDX header", "the end of the file"),
        _ => DataError::Read { file: file.into(), source },
    };
    reader.read_exact(&mut magic).map_err(cut)?;
    if magic != expected {
        let expected = format!("the IDX magic {expected:02x?} (bytes in {D} dimensions)");
        return Err(content(file, expected, format!("{magic:02x?}")));
    }
    let mut sizes = [0; D];
    for size in &mut sizes {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(cut)?;
        *size = u32::from_be_bytes(bytes) as usize;
    }
    let total = sizes.iter().try_fold(1_usize, |total, size| total.checked_mul(*size));
    let total = total.ok_or_else(|| content(file, "sizes that fit into memory", format!("{sizes:?}")))?;
    Ok((sizes, files::rest(file, &mut *reader, total)?))
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
