//! What the processor says of itself; on Linux only, elsewhere it is not known.

use std::fs;

/// Its maker's name for it.
pub(super) fn model() -> Option<String> {
    field(&fs::read_to_string("/proc/cpuinfo").ok()?, "model name").map(ToOwned::to_owned)
}

/// The machine's memory.
pub(super) fn memory_bytes() -> Option<u64> {
    kibibytes(field(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")?)
}

/// The value of the first line `key : value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let values = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() == key);
    values.map(|(_, value)| value.trim()).find(|value| !value.is_empty())
}

/// A number of bytes, from `N kB`.
fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: A Chip @ 3: fast\n\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(field(text, "model name"), Some("A Chip @ 3: fast"));
        assert_eq!(field(text, "model"), None);
        assert_eq!(kibibytes("24576 kB"), Some(24576 * 1024));
        assert_eq!(kibibytes("24576 MB"), None);
    }
}
