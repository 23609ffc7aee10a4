//! Names that are safe wherever they appear: in certificates, logs, tables and file names.

use super::IdentityError;

/// Largest number of bytes of a name.
pub(super) const MAX_NAME_BYTES: usize = 64;

/// Checks a client's name: letters, digits, `.`, `_` and `-`, the first one a letter or digit.
pub(super) fn check_name(name: &str) -> Result<(), IdentityError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rule = "letters, digits, `.`, `_` and `-`, the first a letter or digit";
    check(good, name, rule)
}

/// Checks an institution's name: letters of any script, digits, spaces and common marks.
pub(super) fn check_institution(name: &str) -> Result<(), IdentityError> {
    let plain = |c: char| c.is_alphanumeric() || " .,_-&'()".contains(c);
    let good = name.chars().all(plain) && name.trim() == name;
    check(good, name, "letters, digits, spaces and any of .,_-&'()")
}

fn check(good: bool, name: &str, rule: &'static str) -> Result<(), IdentityError> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    // The name may be anything: only its beginning is shown, escaped by the message.
    let shown = || name.chars().take(MAX_NAME_BYTES).collect();
    (good && fits).then_some(()).ok_or_else(|| IdentityError::BadName { name: shown(), rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_carry_anything_into_a_log_or_a_path() {
        for good in ["site-1", "a", "Amazon_2.b", &"x".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "../x", "a/b", "a b", "a\nb", "é", "-a", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_institution_may_be_called_as_it_is() {
        for good in ["Universität Köln", "St. Mary's (North), Dept. 3", "東京大学"] {
            assert!(check_institution(good).is_ok(), "{good}");
        }
        for bad in ["", " a", "a\u{202e}b", "a\u{1b}[31m", "a\tb"] {
            assert!(check_institution(bad).is_err(), "{bad:?}");
        }
    }
}
