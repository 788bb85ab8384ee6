//! What an answer rests on, checked again when the answer is there.
//!
//! A key may be disabled, a role revoked or the node sealed while a call is worked on. The result is
//! discarded unless key, material, instance, roles and the vault are afterwards what they were before.
//! The node's freshness lease is to be checked in [`Ground::check`] as well.

use twinkeep_core::record::{InstanceRecord, KeyRecord};

use crate::authorize::Entered;
use crate::error::CallError;
use crate::handles::{Handles, Opened};
use crate::operation::Operation;
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
    /// [`CallError::GroundMoved`]: the result of the call must be discarded.
    pub(crate) fn check<O: Operation>(
        &self,
        call: &Entered<O>,
        handles: &Handles,
    ) -> Result<(), CallError> {
        let holds = call.roles_unchanged()?
            && self.same_key(call)?
            && self.same_instance(call)?
            && self.same_material(handles)?;
        if holds { Ok(()) } else { Err(CallError::GroundMoved) }
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
