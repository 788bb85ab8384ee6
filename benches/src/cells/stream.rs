//! The crypto stream beside its limits: the bare stream and the bare envelope one after the other, and the bare
//! library.

use twinkeep_client::v1::crypto_stream_request::Body;
use twinkeep_client::v1::{Algorithm, KeySpec};
use twinkeep_report::Target;

use super::requests::{self, CRYPTO_STREAM};
use super::unary;
use crate::bench::{Bench, Effort};
use crate::load::closed::Call;
use crate::load::sample::{Sample, median};
use crate::load::wire::{Connection, FRAME_HEADER_BYTES};
use crate::servers::Server;
use crate::servers::bare::Bare;
use crate::servers::cluster::APP;
use crate::servers::echo;
use crate::subject::{Load, Subject};

/// Bytes of plaintext; the second one has the target.
const SIZES: [usize; 3] = [32, 1024, 4096];
const GATE_SIZE: usize = 1024;
/// Messages in flight: as many as a node takes of one stream.
const IN_FLIGHT: Load = Load::Stream(256);

/// Encrypt of each size, then signatures.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for size in SIZES {
        encrypt(bench, size).await?;
    }
    for (what, spec, algorithm, bare, target) in [
        ("P-256", KeySpec::EcP256, Algorithm::EcdsaSha256, Bare::SignP256, Target::AtLeast(0.85)),
        ("Ed25519", KeySpec::Ed25519, Algorithm::Ed25519Sha512, Bare::SignEd25519, Target::None),
        (
            "RSA-2048",
            KeySpec::Rsa2048,
            Algorithm::RsassaPkcs1V15Sha256,
            Bare::SignRsa2048,
            Target::AtLeast(0.95),
        ),
    ] {
        let key_id = bench.nodes.create_key(&bench.follower, spec).await?;
        let ours = ours(bench, &Body::Sign(requests::sign(&key_id, algorithm)))?;
        let (rate, bare) = beside(bench, &ours, bare).await?;
        let title = format!("Sign {what} on the stream, to the library");
        bench.report.add(title, rate / bare, "×", target);
    }
    Ok(())
}

/// Encrypt on the stream, the bare stream with messages as long, and the bare envelope, in turns.
async fn encrypt(bench: &mut Bench, size: usize) -> anyhow::Result<()> {
    let key_id = bench.nodes.cluster().first_key()?;
    let ours = ours(bench, &Body::Encrypt(requests::encrypt(&key_id, size)))?;
    let answer_bytes = answer_bytes(&ours.server, &ours.call).await?;
    let message = echo::message_as_long_as(ours.call.frames[0].len(), answer_bytes);
    let call = Call::same(echo::STREAM, message);
    let bare = Subject::alone(bench.echo.server().clone(), call, IN_FLIGHT);
    let effort = if size == GATE_SIZE { Effort::Gate } else { Effort::Glance };
    let (mut our_samples, mut streams, mut seals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds(effort) {
        our_samples.push(bench.measure(&ours, effort).await?);
        streams.push(bench.measure(&bare, effort).await?);
        seals.push(Bare::Seal(size).rate(bench.timing(effort).measure)?);
    }
    let (our_sample, stream) = (Sample::median(&our_samples), Sample::median(&streams));
    let seal = median(seals);
    let title = format!("stream {size} B × 256");
    println!("{title:28} {:14} {our_sample}", ours.server.name);
    println!("{title:28} {:14} {stream}", bare.server.name);
    println!("{title:28} bare envelope  {seal:>9.0}/s");
    let both = 1.0 / (1.0 / stream.rate + 1.0 / seal);
    let target = if size == GATE_SIZE { Target::AtLeast(0.8) } else { Target::None };
    let name = format!("Encrypt {size} B on the stream, to bare stream and envelope together");
    bench.report.add(name, our_sample.rate / both, "×", target);
    bench.show(format!("Encrypt {size} B on the stream"), our_sample.rate, "/s");
    bench.show(format!("bare stream {size} B"), stream.rate, "/s");
    bench.show(format!("bare envelope {size} B"), seal, "/s");
    if size == GATE_SIZE {
        let echo = unary::gate_pair(bench).await?.echo;
        let echo = bench.measure(&echo, Effort::Gate).await?;
        let ratio = our_sample.rate / echo.rate;
        bench.show("Encrypt 1 KiB on the stream, to the unary echo", ratio, "×");
    }
    if let Some(folder) = bench.profiles() {
        bench.profile(&ours, folder, &title).await?;
    }
    Ok(())
}

/// A subject and a function of the library in turns; returns the medians of their rates.
async fn beside(bench: &Bench, ours: &Subject, bare: Bare) -> anyhow::Result<(f64, f64)> {
    let (mut samples, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(Effort::Gate) {
        samples.push(bench.measure(ours, Effort::Gate).await?);
        bares.push(bare.rate(bench.timing(Effort::Gate).measure)?);
    }
    let (sample, bare_rate) = (Sample::median(&samples), median(bares));
    let title = format!("stream {bare:?} × 256");
    println!("{title:28} {:14} {sample}", ours.server.name);
    println!("{title:28} bare library   {bare_rate:>9.0}/s");
    if let Some(folder) = bench.profiles() {
        bench.profile(ours, folder, &title).await?;
    }
    Ok((sample.rate, bare_rate))
}

fn ours(bench: &Bench, body: &Body) -> anyhow::Result<Subject> {
    let server = bench.nodes.server(&bench.follower, APP)?;
    Ok(Subject::alone(server, requests::on_stream(body), IN_FLIGHT))
}

/// Sends one message and returns the length of the framed answer.
async fn answer_bytes(server: &Server, call: &Call) -> anyhow::Result<usize> {
    let connection = Connection::open(server.address, server.tls.as_ref()).await?;
    let (mut send, mut answers) = connection.prepare(CRYPTO_STREAM)?.stream().await?;
    send.send_data(call.frames[0].clone(), true)?;
    let mut answer = Vec::new();
    while let Some(piece) = answers.data().await {
        answer.extend_from_slice(&piece?);
    }
    let message = answer.get(FRAME_HEADER_BYTES..).unwrap_or_default();
    if let Some((code, why)) = requests::stream_refusal(message) {
        anyhow::bail!("the stream answered with status {code}: {why}");
    }
    anyhow::ensure!(!message.is_empty(), "the stream did not answer");
    Ok(answer.len())
}
