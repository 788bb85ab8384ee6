//! Decoded records of the replicated state, kept for as long as their table has not changed.
//!
//! The stamp of a table is read before the record, so a kept record is at least as new as its stamp
//! says; a record whose table has moved on is read again.

use std::hash::Hash;
use std::sync::Arc;

use twinkeep_core::id::{InstanceId, KeyId, KeyVersionNumber};
use twinkeep_core::name::CallerName;
use twinkeep_core::record::{Binding, InstanceRecord, KeyRecord, KeyVersionRecord, Record};
use twinkeep_core::state::Fault;

use crate::cache::Bounded;
use crate::limits::RECORDS_CACHED_MAX;
use crate::ports::ControlPlane;

pub(crate) struct Records {
    control: Arc<dyn ControlPlane>,
    keys: Kept<KeyRecord>,
    versions: Kept<KeyVersionRecord>,
    instances: Kept<InstanceRecord>,
    bindings: Kept<Binding>,
}

type Kept<R> = Bounded<<R as Record>::Id, (u64, Arc<R>)>;

impl Records {
    pub(crate) fn new(control: Arc<dyn ControlPlane>) -> Self {
        Self {
            control,
            keys: Bounded::new(RECORDS_CACHED_MAX),
            versions: Bounded::new(RECORDS_CACHED_MAX),
            instances: Bounded::new(RECORDS_CACHED_MAX),
            bindings: Bounded::new(RECORDS_CACHED_MAX),
        }
    }

    pub(crate) fn key(&self, id: KeyId) -> Result<Option<Arc<KeyRecord>>, Fault> {
        self.fetch(&self.keys, &id)
    }

    pub(crate) fn version(
        &self,
        key: KeyId,
        number: KeyVersionNumber,
    ) -> Result<Option<Arc<KeyVersionRecord>>, Fault> {
        self.fetch(&self.versions, &(key, number))
    }

    pub(crate) fn instance(&self, id: InstanceId) -> Result<Option<Arc<InstanceRecord>>, Fault> {
        self.fetch(&self.instances, &id)
    }

    pub(crate) fn binding(&self, caller: &CallerName) -> Result<Option<Arc<Binding>>, Fault> {
        self.fetch(&self.bindings, caller)
    }

    pub(crate) fn control(&self) -> &Arc<dyn ControlPlane> {
        &self.control
    }

    fn fetch<R: Record>(&self, kept: &Kept<R>, id: &R::Id) -> Result<Option<Arc<R>>, Fault>
    where
        R::Id: Clone + Eq + Hash,
    {
        let stamp = self.control.changed_at(R::TABLE);
        if let Some((of, record)) = kept.get(id)
            && of == stamp
        {
            return Ok(Some(record));
        }
        let record = R::load(&*self.control.view(), id)?.map(Arc::new);
        // What is missing is not kept: ids come from callers, and there is no end of those that are
        // not there.
        if let Some(record) = &record {
            kept.insert(id.clone(), (stamp, Arc::clone(record)));
        }
        Ok(record)
    }
}
