//! Generates the crate from `proto/`, without a system `protoc`.
//!
//! Beside what prost and tonic make, it writes a redacting `Debug` for each message with a field
//! marked `secret` (`redaction.rs`) and the table of methods with their permissions (`methods.rs`).
//! A method without a permission fails the build.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use protox::Compiler;
use protox::prost_reflect::DescriptorPool;

mod methods;
mod redaction;

const ROOT: &str = "../../proto";
const PUBLIC: &str = "twinkeep.v1";
const PUBLIC_FILES: &[&str] =
    &["access", "audit", "cluster", "common", "crypto", "instance", "key", "options"];
const PEER_FILES: &[&str] = &["twinkeep/peer/v1/peer.proto"];
const LOCAL_FILES: &[&str] = &["twinkeep/local/v1/local.proto"];
/// Messages of the local service that carry secrets and may not be printed.
const LOCAL_SECRETS: &[&str] = &["InitRequest", "Passphrase", "InitResponse"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    println!("cargo:rerun-if-changed=build");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    public(&out)?;
    generate(&compile(PEER_FILES)?, Vec::new())?;
    let secrets = LOCAL_SECRETS.iter().map(|name| format!(".twinkeep.local.v1.{name}"));
    generate(&compile(LOCAL_FILES)?, secrets.collect())
}

fn public(out: &Path) -> Result<(), Box<dyn Error>> {
    let files = PUBLIC_FILES.iter().map(|name| format!("twinkeep/v1/{name}.proto"));
    let compiler = compile(files)?;
    // Encoded by protox, not by prost: prost drops options that it does not know, and clients shall
    // see the permissions.
    let descriptors = compiler.encode_file_descriptor_set();
    fs::write(out.join("twinkeep.v1.descriptors.bin"), descriptors)?;

    let pool = compiler.descriptor_pool();
    let redacted = redaction::messages(&pool, PUBLIC)?;
    fs::write(out.join("twinkeep.v1.debug.rs"), redaction::source(&redacted)?)?;
    fs::write(out.join("twinkeep.v1.methods.rs"), methods::source(&pool, PUBLIC)?)?;

    let names = redacted.iter().map(|message| format!(".{}", message.full_name()));
    generate(&compiler, names.collect())
}

fn compile<I>(files: I) -> Result<Compiler, Box<dyn Error>>
where
    I: IntoIterator,
    I::Item: AsRef<Path>,
{
    let mut compiler = Compiler::new([ROOT])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    Ok(compiler)
}

fn generate(compiler: &Compiler, skip_debug: Vec<String>) -> Result<(), Box<dyn Error>> {
    let builder = tonic_prost_build::configure().bytes(".").skip_debug(skip_debug);
    Ok(builder.compile_fds(compiler.file_descriptor_set())?)
}

/// Returns an extension that `options.proto` defines.
fn option(
    pool: &DescriptorPool,
    name: &str,
) -> Result<protox::prost_reflect::ExtensionDescriptor, String> {
    let full = format!("{PUBLIC}.{name}");
    pool.get_extension_by_name(&full).ok_or_else(|| format!("options.proto defines no `{full}`"))
}
