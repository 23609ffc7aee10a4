//! Vectors of `tests/vectors/generate.py`: dense formulas in numpy, nothing shared with this crate.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, LoraFactors, ModuleName, ModuleSpec, Seed, Side, Tensor};
use fedlora_aggregation::{Init, initial};
use serde_json::Value;

use crate::support::{Dense, assert_close, factors, step};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn read(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(name)).expect("a vector file");
    serde_json::from_str(&text).expect("JSON")
}

fn matrix(value: &Value) -> Dense {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).expect("rows of numbers");
    Dense::from_row_iterator(rows.len(), rows[0].len(), rows.into_iter().flatten())
}

fn tensor(value: &Value) -> Tensor {
    let matrix = matrix(value);
    let columns = matrix.ncols();
    Tensor::from_fn(&[matrix.nrows(), columns], |index| matrix[(index / columns, index % columns)] as f32)
}

fn adapter(value: &Value) -> Adapter {
    let (a, b) = (tensor(&value["a"]), tensor(&value["b"]));
    let module = ModuleSpec::new(a.shape()[1], b.shape()[0]);
    let spec = Arc::new(one_module(module, a.shape()[0]));
    Adapter::new(spec, BTreeMap::from([(name(), LoraFactors { a, b })]), BTreeMap::new()).expect("consistent shapes")
}

fn name() -> ModuleName {
    ModuleName::new("module")
}

fn one_module(module: ModuleSpec, rank: usize) -> AdapterSpec {
    AdapterSpec {
        kind: AdapterKind::Lora,
        rank,
        alpha: 1.0,
        use_rslora: false,
        projection_seed: 0,
        modules: BTreeMap::from([(name(), module)]),
        head: BTreeMap::new(),
    }
}

/// One case; `tolerance` is relative to the largest entry.
fn check(file: &str, tolerance: f64) {
    let case = read(file);
    let clients: Vec<_> = case["clients"]
        .as_array()
        .expect("clients")
        .iter()
        .map(|client| (client["weight"].as_f64().expect("a weight"), adapter(client)))
        .collect();
    let text = |key: &str| case[key].as_str().expect("a string").to_owned();
    let result = step(&text("method"), &text("parameters"), &adapter(&case["previous"]), &clients);
    for (side, key) in [(Side::A, "a"), (Side::B, "b")] {
        assert_close(&factors(&result.adapter, side), &[matrix(&case["expected"][key])], tolerance);
    }
    if let Some(expected) = case["expected"]["residual"].as_f64() {
        let found = result.residual.expect("both factors are sent");
        assert!((found - expected).abs() <= tolerance * expected, "residual {found} against {expected}");
    }
}

/// Results are stored as f32, two units in the last place.
const STORED: f64 = 2.0 * f32::EPSILON as f64;

#[test]
fn averaging_methods_match() {
    for file in ["fedavg.json", "ffa-lora.json", "fedsa-lora.json", "rolora.json"] {
        check(file, STORED);
    }
}

#[test]
fn fedsvd_matches_the_dense_svd() {
    for file in ["fedsvd.json", "fedsvd-sqrt.json"] {
        check(file, STORED);
    }
}

#[test]
fn flexlora_matches_the_dense_svd_of_the_mean_product() {
    check("flexlora.json", STORED);
}

#[test]
fn lora_fair_matches_the_stacked_least_squares_problem() {
    for file in ["lora-fair-ridge-0.0.json", "lora-fair-ridge-0.01.json", "lora-fair-ridge-1.0.json"] {
        check(file, STORED);
    }
}

#[test]
fn lora_fair_matches_dense_descent_on_the_cosine() {
    // Both stop where the objective no longer resolves the distance: the root of the f64 epsilon over lambda.
    check("lora-fair-cosine.json", 1e-5);
}

#[test]
fn order_statistics_match() {
    for file in ["coordinate-median.json", "trimmed-mean.json", "trimmed-mean-0.3.json"] {
        check(file, STORED);
    }
}

#[test]
fn the_geometric_median_matches_as_many_steps_and_converges_to_the_fixed_point() {
    for file in ["geometric-median.json", "geometric-median-converged.json"] {
        check(file, STORED);
    }
}

#[test]
fn krum_chooses_by_the_distances_of_dense_products() {
    for file in ["krum.json", "multi-krum.json", "multi-krum-3.json"] {
        check(file, STORED);
    }
}

#[test]
fn pissa_matches_the_dense_svd() {
    let case = read("pissa.json");
    let weight = tensor(&case["weight"]);
    let module = ModuleSpec::new(weight.shape()[1], weight.shape()[0]);
    let spec = Arc::new(one_module(module, 2));
    let adapter = initial(spec, Init::Pissa, Seed(1), &|_| Some(weight.clone())).expect("a weight of the right shape");
    assert_close(&factors(&adapter, Side::A), &[matrix(&case["a"])], STORED);
    assert_eq!(factors(&adapter, Side::B), [Dense::zeros(9, 2)]);
}
