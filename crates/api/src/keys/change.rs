//! EnableKey, DisableKey, UpdateKeyDescription.

use twinkeep_core::command::Command;
use twinkeep_core::freshness::WhenStale;
use twinkeep_core::id::{KeyId, Revision};
use twinkeep_core::key::{IllegalTransition, KeyEvent, KeyState};
use twinkeep_core::name::Description;
use twinkeep_core::outcome::{Applied, Refusal};
use twinkeep_core::record::KeyRecord;
use twinkeep_proto::v1;

use super::{Keys, shown};
use crate::authorize::{Entered, Handle};
use crate::change::{Done, Effect, strange};
use crate::convert;
use crate::error::CallError;
use crate::field;
use crate::ground;
use crate::limits::CHANGE_ATTEMPTS_MAX;
use crate::operation::{self as op, Operation};
use crate::ports::Reached;

impl Handle<op::EnableKey> for Keys {
    async fn handle(
        &self,
        call: &Entered<op::EnableKey>,
        request: &v1::EnableKeyRequest,
    ) -> Result<v1::EnableKeyResponse, CallError> {
        let key = field::key("key_id", &request.key_id)?;
        let expected = field::revision(request.expected_revision);
        let (event, goal) = (KeyEvent::Enable, KeyState::Enabled);
        let (key, reached) = self.move_key(call, key, expected, event, goal).await?;
        let (key, durability) = (Some(key), convert::durability(reached));
        Ok(v1::EnableKeyResponse { key, durability, state_index: reached.index })
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
        let when_stale = self.when_stale(call, key)?;
        let (key, reached) = self.move_key(call, key, expected, event, goal).await?;
        let Effect { effective_everywhere, pending_in } =
            self.changes.everywhere(call, reached, when_stale.grace()).await?;
        let (key, durability) = (Some(key), convert::durability(reached));
        Ok(v1::DisableKeyResponse {
            key,
            effective_everywhere,
            pending_in,
            durability,
            state_index: reached.index,
        })
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
        let (key, reached) = self.change(call, key, expected, describe).await?.applied()?;
        let key = Some(shown(call, &*record(key)?)?);
        let durability = convert::durability(reached);
        Ok(v1::UpdateKeyDescriptionResponse { key, durability, state_index: reached.index })
    }
}

impl Keys {
    /// Returns whether a key is used on a node whose state may be old.
    fn when_stale<O: Operation>(
        &self,
        call: &Entered<O>,
        key: KeyId,
    ) -> Result<WhenStale, CallError> {
        let authorized = call.on_key(key)?;
        let key = authorized.resource();
        let instance = call.records().instance(key.instance)?;
        let instance = instance.ok_or_else(|| CallError::Missing(key.instance.to_string()))?;
        Ok(ground::when_stale(key, &instance))
    }

    /// Moves a key to a state. A key that is there already is a success too, and told by the
    /// replicated state, never by what this node happens to have applied.
    async fn move_key<O: Operation>(
        &self,
        call: &Entered<O>,
        key: KeyId,
        expected: Option<Revision>,
        event: KeyEvent,
        goal: KeyState,
    ) -> Result<(v1::Key, Reached), CallError> {
        let command = |expected| Command::MoveKey { key, event, expected };
        match self.change(call, key, expected, command).await? {
            Done::Refused(Refusal::IllegalTransition(IllegalTransition { from, .. }), reached)
                if from == goal =>
            {
                self.changes.caught_up(call, reached).await?;
                let authorized = call.on_key(key)?;
                Ok((shown(call, authorized.resource())?, reached))
            }
            done => {
                let (applied, reached) = done.applied()?;
                Ok((shown(call, &*record(applied)?)?, reached))
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
                Done::Refused(Refusal::RevisionMismatch { .. }, reached)
                    if expected.is_none() && attempt < CHANGE_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                    call.draft().retried();
                    self.changes.caught_up(call, reached).await?;
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
