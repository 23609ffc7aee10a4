//! Specifications, adapters and files to test with.

use std::{collections::BTreeMap, error::Error, fs, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterError, AdapterKind, AdapterSpec, AdapterUpdate, Directive, Factors, HeadPolicy, LoraFactors,
    ModuleName, ModuleSpec, Side, Tensor, TensorSource, UpdateFile, UpdateSource, decode, encode,
};
use proptest::{collection::btree_map, prelude::*};

/// Two modules and a head, all sizes different from each other and from the rank.
pub(crate) fn spec(kind: AdapterKind) -> Arc<AdapterSpec> {
    let module = |name: &str, d_in, d_out| (ModuleName::new(name), ModuleSpec::new(d_in, d_out));
    let spec = AdapterSpec {
        kind,
        rank: 3,
        alpha: 8.0,
        use_rslora: false,
        projection_seed: 11,
        modules: BTreeMap::from([module("encoder.layer.0.query", 7, 5), module("encoder.layer.1.value", 4, 6)]),
        head: BTreeMap::from([("classifier.bias".to_owned(), vec![2]), ("classifier.weight".to_owned(), vec![2, 8])]),
    };
    Arc::new(spec.with_extras())
}

/// A specification with something changed.
pub(crate) fn changed(spec: &Arc<AdapterSpec>, change: impl FnOnce(&mut AdapterSpec)) -> Arc<AdapterSpec> {
    let mut spec = (**spec).clone();
    change(&mut spec);
    Arc::new(spec)
}

/// Different values everywhere, in tensor and in index.
pub(crate) fn adapter(spec: &Arc<AdapterSpec>, start: f32) -> Adapter {
    let mut next = start;
    let mut fill = |shape: &[usize]| {
        Tensor::from_fn(shape, |_| {
            next += 0.25;
            next
        })
    };
    filled(spec, &mut fill)
}

fn filled(spec: &Arc<AdapterSpec>, fill: &mut impl FnMut(&[usize]) -> Tensor) -> Adapter {
    let modules = spec
        .modules
        .iter()
        .map(|(name, module)| {
            let (a, b) = (fill(&spec.shape(module, Side::A)), fill(&spec.shape(module, Side::B)));
            (name.clone(), LoraFactors { a, b })
        })
        .collect();
    let head = spec.head.iter().map(|(name, shape)| (name.clone(), fill(shape))).collect();
    Adapter::new(Arc::clone(spec), modules, head).expect("made to match")
}

/// Every directive that there is.
pub(crate) fn directives() -> Vec<Directive> {
    let sets = [Factors::Neither, Factors::A, Factors::B, Factors::Both];
    let heads = [HeadPolicy::Frozen, HeadPolicy::Shared, HeadPolicy::Personal];
    let mut all = Vec::new();
    for train in sets {
        for upload in sets {
            for download in sets {
                all.extend(heads.map(|head| Directive { train, upload, download, head }));
            }
        }
    }
    all
}

/// Both factors and the head.
pub(crate) const EVERYTHING: Directive =
    Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Shared };

/// An update as bytes.
pub(crate) fn bytes(update: &AdapterUpdate) -> Vec<u8> {
    let tensors = update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()));
    encode(tensors).expect("sizes are small")
}

/// A safetensors file of a header as given and a body.
pub(crate) fn with_header(header: &[u8], body: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, body].concat()
}

/// The error at the bottom: without the file that it is in.
pub(crate) fn innermost(error: AdapterError) -> AdapterError {
    match error {
        AdapterError::InFile { source, .. } => innermost(*source),
        other => other,
    }
}

/// An error with all its sources.
pub(crate) fn report(error: &AdapterError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}

/// Reads an update both ways, from memory and from a file, and asserts that they agree to the bit.
pub(crate) struct BothReaders {
    folder: tempfile::TempDir,
    spec: Arc<AdapterSpec>,
    directive: Directive,
}

impl BothReaders {
    pub(crate) fn new(spec: &Arc<AdapterSpec>, directive: Directive) -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), spec: Arc::clone(spec), directive }
    }

    #[track_caller]
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<AdapterUpdate, AdapterError> {
        let path = self.folder.path().join("update");
        fs::write(&path, bytes).expect("a writable folder");
        let file = UpdateFile::open(&path, &self.spec, self.directive);
        let memory = decode(bytes, &AdapterUpdate::expected(&self.spec, self.directive))
            .and_then(|tensors| AdapterUpdate::new(Arc::clone(&self.spec), self.directive, tensors));
        match (file, memory) {
            (Ok(file), Ok(memory)) => {
                assert_same(&self.spec, &file, &memory);
                Ok(memory)
            }
            (Err(_), Err(error)) => Err(error),
            (file, memory) => panic!("the readers disagree: {file:?} and {memory:?}"),
        }
    }
}

#[track_caller]
fn assert_same(spec: &AdapterSpec, file: &UpdateFile, memory: &AdapterUpdate) {
    for module in spec.modules.keys() {
        for side in [Side::A, Side::B] {
            assert_eq!(bits(file.factor(module, side)), bits(memory.factor(module, side)));
        }
    }
    for name in spec.head.keys() {
        assert_eq!(bits(file.extra(name)), bits(memory.extra(name)));
    }
}

/// Shape and exact values; `None` for what was not sent.
fn bits(source: Option<TensorSource<'_>>) -> Option<(Vec<usize>, Vec<u32>)> {
    let source = source?;
    let values = source.load().expect("readable").iter().map(|value| value.to_bits()).collect();
    Some((source.shape().to_vec(), values))
}

/// Any usable specification of small tensors.
pub(crate) fn any_spec() -> impl Strategy<Value = Arc<AdapterSpec>> {
    let own = (prop::option::of(1_usize..5), prop::option::of(1.0..9.0_f64));
    let module = (1_usize..6, 1_usize..6, own);
    let module = module.prop_map(|(d_in, d_out, (rank, alpha))| ModuleSpec { d_in, d_out, rank, alpha });
    // Names are the world's: quotes, controls and other scripts must survive JSON.
    let modules = btree_map("\\PC{0,6}[\"\\\\\u{1}é漢a-z.]{1,8}".prop_map(ModuleName::new), module, 1..4);
    let head = btree_map("[a-z]{1,5}\\.(weight|bias)", prop::collection::vec(0_usize..4, 0..4), 0..3);
    // OLoRA's rank has a limit that the others' does not; its tensors are LoRA's.
    let kinds = prop_oneof![Just(AdapterKind::Lora), Just(AdapterKind::Vera), Just(AdapterKind::Dora)];
    (kinds, 1_usize..5, modules, head, any::<bool>()).prop_map(|(kind, rank, mut modules, head, use_rslora)| {
        if kind == AdapterKind::Vera {
            for module in modules.values_mut() {
                *module = ModuleSpec::new(module.d_in, module.d_out);
            }
        }
        let spec = AdapterSpec { kind, rank, alpha: 4.0, use_rslora, projection_seed: 1, modules, head };
        Arc::new(spec.with_extras())
    })
}

/// Any specification with an adapter of any finite values.
pub(crate) fn any_adapter() -> impl Strategy<Value = Adapter> {
    use proptest::num::f32::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    let values = prop::collection::vec(POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO, 8);
    (any_spec(), values).prop_map(|(spec, values)| {
        let mut next = 0;
        filled(&spec, &mut |shape| {
            next += 1;
            Tensor::from_fn(shape, |index| values[(next + index) % values.len()])
        })
    })
}

/// Any of the directives.
pub(crate) fn any_directive() -> impl Strategy<Value = Directive> {
    prop::sample::select(directives())
}
