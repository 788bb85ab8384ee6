//! The picture of `twinkeep cluster status`: a box for each zone, side by side.

use std::io::{self, Write};

use crate::cluster::{Node, Status, Zone};
use crate::output::Show;

/// Columns of a line; more boxes begin a new row.
const SCREEN: usize = 120;

impl Show for Status {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "cluster {}, incarnation {}, version {}",
            self.cluster_id, self.incarnation, self.cluster_version
        )?;
        writeln!(out, "{}", self.leadership())?;
        writeln!(
            out,
            "node {} answered: {} of {} log entries committed, {} applied, clock {}\n",
            self.asked_node_id,
            self.committed_index,
            self.last_log_index,
            self.applied_index,
            self.cluster_time
        )?;
        for row in rows(self.zones.iter().map(|zone| self.zone_box(zone)).collect()) {
            print_row(out, &row)?;
        }
        writeln!(out, "★ leads   ● answers   ○ silent   ✕ sealed")
    }
}

impl Status {
    fn leadership(&self) -> String {
        if self.leader_node_id == 0 {
            return format!(
                "no leader in term {}: keys can be used, changes wait for an election",
                self.term
            );
        }
        format!("node {} leads in term {}", self.leader_node_id, self.term)
    }

    /// Returns the lines of a zone's box, without its frame; the first is the title.
    fn zone_box(&self, zone: &Zone) -> Vec<String> {
        let mut lines = vec![format!("zone {}", zone.zone)];
        lines.push(format!("{} / {}", zone.vpc, zone.vswitch));
        lines.push(zone.cidr.clone());
        for node in &zone.nodes {
            lines.push(String::new());
            lines.push(format!(
                "{} node {}  {} {}",
                symbol(node),
                node.node_id,
                node.role.to_lowercase(),
                node.standing.to_lowercase()
            ));
            lines.push(format!("  {}", place(node)));
            lines.push(format!("  {}", self.condition(node)));
        }
        lines
    }

    fn condition(&self, node: &Node) -> String {
        match &node.own {
            Some(own) if own.sealed => "sealed: see `twinkeep unseal`".to_owned(),
            Some(own) => match self.committed_index.saturating_sub(own.applied_index) {
                0 => "up to date".to_owned(),
                behind => format!("{behind} entries behind"),
            },
            None if node.role == "WITNESS" && node.reachable => "votes".to_owned(),
            None if node.reachable => "heard by its peers alone".to_owned(),
            None => "silent".to_owned(),
        }
    }
}

/// Callers reach data nodes; a witness has peers alone.
fn place(node: &Node) -> &str {
    if node.role == "WITNESS" { &node.peer_address } else { &node.client_address }
}

fn symbol(node: &Node) -> char {
    match &node.own {
        Some(own) if own.sealed => '✕',
        Some(_) if node.leads => '★',
        Some(_) => '●',
        None if node.role == "WITNESS" && node.reachable => {
            if node.leads {
                '★'
            } else {
                '●'
            }
        }
        None => '○',
    }
}

/// Puts as many boxes in a row as fit.
fn rows(boxes: Vec<Vec<String>>) -> Vec<Vec<Vec<String>>> {
    let mut rows: Vec<Vec<Vec<String>>> = Vec::new();
    let mut used = SCREEN;
    for lines in boxes {
        let needed = width(&lines) + 6;
        if used + needed > SCREEN {
            rows.push(Vec::new());
            used = 0;
        }
        used += needed;
        rows.last_mut().expect("the first box begins a row").push(lines);
    }
    rows
}

fn width(lines: &[String]) -> usize {
    lines.iter().map(|line| line.chars().count()).max().unwrap_or(0)
}

fn print_row(out: &mut dyn Write, boxes: &[Vec<String>]) -> io::Result<()> {
    let height = boxes.iter().map(Vec::len).max().unwrap_or(0);
    let each = |draw: &dyn Fn(&Vec<String>) -> String| {
        boxes.iter().map(draw).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let pad = |lines: &[String], text: &str| " ".repeat(width(lines) - text.chars().count());
    writeln!(
        out,
        "{}",
        each(&|lines| {
            let title = &lines[0];
            format!("┌ {title} {}┐", "─".repeat(width(lines) - title.chars().count()))
        })
    )?;
    for row in 1..height {
        writeln!(
            out,
            "{}",
            each(&|lines| {
                let text = lines.get(row).map_or("", String::as_str);
                format!("│ {text}{} │", pad(lines, text))
            })
        )?;
    }
    writeln!(out, "{}", each(&|lines| format!("└{}┘", "─".repeat(width(lines) + 2))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Own;

    fn node(node_id: u64, role: &'static str, own: Option<(bool, u64)>) -> Node {
        Node {
            node_id,
            role,
            standing: "VOTER",
            leads: node_id == 1,
            client_address: format!("127.0.1.{node_id}:7100"),
            peer_address: format!("127.0.1.{node_id}:7101"),
            reachable: own.is_some() || role == "WITNESS",
            own: own.map(|(sealed, applied_index)| Own {
                sealed,
                applied_index,
                software_version: "0.1.0".to_owned(),
            }),
        }
    }

    fn zone(name: &str, nodes: Vec<Node>) -> Zone {
        Zone {
            zone: name.to_owned(),
            vpc: "vpc-dev".to_owned(),
            vswitch: format!("vsw-{name}"),
            cidr: "127.0.1.0/24".to_owned(),
            nodes,
        }
    }

    #[test]
    fn picture_shows_zones_side_by_side_and_each_nodes_condition() {
        let status = Status {
            cluster_id: "clu-00".to_owned(),
            incarnation: 1,
            cluster_version: 1,
            cluster_time: "2026-11-22T22:00:00Z".to_owned(),
            asked_node_id: 1,
            leader_node_id: 1,
            term: 3,
            last_log_index: 42,
            committed_index: 42,
            applied_index: 42,
            zones: vec![
                zone(
                    "a",
                    vec![node(1, "DATA", Some((false, 42))), node(2, "DATA", Some((false, 40)))],
                ),
                zone("b", vec![node(3, "DATA", Some((true, 42))), node(4, "DATA", None)]),
                zone("w", vec![node(5, "WITNESS", None)]),
            ],
        };
        let mut out = Vec::new();
        status.table(&mut out).unwrap();
        let expected = "\
cluster clu-00, incarnation 1, version 1
node 1 leads in term 3
node 1 answered: 42 of 42 log entries committed, 42 applied, clock 2026-11-22T22:00:00Z

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
★ leads   ● answers   ○ silent   ✕ sealed
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn boxes_that_do_not_fit_begin_a_new_row() {
        let wide = vec!["x".repeat(70); 3];
        assert_eq!(rows(vec![wide.clone(), wide.clone()]).len(), 2);
        assert_eq!(rows(vec![vec!["x".repeat(200)]]).len(), 1);
        assert!(rows(Vec::new()).is_empty());
    }
}
