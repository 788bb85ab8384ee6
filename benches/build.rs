//! Generates the echo service, and as much of etcd's interface as is called here.

use std::error::Error;

const ROOT: &str = "proto";
const FILES: [&str; 2] = ["echo.proto", "etcd.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES, [ROOT])?;
    Ok(tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?)
}
