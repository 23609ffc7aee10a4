//! FedSVD is FFA-LoRA with an orthonormal `A` when clients use SGD: each re-factorisation only rotates the basis in
//! which `B` is trained, and a gradient step commutes with a rotation.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use fedlora_adapter::{Adapter, Tensor, read_peft};
use fedlora_learner::device;
use fedlora_simulations::{
    builtin,
    config::{self, Config},
    experiment::Material,
    metrics::Summary,
    observer::Unwatched,
    runner::{self, Output},
};

fn config(method: &str) -> Config {
    let sets = [
        format!("method.name={method}"),
        "num-rounds=4".to_owned(),
        "local-epochs=1".to_owned(),
        "evaluate-every=4".to_owned(),
        "evaluate-clients=0".to_owned(),
        "model.random-weights=true".to_owned(),
        "optimizer=sgd".to_owned(),
        "learning-rate=0.1".to_owned(),
        "lora.init_lora_weights=orthonormal".to_owned(),
    ];
    let table = config::to_table(&builtin::quickstart().unwrap()).unwrap();
    config::parse(table, &sets).unwrap()
}

/// The run's summary and its global adapter.
fn run(method: &str, directory: &Path) -> (Summary, Adapter) {
    let config = config(method);
    let material = Material::load(&config, &device("cpu").unwrap().into()).unwrap();
    let clients = material.clients(&config).unwrap();
    let output = Output { directory: directory.join(method), resume: false };
    let interrupted = Arc::new(AtomicBool::new(false));
    let record = runner::run(&config, &material, &clients, &output, Box::new(Unwatched), &interrupted).unwrap();
    let spec = material.spec(&config).unwrap();
    let zeros = Adapter::zeros(Arc::clone(&spec)).unwrap();
    (record.summary, read_peft(&output.directory.join("adapters/global"), &spec, &zeros).unwrap())
}

/// `B·A`, `d_out x d_in`, in f64.
fn product(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let (rank, d_in) = (a.shape()[0], a.shape()[1]);
    let row = |b: &[f32], column: usize| -> f64 {
        b.iter().enumerate().map(|(r, b)| f64::from(*b) * f64::from(a.values()[r * d_in + column])).sum()
    };
    b.values().chunks(rank).flat_map(|b| (0..d_in).map(move |column| row(b, column))).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn fedsvd_follows_ffa_lora_with_an_orthonormal_a_to_round_off() {
    let directory = tempfile::tempdir().unwrap();
    let ((svd_summary, svd), (ffa_summary, ffa)) =
        (run("fedsvd", directory.path()), run("ffa-orthonormal", directory.path()));
    assert_ne!(svd.digest(), ffa.digest(), "the factors differ, the products agree");
    for (name, factors) in svd.modules() {
        let (svd, ffa) = (product(&factors.a, &factors.b), &ffa.modules()[name]);
        let ffa = product(&ffa.a, &ffa.b);
        let difference: Vec<f64> = svd.iter().zip(&ffa).map(|(svd, ffa)| svd - ffa).collect();
        // Four rounds of some ten steps, each rounding the factors to 2^-24 of their size: fifty roundings, with room for
        // the condition of the singular vectors.
        assert!(norm(&difference) < 1e-5 * norm(&ffa), "{name}: {} of {}", norm(&difference), norm(&ffa));
    }
    let loss = |summary: &Summary| summary.evaluations.global.unwrap().loss;
    assert!((loss(&svd_summary) - loss(&ffa_summary)).abs() < 1e-5, "mean loss over the test set, from its logits");
}
