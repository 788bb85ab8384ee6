//! What two choices of a node cost the echo: the allocator that wipes what it takes back, and tokio's runtime
//! for several threads. The yardstick itself has neither.

use crate::bench::{Bench, Effort};
use crate::servers::echo::Echo;
use crate::subject::Subject;

use super::unary;

/// The echo of 1 KiB, 64 in flight, with and without.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let plain = unary::gate_pair(bench).await?.echo;
    let wiping = Echo::start_wiping(bench.folder.path())?;
    let multi = Echo::start_multi_thread(bench.folder.path())?;
    let variant = |echo: &Echo| Subject { server: echo.server().clone(), ..plain.clone() };
    let subjects = [&plain, &variant(&wiping), &variant(&multi)];
    let [plain, wiping, multi] = bench.compare("echo 1 KiB × 64", Effort::Gate, subjects).await?;
    bench.show("echo that wipes its heap, to the echo", wiping.rate / plain.rate, "×");
    bench.show("echo on a multi-thread runtime, to the echo", multi.rate / plain.rate, "×");
    Ok(())
}
