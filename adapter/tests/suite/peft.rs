//! PEFT folders that we write and that PEFT writes: what is in them, and that they come back to the bit.

use std::{fs, path::Path, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterError, AdapterKind, AdapterSpec, KINDS, ModuleName, ModuleSpec, PeftOptions, TensorRef,
    VeraProjections, encode, read_peft, write_peft,
};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::support::{adapter, any_adapter, changed, report, spec};

/// Magnitudes of the first module.
const DORA: &str = "encoder.layer.0.query.lora_magnitude_vector";

pub(crate) fn options(task_type: Option<&str>) -> PeftOptions {
    PeftOptions { base_model: "models/tiny".to_owned(), task_type: task_type.map(str::to_owned), dropout: 0.05 }
}

/// A folder with an adapter in it.
pub(crate) fn written(adapter: &Adapter) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_peft(folder.path(), adapter, &options(Some("SEQ_CLS"))).expect("a writable folder");
    folder
}

pub(crate) fn read(folder: &Path, spec: &Arc<AdapterSpec>) -> Result<Adapter, AdapterError> {
    read_peft(folder, spec, &Adapter::zeros(Arc::clone(spec)).expect("usable"))
}

pub(crate) fn config(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).expect("written")).expect("JSON")
}

/// Writes the weights again under other names; an empty name drops a tensor.
pub(crate) fn rename(folder: &Path, mut name: impl FnMut(&str) -> String) {
    let path = folder.join("adapter_model.safetensors");
    let bytes = fs::read(&path).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a file");
    let values = |data: &[u8]| data.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = file
        .iter()
        .map(|(old, view)| (name(old), view.shape().to_vec(), values(view.data())))
        .filter(|(name, ..)| !name.is_empty())
        .collect();
    let tensors = tensors.iter().map(|(name, shape, values)| (name.as_str(), TensorRef { shape, values }));
    fs::write(&path, encode(tensors).expect("small")).expect("a writable folder");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read_to_the_bit(adapter in any_adapter()) {
        let folder = written(&adapter);
        prop_assert_eq!(read(folder.path(), adapter.spec()).expect("just written").digest(), adapter.digest());
    }
}

#[test]
fn both_scales_of_lora_survive() {
    for use_rslora in [false, true] {
        let spec = changed(&spec(AdapterKind::Lora), |spec| spec.use_rslora = use_rslora);
        let adapter = adapter(&spec, 1.0);
        let folder = written(&adapter);
        assert_eq!(config(folder.path())["use_rslora"], json!(use_rslora));
        assert_eq!(read(folder.path(), &spec).expect("just written"), adapter);
    }
}

#[test]
fn the_configuration_of_lora_has_the_keys_that_peft_reads() {
    let folder = written(&adapter(&spec(AdapterKind::Lora), 1.0));
    let expected = json!({
        "peft_type": "LORA",
        "base_model_name_or_path": "models/tiny",
        "task_type": "SEQ_CLS",
        "inference_mode": true,
        "r": 3,
        "lora_alpha": 8.0,
        "lora_dropout": 0.05,
        "use_rslora": false,
        "use_dora": false,
        "init_lora_weights": true,
        "bias": "none",
        "fan_in_fan_out": false,
        "target_modules": ["encoder.layer.0.query", "encoder.layer.1.value"],
        "modules_to_save": ["classifier"],
    });
    assert_eq!(config(folder.path()), expected);
}

#[test]
fn dora_and_olora_say_what_they_are_and_are_read_as_nothing_else() {
    for (kind, key, value) in
        [(AdapterKind::Dora, "use_dora", json!(true)), (AdapterKind::Olora, "init_lora_weights", json!("olora"))]
    {
        let adapter = adapter(&spec(kind), 1.0);
        let folder = written(&adapter);
        assert_eq!((&config(folder.path())["peft_type"], &config(folder.path())[key]), (&json!("LORA"), &value));
        assert_eq!(config(folder.path())["modules_to_save"], json!(["classifier"]), "magnitudes are no module");
        assert_eq!(read(folder.path(), &spec(kind)).expect("just written"), adapter);
        for other in KINDS.iter().filter(|row| row.kind != kind) {
            read(folder.path(), &spec(other.kind)).expect_err(other.name);
        }
    }
}

