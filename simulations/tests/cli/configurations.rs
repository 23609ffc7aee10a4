//! The configurations that come with the program.

use std::{fs, path::Path};

use fedlora_simulations::{config, pretraining::PretrainConfig};

#[test]
fn every_configuration_that_ships_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let files = fs::read_dir(&folder).expect("the folder is there").map(|entry| entry.expect("readable").path());
    let configurations: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "toml")).collect();
    assert!(configurations.iter().any(|file| file.ends_with("digits-vit.toml")), "{configurations:?}");
    for file in configurations {
        let places = ["model.path=model", "data.path=data"].map(str::to_owned);
        let loaded = config::load(&file, &places).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(
            Some(loaded.run.name.as_str()),
            file.file_stem().and_then(|stem| stem.to_str()),
            "runs are named alike"
        );
    }
}

#[test]
fn every_base_that_ships_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/pretrain");
    let files = fs::read_dir(&folder).expect("the folder is there").map(|entry| entry.expect("readable").path());
    let loaded = files.map(|file| {
        let config = PretrainConfig::load(&file, &[]).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        config.model.check().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    });
    assert!(loaded.count() >= 2);
}
