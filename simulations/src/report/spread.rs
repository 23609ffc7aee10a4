use serde::Serialize;

/// One figure over the runs of a row, which differ in their seed only.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean over the runs.
    pub mean: f64,
    /// Sample standard deviation (divided by runs - 1); absent for a single run.
    pub standard_deviation: Option<f64>,
    /// Smallest value.
    pub minimum: f64,
    /// Largest value.
    pub maximum: f64,
    /// Runs that have the figure.
    pub runs: u64,
}

impl Spread {
    /// The spread of some values; none of no values.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        (!values.is_empty()).then(|| Self {
            mean,
            standard_deviation: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
            minimum: values.iter().copied().fold(f64::INFINITY, f64::min),
            maximum: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            runs: values.len() as u64,
        })
    }

    /// For people: `0.807 ± 0.012`, or the range for two runs, of which a deviation would say nothing more.
    pub(super) fn show(&self, number: impl Fn(f64) -> String) -> String {
        match (self.runs, self.standard_deviation) {
            (3.., Some(deviation)) => format!("{} ± {}", number(self.mean), number(deviation)),
            (2, _) => format!("{} ({}..{})", number(self.mean), number(self.minimum), number(self.maximum)),
            _ => number(self.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(values: &[f64]) -> String {
        Spread::of(values).expect("values").show(|value| format!("{value:.3}"))
    }

    #[test]
    fn one_run_has_no_spread_two_a_range_and_three_a_sample_deviation() {
        assert_eq!(show(&[0.5]), "0.500");
        assert_eq!(show(&[0.5, 0.7]), "0.600 (0.500..0.700)");
        // Deviations from 0.6 are -0.1, 0 and 0.1: the variance over n - 1 = 2 is 0.01.
        assert_eq!(show(&[0.5, 0.6, 0.7]), "0.600 ± 0.100");
    }

    #[test]
    fn no_values_have_no_spread() {
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn equal_values_have_a_spread_of_exactly_zero() {
        let spread = Spread::of(&[0.25; 4]).expect("values");
        assert_eq!((spread.standard_deviation, spread.minimum, spread.maximum), (Some(0.0), 0.25, 0.25));
    }
}
