//! Update files that went well or were damaged on the way. Every case is read twice, from memory and from a file.

use std::{collections::BTreeMap, fs};

use fedlora_adapter::{
    AdapterError, AdapterKind, AdapterUpdate, ModuleName, Side, Tensor, TensorSource, UpdateFile, UpdateSource, decode,
    decode_adapter, encode, encode_adapter, map_adapter,
};
use proptest::prelude::*;

use crate::support::{
    BothReaders, EVERYTHING, adapter, any_adapter, any_directive, bytes, changed, directives, innermost, spec,
    with_header,
};

proptest! {
    #[test]
    fn what_is_written_is_read_to_the_bit(adapter in any_adapter(), directive in any_directive()) {
        let update = AdapterUpdate::select(&adapter, directive);
        let read = BothReaders::new(adapter.spec(), directive).read(&bytes(&update)).expect("just written");
        prop_assert_eq!(read.digest(), update.digest());
    }

    #[test]
    fn a_whole_adapter_is_read_as_it_was_written(adapter in any_adapter()) {
        let file = encode_adapter(&adapter).expect("small");
        prop_assert_eq!(&decode_adapter(&file, adapter.spec(), adapter.digest()).expect("just written"), &adapter);
        let update = AdapterUpdate::select(&adapter, EVERYTHING);
        prop_assert_eq!(file, bytes(&update), "the same bytes as an update of everything");
    }

    #[test]
    fn bytes_of_any_kind_are_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(BothReaders::new(&spec(AdapterKind::Lora), EVERYTHING).read(&bytes).is_err());
    }

    #[test]
    fn headers_of_any_kind_are_an_error_and_no_panic(
        header in "[\\[\\]{}\":,0-9a-zF_. -]{0,200}", body in 0_usize..600,
    ) {
        let bytes = with_header(header.as_bytes(), &vec![0; body]);
        prop_assert!(BothReaders::new(&spec(AdapterKind::Lora), EVERYTHING).read(&bytes).is_err());
    }

    #[test]
    fn damage_in_several_places_gives_an_error_or_a_valid_update(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (mut bytes, readers) = written();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        // The readers' own checks are the assertion: they agree, and what they accept has passed the constructor.
        let _ = readers.read(&bytes);
    }
}

/// A small update and what reads it.
fn written() -> (Vec<u8>, BothReaders) {
    let spec = changed(&spec(AdapterKind::Vera), |spec| {
        spec.modules.pop_last();
        spec.head.retain(|name, _| name == "classifier.bias");
    });
    let update = AdapterUpdate::select(&adapter(&spec, 1.0), EVERYTHING);
    (bytes(&update), BothReaders::new(&spec, EVERYTHING))
}

