//! Between messages and the types of [`fedlora_adapter`], both ways, in this one place.

mod hyperparameters;
mod spec;

use fedlora_adapter::{Digest, Directive, Factors, HeadPolicy, RoundId, RoundPlan};
use prost::bytes::Bytes;

use crate::{ProtoError, federation as wire};

/// A digest from a message.
///
/// # Errors
/// Any length but 32 bytes; `field` names the place.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, ProtoError> {
    let array = bytes.try_into().map_err(|_| ProtoError::DigestLength { field, found: bytes.len() })?;
    Ok(Digest::from_bytes(array))
}

/// A digest for a message.
#[must_use]
pub fn digest_bytes(digest: Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

/// A field that must be there.
fn required<T>(message: &'static str, field: &'static str, value: Option<T>) -> Result<T, ProtoError> {
    value.ok_or(ProtoError::Missing { message, field })
}

/// A count that must fit the machine.
fn size(field: &'static str, value: u64) -> Result<usize, ProtoError> {
    usize::try_from(value).map_err(|_| ProtoError::OutOfRange { field, found: value.to_string() })
}

impl From<Factors> for wire::Factors {
    fn from(factors: Factors) -> Self {
        match factors {
            Factors::Neither => Self::None,
            Factors::A => Self::A,
            Factors::B => Self::B,
            Factors::Both => Self::Both,
        }
    }
}

fn factors(field: &'static str, found: i32) -> Result<Factors, ProtoError> {
    match wire::Factors::try_from(found) {
        Ok(wire::Factors::None) => Ok(Factors::Neither),
        Ok(wire::Factors::A) => Ok(Factors::A),
        Ok(wire::Factors::B) => Ok(Factors::B),
        Ok(wire::Factors::Both) => Ok(Factors::Both),
        Ok(wire::Factors::Unspecified) | Err(_) => Err(ProtoError::UnknownValue { field, found }),
    }
}

impl From<HeadPolicy> for wire::HeadPolicy {
    fn from(policy: HeadPolicy) -> Self {
        match policy {
            HeadPolicy::Frozen => Self::Frozen,
            HeadPolicy::Shared => Self::Shared,
            HeadPolicy::Personal => Self::Personal,
        }
    }
}

fn head_policy(found: i32) -> Result<HeadPolicy, ProtoError> {
    match wire::HeadPolicy::try_from(found) {
        Ok(wire::HeadPolicy::Frozen) => Ok(HeadPolicy::Frozen),
        Ok(wire::HeadPolicy::Shared) => Ok(HeadPolicy::Shared),
        Ok(wire::HeadPolicy::Personal) => Ok(HeadPolicy::Personal),
        Ok(wire::HeadPolicy::Unspecified) | Err(_) => Err(ProtoError::UnknownValue { field: "directive.head", found }),
    }
}

impl From<Directive> for wire::Directive {
    fn from(directive: Directive) -> Self {
        Self {
            train: wire::Factors::from(directive.train).into(),
            upload: wire::Factors::from(directive.upload).into(),
            download: wire::Factors::from(directive.download).into(),
            head: wire::HeadPolicy::from(directive.head).into(),
        }
    }
}

impl TryFrom<wire::Directive> for Directive {
    type Error = ProtoError;

    fn try_from(message: wire::Directive) -> Result<Self, ProtoError> {
        Ok(Self {
            train: factors("directive.train", message.train)?,
            upload: factors("directive.upload", message.upload)?,
            download: factors("directive.download", message.download)?,
            head: head_policy(message.head)?,
        })
    }
}

impl From<&RoundPlan> for wire::RoundPlan {
    fn from(plan: &RoundPlan) -> Self {
        Self {
            round: plan.round.0,
            num_rounds: plan.num_rounds,
            directive: Some(plan.directive.into()),
            spec: digest_bytes(plan.spec),
            base: digest_bytes(plan.base),
            seed: plan.seed,
            local: Some((&plan.local).into()),
        }
    }
}

impl wire::RoundPlan {
    /// The plan, as one of the run that is called `run`.
    ///
    /// # Errors
    /// Names the first field that is missing, unknown or out of range.
    pub fn into_plan(self, run: &str) -> Result<RoundPlan, ProtoError> {
        if self.round == 0 || self.round > self.num_rounds {
            return Err(ProtoError::OutOfRange { field: "plan.round", found: self.round.to_string() });
        }
        Ok(RoundPlan {
            run: run.to_owned(),
            round: RoundId(self.round),
            num_rounds: self.num_rounds,
            directive: required("RoundPlan", "directive", self.directive)?.try_into()?,
            spec: digest("plan.spec", &self.spec)?,
            base: digest("plan.base", &self.base)?,
            seed: self.seed,
            local: required("RoundPlan", "local", self.local)?.try_into()?,
        })
    }
}

#[cfg(test)]
mod tests;
