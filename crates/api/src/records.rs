//! Decoded records of the replicated state, kept for as long as their row has not changed.
//!
//! The stamp of a row is read before the record, so a kept record is at least as new as its stamp says; a
//! record whose row has changed is read again. Whoever holds a record asks [`Records::is_current`] whether
//! it still is the newest, at the price of one load from memory.

use std::hash::{BuildHasher as _, Hash};
use std::ops::Deref;
use std::sync::Arc;

use foldhash::fast::FixedState;
use twinkeep_core::access::Rights;
use twinkeep_core::id::{InstanceId, KeyId, KeyVersionNumber, Revision};
use twinkeep_core::name::CallerName;
use twinkeep_core::record::{Binding, InstanceRecord, KeyRecord, KeyVersionRecord, Record};
use twinkeep_core::state::{Fault, RowMark};

use crate::cache::Bounded;
use crate::limits::RECORDS_CACHED_MAX;
use crate::ports::ControlPlane;

pub(crate) struct Records {
    control: Arc<dyn ControlPlane>,
    keys: Cache<KeyRecord, KeyRecord>,
    versions: Cache<KeyVersionRecord, KeyVersionRecord>,
    instances: Cache<InstanceRecord, InstanceRecord>,
    callers: Cache<Binding, Caller>,
}

type Cache<R, V> = Bounded<<R as Record>::Id, Kept<V>>;

/// A record, and the state of its row when it was read.
pub(crate) struct Kept<V> {
    value: Arc<V>,
    row: Stamped,
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), row: self.row }
    }
}

impl<V> Deref for Kept<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

/// A row at a point in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamped {
    mark: RowMark,
    stamp: u64,
}

impl Stamped {
    /// Notes a row as it is now. To be asked for before the row is read.
    pub(crate) fn now(control: &dyn ControlPlane, mark: RowMark) -> Self {
        Self { mark, stamp: control.changed_at(mark) }
    }

    /// Tells whether the row has not changed since.
    pub(crate) fn holds(self, control: &dyn ControlPlane) -> bool {
        control.changed_at(self.mark) == self.stamp
    }
}

/// A caller: what its grants come to.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) name: CallerName,
    pub(crate) rights: Rights,
    /// Of the binding.
    pub(crate) revision: Revision,
    /// Stands for the caller where callers share workers. Two callers may have the same.
    pub(crate) share: u64,
}

impl Records {
    pub(crate) fn new(control: Arc<dyn ControlPlane>) -> Self {
        Self {
            control,
            keys: Bounded::new("keys", RECORDS_CACHED_MAX),
            versions: Bounded::new("versions", RECORDS_CACHED_MAX),
            instances: Bounded::new("instances", RECORDS_CACHED_MAX),
            callers: Bounded::new("callers", RECORDS_CACHED_MAX),
        }
    }

    pub(crate) fn key(&self, id: KeyId) -> Result<Option<Kept<KeyRecord>>, Fault> {
        self.fetch(&self.keys, &id, |key| key)
    }

    pub(crate) fn version(
        &self,
        key: KeyId,
        number: KeyVersionNumber,
    ) -> Result<Option<Kept<KeyVersionRecord>>, Fault> {
        self.fetch(&self.versions, &(key, number), |version| version)
    }

    pub(crate) fn instance(&self, id: InstanceId) -> Result<Option<Kept<InstanceRecord>>, Fault> {
        self.fetch(&self.instances, &id, |instance| instance)
    }

    pub(crate) fn caller(&self, name: &CallerName) -> Result<Option<Kept<Caller>>, Fault> {
        self.fetch(&self.callers, name, |binding: Binding| Caller {
            rights: Rights::of(&binding.grants),
            share: FixedState::default().hash_one(binding.caller.as_str()),
            name: binding.caller,
            revision: binding.revision,
        })
    }

    /// Tells whether a record is surely the newest. If not, it may be all the same: look it up again.
    pub(crate) fn is_current<V>(&self, kept: &Kept<V>) -> bool {
        kept.row.holds(&*self.control)
    }

    pub(crate) fn control(&self) -> &Arc<dyn ControlPlane> {
        &self.control
    }

    fn fetch<R: Record, V>(
        &self,
        cache: &Cache<R, V>,
        id: &R::Id,
        compile: impl FnOnce(R) -> V,
    ) -> Result<Option<Kept<V>>, Fault>
    where
        R::Id: Clone + Eq + Hash,
    {
        if let Some(kept) = cache.get(id)
            && self.is_current(&kept)
        {
            return Ok(Some(kept));
        }
        let row = Stamped::now(&*self.control, RowMark::of(R::TABLE, &R::row(id)));
        let Some(record) = R::load(&*self.control.view(), id)? else {
            // What is missing is not kept: ids come from callers, and there is no end of those that are
            // not there.
            return Ok(None);
        };
        let kept = Kept { value: Arc::new(compile(record)), row };
        cache.insert(id.clone(), kept.clone());
        Ok(Some(kept))
    }
}