#[test]
fn ranks_and_alphas_of_single_modules_are_written_as_patterns_that_mean_no_other() {
    let module = |rank, alpha| ModuleSpec { rank, alpha, ..ModuleSpec::new(7, 5) };
    let spec = changed(&spec(AdapterKind::Lora), |spec| {
        let modules = [("fc", module(Some(2), None)), ("z.fc", module(None, Some(3.0))), ("z.q", module(None, None))];
        spec.modules = modules.map(|(name, module)| (ModuleName::new(name), module)).into();
    });
    let adapter = adapter(&spec, 1.0);
    let folder = written(&adapter);
    let text = fs::read_to_string(folder.path().join("adapter_config.json")).expect("written");
    // What comes first counts: the longer name, with the rank that it has.
    let [longer, shorter] = [r#""z\\.fc": 3"#, r#""fc": 2"#].map(|entry| text.find(entry).expect(entry));
    assert!(longer < shorter, "{text}");
    assert_eq!(config(folder.path())["alpha_pattern"], json!({ r"z\.fc": 3.0 }));
    assert_eq!(read(folder.path(), &spec).expect("just written"), adapter);
    let plain = changed(&spec, |spec| spec.modules.values_mut().for_each(|module| module.alpha = None));
    let error = report(&read(folder.path(), &plain).expect_err("another scale"));
    assert!(error.contains("alpha_pattern is 3, expected 8 for z.fc"), "{error}");
    let plain = changed(&plain, |spec| spec.modules.values_mut().for_each(|module| module.rank = None));
    let error = report(&read(folder.path(), &plain).expect_err("another rank"));
    assert!(error.contains("rank_pattern is 2, expected 3 for fc"), "{error}");
}

#[test]
fn lora_xs_is_a_plain_lora_to_peft_and_itself_to_us() {
    let spec = spec(AdapterKind::LoraXs);
    let adapter = adapter(&spec, 1.0);
    let folder = written(&adapter);
    assert_eq!(config(folder.path())["peft_type"], json!("LORA"));
    assert_eq!(config(folder.path())["modules_to_save"], json!(["classifier"]), "constants are no module");
    assert_eq!(read(folder.path(), &spec).expect("just written"), adapter);
    let plain = Arc::new(spec.folded());
    assert_eq!(plain.kind, AdapterKind::Lora);
    let folded = read(folder.path(), &plain).expect("just written");
    assert_eq!(folded, *adapter.folded().expect("finite"));
    for (name, factors) in adapter.modules() {
        let left = &adapter.head()[&format!("{name}.lora_B.weight")];
        assert_eq!(folded.modules()[name].a, factors.a);
        for (index, &found) in folded.modules()[name].b.values().iter().enumerate() {
            let term = |k: usize| left.values()[index / 3 * 3 + k] * factors.b.values()[k * 3 + index % 3];
            // Multiples of a sixteenth below 2^24: f32 holds every sum.
            assert_eq!(found.to_bits(), (term(0) + term(1) + term(2)).to_bits());
        }
    }
    fs::remove_file(folder.path().join("lora_xs.safetensors")).expect("written");
    assert!(report(&read(folder.path(), &spec).expect_err("peft's")).contains("lora_xs.safetensors"));
}

#[test]
fn dora_without_its_magnitudes_is_refused() {
    let folder = written(&adapter(&spec(AdapterKind::Dora), 1.0));
    rename(folder.path(), |name| {
        if name.ends_with("1.value.lora_magnitude_vector") { String::new() } else { name.to_owned() }
    });
    let error = report(&read(folder.path(), &spec(AdapterKind::Dora)).expect_err("incomplete"));
    assert!(error.contains("1.value.lora_magnitude_vector"), "{error}");
    let spec = changed(&spec(AdapterKind::Dora), |spec| spec.head.clear());
    assert!(matches!(spec.validate(), Err(AdapterError::Spec(_))));
}

#[test]
fn the_configuration_of_vera_has_the_keys_that_peft_reads() {
    let folder = written(&adapter(&spec(AdapterKind::Vera), 1.0));
    let expected = json!({
        "peft_type": "VERA",
        "base_model_name_or_path": "models/tiny",
        "task_type": "SEQ_CLS",
        "inference_mode": true,
        "r": 3,
        "vera_dropout": 0.05,
        "d_initial": 0.1,
        "projection_prng_key": 11,
        "save_projection": true,
        "bias": "none",
        "fan_in_fan_out": false,
        "target_modules": ["encoder.layer.0.query", "encoder.layer.1.value"],
        "modules_to_save": ["classifier"],
    });
    assert_eq!(config(folder.path()), expected);
}

#[test]
fn peft_wraps_the_head_only_where_the_base_model_has_one() {
    let lora = adapter(&spec(AdapterKind::Lora), 1.0);
    let headless = adapter(&changed(&spec(AdapterKind::Lora), |spec| spec.head.clear()), 1.0);
    let saved = |adapter: &Adapter, task: Option<&str>| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_peft(folder.path(), adapter, &options(task)).expect("a writable folder");
        config(folder.path())["modules_to_save"].clone()
    };
    assert_eq!(saved(&lora, Some("SEQ_CLS")), json!(["classifier"]));
    assert_eq!(saved(&lora, None), json!(["classifier"]), "models outside of transformers' tasks, such as vision");
    assert_eq!(saved(&lora, Some("FEATURE_EXTRACTION")), Value::Null);
    assert_eq!(saved(&headless, Some("SEQ_CLS")), Value::Null);
}

