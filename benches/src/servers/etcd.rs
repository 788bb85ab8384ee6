//! Three etcd processes on this machine and disk, as a yardstick for replicated writes.
//!
//! They speak without TLS, to clients and to each other, and are asked for a plain value: both in their favour.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;

use super::{Server, pid};
use crate::load::closed::Call;
use crate::load::wire::{Connection, frame};
use crate::proto::etcd::{PutRequest, StatusRequest, StatusResponse};
use crate::system::cores;

/// The members.
const MEMBERS: usize = 3;
/// Length of a written value.
const VALUE_BYTES: usize = 256;
/// Keys that are written in turn.
const KEYS: u32 = 4096;
/// Longest wait for a leader.
const START_MAX: Duration = Duration::from_secs(20);

/// A running etcd; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Etcd {
    members: Vec<Child>,
    ports: Vec<[u16; 2]>,
}

impl Etcd {
    /// Tells whether the program is there.
    pub(crate) fn is_installed() -> bool {
        let version = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    }

    /// Starts three members with their data in a folder.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let ports = free_ports()?;
        let cluster: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(i, [_, peer])| format!("m{i}=http://127.0.0.1:{peer}"))
            .collect();
        let mut etcd = Self { members: Vec::new(), ports };
        for (i, [client, peer]) in etcd.ports.iter().enumerate() {
            let (client, peer) =
                (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
            let said = File::create(folder.join(format!("etcd-{i}.log")))?;
            let mut command = Command::new("etcd");
            command
                .args(["--name", &format!("m{i}")])
                .arg("--data-dir")
                .arg(folder.join(format!("etcd-{i}")))
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &cluster.join(",")])
                .args(["--initial-cluster-state", "new", "--log-level", "error"])
                .stdin(Stdio::null())
                .stdout(said.try_clone()?)
                .stderr(said);
            // As many threads as it would have alone on this machine.
            etcd.members.push(cores::spawn_on(&[cores::SERVER, cores::LOAD], &mut command)?);
        }
        Ok(etcd)
    }

    /// Waits until there is a leader and returns it.
    pub(crate) async fn leader(&self) -> anyhow::Result<Server> {
        let started = Instant::now();
        loop {
            for (member, [client, _]) in self.members.iter().zip(&self.ports) {
                let address = ([127, 0, 0, 1], *client).into();
                let status = status(address).await;
                if status.is_ok_and(|status| {
                    status.leader != 0
                        && status.header.is_some_and(|header| header.member_id == status.leader)
                }) {
                    let process = pid(member.id())?;
                    return Ok(Server { name: "etcd", process, address, tls: None });
                }
            }
            if started.elapsed() > START_MAX {
                bail!("etcd found no leader within {START_MAX:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the processes.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<rustix::process::Pid>> {
        self.members.iter().map(|member| pid(member.id())).collect()
    }
}

async fn status(address: std::net::SocketAddr) -> anyhow::Result<StatusResponse> {
    let connection = Connection::open(address, None).await?;
    connection.prepare("/etcdserverpb.Maintenance/Status")?.ask(&StatusRequest {}).await
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Writes of values under keys that are all different for a while.
pub(crate) fn put() -> Call {
    let value = Bytes::from(vec![0x5a; VALUE_BYTES]);
    let request = |i: u32| PutRequest { key: format!("key-{i:08}").into(), value: value.clone() };
    let frames = (0..KEYS).map(|i| frame(&request(i))).collect();
    Call { method: "/etcdserverpb.KV/Put", frames, refusal: None }
}

/// Finds two free ports for each member, by holding all of them at once for a moment.
fn free_ports() -> anyhow::Result<Vec<[u16; 2]>> {
    let held: Vec<_> = (0..MEMBERS * 2)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .context("no free ports on 127.0.0.1")?;
    let ports: Vec<u16> = held
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<anyhow::Result<_>>()?;
    Ok(ports.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect())
}
