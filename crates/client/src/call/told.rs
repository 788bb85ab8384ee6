//! What the caller of a call that failed is told.

use tonic::Status;

use super::Race;
use crate::error::{Error, Outcome};
use crate::message::Answer;
use crate::node::Node;
use crate::refusal::Refusal;

impl<A: Answer> Race<'_, A> {
    pub(super) fn error(&self) -> Error {
        self.told(self.outcome()).unwrap_or_else(|| Error::Unavailable {
            message: "no node could be asked".to_owned(),
            attempts: 1,
            outcome: self.outcome(),
        })
    }

    /// Returns what went wrong last.
    fn told(&self, outcome: Outcome) -> Option<Error> {
        let (node, status) = self.last.as_ref()?;
        // An earlier attempt may have done it, which is the more important to say.
        if outcome == Outcome::NotDone
            && let Some(refusal) = self.refusal(node, status)
        {
            let unreachable = self.unreachable.iter().filter(|node| !self.is_refused(node));
            let others = (self.refused.len() + unreachable.count()).saturating_sub(1);
            return Some(Error::CertificateRefused { refusal, others });
        }
        let error = Error::of(status, self.attempts.max(1), outcome, self.terms.limit);
        // This node's refusal says nothing of an earlier attempt elsewhere, which may have made the change.
        if outcome == Outcome::Unknown && error.outcome() == Outcome::NotDone {
            let (code, message) = (status.code(), error.to_string());
            return Some(Error::Other { code, message, outcome });
        }
        Some(match error {
            // A certificate that ended while its connection was open: each node goes by its own clock.
            Error::Unauthenticated(message) => {
                Error::Unauthenticated(format!("{}: {message}", node.address))
            }
            error => error,
        })
    }

    /// Returns the refusal that the call ended with: that of the node that was tried last, which may be down instead.
    fn refusal(&self, node: &Node, status: &Status) -> Option<Refusal> {
        let earlier = || self.refused.last().filter(|_| self.given_up);
        Refusal::of(&node.address, status).or_else(|| earlier().map(|(_, refusal)| refusal.clone()))
    }

    pub(super) fn out_of_time(&self) -> Error {
        let outcome = self.outcome();
        let message = match (self.told(outcome), self.refused.last()) {
            (Some(last @ Error::CertificateRefused { .. }), _) => last.to_string(),
            // Somebody can do something about the one, while the other may come back.
            (Some(last), Some((_, refusal))) => format!("{last}; {refusal}"),
            (Some(last), None) => last.to_string(),
            (None, _) => "the nodes that were asked are silent".to_owned(),
        };
        Error::DeadlineExceeded { limit: self.terms.limit, message, outcome }
    }

    fn outcome(&self) -> Outcome {
        // Attempts that are still open have left, as far as can be told.
        let open = self.terms.safety.writes() && !self.open.is_empty();
        if self.maybe_done || open { Outcome::Unknown } else { Outcome::NotDone }
    }
}
