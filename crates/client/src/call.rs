//! One call, from the first attempt to its answer.
//!
//! | what came of an attempt          | crypto, batch, read        | repeatable      | once     |
//! |----------------------------------|----------------------------|-----------------|----------|
//! | never sent (no connection)       | next node                  | next node       | next node |
//! | never sent, over a certificate   | next node⁴                 | next node⁴      | next node⁴ |
//! | sent, connection broke           | next node¹                 | next node       | fails, outcome unknown |
//! | `UNAVAILABLE`                    | next node¹                 | leader or next node | fails, outcome unknown³ |
//! | `RESOURCE_EXHAUSTED` with a time | later, next node¹          | fails           | fails    |
//! | `ABORTED`, `INTERNAL`            | next node¹                 | fails           | fails    |
//! | checksum mismatch, `DATA_LOSS`   | next node¹                 | next node       | next node² |
//! | any other refusal                | fails                      | fails           | fails    |
//!
//! ¹ At most [`ATTEMPTS_MAX`] attempts, each but the first at the cost of a token of the budget.
//! ² `DATA_LOSS` is said before anything is done; an answer that was damaged on its way is not sent for again.
//! ³ Unless the service vouches that nothing was changed: then next node.
//! ⁴ Until that was so at all of them: then it fails, since no time mends a certificate. Where nodes refuse the
//!   caller's, it fails too if the others cannot be reached: they are of the same cluster and will say the same.
//!
//! When all nodes have been tried, it waits a moment before each further attempt, until the call's time is over. A
//! call bound to one node gets one attempt.
//!
//! An attempt that is silent for as long as [`Shared::hedge_after`] says goes on, beside one to another node, in
//! another zone if there is one. For changes that is at most [`WRITE_HEDGES_MAX`] times. Other changes then go round
//! that node for a while ([`Node::doubt`]): if it is a leader that fell silent, the rest wait for the next one by
//! themselves. No change ejects a node by being slow, since the cluster may be slow.
//!
//! Changes have a budget of their own: while there is no leader all of them are hedged, and calls that use keys need
//! theirs just then.
//!
//! A call on a crypto stream makes its first attempt without any of this ([`crate::exchange`]); only when
//! that is slow or fails does it come here, with the attempt that has begun.

mod judge;
mod told;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use crate::chance::jitter;
use crate::client::Shared;
use crate::error::Error;
use crate::message::{Answer, Mismatch};
use crate::node::Node;
use crate::pool::Avoid;
use crate::refusal::Refusal;
use crate::safety::Safety;

/// Attempts of a call that uses keys or reads.
const ATTEMPTS_MAX: u32 = 3;
/// Further attempts of a change while the first one is silent.
const WRITE_HEDGES_MAX: u32 = 2;
/// How long a change that was refused waits for its other attempts, to know whether one of them did it.
const SETTLE_MAX: Duration = Duration::from_millis(300);
/// The wait before each attempt once all nodes were tried; it doubles up to the longest one.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(80);

/// What a call is, apart from its message.
pub(crate) struct Terms {
    pub(crate) safety: Safety,
    /// Time from beginning to end.
    pub(crate) limit: Duration,
    /// The only node to ask.
    pub(crate) only: Option<Arc<Node>>,
}

/// Sends a request to a node with the time that is left.
pub(crate) type Send<'a, A> =
    &'a (dyn Fn(&Arc<Node>, Duration) -> BoxFuture<'static, Result<A, Status>> + Sync);
/// Checks the sums of an answer.
pub(crate) type Check<'a, A> = &'a (dyn Fn(&A) -> Result<(), Mismatch> + Sync);

