//! The first global adapter, common to all clients.
//!
//! `B = 0`, so that training starts at the base model. `A` must be the same everywhere: means of independently drawn
//! `A` shrink with the number of clients, and methods that freeze `A` are exact only over a common one. Each tensor is
//! drawn from a stream of its own name, so that adapting one more module changes no other.

mod pissa;

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, LoraFactors, ModuleName, ModuleSpec, Purpose, Seed, Side, Tensor, names,
};
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{
    AggregationError,
    low_rank::{self, Matrix},
};

/// First value of VeRA's `lambda_d` (arXiv 2310.11454, section 3.2).
const LAMBDA_D: f32 = 0.1;

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
/// Matrices of the head are drawn from `U(-1/sqrt(w), 1/sqrt(w))` with `w` the width of their input, as torch's linear layers
/// are; vectors of the head are 0. `frozen_weight` gives a module's `d_out x d_in` weight; only [`Init::Pissa`] asks.
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
    spec.validate()?;
    let mut modules = BTreeMap::new();
    for (name, module) in &spec.modules {
        let rng = seed.named(Purpose::Init, &names::factor(spec.kind, name, Side::A));
        let in_module = |source| AggregationError::InModule { module: name.clone(), source: Box::new(source) };
        let a = first_a(&spec, module, init, rng, || frozen_weight(name)).map_err(in_module)?;
        modules.insert(name.clone(), LoraFactors { a, b: Tensor::zeros(&spec.shape(module, Side::B)) });
    }
    let head = spec.head.iter().map(|(name, shape)| (name.clone(), head_tensor(seed, name, shape))).collect();
    Ok(Adapter::new(spec, modules, head)?)
}

fn first_a(
    spec: &AdapterSpec,
    module: &ModuleSpec,
    init: Init,
    mut rng: impl Rng,
    frozen_weight: impl FnOnce() -> Option<Tensor>,
) -> Result<Tensor, AggregationError> {
    let shape = spec.shape(module, Side::A);
    match (spec.kind, init) {
        (AdapterKind::Vera, Init::Default) => Ok(Tensor::from_fn(&shape, |_| LAMBDA_D)),
        (AdapterKind::Lora, Init::Default) => Ok(uniform(&shape, module.d_in, &mut rng)),
        (AdapterKind::Lora, Init::Orthonormal) => orthonormal_rows(spec.rank, module.d_in, &mut rng),
        (AdapterKind::Lora, Init::Pissa) => {
            let weight = frozen_weight().ok_or(AggregationError::MissingWeight)?;
            pissa::principal_rows(&weight, module, spec.rank, &mut rng)
        }
        (kind, Init::Orthonormal) => Err(AggregationError::UnsupportedInit { init: "orthonormal", kind }),
        (kind, Init::Pissa) => Err(AggregationError::UnsupportedInit { init: "pissa", kind }),
    }
}

fn head_tensor(seed: Seed, name: &str, shape: &[usize]) -> Tensor {
    match shape {
        [_, widths @ ..] if !widths.is_empty() => {
            uniform(shape, widths.iter().product(), &mut seed.named(Purpose::Init, &names::extra(name)))
        }
        _ => Tensor::zeros(shape),
    }
}

/// `U(-1/sqrt(width), 1/sqrt(width))`.
fn uniform(shape: &[usize], width: usize, rng: &mut impl Rng) -> Tensor {
    let bound = (width.max(1) as f64).sqrt().recip();
    Tensor::from_fn(shape, |_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32)
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
