//! Other key management that can be run side by side on the same core.
//!
//! SoftHSM is called in its own process, without a network between: what a node does over TLS beside it is at
//! a disadvantage. `docs/performance.md` says who else was looked at.

use crate::bench::{Bench, Effort};
use crate::servers::softhsm::{self, Rates};

use super::unary;

/// Encrypt beside SoftHSM.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let time = bench.timing(Effort::Gate).measure;
    let Some(peer) = softhsm::measure(bench.folder.path(), time)? else {
        println!("SoftHSM is not installed (scripts/setup bench)");
        return Ok(());
    };
    let Rates { encrypt, sign_p256, sign_rsa2048 } = peer;
    println!(
        "SoftHSM in process: {encrypt:.0}/s, P-256 {sign_p256:.0}/s, RSA-2048 {sign_rsa2048:.0}/s"
    );
    let ours = unary::gate_pair(bench).await?.ours;
    let [ours] = bench.compare("Encrypt 1 KiB × 64", Effort::Gate, [&ours]).await?;
    bench.show("Encrypt 1 KiB × 64, to SoftHSM in process", ours.rate / encrypt, "×");
    bench.show("SoftHSM in process, AES-GCM 1 KiB", encrypt, "/s");
    bench.show("SoftHSM in process, P-256", sign_p256, "/s");
    bench.show("SoftHSM in process, RSA-2048", sign_rsa2048, "/s");
    Ok(())
}
