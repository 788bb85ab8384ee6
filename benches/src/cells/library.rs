//! Encrypt through the client library: what an application gets, with checksums, deadlines and retries, and what
//! that costs beside a bare stream to the same node.

use std::time::Instant;

use anyhow::Context;
use futures::future::try_join_all;
use twinkeep_client::v1::crypto_stream_request::Body;

use super::{requests, unary};
use crate::bench::{Bench, Effort};
use crate::load::sample::Sample;
use crate::load::tally::Tally;
use crate::load::window::Window;
use crate::load::wire::CallError;
use crate::subject::{Load, Stage, Subject};

/// Bytes of plaintext.
const SIZE: usize = 1024;
/// Calls in flight.
const IN_FLIGHT: usize = 64;

/// Encrypt of 1 KiB through one client, 64 in flight, beside the load generator's stream and the unary echo.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let pair = unary::gate_pair(bench).await?;
    let request = requests::encrypt(&bench.nodes.cluster().first_key()?, SIZE);
    let call = requests::on_stream(&Body::Encrypt(request));
    let bare = Subject::alone(pair.ours.server.clone(), call, Load::Stream(IN_FLIGHT));
    let (mut ours, mut streams, mut echoes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds(Effort::Gate) {
        ours.push(measure(bench, &pair.ours).await?);
        streams.push(bench.measure(&bare, Effort::Gate).await?);
        echoes.push(bench.measure(&pair.echo, Effort::Gate).await?);
    }
    let (ours, stream) = (Sample::median(&ours), Sample::median(&streams));
    let echo = Sample::median(&echoes);
    println!("{:28} {:14} {ours}", "library 1 KiB × 64", "twinkeepd");
    println!("{:28} {:14} {stream}", "", "raw stream");
    println!("{:28} {:14} {echo}", "", "echo");
    bench.show("client library, 1 KiB × 64, to the echo", ours.rate / echo.rate, "×");
    let ratio = ours.rate / stream.rate;
    bench.show("client library, 1 KiB × 64, to the load generator's stream", ratio, "×");
    bench.show("client library, 1 KiB × 64", ours.rate, "/s");
    Ok(())
}

async fn measure(bench: &Bench, subject: &Subject) -> anyhow::Result<Sample> {
    let stage = Stage::set(bench, subject)?;
    let client = bench.nodes.client(&bench.follower)?;
    let request = requests::encrypt(&bench.nodes.cluster().first_key()?, SIZE);
    let window = Window::new();
    let tally = Tally::new(&window);
    let lane = |_| async {
        while !window.is_over() {
            let sent = Instant::now();
            client.encrypt(request.clone()).await.context("the client library failed")?;
            tally.note(sent, sent, Ok::<_, CallError>(()))?;
        }
        anyhow::Ok(())
    };
    let (passed, _) = tokio::try_join!(
        stage.run(&window, bench.timing(Effort::Gate)),
        try_join_all((0..IN_FLIGHT).map(lane)),
    )?;
    Ok(Sample::of(&tally, &passed))
}
