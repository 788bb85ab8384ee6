//! The picture of `twinkeep cluster status`: a box for each zone, side by side as far as they fit.

use std::io::{self, Write};

use super::status::{Node, Status, Zone};
use crate::output::{Show, plain};
use crate::screen::{Paint, Screen, columns, cut};

/// Columns between two boxes.
const GAP: usize = 2;
/// Columns of a box's frame: a line and a space on either side.
const FRAME: usize = 4;

/// A line of a box and its colour.
type Line = (String, Paint);

impl Show for Status {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in self.draw(Screen::of_stdout()) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

impl Status {
    /// Draws the cluster as lines that fit the screen.
    pub(super) fn draw(&self, screen: Screen) -> Vec<String> {
        let mut lines = Vec::new();
        let mut say = |text: &str, paint: Paint| {
            lines.extend(screen.wrap(text).iter().map(|line| screen.paint(paint, line)));
        };
        let Self { cluster_id, incarnation, cluster_version, .. } = self;
        say(
            &format!("cluster {cluster_id}, incarnation {incarnation}, version {cluster_version}"),
            Paint::Bold,
        );
        let level = format!("{:?}", self.health.level).to_lowercase();
        say(&format!("{level}: {}", self.health.summary), self.health.level.paint());
        say(&self.leadership(), Paint::Plain);
        if let Some(line) = self.leadership.line() {
            say(&plain(&line), Paint::Plain);
        }
        let Self { asked_node_id, committed_index, last_log_index, applied_index, .. } = self;
        say(
            &format!(
                "node {asked_node_id} answered: {committed_index} of {last_log_index} log entries committed, \
                 {applied_index} applied"
            ),
            Paint::Dim,
        );
        say("", Paint::Plain);
        let boxes = self.zones.iter().map(|zone| Box::of(zone, screen)).collect();
        for row in rows(boxes, screen.width) {
            lines.extend(draw_row(&row, screen));
        }
        let legend = "★ leads   ● up   ○ silent   ? not known here   ✕ sealed";
        lines.extend(screen.wrap(legend).iter().map(|line| screen.paint(Paint::Dim, line)));
        lines
    }

