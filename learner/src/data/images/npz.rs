//! NumPy archives with the keys of MedMNIST (arXiv 2110.14795): `train_images`, `train_labels`, `test_images`,
//! `test_labels`. Its validation rows are left alone.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use zip::ZipArchive;

use super::{
    content, files, one_each,
    picture::{LabelledImage, Picture},
};
use crate::{
    data::{Column, DataConfig, DataError, Origin},
    images::Image,
};

/// Longest header of an array: they have about a hundred bytes.
const LONGEST_HEADER: usize = 1 << 16;

type Archive = ZipArchive<BufReader<File>>;

/// An array of one element type.
struct Array {
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The rows of one part of an archive, `train` or `test`; none if it has no such images.
pub(super) fn read(file: &Path, part: &str, config: &DataConfig) -> Result<Option<Vec<LabelledImage>>, DataError> {
    let opened = File::open(file).map_err(|source| DataError::Read { file: file.into(), source })?;
    let mut archive = ZipArchive::new(BufReader::new(opened))
        .map_err(|error| content(file, "a NumPy archive (.npz)", error.to_string()))?;
    let Some(images) = array(file, &mut archive, &format!("{part}_images"))? else { return Ok(None) };
    let (count, [height, width, channels]) = image_shape(&images).ok_or_else(|| {
        let expected = format!("{part}_images of bytes, [rows, height, width] or [rows, height, width, 3]");
        content(file, expected, format!("{} {:?}", images.dtype, images.shape))
    })?;
    let labels = config.label_column.as_ref().map_or_else(|| "labels".to_owned(), ToString::to_string);
    let labels = column(file, &mut archive, &format!("{part}_{labels}"), count)?;
    let mut named = |name: Option<&Column>| {
        let key = name.map(|name| format!("{part}_{name}"));
        key.map(|key| column(file, &mut archive, &key, count)).transpose()
    };
    let (groups, users) = (named(config.group_column.as_ref())?, named(config.user_column.as_ref())?);
    let shared: Arc<Path> = file.into();
    let row = |((index, pixels), label): ((usize, &[u8]), i64)| {
        // None only for other counts than the shape's, which were checked.
        let picture = Picture::Decoded(Image::new(channels, height, width, pixels)?);
        let of = |column: Option<&Vec<i64>>| column.and_then(|values| values.get(index)).map(i64::to_string);
        let (group, user) = (of(groups.as_ref()), of(users.as_ref()));
        let origin = Origin { group, user, ..Origin::at(&shared, index + 1) };
        Some(LabelledImage { picture, label: label.to_string(), origin })
    };
    let pictures = images.bytes.chunks_exact(height * width * channels).enumerate();
    Ok(Some(pictures.zip(labels).filter_map(row).collect()))
}

/// Number of rows, and their height, width and channels.
fn image_shape(array: &Array) -> Option<(usize, [usize; 3])> {
    let (count, sizes) = match *array.shape.as_slice() {
        [count, height, width] => (count, [height, width, 1]),
        [count, height, width, channels @ (1 | 3)] => (count, [height, width, channels]),
        _ => return None,
    };
    (array.dtype == "|u1" && count > 0 && !sizes.contains(&0)).then_some((count, sizes))
}

/// Whole numbers, one a row: `[rows]` or `[rows, 1]`.
fn column(file: &Path, archive: &mut Archive, key: &str, count: usize) -> Result<Vec<i64>, DataError> {
    let found = array(file, archive, key)?.ok_or_else(|| content(file, format!("an array {key}"), "none"))?;
    let numbers = match *found.shape.as_slice() {
        [_] | [_, 1] => whole_numbers(&found),
        _ => None,
    };
    let numbers = numbers.ok_or_else(|| {
        let expected = format!("{key} of whole numbers, [rows] or [rows, 1]");
        content(file, expected, format!("{} {:?}", found.dtype, found.shape))
    })?;
    one_each(file, key, count, numbers.len())?;
    Ok(numbers)
}

fn whole_numbers(array: &Array) -> Option<Vec<i64>> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> Option<i64>) -> Option<Vec<i64>> {
        bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
    }
    let bytes = &array.bytes;
    match array.dtype.as_str() {
        "|u1" | "|b1" => each::<1>(bytes, |[byte]| Some(byte.into())),
        "|i1" => each(bytes, |bytes| Some(i8::from_le_bytes(bytes).into())),
        "<u2" => each(bytes, |bytes| Some(u16::from_le_bytes(bytes).into())),
        "<i2" => each(bytes, |bytes| Some(i16::from_le_bytes(bytes).into())),
        "<u4" => each(bytes, |bytes| Some(u32::from_le_bytes(bytes).into())),
        "<i4" => each(bytes, |bytes| Some(i32::from_le_bytes(bytes).into())),
        "<u8" => each(bytes, |bytes| u64::from_le_bytes(bytes).try_into().ok()),
        "<i8" => each(bytes, |bytes| Some(i64::from_le_bytes(bytes))),
        _ => None,
    }
}

