//! A published adapter on the operator's machine.

use std::fs;

use fedlora_adapter::{PeftOptions, write_peft};

use crate::{
    fake::Known,
    program::Place,
    samples::{adapter, busy},
};

#[test]
fn the_exported_folder_is_what_peft_reads() {
    let place = Place::new(busy());
    let said = place.run("export --out adapter").says();
    assert!(said.contains("adapter/adapter_config.json (") && said.contains("adapter/adapter_model.safetensors ("));
    let options = PeftOptions { base_model: "tiny-bert".to_owned(), task_type: None, dropout: 0.0 };
    write_peft(&place.path("expected"), &adapter(), &options).expect("writable");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let read = |folder: &str| fs::read(place.path(folder).join(name)).expect("the file is there");
        assert!(read("adapter") == read("expected"), "{name}");
    }
    assert_eq!(fs::read_dir(place.path("adapter")).expect("readable").count(), 2);
}

#[test]
fn nothing_stays_behind_at_either_end() {
    let place = Place::new(busy());
    place.run("export --out adapter --round 1").says();
    assert!(!place.path("adapter.partial").exists());
    let left = fs::read_dir(place.path("state/exports")).expect("it was made").count();
    assert_eq!(left, 0);
}

#[test]
fn an_export_overwrites_nothing() {
    let place = Place::new(busy());
    place.write("adapter/mine", "precious");
    place.run("export --out adapter").fails(5, &["adapter exists already"]);
    assert_eq!(fs::read_to_string(place.path("adapter/mine")).expect("still there"), "precious");
}

#[test]
fn what_is_not_published_is_not_exported() {
    let place = Place::new(busy());
    place.run("export --out adapter --round 9").fails(4, &["no such round is published"]);
    assert!(!place.path("adapter").exists() && !place.path("adapter.partial").exists());
    let place = Place::new(Known { adapter: None, ..busy() });
    place.run("export --out adapter").fails(4, &["no such round is published"]);
}
