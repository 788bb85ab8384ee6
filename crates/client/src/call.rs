//! One call, from the first attempt to its answer.
//!
//! | what came of an attempt          | crypto, batch, read        | repeatable      | once     |
//! |----------------------------------|----------------------------|-----------------|----------|
//! | never sent (no connection)       | next node                  | next node       | next node |
//! | sent, connection broke           | next node¹                 | next node       | fails, outcome unknown |
//! | `UNAVAILABLE`                    | next node¹                 | leader or next node | fails, outcome unknown |
//! | `ABORTED`, `INTERNAL`            | next node¹                 | fails           | fails    |
//! | checksum mismatch, `DATA_LOSS`   | next node¹                 | next node       | next node² |
//! | any other refusal                | fails                      | fails           | fails    |
//!
//! ¹ At most [`ATTEMPTS_MAX`] attempts, each but the first at the cost of a token of the budget.
//! ² `DATA_LOSS` is said before anything is done.
//!
//! When all nodes have been tried, it waits a moment and begins again, until the call's time is over. A
//! call bound to one node gets one attempt.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Status};

use crate::client::Shared;
use crate::error::{Error, Outcome, local};
use crate::message::{Answer, Mismatch};
use crate::node::Node;
use crate::pool::Avoid;
use crate::safety::Safety;

/// Attempts of a call that uses keys or reads.
const ATTEMPTS_MAX: u32 = 3;
/// Further attempts of a change while the first one is silent.
const WRITE_HEDGES_MAX: u32 = 2;
/// The wait after all nodes were tried; it doubles up to the longest one.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Metadata with the leader's address, on `UNAVAILABLE`.
const LEADER_METADATA: &str = "x-twinkeep-leader";

/// What a call is, apart from its message.
pub(crate) struct Terms {
    pub(crate) safety: Safety,
    /// Time from beginning to end.
    pub(crate) limit: Duration,
    /// The only node to ask.
    pub(crate) only: Option<Arc<Node>>,
}

/// Sends a request over a channel with the time that is left.
pub(crate) type Send<'a, A> =
    &'a (dyn Fn(Channel, Duration) -> BoxFuture<'static, Result<A, Status>> + Sync);
/// Checks the sums of an answer.
pub(crate) type Check<'a, A> = &'a (dyn Fn(&A) -> Result<(), Mismatch> + Sync);

/// Makes a call.
pub(crate) async fn call<A: Answer>(
    shared: &Shared,
    terms: &Terms,
    send: Send<'_, A>,
    check: Check<'_, A>,
) -> Result<A, Error> {
    let now = Instant::now();
    let race = Race {
        shared,
        terms,
        send,
        check,
        deadline: now + terms.limit,
        open: FuturesUnordered::new(),
        racing: Vec::new(),
        avoid: Avoid { tried: Vec::new(), zones: false },
        pause: PAUSE_MIN,
        attempts: 0,
        hedges: 0,
        maybe_done: false,
        last: None,
    };
    race.run().await
}

/// One attempt that has ended.
struct Ended<A> {
    node: Arc<Node>,
    began: Instant,
    result: Result<A, Status>,
}

/// All attempts of one call.
struct Race<'a, A> {
    shared: &'a Shared,
    terms: &'a Terms,
    send: Send<'a, A>,
    check: Check<'a, A>,
    deadline: Instant,
    open: FuturesUnordered<BoxFuture<'a, Ended<A>>>,
    /// The nodes of the open attempts, oldest first.
    racing: Vec<Arc<Node>>,
    avoid: Avoid,
    pause: Duration,
    attempts: u32,
    hedges: u32,
    /// Whether an attempt left whose end is not known.
    maybe_done: bool,
    last: Option<Status>,
}

/// What to do after an attempt failed.
enum After {
    /// Another attempt.
    Again,
    /// No further attempt; one that is open may still succeed.
    Wait,
    /// Nobody else would answer otherwise.
    Fail,
}

impl<'a, A: Answer> Race<'a, A> {
    async fn run(mut self) -> Result<A, Error> {
        let mut resume_at = self.start().err();
        let mut hedge_at = Instant::now() + self.hedge_after();
        loop {
            let hedging = resume_at.is_none() && self.may_hedge();
            tokio::select! {
                biased;
                Some(ended) = self.open.next() => {
                    self.racing.retain(|node| !Arc::ptr_eq(node, &ended.node));
                    match self.judge(ended) {
                        Ok(answer) => return Ok(answer),
                        Err(After::Again) => resume_at = self.start().err(),
                        Err(After::Wait) if !self.open.is_empty() => {}
                        Err(After::Wait | After::Fail) => return Err(self.error()),
                    }
                }
                () = sleep_until(resume_at.unwrap_or(self.deadline)), if resume_at.is_some() => {
                    resume_at = self.start().err();
                }
                () = sleep_until(hedge_at), if hedging => {
                    self.hedge();
                    hedge_at = Instant::now() + self.hedge_after();
                }
                () = sleep_until(self.deadline) => return Err(self.out_of_time()),
            }
        }
    }

