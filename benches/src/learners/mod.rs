//! More nodes, more calls: what each serving learner adds, and what it costs the leader and those who write.
//!
//! One machine has few cores, and nodes that share them show nothing: here each serving node has a small share of a core
//! of its own ([`groups`]), so that one more node is one more share, as it is with machines. Each sample ([`measure`]) is
//! a fresh cluster with 0, 2 or 4 learners; samples are taken in turns ([`plan`]) and each is written down at once, so that
//! the same command goes on where it was interrupted.

mod clocks;
mod groups;
mod measure;
mod plan;
mod records;
mod sent;
mod site;
mod summary;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::runtime;

pub use groups::NoQuotas;

use crate::ledger::{Basis, Ledger, left_in_words, unix_ms};
use crate::run::told_to_stop;
use groups::Groups;
use measure::Choice;
use plan::Step;
use records::{Outcome, Record};

/// Name of the report and of the runs' file.
const NAME: &str = "bench-learners";
/// Samples in a row that cannot be taken before it gives up.
const BROKEN_MAX: u32 = 3;

/// What is measured, and how often.
#[derive(Debug, clap::Args)]
pub struct LearnersOptions {
    /// How often each number of learners is measured; finished samples count.
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    rounds: u32,
    /// How long each part of a sample is measured, in seconds.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Percent of a core for each serving node. The kernel takes no less than 10 at this length of period, and with so
    /// little a leader is late with its heartbeats.
    #[arg(long, default_value_t = 15, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(10..=100))]
    quota: u32,
    /// Folder on another disk for the data of learners, so that their syncs do not hold up those of voters.
    #[arg(long, value_name = "FOLDER")]
    learners_disk: Option<PathBuf>,
    /// Folder for bench-learners.json and for the runs' file, in which a later call finds what is finished.
    #[arg(long, value_name = "FOLDER", default_value = "reports")]
    reports: PathBuf,
}

/// Measures what is not finished yet, prints and writes all there is.
///
/// # Errors
/// [`NoQuotas`] where this machine or user cannot give processes a share of the processor; otherwise when something cannot
/// be started. A missed target is none: it is printed.
pub fn run_learners(options: &LearnersOptions) -> anyhow::Result<()> {
    let LearnersOptions { rounds, seconds, quota, reports, learners_disk } = options;
    let disk = if learners_disk.is_some() { "; a disk for learners" } else { "" };
    let chosen = format!("{quota} % of a core each, {seconds} s each part{disk}; form 5");
    let basis = Basis::now(chosen)?;
    let mut ledger = Ledger::open(reports, NAME, basis)?;
    let steps = plan::left(*rounds, &ledger);
    let measured = if steps.is_empty() { Ok(()) } else { take(&steps, &mut ledger, options) };
    if ledger.records().is_empty() {
        return measured;
    }
    let report = summary::report(&ledger);
    println!("\n{} at {}\n{report}", report.machine(), report.commit());
    let missed = report.figures().iter().filter(|figure| !figure.holds()).count();
    if missed > 0 {
        println!("{missed} of {} figures miss their targets", report.figures().len());
    }
    let written = report.write(reports, NAME);
    println!("written to {}", written.context("cannot write the report")?.display());
    measured
}

fn take(
    steps: &[Step],
    ledger: &mut Ledger<Record>,
    options: &LearnersOptions,
) -> anyhow::Result<()> {
    let groups = Groups::make()?;
    groups.enter()?;
    // One thread calls all nodes: it has nothing to share out.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let part = Duration::from_secs(options.seconds.into());
    let choice = Choice { quota: options.quota, part, disk: options.learners_disk.clone() };
    runtime.block_on(async {
        // Being told to stop ends the cluster, as the end does.
        tokio::select! {
            taken = take_all(&groups, steps, ledger, &choice) => taken,
            () = told_to_stop() => bail!("told to stop; the same command goes on from here"),
        }
    })
}

async fn take_all(
    groups: &Groups,
    steps: &[Step],
    ledger: &mut Ledger<Record>,
    choice: &Choice,
) -> anyhow::Result<()> {
    let mut broken_in_a_row = 0;
    for (place, Step { round, learners }) in steps.iter().copied().enumerate() {
        let began = Instant::now();
        let result = match measure::sample(groups, learners, choice).await {
            Ok(sample) => Outcome::Sample(Box::new(sample)),
            Err(error) => Outcome::Broken(format!("{error:#}")),
        };
        let is_broken = matches!(result, Outcome::Broken(_));
        broken_in_a_row = if is_broken { broken_in_a_row + 1 } else { 0 };
        let told = summary::told(&result);
        let took_s = began.elapsed().as_secs_f64();
        ledger.add(Record { round, learners, ended_unix_ms: unix_ms(), took_s, result })?;
        let left = left_in_words(plan::time_for(steps.len() - place - 1, ledger));
        println!(
            "{:>3}/{} round {round}, {learners} learners: {told}; {left} left",
            place + 1,
            steps.len()
        );
        ensure!(broken_in_a_row < BROKEN_MAX, "{BROKEN_MAX} samples in a row could not be taken");
    }
    Ok(())
}
