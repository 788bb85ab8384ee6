//! EnableKey, DisableKey, UpdateKeyDescription.

use twinkeep_core::command::Command;
use twinkeep_core::id::{KeyId, Revision};
use twinkeep_core::key::{IllegalTransition, KeyEvent, KeyState};
use twinkeep_core::name::Description;
use twinkeep_core::outcome::{Applied, Refusal};
use twinkeep_core::record::KeyRecord;
use twinkeep_proto::v1;

use super::{Keys, shown};
use crate::authorize::{Entered, Handle};
use crate::change::{Done, strange};
use crate::error::CallError;
use crate::field;
use crate::limits::CHANGE_ATTEMPTS_MAX;
use crate::operation::{self as op, Operation};

impl Handle<op::EnableKey> for Keys {
    async fn handle(
        &self,
        call: &Entered<op::EnableKey>,
        request: &v1::EnableKeyRequest,
    ) -> Result<v1::EnableKeyResponse, CallError> {
        let key = field::key("key_id", &request.key_id)?;
        let expected = field::revision(request.expected_revision);
        let (event, goal) = (KeyEvent::Enable, KeyState::Enabled);
        let (key, state_index) = self.move_key(call, key, expected, event, goal).await?;
        Ok(v1::EnableKeyResponse { key: Some(key), state_index })
    }
}

impl Handle<op::DisableKey> for Keys {
    async fn handle(
        &self,
        call: &Entered<op::DisableKey>,
        request: &v1::DisableKeyRequest,
    ) -> Result<v1::DisableKeyResponse, CallError> {
        let key = field::key("key_id", &request.key_id)?;
        let expected = field::revision(request.expected_revision);
        let (event, goal) = (KeyEvent::Disable, KeyState::Disabled);
        let (key, state_index) = self.move_key(call, key, expected, event, goal).await?;
        Ok(v1::DisableKeyResponse { key: Some(key), state_index })
    }
}

impl Handle<op::UpdateKeyDescription> for Keys {
    async fn handle(
        &self,
        call: &Entered<op::UpdateKeyDescription>,
        request: &v1::UpdateKeyDescriptionRequest,
    ) -> Result<v1::UpdateKeyDescriptionResponse, CallError> {
        let key = field::key("key_id", &request.key_id)?;
        let text = &request.description;
        let description = field::parse_with("description", text, Description::parse)?;
        let expected = field::revision(request.expected_revision);
        let describe =
            |expected| Command::DescribeKey { key, description: description.clone(), expected };
        let (key, state_index) = self.change(call, key, expected, describe).await?.applied()?;
        let key = shown(call, &*record(key)?)?;
        Ok(v1::UpdateKeyDescriptionResponse { key: Some(key), state_index })
    }
}

impl Keys {
    /// Moves a key to a state. A key that is there already is a success too, and told by the
    /// replicated state, never by what this node happens to have applied.
    async fn move_key<O: Operation>(
        &self,
        call: &Entered<O>,
        key: KeyId,
        expected: Option<Revision>,
        event: KeyEvent,
        goal: KeyState,
    ) -> Result<(v1::Key, u64), CallError> {
        let command = |expected| Command::MoveKey { key, event, expected };
        match self.change(call, key, expected, command).await? {
            Done::Refused(Refusal::IllegalTransition(IllegalTransition { from, .. }), index)
                if from == goal =>
            {
                self.changes.caught_up(call, index).await?;
                let authorized = call.on_key(key)?;
                Ok((shown(call, authorized.resource())?, index))
            }
            done => {
                let (applied, index) = done.applied()?;
                Ok((shown(call, &*record(applied)?)?, index))
            }
        }
    }

    /// Changes a key at the revision that the caller expects, or at whichever it has.
    async fn change<O: Operation>(
        &self,
        call: &Entered<O>,
        key: KeyId,
        expected: Option<Revision>,
        command: impl Fn(Revision) -> Command + Send + Sync,
    ) -> Result<Done, CallError> {
        let mut attempt = 1;
        loop {
            // Authorised anew each time: the caller's roles may have changed along with the key.
            let found = call.on_key(key)?.resource().revision;
            let done = self.changes.propose(call, None, command(expected.unwrap_or(found))).await?;
            match done {
                Done::Refused(Refusal::RevisionMismatch { .. }, index)
                    if expected.is_none() && attempt < CHANGE_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                    call.draft().retried();
                    self.changes.caught_up(call, index).await?;
                }
                done => return Ok(done),
            }
        }
    }
}

fn record(applied: Applied) -> Result<Box<KeyRecord>, CallError> {
    match applied {
        Applied::Key(key) => Ok(key),
        other => Err(strange(other)),
    }
}
