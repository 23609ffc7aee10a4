//! Numbers and names for people.

use std::fmt::Write;

/// What stands where nothing was measured.
pub(super) const NOTHING: &str = "-";

/// An accuracy or another figure around one.
pub(super) fn fixed(value: f64) -> String {
    format!("{value:.3}")
}

/// A figure of unknown size, to three significant digits.
pub(super) fn significant(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// A mean of counts: whole where it is whole.
pub(super) fn count(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// The unit in which a number of bytes is easy to read, and its size in bytes.
pub(super) fn byte_unit(bytes: f64) -> (&'static str, f64) {
    let mut size = 1.0;
    for unit in UNITS {
        if bytes < size * 1024.0 || unit == UNITS[4] {
            return (unit, size);
        }
        size *= 1024.0;
    }
    (UNITS[0], 1.0)
}

/// A number of bytes.
pub(super) fn bytes(bytes: f64) -> String {
    let (unit, size) = byte_unit(bytes);
    format!("{} {unit}", significant(bytes / size))
}

/// A value, or a dash.
pub(super) fn or_nothing(value: Option<String>) -> String {
    value.unwrap_or_else(|| NOTHING.to_owned())
}

/// A name for a terminal: control characters, which could move the cursor or change colours, become visible.
pub(super) fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter }).collect()
}

/// At most so many characters, with the middle left out, because names often differ at their ends.
pub(super) fn shortened(name: &str, most: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= most {
        return name.to_owned();
    }
    let tail = most / 2;
    let head = most - tail - 1;
    letters[..head].iter().chain(['…'].iter()).chain(&letters[letters.len() - tail..]).collect()
}

/// Text inside HTML and SVG, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML cannot hold the other control characters, not even escaped.
            letter if letter.is_control() && !"\n\t".contains(letter) => escaped.push('\u{FFFD}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Appends formatted text to a string, which cannot fail.
pub(super) fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A `String` grows or aborts; it never returns an error.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_significant_digits_at_any_size() {
        let values = [0.0, 0.432_1, 12.345, 123_456.7, 0.000_012_34, -0.05, f64::NAN];
        assert_eq!(values.map(significant), ["0", "0.432", "12.3", "123457", "1.23e-5", "-0.0500", "NaN"]);
    }

    #[test]
    fn bytes_have_the_unit_that_keeps_them_small() {
        assert_eq!([0.0, 1023.0, 1536.0, 3_145_728.0].map(bytes), ["0 B", "1023 B", "1.50 KiB", "3.00 MiB"]);
    }

    #[test]
    fn markup_becomes_text() {
        assert_eq!(escape("<script>'&\"\u{1b}"), "&lt;script&gt;&#39;&amp;&quot;\u{FFFD}");
    }

    #[test]
    fn a_long_name_keeps_its_beginning_and_its_end() {
        assert_eq!(shortened("lora.r=2 learning-rate=0.25", 12), "lora.…e=0.25");
        assert_eq!(shortened("fedavg", 6), "fedavg");
    }
}
