//! The cluster itself: its beginning, its clock, its version.

use super::{Apply, CLOCK_ROW, Done, now_ms, refuse};
use crate::clock::UnixMs;
use crate::command::Genesis;
use crate::id::Revision;
use crate::outcome::{Applied, Refusal};
use crate::record::{ClusterRecord, ClusterVersion, NodeRecord, Record, TokenRecord};
use crate::replication::set_usable_up_to;
use crate::state::{Fault, Table, Write};
use crate::topology::{NodeRole, Standing, check_join};

/// Most lapsed tokens that one tick of the clock removes, so that no tick takes long.
const TOKENS_PER_TICK: usize = 512;

impl<S: Write> Apply<'_, S> {
    pub(super) fn genesis(&mut self, genesis: Genesis) -> Done {
        let NodeRecord { role, standing, placement, .. } = &genesis.node;
        if *role != NodeRole::Data || *standing != Standing::Voter {
            return refuse(Refusal::NoNode(genesis.node.id));
        }
        // Where nobody can approve, no second node could ever join; where none has to, anybody's could.
        if !genesis.cluster.can_approve() {
            return refuse(Refusal::OperatorsUnfit);
        }
        if let Err(misplaced) = check_join(&[], *role, placement) {
            return refuse(Refusal::Misplaced(misplaced));
        }
        self.state.put(Table::Cluster, CLOCK_ROW, genesis.unix_ms.to_be_bytes().to_vec());
        genesis.cluster.store(self.state);
        genesis.node.store(self.state);
        genesis.seals.iter().for_each(|seal| seal.store(self.state));
        genesis.sealed.iter().for_each(|record| record.store(self.state));
        genesis.admin.store(self.state);
        Ok(Ok(Applied::Cluster))
    }

    pub(super) fn clock(&mut self, unix_ms: UnixMs) -> Done {
        let now = now_ms(self.state)?.max(unix_ms);
        self.state.put(Table::Cluster, CLOCK_ROW, now.to_be_bytes().to_vec());
        self.drop_lapsed_tokens(now)?;
        Ok(Ok(Applied::Cluster))
    }

    fn drop_lapsed_tokens(&mut self, now: UnixMs) -> Result<(), Fault> {
        for (row, _) in self.state.scan(Table::TokenExpiry, &[], &[], TOKENS_PER_TICK)? {
            let Some((expires_ms, token_row)) = row.split_first_chunk::<8>() else {
                return Err(Fault::new("a row of table `token-expiry` is too short"));
            };
            if u64::from_be_bytes(*expires_ms) > now {
                break;
            }
            self.state.delete(TokenRecord::TABLE, token_row);
            self.state.delete(Table::TokenExpiry, &row);
        }
        Ok(())
    }

    pub(super) fn raise_version(
        &mut self,
        to: ClusterVersion,
        expected: Revision,
        mut cluster: ClusterRecord,
    ) -> Done {
        if cluster.revision != expected {
            let found = Some(cluster.revision);
            return refuse(Refusal::RevisionMismatch { expected: Some(expected), found });
        }
        if to <= cluster.version || to > ClusterVersion::NEWEST {
            return refuse(Refusal::VersionNotRaised { from: cluster.version, to });
        }
        // What was created before there was a marker may be used as it could before.
        if cluster.version < ClusterVersion::ZONE_GUARANTEES
            && to >= ClusterVersion::ZONE_GUARANTEES
        {
            set_usable_up_to(self.state, self.index);
        }
        cluster.version = to;
        cluster.revision = super::following(cluster.revision)?;
        cluster.store(self.state);
        Ok(Ok(Applied::Cluster))
    }
}
