//! What an adapter consists of: kind, rank, scaling, adapted modules and extra tensors.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{AdapterError, Digest, ModuleValues, Side, codec::names};

/// The layer that the two factors of a module belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterKind {
    /// `W0 + s·B·A` (LoRA, arXiv 2106.09685).
    Lora,
    /// `W0 + diag(lambda_b)·B_f·diag(lambda_d)·A_f` with frozen random `A_f`, `B_f` (VeRA, arXiv 2310.11454, eq. 2).
    Vera,
    /// LoRA over `W0 - s·B0·A0` in place of `W0`, where `B0`, `A0` are the first `r` columns of `Q` and rows of `R` of
    /// `W0`'s QR, and the first factors (OLoRA, arXiv 2406.01775). Every client finds the same ones in its own `W0`.
    Olora,
    /// `m·(W0 + s·B·A) / ‖W0 + s·B·A‖`, row by row, with the lengths held constant in the backward pass (DoRA,
    /// arXiv 2402.09353, eq. 5 and 11). The trained magnitudes `m` are extra tensors: they go where the head goes.
    Dora,
    /// `W0 + s·L·R·A`, where `A = Vᵀ`, `r x d_in`, and `L = U·S`, `d_out x r`, are the leading part of `W0`'s SVD and stay as
    /// they are; only `R`, `r x r`, is trained (LoRA-XS, arXiv 2405.17604, eq. 3). In the roles of the factors: `a` = `A`,
    /// a constant, and `b` = `R`. `L` is an extra tensor that is as constant: it travels with the adapter, and no
    /// update has it.
    LoraXs,
}

/// Name of an adapted module in the base model, with dots, as PEFT spells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModuleName(String);

impl ModuleName {
    /// A name as in the model's checkpoint, without the trailing `.weight`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Widths of an adapted linear module, and what its adapter has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModuleSpec {
    /// Width of its input.
    pub d_in: usize,
    /// Width of its output.
    pub d_out: usize,
    /// `r` of this module, where it is not the adapter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// `lora_alpha` of this module, where it is not the adapter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
}

impl ModuleSpec {
    /// A module with the adapter's rank and alpha.
    #[must_use]
    pub const fn new(d_in: usize, d_out: usize) -> Self {
        Self { d_in, d_out, rank: None, alpha: None }
    }
}

/// The extra, fully trained tensors (PEFT's `modules_to_save`): name and shape.
pub type HeadSpec = BTreeMap<String, Vec<usize>>;

/// Everything that decides an adapter's tensors and how they act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterSpec {
    /// The layer.
    pub kind: AdapterKind,
    /// `r`, at least 1.
    pub rank: usize,
    /// `lora_alpha`.
    pub alpha: f64,
    /// Scale by `alpha / sqrt(r)` instead of `alpha / r` (rsLoRA, arXiv 2312.03732).
    pub use_rslora: bool,
    /// Seed of VeRA's frozen projections; without meaning for LoRA.
    pub projection_seed: u64,
    /// Adapted modules.
    pub modules: BTreeMap<ModuleName, ModuleSpec>,
    /// Extra tensors, by name in the base model.
    pub head: HeadSpec,
}

impl AdapterSpec {
    /// `s` of `W0 + s·B·A` in modules without a rank or alpha of their own; 1 for VeRA, whose vectors carry the scale.
    #[must_use]
    pub fn scaling(&self) -> f64 {
        self.scaling_with(self.rank, self.alpha)
    }

    /// `s` of a module.
    #[must_use]
    pub fn scaling_of(&self, module: &ModuleSpec) -> f64 {
        self.scaling_with(self.rank_of(module), module.alpha.unwrap_or(self.alpha))
    }

    fn scaling_with(&self, rank: usize, alpha: f64) -> f64 {
        match self.kind {
            AdapterKind::Vera => 1.0,
            _ if self.use_rslora => alpha / (rank as f64).sqrt(),
            _ => alpha / rank as f64,
        }
    }

