//! Pictures are resized and decoded as Pillow does it.

use std::{fs, path::Path};

use fedlora_learner::{Image, ImageProcessor, LoadedImages, data::DataConfig};
use serde::Deserialize;

use crate::{directory, folder};

#[derive(Deserialize)]
struct Pictures {
    resized: Vec<Resized>,
    files: Vec<PictureFile>,
}

#[derive(Deserialize)]
struct Resized {
    channels: usize,
    from: [usize; 2],
    to: [usize; 2],
    filter: String,
    levels: Vec<u8>,
}

#[derive(Deserialize)]
struct PictureFile {
    name: String,
    bytes: String,
    mode: String,
    levels: String,
}

fn pictures() -> Pictures {
    serde_json::from_slice(&fs::read(directory("pictures.json")).unwrap()).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).unwrap() as u32;
    let quads = text.as_bytes().chunks(4).flat_map(|quad| {
        let kept = quad.iter().filter(|byte| **byte != b'=').count();
        let bits = quad.iter().take(kept).fold(0, |bits, byte| bits << 6 | digit(*byte)) << (6 * (4 - kept));
        bits.to_be_bytes()[1..kept].to_vec()
    });
    quads.collect()
}

#[test]
fn resizing_along_rows_then_along_columns_gives_pillows_levels_bit_for_bit() {
    for Resized { channels, from: [height, width], to: [side, _], filter, levels } in pictures().resized {
        let place = tempfile::tempdir().unwrap();
        let resample = if filter == "bicubic" { 3 } else { 2 };
        let settings = format!("{{\"size\": {{\"height\": {side}, \"width\": {side}}}, \"resample\": {resample}}}");
        fs::write(place.path().join("preprocessor_config.json"), settings).unwrap();
        let processor = ImageProcessor::from_directory(place.path(), channels, side).unwrap();
        let count = height * width * channels;
        let source: Vec<u8> = (0..count as u64).map(|k| ((k * k * 31 + k * 17) % 256) as u8).collect();
        let picture = Image::new(channels, height, width, source).unwrap();
        let planes = processor.pixels(&picture, Path::new("picture")).unwrap();
        let expected: Vec<u8> =
            (0..channels).flat_map(|channel| levels.iter().skip(channel).step_by(channels).copied()).collect();
        assert_eq!(planes, expected, "{height} x {width} to {side}, {filter}");
    }
}

#[test]
fn png_and_jpeg_files_are_decoded_as_pillow_decodes_them() {
    for PictureFile { name, bytes, mode, levels } in pictures().files {
        let folder = folder(&[(name.as_str(), base64(&bytes))]);
        let images = LoadedImages::load(&DataConfig::new(folder.path()), fedlora_adapter::Seed(1)).unwrap();
        let image = images.train()[0].image().unwrap();
        let expected = base64(&levels);
        assert_eq!((image.height(), image.width()), (24, 20), "{name}");
        assert_eq!(image.channels(), if mode == "L" { 1 } else { 3 }, "{name}");
        // PNG is exact. Two cosine transforms of JPEG may differ by a level (ITU-T T.83), which the conversion from
        // luminance and chrominance multiplies by up to 1 + 1.772.
        let tolerance = if name.ends_with("png") { 0 } else { 3 };
        let worst = image.pixels().iter().zip(&expected).map(|(found, expected)| found.abs_diff(*expected)).max();
        assert!(image.pixels().len() == expected.len() && worst.unwrap() <= tolerance, "{name}: off by {worst:?}");
    }
}
