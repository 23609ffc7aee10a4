//! What of a text is the answer.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// How an answer is found in a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerForm {
    /// The number behind the first `####`, as GSM8K marks it (arXiv 2110.14168); the last number of a text without that mark.
    /// Numbers are equal that have one value: `$1,200.00` is `1200`.
    #[default]
    LastNumber,
    /// The whole text without white space around it.
    WholeString,
}

/// What GSM8K puts before an answer.
const MARK: &str = "####";

impl AnswerForm {
    /// The answer in a text, in a form in which equal answers are equal; none where the text has none.
    #[must_use]
    pub fn answer(self, text: &str) -> Option<String> {
        match self {
            Self::WholeString => Some(text.trim().to_owned()),
            Self::LastNumber => match text.split_once(MARK) {
                Some((_, behind)) => NUMBERS.find(behind).map(|found| plain(found.as_str())),
                None => NUMBERS.find_iter(text).last().map(|found| plain(found.as_str())),
            },
        }
    }
}

/// Digits with commas between thousands and at most one point; a sign and a currency before them are the number's, unless
/// the sign is between two words or numbers.
// Unwrap safety: the expression is constant, and every test of this file compiles it.
static NUMBERS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:\B-)?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)").expect("a valid expression"));

/// A number without what does not change its value.
fn plain(number: &str) -> String {
    let kept: String = number.chars().filter(|letter| !",$".contains(*letter)).collect();
    let (sign, digits) = kept.strip_prefix('-').map_or(("", kept.as_str()), |digits| ("-", digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    match (whole, part) {
        ("0", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        (whole, part) => format!("{sign}{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers written down by hand.
    #[test]
    fn the_number_behind_the_mark_is_the_answer_and_without_a_mark_the_last_number() {
        for (text, expected) in [
            ("She sold 48/2 = <<48/2=24>>24 clips in May.\n#### 72", Some("72")),
            ("#### 1,200", Some("1200")),
            ("####$18.00", Some("18")),
            ("#### -3", Some("-3")),
            // What a model goes on to say does not count.
            ("#### 5\nQuestion: 2 + 2?\n#### 4", Some("5")),
            ("#### 70000.\n", Some("70000")),
            ("#### none", None),
            ("3 and 4 make 7", Some("7")),
            ("It costs $2,350.50, not less.", Some("2350.5")),
            ("from 10-4 remain 6", Some("6")),
            ("10-4", Some("4")),
            ("It is -4", Some("-4")),
            ("(-4)", Some("-4")),
            ("half of it is .50", Some("0.5")),
            ("007", Some("7")),
            ("-0.0", Some("0")),
            ("x = 1.2.", Some("1.2")),
            ("no number at all", None),
            ("", None),
        ] {
            assert_eq!(AnswerForm::LastNumber.answer(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_whole_string_counts_but_for_white_space_around_it() {
        let answer = |text| AnswerForm::WholeString.answer(text);
        assert_eq!(answer(" yes, 1\n").as_deref(), Some("yes, 1"));
        assert_ne!(answer("Yes"), answer("yes"));
        assert_eq!(answer("\n").as_deref(), Some(""));
    }
}
