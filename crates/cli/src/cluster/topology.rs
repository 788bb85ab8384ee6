//! `twinkeep cluster topology`: what clients are told of where to call.

use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;
use twinkeep_client::{Client, v1};

use crate::context::Context;
use crate::output::{Show, columns, show, show_next};

/// Shows the topology.
#[derive(Debug, clap::Args)]
pub(crate) struct Topology {
    /// Goes on with each change.
    #[arg(long, short)]
    follow: bool,
}

impl Topology {
    /// Shows it once, or each time that it changes.
    pub(super) async fn run(self, context: &Context, client: &Client) -> anyhow::Result<()> {
        let request = v1::WatchTopologyRequest::default();
        let mut answers = client.any_state().watch_topology(request).await?;
        let first = answers.next().await?.context("the node told nothing")?;
        if !self.follow {
            return show(context.format(), &View::of(&first));
        }
        let mut next = Some(first);
        while let Some(answer) = next {
            show_next(context.format(), &View::of(&answer))?;
            next = answers.next().await?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct View {
    leader_node_id: u64,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize)]
struct Endpoint {
    node_id: u64,
    zone: String,
    address: String,
    reachable: bool,
    draining: bool,
}

impl View {
    fn of(answer: &v1::WatchTopologyResponse) -> Self {
        let endpoint = |endpoint: &v1::Endpoint| Endpoint {
            node_id: endpoint.node_id,
            zone: endpoint.zone.clone(),
            address: endpoint.address.clone(),
            reachable: endpoint.reachable,
            draining: endpoint.draining,
        };
        Self {
            leader_node_id: answer.leader_node_id,
            endpoints: answer.endpoints.iter().map(endpoint).collect(),
        }
    }
}

impl Show for View {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |endpoint: &Endpoint| {
            let leads = endpoint.node_id == self.leader_node_id;
            let state = match (endpoint.reachable, leads, endpoint.draining) {
                (false, ..) => "silent",
                (true, true, _) => "leads",
                (true, false, true) => "draining",
                (true, false, false) => "",
            };
            let Endpoint { node_id, zone, address, .. } = endpoint;
            [node_id.to_string(), zone.clone(), address.clone(), state.to_owned()]
        };
        let rows: Vec<_> = self.endpoints.iter().map(row).collect();
        columns(out, ["NODE", "ZONE", "ADDRESS", "STATE"], &rows)
    }
}
