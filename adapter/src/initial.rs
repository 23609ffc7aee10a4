//! An adapter before any training, as PEFT has it.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, RngExt};

use crate::{
    Adapter, AdapterError, AdapterKind, AdapterSpec, LoraFactors, ModuleName, ModuleSpec, Purpose, Seed, Side, Tensor,
    codec::names, leading_qr, leading_svd, row_lengths,
};

/// Values of the first adapter's tensors by their names in files, row-major, as taken from the frozen weights.
pub type FirstValues = BTreeMap<String, Vec<f32>>;

/// First value of VeRA's `lambda_d` (arXiv 2310.11454, section 3.2).
const LAMBDA_D: f32 = 0.1;

impl Adapter {
    /// The adapter of a seed before any training: `B = 0`, so that training starts at the base model; `A` Kaiming
    /// uniform with `a = sqrt(5)`, that is `U(-1/sqrt(d_in), 1/sqrt(d_in))`; VeRA's `lambda_d = 0.1`, `lambda_b = 0`. LoRA-XS's
    /// `R` is 0, where its paper draws it with deviation 1e-5: its gradient is not 0 there, and the start is the base.
    ///
    /// Matrices of the head are drawn from `U(-1/sqrt(w), 1/sqrt(w))` with `w` the width of their input, as torch's
    /// linear layers are; vectors of the head are 0. Each tensor is drawn from a stream of its own name, so that
    /// adapting one more module changes no other.
    ///
    /// # Errors
    /// An unusable specification; [`AdapterError::NeedsWeights`] for a kind whose first values come from the frozen weights.
    pub fn initial(spec: Arc<AdapterSpec>, seed: Seed) -> Result<Self, AdapterError> {
        Self::initial_from(spec, seed, &FirstValues::new())
    }

    /// The same where `frozen_weight` gives a module's `d_out x d_in` weight, for kinds that take something from it.
    ///
    /// # Errors
    /// As [`Adapter::initial`] and [`AdapterSpec::first_values`].
    pub fn initial_over(
        spec: Arc<AdapterSpec>,
        seed: Seed,
        frozen_weight: &dyn Fn(&ModuleName) -> Option<Tensor>,
    ) -> Result<Self, AdapterError> {
        let first = spec.first_values(frozen_weight)?;
        Self::initial_from(spec, seed, &first)
    }

    /// The same from what somebody with the frozen weights has taken from them.
    ///
    /// # Errors
    /// As [`Adapter::initial`]; values that do not fill their tensors, or are not finite.
    pub fn initial_from(spec: Arc<AdapterSpec>, seed: Seed, first: &FirstValues) -> Result<Self, AdapterError> {
        spec.validate()?;
        let taken = |name: &str, shape: &[usize]| {
            let values = first.get(name).ok_or(AdapterError::NeedsWeights { kind: spec.kind.row().name })?;
            Tensor::new(shape.to_vec(), values.clone())
        };
        let mut modules = BTreeMap::new();
        for (name, module) in &spec.modules {
            let [a, b] = [Side::A, Side::B].map(|side| spec.shape(module, side));
            let file_name = |side| names::factor(spec.kind, name, side);
            let factors = match spec.kind {
                AdapterKind::Olora => {
                    LoraFactors { a: taken(&file_name(Side::A), &a)?, b: taken(&file_name(Side::B), &b)? }
                }
                AdapterKind::LoraXs => LoraFactors { a: taken(&file_name(Side::A), &a)?, b: Tensor::zeros(&b) },
                _ => LoraFactors { a: first_a(&spec, name, module, seed), b: Tensor::zeros(&b) },
            };
            modules.insert(name.clone(), factors);
        }
        let mut head = BTreeMap::new();
        for (name, shape) in &spec.head {
            let is_taken = spec.is_magnitude(name) || spec.is_constant(name);
            let tensor = if is_taken { taken(&names::extra(name), shape)? } else { head_tensor(seed, name, shape) };
            head.insert(name.clone(), tensor);
        }
        Self::new(spec, modules, head)
    }
}

impl AdapterSpec {
    /// What the first adapter takes from the frozen weights: OLoRA's factors are those of [`leading_qr`], LoRA-XS's constants
    /// those of [`leading_svd`], DoRA's magnitudes the weight's [`row_lengths`], so that training starts at the base
    /// model; other kinds take nothing.
    ///
    /// # Errors
    /// A weight that is not there or has another shape.
    pub fn first_values(
        &self,
        frozen_weight: &dyn Fn(&ModuleName) -> Option<Tensor>,
    ) -> Result<FirstValues, AdapterError> {
        let mut first = FirstValues::new();
        for (name, module) in &self.modules {
            let weight = || frozen_weight(name).ok_or(AdapterError::NeedsWeights { kind: self.kind.row().name });
            match self.kind {
                AdapterKind::Lora | AdapterKind::Vera => {}
                AdapterKind::Olora => {
                    let LoraFactors { a, b } = leading_qr(&weight()?, module, self.rank_of(module))?;
                    first.insert(names::factor(self.kind, name, Side::A), a.values().to_vec());
                    first.insert(names::factor(self.kind, name, Side::B), b.values().to_vec());
                }
                AdapterKind::LoraXs => {
                    let LoraFactors { a, b: left } = leading_svd(&weight()?, module, self.rank_of(module))?;
                    first.insert(names::factor(self.kind, name, Side::A), a.values().to_vec());
                    first.insert(names::extra(&names::left(name)), left.values().to_vec());
                }
                AdapterKind::Dora => {
                    let magnitudes = row_lengths(&weight()?, module)?;
                    first.insert(names::extra(&names::magnitude(name)), magnitudes.values().to_vec());
                }
            }
        }
        Ok(first)
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
