//! `twinkeep zone …`: the zones, and which of them leads.

use std::io::{self, Write};

use serde::Serialize;
use twinkeep_client::v1;

use super::status::{Status, Zone};
use crate::context::Context;
use crate::output::{Show, columns, show, time};

/// Shows the zones and says which of them leads.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Zones {
    /// Lists the zones: who answers there, where the lead is and belongs, and what each zone holds.
    List,
    /// Takes the lead out of a zone before its machines are worked on; its nodes go on serving and voting.
    ///
    /// Refused when the other zone could not take over. While the zone is drained its nodes lead only if nobody else
    /// can, and clients call the other zone first.
    Drain {
        /// The zone.
        zone: String,
    },
    /// Takes a drain back.
    Undrain {
        /// The zone.
        zone: String,
    },
    /// Keeps the leader in a zone while that is healthy.
    ///
    /// The lead goes there once the zone was in sync, and a node of it ready to take over, for 30 seconds without a
    /// break; twice as long, up to ten minutes, each time that it did not stay there.
    Prefer {
        /// The zone; `none` if the lead may stay where it is.
        zone: String,
    },
}

impl Zones {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let format = context.format();
        let client = context.client()?;
        match self {
            Self::List => {
                let status = Status::of(&client, context.pinned().is_some()).await?;
                show(format, &List::of(&status))
            }
            Self::Drain { zone } => {
                let request = v1::DrainZoneRequest { zone: zone.clone(), ..Default::default() };
                show(format, &Drained::of(zone, client.drain_zone(request).await?))
            }
            Self::Undrain { zone } => {
                let request = v1::UndrainZoneRequest { zone, ..Default::default() };
                show(format, &Leadership::of(client.undrain_zone(request).await?.leadership))
            }
            Self::Prefer { zone } => {
                let zone = if zone == "none" { String::new() } else { zone };
                let request = v1::PreferZoneRequest { zone, ..Default::default() };
                show(format, &Leadership::of(client.prefer_zone(request).await?.leadership))
            }
        }
    }
}

/// Which zone shall lead, and which shall not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Leadership {
    /// The zone that the lead is kept in while it is healthy.
    pub(super) preferred_zone: Option<String>,
    /// The zone whose nodes are not to lead.
    pub(super) drained_zone: Option<String>,
    /// Since when it is drained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drained_since: Option<String>,
}

impl Leadership {
    pub(super) fn of(wire: Option<v1::Leadership>) -> Self {
        let wire = wire.unwrap_or_default();
        let some = |zone: String| Some(zone).filter(|zone| !zone.is_empty());
        let drained_zone = some(wire.drained_zone);
        let drained_since = drained_zone.as_ref().map(|_| time(wire.drained_unix_ms));
        Self { preferred_zone: some(wire.preferred_zone), drained_zone, drained_since }
    }

    /// Says it in one line; `None` while nothing is wished.
    pub(super) fn line(&self) -> Option<String> {
        let preferred =
            self.preferred_zone.as_ref().map(|zone| format!("zone {zone} is preferred"));
        let drained = self.drained_zone.as_ref().map(|zone| {
            let since = self.drained_since.as_deref().unwrap_or_default();
            format!("zone {zone} is drained since {since}")
        });
        let parts: Vec<_> = preferred.into_iter().chain(drained).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Show for Leadership {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let line = self.line();
        writeln!(out, "{}", line.as_deref().unwrap_or("no zone is preferred, and none is drained"))
    }
}

/// What came of a drain.
#[derive(Debug, Serialize)]
struct Drained {
    zone: String,
    leader_node_id: u64,
    lead_moved: bool,
    at_risk: Vec<String>,
}

impl Drained {
    fn of(zone: String, answer: v1::DrainZoneResponse) -> Self {
        let v1::DrainZoneResponse { leader_node_id, lead_moved, at_risk, .. } = answer;
        Self { zone, leader_node_id, lead_moved, at_risk }
    }
}

impl Show for Drained {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { zone, leader_node_id, .. } = self;
        match self.lead_moved {
            true => writeln!(
                out,
                "zone {zone} is drained: node {leader_node_id} leads, and the zone's nodes serve who calls them"
            )?,
            false => writeln!(
                out,
                "zone {zone} is marked as drained, and the lead is still there or nowhere: it goes as soon as a node \
                 outside can take it; `twinkeep zone list` shows when"
            )?,
        }
        writeln!(out, "\nwhile its machines are stopped:")?;
        for risk in &self.at_risk {
            writeln!(out, "- {risk}")?;
        }
        writeln!(out, "\n`twinkeep zone undrain {zone}` takes it back.")
    }
}

