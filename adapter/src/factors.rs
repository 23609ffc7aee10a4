//! The two factors of one adapted module.

use crate::{Side, Tensor};

/// Owned factors of one module; for VeRA the two vectors in the same roles, for LoRA-XS the two factors on the right.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraFactors {
    /// `r x d_in`; VeRA: `lambda_d`, `r`.
    pub a: Tensor,
    /// `d_out x r`; VeRA: `lambda_b`, `d_out`; LoRA-XS: `R`, `r x r`.
    pub b: Tensor,
}

impl LoraFactors {
    /// One factor.
    #[must_use]
    pub fn side(&self, side: Side) -> &Tensor {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// Lets go of the memory that looking at factors in a mapped file has cost.
    pub fn release(&self) {
        self.a.release();
        self.b.release();
    }

    /// Replaces one factor.
    pub fn set(&mut self, side: Side, tensor: Tensor) {
        match side {
            Side::A => self.a = tensor,
            Side::B => self.b = tensor,
        }
    }
}
