//! Rotary position embedding: frequencies from a configuration, and angles of positions.

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

use super::super::pass::select;
use crate::ops;

/// What `rope_parameters`, or `rope_scaling` in older files, holds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct RopeParameters {
    pub(super) rope_type: Option<String>,
    /// The older name of `rope_type`; some files have both.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) rope_theta: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<f64>,
    pub(super) low_freq_factor: Option<f64>,
    pub(super) high_freq_factor: Option<f64>,
    pub(super) attention_factor: Option<f64>,
    pub(super) mscale: Option<f64>,
    pub(super) mscale_all_dim: Option<f64>,
    pub(super) beta_fast: Option<f64>,
    pub(super) beta_slow: Option<f64>,
    pub(super) truncate: Option<bool>,
}

/// How the frequencies of longer sequences than the pretrained ones follow from the original ones.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scaling {
    /// They are the original ones.
    Default,
    /// All of them are divided by a factor (arXiv 2306.15595, section 3.2).
    Linear { factor: f64 },
    /// Low ones are divided, high ones kept, and those between interpolated, as Llama 3.1 does.
    Llama3 { factor: f64, low: f64, high: f64, original: f64 },
    /// `YaRN` (arXiv 2309.00071, sections 3.2 and 3.4).
    Yarn { factor: f64, attention: f64, original: f64, fast: f64, slow: f64, truncate: bool },
}

/// The rotary embedding of a model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rope {
    /// Radians a position, one for each pair of a head's values.
    frequencies: Vec<f32>,
    /// By which cosines and sines are multiplied.
    scale: f64,
}

/// Cosines and sines of some positions.
#[derive(Debug, Clone)]
pub(super) struct Angles {
    /// `[positions, d_head / 2]`.
    cosines: Tensor<2>,
    /// `[positions, d_head / 2]`.
    sines: Tensor<2>,
}

impl Rope {
    /// For heads of an even width and a base `theta`.
    pub(super) fn new(head_width: usize, theta: f64, scaling: &Scaling) -> Self {
        // In 32 bits where `transformers` is: at a position of thousands the last bit of a frequency shows.
        let pairs = 0..head_width / 2;
        let period = |pair| theta.powf(f64::from((2 * pair) as f32 / head_width as f32)) as f32;
        let original: Vec<f32> = pairs.map(|pair| 1.0 / period(pair)).collect();
        let frequencies = match scaling {
            Scaling::Default => original,
            Scaling::Linear { factor } => original.iter().map(|value| value / *factor as f32).collect(),
            Scaling::Llama3 { factor, low, high, original: length } => {
                original.iter().map(|&value| llama3(f64::from(value), *factor, *low, *high, *length) as f32).collect()
            }
            Scaling::Yarn { factor, original: length, fast, slow, truncate, .. } => {
                let ramp = Ramp::new(head_width, theta, *length, [*fast, *slow], *truncate);
                let mixed = |(pair, &value): (usize, &f32)| {
                    let (value, interpolated) = (f64::from(value), ramp.at(pair));
                    (value / factor * interpolated + value * (1.0 - interpolated)) as f32
                };
                original.iter().enumerate().map(mixed).collect()
            }
        };
        let scale = if let Scaling::Yarn { attention, .. } = scaling { *attention } else { 1.0 };
        Self { frequencies, scale }
    }

    /// Angles of some positions.
    pub(super) fn angles(&self, positions: impl IntoIterator<Item = usize>, device: &Device) -> Angles {
        let angles: Vec<f64> = positions
            .into_iter()
            .flat_map(|position| self.frequencies.iter().map(move |value| f64::from(position as f32 * value)))
            .collect();
        let shape = [angles.len() / self.frequencies.len(), self.frequencies.len()];
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&angle| (function(angle) * self.scale) as f32).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Angles { cosines: table(f64::cos), sines: table(f64::sin) }
    }
}

impl Angles {
    /// Angles of rows at the given places among these positions.
    pub(super) fn at(&self, places: Vec<i32>) -> Self {
        Self { cosines: select(&self.cosines, places.clone()), sines: select(&self.sines, places) }
    }

    /// Turns every head of `x` `[positions, heads · d_head]`.
    pub(super) fn turn(&self, x: Tensor<2>) -> Tensor<2> {
        ops::rotary(x, self.cosines.clone(), self.sines.clone())
    }
}

fn llama3(frequency: f64, factor: f64, low: f64, high: f64, length: f64) -> f64 {
    let wavelength = TAU / frequency;
    if wavelength < length / high {
        return frequency;
    }
    if wavelength > length / low {
        return frequency / factor;
    }
    let smooth = (length / wavelength - low) / (high - low);
    (1.0 - smooth) * frequency / factor + smooth * frequency
}

/// From which pair on, and until which, frequencies go over from kept to divided.
#[derive(Debug, Clone, Copy)]
struct Ramp {
    low: f64,
    high: f64,
}

impl Ramp {
    /// The pairs that turn `rotations` times within the original length.
    fn new(head_width: usize, theta: f64, length: f64, rotations: [f64; 2], truncate: bool) -> Self {
        let width = head_width as f64;
        let [mut low, mut high] =
            rotations.map(|rotations| width * (length / (rotations * TAU)).ln() / (2.0 * theta.ln()));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(width - 1.0));
        // As in `transformers`: a ramp needs some length.
        Self { low, high: if (high - low).abs() < f64::EPSILON { high + 0.001 } else { high } }
    }

    /// 0 where a pair's frequency is kept, 1 where it is divided.
    fn at(self, pair: usize) -> f64 {
        ((pair as f64 - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}
