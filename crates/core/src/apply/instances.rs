//! Instances.

use super::{Apply, Done, check_when_stale, now_ms, refuse};
use crate::command::CreateInstance;
use crate::id::{InstanceId, InstanceKeyVersion, Revision};
use crate::name::CallerName;
use crate::outcome::{Applied, Refusal};
use crate::record::{ClusterRecord, InstanceRecord, InstanceStatus, Record, RecordKind};
use crate::state::Write;

/// Most instances of a cluster. Names are compared one by one, so this also bounds the work.
const INSTANCES_MAX: usize = 4096;

impl<S: Write> Apply<'_, S> {
    pub(super) fn create_instance(
        &mut self,
        new: CreateInstance,
        actor: Option<CallerName>,
        cluster: &ClusterRecord,
    ) -> Done {
        let Some(created_by) = actor else { return refuse(Refusal::NoActor) };
        if let Err(refusal) = check_when_stale(new.when_stale, cluster) {
            return refuse(refusal);
        }
        let existing = InstanceRecord::all(self.state)?;
        if new.id == InstanceId::CLUSTER
            || existing.iter().any(|old| old.id == new.id || old.name == new.name)
        {
            return refuse(Refusal::InstanceExists { id: new.id, name: new.name });
        }
        if existing.len() >= INSTANCES_MAX {
            let what = "instances in a cluster".to_owned();
            return refuse(Refusal::LimitReached { what, max: INSTANCES_MAX as u64 });
        }
        let record_key = InstanceRecord::instance_key(&new.id, InstanceKeyVersion::FIRST);
        if !super::is_fresh(&new.sealed, RecordKind::InstanceKey, &InstanceId::CLUSTER, &record_key)
        {
            return refuse(Refusal::SealedElsewhere);
        }
        let instance = InstanceRecord {
            id: new.id,
            name: new.name,
            kind: new.kind,
            status: InstanceStatus::Connected,
            key_version: InstanceKeyVersion::FIRST,
            created_by,
            created_ms: now_ms(self.state)?,
            revision: Revision::FIRST,
            when_stale: new.when_stale,
        };
        new.sealed.store(self.state);
        instance.store(self.state);
        Ok(Ok(Applied::Instance(Box::new(instance))))
    }
}
