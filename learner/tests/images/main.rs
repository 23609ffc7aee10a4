//! Every format of images, as files on disk: what is read from good ones and what is said about bad ones.

mod folders;

use std::{fs, io::Write, path::Path};

use fedlora_adapter::Seed;
use fedlora_learner::{
    Dataset, ImageProcessor, Inputs, LearnerError, LoadedData, LoadedImages, Preprocessor,
    data::{Column, DataConfig, Format, LabelledImage},
};
use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

const SEED: Seed = Seed(7);

fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Pictures of 2 x 3 levels: picture `i` has the levels `i, i + 1, …`.
fn pictures(count: u8) -> Vec<u8> {
    (0..count).flat_map(|picture| picture..picture + 6).collect()
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The four files of MNIST, two of them packed, and a column of clients.
fn idx_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "train-images-idx3-ubyte.gz", &gzip(&idx(&[4, 2, 3], &pictures(4))));
    write(&folder, "train-labels-idx1-ubyte.gz", &gzip(&idx(&[4], &[3, 10, 3, 10])));
    write(&folder, "train-sites-idx1-ubyte", &idx(&[4], &[9, 10, 9, 9]));
    write(&folder, "t10k-images-idx3-ubyte", &idx(&[2, 2, 3], &pictures(2)));
    write(&folder, "t10k-labels-idx1-ubyte", &idx(&[2], &[10, 3]));
    write(&folder, "t10k-sites-idx1-ubyte.gz", &gzip(&idx(&[2], &[10, 9])));
    folder
}

/// For a model of grey images with this side.
fn processor(side: usize) -> Preprocessor {
    Preprocessor::Images(ImageProcessor::plain(1, side))
}

fn load(config: &DataConfig) -> Result<LoadedData, LearnerError> {
    LoadedData::load(config, &processor(1), SEED)
}

fn images(config: &DataConfig) -> Result<LoadedImages, LearnerError> {
    let LoadedData::Images(images) = load(config)? else { panic!("expected images") };
    Ok(images)
}

/// What is wrong, without the folder that it lies in.
fn complaint(config: &DataConfig) -> String {
    let message = images(config).unwrap_err().to_string();
    let folder = config.path.parent().unwrap().to_str().unwrap().to_owned();
    message.replace(config.path.to_str().unwrap(), "DATA").replace(&folder, "FOLDER")
}

fn labels(rows: &[LabelledImage]) -> Vec<(&str, Option<&str>, usize)> {
    rows.iter().map(|row| (row.label.as_str(), row.origin.group.as_deref(), row.origin.line)).collect()
}

fn grey(side: usize, data: &LoadedData) -> (Dataset, Dataset) {
    data.datasets(&processor(side), 1).unwrap()
}

#[test]
fn idx_folders_are_read_with_their_columns_packed_or_not() {
    let folder = idx_folder();
    let column = Some(Column::Name("sites".to_owned()));
    let config = DataConfig { group_column: column, ..DataConfig::new(folder.path()) };
    let loaded = images(&config).unwrap();
    let expected = [("3", Some("9"), 1), ("10", Some("10"), 2), ("3", Some("9"), 3), ("10", Some("9"), 4)];
    assert_eq!(labels(loaded.train()), expected);
    assert_eq!(labels(loaded.test()), [("10", Some("10"), 1), ("3", Some("9"), 2)]);
    assert_eq!(loaded.label_names(), ["3", "10"]);
    assert_eq!(loaded.train()[1].image().unwrap().pixels(), [1, 2, 3, 4, 5, 6]);
    let people = DataConfig { user_column: config.group_column.clone(), group_column: None, ..config.clone() };
    let (train, _) = grey(2, &load(&people).unwrap());
    let users = train.users().unwrap();
    assert_eq!((users.of_example(), train.groups()), (&[1, 0, 1, 1][..], None), "users are numbered by their names");
    let (train, test) = grey(2, &LoadedData::Images(loaded));
    let groups = train.groups().unwrap();
    assert_eq!(groups.names(), ["9", "10"], "natural clients go by number");
    assert_eq!((groups.of_example(), test.groups().unwrap().of_example()), (&[0, 1, 0, 0][..], &[1, 0][..]));
    assert_eq!((train.length(0), train.labels()), (4, &[0, 1, 0, 1][..]));
}

