//! What one Encrypt asks of the heap and of the kernel, counted by `perf stat` in the server: heap blocks,
//! system calls, switches. Counts, unlike times, do not depend on the machine's mood.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;
use tokio::time::sleep;
use twinkeep_client::v1::crypto_stream_request::Body;

use super::{requests, unary};
use crate::bench::Bench;
use crate::load::sample::count;
use crate::load::tally::Tally;
use crate::load::window::{Timing, Window};
use crate::servers::cluster::APP;
use crate::subject::{Load, Stage, Subject};

/// A probe on the heap's way in; made by `perf probe`, and taken away again.
const HEAP: &str = "twinkeep_malloc";
/// What is counted, and what it is called in the report.
const EVENTS: [(&str, &str); 10] = [
    ("probe_libc:twinkeep_malloc", "heap blocks"),
    ("raw_syscalls:sys_enter", "system calls"),
    ("syscalls:sys_enter_writev", "of them writev"),
    ("syscalls:sys_enter_recvfrom", "of them recvfrom"),
    ("syscalls:sys_enter_getrandom", "of them getrandom"),
    ("syscalls:sys_enter_futex", "of them futex"),
    ("syscalls:sys_enter_epoll_wait", "of them epoll_wait"),
    ("syscalls:sys_enter_pwrite64", "of them pwrite64 (audit)"),
    ("syscalls:sys_enter_fdatasync", "of them fdatasync (audit)"),
    ("context-switches", "context switches"),
];
/// perf is ready when this has passed.
const PERF_STARTS: Duration = Duration::from_millis(700);

/// Encrypt of 1 KiB: one by one, 64 in flight, and on the stream, 256 in flight.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let unary = unary::gate_pair(bench).await?.ours;
    let request = requests::encrypt(&bench.nodes.cluster().first_key()?, 1024);
    let call = requests::on_stream(&Body::Encrypt(request));
    let server = bench.nodes.server(&bench.follower, APP)?;
    let streamed = Subject::alone(server, call, Load::Stream(256));
    let Some(_probe) = Probe::make(unary.server.process)? else {
        println!("not counted: needs perf (Debian: linux-perf) with uprobes, as root");
        return Ok(());
    };
    for (how, subject) in [("one by one", unary), ("on the stream", streamed)] {
        for (what, each) in counted(bench, &subject).await? {
            bench.show(format!("an Encrypt {how}: {what}"), each, "");
        }
    }
    Ok(())
}

/// Counts while some calls are made; returns how many of each for one call.
async fn counted(bench: &Bench, subject: &Subject) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let _stage = Stage::set(bench, subject)?;
    let connections = subject.connect().await?;
    let events = EVENTS.map(|(event, _)| event).join(",");
    let process = subject.server.process.as_raw_nonzero().to_string();
    let mut perf = Command::new("perf")
        .args(["stat", "-x", ",", "-e", &events, "-p", &process, "--", "sleep", "3"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    sleep(PERF_STARTS).await;
    let window = Window::new();
    let tally = Tally::new(&window);
    let timing = Timing { warm_up: Duration::ZERO, measure: Duration::from_secs(1) };
    tokio::try_join!(window.run(timing, &[], &[]), subject.drive(&connections, &tally))?;
    let counts = finish(&mut perf)?;
    let each = |(event, what)| {
        let line = counts.lines().find(|line| line.split(',').any(|field| field == event));
        let number = line.and_then(|line| line.split(',').next()?.parse::<f64>().ok());
        (what, number.unwrap_or(f64::NAN) / count(tally.answers()))
    };
    Ok(EVENTS.map(each).into())
}

fn finish(perf: &mut Child) -> anyhow::Result<String> {
    let mut text = String::new();
    let output = perf.stderr.as_mut().context("perf stat has no output")?;
    output.read_to_string(&mut text)?;
    perf.wait()?;
    Ok(text)
}

/// The probe on the heap, for as long as this lives.
struct Probe;

impl Probe {
    fn make(process: Pid) -> anyhow::Result<Option<Self>> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", process.as_raw_nonzero()))?;
        let libc = maps.split_whitespace().find(|word| word.ends_with("/libc.so.6"));
        let libc = libc.context("the server has no libc.so.6")?;
        let add = format!("{HEAP}=malloc");
        Ok(perf_probe(&["-f", "-x", libc, "--add", &add]).then_some(Self))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        perf_probe(&["--del", &format!("probe_libc:{HEAP}*")]);
    }
}

fn perf_probe(arguments: &[&str]) -> bool {
    let mut perf = Command::new("perf");
    perf.args(["probe", "--quiet"]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    perf.status().is_ok_and(|status| status.success())
}
