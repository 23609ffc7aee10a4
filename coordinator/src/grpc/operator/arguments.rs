//! From the fields of requests to what the engine takes.

use fedlora_adapter::RoundId;
use tonic::{Code, Status};

use super::refusal::{BAD_CONFIG, BAD_MODEL, refuse};
use crate::{
    ModelDescription, RunId,
    config::{RunConfig, parse_run},
    plain::chain,
};

/// Zero means the live run, or the last one.
pub(super) fn run(run_id: u64) -> Option<RunId> {
    (run_id != 0).then_some(RunId(run_id))
}

/// Zero means the open round, or the last one.
pub(super) fn round(round: u64) -> Option<RoundId> {
    (round != 0).then_some(RoundId(round))
}

/// Zero means all.
pub(super) fn limit(limit: u64) -> usize {
    if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) }
}

/// A configuration and a model that fit each other.
pub(super) fn job(config_toml: &str, model_json: &str) -> Result<(RunConfig, ModelDescription), Status> {
    let bad_config = |words: String| refuse(Code::InvalidArgument, BAD_CONFIG, format!("configuration: {words}"));
    let bad_model = |words: String| refuse(Code::InvalidArgument, BAD_MODEL, format!("model description: {words}"));
    let table = config_toml.parse::<toml::Table>().map_err(|error| bad_config(error.to_string()))?;
    let config = parse_run(table).map_err(|error| bad_config(chain(&error)))?;
    let model: ModelDescription = serde_json::from_str(model_json).map_err(|error| bad_model(error.to_string()))?;
    config.spec(model.modules.clone(), model.head.clone()).map_err(|error| bad_model(chain(&error)))?;
    Ok((config, model))
}
