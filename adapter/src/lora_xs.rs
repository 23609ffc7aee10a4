//! LoRA-XS for those who know plain LoRA only: `L·R` is a `B` like any other.

use std::{borrow::Cow, sync::Arc};

use crate::{Adapter, AdapterError, AdapterKind, AdapterSpec, LoraFactors, ModuleName, Tensor, codec::names};

impl AdapterSpec {
    /// The specification of [`Adapter::folded`].
    #[must_use]
    pub fn folded(&self) -> Self {
        match self.kind {
            AdapterKind::LoraXs => Self { kind: AdapterKind::Lora, head: self.classifier(), ..self.clone() },
            AdapterKind::Lora | AdapterKind::Vera | AdapterKind::Olora | AdapterKind::Dora => self.clone(),
        }
    }
}

impl Adapter {
    /// The plain LoRA that computes what a LoRA-XS adapter does: its `B` is `L·R`, summed in f64. Others are what they are.
    ///
    /// # Errors
    /// A product that is not finite.
    pub fn folded(&self) -> Result<Cow<'_, Self>, AdapterError> {
        if self.spec().kind != AdapterKind::LoraXs {
            return Ok(Cow::Borrowed(self));
        }
        let spec = Arc::new(self.spec().folded());
        let factors = |(name, factors): (&ModuleName, &LoraFactors)| {
            let left = &self.head()[&names::left(name)];
            (name.clone(), LoraFactors { a: factors.a.clone(), b: product(left, &factors.b) })
        };
        let head = self.head().iter().filter(|(name, _)| spec.head.contains_key(*name));
        let head = head.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        Self::new(spec, self.modules().iter().map(factors).collect(), head).map(Cow::Owned)
    }
}

/// `X·Y` of an `n x r` and an `r x m` matrix.
fn product(left: &Tensor, right: &Tensor) -> Tensor {
    let (rows, inner, columns) = (left.as_ref().rows(), left.as_ref().columns(), right.as_ref().columns());
    Tensor::from_fn(&[rows, columns], |index| {
        let terms = (0..inner).map(|k| {
            let x = left.values()[index / columns * inner + k];
            f64::from(x) * f64::from(right.values()[k * columns + index % columns])
        });
        terms.sum::<f64>() as f32
    })
}
