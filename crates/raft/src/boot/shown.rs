//! What a disk shows of a node's part in the log, and what is known of its starts.

use std::cmp::Ordering;
use std::fmt;

use minicbor::{Decode, Encode};

use crate::types::{LeaderId, LogId, Vote};

/// The last vote that a node saved, and the last entry of its log.
///
/// Ordered by the vote, then by the entry. A node that follows a later leader may have removed entries that it
/// acknowledged to an earlier one; its vote is a later one then, so what it shows never becomes less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) vote: Option<Vote>,
    pub(crate) last: Option<LogId>,
}

/// A vote as its parts, in the order in which votes follow each other.
fn rank(vote: &Vote) -> (u64, u64, bool) {
    (vote.leader_id.term, vote.leader_id.node_id, vote.committed)
}

/// Compares votes; none comes before all.
pub(crate) fn compare_votes(one: Option<&Vote>, other: Option<&Vote>) -> Ordering {
    one.map(rank).cmp(&other.map(rank))
}

impl Ord for Shown {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_votes(self.vote.as_ref(), other.vote.as_ref())
            .then_with(|| self.last.cmp(&other.last))
    }
}

impl PartialOrd for Shown {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            Some(id) => write!(f, "entry {} of term {}", id.index, id.leader_id.term)?,
            None => f.write_str("no entry")?,
        }
        match self.vote {
            Some(vote) => write!(f, " under the vote of term {}", vote.leader_id.term),
            None => f.write_str(" and no vote"),
        }
    }
}

/// A life of a node between two restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Greater than those of all lives before. 0 is that of software without the handshake.
    pub(crate) number: u64,
    /// What its disk showed then.
    pub(crate) shown: Shown,
}

/// What a node has acknowledged, as somebody remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// The life that acknowledged.
    pub(crate) start: u64,
    /// What its disk held at least.
    pub(crate) held: Shown,
}

/// The same as it is stored: CBOR `[node, start, term, leader, committed, entry's term, leader, index]`; the last
/// three are absent for an empty log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Row {
    #[n(0)]
    node: u64,
    #[n(1)]
    start: u64,
    #[n(2)]
    vote: Option<(u64, u64, bool)>,
    #[n(3)]
    last: Option<(u64, u64, u64)>,
}

/// What is stored: CBOR `[format, rows]`.
#[derive(Encode, Decode)]
struct Table {
    /// 1; others are refused.
    #[n(0)]
    format: u8,
    #[n(1)]
    rows: Vec<Row>,
}

/// Returns the bytes of what is remembered of each node.
pub(crate) fn encode<'a>(
    remembered: impl IntoIterator<Item = (&'a u64, &'a Acknowledged)>,
) -> Vec<u8> {
    let row = |(node, known): (&u64, &Acknowledged)| Row {
        node: *node,
        start: known.start,
        vote: known.held.vote.as_ref().map(rank),
        last: known.held.last.map(|id| (id.leader_id.term, id.leader_id.node_id, id.index)),
    };
    let rows = remembered.into_iter().map(row).collect();
    minicbor::to_vec(Table { format: 1, rows }).expect("a Vec takes every byte that is written")
}

/// Reads what was stored; `None` for bytes of another format.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<(u64, Acknowledged)>> {
    let table: Table = minicbor::decode(bytes).ok()?;
    let known = |row: Row| {
        let vote = row.vote.map(|(term, node_id, committed)| Vote {
            leader_id: LeaderId { term, node_id },
            committed,
        });
        let last = row.last.map(|(term, node_id, index)| {
            let leader = LeaderId { term, node_id };
            LogId::new(leader, index)
        });
        (row.node, Acknowledged { start: row.start, held: Shown { vote, last } })
    };
    (table.format == 1).then(|| table.rows.into_iter().map(known).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a follower of node 1 shows: a vote for it in a term, and the last entry, of some term.
    pub(crate) fn shown(term: u64, last: Option<(u64, u64)>) -> Shown {
        let leader = |term| LeaderId { term, node_id: 1 };
        Shown {
            vote: Some(Vote { leader_id: leader(term), committed: true }),
            last: last.map(|(term, index)| LogId::new(leader(term), index)),
        }
    }

    #[test]
    fn a_later_vote_outweighs_a_shorter_log() {
        assert!(shown(2, Some((1, 7))) > shown(1, Some((1, 10))));
        assert!(shown(2, Some((2, 8))) > shown(2, Some((1, 10))));
        assert!(shown(1, Some((1, 7))) < shown(1, Some((1, 8))));
        assert!(Shown::default() < shown(0, None));
    }

    #[test]
    fn what_is_remembered_reads_back_and_another_format_does_not() {
        let rows = [
            (2, Acknowledged { start: 9, held: shown(3, Some((2, 40))) }),
            (5, Acknowledged { start: 1, held: Shown::default() }),
        ];
        let bytes = encode(rows.iter().map(|(node, known)| (node, known)));
        assert_eq!(decode(&bytes).unwrap(), rows);
        let other = minicbor::to_vec(Table { format: 2, rows: Vec::new() }).unwrap();
        assert_eq!(decode(&other), None);
        assert_eq!(decode(b"rubbish"), None);
    }
}