/// The array of this name; none if the archive has none.
fn array(file: &Path, archive: &mut Archive, key: &str) -> Result<Option<Array>, DataError> {
    let Some(place) = archive.index_for_name(&format!("{key}.npy")) else { return Ok(None) };
    let mut entry =
        archive.by_index(place).map_err(|error| content(file, format!("a readable {key}"), error.to_string()))?;
    let header = header(&mut entry).ok_or_else(|| content(file, format!("a NumPy header of {key}"), "other bytes"))?;
    let (dtype, shape) = described(&header)
        .ok_or_else(|| content(file, format!("{key} in C order with a plain element type"), header.trim()))?;
    let width = dtype.get(2..).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(1);
    let total = shape.iter().try_fold(width, |total, size| total.checked_mul(*size));
    let total = total.ok_or_else(|| content(file, "sizes that fit into memory", format!("{key} {shape:?}")))?;
    let place = PathBuf::from(format!("{}/{key}.npy", file.display()));
    let bytes = files::rest(&place, &mut entry, total)?;
    Ok(Some(Array { dtype, shape, bytes }))
}

/// The text of a `.npy` header (NumPy enhancement proposal 1).
fn header(reader: &mut dyn Read) -> Option<String> {
    let mut start = [0; 8];
    reader.read_exact(&mut start).ok()?;
    let [b'\x93', b'N', b'U', b'M', b'P', b'Y', version, _] = start else { return None };
    let length = if version == 1 {
        let mut length = [0; 2];
        reader.read_exact(&mut length).ok()?;
        usize::from(u16::from_le_bytes(length))
    } else {
        let mut length = [0; 4];
        reader.read_exact(&mut length).ok()?;
        u32::from_le_bytes(length) as usize
    };
    let mut text = vec![0; Some(length).filter(|length| *length <= LONGEST_HEADER)?];
    reader.read_exact(&mut text).ok()?;
    String::from_utf8(text).ok()
}

/// Element type and shape of a header like `{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4), }`; none for
/// Fortran's order.
fn described(header: &str) -> Option<(String, Vec<usize>)> {
    let value = |key: &str| header.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let dtype = value("descr")?.strip_prefix('\'')?.split_once('\'')?.0;
    if !value("fortran_order")?.starts_with("False") {
        return None;
    }
    let (shape, _) = value("shape")?.strip_prefix('(')?.split_once(')')?;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    Some((dtype.to_owned(), sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let header =
            |order: &str, shape: &str| format!("{{'descr': '<i8', 'fortran_order': {order}, 'shape': {shape}, }}");
        assert_eq!(described(&header("False", "(3, 4)")), Some(("<i8".to_owned(), vec![3, 4])));
        assert_eq!(described(&header("False", "(7,)")), Some(("<i8".to_owned(), vec![7])));
        assert_eq!(described(&header("True", "(3, 4)")), None);
        assert_eq!(described(&header("False", "(3, -4)")), None);
    }
}
