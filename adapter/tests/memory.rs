//! Reading an update costs no memory that its sender decides. A process of its own, so that its peak is that of the
//! readers alone.
#![cfg(target_os = "linux")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
};

use fedlora_adapter::{
    AdapterError, AdapterKind, AdapterSpec, Directive, Factors, HeadPolicy, ModuleName, ModuleSpec, UpdateFile, decode,
};

const MIB: u64 = 1024 * 1024;
/// Values of each factor: 32 MiB.
const WIDTH: usize = 8 * 1024 * 1024;
const SENT: Directive =
    Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: HeadPolicy::Frozen };

/// The most memory that this process ever had in use.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("Linux");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kib * 1024
}

fn spec() -> AdapterSpec {
    AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 1,
        alpha: 1.0,
        use_rslora: false,
        projection_seed: 0,
        modules: BTreeMap::from([(ModuleName::new("m"), ModuleSpec::new(WIDTH, WIDTH))]),
        head: BTreeMap::new(),
    }
}

/// A header and as many zeros as `length_bytes` leaves, which the file system does not store.
fn sparse(path: &Path, header: &str, length_bytes: u64) {
    let mut file = File::create(path).expect("a writable folder");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("room");
    file.write_all(header.as_bytes()).expect("room");
    file.set_len(length_bytes).expect("sparse files");
}

/// Bytes by which the peak grows, in the worst case, while `work` runs.
fn growth(work: impl FnOnce()) -> u64 {
    let before = peak_bytes();
    work();
    peak_bytes() - before
}

#[test]
fn the_sender_of_an_update_does_not_decide_how_much_is_allocated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("update");
    let bytes = WIDTH * 4;
    let tensor = |side: &str, shape: &str, from: usize, to: usize| {
        format!(
            "\"base_model.model.m.lora_{side}.weight\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}"
        )
    };
    let header = |a: &str, b: &str| format!("{{{a},{b}}}");
    let a = tensor("A", &format!("[1,{WIDTH}]"), 0, bytes);
    let honest = header(&a, &tensor("B", &format!("[{WIDTH},1]"), bytes, 2 * bytes));
    let length = (8 + honest.len() + 2 * bytes) as u64;

    // A valid file is 64 MiB. What reading it may cost are one block, its header and the allocator's slack.
    sparse(&path, &honest, length);
    let opened = growth(|| drop(UpdateFile::open(&path, &spec(), SENT).expect("valid")));
    assert!(opened < 4 * MIB, "{opened} bytes for a valid file of {length}");

    // Headers that declare a terabyte, a length that says so too, and a header that would itself be a gibibyte.
    let terabyte: usize = 1 << 40;
    let declared = header(&a, &tensor("B", &format!("[{},1]", terabyte / 4), bytes, bytes + terabyte));
    let expected = fedlora_adapter::AdapterUpdate::expected(&spec(), SENT);
    let refused = growth(|| {
        for length in [length, (8 + declared.len() + bytes + terabyte) as u64] {
            sparse(&path, &declared, length);
            UpdateFile::open(&path, &spec(), SENT).expect_err("a terabyte");
        }
        let mut small = (declared.len() as u64).to_le_bytes().to_vec();
        small.extend_from_slice(declared.as_bytes());
        decode(&small, &expected).expect_err("a terabyte that is not there");
        let long_header = [&(1_u64 << 30).to_le_bytes()[..], b"{}"].concat();
        let error = decode(&long_header, &expected).expect_err("a gibibyte of header");
        assert!(matches!(error, AdapterError::TooLarge { what: "header", .. }));
    });
    assert!(refused < 4 * MIB, "{refused} bytes for files that were refused");
}
