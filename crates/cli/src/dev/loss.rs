//! Losing a zone of a development cluster, and getting it back; who leads.

use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::Signal;
use twinkeep_client::v1;

use super::layout::{DevNode, Layout};
use super::{process, up};

/// How a zone is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum How {
    /// Its processes are killed (SIGKILL): their connections break at once.
    Kill,
    /// Its processes are stopped (SIGSTOP): they answer nothing and nobody is told.
    Silent,
}

/// A zone that is lost until it is restored. Dropped, it is restored too.
#[derive(Debug)]
pub(crate) struct Lost<'l> {
    layout: &'l Layout,
    zone: String,
    how: How,
    moments: (Instant, Instant),
    is_restored: bool,
}

impl<'l> Lost<'l> {
    /// Loses a zone.
    pub(crate) fn inflict(layout: &'l Layout, zone: &str, how: How) -> anyhow::Result<Self> {
        let nodes = layout.zone(zone)?;
        let begun = Instant::now();
        // Should a signal fail, those that came through are taken back by the drop.
        let mut lost = Self {
            layout,
            zone: zone.to_owned(),
            how,
            moments: (begun, begun),
            is_restored: false,
        };
        let signal = match how {
            How::Kill => Signal::KILL,
            How::Silent => Signal::STOP,
        };
        for node in nodes {
            process::signal_only(layout, node, signal)?;
        }
        lost.moments.1 = Instant::now();
        Ok(lost)
    }

    /// Returns when the loss was begun, and when it was in force.
    pub(crate) fn moments(&self) -> (Instant, Instant) {
        self.moments
    }

    /// Lets the zone's processes run again; they serve a little later. Returns when that was done.
    pub(crate) fn restore(mut self) -> anyhow::Result<Instant> {
        self.is_restored = true;
        self.bring_back()?;
        Ok(Instant::now())
    }

    /// Brings back all that can be, and returns the first error.
    fn bring_back(&self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for node in self.layout.zone(&self.zone)? {
            let killed = match self.how {
                How::Kill => process::stop(self.layout, node, Signal::KILL),
                How::Silent => Ok(()),
            };
            // One that was stopped goes on by this.
            let started = killed.and_then(|()| process::start(self.layout, node));
            let started = started.with_context(|| format!("node {} does not start", node.name));
            outcome = outcome.and(started);
        }
        outcome
    }
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        if self.is_restored {
            return;
        }
        if let Err(error) = self.bring_back() {
            eprintln!("twinkeep: zone {} is not brought back: {error:#}", self.zone);
        }
    }
}

/// Returns the node that leads.
pub(crate) async fn leader(layout: &Layout) -> anyhow::Result<&DevNode> {
    let admin = up::client(layout, up::ADMIN)?;
    let id = admin.get_status(v1::GetStatusRequest::default()).await?.leader_node_id;
    let members = admin.list_members(v1::ListMembersRequest::default()).await?.members;
    let member = members.into_iter().find(|member| member.node_id == id);
    let address = member.and_then(|member| member.placement).map(|place| place.peer_address);
    let leader = layout.nodes().iter().find(|node| Some(node.peer_address.to_string()) == address);
    leader.context("no node of this cluster leads")
}

/// Restarts of leaders, until one in the wanted zone leads.
const LEAD_TRIES: usize = 5;

/// Moves the lead into a zone, so that its loss costs the cluster the leader too.
///
/// A node that stops hands over to another zone.
pub(crate) async fn lead_from(layout: &Layout, zone: &str) -> anyhow::Result<()> {
    for _ in 0..LEAD_TRIES {
        let leader = leader(layout).await?;
        if leader.zone == zone {
            eprintln!("node {} in zone {zone} leads", leader.name);
            return Ok(());
        }
        eprintln!("node {} leads; it restarts, so that the lead moves", leader.name);
        process::stop(layout, leader, Signal::TERM)?;
        process::start(layout, leader)?;
        up::wait_until_all_serve(layout).await?;
    }
    bail!("the lead did not move into zone {zone}");
}
