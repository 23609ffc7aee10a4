//! Times, durations, sizes and numbers for people.

/// What stands for nothing.
pub(super) const NONE: &str = "-";

/// A time since the Unix epoch as `2026-11-24 18:02:11 UTC`; nothing for 0.
pub(super) fn time(time_ms: u64) -> String {
    if time_ms == 0 {
        return NONE.to_owned();
    }
    let seconds = time_ms / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day of a number of days after 1 January 1970.
///
/// Counted from 1 March of year 0, so that leap days come last: "`chrono`-Compatible Low-Level Date Algorithms" by
/// Howard Hinnant, `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// A duration in its two largest units.
pub(super) fn duration(duration_ms: u64) -> String {
    let seconds = duration_ms / 1000;
    match seconds {
        0 => format!("{duration_ms} ms"),
        1..60 => format!("{}.{} s", seconds, duration_ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A number of bytes with a binary unit.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = bytes.checked_ilog2().unwrap_or(0) as usize / 10;
    if unit == 0 {
        return format!("{bytes} B");
    }
    format!("{:.1} {}", bytes as f64 / (1_u64 << (10 * unit)) as f64, units[unit])
}

/// A loss or another measured number; nothing where there is none.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or(NONE.to_owned(), |value| format!("{value:.4}"))
}

/// The beginning of a digest: enough to tell two apart.
pub(super) fn digest(hexadecimal: &str) -> String {
    if hexadecimal.is_empty() { NONE.to_owned() } else { hexadecimal.chars().take(12).collect() }
}

/// Text, or the sign for none.
pub(super) fn or_none(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { text.to_owned() }
}

/// A duration such as `30m`, `24h` or `7d`, in ms.
pub(super) fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration: expected for example 30m, 24h or 7d");
    let split = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let unit_ms: u64 = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let duration = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    duration.filter(|&duration| duration > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // From `date -u -d @…`: the last second of a leap day, the day after it, and the last day of a century.
        assert_eq!(time(951_868_799_000), "2000-02-29 23:59:59 UTC");
        assert_eq!(time(951_868_800_000), "2000-03-01 00:00:00 UTC");
        assert_eq!(time(1_795_543_331_999), "2026-11-24 18:02:11 UTC");
        assert_eq!(time(4_107_542_399_000), "2100-02-28 23:59:59 UTC");
        assert_eq!(time(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
        assert_eq!(time(0), "-");
    }

    #[test]
    fn durations_have_two_units_and_sizes_one() {
        let said = [999, 12_340, 185_000, 11_100_000, 180_000_000].map(duration);
        assert_eq!(said, ["999 ms", "12.3 s", "3 min 5 s", "3 h 5 min", "2 d 2 h"]);
        assert_eq!(
            [0, 1023, 1024, 13_000_000, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "12.4 MiB", "16.0 EiB"]
        );
    }

    #[test]
    fn a_duration_needs_a_number_and_a_unit() {
        assert_eq!(parse_duration("24h"), Ok(86_400_000));
        for wrong in ["", "24", "h", "0h", "1y", "-1h", "99999999999999999999d"] {
            assert!(parse_duration(wrong).is_err_and(|words| words.contains("24h")), "{wrong}");
        }
    }
}
