//! Which rotary embedding a configuration asks for, in the old and the new spelling.

use serde_json::Value;

use super::{
    super::rope::{Rope, RopeParameters, Scaling},
    Raw, Refusal,
};
use crate::LearnerError;

const THETA: f64 = 10_000.0;

/// `rope_parameters` of `transformers` 5, or `rope_theta` and `rope_scaling` of the versions before it.
pub(super) fn read(value: &Value, raw: &Raw, head_width: usize, refuse: Refusal<'_>) -> Result<Rope, LearnerError> {
    for key in ["rope_parameters", "rope_scaling"] {
        let nested = value.get(key).and_then(Value::as_object).is_some_and(|map| map.values().any(Value::is_object));
        if nested {
            return refuse.of(key, "different by layer", "the same for all layers");
        }
    }
    let none = RopeParameters::default();
    let parameters = raw.rope_scaling.as_ref().or(raw.rope_parameters.as_ref()).unwrap_or(&none);
    let part = parameters.partial_rotary_factor.or(raw.partial_rotary_factor).unwrap_or(1.0);
    if (part - 1.0).abs() > f64::EPSILON {
        return refuse.of("partial_rotary_factor", part, "1");
    }
    let theta = parameters.rope_theta.or(raw.rope_theta).unwrap_or(THETA);
    if !(theta.is_finite() && theta > 1.0) {
        return refuse.of("rope_theta", theta, "a number above 1");
    }
    Ok(Rope::new(head_width, theta, &scaling(parameters, raw, refuse)?))
}

fn scaling(parameters: &RopeParameters, raw: &Raw, refuse: Refusal<'_>) -> Result<Scaling, LearnerError> {
    let longest = raw.max_position_embeddings as f64;
    let original = raw.original_max_position_embeddings.or(parameters.original_max_position_embeddings);
    let original = original.unwrap_or(longest);
    match parameters.rope_type.as_deref().or(parameters.kind.as_deref()) {
        None | Some("default") => Ok(Scaling::Default),
        Some("linear") => Ok(Scaling::Linear { factor: positive("factor", parameters.factor, refuse)? }),
        Some("llama3") => Ok(Scaling::Llama3 {
            factor: positive("factor", parameters.factor, refuse)?,
            low: positive("low_freq_factor", parameters.low_freq_factor, refuse)?,
            high: positive("high_freq_factor", parameters.high_freq_factor, refuse)?,
            original: positive("original_max_position_embeddings", Some(original), refuse)?,
        }),
        Some("yarn") => {
            let original = positive("original_max_position_embeddings", Some(original), refuse)?;
            let factor = positive("factor", Some(parameters.factor.unwrap_or(longest / original)), refuse)?;
            Ok(Scaling::Yarn {
                factor,
                attention: parameters.attention_factor.unwrap_or_else(|| attention(parameters, factor)),
                original,
                fast: positive("beta_fast", Some(parameters.beta_fast.unwrap_or(32.0)), refuse)?,
                slow: positive("beta_slow", Some(parameters.beta_slow.unwrap_or(1.0)), refuse)?,
                truncate: parameters.truncate.unwrap_or(true),
            })
        }
        Some(other) => refuse.of("rope_type", other, "default, linear, llama3 or yarn"),
    }
}

fn positive(key: &'static str, value: Option<f64>, refuse: Refusal<'_>) -> Result<f64, LearnerError> {
    match value {
        Some(value) if value.is_finite() && value > 0.0 => Ok(value),
        Some(value) => refuse.of(key, value, "a number above 0"),
        None => refuse.of(key, "absent", "a number above 0"),
    }
}

/// The factor of cosines and sines that `YaRN` asks for (arXiv 2309.00071, equation 22), with `DeepSeek`'s two multipliers.
fn attention(parameters: &RopeParameters, factor: f64) -> f64 {
    let scale = |multiplier: f64| if factor <= 1.0 { 1.0 } else { 0.1 * multiplier * factor.ln() + 1.0 };
    match (parameters.mscale, parameters.mscale_all_dim) {
        (Some(one), Some(all)) if one != 0.0 && all != 0.0 => scale(one) / scale(all),
        _ => scale(1.0),
    }
}
