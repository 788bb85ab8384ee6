//! Three times the capacity, in an open loop: what is still answered, and how fast.
//!
//! Goodput is what is answered well. Calls that are refused, and calls that the server's limit of open calls
//! keeps from being sent at all, are load that was shed. The time of an admitted call counts from when it was
//! sent: how long callers queue among themselves is theirs to choose.

use twinkeep_report::Target;

use super::unary;
use crate::bench::{Bench, Effort};
use crate::load::open;
use crate::load::sample::{Sample, count, median};
use crate::load::tally::{RESOURCE_EXHAUSTED, Tally};
use crate::load::window::Window;
use crate::subject::{Stage, Subject};

/// How many times the capacity is offered.
const TIMES: f64 = 3.0;
/// Connections that it comes from.
const CONNECTIONS: usize = 16;
/// Longest that the 99th percentile of an admitted call may take, in milliseconds.
const P99_MS_MAX: f64 = 100.0;

/// What one overload did.
struct Overload {
    goodput: f64,
    p99_ms: f64,
    refused: f64,
    unsent: f64,
}

/// The peak in a closed loop, then three times as much.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let subject = unary::gate_pair(bench).await?.ours;
    let (mut peaks, mut overloads) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(Effort::Glance) {
        let peak: Sample = bench.measure(&subject, Effort::Gate).await?;
        overloads.push(overload(bench, &subject, TIMES * peak.rate).await?);
        peaks.push(peak.rate);
    }
    let peak = median(peaks);
    let middle = |figure: fn(&Overload) -> f64| median(overloads.iter().map(figure).collect());
    let goodput = middle(|overload| overload.goodput) / peak;
    bench.report.add(
        "goodput at 3 × the capacity, to the peak",
        goodput,
        "×",
        Target::AtLeast(0.9),
    );
    let p99_ms = middle(|overload| overload.p99_ms);
    bench.report.add("p99 of admitted calls meanwhile", p99_ms, "ms", Target::AtMost(P99_MS_MAX));
    bench.show("refused meanwhile", middle(|overload| overload.refused), "/s");
    bench.show("held back by the sender meanwhile", middle(|overload| overload.unsent), "/s");
    Ok(())
}

async fn overload(bench: &Bench, subject: &Subject, rate: f64) -> anyhow::Result<Overload> {
    let stage = Stage::set(bench, subject)?;
    let connections = subject.server.connect(CONNECTIONS).await?;
    let window = Window::new();
    let tally = Tally::new(&window);
    let (passed, ()) = tokio::try_join!(
        stage.run(&window, bench.timing(Effort::Gate)),
        open::run(&connections, &subject.call, rate, &tally),
    )?;
    let seconds = passed.time.as_secs_f64();
    let refused = count(tally.refusals_with(RESOURCE_EXHAUSTED)) / seconds;
    println!(
        "offered {rate:.0}/s: answered {:.0}/s, refused {refused:.0}/s (RESOURCE_EXHAUSTED), otherwise {:.0}/s; \
         p99 {:.1} ms from sending, {:.1} ms from when due",
        count(tally.answers()) / seconds,
        count(tally.refusals()) / seconds - refused,
        tally.service_us(99.0) / 1000.0,
        tally.latency_us(99.0) / 1000.0,
    );
    Ok(Overload {
        goodput: count(tally.answers()) / seconds,
        p99_ms: tally.service_us(99.0) / 1000.0,
        refused,
        unsent: count(tally.abandonments()) / seconds,
    })
}
