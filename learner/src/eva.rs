//! First factors from what goes into the adapted layers: EVA (arXiv 2410.07170).

mod config;
mod principal;
mod recorder;

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Factors, FirstValues, ModuleName, ModuleSpec, Side, names};
use rayon::prelude::*;

use self::principal::Principal;
use crate::{
    Dataset, GroupedAdapter, LearnerError, Model,
    evaluate::{check_rows, read},
};

pub use config::{EvaConfig, EvaError, PublicRows};
pub(crate) use recorder::InputRecorder;

/// Values that a row of a batch may have, about: tokens, or patches of an image.
const TOKENS_PER_BATCH: usize = 1024;

/// `A` of every module, `r x d_in`, by its name in files: the directions in which the inputs of the layer vary most over some
/// rows, the first `r` right singular vectors of the centred inputs (section 3.2). Of each the entry of largest magnitude
/// is positive.
///
/// Batches are taken in one after the other as by PEFT's `IncrementalPCA` (arXiv 2410.07170, appendix E), with some
/// directions more than are asked for, and all rows are taken, where PEFT stops when the directions change little.
/// Whatever a model pads or does not go on with is no input.
///
/// The rows decide what the first adapter is, and everybody gets to know it: they must be nobody's secret.
///
/// # Errors
/// [`LearnerError::NoExamples`] without rows, [`LearnerError::RowOutOfRange`] for one that the data set lacks;
/// [`LearnerError::FewInputs`] where a module sees fewer directions than its rank; a specification that does not fit.
pub fn input_directions(
    model: &dyn Model,
    dataset: &Dataset,
    rows: &[u32],
    spec: &AdapterSpec,
) -> Result<FirstValues, LearnerError> {
    check_rows(dataset, rows)?;
    if rows.is_empty() {
        return Err(LearnerError::NoExamples);
    }
    model.check(spec)?;
    let silent = Adapter::zeros(Arc::new(silent(spec)))?;
    let mut found: BTreeMap<&ModuleName, Principal> = BTreeMap::new();
    for (name, module) in &spec.modules {
        found.insert(name, Principal::new(module.d_in, spec.rank_of(module)));
    }
    for batch in batches(dataset, rows) {
        let recorder = InputRecorder::default();
        let grouped = GroupedAdapter::new(&[&silent], Factors::Neither, false, &model.device())?;
        let grouped = grouped.with_examples(vec![batch.len()]).recording(recorder.clone());
        model.features(&dataset.batch(batch), Some(&grouped), None);
        let inputs = recorder.take();
        let add = |(name, principal): (&&ModuleName, &mut Principal)| match inputs.get(*name) {
            Some(x) => principal.add(&read(x.clone())?),
            None => Ok(()),
        };
        found.par_iter_mut().try_for_each(add)?;
    }
    let directions = |(name, principal): (&ModuleName, Principal)| {
        let values = principal.directions().map_err(|found| LearnerError::FewInputs {
            module: name.to_string(),
            rank: spec.rank_of(&spec.modules[name]),
            found,
        });
        Ok((names::factor(spec.kind, name, Side::A), values?))
    };
    found.into_iter().map(directions).collect()
}

/// Adapters of the same modules that change nothing.
fn silent(spec: &AdapterSpec) -> AdapterSpec {
    let plain = |(name, module): (&ModuleName, &ModuleSpec)| (name.clone(), ModuleSpec::new(module.d_in, module.d_out));
    let modules = spec.modules.iter().map(plain).collect();
    AdapterSpec { kind: AdapterKind::Lora, rank: 1, modules, head: spec.classifier(), ..spec.clone() }
}

/// Neighbouring rows of some thousand tokens together, at least one row each.
fn batches<'a>(dataset: &Dataset, rows: &'a [u32]) -> Vec<&'a [u32]> {
    let tokens = |row: u32| dataset.token_count(row);
    let (mut cut, mut start, mut sum) = (Vec::new(), 0, 0);
    for (index, &row) in rows.iter().enumerate() {
        if index > start && sum + tokens(row) > TOKENS_PER_BATCH {
            cut.push(&rows[start..index]);
            (start, sum) = (index, 0);
        }
        sum += tokens(row);
    }
    cut.push(&rows[start..]);
    cut
}
