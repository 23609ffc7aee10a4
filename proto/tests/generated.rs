//! The committed code is what the `.proto` files say. `FEDLORA_REGENERATE=1 cargo test -p fedlora-proto` renews it.

use std::{fs, path::Path};

const FILES: [&str; 2] = ["fedlora/federation/v1/federation.proto", "fedlora/operator/v1/operator.proto"];

#[test]
fn the_committed_code_is_current() {
    use prost::Message;

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(FILES, [root.join("proto")]).expect("the .proto files compile");
    let fresh = tempfile::tempdir().expect("a directory");
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .codec_path("crate::Codec")
        .out_dir(fresh.path())
        .compile_fds(descriptors.clone())
        .expect("code is generated");
    fs::write(fresh.path().join("descriptors.bin"), descriptors.encode_to_vec()).expect("written");
    let committed = root.join("src/generated");
    for name in ["fedlora.federation.v1.rs", "fedlora.operator.v1.rs", "descriptors.bin"] {
        let fresh = fs::read(fresh.path().join(name)).expect("generated");
        let place = committed.join(name);
        if std::env::var_os("FEDLORA_REGENERATE").is_some() {
            fs::write(&place, &fresh).expect("written");
        }
        let message = "differs from the .proto files: run FEDLORA_REGENERATE=1 cargo test -p fedlora-proto";
        assert!(fs::read(&place).is_ok_and(|committed| committed == fresh), "{name} {message}");
    }
}
