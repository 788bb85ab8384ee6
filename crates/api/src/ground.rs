//! What an answer rests on, checked again when the answer is there.
//!
//! A key may be disabled, a role revoked or the node sealed while a call is worked on. The result is
//! discarded unless key, material, instance, roles and the vault are afterwards what they were before. Then the
//! node's freshness lease is looked at: a process that was stopped in between may find all of these unmoved,
//! and moved everywhere else.

use twinkeep_core::freshness::WhenStale;
use twinkeep_core::record::{InstanceRecord, KeyRecord};

use crate::authorize::Entered;
use crate::error::CallError;
use crate::handles::{Handles, Opened};
use crate::operation::Operation;
use crate::ports::Freshness;
use crate::records::Kept;

/// The state of one key as a call found it.
pub(crate) struct Ground {
    pub(crate) key: Kept<KeyRecord>,
    pub(crate) instance: Kept<InstanceRecord>,
    /// `None` for a call that needs no more than the public half.
    pub(crate) opened: Option<Opened>,
}

impl Ground {
    /// Checks that nothing has moved. Costs a few loads from memory unless a row has changed; then the
    /// row is read again, since it may be another that shares its counter.
    ///
    /// # Errors
    /// [`CallError::GroundMoved`] or [`CallError::StaleState`]: the result of the call must be discarded.
    pub(crate) fn check<O: Operation>(
        &self,
        call: &Entered<O>,
        handles: &Handles,
    ) -> Result<(), CallError> {
        let holds = call.roles_unchanged()?
            && self.same_key(call)?
            && self.same_instance(call)?
            && self.same_material(handles)?;
        if !holds {
            return Err(CallError::GroundMoved);
        }
        self.check_freshness(call)
    }

    /// Refuses what rests on a state that is too old for the key, and notes the age of one that is not.
    fn check_freshness<O: Operation>(&self, call: &Entered<O>) -> Result<(), CallError> {
        let Freshness::Stale { age } = call.records().control().freshness() else { return Ok(()) };
        let when_stale = when_stale(&self.key, &self.instance);
        match age.filter(|age| *age < when_stale.grace()) {
            Some(age) => {
                call.draft().stale(age);
                Ok(())
            }
            None => Err(CallError::StaleState { age }),
        }
    }

    fn same_key<O: Operation>(&self, call: &Entered<O>) -> Result<bool, CallError> {
        if call.records().is_current(&self.key) {
            return Ok(true);
        }
        let now = call.records().key(self.key.id)?;
        Ok(now.is_some_and(|now| now.revision == self.key.revision))
    }

    fn same_instance<O: Operation>(&self, call: &Entered<O>) -> Result<bool, CallError> {
        if call.records().is_current(&self.instance) {
            return Ok(true);
        }
        let now = call.records().instance(self.instance.id)?;
        Ok(now.is_some_and(|now| now.revision == self.instance.revision))
    }

    fn same_material(&self, handles: &Handles) -> Result<bool, CallError> {
        self.opened.as_ref().map_or(Ok(true), |opened| handles.still_good(&self.key, opened))
    }
}

/// Returns whether a key is used on a node whose state may be old.
pub(crate) fn when_stale(key: &KeyRecord, instance: &InstanceRecord) -> WhenStale {
    key.when_stale.or(instance.when_stale).unwrap_or(WhenStale::DEFAULT)
}
