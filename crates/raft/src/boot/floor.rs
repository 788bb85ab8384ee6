//! What a node may have forgotten at most, from what the disks of others show.
//!
//! Of n voters, q = n/2 + 1 are a quorum. An entry that was committed, or a vote that was won, with the part of
//! the node that starts is on the disks of q − 1 others at least, so at most n − q of the others lack it. Among
//! n − q + 1 answers or more, the (n − q + 1)th lowest has it, whichever others have answered.

use std::collections::{BTreeMap, BTreeSet};

use super::shown::{Shown, compare_votes};
use crate::types::{LogId, Vote};

/// What a node must not fall below. `None` is below everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    /// Votes and leaders below this one are refused.
    pub(crate) vote: Option<Vote>,
    /// Candidates whose log ends below this entry are refused.
    pub(crate) last: Option<LogId>,
}

impl Floor {
    /// Tells whether what a disk shows reaches the floor, so that Raft's own rules suffice.
    pub(crate) fn is_reached_by(&self, shown: &Shown) -> bool {
        self.is_log_reached_by(shown) && !self.is_above(shown.vote.as_ref())
    }

    pub(crate) fn is_log_reached_by(&self, shown: &Shown) -> bool {
        shown.last >= self.last
    }

    /// Tells whether a vote lies below the floor.
    pub(crate) fn is_above(&self, vote: Option<&Vote>) -> bool {
        compare_votes(vote, self.vote.as_ref()).is_lt()
    }

    fn max(self, other: Self) -> Self {
        let is_higher = compare_votes(self.vote.as_ref(), other.vote.as_ref()).is_ge();
        Self {
            vote: if is_higher { self.vote } else { other.vote },
            last: self.last.max(other.last),
        }
    }
}

/// What the answers are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Too few to know anything, and too few to take part with.
    TooFew,
    /// One set of voters has answered with a quorum less this node and no more: a zone may be lost. The
    /// floor is the highest answer.
    Bare(Floor),
    /// Enough.
    Enough(Floor),
}

/// Judges answers by every set of voters that counts. A node alone in a set has nobody to ask there.
pub(crate) fn judge<'a>(
    sets: impl IntoIterator<Item = &'a BTreeSet<u64>>,
    me: u64,
    answers: &BTreeMap<u64, Shown>,
) -> Verdict {
    let verdicts = sets.into_iter().map(|set| judge_set(set, me, answers));
    verdicts.fold(Verdict::Enough(Floor::default()), |all, one| match (all, one) {
        (Verdict::TooFew, _) | (_, Verdict::TooFew) => Verdict::TooFew,
        (Verdict::Enough(a), Verdict::Enough(b)) => Verdict::Enough(a.max(b)),
        (Verdict::Bare(a) | Verdict::Enough(a), Verdict::Bare(b) | Verdict::Enough(b)) => {
            Verdict::Bare(a.max(b))
        }
    })
}

