//! Leading singular directions of a large frozen weight, by randomised block power iteration.
//!
//! "Finding Structure with Randomness" (arXiv 0909.4061), algorithm 4.4, run on the right side: the block is somewhat wider
//! than the rank and is made orthonormal after every multiplication. `W0` is only ever multiplied with blocks. The block
//! that it starts from is always the same, and sums are in f64 in a fixed order.

use rand::RngExt;

use super::{check_shape, direction, dot};
use crate::{AdapterError, LoraFactors, ModuleSpec, Purpose, Seed, Tensor};

/// Columns of the block beyond the rank.
const OVERSAMPLING: usize = 8;
/// Multiplications by `W0ᵀ W0`; each multiplies the weight of direction `i` by the square of its singular value.
const ITERATIONS: usize = 24;
/// Sweeps of rotations after which none is left to do; convergence is quadratic and takes about six.
const MAX_SWEEPS: usize = 60;
/// A column of a block counts as one that depends on those before it below this share of its own length. Columns are in
/// f64, and what a multiplication leaves of a direction may honestly be as small as the ratio of singular values.
const DEPENDENT: f64 = 1e-13;

/// A matrix by its columns.
type Columns = Vec<Vec<f64>>;

/// `A = V_rᵀ`, `r x d_in`, and `B = U_r·S_r`, `d_out x r`, of the truncated SVD `U S Vᵀ` of a frozen weight `W0`: the constants
/// of LoRA-XS (arXiv 2405.17604, section 3).
///
/// Of each row of `A` the entry of largest magnitude is positive. A direction that `W0` does not have is 0 in both. Where
/// singular values are close together the directions are some of those that span the same space, as with every
/// algorithm of this kind; `B = W0·Aᵀ` holds to rounding whatever they are.
///
/// # Errors
/// A weight of another shape than the module.
pub fn leading_svd(weight: &Tensor, module: &ModuleSpec, rank: usize) -> Result<LoraFactors, AdapterError> {
    check_shape(weight, module)?;
    let ModuleSpec { d_in, d_out, .. } = *module;
    let narrow = d_in.min(d_out);
    let rank = rank.min(narrow);
    let mut right = orthonormal(start(d_in, (rank + OVERSAMPLING).min(narrow)));
    for _ in 0..ITERATIONS {
        let left = orthonormal(times(weight.values(), &right));
        right = orthonormal(transposed_times(weight.values(), d_in, &left));
    }
    let mut left = times(weight.values(), &right);
    diagonalise(&mut left, &mut right);
    let lengths: Vec<f64> = left.iter().map(|column| dot(column, column)).collect();
    let mut order: Vec<usize> = (0..left.len()).collect();
    order.sort_by(|&first, &second| lengths[second].total_cmp(&lengths[first]));
    let signs: Vec<f64> = right.iter().map(|column| sign(column)).collect();
    let value = |columns: &Columns, k: usize, row: usize| (signs[order[k]] * columns[order[k]][row]) as f32;
    Ok(LoraFactors {
        a: Tensor::from_fn(&[rank, d_in], |index| value(&right, index / d_in, index % d_in)),
        b: Tensor::from_fn(&[d_out, rank], |index| value(&left, index % rank.max(1), index / rank.max(1))),
    })
}

/// Columns that favour no direction.
fn start(rows: usize, columns: usize) -> Columns {
    let mut rng = Seed(0).named(Purpose::Projection, "singular directions");
    (0..columns).map(|_| (0..rows).map(|_| 2.0 * rng.random::<f64>() - 1.0).collect()).collect()
}

fn orthonormal(columns: Columns) -> Columns {
    let mut basis = Columns::with_capacity(columns.len());
    for column in columns {
        let column = direction(column, &basis, DEPENDENT);
        basis.push(column);
    }
    basis
}

/// `W·X` for `W` of as many columns as `X` has rows.
fn times(weight: &[f32], block: &Columns) -> Columns {
    let (width, d_in) = (block.len(), block.first().map_or(1, Vec::len));
    // Row by row, so that the innermost loop runs over neighbours.
    let rows: Vec<f64> = (0..d_in * width).map(|index| block[index % width][index / width]).collect();
    let mut product = vec![Vec::with_capacity(weight.len() / d_in); width];
    for weights in weight.chunks_exact(d_in) {
        let mut sums = vec![0.0; width];
        for (&value, row) in weights.iter().zip(rows.chunks_exact(width)) {
            add(&mut sums, row, f64::from(value));
        }
        product.iter_mut().zip(sums).for_each(|(column, sum)| column.push(sum));
    }
    product
}

/// `Wᵀ·Y` for `W` of `d_in` columns and as many rows as `Y`.
fn transposed_times(weight: &[f32], d_in: usize, block: &Columns) -> Columns {
    let width = block.len();
    let mut sums = vec![0.0; d_in * width];
    for (row, weights) in weight.chunks_exact(d_in).enumerate() {
        let own: Vec<f64> = block.iter().map(|column| column[row]).collect();
        for (&value, sums) in weights.iter().zip(sums.chunks_exact_mut(width)) {
            add(sums, &own, f64::from(value));
        }
    }
    (0..width).map(|column| sums.iter().skip(column).step_by(width).copied().collect()).collect()
}

fn add(sums: &mut [f64], values: &[f64], factor: f64) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
}

