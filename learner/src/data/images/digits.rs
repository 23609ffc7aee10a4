//! Two sets of handwritten digits of the UCI repository in their own text formats.

use std::{path::Path, sync::Arc};

use super::{
    files,
    picture::{LabelledImage, Picture},
};
use crate::{
    data::{DataError, Origin, RowProblem, lines::bad},
    images::Image,
};

/// The darkest level of optdigits.
const OPTDIGITS_DARKEST: u32 = 16;

/// Optdigits (Alpaydin and Kaynak 1998): a line is 8 x 8 levels from 0 to 16 and the digit, separated by commas.
pub(super) fn optdigits(file: &Path) -> Result<Vec<LabelledImage>, DataError> {
    lines(file, |line| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [levels @ .., digit] = fields.as_slice() else { return Err(count(65, 0)) };
        if levels.len() != 64 {
            return Err(count(65, fields.len()));
        }
        let level = |field: &&str| {
            let level = field.parse().ok().filter(|level: &u32| *level <= OPTDIGITS_DARKEST);
            level.map(|level| ((level * 255 + OPTDIGITS_DARKEST / 2) / OPTDIGITS_DARKEST) as u8)
        };
        let pixels = levels.iter().map(level).collect::<Option<Vec<u8>>>();
        let pixels = pixels.ok_or_else(|| value("64 whole numbers from 0 to 16"))?;
        let label = digit.parse().ok().filter(|digit: &u8| *digit < 10).ok_or_else(|| value("a digit"))?;
        Ok((8, pixels, label))
    })
}

/// Semeion (Semeion Research Center): a line is 16 x 16 pixels, 0 or 1, and ten marks, of which the digit's is 1.
pub(super) fn semeion(file: &Path) -> Result<Vec<LabelledImage>, DataError> {
    lines(file, |line| {
        let bit = |field: &str| match field.parse::<f32>().ok()? {
            0.0 => Some(0),
            1.0 => Some(1),
            _ => None,
        };
        let fields: Vec<Option<u8>> = line.split_whitespace().map(bit).collect();
        if fields.len() != 266 {
            return Err(count(266, fields.len()));
        }
        let bits: Vec<u8> = fields.into_iter().collect::<Option<_>>().ok_or_else(|| value("zeros and ones"))?;
        let (pixels, marks) = bits.split_at(256);
        let digit = marks.iter().position(|mark| *mark == 1).filter(|_| marks.iter().sum::<u8>() == 1);
        let digit = digit.ok_or_else(|| value("one mark for one digit"))?;
        Ok((16, pixels.iter().map(|bit| bit * 255).collect(), digit as u8))
    })
}

/// Side, pixels and digit of a line.
type Digit = (usize, Vec<u8>, u8);

fn lines(file: &Path, digit: impl Fn(&str) -> Result<Digit, RowProblem>) -> Result<Vec<LabelledImage>, DataError> {
    let text = files::text(file)?;
    let shared: Arc<Path> = file.into();
    let filled = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let record = |(line, row): (&str, usize)| {
        let (side, pixels, label) = digit(line).map_err(|problem| bad(file, row, problem))?;
        let image = Image::new(1, side, side, pixels).ok_or_else(|| bad(file, row, value("a square of pixels")))?;
        let (picture, label) = (Picture::Decoded(image), label.to_string());
        Ok(LabelledImage { picture, label, origin: Origin::at(&shared, row) })
    };
    let rows: Vec<LabelledImage> = filled.map(record).collect::<Result<_, DataError>>()?;
    if rows.is_empty() { Err(DataError::NoRows { file: file.into() }) } else { Ok(rows) }
}

fn count(expected: usize, found: usize) -> RowProblem {
    RowProblem::FieldCount { expected, found }
}

fn value(expected: &'static str) -> RowProblem {
    RowProblem::Value { column: "line".to_owned(), expected, found: "something else" }
}
