/// What a shape is painted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// Titles and labels.
    Text,
    /// Axes and their numbers.
    Axis,
    /// Lines to compare heights by.
    Grid,
    /// The page.
    Paper,
    /// A reference that is not the main one.
    Reference,
    /// A series; numbers wrap around.
    Series(usize),
}

/// Okabe and Ito's colours, which people with any common colour blindness can tell apart, without black (used for
/// text) and yellow (too light on paper).
const SERIES: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

impl Ink {
    /// As a CSS colour for a light page. The report's style sheet finds the neutral ones by these values and turns
    /// them around in dark mode.
    pub(super) fn css(self) -> &'static str {
        match self {
            Self::Text => "#1f1f1f",
            Self::Axis => "#5f5f5f",
            Self::Grid => "#e3e3e3",
            Self::Paper => "#ffffff",
            Self::Reference => "#858585",
            Self::Series(number) => SERIES[number % SERIES.len()],
        }
    }

    /// Red, green and blue.
    pub(super) fn rgb(self) -> [u8; 3] {
        // Every colour above is `#` and six hexadecimal digits, which a test checks.
        let channel = |at: usize| u8::from_str_radix(&self.css()[at..at + 2], 16).unwrap_or(0);
        [1, 3, 5].map(channel)
    }
}

/// How a line is interrupted, so that lines of one colour differ and prints without colour can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dash {
    /// Not at all.
    Solid,
    /// Long strokes.
    Dashed,
    /// Short strokes.
    Dotted,
}

impl Dash {
    /// Lengths of stroke and gap.
    pub(super) fn pattern(self) -> Option<[f32; 2]> {
        match self {
            Self::Solid => None,
            Self::Dashed => Some([7.0, 3.5]),
            Self::Dotted => Some([2.0, 2.5]),
        }
    }

    /// Another for each round through the colours.
    pub(super) fn of(number: usize) -> Self {
        [Self::Solid, Self::Dashed, Self::Dotted][number / SERIES.len() % 3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_six_hexadecimal_digits() {
        let neutral = [Ink::Text, Ink::Axis, Ink::Grid, Ink::Paper, Ink::Reference];
        for ink in neutral.into_iter().chain((0..SERIES.len()).map(Ink::Series)) {
            let [red, green, blue] = ink.rgb();
            assert_eq!(format!("#{red:02x}{green:02x}{blue:02x}"), ink.css());
        }
    }

    #[test]
    fn eighteen_series_look_different() {
        let looks: std::collections::BTreeSet<String> =
            (0..18).map(|number| format!("{} {:?}", Ink::Series(number).css(), Dash::of(number))).collect();
        assert_eq!(looks.len(), 18);
    }
}
