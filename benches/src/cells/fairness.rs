//! Encrypt at half of the capacity, with and without another caller who signs with RSA-4096 as fast as it can.
//!
//! Neither may starve. The callers who encrypt hardly notice, and the signer gets the processor that is left, as much
//! as the server's core is idle without it.
//!
//! A percentile of one long window says what the hypervisor did: one pause of a few milliseconds in it is the 99th
//! percentile. So it is taken of many short windows in turns, those in which the hypervisor and other programs took
//! next to nothing, and the median of them counts. A pause, which a nested virtual machine does not always admit to,
//! spoils the window that it falls into and no other. The quartiles beside it tell how far windows differ. The load
//! generator goes ahead of the nodes on its core, whose heartbeats would otherwise be half of every percentile, and
//! the echo at the same rate tells what is left of that.

use std::fmt;
use std::time::Duration;

use anyhow::ensure;
use twinkeep_client::v1::{Algorithm, KeySpec, SignResponse};
use twinkeep_report::Target;

use super::requests::{self, SIGN};
use super::unary::{self, Pair};
use crate::bench::{Bench, Effort};
use crate::load::closed::{self, Call};
use crate::load::open;
use crate::load::sample::{count, mean, median, quartiles};
use crate::load::tally::Tally;
use crate::load::window::{Timing, Window};
use crate::load::wire::{Connection, frame};
use crate::servers::bare::Bare;
use crate::servers::cluster::{SIGNER, ask};
use crate::subject::{Stage, Subject};
use crate::system::priority::Ahead;
use crate::system::weather::Weather;

/// Connections of those who encrypt.
const CONNECTIONS: usize = 4;
/// Signatures in flight.
const SIGNS_IN_FLIGHT: usize = 16;
/// Windows with the signer, and as many without. Of twelve longer ones the same server got ratios of 0.8 to 1.9.
const ROUNDS: usize = 40;
/// How long one is: time for thousands of calls and dozens of signatures.
const TIMING: Timing =
    Timing { warm_up: Duration::from_millis(150), measure: Duration::from_millis(250) };
/// How often a window is taken again when the hypervisor took too much of it.
const TRIES: usize = 5;

/// What was seen with or without the signer.
#[derive(Debug, Clone, Copy)]
struct Seen {
    p99_us: f64,
    /// Share of the time in which the server's core had nothing to do.
    idle: f64,
    signs: f64,
    signs_refused: u64,
    weather: Weather,
}

/// Without, with, the echo; without, with, the echo.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let Pair { ours: subject, echo } = unary::gate_pair(bench).await?;
    let sign = signer_call(bench).await?;
    let sign_s = 1.0 / Bare::SignRsa4096.rate(bench.timing(Effort::Glance).measure)?;
    let rate = bench.measure(&subject, Effort::Gate).await?.rate / 2.0;
    let ahead = Ahead::go();
    let (mut without, mut with, mut echoes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..if bench.is_quick() { 2 } else { ROUNDS } {
        without.push(in_calm(bench, &subject, rate, None).await?);
        with.push(in_calm(bench, &subject, rate, Some(&sign)).await?);
        echoes.push(in_calm(bench, &echo, rate, None).await?);
    }
    bench.show(
        "load generator goes ahead of other nodes",
        f64::from(u8::from(ahead.is_ahead())),
        "",
    );
    drop(ahead);
    let refused: u64 = with.iter().map(|seen| seen.signs_refused).sum();
    let [without, with, echo] = [&without, &with, &echoes].map(|seen| Summary::of(seen));
    println!("Encrypt {rate:.0}/s   without {without}");
    println!("Encrypt {rate:.0}/s   with    {with}");
    println!("echo    {rate:.0}/s           {echo}");
    ensure!(without.idle > 0.0, "the server's core is never idle at half of the capacity");
    let (left, signing) = (without.idle, with.signs * sign_s);
    println!("{:.2} ms a signature: {signing:.3} of a core, of {left:.3} left", sign_s * 1000.0);
    let ratio = with.p99_us / without.p99_us;
    let report = &mut bench.report;
    report.add("p99 of Encrypt beside RSA-4096, to without", ratio, "×", Target::AtMost(1.5));
    let share = signing / left;
    report.add("the signer's share of the processor left", share, "×", Target::AtLeast(0.8));
    report.add("signatures refused", count(refused), "calls", Target::AtMost(0.0));
    bench.show("p99 of Encrypt at half of the capacity", without.p99_us, "us");
    bench.show("p99 of the echo at that rate", echo.p99_us, "us");
    Ok(())
}

