//! What files say about preparing pictures.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use super::{ImageProcessor, Levels, PREPROCESSOR, Scale, resize::Filter};
use crate::LearnerError;

/// Mean and deviation of the defaults, of a range from 0 to 1.
const HALF: f64 = 0.5;
const LEVEL: f64 = 1.0 / 255.0;
/// Pillow's numbers of its filters.
const BILINEAR: u32 = 2;
const BICUBIC: u32 = 3;

/// What is done to pictures.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    resize: Option<(Scale, Filter)>,
    crop: Option<(usize, usize)>,
    factor: f64,
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

/// `preprocessor_config.json`, in the names of `transformers`.
#[derive(Deserialize)]
struct File {
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<u32>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Numbers>,
    image_std: Option<Numbers>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Size {
    Side(usize),
    Exact { height: usize, width: usize },
    Shorter { shortest_edge: usize },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(f64),
    Each(Vec<f64>),
}

/// The part of timm's `config.json` that says how pictures are prepared.
#[derive(Deserialize)]
struct Timm {
    pretrained_cfg: Option<Evaluation>,
}

#[derive(Deserialize)]
struct Evaluation {
    interpolation: Option<String>,
    crop_pct: Option<f64>,
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Settings {
    /// What a directory says, and the file that says it.
    pub(super) fn of(directory: &Path, side: usize) -> Result<(PathBuf, Self), LearnerError> {
        let (own, model) = (directory.join(PREPROCESSOR), directory.join("config.json"));
        if own.exists() {
            let settings = Self::of_file(&own, parse(&own)?, side)?;
            return Ok((own, settings));
        }
        let timm: Timm = parse(&model)?;
        let settings = match timm.pretrained_cfg {
            Some(evaluation) => Self::of_timm(&model, evaluation, side)?,
            None => Self::plain(side),
        };
        Ok((model, settings))
    }

    /// The defaults.
    pub(super) fn plain(side: usize) -> Self {
        let resize = Some((Scale::Exact(side, side), Filter::Bilinear));
        Self { resize, crop: None, factor: LEVEL, mean: vec![HALF], deviation: vec![HALF] }
    }

    fn of_file(path: &Path, file: File, side: usize) -> Result<Self, LearnerError> {
        let filter = match file.resample.unwrap_or(BILINEAR) {
            BILINEAR => Filter::Bilinear,
            BICUBIC => Filter::Bicubic,
            other => return refuse(path, "resample", other.to_string(), "2 (bilinear) or 3 (bicubic)"),
        };
        let scale = match file.size {
            None => Scale::Exact(side, side),
            Some(Size::Side(side)) => Scale::Exact(side, side),
            Some(Size::Exact { height, width }) => Scale::Exact(height, width),
            Some(Size::Shorter { shortest_edge }) => Scale::ShorterSide(shortest_edge),
        };
        let crop = match file.crop_size {
            None => (side, side),
            Some(Size::Side(side) | Size::Shorter { shortest_edge: side }) => (side, side),
            Some(Size::Exact { height, width }) => (height, width),
        };
        let numbers = |numbers: Option<Numbers>| match numbers {
            None => vec![HALF],
            Some(Numbers::One(number)) => vec![number],
            Some(Numbers::Each(numbers)) => numbers,
        };
        let normalises = file.do_normalize.unwrap_or(true);
        Ok(Self {
            resize: file.do_resize.unwrap_or(true).then_some((scale, filter)),
            crop: file.do_center_crop.unwrap_or(false).then_some(crop),
            factor: if file.do_rescale.unwrap_or(true) { file.rescale_factor.unwrap_or(LEVEL) } else { 1.0 },
            mean: if normalises { numbers(file.image_mean) } else { vec![0.0] },
            deviation: if normalises { numbers(file.image_std) } else { vec![1.0] },
        })
    }

    /// timm's evaluation: the shorter side to `side / crop_pct`, rounded down, then the centre.
    fn of_timm(path: &Path, evaluation: Evaluation, side: usize) -> Result<Self, LearnerError> {
        let filter = match evaluation.interpolation.as_deref() {
            None | Some("bilinear") => Filter::Bilinear,
            Some("bicubic") => Filter::Bicubic,
            Some(other) => return refuse(path, "interpolation", other.to_owned(), "bilinear or bicubic"),
        };
        let share = evaluation.crop_pct.unwrap_or(1.0);
        if !(share > 0.0 && share <= 1.0) {
            return refuse(path, "crop_pct", share.to_string(), "a number above 0 and at most 1");
        }
        let shorter = (side as f64 / share).floor() as usize;
        Ok(Self {
            resize: Some((Scale::ShorterSide(shorter), filter)),
            crop: Some((side, side)),
            factor: LEVEL,
            mean: evaluation.mean,
            deviation: evaluation.std,
        })
    }

    /// The processor for a model of these channels and this size.
    pub(super) fn processor(self, path: &Path, channels: usize, side: usize) -> Result<ImageProcessor, LearnerError> {
        let square = format!("the model's size, {side} x {side}");
        if let Some((height, width)) = self.crop.filter(|crop| *crop != (side, side)) {
            return refuse(path, "crop_size", format!("{height} x {width}"), &square);
        }
        match (self.resize, self.crop) {
            (Some((Scale::Exact(height, width), _)), None) if (height, width) != (side, side) => {
                return refuse(path, "size", format!("{height} x {width}"), &square);
            }
            (Some((Scale::Exact(height, width), _)), Some(_)) if height.min(width) < side => {
                return refuse(path, "size", format!("{height} x {width}"), "at least the crop's size");
            }
            (Some((Scale::ShorterSide(shorter), _)), Some(_)) if shorter < side => {
                return refuse(path, "size", shorter.to_string(), "at least the crop's size");
            }
            _ => {}
        }
        for (key, numbers) in [("image_mean", &self.mean), ("image_std", &self.deviation)] {
            let fits = numbers.len() == 1 || numbers.len() == channels;
            let usable = |x: &f64| x.is_finite() && (key == "image_mean" || *x > 0.0);
            if !fits || !numbers.iter().all(usable) {
                return refuse(path, key, format!("{numbers:?}"), &format!("{channels} usable numbers, one a channel"));
            }
        }
        Ok(self.assembled(channels, side))
    }

    pub(super) fn assembled(&self, channels: usize, side: usize) -> ImageProcessor {
        let number = |numbers: &[f64], channel: usize| numbers.get(channel).or(numbers.first()).copied();
        let levels = |channel: usize| -> Levels {
            let mean = number(&self.mean, channel).unwrap_or(0.0);
            let deviation = number(&self.deviation, channel).unwrap_or(1.0);
            std::array::from_fn(|level| ((level as f64 * self.factor - mean) / deviation) as f32)
        };
        ImageProcessor {
            channels,
            side,
            resize: self.resize,
            crops: self.crop.is_some(),
            levels: (0..channels).map(levels).collect(),
        }
    }
}

/// The defaults in the names of `transformers`.
pub(super) fn plain_file(channels: usize, side: usize) -> String {
    let settings = json!({
        "image_processor_type": "ViTImageProcessor",
        "do_resize": true,
        "size": { "height": side, "width": side },
        "resample": BILINEAR,
        "do_rescale": true,
        "rescale_factor": LEVEL,
        "do_normalize": true,
        "image_mean": vec![HALF; channels],
        "image_std": vec![HALF; channels],
    });
    format!("{settings:#}\n")
}

fn refuse<T>(file: &Path, key: &'static str, found: String, expected: &str) -> Result<T, LearnerError> {
    Err(LearnerError::Config { file: file.into(), key, found, expected: expected.to_owned() })
}

fn parse<T: DeserializeOwned>(file: &Path) -> Result<T, LearnerError> {
    let text = fs::read_to_string(file).map_err(|source| LearnerError::Io { file: file.into(), source })?;
    serde_json::from_str(&text).map_err(|source| LearnerError::Json { file: file.into(), source })
}
