//! Whom a node has to meet before it takes part again.
//!
//! After the loss of a zone and the witness, operators may have begun a new life of the cluster with the other zone.
//! If the lost side then starts again, it is a majority of the former life, and would acknowledge changes
//! beside the recovered cluster. It cannot know of the recovery, but it can know that it does not know: all of it
//! has started since. So a node that starts takes part once it has met
//!
//! - data nodes of two zones, itself counted: no zone was given up then; or
//! - a data node that takes part already: by the same rule that one has been going on since all zones were together, or
//!   has it from one that was.
//!
//! A witness counts as neither: it comes back with whom it was lost. Where only one zone has voting data nodes, there is
//! nothing to be torn apart. An operator who knows that nobody recovered the cluster may let a node go on alone.

use std::collections::BTreeSet;

use twinkeep_core::name::ZoneName;

/// Whom a node has met since it started.
#[derive(Debug, Default)]
pub(super) struct Company {
    zones: BTreeSet<ZoneName>,
    is_vouched_for: bool,
}

impl Company {
    /// Begins with this node's own zone, if it is a data node.
    pub(super) fn of(own_zone: Option<ZoneName>) -> Self {
        Self { zones: own_zone.into_iter().collect(), is_vouched_for: false }
    }

    /// Notes a data node that has answered, and whether it takes part itself.
    pub(super) fn meet(&mut self, zone: ZoneName, vouches: bool) {
        self.zones.insert(zone);
        self.is_vouched_for |= vouches;
    }

    /// Tells whether that is enough, where voting data nodes stand in `zones`.
    pub(super) fn suffices(&self, zones: &BTreeSet<ZoneName>) -> bool {
        zones.len() < 2 || self.is_vouched_for || self.zones.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> ZoneName {
        name.parse().unwrap()
    }

    fn two() -> BTreeSet<ZoneName> {
        [zone("a"), zone("b")].into()
    }

    #[test]
    fn neighbours_that_have_started_too_are_no_company() {
        let mut company = Company::of(Some(zone("a")));
        assert!(!company.suffices(&two()));
        company.meet(zone("a"), false);
        assert!(!company.suffices(&two()));
        company.meet(zone("b"), false);
        assert!(company.suffices(&two()));
    }

    #[test]
    fn witness_needs_both_zones_or_one_that_vouches() {
        let mut company = Company::of(None);
        company.meet(zone("a"), false);
        assert!(!company.suffices(&two()), "the witness comes back with zone a");
        company.meet(zone("a"), true);
        assert!(company.suffices(&two()));
        let mut company = Company::of(None);
        company.meet(zone("a"), false);
        company.meet(zone("b"), false);
        assert!(company.suffices(&two()));
    }

    #[test]
    fn neighbour_that_went_on_vouches() {
        let mut company = Company::of(Some(zone("a")));
        company.meet(zone("a"), true);
        assert!(company.suffices(&two()));
    }

    #[test]
    fn cluster_with_data_in_one_zone_needs_no_company() {
        assert!(Company::of(Some(zone("a"))).suffices(&[zone("a")].into()));
    }
}
