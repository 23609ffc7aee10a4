//! The first global adapter, common to all clients.
//!
//! `B = 0`, so that training starts at the base model. `A` must be the same everywhere: means of independently drawn
//! `A` shrink with the number of clients, and methods that freeze `A` are exact only over a common one. Each tensor is
//! drawn from a stream of its own name, so that adapting one more module changes no other.

mod pissa;

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, ModuleName, ModuleSpec, Purpose, Seed, Side, Tensor, names};
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{
    AggregationError,
    low_rank::{self, Matrix},
};

/// How the first `A` is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// LoRA: Kaiming uniform with `a = sqrt(5)`, that is `U(-1/sqrt(d_in), 1/sqrt(d_in))`, as PEFT has it; rows have a
    /// length of about 0.58. VeRA: `lambda_d = 0.1`, `lambda_b = 0`.
    Default,
    /// Orthonormal rows, uniformly distributed.
    Orthonormal,
    /// The top `r` right singular vectors of the frozen weight, scaled by the roots of their singular values: `A` of
    /// `PiSSA` (arXiv 2404.02948, eq. 3). Departure: `B` stays 0 and the base unchanged, where the paper also takes `B`
    /// from the SVD and subtracts the product from the base, which would have to be shipped to every client.
    Pissa,
}

/// The first global adapter of a run.
///
/// Where nothing else is asked for, and for the head, [`Adapter::initial`]. `frozen_weight` gives a module's `d_out x d_in` weight; only [`Init::Pissa`] asks.
///
/// # Errors
/// An unusable specification; [`Init::Orthonormal`] or [`Init::Pissa`] for VeRA or for a rank above a module's width;
/// a frozen weight that is missing or misshapen.
pub fn initial(
    spec: Arc<AdapterSpec>,
    init: Init,
    seed: Seed,
    frozen_weight: &dyn Fn(&ModuleName) -> Option<Tensor>,
) -> Result<Adapter, AggregationError> {
    let adapter = Adapter::initial(spec, seed)?;
    if init == Init::Default {
        return Ok(adapter);
    }
    let (spec, mut modules, head) = adapter.into_parts();
    for (name, factors) in &mut modules {
        let rng = seed.named(Purpose::Init, &names::factor(spec.kind, name, Side::A));
        factors.a = first_a(&spec, &spec.modules[name], init, rng, || frozen_weight(name))
            .map_err(|error| error.in_module(name))?;
    }
    Ok(Adapter::new(spec, modules, head)?)
}

/// `A` of an initialisation that is not the default one.
fn first_a(
    spec: &AdapterSpec,
    module: &ModuleSpec,
    init: Init,
    mut rng: impl Rng,
    frozen_weight: impl FnOnce() -> Option<Tensor>,
) -> Result<Tensor, AggregationError> {
    match (spec.kind, init) {
        (AdapterKind::Lora, Init::Pissa) => {
            let weight = frozen_weight().ok_or(AggregationError::MissingWeight)?;
            pissa::principal_rows(&weight, module, spec.rank, &mut rng)
        }
        (AdapterKind::Lora, _) => orthonormal_rows(spec.rank, module.d_in, &mut rng),
        (kind, Init::Pissa) => Err(AggregationError::UnsupportedInit { init: "pissa", kind }),
        (kind, _) => Err(AggregationError::UnsupportedInit { init: "orthonormal", kind }),
    }
}

fn orthonormal_rows(rank: usize, width: usize, rng: &mut impl Rng) -> Result<Tensor, AggregationError> {
    refuse_wide(rank, width)?;
    // With the signs fixed Q is unique up to rounding, whichever algorithm finds it.
    let (mut q, _) = low_rank::thin_qr(gaussian(width, rank, rng));
    low_rank::fix_signs(&mut q);
    Ok(low_rank::to_tensor(&q)?)
}

fn refuse_wide(rank: usize, width: usize) -> Result<(), AggregationError> {
    if rank > width { Err(AggregationError::RankTooLarge { rank, width }) } else { Ok(()) }
}

fn gaussian(rows: usize, columns: usize, rng: &mut impl Rng) -> Matrix {
    Matrix::from_fn(rows, columns, |_, _| rng.sample(StandardNormal))
}
