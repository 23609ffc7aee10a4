//! Images cut into patches.

/// The patches of square images `[count, channels, side, side]`, `patch` pixels high and wide, row by row from the top
/// left: each patch is one row of `channels · patch²` values, ordered as in the image, as the weight of a convolution
/// would be.
pub(super) fn patches(pixels: &[f32], channels: usize, side: usize, patch: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(pixels.len());
    for image in pixels.chunks_exact(channels * side * side) {
        for (top, left) in corners(side, patch) {
            for channel in 0..channels {
                for row in top..top + patch {
                    let start = (channel * side + row) * side + left;
                    values.extend_from_slice(&image[start..start + patch]);
                }
            }
        }
    }
    values
}

fn corners(side: usize, patch: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..side).step_by(patch).flat_map(move |top| (0..side).step_by(patch).map(move |left| (top, left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_go_row_by_row_and_keep_channels_apart() {
        let pixels: Vec<f32> = (0..32).map(|value| value as f32).collect();
        let rows = patches(&pixels, 2, 4, 2);
        assert_eq!(rows[..8], [0.0, 1.0, 4.0, 5.0, 16.0, 17.0, 20.0, 21.0]);
        assert_eq!(rows[8..16], [2.0, 3.0, 6.0, 7.0, 18.0, 19.0, 22.0, 23.0]);
        assert_eq!(rows[24..], [10.0, 11.0, 14.0, 15.0, 26.0, 27.0, 30.0, 31.0]);
    }
}
