//! Files that are no update of the round's adapter.

use crate::{
    files,
    support::{WIDTH, World, chunks, messages},
};

use super::cases::{Case, SENDER, file, rejected};

const A: &str = "base_model.model.query.lora_A.weight";
const B: &str = "base_model.model.query.lora_B.weight";
const HEAD: &str = "base_model.model.head";
/// Bytes of all values: `A` is 2 x 8, `B` is 3 x 2, the head has 2.
const BODY: usize = 64 + 24 + 8;

/// One entry of a header.
fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
}

fn a(dtype: &str, shape: &str, offsets: &str) -> String {
    entry(A, dtype, shape, offsets)
}

fn b() -> String {
    entry(B, "F32", "[3,2]", "[64,88]")
}

fn head() -> String {
    entry(HEAD, "F32", "[2]", "[88,96]")
}

/// A file with a header of these entries.
fn with_entries(entries: &[String], body: &[u8]) -> Vec<u8> {
    with_header(format!("{{{}}}", entries.join(",")).as_bytes(), body)
}

fn with_header(header: &[u8], body: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, body].concat()
}

/// The honest entries.
fn entries() -> Vec<String> {
    vec![a("F32", "[2,8]", "[0,64]"), b(), head()]
}

/// The values of the broadcast adapter in the order of the entries above.
fn body() -> Vec<u8> {
    let global = files::global(WIDTH);
    let factors = global.modules().values().next().expect("one module");
    let values = [factors.a.values(), factors.b.values(), global.head()["head"].values()].concat();
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The broadcast adapter's file with one value replaced.
fn with_value(index: usize, value: f32) -> Vec<u8> {
    let mut body = body();
    body[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    with_entries(&entries(), &body)
}

/// The file with another first entry and so many bytes of values.
fn with_a(entry: String, bytes: usize) -> Vec<u8> {
    let mut body = body();
    body.resize(bytes, 0);
    with_entries(&[entry, b(), head()], &body)
}

/// The file with another name for its last tensor.
fn with_name(name: &str) -> Vec<u8> {
    with_entries(&[a("F32", "[2,8]", "[0,64]"), b(), entry(name, "F32", "[2]", "[88,96]")], &body())
}

/// Valid files that one would not expect.
pub(super) fn unusual() -> Vec<(&'static str, Vec<u8>)> {
    let mut reversed = entries();
    reversed.reverse();
    let metadata = ["\"__metadata__\":{\"format\":\"pt\"}".to_owned()].into_iter().chain(entries()).collect::<Vec<_>>();
    let padded = format!("{{{}}}        ", entries().join(","));
    vec![
        ("minus zero", with_value(0, -0.0)),
        ("a denormal", with_value(1, f32::from_bits(1))),
        ("the smallest normal number", with_value(2, f32::MIN_POSITIVE)),
        ("another order of keys", with_entries(&reversed, &body())),
        ("metadata as torch writes it", with_entries(&metadata, &body())),
        ("a padded header", with_header(padded.as_bytes(), &body())),
        ("no change at all", with_entries(&entries(), &body())),
    ]
}

pub(super) fn cases(world: &World) -> Vec<Case> {
    let lists = [values(world), shapes(world), lengths(world), names(world), places(world), headers(world)];
    lists.into_iter().chain([distances(world)]).flatten().collect()
}

fn values(world: &World) -> Vec<Case> {
    let quiet = f32::from_bits(0x7fc0_1234);
    let signalling = f32::from_bits(0x7f80_0001);
    [
        ("NaN in the first value", 0, f32::NAN),
        ("NaN in the last value, of the head", BODY / 4 - 1, f32::NAN),
        ("NaN in B", 18, f32::NAN),
        ("negative NaN with a payload", 3, -quiet),
        ("signalling NaN", 4, signalling),
        ("infinity", 5, f32::INFINITY),
        ("minus infinity", 20, f32::NEG_INFINITY),
    ]
    .map(|(name, index, value)| file(world, name, &with_value(index, value), "NOT_FINITE"))
    .into()
}

fn shapes(world: &World) -> Vec<Case> {
    [
        ("A transposed", a("F32", "[8,2]", "[0,64]"), BODY, "WRONG_SHAPE"),
        ("A flattened", a("F32", "[16]", "[0,64]"), BODY, "WRONG_SHAPE"),
        ("A with a leading 1", a("F32", "[1,2,8]", "[0,64]"), BODY, "WRONG_SHAPE"),
        ("A of 64-bit floats", a("F64", "[1,8]", "[0,64]"), BODY, "WRONG_DTYPE"),
        ("A of 16-bit floats", a("F16", "[4,8]", "[0,64]"), BODY, "WRONG_DTYPE"),
        ("A of bfloats", a("BF16", "[4,8]", "[0,64]"), BODY, "WRONG_DTYPE"),
        ("A of integers", a("I32", "[2,8]", "[0,64]"), BODY, "WRONG_DTYPE"),
        ("A of bytes", a("I8", "[8,8]", "[0,64]"), BODY, "WRONG_DTYPE"),
        ("A of truth values", a("BOOL", "[8,8]", "[0,64]"), BODY, "WRONG_DTYPE"),
        ("A of a type that does not exist", a("F33", "[2,8]", "[0,64]"), BODY, "MALFORMED_FILE"),
        ("A of a type in lower case", a("f32", "[2,8]", "[0,64]"), BODY, "MALFORMED_FILE"),
        ("a product of sizes of 2^64", a("F32", "[4294967296,4294967296]", "[0,64]"), BODY, "MALFORMED_FILE"),
        ("2^32 rows of nothing", a("F32", "[4294967296,0]", "[0,0]"), BODY, "MALFORMED_FILE"),
        ("2^32 rows", a("F32", "[4294967296,8]", "[0,64]"), BODY, "MALFORMED_FILE"),
        ("the largest size", a("F32", "[18446744073709551615,8]", "[0,64]"), BODY, "MALFORMED_FILE"),
        ("a size beyond 64 bits", a("F32", "[18446744073709551616]", "[0,64]"), BODY, "MALFORMED_FILE"),
        ("a negative size", a("F32", "[-2,8]", "[0,64]"), BODY, "MALFORMED_FILE"),
        ("a size with a fraction", a("F32", "[2.0,8]", "[0,64]"), BODY, "MALFORMED_FILE"),
        ("a shape that is no list", a("F32", "16", "[0,64]"), BODY, "MALFORMED_FILE"),
    ]
    .map(|(name, entry, bytes, reason)| file(world, name, &with_a(entry, bytes), reason))
    .into_iter()
    .chain([ranks(world, "A of twice the rank", 4), ranks(world, "A of half the rank", 1)])
    .collect()
}

/// The values of another rank, with offsets that fit.
fn ranks(world: &World, name: &'static str, rank: usize) -> Case {
    let end = rank * 32;
    let entries = [
        a("F32", &format!("[{rank},8]"), &format!("[0,{end}]")),
        entry(B, "F32", "[3,2]", &format!("[{end},{}]", end + 24)),
        entry(HEAD, "F32", "[2]", &format!("[{},{}]", end + 24, end + 32)),
    ];
    file(world, name, &with_entries(&entries, &vec![0; end + 32]), "WRONG_SHAPE")
}

fn lengths(world: &World) -> Vec<Case> {
    let honest = with_entries(&entries(), &body());
    let longer = |bytes| [honest.clone(), vec![0; bytes]].concat();
    vec![
        file(world, "cut by one byte", &honest[..honest.len() - 1], "MALFORMED_FILE"),
        file(world, "cut by one value", &honest[..honest.len() - 4], "MALFORMED_FILE"),
        file(world, "cut within the header", &honest[..110], "MALFORMED_FILE"),
        file(world, "nothing but a length", &honest[..8], "MALFORMED_FILE"),
        file(world, "an empty file", &[], "MALFORMED_FILE"),
        file(world, "one byte too many", &longer(1), "MALFORMED_FILE"),
        file(world, "a page too many", &longer(4000), "MALFORMED_FILE"),
        file(world, "a hundred kilobytes too many", &longer(100_000), "TOO_LARGE"),
    ]
}

fn names(world: &World) -> Vec<Case> {
    let escaped = entry(&A.replace("query", "qu\\u0065ry"), "F32", "[2,8]", "[0,64]");
    let twice = |second: String| with_entries(&[entries()[0].clone(), second, b(), head()], &body());
    let further = |name: &str| {
        let further = entry(name, "F32", "[2]", "[96,104]");
        with_entries(&[entries(), vec![further]].concat(), &[body(), vec![0; 8]].concat())
    };
    let without_a =
        with_entries(&[entry(B, "F32", "[3,2]", "[0,24]"), entry(HEAD, "F32", "[2]", "[24,32]")], &body()[64..]);
    let without_head = with_entries(&entries()[..2], &body()[..88]);
    let unexpected = [
        ("a name that climbs", with_name("../../../../etc/passwd")),
        ("a name from the root", with_name("/etc/shadow")),
        ("a further name that climbs", further("../spool/client-1")),
        ("a name with a zero byte", with_name("head\\u0000")),
        ("an empty name", with_name("")),
        ("a name without its prefix", with_name("head")),
        ("a name of another kind of adapter", with_name("base_model.model.query.vera_lambda_d")),
        ("a name of another module", with_name("base_model.model.value.lora_A.weight")),
        ("a name in other letters", with_name("base_model.model.HEAD")),
        ("a name of a thousand bytes", with_name(&"n".repeat(1000))),
    ];
    let mut cases: Vec<_> =
        unexpected.into_iter().map(|(name, bytes)| file(world, name, &bytes, "UNEXPECTED_TENSOR")).collect();
    cases.extend([
        file(world, "A twice", &twice(entries()[0].clone()), "DUPLICATE_TENSOR"),
        file(world, "A twice, once in disguise", &twice(escaped), "DUPLICATE_TENSOR"),
        file(world, "without A", &without_a, "MISSING_TENSOR"),
        file(world, "without the head", &without_head, "MISSING_TENSOR"),
    ]);
    cases
}

fn places(world: &World) -> Vec<Case> {
    [
        ("B within A", entry(B, "F32", "[3,2]", "[40,64]"), 96),
        ("B where A is", entry(B, "F32", "[3,2]", "[0,24]"), 96),
        ("a hole before B", entry(B, "F32", "[3,2]", "[68,92]"), 96),
        ("B backwards", entry(B, "F32", "[3,2]", "[88,64]"), 96),
        ("B behind the end", entry(B, "F32", "[3,2]", "[1000000,1000024]"), 96),
        ("B around the end of numbers", entry(B, "F32", "[3,2]", "[18446744073709551608,16]"), 96),
        ("B with one place", entry(B, "F32", "[3,2]", "[64]"), 96),
        ("B with fewer bytes than values", entry(B, "F32", "[3,2]", "[64,84]"), 92),
    ]
    .map(|(name, b, bytes)| {
        let mut body = body();
        body.resize(bytes, 0);
        file(world, name, &with_entries(&[a("F32", "[2,8]", "[0,64]"), b, head()], &body), "MALFORMED_FILE")
    })
    .into()
}

fn headers(world: &World) -> Vec<Case> {
    let declared = |length: u64| {
        let mut bytes = with_entries(&entries(), &body());
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let nested = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let metadata =
        |value: &str| with_entries(&[vec![format!("\"__metadata__\":{value}")], entries()].concat(), &body());
    let text = |header: &str| with_header(header.as_bytes(), &body());
    let invalid = with_header(&[b"{\"".as_slice(), &[0xff, 0xfe], b"\":1}"].concat(), &body());
    let mut zip = b"PK\x03\x04\x14\x00\x00\x00".to_vec();
    zip.resize(600, 7);
    let mut cases = vec![
        file(world, "a header of 2^64-1 bytes", &declared(u64::MAX), "TOO_LARGE"),
        file(world, "a header of 2^63 bytes", &declared(1 << 63), "TOO_LARGE"),
        file(world, "a header of a gigabyte", &declared(1 << 30), "TOO_LARGE"),
        file(world, "a header without bytes", &declared(0), "MALFORMED_FILE"),
        file(world, "a header that ends behind the file", &declared(4000), "MALFORMED_FILE"),
        file(
            world,
            "metadata of a hundred kilobytes",
            &metadata(&format!("{{\"a\":\"{}\"}}", "x".repeat(100_000))),
            "TOO_LARGE",
        ),
        file(world, "a ZIP archive", &zip, "TOO_LARGE"),
        file(world, "zeros", &[0; 600], "MALFORMED_FILE"),
        file(world, "a header that is no text", &invalid, "MALFORMED_FILE"),
        file(world, "metadata that is a number", &metadata("7"), "MALFORMED_FILE"),
        file(world, "metadata of numbers", &metadata("{\"a\":7}"), "MALFORMED_FILE"),
    ];
    for (name, header) in [
        ("a header that is no JSON", "no JSON"),
        ("a header that is a list", "[]"),
        ("a header that is null", "null"),
        ("a header that is not closed", "{\"a\":"),
        ("a header of nothing", "{}"),
        ("a header as deep as a well", &nested),
        ("a header with something behind it", &format!("{{{}}}x", entries().join(","))),
    ] {
        // An empty object is a file without the tensors, whose values then belong to nothing.
        let bytes = text(header);
        cases.push(file(world, name, &bytes, "MALFORMED_FILE"));
    }
    cases
}

fn distances(world: &World) -> Vec<Case> {
    let global = files::global(WIDTH);
    let step = files::RATE as f32;
    // Two learning rates in five steps, as an honest client may do, times a hundred.
    let hundredfold = files::bytes(&files::changed(&global, |_, value| value + 100.0 * 2.0 * step));
    let mut claimless = world.header(&files::honest(WIDTH, 1));
    claimless.steps = 0;
    let unmoved = messages(claimless, chunks(&files::honest(WIDTH, 1), 0, 100));
    vec![
        file(world, "a hundred times too much", &hundredfold, "TOO_FAR"),
        file(world, "the gauge attack", &gauge(10.0), "TOO_FAR"),
        file(world, "one value of 10^30", &with_value(7, 1e30), "TOO_FAR"),
        file(world, "the largest number", &with_value(17, f32::MAX), "TOO_FAR"),
        file(world, "the smallest number", &with_value(23, f32::MIN), "TOO_FAR"),
        Case { name: "a change without a step", client: SENDER, messages: unmoved, expected: rejected("TOO_FAR") },
    ]
}

/// The same product in other factors: `(factor·B, A/factor)`.
fn gauge(factor: f32) -> Vec<u8> {
    let (spec, mut modules, head) = files::global(WIDTH).into_parts();
    for factors in modules.values_mut() {
        for value in factors.a.values_mut() {
            *value /= factor;
        }
        for value in factors.b.values_mut() {
            *value *= factor;
        }
    }
    files::bytes(&fedlora_adapter::Adapter::new(spec, modules, head).expect("finite"))
}
