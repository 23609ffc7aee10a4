//! The first global adapter: its distributions, its independence of what else is adapted, its refusals.

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, KINDS, ModuleName, ModuleSpec, Seed, Side, Tensor, names};
use fedlora_aggregation::{AggregationError, INITS, Init, initial, initial_from};

use crate::support::{Dense, F32, awkward, dense, factors, spec};

fn make(spec: &Arc<AdapterSpec>, init: Init, seed: u64) -> Result<Adapter, AggregationError> {
    initial(Arc::clone(spec), init, Seed(seed), &|_| None)
}

#[test]
fn training_starts_at_the_base_model() {
    for (kind, init) in [
        (AdapterKind::Lora, Init::Default),
        (AdapterKind::Lora, Init::Orthonormal),
        (AdapterKind::Vera, Init::Default),
        (AdapterKind::Lora, Init::Gaussian),
    ] {
        let adapter = make(&awkward(kind), init, 1).expect("usable");
        assert!(factors(&adapter, Side::B).iter().all(|b| b.amax() == 0.0));
        assert!(factors(&adapter, Side::A).iter().all(|a| a.amax() > 0.0));
    }
}

#[test]
fn default_entries_are_uniform_within_the_bound_of_kaiming() {
    let adapter = make(&spec(AdapterKind::Lora, 8, &[(1024, 4)]), Init::Default, 1).expect("usable");
    let a = &factors(&adapter, Side::A)[0];
    let bound = 1.0 / 32.0;
    assert!(a.amax() <= bound && a.amax() > 0.99 * bound);
    // 8192 uniform values: the mean has a deviation of bound / sqrt(3 * 8192), the variance is bound² / 3 within 5 %.
    assert!(a.mean().abs() < 5.0 * bound / (3.0 * 8192.0_f64).sqrt());
    assert!((a.norm_squared() / 8192.0 / (bound * bound / 3.0) - 1.0).abs() < 0.05);
}

#[test]
fn orthonormal_rows_are_orthonormal() {
    let adapter = make(&awkward(AdapterKind::Lora), Init::Orthonormal, 2).expect("usable");
    for a in factors(&adapter, Side::A) {
        assert!((&a * a.transpose() - Dense::identity(3, 3)).amax() < 4.0 * F32);
    }
}

#[test]
fn gaussian_entries_have_the_deviation_of_peft() {
    let adapter = make(&spec(AdapterKind::Lora, 8, &[(1024, 4)]), Init::Gaussian, 1).expect("usable");
    let a = &factors(&adapter, Side::A)[0];
    // 8192 normal values of deviation 1/8: five deviations of their mean, and of the mean of their squares.
    assert!(a.mean().abs() < 5.0 / 8.0 / 8192.0_f64.sqrt());
    assert!((a.norm_squared() / 8192.0 * 64.0 - 1.0).abs() < 5.0 * (2.0 / 8192.0_f64).sqrt());
}

#[test]
fn orthogonal_factors_are_not_zero_but_their_product_is() {
    let adapter = make(&spec(AdapterKind::Lora, 4, &[(512, 256)]), Init::Orthogonal, 1).expect("usable");
    let (a, b) = (&factors(&adapter, Side::A)[0], &factors(&adapter, Side::B)[0]);
    // Entries of deviation 0.1 · sqrt(1/2), for each of the r dimensions holds a part of r/2 of them.
    for (matrix, values) in [(a, 2048.0), (b, 1024.0)] {
        assert!((matrix.norm_squared() / values / 0.005 - 1.0).abs() < 0.25);
    }
    // Four products of entries below 0.5, each rounded to f32.
    assert!((b * a).amax() < 4.0 * F32);
    let odd = make(&awkward(AdapterKind::Lora), Init::Orthogonal, 1).expect_err("rank 3");
    assert!(odd.to_string().contains("layer.0"), "{odd}");
}

#[test]
fn olora_begins_with_the_qr_of_the_weight_and_dora_with_the_lengths_of_its_rows() {
    let weight = |_: &ModuleName| Some(Tensor::from_fn(&[5, 7], |index| (0.37 * (index * index) as f32).sin()));
    let olora = initial(spec(AdapterKind::Olora, 3, &[(7, 5)]), Init::Olora, Seed(1), &weight).expect("usable");
    let b = &factors(&olora, Side::B)[0];
    assert!((b.transpose() * b - Dense::identity(3, 3)).amax() < 5.0 * F32);
    let dora = initial(spec(AdapterKind::Dora, 3, &[(7, 5)]), Init::Gaussian, Seed(1), &weight).expect("usable");
    let whole = dense(&weight(&ModuleName::new("layer.0")).expect("a weight"));
    let xs = initial(spec(AdapterKind::LoraXs, 3, &[(7, 5)]), Init::Default, Seed(1), &weight).expect("usable");
    let (a, left) = (&factors(&xs, Side::A)[0], dense(&xs.head()["layer.0.lora_B.weight"]));
    let svd = dense(&weight(&ModuleName::new("layer.0")).expect("a weight")).svd(true, true);
    let (u, v_t) = (svd.u.expect("asked for"), svd.v_t.expect("asked for"));
    let best = u.columns(0, 3) * Dense::from_diagonal(&svd.singular_values.rows(0, 3).into_owned()) * v_t.rows(0, 3);
    assert!((&left * a - best).amax() < 16.0 * F32);
    assert!((a * a.transpose() - Dense::identity(3, 3)).amax() < 8.0 * F32);
    assert_eq!(factors(&xs, Side::B)[0], Dense::zeros(3, 3));
    let magnitudes = dora.head()["layer.0.lora_magnitude_vector"].values();
    for (row, &magnitude) in magnitudes.iter().enumerate() {
        assert!((f64::from(magnitude) - whole.row(row).norm()).abs() < 3.0 * F32);
    }
}

