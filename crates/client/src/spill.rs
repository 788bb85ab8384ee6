//! Which of a client's calls leave its zone although nothing has failed yet.
//!
//! - **Spill-over.** Zones are sized for all the load, in nodes of equal size. If more than three tenths of the near
//!   nodes are out, the rest are spared: they take 1.4 times their share, and what is beyond goes to the other zone
//!   (Envoy's over-provisioning factor). With one near node of two that is 70 % near, 30 % far; with none, all far.
//!   Likewise calls leave while every near node has as many open as a stream takes.
//! - **Warmth.** One call in [`WARM_EVERY`] goes to the other zone, so that connections, streams and the nodes' key
//!   caches there are ready when they are needed.
//!
//! Which ones is not drawn but dealt out evenly, so that shares hold over few calls too.

/// One call in so many goes to the other zone while all is well.
const WARM_EVERY: usize = 64;
/// What a near node takes beyond its share, in percent.
const OVERPROVISION_PERCENT: u64 = 140;

/// How a client's zone is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Near {
    /// Its nodes.
    pub(crate) all: u64,
    /// Those that are well.
    pub(crate) good: u64,
    /// Those that are well and have places free.
    pub(crate) with_room: u64,
}

/// Where a call goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// To the near zone.
    Near,
    /// To another zone: the near one is short of nodes.
    Spill,
    /// To another zone, to keep it warm.
    Warm,
}

/// Says where the call with this number goes.
pub(crate) fn course(turn: usize, near: Near) -> Course {
    // Nobody is near: all zones are alike.
    if near.all == 0 {
        return Course::Near;
    }
    let share = (near.good * OVERPROVISION_PERCENT * 10 / near.all).min(1000);
    if near.with_room == 0 || dealt(turn) >= share {
        return Course::Spill;
    }
    if turn % WARM_EVERY == WARM_EVERY - 1 { Course::Warm } else { Course::Near }
}

/// Deals out the numbers below 1000 evenly: multiples of the golden ratio.
fn dealt(turn: usize) -> u64 {
    let low = u32::try_from(turn & 0xffff_ffff).expect("32 bits");
    (u64::from(low.wrapping_mul(0x9e37_79b9)) * 1000) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(near: Near) -> (usize, usize, usize) {
        let courses: Vec<_> = (0..6400).map(|turn| course(turn, near)).collect();
        let count = |wanted| courses.iter().filter(|course| **course == wanted).count();
        (count(Course::Near), count(Course::Spill), count(Course::Warm))
    }

    fn near(good: u64, all: u64) -> Near {
        Near { all, good, with_room: good }
    }

    #[test]
    fn near_zone_keeps_what_its_good_nodes_can_bear() {
        for (good, all, spilled) in
            [(2, 2, 0), (1, 2, 300), (0, 2, 1000), (3, 4, 0), (2, 3, 67), (1, 3, 534), (5, 7, 0)]
        {
            let (_, found, _) = shares(near(good, all));
            let permille = found * 1000 / 6400;
            assert!(permille.abs_diff(spilled) <= 3, "{good} of {all}: {permille}");
        }
    }

    #[test]
    fn well_zone_sends_one_call_in_64_to_keep_the_other_warm() {
        assert_eq!(shares(near(2, 2)), (6300, 0, 100));
    }

    #[test]
    fn full_zone_spills_and_no_zone_is_no_reason_to() {
        assert_eq!(shares(Near { all: 2, good: 2, with_room: 0 }), (0, 6400, 0));
        assert_eq!(shares(Near::default()), (6400, 0, 0));
    }

    #[test]
    fn shares_hold_over_few_calls() {
        for start in 0..50 {
            let far = (start..start + 20).filter(|turn| course(*turn, near(1, 2)) != Course::Near);
            assert!((4..=8).contains(&far.count()));
        }
    }
}
