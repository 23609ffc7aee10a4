//! The next global adapter, part by part: whoever takes the parts decides whether all of it is ever in memory.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{Adapter, AdapterSpec, LoraFactors, ModuleName, Tensor};

use crate::AggregationError;

/// A part of the next global adapter.
#[derive(Debug)]
pub enum Part<'a> {
    /// The factors of a module.
    Module {
        /// The module.
        name: &'a ModuleName,
        /// What training started from.
        previous: &'a LoraFactors,
        /// What is to take its place.
        factors: LoraFactors,
    },
    /// An extra tensor.
    Extra {
        /// The tensor's name in the base model.
        name: &'a str,
        /// What training started from.
        previous: &'a Tensor,
        /// What is to take its place.
        tensor: Tensor,
    },
}

/// Where the next global adapter goes.
///
/// Parts come in name order: first the extra tensors, then the modules. An error ends the server step.
pub trait Destination: Send {
    /// Bytes that may be in memory at a time for parts in the making: what is looked at of all updates, and what comes of
    /// it. It is kept to, unless one part on each thread needs more.
    fn batch_bytes(&self) -> usize;

    /// Takes finished parts, on any thread, while the next ones are made.
    ///
    /// # Errors
    /// A part that is not finite, or cannot be kept.
    fn take(&mut self, parts: Vec<Part<'_>>) -> Result<(), AggregationError>;
}

/// A destination in memory.
#[derive(Debug, Default)]
struct Whole {
    modules: BTreeMap<ModuleName, LoraFactors>,
    head: BTreeMap<String, Tensor>,
}

impl Destination for Whole {
    fn batch_bytes(&self) -> usize {
        usize::MAX
    }

    fn take(&mut self, parts: Vec<Part<'_>>) -> Result<(), AggregationError> {
        for part in parts {
            match part {
                Part::Module { name, factors, .. } => drop(self.modules.insert(name.clone(), factors)),
                Part::Extra { name, tensor, .. } => drop(self.head.insert(name.to_owned(), tensor)),
            }
        }
        Ok(())
    }
}

/// The whole adapter of a step that gives its parts away, and what else the step says.
pub(crate) fn whole<T>(
    spec: &Arc<AdapterSpec>,
    step: impl FnOnce(&mut dyn Destination) -> Result<T, AggregationError>,
) -> Result<(Adapter, T), AggregationError> {
    let mut whole = Whole::default();
    let said = step(&mut whole)?;
    Ok((Adapter::new(Arc::clone(spec), whole.modules, whole.head)?, said))
}
