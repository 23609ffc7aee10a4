//! Values of tensors beside those of a reference.

/// Holds every value against the reference's, relative to its largest.
#[track_caller]
pub(crate) fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance * scale, "{what}[{index}]: {found}, expected {expected}");
    }
}