/// The zones.
#[derive(Debug, Serialize)]
struct List {
    zones: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    zone: String,
    /// Nodes that are up, and unsealed where they hold keys.
    healthy: usize,
    nodes: usize,
    /// The node that leads, if it stands here.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_node_id: Option<u64>,
    preferred: bool,
    drained: bool,
    /// `SYNC`, `LOST`, `RECOVERING`, or `WITNESS` for a zone without data; absent without replication modes.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    /// Until when a node of the zone knows that the zone holds every acknowledged change: the latest of its sync
    /// leases, by its own clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    complete_until: Option<String>,
}

impl List {
    fn of(status: &Status) -> Self {
        Self { zones: status.zones.iter().map(|zone| Row::of(zone, status)).collect() }
    }
}

impl Row {
    fn of(zone: &Zone, status: &Status) -> Self {
        let healthy = zone.nodes.iter().filter(|node| {
            node.is_up() == Some(true) && !node.own.as_ref().is_some_and(|own| own.sealed)
        });
        let leader = zone.nodes.iter().find(|node| node.leads).map(|node| node.node_id);
        let is_data = zone.nodes.iter().any(|node| !node.is_witness());
        let mode = status.replication.as_ref().map(|replication| match replication.mode {
            _ if !is_data => "WITNESS",
            "DEGRADED" if replication.zone == zone.zone => "LOST",
            "RECOVERING" if replication.zone == zone.zone => "RECOVERING",
            _ => "SYNC",
        });
        let until =
            zone.nodes.iter().filter_map(|node| node.own.as_ref()?.zone_complete_until.clone());
        Self {
            zone: zone.zone.clone(),
            healthy: healthy.count(),
            nodes: zone.nodes.len(),
            leader_node_id: leader,
            preferred: status.leadership.preferred_zone.as_ref() == Some(&zone.zone),
            drained: status.leadership.drained_zone.as_ref() == Some(&zone.zone),
            mode,
            complete_until: until.max(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let yes = |yes: bool| if yes { "yes" } else { "-" }.to_owned();
        [
            self.zone.clone(),
            format!("{} of {}", self.healthy, self.nodes),
            self.leader_node_id.map_or_else(|| "-".to_owned(), |node| format!("node {node}")),
            yes(self.preferred),
            yes(self.drained),
            self.mode.map_or_else(|| "-".to_owned(), str::to_lowercase),
            self.complete_until.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

impl Show for List {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<_> = self.zones.iter().map(Row::cells).collect();
        let head = ["ZONE", "HEALTHY", "LEADS", "PREFERRED", "DRAINED", "MODE", "COMPLETE UNTIL"];
        columns(out, head, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::tests::status;
    use super::super::replication::Replication;
    use super::*;

    #[test]
    fn zones_are_listed_with_what_they_hold_and_where_the_lead_is_and_belongs() {
        let mut status = status();
        let (mode, zone, since) = ("DEGRADED", "b".to_owned(), None);
        status.replication = Some(Replication { mode, zone, since });
        status.leadership.preferred_zone = Some("a".to_owned());
        status.leadership.drained_zone = Some("b".to_owned());
        let mut out = Vec::new();
        List::of(&status).table(&mut out).unwrap();
        let expected = "\
ZONE  HEALTHY  LEADS   PREFERRED  DRAINED  MODE     COMPLETE UNTIL
a     2 of 2   node 1  yes        -        sync     -
b     0 of 2   -       -          yes      lost     -
w     1 of 1   -       -          -        witness  -
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn drain_says_what_is_left_and_how_it_is_taken_back() {
        let mut drained = Drained {
            zone: "a".to_owned(),
            leader_node_id: 3,
            lead_moved: true,
            at_risk: vec!["one more".to_owned()],
        };
        let table = |drained: &Drained| {
            let mut out = Vec::new();
            drained.table(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = table(&drained);
        assert!(text.starts_with("zone a is drained: node 3 leads"), "{text}");
        assert!(text.contains("- one more\n") && text.contains("zone undrain a"), "{text}");
        drained.lead_moved = false;
        assert!(table(&drained).contains("the lead is still there"), "{}", table(&drained));
    }

    #[test]
    fn wishes_are_said_in_one_line() {
        let said = |preferred: &str, drained: &str| {
            let (preferred_zone, drained_zone) = (preferred.to_owned(), drained.to_owned());
            let wire = v1::Leadership { preferred_zone, drained_zone, ..Default::default() };
            Leadership::of(Some(wire)).line()
        };
        assert_eq!(said("", ""), None);
        assert_eq!(said("a", "").as_deref(), Some("zone a is preferred"));
        let both = said("a", "b").unwrap();
        assert!(both.starts_with("zone a is preferred; zone b is drained since 1970"), "{both}");
    }
}
