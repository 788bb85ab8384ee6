//! One sample: a fresh cluster under load, at rest, and with one writer.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use tokio::time::sleep;
use twinkeep_client::v1;

use super::groups::Groups;
use super::records::{Control, Crypto, Part, Quiet, Sample, Served};
use super::site::{Member, Site};
use crate::cells::requests::{self, CREATE_KEY, ENCRYPT_BATCH, batch_refusal};
use crate::load::closed::{self, Call};
use crate::load::sample::median;
use crate::load::tally::Tally;
use crate::load::window::Window;
use crate::load::wire::{Connection, frame};

/// Connections to each node, and batches in flight over them: more than a node can answer in one period of its quota, so
/// that it never waits for calls.
const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 24;
/// Items of a batch: the load generator shares the machine with all nodes, and batches cost it least.
const ITEMS: usize = 100;
/// Bytes of plaintext of each.
const PLAINTEXT: usize = 32;
/// Load before it counts, so that keys are open and quotas are used up.
const WARM_UP: Duration = Duration::from_secs(1);
/// Time between two writes of the paced writer, which leaves the machine's cores time for all nodes.
const WRITE_PACE: Duration = Duration::from_millis(50);
/// Writes before they count.
const WRITES_BEFORE: Duration = Duration::from_millis(500);

/// What is chosen for all samples.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// Percent of a core for each serving node.
    pub(crate) quota: u32,
    /// How long each part is measured.
    pub(crate) part: Duration,
    /// A folder on a disk of their own for learners.
    pub(crate) disk: Option<PathBuf>,
}

/// Takes a sample with so many learners.
pub(crate) async fn sample(
    groups: &Groups,
    learners: u32,
    choice: &Choice,
) -> anyhow::Result<Sample> {
    let site = Site::start(learners, groups, choice.disk.as_deref()).await?;
    let before = site.until_whole().await?;
    let crypto = crypto(&site, site.member(&before.leader)?, choice).await?;
    site.stand_learners_back()?;
    // Where there was an election, another node may lead now.
    let whole = site.until_whole().await?;
    let leader = site.member(&whole.leader)?;
    let idle = idle(&site, leader, choice).await?;
    let paced = control(&site, leader, WRITE_PACE, choice).await?;
    let control = control(&site, leader, Duration::ZERO, choice).await?;
    let after = site.until_whole().await?;
    Ok(Sample { elections: after.term.saturating_sub(before.term), crypto, idle, paced, control })
}

/// All serving nodes at once, each as fast as its quota lets it.
async fn crypto(site: &Site, leader: &Member, choice: &Choice) -> anyhow::Result<Crypto> {
    let request = requests::encrypt_batch(&site.cluster().first_key()?, PLAINTEXT, ITEMS);
    let call = Call { refusal: Some(batch_refusal), ..Call::same(ENCRYPT_BATCH, frame(&request)) };
    let members: Vec<_> = site.serving().collect();
    let mut connected = Vec::new();
    for member in &members {
        let server = site.server(member)?;
        connected.push(server.connect(CONNECTIONS).await?);
        // Opens the key there.
        let first = connected.last().and_then(|connections: &Vec<Connection>| connections.first());
        let first = first.context("there is no connection")?.prepare(ENCRYPT_BATCH)?;
        let _: v1::EncryptBatchResponse = first.ask(&request).await?;
    }
    site.limit(|member| member.part != Part::Witness, Some(choice.quota))?;
    let window = Window::new();
    let tallies: Vec<_> = members.iter().map(|_| Tally::new(&window)).collect();
    let loads = connected.iter().zip(&tallies);
    let loads = loads.map(|(connections, tally)| closed::run(connections, &call, IN_FLIGHT, tally));
    let watch = async {
        sleep(WARM_UP).await;
        let before = site.at_begin(leader)?;
        window.open();
        sleep(choice.part).await;
        window.end();
        anyhow::Ok((before, site.at_end(leader)?))
    };
    let (_, (before, after)) = tokio::try_join!(try_join_all(loads), watch)?;
    let nodes = members.iter().zip(&tallies).map(|(member, tally)| {
        Ok(Served {
            node: member.node.name.clone(),
            part: member.part,
            items: tally.answers() * ITEMS as u64,
            refused: tally.refusals(),
            p99_ms: tally.latency_us(99.0) / 1000.0,
            cpu_s: after.cpu(&before, member.process)?.as_secs_f64(),
            periods: after.periods(&before, member),
        })
    });
    let nodes = nodes.collect::<anyhow::Result<Vec<_>>>()?;
    let weather = after.weather(&before);
    Ok(Crypto {
        leader: after.quiet(&before, site, leader)?,
        nodes,
        load_cpu_s: after.cpu(&before, rustix::process::getpid())?.as_secs_f64(),
        steal: weather.steal,
        foreign: weather.foreign,
    })
}

/// Nobody calls.
async fn idle(site: &Site, leader: &Member, choice: &Choice) -> anyhow::Result<Quiet> {
    let before = site.at_begin(leader)?;
    sleep(choice.part).await;
    site.at_end(leader)?.quiet(&before, site, leader)
}

/// One writer at the leader, who creates a key when the one before is acknowledged and the pace allows it.
async fn control(
    site: &Site,
    leader: &Member,
    pace: Duration,
    choice: &Choice,
) -> anyhow::Result<Control> {
    let connections = site.server(leader)?.connect(1).await?;
    let create = connections.first().context("there is no connection")?.prepare(CREATE_KEY)?;
    let request = site.cluster().new_key()?;
    write_for(WRITES_BEFORE, pace, || create.ask(&request)).await?;
    let before = site.at_begin(leader)?;
    let took_ms = write_for(choice.part, pace, || create.ask(&request)).await?;
    let after = site.at_end(leader)?;
    let weather = after.weather(&before);
    Ok(Control {
        leader: after.quiet(&before, site, leader)?,
        writes: took_ms.len() as u64,
        p50_ms: median(took_ms.clone()),
        p99_ms: p99(took_ms),
        steal: weather.steal,
        foreign: weather.foreign,
    })
}

/// Writes one after the other; returns how long each took, in milliseconds.
async fn write_for<F>(
    time: Duration,
    pace: Duration,
    write: impl Fn() -> F,
) -> anyhow::Result<Vec<f64>>
where
    F: Future<Output = anyhow::Result<v1::CreateKeyResponse>>,
{
    let began = Instant::now();
    let mut took_ms = Vec::new();
    while began.elapsed() < time {
        let sent = Instant::now();
        let created = write().await?;
        ensure!(created.key.is_some(), "the answer has no key");
        took_ms.push(sent.elapsed().as_secs_f64() * 1000.0);
        if !pace.is_zero() {
            sleep(pace.saturating_sub(sent.elapsed())).await;
        }
    }
    Ok(took_ms)
}

/// Returns the smallest time that 99 % do not exceed.
fn p99(mut took_ms: Vec<f64>) -> f64 {
    took_ms.sort_unstable_by(f64::total_cmp);
    let rank = (took_ms.len() * 99).div_ceil(100).max(1);
    took_ms.get(rank - 1).copied().unwrap_or(f64::NAN)
}
