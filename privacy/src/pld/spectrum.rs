//! Products of characteristic functions: what composition is after a Fourier transform.

use std::{f64::consts::TAU, sync::Arc};

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};

/// Below this a coefficient is 0: all of them together change no mass by more than this.
const NEGLIGIBLE: f64 = 1e-25;
/// A logarithm below that of [`NEGLIGIBLE`].
const LOG_NOTHING: f64 = -58.0;

/// The transform of a distribution of sums, modulo a length.
pub(crate) struct Spectrum {
    length: usize,
    /// The lowest frequencies; the product is negligible at the others, and can only fall.
    coefficients: Vec<Complex<f64>>,
    forward: Arc<dyn RealToComplex<f64>>,
    backward: Arc<dyn ComplexToReal<f64>>,
}

impl Spectrum {
    /// Of no step at all: all mass at 0.
    pub(crate) fn new(length: usize, planner: &mut RealFftPlanner<f64>) -> Self {
        let (forward, backward) = (planner.plan_fft_forward(length), planner.plan_fft_inverse(length));
        Self { length, coefficients: vec![Complex::new(1.0, 0.0); length / 2 + 1], forward, backward }
    }

    /// Composes `steps` steps of one distribution, given as indices and masses that add up to 1.
    pub(crate) fn multiply(&mut self, atoms: &[(f64, f64)], steps: f64) {
        // Some 8 operations per point of a transform and bit of its length, some 4 per atom and frequency.
        let transform = 2.0 * self.length as f64 * (self.length as f64).log2();
        let factors = if (atoms.len() * self.coefficients.len()) as f64 <= transform {
            self.direct(atoms)
        } else {
            self.transform(atoms)
        };
        for (coefficient, factor) in self.coefficients.iter_mut().zip(factors) {
            *coefficient *= power(factor, steps);
        }
        let last = self.coefficients.iter().rposition(|coefficient| coefficient.norm() > NEGLIGIBLE);
        self.coefficients.truncate(last.unwrap_or(0) + 1);
    }

    /// The lowest frequencies one by one.
    fn direct(&self, atoms: &[(f64, f64)]) -> Vec<Complex<f64>> {
        let length = self.length as f64;
        let mut sums = vec![Complex::new(0.0, 0.0); self.coefficients.len()];
        for &(index, mass) in atoms {
            let rotation = Complex::from_polar(1.0, -TAU * (index.rem_euclid(length) / length));
            let mut term = Complex::new(mass, 0.0);
            for sum in &mut sums {
                *sum += term;
                term *= rotation;
            }
        }
        sums
    }

    /// All frequencies at once.
    fn transform(&self, atoms: &[(f64, f64)]) -> Vec<Complex<f64>> {
        let mut masses = self.forward.make_input_vec();
        for &(index, mass) in atoms {
            masses[index.rem_euclid(self.length as f64) as usize] += mass;
        }
        let mut frequencies = self.forward.make_output_vec();
        // Unwrap safety: both buffers were made by the plan, so their lengths are right.
        self.forward.process(&mut masses, &mut frequencies).unwrap();
        frequencies
    }

    /// The masses of sums, each at its index modulo the length.
    pub(crate) fn into_masses(self) -> Vec<f64> {
        let mut frequencies = self.backward.make_input_vec();
        frequencies[..self.coefficients.len()].copy_from_slice(&self.coefficients);
        // Real by definition; rounding must not say otherwise.
        frequencies[0].im = 0.0;
        if self.length.is_multiple_of(2) {
            frequencies[self.length / 2].im = 0.0;
        }
        let mut masses = self.backward.make_output_vec();
        // Unwrap safety: the lengths are the plan's and the outer frequencies are real.
        self.backward.process(&mut frequencies, &mut masses).unwrap();
        for mass in &mut masses {
            *mass /= self.length as f64;
        }
        masses
    }
}

/// A whole power; by the logarithm where the exponent is beyond an integer's range.
fn power(base: Complex<f64>, exponent: f64) -> Complex<f64> {
    // Most coefficients of many steps are nothing, and a logarithm costs less than their power.
    if 0.5 * exponent * base.norm_sqr().ln() < LOG_NOTHING {
        Complex::new(0.0, 0.0)
    } else if exponent <= f64::from(u32::MAX) {
        base.powu(exponent as u32)
    } else {
        base.powf(exponent)
    }
}