    /// `r` of a module.
    #[must_use]
    pub fn rank_of(&self, module: &ModuleSpec) -> usize {
        module.rank.unwrap_or(self.rank)
    }

    /// The same specification with ranks and alphas of single modules, as PEFT's `rank_pattern` and `alpha_pattern` mean them.
    /// Where they are the adapter's own nothing changes, its digest included.
    ///
    /// # Errors
    /// A pattern that matches no module, is no expression, or leaves open which of two values counts.
    pub fn with_patterns(
        mut self,
        ranks: &ModuleValues<usize>,
        alphas: &ModuleValues<f64>,
    ) -> Result<Self, AdapterError> {
        let names: Vec<ModuleName> = self.modules.keys().cloned().collect();
        let (ranks, alphas) = (ranks.of("rank_pattern", names.iter())?, alphas.of("alpha_pattern", names.iter())?);
        for (name, module) in &mut self.modules {
            module.rank = ranks.get(name).copied().filter(|rank| *rank != self.rank);
            module.alpha = alphas.get(name).copied().filter(|alpha| alpha.to_bits() != self.alpha.to_bits());
        }
        Ok(self)
    }

    /// Shape of one factor of a module: `[r, d_in]`, `[d_out, r]`; for VeRA `[r]`, `[d_out]`; LoRA-XS has `[r, r]` for `B`.
    #[must_use]
    pub fn shape(&self, module: &ModuleSpec, side: Side) -> Vec<usize> {
        let rank = self.rank_of(module);
        match (self.kind, side) {
            (AdapterKind::Vera, Side::A) => vec![rank],
            (AdapterKind::Vera, Side::B) => vec![module.d_out],
            (AdapterKind::LoraXs, Side::B) => vec![rank, rank],
            (_, Side::A) => vec![rank, module.d_in],
            (_, Side::B) => vec![module.d_out, rank],
        }
    }

    /// The same specification with the extra tensors that its kind needs: DoRA's magnitudes, LoRA-XS's `L`.
    #[must_use]
    pub fn with_extras(mut self) -> Self {
        self.head.extend(self.extras());
        self
    }

    /// The extra tensors of all modules.
    fn extras(&self) -> HeadSpec {
        let of = |(name, module): (&ModuleName, &ModuleSpec)| match self.kind {
            AdapterKind::Dora => Some((names::magnitude(name), vec![module.d_out])),
            AdapterKind::LoraXs => Some((names::left(name), vec![module.d_out, self.rank_of(module)])),
            AdapterKind::Lora | AdapterKind::Vera | AdapterKind::Olora => None,
        };
        self.modules.iter().filter_map(of).collect()
    }

    /// The extra tensors that belong to no module: the model's classification head.
    #[must_use]
    pub fn classifier(&self) -> HeadSpec {
        let own = self.head.iter().filter(|(name, _)| !self.is_magnitude(name) && !self.is_constant(name));
        own.map(|(name, shape)| (name.clone(), shape.clone())).collect()
    }

    /// Whether an extra tensor is the magnitude of a module of DoRA.
    #[must_use]
    pub fn is_magnitude(&self, extra: &str) -> bool {
        self.kind == AdapterKind::Dora && names::is_magnitude(extra)
    }

    /// Whether an extra tensor is the `L` of a module of LoRA-XS, which nobody trains or sends, whatever becomes of the head.
    #[must_use]
    pub fn is_constant(&self, extra: &str) -> bool {
        self.kind == AdapterKind::LoraXs && names::is_left(extra)
    }

    /// The extra tensors that a directive decides about: all but the constant ones.
    pub fn trainable_head(&self) -> impl Iterator<Item = (&String, &Vec<usize>)> {
        self.head.iter().filter(|(name, _)| !self.is_constant(name))
    }

