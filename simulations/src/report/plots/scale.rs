//! From values to places: ranges, round numbers on axes.

use crate::report::measure::Score;

/// A range of values with round numbers in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    /// Smallest value shown.
    pub(super) low: f64,
    /// Largest value shown.
    pub(super) high: f64,
    /// Numbers to write on the axis, rising.
    pub(super) ticks: Vec<f64>,
    decimals: usize,
}

/// What an axis is about.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Title with the unit.
    pub(super) title: String,
    /// Values that must be shown.
    pub(super) include: Option<f64>,
    /// Values beyond which there is nothing.
    pub(super) within: (f64, f64),
    /// Whether only whole numbers make sense.
    pub(super) whole: bool,
    /// Share of the range that stays empty at either end.
    pub(super) room: f64,
}

impl Axis {
    /// Any finite values.
    pub(super) fn new(title: impl Into<String>) -> Self {
        let within = (f64::NEG_INFINITY, f64::INFINITY);
        Self { title: title.into(), include: None, within, whole: false, room: 0.06 }
    }

    /// Rounds: whole numbers from the first that was measured.
    pub(super) fn rounds() -> Self {
        Self { whole: true, room: 0.0, ..Self::new("round") }
    }

    /// How good models are: shares of one, or perplexities, which are never below 1.
    pub(super) fn score(score: Score) -> Self {
        let within = match score {
            Score::Accuracy | Score::ExactMatch => (0.0, 1.0),
            Score::Perplexity => (1.0, f64::INFINITY),
        };
        Self { within, ..Self::new(score.name()) }
    }

    /// Amounts, shown from zero.
    pub(super) fn amounts(title: impl Into<String>) -> Self {
        Self { include: Some(0.0), within: (0.0, f64::INFINITY), ..Self::new(title) }
    }

    /// The scale of some finite values with about so many numbers; none of no values.
    pub(super) fn scale(&self, values: impl Iterator<Item = f64>, numbers: usize) -> Option<Scale> {
        let bounds = values.chain(self.include).filter(|value| value.is_finite());
        let (low, high) =
            bounds.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        // A constant still needs a range; which one is a matter of taste.
        let room = if high <= low { low.abs().max(1.0) * 0.1 } else { (high - low) * self.room };
        let (low, high) = ((low - room).max(self.within.0).min(low), (high + room).min(self.within.1).max(high));
        let (low, high) = if high <= low { (low, low + 1.0) } else { (low, high) };
        let step = step((high - low) / numbers.max(1) as f64, self.whole);
        let first = (low / step).ceil() as i64;
        // Far fewer numbers than this fit; the bound only keeps extreme values from making endless axes.
        let ticks = (first..first.saturating_add(64)).map(|index| index as f64 * step);
        let ticks = ticks.take_while(|&tick| tick <= high + step * 1e-9).collect();
        let decimals = (-(step * 1.000_001).log10().floor()).clamp(0.0, 9.0) as usize;
        Some(Scale { low, high, ticks, decimals })
    }
}

impl Scale {
    /// Where a value lies: 0 at the low end, 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f32 {
        ((value - self.low) / (self.high - self.low)) as f32
    }

    /// A number on the axis.
    pub(super) fn label(&self, tick: f64) -> String {
        if tick.abs() >= 1e6 {
            return format!("{tick:.1e}");
        }
        // Adding zero turns -0 into 0.
        format!("{:.*}", self.decimals, tick + 0.0)
    }
}

/// The nearest of 1, 2, 5 times a power of ten, as a ratio.
fn step(rough: f64, whole: bool) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let off = |times: &f64| (times * power / rough).ln().abs();
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().min_by(|left, right| off(left).total_cmp(&off(right)));
    let step = times.unwrap_or(1.0) * power;
    if whole { step.max(1.0) } else { step }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, values: &[f64]) -> Vec<String> {
        let scale = axis.scale(values.iter().copied(), 5).expect("values");
        scale.ticks.iter().map(|tick| scale.label(*tick)).collect()
    }

    #[test]
    fn numbers_on_axes_are_round() {
        assert_eq!(labels(&Axis::score(Score::Accuracy), &[0.1, 0.83]), ["0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(labels(&Axis::rounds(), &[0.0, 3.0]), ["0", "1", "2", "3"]);
        assert_eq!(labels(&Axis::rounds(), &[0.0, 100.0]), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(&Axis::amounts("MiB"), &[40.0]), ["0", "10", "20", "30", "40"]);
        assert_eq!(labels(&Axis::new("loss"), &[-0.02, 0.02]), ["-0.02", "-0.01", "0.00", "0.01", "0.02"]);
    }

    #[test]
    fn accuracy_is_never_shown_beyond_one() {
        let scale = Axis::score(Score::Accuracy).scale([0.2, 1.0].into_iter(), 5).expect("values");
        assert!((scale.high - 1.0).abs() < f64::EPSILON && scale.low < 0.2);
    }

    #[test]
    fn constants_get_a_range_and_no_values_get_no_scale() {
        let scale = Axis::rounds().scale([4.0].into_iter(), 5).expect("a value");
        assert!(scale.low < 4.0 && scale.high > 4.0);
        assert!(Axis::score(Score::Accuracy).scale([1.0].into_iter(), 5).is_some_and(|scale| scale.low < 1.0));
        assert_eq!(Axis::score(Score::Accuracy).scale([f64::NAN].into_iter(), 5), None);
    }

    #[test]
    fn extreme_values_do_not_make_endless_axes() {
        let scale = Axis::new("loss").scale([-1e300, 1e300].into_iter(), 5).expect("values");
        assert!(scale.ticks.len() <= 64);
    }
}
