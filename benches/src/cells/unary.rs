//! Encrypt and Decrypt as unary calls, each beside an echo with messages of the same length.

use prost::Message;
use twinkeep_client::v1;
use twinkeep_report::Target;
use twinkeep_tests::Node;

use super::requests::{self, DECRYPT, ENCRYPT};
use crate::bench::{Bench, Effort};
use crate::load::closed::Call;
use crate::load::wire::frame;
use crate::servers::cluster::{APP, ask};
use crate::servers::{Server, echo};
use crate::subject::{Load, Subject};

/// The figure that counts: 1 KiB, 64 in flight.
const GATE: (usize, usize) = (1024, 64);
/// Bytes of plaintext.
const SIZES: [usize; 3] = [32, 1024, 4096];
/// Calls in flight.
const IN_FLIGHT: [usize; 3] = [1, 16, 64];

/// A call, and the echo that is as long.
pub(super) struct Pair {
    pub(super) ours: Subject,
    pub(super) echo: Subject,
}

/// Asks once, to see how long the answer is, and makes a pair of it.
pub(super) async fn pair<A>(
    bench: &Bench,
    server: Server,
    method: &'static str,
    request: &impl Message,
    load: Load,
) -> anyhow::Result<Pair>
where
    A: Message + Default,
{
    let answer: A = ask(&server, method, request).await?;
    let request = frame(request);
    let as_long = echo::as_long_as(request.len(), frame(&answer).len());
    let echo = Subject::alone(bench.echo.server().clone(), as_long, load);
    Ok(Pair { ours: Subject::alone(server, Call::same(method, request), load), echo })
}

async fn encrypt_at(
    bench: &Bench,
    node: &Node,
    size: usize,
    in_flight: usize,
) -> anyhow::Result<Pair> {
    let server = bench.nodes.server(node, APP)?;
    let request = requests::encrypt(&bench.nodes.cluster().first_key()?, size);
    pair::<v1::EncryptResponse>(bench, server, ENCRYPT, &request, Load::Unary(in_flight)).await
}

async fn decrypt_at(
    bench: &Bench,
    node: &Node,
    size: usize,
    in_flight: usize,
) -> anyhow::Result<Pair> {
    let server = bench.nodes.server(node, APP)?;
    let request = requests::encrypt(&bench.nodes.cluster().first_key()?, size);
    let sealed: v1::EncryptResponse = ask(&server, ENCRYPT, &request).await?;
    let request = requests::decrypt(sealed.ciphertext);
    pair::<v1::DecryptResponse>(bench, server, DECRYPT, &request, Load::Unary(in_flight)).await
}

/// The pair behind the figure that counts.
pub(super) async fn gate_pair(bench: &Bench) -> anyhow::Result<Pair> {
    encrypt_at(bench, &bench.follower, GATE.0, GATE.1).await
}

/// Encrypt of 1 KiB, 64 in flight.
pub(super) async fn gate(bench: &mut Bench) -> anyhow::Result<()> {
    let Pair { ours, echo } = gate_pair(bench).await?;
    let [ours, echo] = bench.compare("Encrypt 1 KiB × 64", Effort::Gate, [&ours, &echo]).await?;
    let ratio = ours.rate / echo.rate;
    bench.report.add("Encrypt 1 KiB × 64, to the echo", ratio, "×", Target::AtLeast(0.85));
    let by_time = echo.server_us / ours.server_us;
    bench.show("Encrypt 1 KiB × 64, to the echo, by processor time", by_time, "×");
    bench.show("Encrypt 1 KiB × 64", ours.rate, "/s");
    bench.show("unary echo 1 KiB × 64", echo.rate, "/s");
    bench.show("processor time of an Encrypt", ours.server_us, "us");
    bench.show("processor time of an echo", echo.server_us, "us");
    Ok(())
}

/// Everything else by size and calls in flight.
pub(super) async fn grid(bench: &mut Bench) -> anyhow::Result<()> {
    for size in SIZES {
        for in_flight in IN_FLIGHT {
            let node = bench.follower.clone();
            let encrypt = encrypt_at(bench, &node, size, in_flight).await?;
            let decrypt = decrypt_at(bench, &node, size, in_flight).await?;
            for (what, pair) in [("Encrypt", encrypt), ("Decrypt", decrypt)] {
                let title = format!("{what} {size} B × {in_flight}");
                let subjects = [&pair.ours, &pair.echo];
                let [ours, echo] = bench.compare(&title, Effort::Glance, subjects).await?;
                bench.show(format!("{title}, to the echo"), ours.rate / echo.rate, "×");
            }
        }
    }
    Ok(())
}

/// A follower is as good as the leader.
pub(super) async fn follower(bench: &mut Bench) -> anyhow::Result<()> {
    let follower = encrypt_at(bench, &bench.follower, GATE.0, GATE.1).await?.ours;
    let leader = encrypt_at(bench, &bench.leader, GATE.0, GATE.1).await?.ours;
    let subjects = [&follower, &leader];
    let [follower, leader] = bench.compare("follower, leader", Effort::Gate, subjects).await?;
    let ratio = follower.rate / leader.rate;
    bench.report.add("Encrypt at a follower, to the leader", ratio, "×", Target::AtLeast(0.95));
    Ok(())
}
