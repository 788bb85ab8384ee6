//! What the end of an attempt means for its call, and for what is thought of the node: the table of [`super`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};
use twinkeep_proto::metadata;

use super::{ATTEMPTS_MAX, After, Cause, Ended, Race, checked};
use crate::error::{local, never_sent, not_done, retry_after};
use crate::message::Answer;
use crate::node::Node;
use crate::refusal::{Refusal, Refuser};

impl<A: Answer> Race<'_, A> {
    pub(super) fn judge(&mut self, ended: Ended<A>) -> Result<A, After> {
        let Ended { node, cause, began, result } = ended;
        let answered = result.is_ok();
        match result.and_then(|answer| checked(answer, self.check)) {
            Ok(answer) => {
                self.won(&node, cause, began);
                self.shared.saw(answer.state_index());
                Ok(answer)
            }
            Err(status) => {
                // A damaged answer is one: what was asked for was done.
                self.maybe_done |= answered && self.terms.safety.writes();
                let after = self.failed(&node, &status);
                // A refusal says more than what becomes of the other attempts.
                if self.settle_by.is_none() {
                    self.last = Some((node, status));
                }
                Err(after)
            }
        }
    }

    fn won(&self, node: &Node, cause: Cause, began: Instant) {
        node.succeeded();
        if cause == Cause::Hedge {
            node.meter.hedges_won.add();
        }
        self.shared.budget(self.terms.safety).earn();
        self.shared.took(self.terms.safety, began.elapsed());
        // Whoever began earlier and has not answered yet was beaten by a hedge.
        let earlier =
            self.avoid.tried.iter().take_while(|tried| !std::ptr::eq(tried.as_ref(), node));
        let is_open = |tried: &&Arc<Node>| self.racing.iter().any(|open| Arc::ptr_eq(open, tried));
        let mut beaten = earlier.filter(is_open).peekable();
        if !self.terms.safety.writes() {
            beaten.for_each(|slow| slow.out_hedged());
        } else if beaten.peek().is_some() {
            // A leader that was silent meanwhile is lost, or leads no more; a whole zone may be. The next change begins
            // where this one got through, and does not wait for each of them in turn.
            self.shared.pool.crown(&node.address);
        }
    }

    pub(super) fn failed(&mut self, node: &Arc<Node>, status: &Status) -> After {
        let safety = self.terms.safety;
        if never_sent(status) {
            node.unreachable();
            self.shared.pool.depose(node);
            self.attempts -= 1;
            return self.kept_out(node, Refusal::of(&node.address, status));
        }
        self.heard = true;
        if local(status) {
            node.failed();
            self.shared.pool.depose(node);
            self.maybe_done |= safety.writes();
            return self.again_if(safety.repeats());
        }
        match status.code() {
            Code::Unavailable => {
                let unknown = safety.writes() && !not_done(status);
                self.maybe_done |= unknown;
                self.follow(node, status);
                self.again_if(safety.repeats() || !unknown)
            }
            Code::ResourceExhausted if !safety.writes() => match retry_after(status) {
                Some(after) => self.later(after),
                None => After::Fail,
            },
            Code::DataLoss => self.again_if(!self.maybe_done || safety.repeats()),
            Code::Aborted => self.again_if(!safety.writes()),
            Code::Internal | Code::Unknown | Code::Cancelled => {
                self.maybe_done |= safety.writes();
                self.again_if(!safety.writes() && status.code() == Code::Internal)
            }
            Code::DeadlineExceeded => {
                node.failed();
                self.maybe_done |= safety.writes();
                After::Wait
            }
            _ => {
                node.succeeded();
                // The other attempts of a change are most likely refused too, within a moment, and then it is known
                // that nothing happened.
                if safety.writes() && !self.open.is_empty() { After::Settle } else { After::Fail }
            }
        }
    }

    /// Notes that no connection to a node came about, over a certificate or otherwise; goes on while another node, or
    /// time, may mend that.
    fn kept_out(&mut self, node: &Arc<Node>, refusal: Option<Refusal>) -> After {
        match refusal {
            Some(refusal) if !self.is_refused(node) => {
                self.refused.push((Arc::clone(node), refusal));
            }
            None if !self.is_unreachable(node) => self.unreachable.push(Arc::clone(node)),
            _ => {}
        }
        self.given_up = self.is_in_vain() && self.choose().is_none();
        if self.given_up { After::Fail } else { self.unless_bound() }
    }

    /// Tells whether certificates keep the call from all nodes that were tried in this round.
    fn is_in_vain(&self) -> bool {
        let tried = &self.avoid.tried;
        if tried.iter().all(|node| self.is_refused(node)) {
            return true;
        }
        // A node that is down would refuse the caller as the others do when it comes back.
        let of_the_caller = |(_, refusal): &(_, Refusal)| refusal.by == Refuser::Node;
        !self.heard
            && !self.refused.is_empty()
            && self.refused.iter().all(of_the_caller)
            && tried.iter().all(|node| self.is_refused(node) || self.is_unreachable(node))
    }

    pub(super) fn is_refused(&self, node: &Arc<Node>) -> bool {
        self.refused.iter().any(|(refused, _)| Arc::ptr_eq(refused, node))
    }

    fn is_unreachable(&self, node: &Arc<Node>) -> bool {
        self.unreachable.iter().any(|unreachable| Arc::ptr_eq(unreachable, node))
    }

    /// Learns from an `UNAVAILABLE`: where the leader is, or that a node should not use keys.
    fn follow(&self, node: &Arc<Node>, status: &Status) {
        let hint = status.metadata().get(metadata::LEADER).and_then(|hint| hint.to_str().ok());
        // A leader that was asked in this round is asked again after the pause: two nodes that point at each
        // other must not keep a call running between them.
        if hint.and_then(|address| self.shared.pool.crown(address)).is_none() {
            self.shared.pool.depose(node);
        }
        if self.terms.safety.crypto() {
            node.failed();
        }
    }

    fn unless_bound(&self) -> After {
        if self.terms.only.is_none() { After::Again } else { After::Fail }
    }

    fn again_if(&self, allowed: bool) -> After {
        let safety = self.terms.safety;
        let within = safety.writes() || (self.attempts < ATTEMPTS_MAX && self.shared.spend(safety));
        if allowed && within { self.unless_bound() } else { After::Wait }
    }

    /// Another attempt after the time that the service asks for, if the call has it.
    fn later(&self, after: Duration) -> After {
        let resume_at = Instant::now() + after;
        match self.again_if(resume_at < self.deadline) {
            After::Again => After::Later(resume_at),
            after => after,
        }
    }
}
