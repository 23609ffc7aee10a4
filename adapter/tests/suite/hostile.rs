//! Headers that no honest writer makes. Every case is read twice, from memory and from a file.

use std::{fs, sync::Arc};

use fedlora_adapter::{AdapterError, AdapterKind, AdapterSpec, Directive, Factors, HeadPolicy, UpdateFile};
use safetensors::SafeTensorError;

use crate::support::{BothReaders, changed, innermost, spec, with_header};

/// Two tensors of two values each: what the specification below expects.
const FIRST: &str = r#""base_model.model.m.vera_lambda_d":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
const SECOND: &str = r#""base_model.model.m.vera_lambda_b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#;
const BODY: [u8; 16] = [0; 16];

fn small() -> (Arc<AdapterSpec>, Directive) {
    let spec = changed(&spec(AdapterKind::Vera), |spec| {
        spec.rank = 2;
        spec.head.clear();
        spec.modules.clear();
        let module = fedlora_adapter::ModuleSpec::new(9, 2);
        spec.modules.insert(fedlora_adapter::ModuleName::new("m"), module);
    });
    let directive =
        Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Frozen };
    (spec, directive)
}

fn read(header: &str, body: &[u8]) -> Result<(), AdapterError> {
    read_bytes(&with_header(header.as_bytes(), body))
}

fn read_bytes(bytes: &[u8]) -> Result<(), AdapterError> {
    let (spec, directive) = small();
    BothReaders::new(&spec, directive).read(bytes).map(drop)
}

/// Headers with the second tensor replaced.
fn with_second(second: &str) -> String {
    format!("{{{FIRST},{second}}}")
}

fn second(dtype: &str, shape: &str, offsets: &str) -> String {
    with_second(&format!(
        r#""base_model.model.m.vera_lambda_b":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}"#
    ))
}

#[test]
fn the_honest_header_is_accepted_with_metadata_in_any_order_and_with_padding() {
    read(&with_second(SECOND), &BODY).expect("honest");
    read(&format!("{{{SECOND},{FIRST}}}"), &BODY).expect("order of keys means nothing");
    read(&format!("{{\"__metadata__\":{{\"format\":\"pt\"}},{FIRST},{SECOND}}}"), &BODY).expect("as torch writes");
    read(&format!("{}      ", with_second(SECOND)), &BODY).expect("padded");
}

#[test]
fn shapes_whose_sizes_overflow_are_refused() {
    let huge = u64::MAX;
    for shape in
        [format!("[{huge},2]"), format!("[{huge},{huge}]"), format!("[{huge}]"), "[4611686018427387904]".into()]
    {
        assert!(read(&second("\"F32\"", &shape, "[8,16]"), &BODY).is_err(), "{shape}");
    }
    // 2^63 · 2 is 0 in 64 bits: a product that wraps would fit an empty tensor.
    assert!(read(&second("\"F32\"", "[9223372036854775808,2]", "[8,8]"), &BODY[..8]).is_err());
}

#[test]
fn offsets_that_overlap_leave_holes_or_point_elsewhere_are_refused() {
    let overlapping = second("\"F32\"", "[2]", "[0,8]");
    let shifted = second("\"F32\"", "[2]", "[4,12]");
    let hole = second("\"F32\"", "[2]", "[12,20]");
    let backwards = second("\"F32\"", "[2]", "[16,8]");
    let beyond = second("\"F32\"", "[2]", "[18446744073709551608,18446744073709551615]");
    let short = second("\"F32\"", "[2]", "[8,12]");
    for header in [overlapping, shifted, hole, backwards, beyond, short] {
        for length in [8, 12, 16, 20] {
            assert!(read(&header, &[0; 20][..length]).is_err(), "{header} with {length} bytes");
        }
    }
}

#[test]
fn names_that_occur_twice_are_refused() {
    let error = read(&format!("{{{FIRST},{FIRST},{SECOND}}}"), &BODY).expect_err("twice");
    assert!(matches!(error, AdapterError::DuplicateTensor { name } if name.ends_with("vera_lambda_d")));
    // The same name spelt with an escape is the same name.
    let escaped = FIRST.replace("vera", "ver\\u0061");
    let error = read(&format!("{{{FIRST},{escaped},{SECOND}}}"), &BODY).expect_err("twice");
    assert!(matches!(error, AdapterError::DuplicateTensor { .. }));
    let twice_inside = SECOND.replace("\"shape\":[2]", "\"shape\":[2],\"shape\":[2]");
    assert!(read(&with_second(&twice_inside), &BODY).is_err());
}

