//! The run: goes through the cells, prints and writes what they found.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use twinkeep_report::Report;

use crate::bench::Bench;
use crate::cells::{self, Cell};
use crate::picture;
use crate::system::cores;

/// What is measured, and how long.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Measures next to nothing, to see that everything works; no figure is to be believed.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Runs the cells with this in their names alone.
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Lists the cells.
    #[arg(long)]
    list: bool,
    /// Takes a profile of each server under load, by `perf`, into a folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) profiles: Option<PathBuf>,
    /// Folder for bench.json and bench.svg.
    #[arg(long, value_name = "FOLDER", default_value = "reports")]
    reports: PathBuf,
}

/// Runs the benchmarks.
///
/// # Errors
/// When something cannot be started or answers wrongly. A missed target is none: it is printed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let chosen: Vec<_> = cells::ALL
        .iter()
        .filter(|cell| options.only.as_ref().is_none_or(|pattern| cell.name.contains(pattern)))
        .collect();
    if options.list {
        chosen.iter().for_each(|cell| println!("{:12} {}", cell.name, cell.what));
        return Ok(());
    }
    ensure!(!chosen.is_empty(), "no cell has that in its name; see --list");
    cores::check()?;
    cores::pin_self(&[cores::LOAD])?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        // Being told to stop ends what was started, as the end of the run does.
        tokio::select! {
            report = measure(options, &chosen) => report,
            () = told_to_stop() => bail!("told to stop before the end"),
        }
    })?;
    println!("\n{report}");
    let missed = report.figures().iter().filter(|figure| !figure.holds()).count();
    if missed > 0 {
        println!("{missed} of {} figures fall short of their targets", report.figures().len());
    }
    let written = report.write(&options.reports, "bench").context("cannot write the report")?;
    let picture = picture::write(&report, &options.reports).context("cannot write the picture")?;
    println!("written to {} and {}", written.display(), picture.display());
    Ok(())
}

async fn measure(options: &Options, chosen: &[&Cell]) -> anyhow::Result<Report> {
    let mut bench = Bench::start(options).await?;
    for cell in chosen {
        bench.run_cell(cell).await?;
    }
    Ok(bench.report)
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn told_to_stop() {
    let streams = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match streams {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without handlers the signals end the process by themselves.
        _ => std::future::pending().await,
    }
}
