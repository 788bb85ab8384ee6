//! `twinkeep dev demo`: loses a zone under load and measures what callers notice.
//!
//! Two applications call 250 times a second each ([`load`]). That of zone b knows zone b's nodes alone: its failures
//! are failures of the living zone. That of zone a knows all nodes, as an application would.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::time::{sleep, sleep_until};
use twinkeep_report::{Report, Target};

use super::layout::{Layout, Settings};
use super::load::{self, Application, Call, Write, Writer};
use super::loss::{self, How, Lost};
use super::up;
use crate::output::{Format, show};

/// Calls a second in each zone.
const RATE: u32 = 250;
/// How long is measured on each side of the kill.
const SIDE: Duration = Duration::from_secs(10);
/// Longest wait for a control write after the kill.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// Pause between two keys that are created while the zone is dead.
const KEY_PACE: Duration = Duration::from_millis(50);
/// The file that goes through the cluster.
const FILE_BYTES: usize = 48 * 1024;

/// Runs the demonstration on the cluster of a folder, starting it if need be.
pub(crate) async fn demo(home: &Path, format: Format) -> anyhow::Result<()> {
    let layout = up::up(home, Settings::default()).await?;
    let key_id = std::fs::read_to_string(layout.path("first-key"))
        .context("the cluster has no first key")?;
    let instance_id = std::fs::read_to_string(layout.path("first-instance"))?;
    let data_nodes = || layout.nodes().iter().filter(|node| !node.witness);
    let a = up::client_of(&layout, up::CALLER, data_nodes(), "a")?;
    let b = up::client_of(&layout, up::CALLER, layout.zone("b")?, "b")?;

    loss::lead_from(&layout, "a").await?;
    eprintln!("encrypting a file of {} KiB through zone a", FILE_BYTES / 1024);
    let file = sample_file()?;
    let ciphertext = load::encrypt(&a, &key_id, file.clone()).await;
    let ciphertext = ciphertext.context("the file was not encrypted")?;

    eprintln!("{RATE} calls a second in each zone for {} s, then zone a is killed", SIDE.as_secs());
    let in_a = Application::start(&a, &key_id, RATE).await?;
    let in_b = Application::start(&b, &key_id, RATE).await?;
    sleep(SIDE).await;
    let (writes, first_write, lost) = without_zone_a(&layout, &b, &instance_id).await?;
    let (calls_a, calls_b) = (in_a.stop().await?, in_b.stop().await?);

    let plaintext = load::decrypt(&b, ciphertext).await.context("the file was not decrypted")?;
    ensure!(plaintext == file, "the decrypted file differs from the original");
    eprintln!("the file, decrypted through zone b, is identical");

    eprintln!("zone a comes back");
    lost.restore()?;
    up::wait_until_all_serve(&layout).await?;
    let report = figures(&calls_a, &calls_b, first_write, &writes);
    let side = SIDE.as_secs();
    eprintln!("\nmeasured from {side} s before to {side} s after the kill:");
    show(format, &report)?;
    let failed = |calls: &[Call]| calls.iter().find_map(|call| call.failed.clone());
    let failed_write = writes.iter().find_map(Write::failed).map(str::to_owned);
    let all = [
        ("zone a", failed(&calls_a)),
        ("zone b", failed(&calls_b)),
        ("creating keys", failed_write),
    ];
    for (what, error) in all {
        if let Some(error) = error {
            eprintln!("  first failure, {what}: {error}");
        }
    }
    let written = report.write(Path::new("reports"), "demo").context("cannot write the report")?;
    eprintln!("written to {}", written.display());
    ensure!(report.holds(), "a target was missed; see above");
    Ok(())
}

/// Kills zone a and creates keys through zone b. Returns the writes from the first one that was acknowledged on, and
/// the time to that.
async fn without_zone_a<'l>(
    layout: &'l Layout,
    b: &twinkeep_client::Client,
    instance_id: &str,
) -> anyhow::Result<(Vec<Write>, Duration, Lost<'l>)> {
    let lost = Lost::inflict(layout, "a", How::Kill)?;
    let (killed, _) = lost.moments();
    let mut writer = Writer::start(b, load::new_key(instance_id, ""), KEY_PACE);
    ensure!(
        writer.until_acknowledged(killed, RECOVERY_MAX).await,
        "no control write for {} s after the kill",
        RECOVERY_MAX.as_secs()
    );
    eprintln!(
        "zone a is dead; the first key was created through zone b after {} ms",
        killed.elapsed().as_millis()
    );
    sleep_until((killed + SIDE).into()).await;
    let mut writes = writer.stop().await?;
    let first = load::writes_again(&writes, lost.moments()).context("no control write")?;
    writes.retain(|write| write.sent >= first);
    Ok((writes, first - killed, lost))
}

/// A file that is not all alike: this program's own first bytes.
fn sample_file() -> anyhow::Result<Bytes> {
    let own = std::fs::read(std::env::current_exe()?)?;
    Ok(own.into_iter().take(FILE_BYTES).collect())
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn figures(a: &[Call], b: &[Call], first_write: Duration, writes: &[Write]) -> Report {
    let mut report = Report::new();
    let failed = |calls: &[Call]| calls.iter().filter(|call| call.failed.is_some()).count() as f64;
    let rate = |calls: &[Call]| calls.len() as f64 / (2.0 * SIDE.as_secs_f64());
    let count = |calls: &[Call]| calls.len() as f64;
    let p999 = |calls: &[Call]| load::percentile_ms(calls.iter().map(|call| Some(call.took)), 999);
    report.add("calls, zone a's application", count(a), "calls", Target::AtLeast(4000.0));
    report.add("calls, zone b", count(b), "calls", Target::AtLeast(4000.0));
    report.add("calls a second, zone a's application", rate(a), "/s", Target::AtLeast(200.0));
    report.add("calls a second, zone b", rate(b), "/s", Target::AtLeast(200.0));
    report.add("failed on nodes of the living zone", failed(b), "calls", Target::AtMost(0.0));
    report.add("failed in zone a's application", failed(a), "calls", Target::AtMost(0.0));
    report.add("zone b p99.9", p999(b), "ms", Target::AtMost(60.0));
    report.add("zone a's application p99.9", p999(a), "ms", Target::AtMost(60.0));
    let first_write_ms = load::ms(first_write);
    report.add("first control write after the kill", first_write_ms, "ms", Target::AtMost(1000.0));
    let made = writes.len() as f64;
    report.add("keys created through zone b after it", made, "keys", Target::AtLeast(1.0));
    let failed = writes.iter().filter(|write| write.failed().is_some()).count() as f64;
    report.add("of these failed", failed, "keys", Target::AtMost(0.0));
    report
}