/// What some windows say together.
struct Summary {
    p99_us: f64,
    p99_us_quartiles: (f64, f64),
    /// A mean, as what follows: the kernel's clocks tell processor time in steps of 10 ms.
    idle: f64,
    signs: f64,
    steal: f64,
}

impl Summary {
    fn of(seen: &[Seen]) -> Self {
        let all = |figure: fn(&Seen) -> f64| seen.iter().map(figure).collect::<Vec<_>>();
        Self {
            p99_us: median(all(|seen| seen.p99_us)),
            p99_us_quartiles: quartiles(all(|seen| seen.p99_us)),
            idle: mean(&all(|seen| seen.idle)),
            signs: mean(&all(|seen| seen.signs)),
            steal: mean(&all(|seen| seen.weather.steal)),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p99 {:>6.0} us (quartiles {:.0}, {:.0})  core idle {:>4.1} %  {:>5.0} signatures/s  steal {:.1} %",
            self.p99_us,
            self.p99_us_quartiles.0,
            self.p99_us_quartiles.1,
            self.idle * 100.0,
            self.signs,
            self.steal * 100.0,
        )
    }
}

async fn signer_call(bench: &Bench) -> anyhow::Result<(Connection, Call)> {
    let key_id = bench.nodes.create_key(&bench.follower, KeySpec::Rsa4096).await?;
    let server = bench.nodes.server(&bench.follower, SIGNER)?;
    let request = requests::sign(&key_id, Algorithm::RsassaPkcs1V15Sha256);
    let _: SignResponse = ask(&server, SIGN, &request).await?;
    let connection = Connection::open(server.address, server.tls.as_ref()).await?;
    Ok((connection, Call::same(SIGN, frame(&request))))
}

/// Looks again while the hypervisor or others took too much; then the best of the bad counts.
async fn in_calm(
    bench: &Bench,
    subject: &Subject,
    rate: f64,
    signer: Option<&(Connection, Call)>,
) -> anyhow::Result<Seen> {
    let mut best = look(bench, subject, rate, signer).await?;
    let mut tries = if bench.is_quick() { 1 } else { TRIES };
    while !best.weather.is_calm() && tries > 1 {
        tries -= 1;
        let again = look(bench, subject, rate, signer).await?;
        if again.weather.badness() < best.weather.badness() {
            best = again;
        }
    }
    Ok(best)
}

async fn look(
    bench: &Bench,
    subject: &Subject,
    rate: f64,
    signer: Option<&(Connection, Call)>,
) -> anyhow::Result<Seen> {
    let stage = Stage::set(bench, subject)?;
    let connections = subject.server.connect(CONNECTIONS).await?;
    let window = Window::new();
    let (tally, signs) = (Tally::new(&window), Tally::new(&window));
    let signing = async {
        let Some((connection, call)) = signer else { return Ok(()) };
        let connections = std::slice::from_ref(connection);
        closed::run(connections, call, SIGNS_IN_FLIGHT, &signs).await
    };
    let (passed, (), ()) = tokio::try_join!(
        stage.run(&window, if bench.is_quick() { bench.timing(Effort::Gate) } else { TIMING }),
        open::run(&connections, &subject.call, rate, &tally),
        signing,
    )?;
    let seconds = passed.time.as_secs_f64();
    Ok(Seen {
        p99_us: tally.latency_us(99.0),
        idle: passed.idle.as_secs_f64() / seconds,
        signs: count(signs.answers()) / seconds,
        signs_refused: signs.refusals(),
        weather: passed.weather,
    })
}