    /// Begins an attempt; an `Err` says when to try again, all nodes having been tried.
    fn start(&mut self) -> Result<(), Instant> {
        let Some(node) = self.choose() else {
            let resume_at = Instant::now() + jitter(self.pause);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            self.avoid.tried.clone_from(&self.racing);
            return Err(resume_at);
        };
        self.begin(node);
        Ok(())
    }

    fn choose(&self) -> Option<Arc<Node>> {
        if let Some(only) = &self.terms.only {
            return Some(Arc::clone(only));
        }
        let leader = self.terms.safety.writes().then(|| self.shared.pool.leader()).flatten();
        let tried = &self.avoid.tried;
        let fresh = leader.filter(|node| !tried.iter().any(|tried| Arc::ptr_eq(tried, node)));
        fresh.or_else(|| self.shared.pool.choose(&self.avoid))
    }

    fn begin(&mut self, node: Arc<Node>) {
        self.attempts += 1;
        self.avoid.tried.push(Arc::clone(&node));
        self.avoid.zones = true;
        self.racing.push(Arc::clone(&node));
        let began = Instant::now();
        let sending = (self.send)(node.channel(), self.deadline.saturating_duration_since(began));
        let attempt = async move {
            let result = {
                let _open = node.enter();
                sending.await
            };
            Ended { node, began, result }
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
        let Some(node) = self.shared.pool.choose(&self.avoid) else { return };
        if self.shared.budget.spend() {
            self.begin(node);
        }
    }

    fn hedge_after(&self) -> Duration {
        self.shared.hedge_after(self.terms.safety)
    }

    fn judge(&mut self, ended: Ended<A>) -> Result<A, After> {
        let Ended { node, began, result } = ended;
        let result = result.and_then(|answer| match (self.check)(&answer) {
            Ok(()) => Ok(answer),
            Err(Mismatch(field)) => Err(Status::data_loss(format!("{field} was damaged"))),
        });
        match result {
            Ok(answer) => {
                self.won(&node, began);
                self.shared.saw(answer.state_index());
                Ok(answer)
            }
            Err(status) => {
                let after = self.failed(&node, &status);
                self.last = Some(status);
                Err(after)
            }
        }
    }

    fn won(&self, node: &Node, began: Instant) {
        node.succeeded();
        self.shared.budget.earn();
        self.shared.took(self.terms.safety, began.elapsed());
        // Whoever began earlier and has not answered yet was beaten by a hedge.
        let beaten =
            self.avoid.tried.iter().take_while(|tried| !std::ptr::eq(tried.as_ref(), node));
        for slow in beaten.filter(|tried| self.racing.iter().any(|open| Arc::ptr_eq(open, tried))) {
            slow.failed();
        }
    }

    fn failed(&mut self, node: &Arc<Node>, status: &Status) -> After {
        let safety = self.terms.safety;
        if never_sent(status) {
            node.unreachable();
            self.shared.pool.depose(node);
            self.attempts -= 1;
            return self.unless_bound();
        }
        if local(status) {
            node.failed();
            self.shared.pool.depose(node);
            self.maybe_done |= safety.writes();
            return self.again_if(safety.repeats());
        }
        match status.code() {
            Code::Unavailable => {
                self.maybe_done |= safety.writes();
                self.follow(node, status);
                self.again_if(safety.repeats())
            }
            Code::DataLoss => self.again_if(safety.repeats() || !safety.writes()),
            Code::Aborted | Code::Internal => self.again_if(!safety.writes()),
            Code::DeadlineExceeded => {
                node.failed();
                self.maybe_done |= safety.writes();
                After::Wait
            }
            _ => {
                node.succeeded();
                After::Fail
            }
        }
    }

    /// Learns from an `UNAVAILABLE`: where the leader is, or that a node should not use keys.
    fn follow(&self, node: &Arc<Node>, status: &Status) {
        let hint = status.metadata().get(LEADER_METADATA).and_then(|hint| hint.to_str().ok());
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
        let within = self.terms.safety.writes()
            || (self.attempts < ATTEMPTS_MAX && self.shared.budget.spend());
        if allowed && within { self.unless_bound() } else { After::Wait }
    }

    fn error(&self) -> Error {
        let missing = Status::unavailable("no node could be asked");
        let status = self.last.as_ref().unwrap_or(&missing);
        Error::of(status, self.attempts.max(1), self.outcome(), self.terms.limit)
    }

    fn out_of_time(&self) -> Error {
        // Attempts that are still open have left, as far as can be told.
        let open = self.terms.safety.writes() && !self.open.is_empty();
        let outcome = if open { Outcome::Unknown } else { self.outcome() };
        let message = match &self.last {
            Some(status) => Error::of(status, self.attempts, outcome, self.terms.limit).to_string(),
            None => "the nodes that were asked are silent".to_owned(),
        };
        Error::DeadlineExceeded { limit: self.terms.limit, message, outcome }
    }

    fn outcome(&self) -> Outcome {
        if self.maybe_done { Outcome::Unknown } else { Outcome::NotDone }
    }
}

/// Tells whether a request never left: there was no connection to send it over.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        if cause.is::<ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Draws a time between half of the pause and all of it, so that callers do not come back together.
fn jitter(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let draw = RandomState::new().hash_one(pause) % 512;
    pause / 2 + (pause / 2) * u32::try_from(draw).expect("less than 512") / 511
}
