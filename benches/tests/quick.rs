//! The benchmarks run, from the first cell to the last, and write what programs and people read.

use std::process::Command;

use anyhow::{Context, ensure};

#[test]
fn quick_run_measures_every_cell_and_writes_report_and_picture() -> anyhow::Result<()> {
    let reports = tempfile::tempdir()?;
    let output = Command::new(env!("CARGO_BIN_EXE_twinkeep-bench"))
        .args(["--quick", "--reports"])
        .arg(reports.path())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{complained}");
    let json = std::fs::read(reports.path().join("bench.json"))?;
    let report: serde_json::Value = serde_json::from_slice(&json)?;
    let figures = report["figures"].as_array().context("the report has no figures")?;
    let with_target = figures.iter().filter(|figure| figure["target"] != "none").count();
    println!("{} figures, {with_target} with a target", figures.len());
    ensure!(with_target >= 8, "{said}");
    for figure in figures {
        ensure!(figure["name"].is_string() && figure["holds"].is_boolean(), "{figure}");
    }
    ensure!(std::fs::read_to_string(reports.path().join("bench.svg"))?.starts_with("<svg "));
    Ok(())
}
