//! Files of one JSON object a line.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::columns::{Answer, Column};
use super::lines::{self, bad};
use super::{DataConfig, DataError, Origin, Record, RowProblem};

/// Keys of which the first present one is read; `pair`, `group` and `user` only where configured or usual.
struct Keys {
    text: Vec<String>,
    pair: Option<Vec<String>>,
    label: Vec<String>,
    group: Option<Vec<String>>,
    user: Option<Vec<String>>,
}

/// All rows of a file; empty lines are passed over.
pub(super) fn read(
    file: &Path,
    config: &DataConfig,
    answer: Answer,
    usual_pair: Option<&str>,
) -> Result<Vec<Record>, DataError> {
    let text = lines::read(file)?;
    let one = |column: &Column| vec![column.to_string()];
    let or = |column: Option<&Column>, usual: &[&str]| {
        column.map_or_else(|| usual.iter().map(ToString::to_string).collect(), one)
    };
    let keys = Keys {
        text: or(config.text_column.as_ref(), answer.texts()),
        pair: config.pair_column.as_ref().map(one).or(usual_pair.map(|key| vec![key.to_owned()])),
        label: or(answer.column(config), answer.names()),
        group: config.group_column.as_ref().map(one),
        user: config.user_column.as_ref().map(one),
    };
    let shared: Arc<Path> = file.into();
    text.split('\n')
        .zip(1..)
        .filter(|(line, _)| !line.trim().is_empty())
        .map(|(content, line)| record(&shared, line, content, &keys).map_err(|problem| bad(file, line, problem)))
        .collect()
}

fn record(file: &Arc<Path>, line: usize, content: &str, keys: &Keys) -> Result<Record, RowProblem> {
    let object: Map<String, Value> = serde_json::from_str(content)
        .map_err(|error| RowProblem::Json { expected: "one JSON object a line", reason: error.to_string() })?;
    let (text_key, text) = lookup(&object, &keys.text)?;
    let (label_key, label) = lookup(&object, &keys.label)?;
    let pair = keys.pair.as_ref().map(|keys| lookup(&object, keys)).transpose()?;
    let named = |keys: &Option<Vec<String>>| {
        let found = keys.as_ref().map(|keys| lookup(&object, keys)).transpose()?;
        found.map(|(key, value)| name(key, value)).transpose()
    };
    Ok(Record {
        text: string(text_key, text)?,
        pair: pair
            .filter(|(_, value)| !value.is_null() && value.as_str() != Some(""))
            .map(|(key, value)| string(key, value))
            .transpose()?,
        label: name(label_key, label)?,
        origin: Origin { group: named(&keys.group)?, user: named(&keys.user)?, ..Origin::at(file, line) },
    })
}

/// The first of several keys that the object has.
fn lookup<'a>(object: &'a Map<String, Value>, keys: &'a [String]) -> Result<(&'a str, &'a Value), RowProblem> {
    keys.iter()
        .find_map(|key| object.get(key).map(|value| (key.as_str(), value)))
        .ok_or_else(|| RowProblem::MissingKey { key: keys.join("` or `"), found: object.keys().cloned().collect() })
}

fn string(key: &str, value: &Value) -> Result<String, RowProblem> {
    match value.as_str().map(str::trim) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => {
            Err(RowProblem::Value { column: key.to_owned(), expected: "a text that is not empty", found: kind(value) })
        }
    }
}

/// A label's, group's or user's name: texts, whole numbers and booleans are written as they stand.
fn name(key: &str, value: &Value) -> Result<String, RowProblem> {
    match value {
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::String(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        other => Err(RowProblem::Value {
            column: key.to_owned(),
            expected: "a text, a whole number or a boolean",
            found: kind(other),
        }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(text) if text.trim().is_empty() => "an empty text",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
