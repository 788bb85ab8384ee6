//! etcd beside it: three members in the same three places, whose leader is killed.
//!
//! They speak without TLS and hold next to nothing. Every ten milliseconds a put leaves for one of the two other
//! members in turn, whatever became of those before: nobody waits for a call that the old leader has taken with it.
//! Both are in etcd's favour.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tonic::transport::{Channel, Endpoint};

use super::load::ms;
use super::network::Network;
use super::records::{EtcdRun, Kind};
use crate::proto::etcd::kv_client::KvClient;
use crate::proto::etcd::maintenance_client::MaintenanceClient;
use crate::proto::etcd::{PutRequest, StatusRequest, StatusResponse};

/// Where the members are, and their addresses.
const PLACES: [(&str, [u8; 4]); 3] =
    [("a", [10, 66, 1, 1]), ("b", [10, 66, 2, 1]), ("w", [10, 66, 3, 1])];
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Pause between two puts.
const PACE: Duration = Duration::from_millis(10);
/// Time of one put.
const DEADLINE: Duration = Duration::from_secs(5);
/// Load before the kill.
const WARM_UP: Duration = Duration::from_millis(300);
/// Longest wait for an answer after the kill.
const RECOVERY_MAX: Duration = Duration::from_secs(20);
/// Longest wait for all members to follow one leader.
const WHOLE_MAX: Duration = Duration::from_secs(60);
/// Time that all members have to be well before the next kill: a leader elected just now is not the usual one.
const SETTLE: Duration = Duration::from_millis(500);
/// Length of a written value.
const VALUE_BYTES: usize = 256;

/// How fast it notices.
#[derive(Debug, Clone, Copy)]
struct Timers {
    heartbeat_ms: u32,
    election_ms: u32,
}

/// Returns a kind's timers. Those that etcd comes with; and a heartbeat as ours with the election time of our
/// longest: etcd takes no less than five heartbeats, and advises ten round trips at least.
fn timers(kind: Kind) -> Timers {
    match kind {
        Kind::EtcdTuned => Timers { heartbeat_ms: 50, election_ms: 300 },
        Kind::EtcdDefault
        | Kind::LeaderKilled
        | Kind::LeaderSilent
        | Kind::OtherKilled
        | Kind::OtherSilent
        | Kind::WitnessNewest
        | Kind::Rolling => Timers { heartbeat_ms: 100, election_ms: 1000 },
    }
}

/// Three members; they end when this is dropped.
pub(crate) struct Etcd<'n> {
    network: &'n Network,
    timers: Timers,
    folder: TempDir,
    members: Vec<Child>,
}

/// A put that has ended.
struct Put {
    sent: Instant,
    ended: Instant,
    answered: bool,
}

impl<'n> Etcd<'n> {
    /// Starts three fresh members.
    pub(crate) fn start(network: &'n Network, kind: Kind) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("twinkeep-failover-etcd-").tempdir()?;
        let mut etcd = Self { network, timers: timers(kind), folder, members: Vec::new() };
        for number in 0..PLACES.len() {
            let member = etcd.command(number)?.spawn();
            etcd.members
                .push(member.context("cannot run etcd: `scripts/setup bench` installs it")?);
        }
        Ok(etcd)
    }

    fn command(&self, number: usize) -> anyhow::Result<Command> {
        let (place, ip) = PLACES[number];
        let url = |ip, port| format!("http://{}", SocketAddr::from((ip, port)));
        let cluster = PLACES.map(|(place, ip)| format!("{place}={}", url(ip, PEER_PORT)));
        let (client, peer) = (url(ip, CLIENT_PORT), url(ip, PEER_PORT));
        let said = self.folder.path().join(format!("{place}.log"));
        let said = File::options().create(true).append(true).open(said)?;
        let mut command = self.network.place(place)?.command("etcd");
        command
            .args(["--name", place])
            .arg("--data-dir")
            .arg(self.folder.path().join(place))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--initial-cluster-state", "new", "--log-level", "error"])
            .args(["--heartbeat-interval", &self.timers.heartbeat_ms.to_string()])
            .args(["--election-timeout", &self.timers.election_ms.to_string()])
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        Ok(command)
    }

