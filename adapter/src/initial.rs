//! An adapter before any training, as PEFT has it.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, RngExt};

use crate::{
    Adapter, AdapterError, AdapterKind, AdapterSpec, LoraFactors, ModuleName, ModuleSpec, Purpose, Seed, Side, Tensor,
    codec::names, leading_qr, row_lengths,
};

/// First value of VeRA's `lambda_d` (arXiv 2310.11454, section 3.2).
const LAMBDA_D: f32 = 0.1;

impl Adapter {
    /// The adapter of a seed before any training: `B = 0`, so that training starts at the base model; `A` Kaiming
    /// uniform with `a = sqrt(5)`, that is `U(-1/sqrt(d_in), 1/sqrt(d_in))`; VeRA's `lambda_d = 0.1`, `lambda_b = 0`.
    ///
    /// Matrices of the head are drawn from `U(-1/sqrt(w), 1/sqrt(w))` with `w` the width of their input, as torch's
    /// linear layers are; vectors of the head are 0. Each tensor is drawn from a stream of its own name, so that
    /// adapting one more module changes no other.
    ///
    /// # Errors
    /// An unusable specification; [`AdapterError::NeedsWeights`] for a kind whose first values come from the frozen weights.
    pub fn initial(spec: Arc<AdapterSpec>, seed: Seed) -> Result<Self, AdapterError> {
        Self::initial_over(spec, seed, &|_| None)
    }

    /// The same where `frozen_weight` gives a module's `d_out x d_in` weight, for kinds that take something from it: OLoRA's
    /// factors are those of [`leading_qr`], DoRA's magnitudes the weight's [`row_lengths`]. Training starts at the base
    /// model here too.
    ///
    /// # Errors
    /// As [`Adapter::initial`]; a weight of another shape.
    pub fn initial_over(
        spec: Arc<AdapterSpec>,
        seed: Seed,
        frozen_weight: &dyn Fn(&ModuleName) -> Option<Tensor>,
    ) -> Result<Self, AdapterError> {
        spec.validate()?;
        let mut head: BTreeMap<_, _> =
            spec.head.iter().map(|(name, shape)| (name.clone(), head_tensor(seed, name, shape))).collect();
        let mut modules = BTreeMap::new();
        for (name, module) in &spec.modules {
            let weight = || frozen_weight(name).ok_or(AdapterError::NeedsWeights { kind: spec.kind.row().name });
            let factors = match spec.kind {
                AdapterKind::Olora => leading_qr(&weight()?, module, spec.rank)?,
                _ => LoraFactors {
                    a: first_a(&spec, name, module, seed),
                    b: Tensor::zeros(&spec.shape(module, Side::B)),
                },
            };
            modules.insert(name.clone(), factors);
            if spec.kind == AdapterKind::Dora {
                head.insert(names::magnitude(name), row_lengths(&weight()?, module)?);
            }
        }
        Self::new(spec, modules, head)
    }
}

fn first_a(spec: &AdapterSpec, name: &ModuleName, module: &ModuleSpec, seed: Seed) -> Tensor {
    let shape = spec.shape(module, Side::A);
    if spec.kind == AdapterKind::Vera {
        return Tensor::from_fn(&shape, |_| LAMBDA_D);
    }
    uniform(&shape, module.d_in, &mut seed.named(Purpose::Init, &names::factor(spec.kind, name, Side::A)))
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
