//! The loss of a zone, measured: how long control writes stop, and what callers of crypto notice.
//!
//! Five real nodes stand in a network of namespaces ([`network`]), where a zone can be killed or made silent by
//! packet filters. Applications in both zones call at a steady pace through the client library ([`load`]) while a
//! zone is lost ([`loss`]), nodes are restarted ([`rolling`]) or, for comparison, etcd loses its leader ([`mod@etcd`]).
//! Each finished run is written down at once ([`crate::ledger`]); the same command goes on where it was interrupted.

mod etcd;
mod load;
mod loss;
mod network;
mod plan;
mod records;
mod rolling;
mod site;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use tokio::runtime;

pub use network::NoNamespaces;

use crate::ledger::{Basis, Ledger, left_in_words, unix_ms};
use crate::run::told_to_stop;
use etcd::Etcd;
use network::Network;
use plan::Step;
use records::{Kind, Outcome, Record};
use site::Site;

/// Name of the report and of the runs' file.
const NAME: &str = "bench-failover";
/// What was chosen; runs with other choices are not put together.
const PARAMETERS: &str = "1000 calls/s in two zones, one writer, event of 2 s; form 2";
/// Runs in a row that cannot be carried out before it gives up.
const BROKEN_MAX: u32 = 3;

/// What is measured, and how often.
#[derive(Debug, clap::Args)]
pub struct FailoverOptions {
    /// How often each zone is lost in each way; finished runs count.
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    runs: u32,
    /// Makes the runs with one of these words, set apart by commas, in their names alone: leader-killed,
    /// leader-silent, other-killed, other-silent, witness-newest, rolling, etcd-default, etcd-tuned.
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
    /// What the nodes say in their messages: a filter as in `log.filter`. To find out where the time goes.
    #[arg(long, value_name = "FILTER", default_value = "info,openraft=error")]
    log_filter: String,
    /// Folder for bench-failover.json and for the runs' file, in which a later call finds what is finished.
    #[arg(long, value_name = "FOLDER", default_value = "reports")]
    reports: PathBuf,
}

/// Measures what is not finished yet, prints and writes all there is.
///
/// # Errors
/// [`NoNamespaces`] where this machine or user cannot make them; otherwise when something cannot be started or does
/// not come back. A missed target is none: it is printed.
pub fn run_failover(options: &FailoverOptions) -> anyhow::Result<()> {
    let only = options.only.as_deref();
    let is_known = |only| Kind::ALL.into_iter().any(|kind| plan::is_chosen(kind, only));
    ensure!(only.is_none_or(is_known), "--only: no run has that in its name; see --help");
    let mut ledger = Ledger::open(&options.reports, NAME, basis(options)?)?;
    let steps = plan::left(options.runs, only, &ledger);
    let measured = match steps.is_empty() {
        true => Ok(()),
        false => in_network(&steps, &mut ledger, options),
    };
    if ledger.records().is_empty() {
        return measured;
    }
    let report = summary::report(&ledger);
    println!("\n{} at {}\n{report}", report.machine(), report.commit());
    let missed = report.figures().iter().filter(|figure| !figure.holds()).count();
    if missed > 0 {
        println!("{missed} of {} figures miss their targets", report.figures().len());
    }
    let written = report.write(&options.reports, NAME);
    println!("written to {}", written.context("cannot write the report")?.display());
    measured
}

fn basis(options: &FailoverOptions) -> anyhow::Result<Basis> {
    Basis::now(format!("{PARAMETERS}; messages {}", options.log_filter))
}

fn in_network(
    steps: &[Step],
    ledger: &mut Ledger<Record>,
    options: &FailoverOptions,
) -> anyhow::Result<()> {
    let network = Network::make()?;
    // This thread alone so far: all that it starts from here on stands among the clients.
    network.place("clients")?.enter()?;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        // Being told to stop ends what was started, as the end does.
        tokio::select! {
            measured = measure(&network, steps, ledger, options) => measured,
            () = told_to_stop() => bail!("told to stop; the same command goes on from here"),
        }
    })
}

