//! Names, parameters and demands of the methods.

use std::collections::BTreeSet;

use fedlora_adapter::{AdapterKind, KINDS};
use fedlora_aggregation::{AggregationError, Init, METHODS, Method, Weighting};

#[test]
fn names_are_unique_and_every_method_builds_without_parameters() {
    let names: BTreeSet<_> = METHODS.iter().map(|method| method.name).collect();
    assert_eq!(names.len(), METHODS.len());
    for method in METHODS {
        method.build(&toml::Table::new()).expect("defaults are valid");
        assert!(method.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        assert!(!method.kinds.is_empty());
        assert_eq!(Method::find(method.name).expect("in the registry").name, method.name);
    }
}

#[test]
fn a_misspelt_method_gets_the_nearest_name() {
    let error = Method::find("fedsdv").expect_err("no such method");
    assert!(matches!(error, AggregationError::UnknownMethod { nearest: "fedsvd", .. }));
}

#[test]
fn a_misspelt_parameter_gets_the_nearest_name() {
    for method in METHODS {
        let table = "haed = \"shared\"".parse().expect("TOML");
        let error = method.build(&table).expect_err("no such parameter");
        let AggregationError::UnknownParameter { nearest, .. } = error else { panic!("{error}") };
        assert_eq!(nearest.as_deref(), Some("head"));
    }
}

#[test]
fn parameters_outside_of_their_range_are_refused() {
    for (name, text) in [
        ("lora-fair", "lambda = -0.1"),
        ("lora-fair", "lambda = nan"),
        ("lora-fair", "lambda = inf"),
        ("lora-fair", "mode = \"rigde\""),
        ("fedsvd", "period = 0"),
        ("fedsvd", "period = -1"),
        ("fedsvd", "split = 2"),
        ("fedavg", "head = \"averaged\""),
        ("trimmed-mean", "beta = 0.5"),
        ("trimmed-mean", "beta = -0.1"),
        ("trimmed-mean", "beta = nan"),
        ("geometric-median", "iterations = 0"),
        ("krum", "num-malicious-nodes = -1"),
        ("multi-krum", "num-nodes-to-select = 1.5"),
    ] {
        let table = text.parse().expect("TOML");
        let result = Method::find(name).and_then(|method| method.build(&table));
        let is_refused =
            matches!(result, Err(AggregationError::OutOfRange { .. } | AggregationError::InvalidParameters { .. }));
        assert!(is_refused, "{name}: {text}");
    }
}

#[test]
fn methods_say_which_adapters_they_can_serve() {
    let find = |name| Method::find(name).expect("in the registry");
    find("fedsvd").check(AdapterKind::Lora).expect("served");
    let error = find("fedsvd").check(AdapterKind::Vera).expect_err("no SVD of vectors");
    assert_eq!(error.to_string(), "method fedsvd serves [Lora, Olora, Dora] adapters, not Vera");
    find("fedsa-vera").check(AdapterKind::Lora).expect_err("its point is VeRA");
    assert_eq!(find("fedsa-rslora").use_rslora, Some(true));
    assert_eq!(find("ffa-orthonormal").init, Some(Init::Orthonormal));
}

#[test]
fn krum_selects_one_and_only_multi_krum_can_be_told_how_many() {
    let table = "num-nodes-to-select = 2".parse().expect("TOML");
    let build = |name| Method::find(name).and_then(|method| method.build(&table));
    build("multi-krum").expect("its parameter");
    assert!(matches!(build("krum"), Err(AggregationError::UnknownParameter { .. })));
}

#[test]
fn every_method_is_refused_for_exactly_the_kinds_that_it_does_not_list() {
    for method in METHODS {
        for kind in KINDS.iter().map(|row| row.kind) {
            match method.check(kind) {
                Ok(()) => assert!(method.kinds.contains(&kind), "{}", method.name),
                Err(AggregationError::UnsupportedKind { method: name, kind: found, supported }) => {
                    assert_eq!((name, found, supported), (method.name, kind, method.kinds));
                    assert!(!method.kinds.contains(&kind), "{}", method.name);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    let matrix_only = ["ffa-orthonormal", "fedsa-lora", "fedsa-rslora", "lora-fair", "fedsvd"];
    for name in matrix_only {
        Method::find(name).expect("in the registry").check(AdapterKind::Vera).expect_err("needs matrices");
    }
    for (name, kind) in [("lora-fair", AdapterKind::Dora), ("ffa-orthonormal", AdapterKind::Olora)] {
        Method::find(name).expect("in the registry").check(kind).expect_err("would not mean the same");
    }
}

#[test]
fn comparisons_have_their_references_and_every_paper_its_number() {
    let references: Vec<_> = METHODS.iter().filter(|method| method.is_reference).map(|method| method.name).collect();
    assert_eq!(references, ["local-only", "fedavg"]);
    for method in METHODS {
        let is_number = method.arxiv.len() == 10 && method.arxiv.as_bytes()[4] == b'.';
        assert!(is_number || method.name == "local-only", "{}: {}", method.name, method.arxiv);
    }
}

#[test]
fn clients_weigh_by_their_examples_or_all_the_same() {
    let weights = |weighting: Weighting| [0, 1, 250].map(|examples| weighting.weight(examples).to_bits());
    assert_eq!(weights(Weighting::Examples), [0.0_f64, 1.0, 250.0].map(f64::to_bits));
    assert_eq!(weights(Weighting::Uniform), [1.0_f64; 3].map(f64::to_bits));
}
