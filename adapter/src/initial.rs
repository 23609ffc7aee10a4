//! An adapter before any training, as PEFT has it.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, RngExt};

use crate::{Adapter, AdapterError, AdapterKind, AdapterSpec, LoraFactors, Purpose, Seed, Side, Tensor, codec::names};

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
    /// An unusable specification.
    pub fn initial(spec: Arc<AdapterSpec>, seed: Seed) -> Result<Self, AdapterError> {
        spec.validate()?;
        let mut modules = BTreeMap::new();
        for (name, module) in &spec.modules {
            let shape = spec.shape(module, Side::A);
            let mut rng = seed.named(Purpose::Init, &names::factor(spec.kind, name, Side::A));
            let a = match spec.kind {
                AdapterKind::Vera => Tensor::from_fn(&shape, |_| LAMBDA_D),
                AdapterKind::Lora => uniform(&shape, module.d_in, &mut rng),
            };
            modules.insert(name.clone(), LoraFactors { a, b: Tensor::zeros(&spec.shape(module, Side::B)) });
        }
        let head = spec.head.iter().map(|(name, shape)| (name.clone(), head_tensor(seed, name, shape))).collect();
        Self::new(spec, modules, head)
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