/// What runs at present; only one of them at a time, since each wants the machine.
enum Stage<'n> {
    Empty,
    Cluster(Site<'n>),
    Etcd(Kind, Etcd<'n>),
}

async fn measure(
    network: &Network,
    steps: &[Step],
    ledger: &mut Ledger<Record>,
    options: &FailoverOptions,
) -> anyhow::Result<()> {
    let FailoverOptions { reports, log_filter, .. } = options;
    let mut stage = Stage::Empty;
    let mut broken_in_a_row = 0;
    for (place, step) in steps.iter().enumerate() {
        let began = Instant::now();
        let result = match carry_out(&mut stage, network, *step, log_filter).await {
            Ok(outcome) => outcome,
            Err(error) => {
                keep_messages(&stage, reports)?;
                // The next run gets a fresh cluster.
                stage = Stage::Empty;
                Outcome::Broken(format!("{error:#}"))
            }
        };
        let is_broken = matches!(result, Outcome::Broken(_));
        broken_in_a_row = if is_broken { broken_in_a_row + 1 } else { 0 };
        let told = summary::told(&result);
        let (Step { kind, number }, took_s) = (*step, began.elapsed().as_secs_f64());
        ledger.add(Record { kind, number, ended_unix_ms: unix_ms(), took_s, result })?;
        let left = left_in_words(plan::time_for(&steps[place + 1..], ledger));
        if matches!(steps.get(place + 1), None | Some(Step { kind: Kind::EtcdDefault, .. })) {
            keep_messages(&stage, reports)?;
        }
        println!("{:>4}/{} {kind} #{number}: {told}; {left} left", place + 1, steps.len());
        ensure!(broken_in_a_row < BROKEN_MAX, "{BROKEN_MAX} runs in a row could not be finished");
    }
    Ok(())
}

async fn carry_out<'n>(
    stage: &mut Stage<'n>,
    network: &'n Network,
    step: Step,
    log_filter: &str,
) -> anyhow::Result<Outcome> {
    let Step { kind, number } = step;
    match kind {
        Kind::LeaderKilled
        | Kind::LeaderSilent
        | Kind::OtherKilled
        | Kind::OtherSilent
        | Kind::WitnessNewest => {
            let site = cluster(stage, network, log_filter).await?;
            Ok(Outcome::Loss(loss::run(site, kind, number).await?))
        }
        Kind::Rolling => {
            let site = cluster(stage, network, log_filter).await?;
            Ok(Outcome::Rolling(rolling::run(site, number).await?))
        }
        Kind::EtcdDefault | Kind::EtcdTuned => {
            Ok(Outcome::Etcd(etcd(stage, network, kind)?.run().await?))
        }
    }
}

/// Sets the stage for our cluster.
async fn cluster<'s, 'n>(
    stage: &'s mut Stage<'n>,
    network: &'n Network,
    log_filter: &str,
) -> anyhow::Result<&'s Site<'n>> {
    if !matches!(stage, Stage::Cluster(_)) {
        // The one before ends first.
        *stage = Stage::Empty;
        println!("starting a cluster of five nodes in network namespaces");
        *stage = Stage::Cluster(Site::start(network, log_filter).await?);
    }
    match stage {
        Stage::Cluster(site) => Ok(site),
        Stage::Empty | Stage::Etcd(..) => bail!("the stage was not set"),
    }
}

/// Sets the stage for etcd.
fn etcd<'s, 'n>(
    stage: &'s mut Stage<'n>,
    network: &'n Network,
    kind: Kind,
) -> anyhow::Result<&'s mut Etcd<'n>> {
    if !matches!(stage, Stage::Etcd(of, _) if *of == kind) {
        *stage = Stage::Empty;
        println!("starting three members of etcd");
        *stage = Stage::Etcd(kind, Etcd::start(network, kind)?);
    }
    match stage {
        Stage::Etcd(_, etcd) => Ok(etcd),
        Stage::Empty | Stage::Cluster(_) => bail!("the stage was not set"),
    }
}

/// Keeps what the nodes said before their folder goes.
fn keep_messages(stage: &Stage<'_>, reports: &Path) -> anyhow::Result<()> {
    let Stage::Cluster(site) = stage else { return Ok(()) };
    let folder = reports.join("bench-failover.messages");
    std::fs::create_dir_all(&folder)?;
    for (node, said) in site.messages() {
        std::fs::write(folder.join(node).with_extension("log"), said)?;
    }
    println!("what the nodes said is in {}", folder.display());
    Ok(())
}