/// What a call has done already.
pub(crate) enum Begun<A> {
    /// Nothing.
    Nothing,
    /// An attempt that has had its time alone and goes on.
    Slow(Arc<Node>, BoxFuture<'static, Result<A, Status>>),
    /// An attempt that has failed.
    Failed(Arc<Node>, Status),
}

/// Makes a call that began at `began`.
pub(crate) async fn call<A: Answer>(
    shared: &Shared,
    terms: &Terms,
    began: Instant,
    begun: Begun<A>,
    send: Send<'_, A>,
    check: Check<'_, A>,
) -> Result<A, Error> {
    let race = Race {
        shared,
        terms,
        send,
        check,
        began,
        deadline: began + terms.limit,
        open: FuturesUnordered::new(),
        racing: Vec::new(),
        avoid: Avoid { doubted: terms.safety.writes(), ..Avoid::default() },
        pause: PAUSE_MIN,
        paced: false,
        lately: Vec::new(),
        attempts: 0,
        has_begun: false,
        hedges: 0,
        hedge_at: began,
        maybe_done: false,
        settle_by: None,
        refused: Vec::new(),
        unreachable: Vec::new(),
        heard: false,
        given_up: false,
        last: None,
    };
    race.run(begun).await.inspect_err(|_| shared.totals.failed_calls.add())
}

/// Turns a damaged answer into the status that the service has for a damaged request.
pub(crate) fn checked<A>(
    answer: A,
    check: impl FnOnce(&A) -> Result<(), Mismatch>,
) -> Result<A, Status> {
    match check(&answer) {
        Ok(()) => Ok(answer),
        Err(Mismatch(field)) => Err(Status::data_loss(format!("{field} was damaged"))),
    }
}

/// One attempt that has ended.
struct Ended<A> {
    node: Arc<Node>,
    cause: Cause,
    began: Instant,
    result: Result<A, Status>,
}

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It is the first one, or another one failed.
    Turn,
    /// Another one is silent.
    Hedge,
}

/// All attempts of one call.
struct Race<'a, A> {
    shared: &'a Shared,
    terms: &'a Terms,
    send: Send<'a, A>,
    check: Check<'a, A>,
    began: Instant,
    deadline: Instant,
    open: FuturesUnordered<BoxFuture<'a, Ended<A>>>,
    /// The nodes of the open attempts, oldest first.
    racing: Vec<Arc<Node>>,
    avoid: Avoid,
    pause: Duration,
    /// Whether all nodes have been tried, so that attempts are to be some time apart.
    paced: bool,
    /// The nodes that were tried since the last pause: hints must not send a call in circles between them.
    lately: Vec<Arc<Node>>,
    attempts: u32,
    has_begun: bool,
    hedges: u32,
    /// When the attempts that are open have been silent for so long that another one is made.
    hedge_at: Instant,
    /// Whether an attempt left whose end is not known.
    maybe_done: bool,
    /// Until when the open attempts of a change that was refused are waited for.
    settle_by: Option<Instant>,
    /// The nodes that a certificate kept the call from.
    refused: Vec<(Arc<Node>, Refusal)>,
    /// The nodes that no connection came about with, for another reason.
    unreachable: Vec<Arc<Node>>,
    /// Whether a node took a connection.
    heard: bool,
    /// Whether it ends over certificates.
    given_up: bool,
    /// What went wrong last, and where.
    last: Option<(Arc<Node>, Status)>,
}

/// What to do after an attempt failed.
enum After {
    /// Another attempt.
    Again,
    /// Another attempt, then.
    Later(Instant),
    /// No further attempt; one that is open may still succeed.
    Wait,
    /// A change is refused; attempts that are open are given a moment to say the same.
    Settle,
    /// Nobody else would answer otherwise.
    Fail,
}

impl<'a, A: Answer> Race<'a, A> {
    async fn run(mut self, begun: Begun<A>) -> Result<A, Error> {
        let mut resume_at = match begun {
            Begun::Nothing => self.start().err(),
            Begun::Slow(node, answer) => {
                self.adopt(node, answer);
                None
            }
            Begun::Failed(node, status) => {
                self.count(&node);
                let after = self.failed(&node, &status);
                self.last = Some((node, status));
                self.go_on(after, None)?
            }
        };
        loop {
            let hedging = resume_at.is_none() && self.settle_by.is_none() && self.may_hedge();
            tokio::select! {
                biased;
                Some(ended) = self.open.next() => {
                    self.racing.retain(|node| !Arc::ptr_eq(node, &ended.node));
                    match self.judge(ended) {
                        Ok(answer) => return Ok(answer),
                        Err(after) => resume_at = self.go_on(after, resume_at)?,
                    }
                }
                () = sleep_until(resume_at.unwrap_or(self.deadline)), if resume_at.is_some() => {
                    resume_at = self.resume().err();
                }
                () = sleep_until(self.hedge_at), if hedging => self.hedge(),
                () = sleep_until(self.settle_by.unwrap_or(self.deadline)), if self.settle_by.is_some() => {
                    return Err(self.error());
                }
                () = sleep_until(self.deadline) => return Err(self.out_of_time()),
            }
        }
    }

    /// Does what is to be done after an attempt failed; returns when the next one begins.
    fn go_on(
        &mut self,
        after: After,
        resume_at: Option<Instant>,
    ) -> Result<Option<Instant>, Error> {
        if self.settle_by.is_some() {
            return if self.open.is_empty() { Err(self.error()) } else { Ok(None) };
        }
        match after {
            After::Settle => {
                self.settle_by = Some(Instant::now() + SETTLE_MAX);
                Ok(None)
            }
            After::Again => Ok(self.start().err()),
            After::Later(resume_at) => Ok(Some(resume_at)),
            After::Wait if resume_at.is_some() || !self.open.is_empty() => Ok(resume_at),
            After::Wait | After::Fail => Err(self.error()),
        }
    }