fn judge_set(set: &BTreeSet<u64>, me: u64, answers: &BTreeMap<u64, Shown>) -> Verdict {
    let others = set.iter().filter(|node| **node != me);
    let quorum = set.len() / 2 + 1;
    let shown: Vec<_> = others.clone().filter_map(|node| answers.get(node)).collect();
    let enough = (set.len() - quorum + 1).min(others.count());
    let mut votes: Vec<_> = shown.iter().map(|shown| shown.vote).collect();
    let mut lasts: Vec<_> = shown.iter().map(|shown| shown.last).collect();
    votes.sort_unstable_by(|a, b| compare_votes(a.as_ref(), b.as_ref()));
    lasts.sort_unstable();
    let floor_at = |at: usize| Floor { vote: votes[at], last: lasts[at] };
    match shown.len() {
        _ if enough == 0 => Verdict::Enough(Floor::default()),
        count if count >= enough => Verdict::Enough(floor_at(enough - 1)),
        count if count > 0 && count + 1 >= quorum => Verdict::Bare(floor_at(count - 1)),
        _ => Verdict::TooFew,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{Index, subsequence};

    use super::*;
    use crate::boot::shown::tests::shown;

    fn set(nodes: u64) -> BTreeSet<u64> {
        (1..=nodes).collect()
    }

    fn answers(of: &[(u64, u64)]) -> BTreeMap<u64, Shown> {
        of.iter().map(|(node, index)| (*node, shown(1, Some((1, *index))))).collect()
    }

    fn index(verdict: Verdict) -> Option<u64> {
        match verdict {
            Verdict::Enough(floor) => floor.last.map(|id| id.index),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn third_lowest_of_five_counts_and_two_answers_are_bare() {
        let five = set(5);
        let four = answers(&[(2, 10), (3, 20), (4, 30), (5, 40)]);
        assert_eq!(index(judge([&five], 1, &four)), Some(30));
        let three = answers(&[(2, 10), (3, 20), (5, 40)]);
        assert_eq!(index(judge([&five], 1, &three)), Some(40));
        let two = judge([&five], 1, &answers(&[(2, 10), (5, 40)]));
        assert!(matches!(two, Verdict::Bare(floor) if floor.last.unwrap().index == 40), "{two:?}");
        assert_eq!(judge([&five], 1, &answers(&[(2, 10)])), Verdict::TooFew);
    }

    #[test]
    fn small_clusters_ask_whom_they_have() {
        assert_eq!(judge([&set(1)], 1, &BTreeMap::new()), Verdict::Enough(Floor::default()));
        assert_eq!(judge([&set(2)], 1, &BTreeMap::new()), Verdict::TooFew);
        assert_eq!(index(judge([&set(2)], 1, &answers(&[(2, 7)]))), Some(7));
        assert!(matches!(judge([&set(3)], 1, &answers(&[(2, 7)])), Verdict::Bare(_)));
        assert_eq!(index(judge([&set(3)], 1, &answers(&[(2, 7), (3, 9)]))), Some(9));
    }

    #[test]
    fn every_set_of_a_joint_membership_has_to_answer() {
        let (old, new) = (set(3), BTreeSet::from([1, 4, 5]));
        let of_old = answers(&[(2, 7), (3, 9)]);
        assert_eq!(judge([&old, &new], 1, &of_old), Verdict::TooFew);
        let both = answers(&[(2, 7), (3, 9), (4, 3), (5, 12)]);
        assert_eq!(index(judge([&old, &new], 1, &both)), Some(12));
    }

    proptest! {
        /// Whatever a quorum with this node in it has committed, and whoever of the others answers: the floor
        /// is not below it.
        #[test]
        fn floor_covers_whatever_was_committed(
            nodes in 1_u64..=9,
            committed in 1_u64..100,
            logs in proptest::collection::vec(0_u64..200, 9),
            holders in subsequence((2_u64..=9).collect::<Vec<_>>(), 0..=8),
            order in proptest::collection::vec(any::<Index>(), 8),
            asked in 0_usize..=8,
        ) {
            let voters = set(nodes);
            let quorum = voters.len() / 2 + 1;
            let mut others: Vec<u64> = voters.iter().copied().filter(|node| *node != 1).collect();
            // A quorum with node 1: q - 1 others, chosen at random.
            let mut holding: BTreeSet<u64> = holders.into_iter().filter(|n| *n <= nodes).collect();
            for node in &others {
                if holding.len() >= quorum - 1 { break; }
                holding.insert(*node);
            }
            for (at, swap) in order.iter().enumerate() {
                if !others.is_empty() {
                    let count = others.len();
                    others.swap(at % count, swap.index(count));
                }
            }
            let answers: BTreeMap<u64, Shown> = others
                .iter()
                .take(asked)
                .map(|node| {
                    let own = logs[usize::try_from(*node - 1).unwrap()];
                    let last = if holding.contains(node) { own.max(committed) } else { own };
                    (*node, shown(1, Some((1, last))))
                })
                .collect();
            if let Verdict::Enough(floor) = judge([&voters], 1, &answers)
                && nodes > 1
            {
                prop_assert!(floor.last.unwrap().index >= committed);
            }
        }
    }
}