    /// Kills the leader, waits until a put is answered again, and starts the member again.
    pub(crate) async fn run(&mut self) -> anyhow::Result<EtcdRun> {
        let leader = self.until_whole().await?;
        sleep(SETTLE).await;
        ensure!(self.leader().await? == leader, "the lead moved by itself");
        let others = (0..PLACES.len()).filter(|number| *number != leader);
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, mut ended) = mpsc::unbounded_channel();
        let writing = tokio::spawn(write(others.map(channel).collect(), Arc::clone(&stop), tell));
        sleep(WARM_UP).await;
        let killed = Instant::now();
        self.members[leader].kill()?;
        self.members[leader].wait()?;
        let gone = Instant::now();
        let mut puts = Vec::new();
        let is_after = |put: &Put| put.answered && put.sent >= gone;
        while !puts.last().is_some_and(is_after) && killed.elapsed() < RECOVERY_MAX {
            puts.push(ended.recv().await.context("the writer has ended by itself")?);
        }
        stop.store(true, Ordering::Relaxed);
        writing.await?;
        let first = puts.iter().filter(|put| is_after(put)).map(|put| put.ended).min();
        let answered = puts.iter().filter(|put| put.answered).count();
        self.members[leader] = self.command(leader)?.spawn()?;
        Ok(EtcdRun {
            leader: PLACES[leader].0.to_owned(),
            recovery_ms: first.map(|first| ms(first - killed)),
            puts: (answered, puts.len() - answered),
        })
    }

    /// Waits until all members follow one leader; returns its number.
    async fn until_whole(&mut self) -> anyhow::Result<usize> {
        let began = Instant::now();
        loop {
            match self.leader().await {
                Ok(leader) => return Ok(leader),
                Err(error) if began.elapsed() > WHOLE_MAX => {
                    return Err(error).context("etcd is not whole again in time");
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
            for (member, (place, _)) in self.members.iter_mut().zip(PLACES) {
                if let Some(status) = member.try_wait()? {
                    let said = self.folder.path().join(format!("{place}.log"));
                    let said = std::fs::read_to_string(said).unwrap_or_default();
                    bail!("etcd in {place} has ended, {status}: {said}");
                }
            }
        }
    }

    async fn leader(&self) -> anyhow::Result<usize> {
        let mut statuses = Vec::new();
        for number in 0..PLACES.len() {
            statuses.push(status(number).await?);
        }
        let own = |status: &StatusResponse| status.header.as_ref().map_or(0, |own| own.member_id);
        let leader = statuses[0].leader;
        ensure!(leader != 0 && statuses.iter().all(|s| s.leader == leader), "there is no leader");
        statuses.iter().position(|s| own(s) == leader).context("the leader is no member")
    }
}

impl Drop for Etcd<'_> {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended by itself.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn channel(number: usize) -> Channel {
    let address = SocketAddr::from((PLACES[number].1, CLIENT_PORT));
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    endpoint.expect("an address and a port are a URI").connect_lazy()
}

async fn status(number: usize) -> anyhow::Result<StatusResponse> {
    let mut request = tonic::Request::new(StatusRequest {});
    request.set_timeout(Duration::from_millis(500));
    Ok(MaintenanceClient::new(channel(number)).status(request).await?.into_inner())
}

/// Puts through some members in turn until told to stop.
async fn write(members: Vec<Channel>, stop: Arc<AtomicBool>, tell: mpsc::UnboundedSender<Put>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0_u32;
    for member in members.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        pace.tick().await;
        number += 1;
        let (key, value) = (format!("key-{number:08}").into(), vec![0x5a; VALUE_BYTES].into());
        let mut request = tonic::Request::new(PutRequest { key, value });
        request.set_timeout(DEADLINE);
        let (mut client, tell) = (KvClient::new(member.clone()), tell.clone());
        tokio::spawn(async move {
            let sent = Instant::now();
            let answered = client.put(request).await.is_ok();
            // Nobody listens any more once writes are answered again.
            let _ = tell.send(Put { sent, ended: Instant::now(), answered });
        });
    }
}
