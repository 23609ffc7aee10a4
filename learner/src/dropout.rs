//! Dropout masks for the input of the low-rank branch.

use burn::tensor::{Device, Tensor, TensorData};
use fedlora_adapter::{ClientId, Purpose, RoundId, Seed};
use rand::Rng;
use rand_chacha::ChaCha12Rng;

/// The masks of one optimiser step, one module after another.
///
/// An example's masks follow from seed, round, client and stream alone, so they are the same whichever examples and
/// clients go through the model beside it, and in however many passes.
#[derive(Debug, Clone)]
pub struct DropoutMasks {
    rate: f64,
    streams: Vec<ChaCha12Rng>,
}

impl DropoutMasks {
    /// Masks that drop a share of `rate`, in [0, 1), of the values. Each example of the batch has the client that owns it
    /// and the number of a stream of random values, which no other example of the client and no other step has.
    pub fn new(rate: f64, seed: Seed, round: RoundId, examples: impl IntoIterator<Item = (ClientId, u64)>) -> Self {
        let stream = |(client, stream)| {
            let mut rng = seed.client(Purpose::Dropout, round, client);
            rng.set_stream(stream);
            rng
        };
        Self { rate, streams: examples.into_iter().map(stream).collect() }
    }

    /// The next module's mask, `[sum of rows, width]`: 0 where a value is dropped and `1 / (1 - rate)` elsewhere.
    ///
    /// `rows` holds each example's number of rows. No mask at rate 0.
    pub(crate) fn next(&mut self, rows: &[usize], width: usize, device: &Device) -> Option<Tensor<2>> {
        if self.rate <= 0.0 {
            return None;
        }
        let keep = (1.0 / (1.0 - self.rate)) as f32;
        // A word below the threshold drops its value; the cast saturates for rates next to 1.
        let threshold = (self.rate * 2.0_f64.powi(32)) as u32;
        let mut mask = Vec::with_capacity(rows.iter().sum::<usize>() * width);
        for (stream, &rows) in self.streams.iter_mut().zip(rows) {
            mask.extend((0..rows * width).map(|_| if stream.next_u32() < threshold { 0.0 } else { keep }));
        }
        let rows = mask.len() / width.max(1);
        Some(Tensor::from_data(TensorData::new(mask, [rows, width]), &device.clone().inner()))
    }
}

/// The stream of random numbers that belongs to an example, or to a unit by its first one, in a step.
pub(crate) fn stream(step: u64, example: u32) -> u64 {
    (step << 32) | u64::from(example)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;

    fn masks(rate: f64, examples: &[(u64, u64)]) -> DropoutMasks {
        DropoutMasks::new(
            rate,
            Seed(5),
            RoundId(2),
            examples.iter().map(|&(client, stream)| (ClientId(client), stream)),
        )
    }

    fn values(masks: &mut DropoutMasks, rows: &[usize]) -> Vec<f32> {
        masks.next(rows, 3, &device("cpu").unwrap()).unwrap().into_data().try_into_vec().unwrap()
    }

    #[test]
    fn an_example_has_the_same_masks_alone_and_among_others() {
        let (mut alone, mut group) = (masks(0.5, &[(7, 3)]), masks(0.5, &[(1, 3), (7, 3)]));
        for module in 0..3 {
            assert_eq!(values(&mut alone, &[4]), values(&mut group, &[2, 4])[6..], "module {module}");
        }
    }

    #[test]
    fn masks_differ_between_modules_streams_and_clients() {
        let mut first = masks(0.5, &[(7, 3)]);
        let mask = values(&mut first, &[20]);
        for mut other in [first, masks(0.5, &[(7, 4)]), masks(0.5, &[(8, 3)])] {
            assert_ne!(mask, values(&mut other, &[20]));
        }
    }

    #[test]
    fn the_dropped_share_is_the_rate_and_the_mean_stays_one() {
        let mask = values(&mut masks(0.25, &[(1, 0)]), &[10_000]);
        let dropped = mask.iter().filter(|&&value| value == 0.0).count() as f64 / mask.len() as f64;
        // Five standard deviations of a share of 30000 draws: 5 · sqrt(0.25 · 0.75 / 30000).
        assert!((dropped - 0.25).abs() < 0.0125, "dropped {dropped}");
        assert!(mask.iter().all(|&value| value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
    }

    #[test]
    fn rate_zero_needs_no_mask() {
        assert!(masks(0.0, &[(1, 0)]).next(&[4], 3, &device("cpu").unwrap()).is_none());
    }
}