#[test]
fn every_truncation_is_refused() {
    let (bytes, readers) = written();
    for length in 0..bytes.len() {
        assert!(readers.read(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
    readers.read(&bytes).expect("whole");
}

#[test]
fn bytes_behind_the_last_value_are_refused() {
    let (mut bytes, readers) = written();
    for extra in [1, 4, 4096] {
        bytes.resize(bytes.len() + extra, 0);
        assert!(readers.read(&bytes).is_err(), "{extra} bytes");
    }
}

#[test]
fn every_flipped_bit_gives_an_error_or_a_valid_update() {
    let (original, readers) = written();
    let values = original.len() - readers.read(&original).expect("whole").bytes() as usize;
    let (mut accepted, mut refused) = (0, 0);
    for place in 0..original.len() * 8 {
        let mut bytes = original.clone();
        bytes[place / 8] ^= 1 << (place % 8);
        match readers.read(&bytes) {
            Ok(update) => {
                let is_value = place / 8 >= values;
                assert!(is_value || update == readers.read(&original).expect("whole"), "bit {place} of the header");
                accepted += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
}

#[test]
fn values_that_are_not_finite_are_refused_with_their_place() {
    let (original, readers) = written();
    let first = original.len() - readers.read(&original).expect("whole").bytes() as usize;
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bytes = original.clone();
        // The second value of the first tensor in name order.
        bytes[first + 4..first + 8].copy_from_slice(&poison.to_le_bytes());
        let error = readers.read(&bytes).expect_err("not finite");
        let AdapterError::NotFinite { name, index: 1 } = error else { panic!("{error}") };
        assert_eq!(name, "base_model.model.classifier.bias");
    }
}

#[test]
fn a_value_that_is_not_finite_is_found_behind_the_first_block_of_a_file() {
    let spec = changed(&spec(AdapterKind::Lora), |spec| {
        spec.head.insert("wide".to_owned(), vec![40_000]);
    });
    let update = AdapterUpdate::select(&adapter(&spec, 1.0), EVERYTHING);
    let mut bytes = bytes(&update);
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("update");
    fs::write(&path, &bytes).expect("a writable folder");
    let error = innermost(UpdateFile::open(&path, &spec, EVERYTHING).expect_err("not finite"));
    assert!(matches!(error, AdapterError::NotFinite { name, index: 39_999 } if name == "base_model.model.wide"));
}

#[test]
fn a_file_without_any_tensor_is_what_local_training_sends() {
    let spec = spec(AdapterKind::Lora);
    for directive in directives() {
        let is_empty = AdapterUpdate::expected(&spec, directive).is_empty();
        let empty = encode([]).expect("nothing to write");
        assert_eq!(BothReaders::new(&spec, directive).read(&empty).is_ok(), is_empty, "{directive:?}");
    }
}

#[test]
fn blocks_of_a_file_are_those_of_the_tensor_wherever_they_begin() {
    let spec = spec(AdapterKind::Lora);
    let update = AdapterUpdate::select(&adapter(&spec, 1.0), EVERYTHING);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("update");
    fs::write(&path, bytes(&update)).expect("a writable folder");
    let file = UpdateFile::open(&path, &spec, EVERYTHING).expect("valid");
    let module = ModuleName::new("encoder.layer.0.query");
    let (on_disk, in_memory) = (file.factor(&module, Side::A), update.factor(&module, Side::A));
    let (on_disk, in_memory) = (on_disk.expect("sent"), in_memory.expect("sent"));
    assert_eq!((on_disk.len(), on_disk.is_empty(), on_disk.shape()), (21, false, in_memory.shape()));
    for offset in [0, 1, 20, 21, 22, usize::MAX] {
        let (mut first, mut second) = ([0.0; 8], [0.0; 8]);
        let found = on_disk.block(offset, &mut first).expect("readable");
        assert_eq!(found, in_memory.block(offset, &mut second).expect("in memory"), "from {offset}");
        assert_eq!(found.len(), 21_usize.saturating_sub(offset).min(8));
    }
}

#[test]
fn a_mapped_file_has_the_values_of_the_update_also_after_their_memory_was_let_go_of() {
    for kind in [AdapterKind::Lora, AdapterKind::Vera] {
        let spec = spec(kind);
        let update = AdapterUpdate::select(&adapter(&spec, 1.0), EVERYTHING);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("update");
        fs::write(&path, bytes(&update)).expect("a writable folder");
        let file = UpdateFile::open(&path, &spec, EVERYTHING).and_then(UpdateFile::mapped).expect("valid");
        for _ in 0..2 {
            let sources = spec.modules.keys().flat_map(|name| [Side::A, Side::B].map(|side| (name, side)));
            for (name, side) in sources {
                let (mapped, in_memory) = (file.factor(name, side), update.factor(name, side));
                let (mapped, in_memory) = (mapped.expect("sent"), in_memory.expect("sent"));
                assert!(matches!(mapped, TensorSource::Memory(_)), "{name} is copied");
                assert_eq!(mapped.load().expect("mapped"), in_memory.load().expect("in memory"), "{name}");
            }
            file.release();
        }
    }
}

#[test]
fn values_that_lie_askew_in_a_file_are_read_instead_of_mapped() {
    let spec = spec(AdapterKind::Lora);
    let update = AdapterUpdate::select(&adapter(&spec, 1.0), EVERYTHING);
    let mut bytes = bytes(&update);
    // One more space behind the header: valid, but no value lies at a multiple of four bytes any more.
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    bytes.insert(8 + length as usize, b' ');
    bytes[..8].copy_from_slice(&(length + 1).to_le_bytes());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("update");
    fs::write(&path, &bytes).expect("a writable folder");
    let file = UpdateFile::open(&path, &spec, EVERYTHING).and_then(UpdateFile::mapped).expect("valid");
    for (name, factors) in adapter(&spec, 1.0).modules() {
        let source = file.factor(name, Side::B).expect("sent");
        assert!(matches!(source, TensorSource::File(_)), "{name} is not read");
        assert_eq!(source.load().expect("readable"), factors.b.values(), "{name}");
    }
}

#[test]
fn an_absent_file_is_an_io_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("none");
    let error = UpdateFile::open(&path, &spec(AdapterKind::Lora), EVERYTHING).expect_err("absent");
    assert!(matches!(error, AdapterError::Io { path: found, .. } if found == path));
}

#[test]
fn another_adapter_than_the_one_asked_for_is_refused() {
    let spec = spec(AdapterKind::Lora);
    let (asked, sent) = (adapter(&spec, 0.0), adapter(&spec, 1.0));
    let error = decode_adapter(&encode_adapter(&sent).expect("small"), &spec, asked.digest()).expect_err("another");
    let digests = (asked.digest(), sent.digest());
    assert!(matches!(error, AdapterError::WrongContent { expected, found } if (expected, found) == digests));
    let cut = &encode_adapter(&asked).expect("small")[..200];
    assert!(decode_adapter(cut, &spec, asked.digest()).is_err());
}

#[test]
fn a_whole_adapter_has_also_what_no_update_has() {
    for kind in [AdapterKind::LoraXs, AdapterKind::Dora] {
        let adapter = adapter(&spec(kind), 1.0);
        let bytes = encode_adapter(&adapter).expect("small");
        assert_eq!(decode_adapter(&bytes, adapter.spec(), adapter.digest()).expect("just written"), adapter);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("adapter");
        fs::write(&path, &bytes).expect("a writable folder");
        assert_eq!(map_adapter(&path, adapter.spec(), adapter.digest()).expect("just written"), adapter);
    }
}

#[test]
fn decoding_needs_no_directive_but_names_and_shapes() {
    let tensor = Tensor::new(vec![1, 2], vec![1.5, -2.0]).expect("two values");
    let bytes = encode([("kept", tensor.as_ref())]).expect("small");
    let read = |shape: Vec<usize>| decode(&bytes, &BTreeMap::from([("kept".to_owned(), shape)]));
    assert_eq!(read(vec![1, 2]).expect("as written")["kept"], tensor);
    assert!(matches!(read(vec![2, 1]), Err(AdapterError::WrongShape { .. })));
}
