//! Changes of the replicated state on behalf of a caller: proposals, tokens, outcomes.

use std::sync::Arc;

use prost::Message;
use twinkeep_core::command::{Command, Proposal};
use twinkeep_core::outcome::{Applied, Outcome, Refusal};
use twinkeep_core::record::{Digest, Record as _, Token, TokenRecord};

use crate::authorize::Entered;
use crate::error::{CallError, Invalid};
use crate::limits::TOKEN_BYTES;
use crate::operation::Operation;
use crate::ports::{ControlPlane, Ports, Vault};

/// The way to change the replicated state.
#[derive(Clone)]
pub(crate) struct Changes {
    control: Arc<dyn ControlPlane>,
    vault: Arc<dyn Vault>,
}

/// What came of a change.
#[derive(Debug)]
pub(crate) enum Done {
    /// It was made: the record as it is now, and the state that holds it.
    Applied(Applied, u64),
    /// It was refused: why, and the state that it was refused by.
    Refused(Refusal, u64),
}

impl Done {
    /// Takes the record, or leaves with the refusal.
    pub(crate) fn applied(self) -> Result<(Applied, u64), CallError> {
        match self {
            Self::Applied(applied, index) => Ok((applied, index)),
            Self::Refused(refusal, _) => Err(refusal.into()),
        }
    }
}

impl Changes {
    pub(crate) fn new(ports: &Ports) -> Self {
        Self { control: Arc::clone(&ports.control), vault: Arc::clone(&ports.vault) }
    }

    pub(crate) fn control(&self) -> &dyn ControlPlane {
        &*self.control
    }

    pub(crate) fn vault(&self) -> &dyn Vault {
        &*self.vault
    }

    /// Proposes a change in the caller's name and waits for what comes of it.
    pub(crate) async fn propose<O: Operation>(
        &self,
        call: &Entered<O>,
        token: Option<Token>,
        command: Command,
    ) -> Result<Done, CallError> {
        let proposal = Proposal { actor: Some(call.caller().clone()), token, command };
        let committed = self.control.propose(proposal, call.deadline()).await?;
        Ok(match committed.outcome {
            Outcome::Applied(applied) => Done::Applied(applied, committed.index),
            Outcome::Refused(refusal) => Done::Refused(refusal, committed.index),
        })
    }

    /// Waits until this node has applied what was just committed elsewhere.
    pub(crate) async fn caught_up<O: Operation>(
        &self,
        call: &Entered<O>,
        index: u64,
    ) -> Result<(), CallError> {
        Ok(self.control.wait_applied(index, call.deadline()).await?)
    }

    /// Makes the token of a request. `bare` is the request without its token and without
    /// `min_state_index`, which do not make it another request.
    pub(crate) fn token<O: Operation>(
        &self,
        token: &[u8],
        bare: &impl Message,
    ) -> Result<Option<Token>, CallError> {
        if token.is_empty() {
            return Ok(None);
        }
        let exact = <[u8; TOKEN_BYTES]>::try_from(token).map_err(|_| Invalid::OutOfRange {
            field: "length of idempotency_token",
            number: token.len() as u64,
            range: "send 16 random bytes, or none",
        })?;
        let digest: Digest =
            self.vault.request_digest(&*self.control.view(), &bare.encode_to_vec())?;
        Ok(Some(Token { token: exact, operation: O::PERMISSION, digest }))
    }

    /// Returns what an earlier request with the same token led to, if this node has applied it: saves
    /// making key material that would be thrown away.
    pub(crate) fn earlier<O: Operation>(
        &self,
        call: &Entered<O>,
        token: Option<&Token>,
    ) -> Result<Option<Done>, CallError> {
        let Some(token) = token else { return Ok(None) };
        let id = (token.token, call.caller().clone());
        let Some(record) = TokenRecord::load(&*self.control.view(), &id)? else { return Ok(None) };
        if record.token != *token {
            return Err(Refusal::TokenReused.into());
        }
        Ok(Some(match record.outcome {
            Outcome::Applied(applied) => Done::Applied(applied, 0),
            Outcome::Refused(refusal) => Done::Refused(refusal, 0),
        }))
    }
}

/// A change came back as another kind of change: a bug of ours.
pub(crate) fn strange(applied: Applied) -> CallError {
    CallError::StrangeOutcome(Box::new(applied))
}
