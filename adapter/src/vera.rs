//! VeRA's frozen random projections, the same on every client because they come from a seed.

use rand::RngExt;

use crate::{AdapterSpec, Digest, ModuleSpec, Purpose, Seed, Tensor};

/// `A_f` and `B_f`, shared by all modules: a module uses the first columns of `A_f` and the first rows of `B_f`.
#[derive(Debug, Clone, PartialEq)]
pub struct VeraProjections {
    /// `r x max(d_in)`.
    pub a: Tensor,
    /// `max(d_out) x r`.
    pub b: Tensor,
}

impl VeraProjections {
    /// The projections of a specification: Kaiming uniform with gain `sqrt(2)`, as in PEFT, from its projection seed.
    #[must_use]
    pub fn new(spec: &AdapterSpec) -> Self {
        let d_in = spec.modules.values().map(|module| module.d_in).max().unwrap_or(0);
        let d_out = spec.modules.values().map(|module| module.d_out).max().unwrap_or(0);
        let mut rng = Seed(spec.projection_seed).run(Purpose::Projection);
        let mut uniform = |rows: usize, columns: usize| {
            let bound = (6.0 / columns as f32).sqrt();
            Tensor::from_fn(&[rows, columns], |_| (2.0 * rng.random::<f32>() - 1.0) * bound)
        };
        Self { a: uniform(spec.rank, d_in), b: uniform(d_out, spec.rank) }
    }

    /// The part of the projections that a module of the given widths uses: `r x d_in` and `d_out x r`.
    #[must_use]
    pub fn slice(&self, module: &ModuleSpec) -> (Tensor, Tensor) {
        let (rank, width) = (self.a.as_ref().rows(), self.a.as_ref().columns());
        let a = Tensor::from_fn(&[rank, module.d_in], |index| {
            self.a.values()[index / module.d_in * width + index % module.d_in]
        });
        let b = Tensor::from_fn(&[module.d_out, rank], |index| self.b.values()[index]);
        (a, b)
    }

    /// Digest of the values, to compare machines.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(bytemuck::cast_slice(&[self.a.values(), self.b.values()].concat()))
    }
}