    /// Goes on with an attempt that was silent for as long as one may be alone.
    fn adopt(&mut self, node: Arc<Node>, answer: BoxFuture<'static, Result<A, Status>>) {
        self.count(&node);
        self.watch(node, Cause::Turn, self.began, answer);
        if Instant::now() < self.deadline && self.may_hedge() {
            self.hedge();
        }
    }

    /// Begins an attempt; an `Err` says when to do so, all nodes having been tried.
    fn start(&mut self) -> Result<(), Instant> {
        // A hint that has just come is worth following at once.
        if self.paced && self.fresh_leader().is_none() {
            return Err(self.next_pause());
        }
        let node = self.choose().ok_or_else(|| self.next_pause())?;
        self.begin(node, Cause::Turn);
        Ok(())
    }

    fn next_pause(&mut self) -> Instant {
        self.paced = true;
        let resume_at = Instant::now() + jitter(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        resume_at
    }

    /// Begins the attempt after a pause.
    fn resume(&mut self) -> Result<(), Instant> {
        self.lately.clone_from(&self.racing);
        let node = self.choose().or_else(|| {
            self.avoid.tried.clone_from(&self.racing);
            self.choose()
        });
        // Without one, all of them are silent.
        let node = node.ok_or_else(|| self.next_pause())?;
        self.begin(node, Cause::Turn);
        Ok(())
    }

    fn choose(&self) -> Option<Arc<Node>> {
        if let Some(only) = &self.terms.only {
            return Some(Arc::clone(only));
        }
        self.fresh_leader().or_else(|| self.shared.pool.choose(&self.avoid, Instant::now()))
    }

    /// Returns the leader, if this call is for it and was not there lately.
    fn fresh_leader(&self) -> Option<Arc<Node>> {
        if !self.terms.safety.writes() || self.terms.only.is_some() {
            return None;
        }
        let leader = self.shared.pool.leader(Instant::now());
        leader.filter(|node| !self.lately.iter().any(|tried| Arc::ptr_eq(tried, node)))
    }

    fn begin(&mut self, node: Arc<Node>, cause: Cause) {
        node.meter.attempts.add();
        match cause {
            Cause::Hedge => node.meter.hedges.add(),
            Cause::Turn if self.has_begun => node.meter.retries.add(),
            Cause::Turn => {}
        }
        self.count(&node);
        let began = Instant::now();
        let sending = (self.send)(&node, self.deadline.saturating_duration_since(began));
        self.watch(node, cause, began, sending);
    }

    fn count(&mut self, node: &Arc<Node>) {
        self.attempts += 1;
        self.has_begun = true;
        self.avoid.tried.push(Arc::clone(node));
        self.lately.push(Arc::clone(node));
        self.avoid.zones = true;
    }

    fn watch(
        &mut self,
        node: Arc<Node>,
        cause: Cause,
        began: Instant,
        sending: BoxFuture<'static, Result<A, Status>>,
    ) {
        // Whoever was asked last has its time alone too, be it after a pause.
        self.hedge_at = Instant::now() + self.hedge_after();
        self.racing.push(Arc::clone(&node));
        let open = node.enter(began);
        let attempt = async move {
            let result = sending.await;
            drop(open);
            Ended { node, cause, began, result }
        };
        self.open.push(attempt.boxed());
    }

    fn may_hedge(&self) -> bool {
        let more = if self.terms.safety.writes() {
            self.hedges < WRITE_HEDGES_MAX
        } else {
            self.attempts < ATTEMPTS_MAX
        };
        more && self.terms.safety.repeats() && self.terms.only.is_none() && !self.open.is_empty()
    }

    fn hedge(&mut self) {
        self.hedges += 1;
        let now = Instant::now();
        self.hedge_at = now + self.hedge_after();
        if self.terms.safety.writes() {
            self.racing.iter().for_each(|silent| silent.doubt(now));
        }
        let Some(node) = self.shared.pool.choose(&self.avoid, now) else { return };
        if self.shared.spend(self.terms.safety) {
            self.begin(node, Cause::Hedge);
        }
    }

    fn hedge_after(&self) -> Duration {
        self.shared.hedge_after(self.terms.safety)
    }
}

#[cfg(test)]
mod tests;
