//! Compiles the .proto files with protox, so that no `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: &[&str] = &[
    "chat/v1/messaging.proto",
    "chat/v1/replication.proto",
    "chat/v1/admin.proto",
    "chat/v1/discovery.proto",
    "chat/v1/gateway.proto",
    "chat/v1/statuspage.proto",
    "firedrill/v1/controller.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".chat.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
