//! One run in which a zone is lost: under load, from a whole cluster to a whole one.

use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::time::{Instant, sleep, sleep_until};

use super::load::writer::{Write, Writer};
use super::load::{self, EVENT, Load, ms};
use super::records::{Kind, LossRun};
use super::site::{Injected, Site, Way, other_than};
use super::unix_ms;
use crate::system::weather::{Reading, Weather};

/// Load before the fault: connections are open, and the client library knows how long calls take.
const WARM_UP: Duration = Duration::from_millis(500);
/// Longest wait for a control write.
const RECOVERY_MAX: Duration = Duration::from_secs(20);
/// A write that was under way when a zone was lost, and is answered within this time, had reached the disks before.
const DECIDED_MAX: Duration = Duration::from_millis(100);
/// How long the leader's zone goes on with the witness alone.
const TRAP: Duration = Duration::from_millis(400);
/// Writes that it makes meanwhile, at least.
const TRAP_WRITES_MIN: usize = 10;

/// Loses a zone and gets it back.
pub(crate) async fn run(site: &Site<'_>, kind: Kind, number: u32) -> anyhow::Result<LossRun> {
    let leader = site.until_whole().await?;
    let other = other_than(&leader.zone).to_owned();
    let (way, lost) = match kind {
        Kind::LeaderKilled | Kind::WitnessNewest => (Way::Killed, leader.zone.clone()),
        Kind::LeaderSilent => (Way::Silent, leader.zone.clone()),
        Kind::OtherKilled => (Way::Killed, other),
        Kind::OtherSilent => (Way::Silent, other),
        Kind::Rolling | Kind::EtcdDefault | Kind::EtcdTuned => bail!("{kind} loses no zone"),
    };
    // An application in either zone may write; both are measured. One in the zone that is cut off would hardly get a
    // write through, and the witness has to be left with some.
    let is_lost_too = number % 2 == 1 || kind == Kind::WitnessNewest;
    let writer_zone = if is_lost_too { lost.clone() } else { other_than(&lost).to_owned() };
    let (applications, mut writer) = Load::start(site, &writer_zone).await?.split();
    sleep(WARM_UP).await;
    let alone = match kind {
        Kind::WitnessNewest => Some(make_witness_newest(site, &mut writer).await?),
        _ => None,
    };
    let fault_unix_ms = unix_ms();
    let injected = site.lose(&lost, way)?;
    let processes = site.processes_outside((way == Way::Killed).then_some(&*lost));
    let before = Reading::take(&processes)?;
    writer.until_acknowledged(injected.ended, RECOVERY_MAX).await;
    sleep_until(injected.began + EVENT).await;
    let weather = Weather::between(&before, &Reading::take(&processes)?);
    let done = writer.stop().await?;
    let dropped_packets = site.restore(&lost, way)?;
    ensure!(way == Way::Killed || dropped_packets > 0, "the filters have dropped nothing");
    site.until_whole().await?;
    let calls = load::calls(&load::stop(applications).await?, injected.began, EVENT);
    let mut writes = load::writes(&done, injected.began);
    writes.lost = site.lost(&done).await?;
    let made_alone = |since: Instant| {
        let between = |at: Instant| at >= since && at < injected.began;
        done.iter().filter(|w| w.key_id.is_ok() && between(w.sent) && between(w.ended)).count()
    };
    let with_the_witness_alone = alone.map_or(0, made_alone);
    ensure!(
        alone.is_none() || with_the_witness_alone >= TRAP_WRITES_MIN,
        "only {with_the_witness_alone} writes were made with the witness alone"
    );
    Ok(LossRun {
        leader: leader.name,
        lost_zone: lost,
        writer_zone,
        fault_unix_ms,
        injection_ms: ms(injected.ended - injected.began),
        writes_again_ms: first(&done, injected, DECIDED_MAX),
        sent_after_ms: first(&done, injected, Duration::MAX),
        dropped_packets,
        with_the_witness_alone,
        calls,
        writes,
        steal: weather.steal,
        foreign: weather.foreign,
    })
}

/// Returns the time to the first acknowledgement of a write that was sent after the fault, or was under way then and
/// answered later than `decided` after it.
fn first(done: &[Write], injected: Injected, decided: Duration) -> Option<f64> {
    let counts = |write: &&Write| {
        let after = write.ended.saturating_duration_since(injected.began);
        write.key_id.is_ok() && (write.sent >= injected.ended || after > decided)
    };
    let first = done.iter().filter(counts).map(|write| write.ended).min()?;
    Some(ms(first - injected.began))
}

/// Cuts the zones from each other and waits until the leader's zone has written with the witness alone, which then
/// holds more than the other zone. Returns since when.
async fn make_witness_newest(site: &Site<'_>, writer: &mut Writer) -> anyhow::Result<Instant> {
    site.cut_zones()?;
    ensure!(
        writer.until_single_zone(RECOVERY_MAX).await,
        "nothing was written with the other zone cut off"
    );
    let since = Instant::now();
    sleep(TRAP).await;
    Ok(since)
}