#[test]
fn every_initialisation_has_one_row_and_serves_the_kinds_that_it_lists() {
    let weight = |_: &ModuleName| Some(Tensor::from_fn(&[5, 7], |index| (0.37 * (index * index) as f32).sin()));
    for row in INITS {
        assert_eq!(INITS.iter().filter(|other| other.init == row.init).count(), 1);
        assert_eq!(serde_json::to_value(row.init).expect("a name"), row.name);
        for kind in KINDS.iter().map(|row| row.kind) {
            let spec = spec(kind, 2, &[(7, 5)]);
            let mut first = spec.first_values(&weight).expect("weights");
            let from_weights = initial_from(Arc::clone(&spec), row.init, Seed(1), &first, &weight);
            let factor = names::factor(kind, &ModuleName::new("layer.0"), Side::A);
            first.insert(factor, vec![0.5; 2 * 7]);
            let made = initial_from(Arc::clone(&spec), row.init, Seed(1), &first, &weight);
            assert_eq!(made.is_ok(), row.kinds.contains(&kind), "{} {kind:?}", row.name);
            assert_eq!(from_weights.is_ok(), made.is_ok() && !row.needs_data, "{} {kind:?}", row.name);
            let without = initial(spec, row.init, Seed(1), &|_| None);
            let needs_weights = row.needs_weights || kind.row().needs_weights;
            assert_eq!(without.is_ok(), from_weights.is_ok() && !needs_weights, "{} {kind:?}", row.name);
        }
    }
}

#[test]
fn vera_starts_at_a_tenth() {
    let adapter = make(&awkward(AdapterKind::Vera), Init::Default, 2).expect("usable");
    assert!(
        adapter.modules().values().all(|factors| factors
            .a
            .values()
            .iter()
            .all(|value| value.to_bits() == 0.1_f32.to_bits()))
    );
}

#[test]
fn equal_seeds_give_equal_bytes_and_others_do_not() {
    for init in [Init::Default, Init::Gaussian, Init::Orthonormal, Init::Orthogonal] {
        let make = |seed| make(&spec(AdapterKind::Lora, 2, &[(7, 5), (6, 11)]), init, seed).expect("usable");
        assert_eq!(make(7).digest(), make(7).digest());
        assert_ne!(make(7).digest(), make(8).digest());
    }
}

#[test]
fn adapting_one_more_module_changes_no_other() {
    let small = awkward(AdapterKind::Lora);
    let mut large = (*small).clone();
    large.modules.insert(ModuleName::new("a.first"), ModuleSpec::new(4, 4));
    let (small, large) = (make(&small, Init::Default, 3), make(&Arc::new(large), Init::Default, 3));
    let (small, large) = (small.expect("usable"), large.expect("usable"));
    for (name, factors) in small.modules() {
        assert_eq!(factors, &large.modules()[name]);
    }
    assert_eq!(small.head(), large.head());
}

#[test]
fn modules_of_one_shape_start_differently() {
    let adapter = make(&spec(AdapterKind::Lora, 2, &[(6, 5), (6, 5)]), Init::Default, 3).expect("usable");
    let a = factors(&adapter, Side::A);
    assert_ne!(a[0], a[1]);
}

#[test]
fn heads_have_uniform_matrices_and_zero_vectors() {
    let adapter = make(&awkward(AdapterKind::Lora), Init::Default, 4).expect("usable");
    let bound = 1.0 / 5.0_f32.sqrt();
    assert!(adapter.head()["head.weight"].values().iter().all(|value| value.abs() <= bound && *value != 0.0));
    assert!(adapter.head()["head.bias"].values().iter().all(|&value| value == 0.0));
}

#[test]
fn impossible_requests_are_refused() {
    let inner = |result: Result<Adapter, AggregationError>| match result {
        Err(AggregationError::InModule { source, .. }) => *source,
        other => panic!("{other:?}"),
    };
    let vera = make(&awkward(AdapterKind::Vera), Init::Orthonormal, 1).expect_err("no matrices");
    assert!(matches!(vera, AggregationError::UnsupportedInit { init: "orthonormal", .. }));
    let wide = inner(make(&spec(AdapterKind::Lora, 4, &[(3, 9)]), Init::Orthonormal, 1));
    assert!(matches!(wide, AggregationError::RankTooLarge { rank: 4, width: 3 }));
    let missing = inner(make(&awkward(AdapterKind::Lora), Init::Pissa, 1));
    assert!(matches!(missing, AggregationError::MissingWeight));
    let square = |_: &ModuleName| Some(Tensor::zeros(&[7, 7]));
    let misshapen = inner(initial(awkward(AdapterKind::Lora), Init::Pissa, Seed(1), &square));
    assert!(matches!(misshapen, AggregationError::WrongWeightShape { .. }));
}
