//! What names a thing: digests, seeds and projections. The fixed values below are the recipe: runs recorded with one
//! version must be repeatable with the next, so a change here is a change of format.

use std::{collections::BTreeSet, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterUpdate, ClientId, Digest, Directive, Factors, LoraFactors, ModuleName, ModuleSpec,
    Purpose, RoundId, Seed, Side, Tensor, VeraProjections,
};
use rand::Rng;

use crate::support::{EVERYTHING, adapter, changed, spec};

#[test]
fn every_part_of_a_specification_changes_its_digest() {
    let plain = spec(AdapterKind::Lora);
    let query = ModuleName::new("encoder.layer.0.query");
    let others = [
        changed(&plain, |_| {}),
        changed(&plain, |spec| spec.kind = AdapterKind::Vera),
        changed(&plain, |spec| spec.rank = 4),
        changed(&plain, |spec| spec.alpha = 8.5),
        changed(&plain, |spec| spec.use_rslora = true),
        changed(&plain, |spec| spec.projection_seed = 12),
        changed(&plain, |spec| spec.modules.retain(|name, _| *name != query)),
        changed(&plain, |spec| spec.modules.extend([(query.clone(), ModuleSpec::new(5, 7))])),
        changed(&plain, |spec| drop(spec.head.insert("classifier.bias".to_owned(), vec![3]))),
        changed(&plain, |spec| spec.modules.values_mut().for_each(|module| module.rank = Some(2))),
        changed(&plain, |spec| spec.modules.values_mut().for_each(|module| module.alpha = Some(2.0))),
    ];
    let digests: BTreeSet<Digest> = others.iter().map(|spec| spec.digest()).collect();
    assert_eq!(digests.len(), others.len());
    assert_eq!(others[0].digest(), plain.digest());
}

