//! CLINC150 intents (Larson et al. 2019, arXiv 1909.02027), with its ten domains as natural clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::lines::{self, bad};
use super::{DataError, Origin, Record, RowProblem};

/// Group of the rows that belong to no intent.
const OUT_OF_SCOPE: &str = "oos";

type Pairs = Vec<(String, String)>;

/// The lists used of `data_full.json`; its validation lists are left alone.
#[derive(Deserialize)]
struct Full {
    train: Pairs,
    test: Pairs,
    #[serde(default)]
    oos_train: Pairs,
    #[serde(default)]
    oos_test: Pairs,
}

/// Training and test rows of a folder, or of a `data_full.json`.
pub(super) fn read(path: &Path, include_oos: bool) -> Result<(Vec<Record>, Vec<Record>), DataError> {
    let (file, folder) = if path.is_dir() {
        (path.join("data_full.json"), path)
    } else {
        (path.to_owned(), path.parent().unwrap_or(Path::new(".")))
    };
    let full: Full = json(&file, "lists `train` and `test` of [text, intent] pairs")?;
    let domains = domains(&folder.join("domains.json"))?;
    let lists = if include_oos { (full.oos_train, full.oos_test) } else { (Pairs::new(), Pairs::new()) };
    let shared: Arc<Path> = file.into();
    let rows = |pairs: Pairs, oos: Pairs| -> Result<Vec<Record>, DataError> {
        let numbered = pairs.into_iter().zip(1..).chain(oos.into_iter().zip(1..));
        numbered.map(|((text, intent), line)| domains.record(&shared, line, &text, intent)).collect()
    };
    Ok((rows(full.train, lists.0)?, rows(full.test, lists.1)?))
}

/// Which domain an intent belongs to; `None` where the folder has no `domains.json`.
struct Domains {
    file: Arc<Path>,
    by_intent: Option<BTreeMap<String, String>>,
}

fn domains(file: &Path) -> Result<Domains, DataError> {
    let shared: Arc<Path> = file.into();
    if !file.exists() {
        return Ok(Domains { file: shared, by_intent: None });
    }
    let lists: BTreeMap<String, Vec<String>> = json(file, "an object of domains, each a list of intents")?;
    let invert =
        |(domain, intents): (String, Vec<String>)| intents.into_iter().map(move |intent| (intent, domain.clone()));
    Ok(Domains { file: shared, by_intent: Some(lists.into_iter().flat_map(invert).collect()) })
}

impl Domains {
    fn record(&self, file: &Arc<Path>, line: usize, text: &str, intent: String) -> Result<Record, DataError> {
        let text = text.trim().to_owned();
        if text.is_empty() {
            let problem = RowProblem::Value { column: intent, expected: "text", found: "nothing" };
            return Err(bad(file, line, problem));
        }
        let group =
            match &self.by_intent {
                None => None,
                Some(_) if intent == OUT_OF_SCOPE => Some(OUT_OF_SCOPE.to_owned()),
                Some(domains) => Some(domains.get(&intent).cloned().ok_or_else(|| DataError::UnknownIntent {
                    file: self.file.to_path_buf(),
                    intent: intent.clone(),
                })?),
            };
        Ok(Record { text, pair: None, label: intent, origin: Origin { group, ..Origin::at(file, line) } })
    }
}

fn json<T: DeserializeOwned>(file: &Path, expected: &'static str) -> Result<T, DataError> {
    let text = lines::read(file)?;
    serde_json::from_str(&text)
        .map_err(|error| bad(file, error.line(), RowProblem::Json { expected, reason: error.to_string() }))
}
