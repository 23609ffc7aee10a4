//! What exists is valid: the checked constructors of tensors, specifications and adapters.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterError, AdapterKind, AdapterSpec, LoraFactors, ModuleName, ModuleSpec, Side, Tensor,
};

use crate::support::{adapter, changed, spec};

type Parts = (Arc<AdapterSpec>, BTreeMap<ModuleName, LoraFactors>, BTreeMap<String, Tensor>);

fn query() -> ModuleName {
    ModuleName::new("encoder.layer.0.query")
}

/// The error of an adapter with something changed.
fn broken(change: impl FnOnce(&mut Parts)) -> AdapterError {
    let mut parts = adapter(&spec(AdapterKind::Lora), 0.0).into_parts();
    change(&mut parts);
    Adapter::new(parts.0, parts.1, parts.2).expect_err("something is wrong")
}

#[test]
fn a_tensor_has_as_many_values_as_its_shape_says() {
    assert!(Tensor::new(vec![2, 3], vec![0.0; 6]).is_ok());
    assert!(Tensor::new(vec![], vec![1.0]).is_ok(), "a scalar has one value");
    assert!(Tensor::new(vec![0, 3], vec![]).is_ok());
    let error = Tensor::new(vec![2, 3], vec![0.0; 5]);
    assert!(matches!(error, Err(AdapterError::WrongLength { expected: 6, found: 5, .. })));
    let overflow = Tensor::new(vec![usize::MAX, 2], vec![0.0; 5]);
    assert!(matches!(overflow, Err(AdapterError::WrongLength { expected: usize::MAX, found: 5, .. })));
}

#[test]
fn missing_and_unexpected_modules_are_named() {
    let missing = broken(|parts| drop(parts.1.remove(&query())));
    assert!(matches!(missing, AdapterError::MissingTensor { name } if name == "encoder.layer.0.query"));
    for extra in ["a.first", "encoder.layer.0.zzz", "zzz"] {
        let unexpected = broken(|parts| {
            let factors = parts.1[&query()].clone();
            parts.1.insert(ModuleName::new(extra), factors);
        });
        assert!(matches!(unexpected, AdapterError::UnexpectedTensor { name } if name == extra));
    }
}

#[test]
fn missing_and_unexpected_head_tensors_are_named() {
    let missing = broken(|parts| drop(parts.2.remove("classifier.weight")));
    assert!(matches!(missing, AdapterError::MissingTensor { name } if name == "classifier.weight"));
    let unexpected = broken(|parts| drop(parts.2.insert("pooler.weight".to_owned(), Tensor::zeros(&[1]))));
    assert!(matches!(unexpected, AdapterError::UnexpectedTensor { name } if name == "pooler.weight"));
}

#[test]
fn a_transposed_factor_is_refused_on_either_side() {
    for side in [Side::A, Side::B] {
        let error = broken(|parts| {
            let factors = parts.1.get_mut(&query()).expect("a module");
            let transposed: Vec<usize> = factors.side(side).shape().iter().rev().copied().collect();
            factors.set(side, Tensor::zeros(&transposed));
        });
        let AdapterError::WrongShape { name, expected, found } = error else { panic!("{error}") };
        assert!(name.ends_with(&format!("query.lora_{side}.weight")), "{name}");
        assert!(expected.iter().eq(found.iter().rev()));
    }
    let head = broken(|parts| drop(parts.2.insert("classifier.bias".to_owned(), Tensor::zeros(&[2, 1]))));
    assert!(matches!(head, AdapterError::WrongShape { name, .. } if name == "classifier.bias"));
}

#[test]
fn values_that_are_not_finite_are_refused_with_their_place() {
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 13, 20] {
            let error = broken(|parts| parts.1.get_mut(&query()).expect("a module").a.values_mut()[place] = poison);
            assert!(matches!(error, AdapterError::NotFinite { index, .. } if index == place));
        }
        let head = broken(|parts| parts.2.get_mut("classifier.bias").expect("a tensor").values_mut()[1] = poison);
        assert!(matches!(head, AdapterError::NotFinite { name, index: 1 } if name == "classifier.bias"));
    }
}

#[test]
fn the_largest_finite_values_are_values() {
    let (spec, modules, mut head) = adapter(&spec(AdapterKind::Lora), 0.0).into_parts();
    let bias = Tensor::new(vec![2], vec![f32::MAX, f32::MIN]).expect("two values");
    head.insert("classifier.bias".to_owned(), bias);
    Adapter::new(spec, modules, head).expect("finite");
}