#[test]
fn unknown_and_missing_names_are_told_apart() {
    let unknown = SECOND.replace("lambda_b", "lambda_c");
    let error = read(&with_second(&unknown), &BODY).expect_err("unknown");
    assert!(matches!(error, AdapterError::UnexpectedTensor { name } if name.ends_with("lambda_c")));
    let error = read(&format!("{{{FIRST}}}"), &BODY[..8]).expect_err("missing");
    assert!(matches!(error, AdapterError::MissingTensor { name } if name.ends_with("lambda_b")));
    let third = SECOND.replace("m.vera", "n.vera").replace("[8,16]", "[16,24]");
    let error = read(&format!("{{{FIRST},{SECOND},{third}}}"), &[0; 24]).expect_err("one too many");
    assert!(matches!(error, AdapterError::UnexpectedTensor { .. }));
}

#[test]
fn other_element_types_are_refused_even_where_the_size_fits() {
    for dtype in ["I32", "U32"] {
        let error = read(&second(&format!("\"{dtype}\""), "[2]", "[8,16]"), &BODY).expect_err("no floats");
        assert!(matches!(error, AdapterError::UnsupportedDtype { dtype: found, .. } if found == dtype));
    }
    for (dtype, shape) in
        [("\"F16\"", "[4]"), ("\"BF16\"", "[4]"), ("\"F64\"", "[1]"), ("\"f32\"", "[2]"), ("7", "[2]")]
    {
        assert!(read(&second(dtype, shape, "[8,16]"), &BODY).is_err(), "{dtype}");
    }
}

#[test]
fn shapes_that_hold_as_many_values_in_another_form_are_refused() {
    for shape in ["[1,2]", "[2,1]", "[2,1,1]"] {
        let error = read(&second("\"F32\"", shape, "[8,16]"), &BODY).expect_err("another shape");
        assert!(matches!(error, AdapterError::WrongShape { .. }), "{shape}: {error}");
    }
    for shape in ["[-2]", "[2.0]", "\"2\"", "2", "null", "[[2]]", "[18446744073709551616]"] {
        assert!(read(&second("\"F32\"", shape, "[8,16]"), &BODY).is_err(), "{shape}");
    }
}

#[test]
fn headers_that_are_no_objects_of_tensors_are_refused() {
    let nested = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
    let deep = with_second(&format!("\"x\":{nested}"));
    for header in ["", "{", "{}", "[]", "null", "7", "{\"a\"}", "\u{feff}{}", &nested, &deep] {
        assert!(read(header, &BODY).is_err(), "{header:.20}");
    }
    let trailing = format!("{}x", with_second(SECOND));
    assert!(read(&trailing, &BODY).is_err());
    let not_text = with_header(&[b'{', b'"', 0xff, b'"', b':', b'1', b'}'], &BODY);
    assert!(read_bytes(&not_text).is_err());
}

#[test]
fn metadata_must_be_texts_and_small() {
    for metadata in ["7", "[]", "{\"a\":7}", "{\"a\":{}}"] {
        assert!(read(&format!("{{\"__metadata__\":{metadata},{FIRST},{SECOND}}}"), &BODY).is_err(), "{metadata}");
    }
    let large = "x".repeat(100_000);
    let header = format!("{{\"__metadata__\":{{\"a\":\"{large}\"}},{FIRST},{SECOND}}}");
    assert!(matches!(read(&header, &BODY), Err(AdapterError::TooLarge { .. })));
}

#[test]
fn a_header_length_beyond_the_limit_or_the_file_is_refused() {
    let honest = with_header(with_second(SECOND).as_bytes(), &BODY);
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 32, 100_000_000, 10_000] {
        let mut bytes = honest.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        let error = read_bytes(&bytes).expect_err("no such header");
        assert!(matches!(error, AdapterError::TooLarge { what: "header", found, .. } if found == length), "{length}");
    }
    let mut bytes = honest.clone();
    bytes[..8].copy_from_slice(&(honest.len() as u64).to_le_bytes());
    let error = read_bytes(&bytes).expect_err("a header that ends behind the file");
    assert!(matches!(error, AdapterError::Safetensors(SafeTensorError::InvalidHeaderLength)));
}

#[test]
fn a_file_that_is_too_long_is_refused_by_its_length_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sparse");
    // A terabyte that no disk holds: reading it would take longer than anyone waits, holding it is impossible.
    let honest = with_header(with_second(SECOND).as_bytes(), &BODY);
    fs::write(&path, honest).expect("a writable folder");
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(1 << 40)).expect("sparse files");
    let (spec, directive) = small();
    let error = innermost(UpdateFile::open(&path, &spec, directive).expect_err("too long"));
    assert!(matches!(error, AdapterError::TooLarge { what: "update", found, .. } if found == 1 << 40));
}
