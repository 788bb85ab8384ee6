//! Signatures beside the bare library, and data keys beside the echo. As unary calls; the stream has its own.

use twinkeep_client::v1::{self, Algorithm, KeySpec};

use super::requests::{self, GENERATE_DATA_KEY, SIGN};
use super::unary::{Pair, pair};
use crate::bench::{Bench, Effort};
use crate::load::sample::median;
use crate::servers::bare::Bare;
use crate::servers::cluster::APP;
use crate::subject::Load;

/// Calls in flight.
const IN_FLIGHT: Load = Load::Unary(64);

/// Sign with each kind of key, then GenerateDataKey.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for (what, spec, algorithm, bare) in [
        ("P-256", KeySpec::EcP256, Algorithm::EcdsaSha256, Bare::SignP256),
        ("Ed25519", KeySpec::Ed25519, Algorithm::Ed25519Sha512, Bare::SignEd25519),
        ("RSA-2048", KeySpec::Rsa2048, Algorithm::RsassaPkcs1V15Sha256, Bare::SignRsa2048),
    ] {
        sign(bench, what, spec, algorithm, bare).await?;
    }
    let server = bench.nodes.server(&bench.follower, APP)?;
    let request = requests::generate_data_key(&bench.nodes.cluster().first_key()?);
    let Pair { ours, echo } =
        pair::<v1::GenerateDataKeyResponse>(bench, server, GENERATE_DATA_KEY, &request, IN_FLIGHT)
            .await?;
    let subjects = [&ours, &echo];
    let [ours, echo] = bench.compare("GenerateDataKey × 64", Effort::Glance, subjects).await?;
    bench.show("GenerateDataKey × 64, to the echo", ours.rate / echo.rate, "×");
    Ok(())
}

async fn sign(
    bench: &mut Bench,
    what: &str,
    spec: KeySpec,
    algorithm: Algorithm,
    bare: Bare,
) -> anyhow::Result<()> {
    let key_id = bench.nodes.create_key(&bench.follower, spec).await?;
    let server = bench.nodes.server(&bench.follower, APP)?;
    let request = requests::sign(&key_id, algorithm);
    let Pair { ours, echo } =
        pair::<v1::SignResponse>(bench, server, SIGN, &request, IN_FLIGHT).await?;
    let mut bares = Vec::new();
    for _ in 0..bench.rounds(Effort::Glance) {
        bares.push(bare.rate(bench.timing(Effort::Glance).measure)?);
    }
    let bare = median(bares);
    let title = format!("Sign {what} × 64");
    let [ours, echo] = bench.compare(&title, Effort::Glance, [&ours, &echo]).await?;
    println!("{title:28} bare library   {bare:>9.0}/s");
    let both = 1.0 / (1.0 / echo.rate + 1.0 / bare);
    bench.show(format!("{title}, unary, to the library"), ours.rate / bare, "×");
    bench.show(format!("{title}, unary, to echo and library together"), ours.rate / both, "×");
    Ok(())
}