#[test]
fn idx_files_that_do_not_fit_say_what_was_expected() {
    let spoil = |name: &str, bytes: &[u8]| {
        let folder = idx_folder();
        write(&folder, name, bytes);
        complaint(&DataConfig::new(folder.path()))
    };
    let (train, labels) = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz");
    let whole = idx(&[4, 2, 3], &pictures(4));
    assert_eq!(
        spoil(train, &gzip(&idx(&[4], &[0; 4]))),
        "DATA/train-images-idx3-ubyte.gz: expected the IDX magic [00, 00, 08, 03] (bytes in 3 dimensions), \
         found [00, 00, 08, 01]"
    );
    assert_eq!(
        spoil(train, &gzip(&whole[..whole.len() - 1])),
        "DATA/train-images-idx3-ubyte.gz: expected 24 values behind the header, found 23, cut off"
    );
    let packed = gzip(&whole);
    assert!(spoil(train, &packed[..packed.len() - 9]).contains("train-images-idx3-ubyte.gz"));
    assert_eq!(
        spoil(train, &gzip(&[whole, vec![0]].concat())),
        "DATA/train-images-idx3-ubyte.gz: expected 24 values behind the header, found more than that"
    );
    assert_eq!(
        spoil(train, &gzip(&idx(&[u32::MAX, u32::MAX, u32::MAX], &[]))),
        "DATA/train-images-idx3-ubyte.gz: expected sizes that fit into memory, found [4294967295, 4294967295, 4294967295]"
    );
    assert_eq!(
        spoil(labels, &gzip(&idx(&[3], &[3, 10, 3]))),
        "DATA/train-labels-idx1-ubyte.gz: expected 4 labels, one for each image, found 3"
    );
    assert_eq!(spoil(train, b"this is not a gzip file"), "cannot read DATA/train-images-idx3-ubyte.gz");
    assert_eq!(
        spoil(train, &gzip(&[0, 0, 8])),
        "DATA/train-images-idx3-ubyte.gz: expected an IDX header, found the end of the file"
    );
    assert_eq!(spoil(train, &gzip(&idx(&[0, 2, 3], &[]))), "DATA/train-images-idx3-ubyte.gz has no rows");
    assert_eq!(
        spoil("t10k-labels-idx1-ubyte", &idx(&[2], &[10, 4])),
        "DATA/t10k-images-idx3-ubyte:2: label `4` does not occur in the training rows"
    );
    let folder = idx_folder();
    fs::remove_file(folder.path().join(labels)).unwrap();
    assert_eq!(complaint(&DataConfig::new(folder.path())), "cannot read DATA/train-labels-idx1-ubyte.gz");
}

fn npy(dtype: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut all = b"\x93NUMPY\x01\x00".to_vec();
    all.extend((header.len() as u16).to_le_bytes());
    all.extend(header.as_bytes());
    all.extend(bytes);
    all
}

fn npz(arrays: &[(&str, Vec<u8>)]) -> (TempDir, DataConfig) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.npz");
    let mut archive = ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
    (folder, DataConfig::new(path))
}

/// Four rows to train on, of three channels, and two to test on, in grey.
fn medmnist() -> Vec<(&'static str, Vec<u8>)> {
    let numbers = |numbers: &[i64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    vec![
        ("train_images", npy("|u1", "(4, 1, 2, 3)", &pictures(4))),
        ("train_labels", npy("<i8", "(4, 1)", &numbers(&[0, 1, 1, 0]))),
        ("test_images", npy("|u1", "(2, 2, 3)", &pictures(2))),
        ("test_labels", npy("|u1", "(2,)", &[1, 0])),
    ]
}

#[test]
fn archives_with_the_keys_of_medmnist_are_read() {
    let (_folder, config) = npz(&medmnist());
    let loaded = images(&config).unwrap();
    assert_eq!(labels(loaded.train()), [("0", None, 1), ("1", None, 2), ("1", None, 3), ("0", None, 4)]);
    assert_eq!(labels(loaded.test()), [("1", None, 1), ("0", None, 2)]);
    let image = loaded.train()[3].image().unwrap();
    assert_eq!((image.channels(), image.height(), image.width(), image.pixels()), (3, 1, 2, &[3, 4, 5, 6, 7, 8][..]));
}

#[test]
fn archives_that_do_not_fit_say_what_was_expected() {
    let spoil = |name: &'static str, array: Vec<u8>| {
        let mut arrays = medmnist();
        arrays.iter_mut().filter(|(key, _)| *key == name).for_each(|(_, old)| *old = array.clone());
        let (_folder, config) = npz(&arrays);
        complaint(&config)
    };
    assert_eq!(
        spoil("train_images", npy("<f4", "(4, 2, 3)", &[0; 96])),
        "DATA: expected train_images of bytes, [rows, height, width] or [rows, height, width, 3], found <f4 [4, 2, 3]"
    );
    assert_eq!(
        spoil("train_images", npy("|u1", "(5, 1, 2, 3)", &pictures(4))),
        "DATA/train_images.npy: expected 30 values behind the header, found 24, cut off"
    );
    assert_eq!(
        spoil("train_labels", npy("|u1", "(3, 1)", &[0, 1, 1])),
        "DATA: expected 4 train_labels, one for each image, found 3"
    );
    assert_eq!(
        spoil("train_labels", npy("|u1", "(4, 2)", &[0; 8])),
        "DATA: expected train_labels of whole numbers, [rows] or [rows, 1], found |u1 [4, 2]"
    );
    assert_eq!(
        spoil("test_labels", b"nothing".to_vec()),
        "DATA: expected a NumPy header of test_labels, found other bytes"
    );
    let (_folder, config) = npz(&medmnist()[..2]);
    assert!(complaint(&config).starts_with("DATA leaves no test rows"));
    let (_folder, config) = npz(&medmnist()[2..]);
    assert_eq!(complaint(&config), "DATA: expected an array train_images, found none");
    fs::write(&config.path, b"not a zip file").unwrap();
    assert!(complaint(&config).starts_with("DATA: expected a NumPy archive (.npz), found "));
}

