//! Compiles the protos without a protoc.

use std::path::PathBuf;

const PROTOS: [&str; 4] = [
    "alluvium/v1/ingest.proto",
    "alluvium/v1/query.proto",
    "alluvium/v1/admin.proto",
    "alluvium/peer/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=alluvium");
    let descriptors = protox::compile(PROTOS, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("alluvium.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