    /// Checks that the specification describes a usable adapter.
    ///
    /// # Errors
    /// [`AdapterError::Spec`] for rank 0, a non-positive alpha, no modules, an empty width, two tensors of one name, or
    /// more values than memory can hold.
    pub fn validate(&self) -> Result<(), AdapterError> {
        if self.rank == 0 || self.modules.values().any(|module| module.rank == Some(0)) {
            return Err(AdapterError::Spec("a rank r is 0"));
        }
        let alphas = self.modules.values().filter_map(|module| module.alpha);
        if alphas.chain([self.alpha]).any(|alpha| !(alpha.is_finite() && alpha > 0.0)) {
            return Err(AdapterError::Spec("a lora_alpha is not a positive number"));
        }
        let has_own = |module: &ModuleSpec| module.rank.is_some() || module.alpha.is_some();
        if self.kind == AdapterKind::Vera && self.modules.values().any(has_own) {
            return Err(AdapterError::Spec(
                "VeRA's modules share their projections: none has a rank or alpha of its own",
            ));
        }
        if self.modules.is_empty() {
            return Err(AdapterError::Spec("no module is adapted: target_modules matched nothing"));
        }
        if self.modules.values().any(|module| module.d_in == 0 || module.d_out == 0) {
            return Err(AdapterError::Spec("a module has width 0"));
        }
        let is_decomposed = matches!(self.kind, AdapterKind::Olora | AdapterKind::LoraXs);
        if is_decomposed && self.modules.values().any(|m| self.rank_of(m) > m.d_in.min(m.d_out)) {
            return Err(AdapterError::Spec("the rank r is above a module's width: its QR or SVD has no such columns"));
        }
        self.check_extras()?;
        let sides = [Side::A, Side::B];
        let mut factors = self.modules.keys().flat_map(|name| sides.map(|side| names::factor(self.kind, name, side)));
        if factors.any(|factor| factor.strip_prefix(names::PREFIX).is_some_and(|name| self.head.contains_key(name))) {
            return Err(AdapterError::Spec("a head tensor has the name of a factor"));
        }
        // Sizes come from configurations and from peers: later products of them must not overflow.
        let bytes = self.values().and_then(|values| values.checked_mul(size_of::<f32>()));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(AdapterError::Spec("its tensors are larger than memory can be"));
        }
        Ok(())
    }

    /// DoRA has one magnitude for each output of each module, LoRA-XS one `L` for each module, and no others.
    fn check_extras(&self) -> Result<(), AdapterError> {
        let extras = self.extras();
        let count = self.head.keys().filter(|name| self.is_magnitude(name) || self.is_constant(name)).count();
        if count == extras.len() && extras.iter().all(|(name, shape)| self.head.get(name) == Some(shape)) {
            return Ok(());
        }
        Err(AdapterError::Spec(match self.kind {
            AdapterKind::LoraXs => "LoRA-XS needs a lora_B.weight [d_out, r] for every module, and for nothing else",
            _ => "DoRA needs a magnitude [d_out] for every module, and for nothing else",
        }))
    }

    /// Number of values of all tensors, VeRA's projections included; `None` where it overflows.
    fn values(&self) -> Option<usize> {
        let sides = [Side::A, Side::B];
        let factors = self.modules.values().flat_map(|module| sides.map(|side| self.shape(module, side)));
        let projected = |module: &ModuleSpec| vec![self.rank, module.d_in.max(module.d_out), 2];
        let projections = self.modules.values().filter(|_| self.kind == AdapterKind::Vera).map(projected);
        let mut shapes = factors.chain(projections).chain(self.head.values().cloned());
        shapes.try_fold(0, |sum: usize, shape| sum.checked_add(product(&shape)?))
    }

    /// Identity of the specification; messages carry it so that factors of another adapter are refused.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // Unwrap safety: plain structs with string keys always serialise.
        let json = serde_json::to_vec(self).unwrap_or_default();
        Digest::of(&json)
    }
}

/// Number of values of a shape; `None` where it overflows.
pub(crate) fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1, |product: usize, &size| product.checked_mul(size))
}
