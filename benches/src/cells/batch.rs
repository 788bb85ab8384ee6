//! A hundred small plaintexts in one call, beside a hundred bare envelopes.

use twinkeep_client::v1;
use twinkeep_report::Target;

use super::requests::{self, ENCRYPT_BATCH};
use super::unary::{Pair, pair};
use crate::bench::{Bench, Effort};
use crate::load::sample::median;
use crate::servers::bare::Bare;
use crate::servers::cluster::APP;
use crate::subject::Load;

/// Items of a batch.
const ITEMS: u32 = 100;
/// Bytes of plaintext of each.
const SIZE: usize = 32;
/// Batches in flight.
const IN_FLIGHT: Load = Load::Unary(16);

/// Batches beside the bare envelope, and beside an echo of their length.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let key_id = bench.nodes.cluster().first_key()?;
    let request = requests::encrypt_batch(&key_id, SIZE, ITEMS as usize);
    let server = bench.nodes.server(&bench.follower, APP)?;
    let Pair { ours, echo } =
        pair::<v1::EncryptBatchResponse>(bench, server, ENCRYPT_BATCH, &request, IN_FLIGHT).await?;
    let (mut batches, mut seals) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(Effort::Gate) {
        batches.push(bench.measure(&ours, Effort::Gate).await?.rate * f64::from(ITEMS));
        seals.push(Bare::Seal(SIZE).rate(bench.timing(Effort::Gate).measure)?);
    }
    let (items, bare) = (median(batches), median(seals));
    if let Some(folder) = bench.profiles() {
        bench.profile(&ours, folder, "batch of 100 × 32 B").await?;
    }
    println!("items {items:.0}/s, bare envelope {bare:.0}/s");
    bench.report.add(
        "batch of 100 × 32 B, to the envelope",
        items / bare,
        "×",
        Target::AtLeast(0.7),
    );
    let [echo] = bench.compare("echo as long as a batch", Effort::Glance, [&echo]).await?;
    let both = 1.0 / (1.0 / (echo.rate * f64::from(ITEMS)) + 1.0 / bare);
    bench.show("batch of 100 × 32 B, to echo and envelope together", items / both, "×");
    bench.show("items of batches", items, "/s");
    bench.show("bare envelope 32 B", bare, "/s");
    Ok(())
}