/// Rotates the columns of both matrices alike until those of `left` are orthogonal: one-sided Jacobi (Hestenes 1958).
fn diagonalise(left: &mut Columns, right: &mut Columns) {
    for _ in 0..MAX_SWEEPS {
        let mut is_oblique = false;
        let count = left.len();
        for (first, second) in (0..count).flat_map(|first| (first + 1..count).map(move |second| (first, second))) {
            let (p, q) = (&left[first], &left[second]);
            let (alpha, beta, gamma) = (dot(p, p), dot(q, q), dot(p, q));
            if gamma.abs() <= f64::EPSILON * (alpha * beta).sqrt() || gamma.abs() < f64::MIN_POSITIVE {
                continue;
            }
            is_oblique = true;
            let zeta = (beta - alpha) / (2.0 * gamma);
            let tangent = zeta.signum() / (zeta.abs() + (zeta * zeta + 1.0).sqrt());
            let cosine = (tangent * tangent + 1.0).sqrt().recip();
            for columns in [&mut *left, &mut *right] {
                rotate(columns, (first, second), cosine, cosine * tangent);
            }
        }
        if !is_oblique {
            break;
        }
    }
}

/// Columns `(p, q)` become `(c p - s q, s p + c q)`.
fn rotate(columns: &mut Columns, (first, second): (usize, usize), cosine: f64, sine: f64) {
    let (before, after) = columns.split_at_mut(second);
    for (p, q) in before[first].iter_mut().zip(&mut after[0]) {
        (*p, *q) = (cosine * *p - sine * *q, sine * *p + cosine * *q);
    }
}

/// The sign of the entry of largest magnitude, of which the first counts.
fn sign(column: &[f64]) -> f64 {
    let largest = column.iter().fold(0.0_f64, |best, &x| if x.abs() > best.abs() { x } else { best });
    if largest < 0.0 { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPSILON: f64 = f32::EPSILON as f64;

    /// `sum s_k u_k v_kᵀ` with cosines of whole waves, which are orthonormal up to a factor, as `u` and `v`.
    fn waves(d_out: usize, d_in: usize, singular: &[f64]) -> Tensor {
        let wave = |k: usize, index: usize, length: usize| {
            let angle = std::f64::consts::PI * (k as f64 + 1.0) * (index as f64 + 0.5) / length as f64;
            angle.cos() * (2.0 / length as f64).sqrt()
        };
        Tensor::from_fn(&[d_out, d_in], |index| {
            let terms = singular.iter().enumerate();
            terms.map(|(k, s)| s * wave(k, index / d_in, d_out) * wave(k, index % d_in, d_in)).sum::<f64>() as f32
        })
    }

    fn column(tensor: &Tensor, k: usize) -> Vec<f64> {
        let columns = tensor.shape()[1];
        tensor.values().iter().skip(k).step_by(columns).map(|&value| f64::from(value)).collect()
    }

    #[test]
    fn known_directions_are_found_in_order_with_their_values_and_signs() {
        let singular = [9.0, 4.0, 3.9, 2.0, 1.0, 0.5];
        for (d_out, d_in) in [(20, 33), (33, 20)] {
            let module = ModuleSpec::new(d_in, d_out);
            let LoraFactors { a, b } = leading_svd(&waves(d_out, d_in, &singular), &module, 4).unwrap();
            let rows: Vec<Vec<f64>> =
                a.values().chunks(d_in).map(|row| row.iter().copied().map(f64::from).collect()).collect();
            for (k, row) in rows.iter().enumerate() {
                let left = column(&b, k);
                assert!((dot(&left, &left).sqrt() - singular[k]).abs() < 32.0 * EPSILON * singular[0]);
                // Waves have their largest size at both ends; rounding says which of them is the larger.
                let (lowest, highest) =
                    row.iter().fold((0.0_f64, 0.0_f64), |(low, high), &x| (low.min(x), high.max(x)));
                assert!(highest >= -lowest - EPSILON);
                for (other, vector) in rows.iter().enumerate() {
                    assert!((dot(row, vector) - f64::from(u8::from(k == other))).abs() < 8.0 * EPSILON);
                }
                let wave =
                    |index: usize| (std::f64::consts::PI * (k as f64 + 1.0) * (index as f64 + 0.5) / d_in as f64).cos();
                let known: Vec<f64> = (0..d_in).map(|index| wave(index) * (2.0 / d_in as f64).sqrt()).collect();
                // The closest two values are 0.1 apart: rounding of the weight, of size 9, turns directions by 90 of it.
                assert!((dot(row, &known).abs() - 1.0).abs() < 100.0 * EPSILON);
            }
        }
    }

    #[test]
    fn the_left_constant_is_the_weight_times_the_right_one() {
        let weight = Tensor::from_fn(&[11, 6], |index| (0.37 * (index * index) as f32 + 0.3).sin());
        let LoraFactors { a, b } = leading_svd(&weight, &ModuleSpec::new(6, 11), 3).unwrap();
        for (index, &found) in b.values().iter().enumerate() {
            let (row, k) = (index / 3, index % 3);
            let product: f64 =
                (0..6).map(|j| f64::from(weight.values()[row * 6 + j]) * f64::from(a.values()[k * 6 + j])).sum();
            assert!((product - f64::from(found)).abs() < 8.0 * EPSILON);
        }
    }

    #[test]
    fn a_direction_that_the_weight_lacks_is_nothing() {
        let weight = waves(9, 7, &[2.0]);
        let LoraFactors { b, .. } = leading_svd(&weight, &ModuleSpec::new(7, 9), 3).unwrap();
        // The rounding of the weight has directions of its own.
        assert!((1..3).all(|k| column(&b, k).iter().all(|value| value.abs() < 2.0 * EPSILON)));
        let nothing = leading_svd(&Tensor::zeros(&[9, 7]), &ModuleSpec::new(7, 9), 3).unwrap();
        assert!(nothing.a.values().iter().chain(nothing.b.values()).all(|&value| value == 0.0));
        leading_svd(&weight, &ModuleSpec::new(9, 7), 3).unwrap_err();
    }
}