    fn leadership(&self) -> String {
        if self.leader_node_id == 0 {
            return format!(
                "no leader in term {}: keys can be used, changes wait for an election",
                self.term
            );
        }
        format!("node {} leads in term {}", self.leader_node_id, self.term)
    }
}

/// A zone.
struct Box {
    title: String,
    lines: Vec<Line>,
    /// Columns within the frame.
    width: usize,
}

impl Box {
    fn of(zone: &Zone, screen: Screen) -> Self {
        let mut lines = vec![
            (format!("{} / {}", zone.vpc, zone.vswitch), Paint::Dim),
            (zone.cidr.clone(), Paint::Dim),
        ];
        for node in &zone.nodes {
            let Sign { sign, paint } = sign(node);
            let (role, standing) = (node.role.to_lowercase(), node.standing.to_lowercase());
            lines.push((String::new(), Paint::Plain));
            lines.push((format!("{sign} node {}  {role} {standing}", node.node_id), paint));
            lines.push((format!("  {}", place(node)), Paint::Dim));
            let (condition, paint) = condition(node);
            lines.push((format!("  {condition}"), paint));
        }
        let inner = screen.width.saturating_sub(FRAME);
        let fit = |text: &str| cut(&plain(text), inner);
        let title = fit(&format!("zone {}", zone.zone));
        let lines: Vec<_> = lines.into_iter().map(|(text, paint)| (fit(&text), paint)).collect();
        let widths = lines.iter().map(|(text, _)| columns(text)).chain([columns(&title)]);
        let width = widths.max().unwrap_or(0);
        Self { title, lines, width }
    }
}

/// Callers reach data nodes; a witness has peers alone.
fn place(node: &Node) -> &str {
    if node.is_witness() { &node.peer_address } else { &node.client_address }
}

fn condition(node: &Node) -> (String, Paint) {
    let lag = |up_to_date: &str| match node.entries_behind {
        Some(0) => (up_to_date.to_owned(), Paint::Good),
        Some(behind) => (format!("{behind} entries behind"), Paint::Warning),
        None => (up_to_date.to_owned(), Paint::Plain),
    };
    match (&node.own, node.reachable) {
        (Some(own), _) if own.sealed => {
            ("sealed: see `twinkeep unseal`".to_owned(), Paint::Warning)
        }
        (Some(_), _) => lag("up to date"),
        (None, Some(true)) if node.is_witness() => lag("votes"),
        (None, Some(true)) => ("heard by its peers alone".to_owned(), Paint::Warning),
        (None, Some(false)) => ("silent".to_owned(), Paint::Bad),
        (None, None) if node.is_witness() => {
            ("not known here: ask the leader".to_owned(), Paint::Plain)
        }
        (None, None) => ("does not answer".to_owned(), Paint::Bad),
    }
}

/// A node's sign and its colour.
pub(super) struct Sign {
    pub(super) sign: char,
    pub(super) paint: Paint,
}

/// Returns a node's sign, one of those in the legend.
pub(super) fn sign(node: &Node) -> Sign {
    let (sign, paint) = match (&node.own, node.reachable) {
        (Some(own), _) if own.sealed => ('✕', Paint::Warning),
        (Some(_), _) if node.leads => ('★', Paint::Leads),
        (Some(_), _) => ('●', Paint::Good),
        (None, Some(true)) if node.is_witness() && node.leads => ('★', Paint::Leads),
        (None, Some(true)) if node.is_witness() => ('●', Paint::Good),
        (None, None) if node.is_witness() => ('?', Paint::Plain),
        (None, _) => ('○', Paint::Bad),
    };
    Sign { sign, paint }
}

/// Puts as many boxes in a row as fit.
fn rows(boxes: Vec<Box>, width: usize) -> Vec<Vec<Box>> {
    let mut rows: Vec<Vec<Box>> = Vec::new();
    let mut used = 0;
    for one in boxes {
        let needed = one.width + FRAME;
        match rows.last_mut() {
            Some(row) if used + GAP + needed <= width => {
                used += GAP + needed;
                row.push(one);
            }
            _ => {
                used = needed;
                rows.push(vec![one]);
            }
        }
    }
    rows
}

fn draw_row(boxes: &[Box], screen: Screen) -> Vec<String> {
    let height = boxes.iter().map(|one| one.lines.len()).max().unwrap_or(0);
    let dim = |text: &str| screen.paint(Paint::Dim, text);
    let each = |draw: &dyn Fn(&Box) -> String| {
        let drawn: Vec<_> = boxes.iter().map(draw).collect();
        drawn.join(&" ".repeat(GAP))
    };
    let mut lines = vec![each(&|one| {
        let rest = "─".repeat(one.width - columns(&one.title));
        let title = screen.paint(Paint::Bold, &one.title);
        format!("{} {title} {}", dim("┌"), dim(&format!("{rest}┐")))
    })];
    for row in 0..height {
        lines.push(each(&|one| {
            let (text, paint) = one.lines.get(row).map_or(("", Paint::Plain), |(t, p)| (t, *p));
            let pad = " ".repeat(one.width - columns(text));
            format!("{} {}{pad} {}", dim("│"), screen.paint(paint, text), dim("│"))
        }));
    }
    lines.push(each(&|one| dim(&format!("└{}┘", "─".repeat(one.width + 2)))));
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::health::Health;
    use super::super::status::Own;
    use super::*;

    /// A voter that is sealed or not and has applied so much of 42 entries, or does not answer.
    pub(in super::super) fn node(
        node_id: u64,
        role: &'static str,
        own: Option<(bool, u64)>,
    ) -> Node {
        Node {
            node_id,
            role,
            standing: "VOTER",
            leads: node_id == 1,
            client_address: format!("127.0.1.{node_id}:7100"),
            peer_address: format!("127.0.1.{node_id}:7101"),
            reachable: Some(own.is_some() || role == "WITNESS"),
            entries_behind: own.map(|(_, applied)| 42 - applied),
            own: own.map(|(sealed, applied_index)| Own {
                sealed,
                applied_index,
                software_version: "0.1.0".to_owned(),
                zone_complete_until: None,
            }),
        }
    }

    pub(in super::super) fn zone(name: &str, nodes: Vec<Node>) -> Zone {
        Zone {
            zone: name.to_owned(),
            vpc: "vpc-dev".to_owned(),
            vswitch: format!("vsw-{name}"),
            cidr: "127.0.1.0/24".to_owned(),
            nodes,
        }
    }

    pub(in super::super) fn status() -> Status {
        let zones = vec![
            zone("a", vec![node(1, "DATA", Some((false, 42))), node(2, "DATA", Some((false, 40)))]),
            zone("b", vec![node(3, "DATA", Some((true, 42))), node(4, "DATA", None)]),
            zone("w", vec![node(5, "WITNESS", None)]),
        ];
        Status {
            cluster_id: "clu-00".to_owned(),
            incarnation: 1,
            cluster_version: 1,
            cluster_time: "2026-11-22T22:00:00Z".to_owned(),
            health: Health::of(&zones, 1, None),
            replication: None,
            leadership: Default::default(),
            asked_node_id: 1,
            leader_node_id: 1,
            term: 3,
            last_log_index: 42,
            committed_index: 42,
            applied_index: 42,
            zones,
        }
    }

    #[test]
    fn picture_shows_zones_side_by_side_and_each_nodes_condition() {
        let expected = "\
cluster clu-00, incarnation 1, version 1
degraded: silent: 4; sealed: 3; changes would stop without zone a
node 1 leads in term 3
node 1 answered: 42 of 42 log entries committed, 42 applied

┌ zone a ──────────────┐  ┌ zone b ─────────────────────────┐  ┌ zone w ─────────────────┐
│ vpc-dev / vsw-a      │  │ vpc-dev / vsw-b                 │  │ vpc-dev / vsw-w         │
│ 127.0.1.0/24         │  │ 127.0.1.0/24                    │  │ 127.0.1.0/24            │
│                      │  │                                 │  │                         │
│ ★ node 1  data voter │  │ ✕ node 3  data voter            │  │ ● node 5  witness voter │
│   127.0.1.1:7100     │  │   127.0.1.3:7100                │  │   127.0.1.5:7101        │
│   up to date         │  │   sealed: see `twinkeep unseal` │  │   votes                 │
│                      │  │                                 │  │                         │
│ ● node 2  data voter │  │ ○ node 4  data voter            │  │                         │
│   127.0.1.2:7100     │  │   127.0.1.4:7100                │  │                         │
│   2 entries behind   │  │   silent                        │  │                         │
└──────────────────────┘  └─────────────────────────────────┘  └─────────────────────────┘
★ leads   ● up   ○ silent   ? not known here   ✕ sealed
";
        assert_eq!(status().draw(Screen::plain(120)).join("\n") + "\n", expected);
    }

    #[test]
    fn picture_says_where_the_lead_belongs() {
        let mut status = status();
        status.leadership.drained_zone = Some("b".to_owned());
        let drawn = status.draw(Screen::plain(120));
        assert!(drawn[3].starts_with("zone b is drained"), "{}", drawn.join("\n"));
    }

    #[test]
    fn picture_fits_a_narrow_screen() {
        for width in [20, 37, 40, 60, 80] {
            for line in status().draw(Screen::plain(width)) {
                assert!(columns(&line) <= width, "{width}: {line}");
            }
        }
        let lines = status().draw(Screen::plain(40));
        assert_eq!(lines.iter().filter(|line| line.starts_with("┌ zone")).count(), 3);
    }

    #[test]
    fn colours_change_no_column() {
        let coloured = Screen { colour: true, ..Screen::plain(80) };
        for (line, drawn) in status().draw(Screen::plain(80)).iter().zip(status().draw(coloured)) {
            let mut bare = String::new();
            let mut escape = false;
            for c in drawn.chars() {
                match (c, escape) {
                    ('\u{1b}', _) => escape = true,
                    ('m', true) => escape = false,
                    (_, true) => {}
                    (c, false) => bare.push(c),
                }
            }
            assert_eq!(*line, bare);
        }
    }

    #[test]
    fn witness_that_a_follower_cannot_know_of_is_not_called_silent() {
        let mut status = status();
        status.zones[2].nodes[0].reachable = None;
        let drawn = status.draw(Screen::plain(120)).join("\n");
        assert!(
            drawn.contains("? node 5") && drawn.contains("not known here: ask the leader"),
            "{drawn}"
        );
    }
}
