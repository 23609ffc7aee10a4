//! One labelled picture, as read.

use std::path::{Path, PathBuf};

use png::{ColorType, Decoder, Transformations};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::content;
use crate::{
    data::{DataError, Origin},
    images::Image,
};

/// A labelled picture and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledImage {
    pub(super) picture: Picture,
    /// The label's name; never empty.
    pub label: String,
    /// Where it stands, and whose it is.
    pub origin: Origin,
}

/// A picture in memory, or one whose file is decoded when it is needed: photographs are large until they are resized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Picture {
    Decoded(Image),
    Encoded,
}

impl LabelledImage {
    /// The picture.
    ///
    /// # Errors
    /// A file that cannot be read or decoded.
    pub fn image(&self) -> Result<Image, DataError> {
        match &self.picture {
            Picture::Decoded(image) => Ok(image.clone()),
            Picture::Encoded => decode(&self.origin.file),
        }
    }
}

const PNG: &[u8] = b"\x89PNG";
const JPEG: &[u8] = b"\xff\xd8";

/// A PNG or JPEG file, told apart by its first bytes; transparency is dropped, 16 bits become 8.
fn decode(file: &Path) -> Result<Image, DataError> {
    let bytes = std::fs::read(file).map_err(|source| DataError::Read { file: PathBuf::from(file), source })?;
    let decoded = if bytes.starts_with(PNG) {
        png(&bytes)
    } else if bytes.starts_with(JPEG) {
        jpeg(&bytes)
    } else {
        return Err(content(file, "a PNG or JPEG image", "other bytes"));
    };
    decoded.map_err(|reason| content(file, "a whole PNG or JPEG image", reason))
}

fn png(bytes: &[u8]) -> Result<Image, String> {
    let mut decoder = Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let size = reader.output_buffer_size().ok_or("an image too large for memory")?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    pixels.truncate(info.buffer_size());
    let (height, width) = (info.height as usize, info.width as usize);
    let (channels, pixels) = match info.color_type {
        ColorType::Grayscale => (1, pixels),
        ColorType::GrayscaleAlpha => (1, without_alpha::<2, 1>(&pixels)),
        ColorType::Rgba => (3, without_alpha::<4, 3>(&pixels)),
        ColorType::Rgb | ColorType::Indexed => (3, pixels),
    };
    Image::new(channels, height, width, pixels).ok_or_else(|| format!("{height} x {width} pixels"))
}

fn without_alpha<const WITH: usize, const WITHOUT: usize>(pixels: &[u8]) -> Vec<u8> {
    pixels.as_chunks::<WITH>().0.iter().flat_map(|pixel| pixel.iter().take(WITHOUT)).copied().collect()
}

fn jpeg(bytes: &[u8]) -> Result<Image, String> {
    let options = DecoderOptions::default().set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| error.to_string())?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let output = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    let info = decoder.info().ok_or("no size")?;
    let (height, width) = (usize::from(info.height), usize::from(info.width));
    Image::new(if grey { 1 } else { 3 }, height, width, pixels).ok_or_else(|| format!("{height} x {width} pixels"))
}