#[test]
fn unusable_specifications_are_refused_before_anything_is_allocated() {
    let module = |d_in, d_out| (ModuleName::new("wide"), ModuleSpec::new(d_in, d_out));
    let lora = spec(AdapterKind::Lora);
    let unusable = [
        changed(&lora, |spec| spec.rank = 0),
        changed(&lora, |spec| spec.alpha = 0.0),
        changed(&lora, |spec| spec.alpha = -1.0),
        changed(&lora, |spec| spec.alpha = f64::NAN),
        changed(&lora, |spec| spec.alpha = f64::INFINITY),
        changed(&lora, |spec| spec.modules.clear()),
        changed(&lora, |spec| spec.modules.extend([module(0, 4)])),
        changed(&lora, |spec| spec.modules.extend([module(4, 0)])),
        changed(&lora, |spec| spec.modules.extend([module(usize::MAX, 4)])),
        changed(&lora, |spec| spec.modules.extend([module(4, usize::MAX / 16)])),
        changed(&lora, |spec| spec.rank = usize::MAX / 4),
        changed(&lora, |spec| drop(spec.head.insert("big".to_owned(), vec![1 << 40, 1 << 40]))),
        changed(&lora, |spec| drop(spec.head.insert("encoder.layer.0.query.lora_A.weight".to_owned(), vec![1]))),
        changed(&spec(AdapterKind::LoraXs), |spec| spec.rank = 5),
        changed(&spec(AdapterKind::LoraXs), |spec| drop(spec.head.pop_last())),
        changed(&spec(AdapterKind::LoraXs), |spec| drop(spec.head.insert("m.lora_B.weight".to_owned(), vec![1, 3]))),
        changed(&lora, |spec| spec.modules.values_mut().for_each(|module| module.rank = Some(0))),
        changed(&lora, |spec| spec.modules.values_mut().for_each(|module| module.alpha = Some(-1.0))),
        changed(&spec(AdapterKind::Vera), |spec| spec.modules.values_mut().for_each(|module| module.rank = Some(2))),
        changed(&spec(AdapterKind::Olora), |spec| spec.modules.values_mut().for_each(|module| module.rank = Some(5))),
        // VeRA's vectors would fit, its projections would not.
        changed(&spec(AdapterKind::Vera), |spec| spec.rank = 1 << 58),
    ];
    for (index, spec) in unusable.into_iter().enumerate() {
        assert!(matches!(spec.validate(), Err(AdapterError::Spec(_))), "{index}");
        assert!(matches!(Adapter::zeros(spec), Err(AdapterError::Spec(_))), "{index}");
    }
}

#[test]
fn the_scale_follows_the_kind() {
    let plain = spec(AdapterKind::Lora);
    let stabilised = changed(&plain, |spec| spec.use_rslora = true);
    assert!((plain.scaling() - 8.0 / 3.0).abs() < f64::EPSILON * 4.0);
    // alpha / sqrt(r) over alpha / r.
    assert!((stabilised.scaling() / plain.scaling() - 3.0_f64.sqrt()).abs() < f64::EPSILON * 4.0);
    let own = ModuleSpec { rank: Some(2), alpha: Some(5.0), ..ModuleSpec::new(7, 5) };
    assert_eq!(plain.scaling_of(&own).to_bits(), 2.5_f64.to_bits());
    assert_eq!(plain.scaling_of(&ModuleSpec::new(7, 5)).to_bits(), plain.scaling().to_bits());
    assert!((stabilised.scaling_of(&own) - 5.0 / 2.0_f64.sqrt()).abs() < f64::EPSILON * 4.0);
    let vera = changed(&spec(AdapterKind::Vera), |spec| spec.use_rslora = true);
    assert_eq!(vera.scaling().to_bits(), 1.0_f64.to_bits());
}

#[test]
fn factors_have_the_shapes_of_their_kind() {
    let module = ModuleSpec::new(7, 5);
    let shapes = |kind| [Side::A, Side::B].map(|side| spec(kind).shape(&module, side));
    assert_eq!(shapes(AdapterKind::Lora), [vec![3, 7], vec![5, 3]]);
    assert_eq!(shapes(AdapterKind::Vera), [vec![3], vec![5]]);
    assert_eq!(shapes(AdapterKind::LoraXs), [vec![3, 7], vec![3, 3]]);
    let extras =
        |kind| spec(kind).head.clone().into_iter().filter(|(name, _)| name.contains("lora")).collect::<Vec<_>>();
    let left = |name: &str, d_out| (format!("encoder.layer.{name}.lora_B.weight"), vec![d_out, 3]);
    assert_eq!(extras(AdapterKind::LoraXs), [left("0.query", 5), left("1.value", 6)]);
}
