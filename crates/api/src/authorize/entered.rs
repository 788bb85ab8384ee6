//! A call that has entered, and the proof that it may go on.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use twinkeep_core::access::{Permission, Resource};
use twinkeep_core::id::{InstanceId, KeyId};
use twinkeep_core::name::CallerName;
use twinkeep_core::record::{InstanceRecord, KeyRecord};

use super::draft::Draft;
use super::places::Place;
use crate::error::{CallError, OverLimit};
use crate::limits::BATCH_COST_MAX;
use crate::operation::Operation;
use crate::records::{Caller, Kept, Records};

/// A call of operation `O` whose caller is known and holds the permission *somewhere*. It becomes an
/// [`Authorized`] for each resource that it is to touch.
pub(crate) struct Entered<O> {
    pub(super) draft: Draft,
    pub(super) caller: Kept<Caller>,
    /// `None` for what is not counted: streams, and calls that repair a node.
    pub(super) _place: Option<Place>,
    pub(super) records: Arc<Records>,
    pub(super) deadline: Instant,
    pub(super) state_index: u64,
    pub(super) budget: Option<Arc<Budget>>,
    pub(super) operation: PhantomData<O>,
}

/// What the items of a batch may still cost.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU32);

impl Budget {
    pub(super) fn of_a_batch() -> Arc<Self> {
        Arc::new(Self(AtomicU32::new(BATCH_COST_MAX)))
    }

    fn charge(&self, cost: u32) -> Result<(), OverLimit> {
        let left = |left: u32| left.checked_sub(cost);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_) => Ok(()),
            Err(left) => Err(OverLimit {
                field: "cost of the batch",
                len: (BATCH_COST_MAX - left + cost) as usize,
                max: BATCH_COST_MAX as usize,
                way_out: "send this item again in another batch",
            }),
        }
    }
}

/// Proof that the caller may do operation `O` on a resource. Only [`Entered`] makes one, and no
/// handler gets at a key, an instance or the cluster without.
pub(crate) struct Authorized<'a, O, R> {
    entered: &'a Entered<O>,
    resource: R,
}

/// The cluster itself, or everything in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cluster;

impl<O: Operation> Entered<O> {
    /// Makes the call of one item of a batch.
    pub(super) fn item(&self, budget: Arc<Budget>) -> Self {
        Self {
            draft: self.draft.item(),
            caller: self.caller.clone(),
            // The batch has one, for all of its items.
            _place: None,
            records: Arc::clone(&self.records),
            deadline: self.deadline,
            state_index: self.state_index,
            budget: Some(budget),
            operation: PhantomData,
        }
    }

    /// Authorises the operation on the cluster.
    pub(crate) fn on_cluster(&self) -> Result<Authorized<'_, O, Cluster>, CallError> {
        self.require(Resource::Cluster)?;
        Ok(Authorized { entered: self, resource: Cluster })
    }

    /// Authorises the operation on an instance. A missing one is answered like a forbidden one, except to
    /// those who may list all instances.
    pub(crate) fn on_instance(
        &self,
        id: InstanceId,
    ) -> Result<Authorized<'_, O, Kept<InstanceRecord>>, CallError> {
        let Some(instance) = self.records.instance(id)? else {
            return Err(self.missing("instance", id.to_string(), Permission::ListInstances));
        };
        self.require(Resource::Instance(id))?;
        self.draft.tell(|about| about.instance = Some(id));
        self.draft.works_on(instance.kind);
        Ok(Authorized { entered: self, resource: instance })
    }

    /// Authorises the operation on a key. A missing one is answered like a forbidden one, except to
    /// those who may list all keys.
    pub(crate) fn on_key(
        &self,
        id: KeyId,
    ) -> Result<Authorized<'_, O, Kept<KeyRecord>>, CallError> {
        let Some(key) = self.records.key(id)? else {
            return Err(self.missing("key", id.to_string(), Permission::ListKeys));
        };
        self.require(Resource::Key(key.instance, id))?;
        self.draft.tell(|about| about.instance = Some(key.instance));
        Ok(Authorized { entered: self, resource: key })
    }

    /// Authorises the operation on what a list shows: the caller asks for each entry.
    pub(crate) fn sees(&self, resource: Resource) -> bool {
        self.caller.rights.allow(O::PERMISSION, resource)
    }

    fn require(&self, resource: Resource) -> Result<(), CallError> {
        if self.sees(resource) { Ok(()) } else { Err(CallError::Denied(O::PERMISSION)) }
    }

    fn missing(&self, what: &'static str, id: String, sees_all: Permission) -> CallError {
        let may_know =
            self.sees(Resource::Cluster) && self.caller.rights.allow(sees_all, Resource::Cluster);
        if may_know { CallError::NotFound { what, id } } else { CallError::Denied(O::PERMISSION) }
    }

    pub(crate) fn draft(&self) -> &Draft {
        &self.draft
    }

    pub(crate) fn caller(&self) -> &CallerName {
        &self.caller.name
    }

    /// Returns a number that stands for the caller where callers share slow workers.
    pub(crate) fn share(&self) -> u64 {
        self.caller.share
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Charges work to the batch that the call is an item of.
    pub(crate) fn charge(&self, cost: u32) -> Result<(), OverLimit> {
        self.budget.as_ref().map_or(Ok(()), |budget| budget.charge(cost))
    }

    /// Tells whether the caller's roles are still those that the call was authorised by.
    pub(crate) fn roles_unchanged(&self) -> Result<bool, CallError> {
        if self.records.is_current(&self.caller) {
            return Ok(true);
        }
        let now = self.records.caller(&self.caller.name)?;
        Ok(now.is_some_and(|now| now.revision == self.caller.revision))
    }
}

impl<'a, O: Operation, R> Authorized<'a, O, R> {
    /// Returns the resource.
    pub(crate) fn resource(&self) -> &R {
        &self.resource
    }

    /// Returns the call.
    pub(crate) fn call(&self) -> &'a Entered<O> {
        self.entered
    }
}

impl<O, R: fmt::Debug> fmt::Debug for Authorized<'_, O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorized")
            .field("caller", &self.entered.caller.name)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}
