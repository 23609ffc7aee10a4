//! Folders that are labels, with pictures in them.

use std::fs;

use fedlora_learner::data::DataConfig;
use tempfile::TempDir;

use crate::{complaint, grey, images, load, processor, write};

fn png(levels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = png::Encoder::new(&mut bytes, levels.len() as u32, 1);
    encoder.write_header().map(|mut writer| writer.write_image_data(levels).unwrap()).unwrap();
    bytes
}

fn image_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (part, count) in [("train", 3), ("test", 1)] {
        for (label, level) in [("cat", 10), ("dog", 200)] {
            for number in 0..count {
                write(&folder, &format!("{part}/{label}/{number}.png"), &png(&[level, level + number]));
            }
        }
    }
    write(&folder, "train/cat/.hidden", b"");
    folder
}

#[test]
fn folders_are_labels_and_their_files_are_read_in_the_order_of_names() {
    let folder = image_folder();
    let loaded = images(&DataConfig::new(folder.path())).unwrap();
    assert_eq!(loaded.label_names(), ["cat", "dog"]);
    let levels: Vec<u8> = loaded.train().iter().map(|row| row.image().unwrap().pixels()[1]).collect();
    assert_eq!(levels, [10, 11, 12, 200, 201, 202]);
    assert_eq!(loaded.test().len(), 2);
    let parts = ["train", "test"].map(Into::into).to_vec();
    let several = DataConfig { train_files: parts, test_fraction: Some(0.3), ..DataConfig::new(folder.path()) };
    let data = load(&several).unwrap();
    assert_eq!(grey(1, &data).0.groups().unwrap().names(), ["test", "train"], "several folders are several sources");
}

#[test]
fn folders_and_pictures_that_do_not_fit_are_named() {
    let folder = image_folder();
    let config = DataConfig::new(folder.path());
    let whole = png(&[1, 2]);
    let cases: [(&str, &[u8], &str); 3] = [
        ("train/cat/0.png", b"GIF89a", "train/cat/0.png: expected a PNG or JPEG image, found other bytes"),
        ("train/cat/0.png", &whole[..whole.len() - 20], "train/cat/0.png: expected a whole PNG or JPEG image, found"),
        ("train/cat/0.png", b"\xff\xd8\xff\xe0", "train/cat/0.png: expected a whole PNG or JPEG image, found"),
    ];
    for (name, bytes, expected) in cases {
        write(&folder, name, bytes);
        let data = load(&config).unwrap();
        let error = data.datasets(&processor(2), 1).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    write(&folder, "train/cat/note.txt", b"?");
    assert!(
        complaint(&config).ends_with("train/cat/note.txt: expected a .png, .jpg or .jpeg file, found another kind")
    );
    fs::remove_file(folder.path().join("train/cat/note.txt")).unwrap();
    write(&folder, "train/readme", b"?");
    assert!(complaint(&config).ends_with("train/readme: expected a folder named after a label, found a file"));
    fs::remove_file(folder.path().join("train/readme")).unwrap();
    fs::create_dir(folder.path().join("train/empty")).unwrap();
    assert!(complaint(&config).ends_with("train/empty has no rows"));
}