#[test]
fn tensors_have_the_names_and_layout_of_peft() {
    for (kind, factors) in [
        (AdapterKind::Lora, ["query.lora_A.weight", "query.lora_B.weight"]),
        (AdapterKind::Vera, ["query.vera_lambda_d", "query.vera_lambda_b"]),
        (AdapterKind::Dora, ["query.lora_A.weight", "query.lora_magnitude_vector"]),
    ] {
        let adapter = adapter(&spec(kind), 1.0);
        let folder = written(&adapter);
        let bytes = fs::read(folder.path().join("adapter_model.safetensors")).expect("written");
        let file = SafeTensors::deserialize(&bytes).expect("a file");
        let shape = |name: &str| file.tensor(name).expect("written").shape().to_vec();
        let first = adapter.modules().values().next().expect("a module");
        assert_eq!(shape(&format!("base_model.model.encoder.layer.0.{}", factors[0])), first.a.shape());
        let second = if kind == AdapterKind::Dora { &adapter.head()[DORA] } else { &first.b };
        assert_eq!(shape(&format!("base_model.model.encoder.layer.0.{}", factors[1])), second.shape());
        assert_eq!(shape("base_model.model.classifier.weight"), [2, 8]);
        let projections = if kind == AdapterKind::Vera { 2 } else { 0 };
        let magnitudes = if kind == AdapterKind::Dora { 2 } else { 0 };
        assert_eq!(file.len(), 2 * 2 + 2 + projections + magnitudes);
    }
}

#[test]
fn vera_carries_its_projections() {
    let spec = spec(AdapterKind::Vera);
    let folder = written(&adapter(&spec, 1.0));
    let bytes = fs::read(folder.path().join("adapter_model.safetensors")).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a file");
    let projections = VeraProjections::new(&spec);
    for (name, expected) in [("base_model.vera_A", projections.a), ("base_model.vera_B", projections.b)] {
        let view = file.tensor(name).expect("written");
        assert_eq!(view.shape(), expected.shape());
        let values: Vec<u8> = expected.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(view.data(), values);
    }
}