#[test]
fn what_single_modules_do_not_have_is_no_part_of_a_digest() {
    let plain = spec(AdapterKind::Lora);
    let json = serde_json::to_value(&*plain).expect("plain values");
    assert_eq!(json["modules"]["encoder.layer.0.query"], serde_json::json!({ "d_in": 7, "d_out": 5 }));
    assert_eq!(plain.digest().to_hex(), GOLDEN_SPEC);
    let pattern = |json: &str| serde_json::from_str(json).expect("a map");
    let ranks =
        |json: &str| (*plain).clone().with_patterns(&pattern(json), &serde_json::from_str("{}").expect("a map"));
    assert_eq!(ranks(r#"{"query": 3}"#).expect("the adapter's own rank").digest(), plain.digest());
    let other = ranks(r#"{"query": 2}"#).expect("a rank");
    assert_ne!(other.digest(), plain.digest());
    let ranks = other.modules.values().map(|module| other.rank_of(module)).collect::<Vec<_>>();
    assert_eq!(ranks, [2, 3]);
}

#[test]
fn one_changed_bit_of_any_tensor_changes_the_digest_of_an_adapter() {
    let original = adapter(&spec(AdapterKind::Lora), 1.0);
    let mut digests = BTreeSet::from([original.digest()]);
    let flip = |tensor: &Tensor| {
        Tensor::from_fn(tensor.shape(), |index| {
            let bits = tensor.values()[index].to_bits();
            f32::from_bits(if index == 0 { bits ^ 1 } else { bits })
        })
    };
    for module in original.modules().keys() {
        for side in [Side::A, Side::B] {
            let (spec, mut modules, head) = original.clone().into_parts();
            let factors: &mut LoraFactors = modules.get_mut(module).expect("a module");
            factors.set(side, flip(factors.side(side)));
            digests.insert(Adapter::new(spec, modules, head).expect("finite").digest());
        }
    }
    for name in original.head().keys() {
        let (spec, modules, mut head) = original.clone().into_parts();
        head.insert(name.clone(), flip(&head[name]));
        digests.insert(Adapter::new(spec, modules, head).expect("finite").digest());
    }
    assert_eq!(digests.len(), 1 + 4 + 2);
}

#[test]
fn equal_values_under_another_specification_are_another_adapter() {
    let plain = spec(AdapterKind::Lora);
    let rescaled = changed(&plain, |spec| spec.alpha = 16.0);
    assert_ne!(adapter(&plain, 1.0).digest(), adapter(&rescaled, 1.0).digest());
    assert_eq!(adapter(&plain, 1.0).digest(), adapter(&plain, 1.0).digest());
}

#[test]
fn equal_values_under_another_name_are_another_update() {
    // One square module of rank 2 whose factors hold the same values in the same order.
    let spec = changed(&spec(AdapterKind::Lora), |spec| {
        spec.rank = 2;
        spec.head.clear();
        spec.modules.clear();
        spec.modules.insert(ModuleName::new("m"), ModuleSpec::new(2, 2));
    });
    let same = Tensor::new(vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]).expect("four values");
    let factors = LoraFactors { a: same.clone(), b: same };
    let adapter = Adapter::new(Arc::clone(&spec), [(ModuleName::new("m"), factors)].into(), [].into()).expect("valid");
    let sent = |upload| AdapterUpdate::select(&adapter, Directive { upload, ..EVERYTHING }).digest();
    assert_ne!(sent(Factors::A), sent(Factors::B));
}

#[test]
fn digests_survive_json_and_refuse_what_is_none() {
    let digest = Digest::of(b"content");
    let json = serde_json::to_string(&digest).expect("a string");
    assert_eq!(json, format!("\"{}\"", digest.to_hex()));
    assert_eq!(serde_json::from_str::<Digest>(&json).expect("just written"), digest);
    assert!(digest.to_hex().starts_with(&digest.to_string()));
    for bad in ["\"\"", "\"00\"", "7", &json.replace(&digest.to_hex()[..1], "g"), &format!("\"{}0\"", digest.to_hex())]
    {
        assert!(serde_json::from_str::<Digest>(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_streams_of_a_seed_never_change() {
    let (round, client) = (RoundId(3), ClientId(5));
    let purposes = [
        Purpose::Init,
        Purpose::Partition,
        Purpose::Split,
        Purpose::Cohort,
        Purpose::Shuffle,
        Purpose::Dropout,
        Purpose::Faults,
        Purpose::Projection,
        Purpose::Data,
    ];
    let found = purposes.map(|purpose| Seed(42).client(purpose, round, client).next_u64());
    assert_eq!(found, GOLDEN);
    assert_eq!(Seed(42).run(Purpose::Init).next_u64(), GOLDEN_RUN);
    assert_eq!(Seed(42).round(Purpose::Cohort, round).next_u64(), GOLDEN_ROUND);
    assert_eq!(Seed(42).named(Purpose::Init, "encoder.weight").next_u64(), GOLDEN_NAMED);
    let distinct: BTreeSet<u64> = GOLDEN.into_iter().chain([GOLDEN_RUN, GOLDEN_ROUND, GOLDEN_NAMED]).collect();
    assert_eq!(distinct.len(), 12);
}

#[test]
fn vera_projections_never_change() {
    let projections = VeraProjections::new(&spec(AdapterKind::Vera));
    assert_eq!((projections.a.shape(), projections.b.shape()), (&[3, 7][..], &[6, 3][..]));
    assert_eq!(projections.digest().to_hex(), GOLDEN_PROJECTIONS);
}

#[test]
fn vera_projections_are_kaiming_uniform_and_depend_on_the_seed() {
    let wide = changed(&spec(AdapterKind::Vera), |spec| {
        spec.rank = 16;
        spec.modules.insert(ModuleName::new("wide"), ModuleSpec::new(1024, 512));
    });
    let projections = VeraProjections::new(&wide);
    for (tensor, width) in [(&projections.a, 1024.0_f32), (&projections.b, 16.0)] {
        let bound = (6.0 / width).sqrt();
        let values = tensor.values();
        assert!(values.iter().all(|value| value.abs() <= bound));
        // Over 8192 uniform values the variance is that of the bound, 1/3 of its square, within 5 standard errors.
        let square = values.iter().map(|value| f64::from(value / bound).powi(2)).sum::<f64>() / values.len() as f64;
        let error = (4.0 / 45.0 / values.len() as f64).sqrt();
        assert!((square - 1.0 / 3.0).abs() < 5.0 * error, "{square}");
    }
    let other = VeraProjections::new(&changed(&wide, |spec| spec.projection_seed += 1));
    assert_ne!(projections.digest(), other.digest());
}

#[test]
fn a_module_uses_the_first_columns_and_the_first_rows_of_the_projections() {
    let projections = VeraProjections::new(&spec(AdapterKind::Vera));
    let (a, b) = projections.slice(&ModuleSpec::new(4, 5));
    assert_eq!((a.shape(), b.shape()), (&[3, 4][..], &[5, 3][..]));
    for row in 0..3 {
        assert_eq!(a.values()[row * 4..][..4], projections.a.values()[row * 7..][..4]);
    }
    assert_eq!(b.values(), &projections.b.values()[..15]);
}

const GOLDEN: [u64; 9] = [
    16_196_208_202_525_687_419,
    15_369_192_673_157_334_921,
    3_298_678_034_976_904_107,
    4_600_852_903_495_918_244,
    574_210_553_096_820_614,
    3_422_630_208_540_604_041,
    7_182_695_769_290_864_438,
    12_719_483_342_769_135_683,
    13_054_453_004_841_591_790,
];
const GOLDEN_SPEC: &str = "8a594d21f0a63644e2c0b53e10bef9fd244850051d6fa728639f8046be9b64e8";
const GOLDEN_RUN: u64 = 16_920_927_446_655_569_142;
const GOLDEN_ROUND: u64 = 4_242_513_302_530_381_074;
const GOLDEN_NAMED: u64 = 16_437_793_468_674_371_124;
const GOLDEN_PROJECTIONS: &str = "aab18e94431d6dcae305e074a09587c18c4ccd7a4014e277a1b1060dada2228f";