fn optdigits(rows: usize) -> String {
    let line = |row: usize| {
        let level = format!("{},", row % 17);
        format!("{}{}\n", level.repeat(64), row % 2)
    };
    (0..rows).map(line).collect()
}

fn semeion(rows: usize) -> String {
    let marks = |row: usize| (0..10).map(move |digit| if digit == row % 2 { "1 " } else { "0 " }).collect::<String>();
    let line = |row: usize| format!("{}{}\n", "1.0000 ".repeat(256), marks(row));
    (0..rows).map(line).collect()
}

/// Three sources of digits in three formats, as three training files.
fn sources() -> (TempDir, DataConfig) {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "mnist-t10k-images-idx3-ubyte.gz", &gzip(&idx(&[8, 2, 3], &pictures(8))));
    write(&folder, "mnist-t10k-labels-idx1-ubyte.gz", &gzip(&idx(&[8], &[0, 1, 0, 1, 0, 1, 0, 1])));
    write(&folder, "optdigits.tra", optdigits(20).as_bytes());
    write(&folder, "semeion.data.gz", &gzip(semeion(12).as_bytes()));
    let files = ["mnist-t10k-images-idx3-ubyte.gz", "optdigits.tra", "semeion.data.gz"].map(Into::into).to_vec();
    let config = DataConfig { train_files: files, test_fraction: Some(0.25), ..DataConfig::new(folder.path()) };
    (folder, config)
}

#[test]
fn three_sources_of_digits_become_three_natural_clients_of_one_size() {
    let (_folder, config) = sources();
    let data = load(&config).unwrap();
    assert_eq!(data.clients().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [6, 14, 8]);
    let (train, test) = grey(8, &data);
    assert_eq!(train.groups().unwrap().names(), ["mnist-t10k", "optdigits", "semeion"]);
    assert_eq!((train.len(), test.len(), train.label_names().len()), (28, 12, 2));
    let Inputs::Images { pixels, .. } = train.batch(&[27]).inputs else { panic!("expected images") };
    assert_eq!(pixels, vec![1.0; 64], "a picture of ink alone stays one");
    assert_eq!(data.files().len(), 3);
}

#[test]
fn a_site_with_one_source_reads_the_rows_that_it_has_among_all_sources() {
    let (folder, config) = sources();
    let LoadedData::Images(all) = load(&config).unwrap() else { panic!("expected images") };
    let files = config.train_files.clone();
    for (source, file) in files.iter().enumerate() {
        let own = DataConfig { train_files: Vec::new(), path: folder.path().join(file), ..config.clone() };
        let site = LoadedData::load_site(&own, &processor(8), SEED, all.label_names()).unwrap();
        let LoadedData::Images(site) = site else { panic!("expected images") };
        let rows = |rows: &[LabelledImage]| rows.iter().map(|row| row.origin.line).collect::<Vec<_>>();
        let expected: Vec<usize> =
            all.clients().unwrap()[source].iter().map(|row| all.train()[*row as usize].origin.line).collect();
        assert_eq!(rows(site.train()), expected, "{}", file.display());
        assert!(!site.test().is_empty());
    }
}

#[test]
fn digits_that_do_not_fit_are_named_by_line() {
    let spoil = |name: &str, text: String| {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, name, text.as_bytes());
        complaint(&DataConfig { test_fraction: Some(0.5), ..DataConfig::new(folder.path().join(name)) })
    };
    let good = optdigits(1);
    assert_eq!(spoil("a.tra", format!("{good}1,2,3\n")), "DATA:2: expected 65 fields, found 3");
    let level = format!("{good}{}3\n", "17,".repeat(64));
    assert_eq!(spoil("a.tra", level), "DATA:2: expected 64 whole numbers from 0 to 16 in `line`, found something else");
    assert_eq!(spoil("semeion.data", format!("{}\n", "1 ".repeat(265))), "DATA:1: expected 266 fields, found 265");
    assert_eq!(
        spoil("semeion.data", format!("{}\n", "1 ".repeat(266))),
        "DATA:1: expected one mark for one digit in `line`, found something else"
    );
    assert_eq!(spoil("semeion.data", String::new()), "DATA has no rows");
}

#[test]
fn a_format_of_images_needs_its_files() {
    let folder = tempfile::tempdir().unwrap();
    for format in [Format::Idx, Format::Npz, Format::Semeion, Format::ImageFolder, Format::Optdigits] {
        let error = load(&DataConfig { format, ..DataConfig::new(folder.path()) }).unwrap_err();
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    }
    let error = load(&DataConfig::new(Path::new("nowhere.npz"))).unwrap_err().to_string();
    assert_eq!(error, "cannot read nowhere.npz");
}