#[test]
fn an_encoder_alone_and_the_same_encoder_inside_a_classifier_exchange_adapters() {
    for kind in [AdapterKind::Lora, AdapterKind::Vera] {
        let spec = spec(kind);
        let adapter = adapter(&spec, 1.0);
        let inside = written(&adapter);
        rename(inside.path(), |name| name.replace("model.encoder", "model.bert.encoder"));
        assert_eq!(read(inside.path(), &spec).expect("longer names in the file"), adapter);
        let longer = changed(&spec, |spec| {
            let modules = std::mem::take(&mut spec.modules);
            let rename = |name: &str| fedlora_adapter::ModuleName::new(format!("bert.{name}"));
            spec.modules = modules.into_iter().map(|(name, module)| (rename(name.as_str()), module)).collect();
        });
        let alone = written(&adapter);
        let result = read(alone.path(), &longer).expect("shorter names in the file");
        assert!(result.modules().values().eq(adapter.modules().values()));
        assert_eq!(result.head(), adapter.head());
    }
}

#[test]
fn a_module_whose_name_ends_another_is_told_apart_from_it() {
    let spec = changed(&spec(AdapterKind::Lora), |spec| {
        let module = spec.modules.values().next().copied().expect("a module");
        spec.modules = ["fc", "block.fc"].map(|name| (fedlora_adapter::ModuleName::new(name), module)).into();
    });
    let adapter = adapter(&spec, 1.0);
    let folder = written(&adapter);
    assert_eq!(read(folder.path(), &spec).expect("just written"), adapter);
    rename(folder.path(), |name| name.replace("base_model.model.", "base_model.model.outer.block."));
    assert_eq!(read(folder.path(), &spec).expect("one prefix for all").modules(), adapter.modules());
}

#[test]
fn head_tensors_that_a_folder_lacks_stay_as_they_are() {
    let spec = spec(AdapterKind::Lora);
    let trained = adapter(&spec, 1.0);
    let initial = adapter(&spec, -90.0);
    let folder = written(&trained);
    rename(folder.path(), |name| if name.contains("classifier") { String::new() } else { name.to_owned() });
    let result = read_peft(folder.path(), &spec, &initial).expect("no head is no harm");
    assert_eq!((result.modules(), result.head()), (trained.modules(), initial.head()));
}

#[test]
fn an_adapter_is_replaced_as_a_whole_or_left_as_it_was() {
    let spec = spec(AdapterKind::Lora);
    let (first, second) = (adapter(&spec, 1.0), adapter(&spec, -90.0));
    let folder = written(&first);
    // A folder stands where the new file would be written before it is renamed.
    let blocked = folder.path().join("adapter_model.safetensors.partial");
    fs::create_dir(&blocked).expect("a writable folder");
    let error = write_peft(folder.path(), &second, &options(None)).expect_err("blocked");
    assert!(matches!(error, AdapterError::Io { path, .. } if path.ends_with("adapter_model.safetensors")));
    assert_eq!(read(folder.path(), &spec).expect("as before"), first);
    fs::remove_dir(&blocked).expect("empty");
    write_peft(folder.path(), &second, &options(None)).expect("free again");
    assert_eq!(read(folder.path(), &spec).expect("replaced"), second);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left beside the two files");
}

#[test]
fn a_failed_write_leaves_no_half_file() {
    let adapter = adapter(&spec(AdapterKind::Lora), 1.0);
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A folder in the place of the weights: everything but the last step succeeds.
    let weights = folder.path().join("adapter_model.safetensors");
    fs::create_dir(&weights).expect("a writable folder");
    fs::write(weights.join("occupied"), "").expect("a writable folder");
    write_peft(folder.path(), &adapter, &options(None)).expect_err("a folder cannot be replaced");
    let left: Vec<_> =
        fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(left, [weights]);
    let occupied = folder.path().join("adapter_model.safetensors/occupied");
    let error = write_peft(&occupied, &adapter, &options(None)).expect_err("a file is no folder");
    assert!(matches!(error, AdapterError::Io { path, .. } if path == occupied));
}
