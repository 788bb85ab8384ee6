//! The echo server over the node's own allocator, which wipes what it takes back.

use std::alloc::System;

use clap::Parser;
use twinkeep_benches::EchoArguments;
use twinkeep_sysmem::heap::Wiping;

#[global_allocator]
static HEAP: Wiping<System> = Wiping(System);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Ok(twinkeep_benches::run_echo(&EchoArguments::parse())?)
}
