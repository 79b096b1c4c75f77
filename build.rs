//! Compiles `proto/s2/v1/s2.proto` without a `protoc`: protox parses, prost generates.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let proto = "s2/v1/s2.proto";
    println!("cargo:rerun-if-changed=proto/{proto}");
    let descriptors = protox::compile([proto], ["proto"])?;
    prost_build::Config::new()
        // Bodies and headers stay slices of the buffer they were decoded from.
        .bytes(["."])
        .out_dir(PathBuf::from(env::var("OUT_DIR")?))
        .compile_fds(descriptors)?;
    Ok(())
}
