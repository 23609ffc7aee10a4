//! Adapters that are written tensor by tensor, and adapters whose values stay in their file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{
    Adapter, AdapterError, AdapterKind, AdapterSpec, AdapterWriter, Digest, Side, Tensor, encode_adapter, map_adapter,
};
use proptest::prelude::*;

use crate::support::{adapter, any_adapter, changed, innermost, spec};

/// A folder, and the path of a file in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("adapter");
    (folder, path)
}

fn writer(spec: &Arc<AdapterSpec>, path: &Path) -> AdapterWriter {
    let file = File::options().read(true).write(true).create_new(true).open(path).expect("a writable folder");
    AdapterWriter::new(spec, file, path).expect("a usable specification")
}

/// Adds all parts, beginning with any of them, in name order or against it.
fn add_from(writer: &mut AdapterWriter, adapter: &Adapter, first: usize, backwards: bool) {
    type Add<'a> = Box<dyn Fn(&mut AdapterWriter) -> Result<(), AdapterError> + 'a>;
    let module = |(name, factors)| -> Add<'_> { Box::new(move |writer| writer.module(name, factors)) };
    let extra = |(name, tensor): (&'_ String, _)| -> Add<'_> {
        let name = name.clone();
        Box::new(move |writer| writer.extra(&name, tensor))
    };
    let mut parts: Vec<Add<'_>> =
        adapter.modules().iter().map(module).chain(adapter.head().iter().map(extra)).collect();
    if backwards {
        parts.reverse();
    }
    let first = first % parts.len();
    parts.rotate_left(first);
    parts.iter().try_for_each(|add| add(writer)).expect("made to match");
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.values().iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn the_order_of_the_parts_does_not_change_a_byte(
        adapter in any_adapter(), first in any::<usize>(), backwards in any::<bool>(),
    ) {
        let (_folder, path) = place();
        let mut writer = writer(adapter.spec(), &path);
        add_from(&mut writer, &adapter, first, backwards);
        let written = writer.finish().expect("all parts");
        let expected = encode_adapter(&adapter).expect("small");
        prop_assert_eq!(&fs::read(&path).expect("written"), &expected);
        prop_assert_eq!(written.content(), Digest::of(&expected));
        prop_assert_eq!(written.adapter(), adapter.digest());
        prop_assert_eq!(written.bytes(), expected.len() as u64);
        let opened = written.open(&path).expect("as written");
        let mapped = map_adapter(&path, adapter.spec(), adapter.digest()).expect("as written");
        for found in [&opened, &mapped] {
            prop_assert_eq!(found, &adapter);
            prop_assert_eq!(found.digest(), adapter.digest());
            found.release();
            prop_assert_eq!(found.digest(), adapter.digest(), "found again after it was let go of");
        }
    }
}

#[test]
fn a_tensor_in_a_file_gets_values_of_its_own_when_it_is_changed() {
    let (_folder, path) = place();
    let original = adapter(&spec(AdapterKind::Lora), 1.0);
    fs::write(&path, encode_adapter(&original).expect("small")).expect("a writable folder");
    let mapped = map_adapter(&path, original.spec(), original.digest()).expect("as written");
    let (name, factors) = mapped.modules().iter().next().expect("a module");
    let mut changed = factors.side(Side::A).clone();
    changed.values_mut()[0] = -7.0;
    assert_eq!(changed.values()[0].to_bits(), (-7.0_f32).to_bits());
    assert_eq!(bits(factors.side(Side::A)), bits(original.modules()[name].side(Side::A)), "the file's are as before");
    assert_eq!(factors.b.clone().into_values(), original.modules()[name].b.values());
    assert_eq!(mapped, original);
}

#[test]
fn a_file_with_a_part_missing_is_not_finished() {
    let (_folder, path) = place();
    let adapter = adapter(&spec(AdapterKind::Lora), 1.0);
    let mut writer = writer(adapter.spec(), &path);
    adapter.modules().iter().try_for_each(|(name, factors)| writer.module(name, factors)).expect("made to match");
    let error = writer.finish().expect_err("no head");
    let AdapterError::MissingTensor { name } = error else { panic!("{error}") };
    assert_eq!(name, "base_model.model.classifier.bias");
}

#[test]
fn parts_that_do_not_belong_into_the_file_are_refused() {
    let spec = spec(AdapterKind::Lora);
    let adapter = adapter(&spec, 1.0);
    let refused = |add: &dyn Fn(&mut AdapterWriter) -> Result<(), AdapterError>| {
        let (_folder, path) = place();
        add(&mut writer(&spec, &path)).expect_err("does not belong here")
    };
    let (name, factors) = adapter.modules().iter().next().expect("a module");
    let twice = refused(&|writer| writer.module(name, factors).and_then(|()| writer.module(name, factors)));
    assert!(matches!(twice, AdapterError::DuplicateTensor { .. }), "{twice}");
    let foreign = refused(&|writer| writer.extra("another", &adapter.head()["classifier.bias"]));
    assert!(matches!(foreign, AdapterError::UnexpectedTensor { .. }), "{foreign}");
    let misshapen = refused(&|writer| writer.extra("classifier.bias", &Tensor::zeros(&[3])));
    assert!(matches!(misshapen, AdapterError::WrongShape { .. }), "{misshapen}");
    let no_number = Tensor::new(vec![2], vec![0.0, f32::NAN]).expect("two values");
    let no_number = refused(&|writer| writer.extra("classifier.bias", &no_number));
    assert!(matches!(no_number, AdapterError::NotFinite { index: 1, .. }), "{no_number}");
}

#[test]
fn a_file_that_holds_something_else_is_not_mapped() {
    let (_folder, path) = place();
    let (asked, sent) = (adapter(&spec(AdapterKind::Lora), 0.0), adapter(&spec(AdapterKind::Lora), 1.0));
    let bytes = encode_adapter(&sent).expect("small");
    let map = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("a writable folder");
        map_adapter(&path, asked.spec(), asked.digest()).expect_err("something else")
    };
    let error = map(&bytes);
    let digests = (asked.digest(), sent.digest());
    assert!(matches!(error, AdapterError::WrongContent { expected, found } if (expected, found) == digests), "{error}");
    map(&bytes[..200]);
    let last = bytes.len() - 4;
    let error = innermost(map(&[&bytes[..last], &f32::NAN.to_le_bytes()[..]].concat()));
    assert!(matches!(error, AdapterError::NotFinite { .. }), "{error}");
    let other = changed(asked.spec(), |spec| spec.rank = 2);
    fs::write(&path, &bytes).expect("a writable folder");
    map_adapter(&path, &other, sent.digest()).expect_err("of other shapes");
}

#[test]
fn a_written_file_that_was_cut_is_not_opened() {
    let (_folder, path) = place();
    let adapter = adapter(&spec(AdapterKind::Lora), 1.0);
    let mut writer = writer(adapter.spec(), &path);
    writer.whole(&adapter).expect("made to match");
    let written = writer.finish().expect("all parts");
    File::options().write(true).open(&path).expect("there").set_len(written.bytes() - 4).expect("writable");
    let error = written.open(&path).expect_err("cut");
    assert!(matches!(&error, AdapterError::Io { path: found, .. } if *found == path), "{error}");
}
