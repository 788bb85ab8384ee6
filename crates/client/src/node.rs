//! One node: its channel and how it has behaved lately.
//!
//! ```text
//!         3 failures in a row, no connection, NOT_SERVING, 3 silent probes
//!  good ─────────────────────────────────────────────────► ejected ◄─┐
//!   ▲                                                        │       │ a probe or the trial fails:
//!   ├──── a probe is answered well ──────────────────────────┤       │ twice as long as before
//!   │                                          nobody probes │       │
//!   └──── a call succeeds ──────────────────────────────── due ──────┘
//! ```
//!
//! An ejected node is called when there is no other, and probed when its time is over ([`crate::probe`]): no call is
//! spent on finding out. Only where nobody probes, one call does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::chance::jitter;
use crate::metrics::{Meter, NodeActivity};
use crate::stream::Lane;

/// Failures in a row that eject a node.
const FAILURES_MAX: u32 = 3;
/// How long the first ejection lasts at most; each further one twice as long, up to the longest.
const EJECTION_MIN: Duration = Duration::from_millis(250);
const EJECTION_MAX: Duration = Duration::from_secs(5);
/// The same after a certificate was refused: no time mends that, and each try is a handshake.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// Time as a good node after which earlier ejections are forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(2);
/// How long before the first probe of a node that nothing is known against, and between two: at most so long, at
/// least half of it. What lives shorter than this costs the nodes no connections that it does not use.
const FIRST_PROBE_AFTER: Duration = Duration::from_secs(1);
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// How long a probe that is due may be missing before a call is sent in its place.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// How long changes go round a node that was silent: long enough for its connection to be known as dead.
const DOUBTED_FOR: Duration = Duration::from_secs(1);

/// Counts news of nodes: that one was ejected, or that there is a new one.
pub(crate) type News = Arc<watch::Sender<u64>>;

/// A node of the cluster as this client sees it.
pub(crate) struct Node {
    /// `address:port`, which is what the node is known by.
    pub(crate) address: String,
    pub(crate) meter: Meter,
    /// In which turn it was chosen last: among equals it is that one's turn who has waited longest.
    pub(crate) chosen_at: AtomicUsize,
    zone: Mutex<Option<Arc<str>>>,
    /// Whether it is known to be in the client's own zone.
    near: AtomicBool,
    channel: RwLock<Channel>,
    /// `None` if calls are to go one by one.
    lane: Option<Lane>,
    open_calls: AtomicU32,
    /// Whether `health` has anything to say; most nodes most of the time are well, and nobody takes the lock.
    ailing: AtomicBool,
    health: Mutex<Health>,
    news: News,
    /// How long an ejection may outlast its time before a call ends it.
    patience: Duration,
}

#[derive(Debug)]
struct Health {
    failures: u32,
    /// Ejections since the node was last good for a while.
    ejections: u32,
    ejected_until: Option<Instant>,
    /// Whether a call tries the node, in place of a probe.
    on_trial: bool,
    /// Until when changes go elsewhere first: one found it silent.
    doubted_until: Option<Instant>,
    good_since: Instant,
    probe_at: Instant,
    is_probed: bool,
}

/// Whether to call a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It has answered, or nothing is known against it.
    Good,
    /// Its ejection is over and nobody has probed it: one call may try it.
    Due,
    /// It has failed lately.
    Ejected,
}

/// When a node is to be probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextProbe {
    /// Now; it counts as begun.
    Now,
    /// Then.
    At(Instant),
    /// One is under way.
    Begun,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probed {
    /// The node serves.
    Well,
    /// It does not: no connection, or it says so.
    Unwell,
    /// There was no answer in time, which may be chance.
    Silent,
    /// A certificate is refused.
    Refused,
}

impl Node {
    /// `near` tells whether the node is in the client's own zone, `probes` whether somebody probes it.
    pub(crate) fn new(
        address: String,
        zone: Option<Arc<str>>,
        near: bool,
        channel: Channel,
        lane: Option<Lane>,
        news: News,
        probes: bool,
    ) -> Self {
        let now = Instant::now();
        let health = Health {
            failures: 0,
            ejections: 0,
            ejected_until: None,
            on_trial: false,
            doubted_until: None,
            good_since: now,
            probe_at: now + jitter(FIRST_PROBE_AFTER),
            is_probed: false,
        };
        Self {
            address,
            meter: Meter::default(),
            chosen_at: AtomicUsize::new(0),
            zone: Mutex::new(zone),
            near: AtomicBool::new(near),
            channel: RwLock::new(channel),
            lane,
            open_calls: AtomicU32::new(0),
            ailing: AtomicBool::new(false),
            health: Mutex::new(health),
            news,
            patience: if probes { PROBE_PATIENCE } else { Duration::ZERO },
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.read().clone()
    }

    /// Returns what carries the node's crypto stream, if streams are to be used.
    pub(crate) fn lane(&self) -> Option<&Lane> {
        self.lane.as_ref()
    }

    /// Makes further calls over another channel, as if nothing were known against the node; open ones go on over the
    /// old one.
    pub(crate) fn renew(&self, channel: Channel) {
        *self.channel.write() = channel;
        if let Some(lane) = &self.lane {
            lane.renew();
        }
        self.take_back(&mut self.health.lock());
    }

    pub(crate) fn zone(&self) -> Option<Arc<str>> {
        self.zone.lock().clone()
    }

    pub(crate) fn is_in(&self, zone: &str) -> bool {
        self.zone.lock().as_deref() == Some(zone)
    }

    /// Tells whether the node is known to be in the client's own zone.
    pub(crate) fn is_near(&self) -> bool {
        self.near.load(Ordering::Relaxed)
    }

    pub(crate) fn learn_zone(&self, zone: &str, near: bool) {
        *self.zone.lock() = Some(zone.into());
        self.near.store(near, Ordering::Relaxed);
    }

    pub(crate) fn open_calls(&self) -> u32 {
        self.open_calls.load(Ordering::Relaxed)
    }

    pub(crate) fn standing(&self, now: Instant) -> Standing {
        if !self.ailing.load(Ordering::Relaxed) {
            return Standing::Good;
        }
        match self.health.lock().ejected_until {
            None => Standing::Good,
            Some(until) if until + self.patience <= now => Standing::Due,
            Some(_) => Standing::Ejected,
        }
    }

    /// Counts a call as open until the guard is dropped. A node that was due for a try is ejected for
    /// others until this one is over.
    pub(crate) fn enter(self: &Arc<Self>, now: Instant) -> OpenCall {
        self.open_calls.fetch_add(1, Ordering::Relaxed);
        if self.ailing.load(Ordering::Relaxed) {
            let mut health = self.health.lock();
            if health.ejected_until.is_some_and(|until| until + self.patience <= now) {
                health.ejected_until = Some(now + ejection(health.ejections));
                health.on_trial = true;
            }
        }
        OpenCall(Arc::clone(self))
    }

    pub(crate) fn succeeded(&self) {
        if self.ailing.load(Ordering::Relaxed) {
            self.take_back(&mut self.health.lock());
        }
    }

    fn take_back(&self, health: &mut Health) {
        health.failures = 0;
        health.on_trial = false;
        health.doubted_until = None;
        if health.ejected_until.take().is_some() {
            health.good_since = Instant::now();
            self.meter.readmissions.add();
        }
        self.ailing.store(false, Ordering::Relaxed);
    }

    /// Notes a failure that may be chance.
    pub(crate) fn failed(&self) {
        self.meter.failures.add();
        let mut health = self.ail();
        health.failures = health.failures.saturating_add(1);
        if health.failures >= FAILURES_MAX {
            self.eject(&mut health, None);
        }
    }

    /// Notes that a hedge was faster, which may be chance too.
    pub(crate) fn out_hedged(&self) {
        self.meter.out_hedged.add();
        self.failed();
    }

    /// Has changes go round this node for a while, or until it has answered something: it left one without an answer.
    /// Whether it is at fault nobody knows: the whole cluster may be slow, or between two leaders.
    pub(crate) fn doubt(&self, now: Instant) {
        self.ail().doubted_until = Some(now + DOUBTED_FOR);
    }

    /// Tells whether changes are better sent elsewhere.
    pub(crate) fn is_doubted(&self, now: Instant) -> bool {
        self.ailing.load(Ordering::Relaxed)
            && self.health.lock().doubted_until.is_some_and(|until| until > now)
    }

    /// Notes that nobody is there.
    pub(crate) fn unreachable(&self) {
        self.meter.failures.add();
        self.eject(&mut self.ail(), None);
    }

    /// Says when to probe the node; if that is now, the probe counts as begun.
    pub(crate) fn next_probe(&self, now: Instant) -> NextProbe {
        let mut health = self.health.lock();
        if health.is_probed {
            return NextProbe::Begun;
        }
        let at = health.ejected_until.unwrap_or(health.probe_at);
        if at > now {
            return NextProbe::At(at);
        }
        health.is_probed = true;
        NextProbe::Now
    }

    /// Takes what a probe found.
    pub(crate) fn probed(&self, found: Probed) {
        // Under the lock, so that whoever ejects at the same time leaves flag and health in step.
        let mut health = self.health.lock();
        health.is_probed = false;
        health.probe_at = Instant::now() + jitter(PROBE_EVERY);
        match found {
            // Failures of calls are not forgiven for it: the node may be well and the way that calls take not.
            Probed::Well if health.ejected_until.is_some() => self.take_back(&mut health),
            Probed::Well => {}
            Probed::Silent
                if health.ejected_until.is_none() && health.failures + 1 < FAILURES_MAX =>
            {
                self.meter.failed_probes.add();
                self.ailing.store(true, Ordering::Relaxed);
                health.failures += 1;
                health.probe_at = Instant::now() + jitter(EJECTION_MIN);
            }
            Probed::Unwell | Probed::Silent | Probed::Refused => {
                self.meter.failed_probes.add();
                self.ailing.store(true, Ordering::Relaxed);
                let at_least = (found == Probed::Refused).then_some(REFUSED_FOR);
                self.eject(&mut health, at_least);
            }
        }
    }

    /// Begins to change a health that has something to say.
    fn ail(&self) -> MutexGuard<'_, Health> {
        // Under the lock, so that a success at the same time leaves flag and health in step.
        let health = self.health.lock();
        self.ailing.store(true, Ordering::Relaxed);
        health
    }

    fn eject(&self, health: &mut Health, at_least: Option<Duration>) {
        let now = Instant::now();
        // Many calls break together when a node dies: that is one ejection, not many.
        let is_news = std::mem::take(&mut health.on_trial);
        if !is_news && health.ejected_until.is_some_and(|until| until > now) {
            return;
        }
        let begins = health.ejected_until.is_none();
        if begins && now.duration_since(health.good_since) > FORGIVEN_AFTER {
            health.ejections = 0;
        }
        health.ejections = health.ejections.saturating_add(1);
        let time = jitter(ejection(health.ejections)).max(at_least.unwrap_or_default());
        health.ejected_until = Some(now + time);
        if begins {
            self.meter.ejections.add();
        }
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Returns what happened here.
    pub(crate) fn activity(&self, now: Instant) -> NodeActivity {
        let meter = &self.meter;
        NodeActivity {
            address: self.address.clone(),
            zone: self.zone().map(|zone| zone.to_string()),
            is_ejected: self.standing(now) != Standing::Good,
            open_attempts: self.open_calls(),
            attempts: meter.attempts.read(),
            retries: meter.retries.read(),
            hedges: meter.hedges.read(),
            hedges_won: meter.hedges_won.read(),
            out_hedged: meter.out_hedged.read(),
            failures: meter.failures.read(),
            ejections: meter.ejections.read(),
            readmissions: meter.readmissions.read(),
            failed_probes: meter.failed_probes.read(),
            spilled_calls: meter.spilled.read(),
            warming_calls: meter.warming.read(),
        }
    }
}

fn ejection(in_a_row: u32) -> Duration {
    EJECTION_MIN.saturating_mul(1 << in_a_row.saturating_sub(1).min(8)).min(EJECTION_MAX)
}

/// A call that is open at a node.
pub(crate) struct OpenCall(Arc<Node>);

impl OpenCall {
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open_calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;

    fn node_with(probes: bool) -> Arc<Node> {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let news = Arc::new(watch::Sender::new(0));
        Arc::new(Node::new("127.0.0.1:1".into(), None, true, channel, None, news, probes))
    }

    fn node() -> Arc<Node> {
        node_with(false)
    }

    fn standing(node: &Node) -> Standing {
        node.standing(Instant::now())
    }

    async fn advance(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn third_failure_in_a_row_ejects_and_a_success_forgives() {
        let node = node();
        node.failed();
        node.failed();
        node.succeeded();
        node.failed();
        node.out_hedged();
        assert_eq!(standing(&node), Standing::Good);
        node.out_hedged();
        assert_eq!(standing(&node), Standing::Ejected);
        node.succeeded();
        assert_eq!(standing(&node), Standing::Good);
        let activity = node.activity(Instant::now());
        assert_eq!((activity.failures, activity.out_hedged), (5, 2));
        assert_eq!((activity.ejections, activity.readmissions), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_tries_a_node_whose_ejection_is_over_if_nobody_probes_it() {
        for (probes, more) in [(false, Duration::ZERO), (true, PROBE_PATIENCE)] {
            let node = node_with(probes);
            node.unreachable();
            assert_eq!(standing(&node), Standing::Ejected);
            advance(EJECTION_MIN + more).await;
            assert_eq!(standing(&node), Standing::Due);
            let trying = node.enter(Instant::now());
            assert_eq!(standing(&node), Standing::Ejected);
            node.unreachable();
            drop(trying);
            assert_eq!(node.open_calls(), 0);
            // A try that never came back must not keep the node out for ever.
            advance(EJECTION_MAX + more).await;
            assert_eq!(standing(&node), Standing::Due);
        }
    }

    /// The trial's own failure was taken for one of the many that break together.
    #[tokio::test(start_paused = true)]
    async fn trial_that_fails_makes_the_next_one_later() {
        let node = node();
        node.unreachable();
        advance(EJECTION_MIN).await;
        for further in 1..4 {
            let trying = node.enter(Instant::now());
            node.unreachable();
            drop(trying);
            advance(EJECTION_MIN * (1 << further) / 2 - Duration::from_millis(1)).await;
            assert_eq!(standing(&node), Standing::Ejected);
            advance(EJECTION_MIN * (1 << further)).await;
            assert_eq!(standing(&node), Standing::Due);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn probe_takes_a_node_back_or_keeps_it_out_for_longer() {
        let node = node_with(true);
        assert!(matches!(node.next_probe(Instant::now()), NextProbe::At(_)));
        node.unreachable();
        let mut out = Vec::new();
        for _ in 0..4 {
            let NextProbe::At(at) = node.next_probe(Instant::now()) else { panic!("it is due") };
            out.push(at - Instant::now());
            tokio::time::sleep_until(at).await;
            assert_eq!(node.next_probe(at), NextProbe::Now);
            assert_eq!(node.next_probe(at), NextProbe::Begun);
            node.probed(Probed::Unwell);
            assert_eq!(standing(&node), Standing::Ejected);
        }
        assert!(out.is_sorted() && out[3] >= EJECTION_MIN * 4, "{out:?}");
        node.probed(Probed::Well);
        assert_eq!(standing(&node), Standing::Good);
        // It was out just now: the next time is no shorter.
        node.unreachable();
        let NextProbe::At(at) = node.next_probe(Instant::now()) else { panic!("it is due") };
        assert!(at - Instant::now() >= out[3], "{:?}", at - Instant::now());
        // But forgiven after a good while.
        node.succeeded();
        advance(FORGIVEN_AFTER * 2).await;
        node.unreachable();
        let NextProbe::At(at) = node.next_probe(Instant::now()) else { panic!("it is due") };
        assert!(at - Instant::now() <= EJECTION_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn node_that_says_it_does_not_serve_is_ejected_though_no_call_failed() {
        let node = node_with(true);
        node.probed(Probed::Well);
        assert_eq!(standing(&node), Standing::Good);
        node.probed(Probed::Unwell);
        assert_eq!(standing(&node), Standing::Ejected);
        node.probed(Probed::Well);
        assert_eq!(standing(&node), Standing::Good);
        // Silence once or twice may be chance, and is asked about again soon.
        for _ in 0..2 {
            node.probed(Probed::Silent);
            assert_eq!(standing(&node), Standing::Good);
            let NextProbe::At(at) = node.next_probe(Instant::now()) else { panic!("it is due") };
            assert!(at - Instant::now() <= EJECTION_MIN);
        }
        node.probed(Probed::Silent);
        assert_eq!(standing(&node), Standing::Ejected);
        node.probed(Probed::Well);
        // A refused certificate is not asked about again soon.
        node.probed(Probed::Refused);
        let NextProbe::At(at) = node.next_probe(Instant::now()) else { panic!("it is due") };
        assert!(at - Instant::now() >= REFUSED_FOR);
    }

    #[tokio::test(start_paused = true)]
    async fn hundred_calls_that_break_at_once_are_one_ejection() {
        let node = node();
        (0..100).for_each(|_| node.unreachable());
        assert_eq!(node.activity(Instant::now()).ejections, 1);
        advance(EJECTION_MIN).await;
        assert_eq!(standing(&node), Standing::Due);
    }

    #[test]
    fn ejections_in_a_row_grow_to_a_limit() {
        assert_eq!(ejection(1), EJECTION_MIN);
        assert_eq!(ejection(2), EJECTION_MIN * 2);
        assert_eq!(ejection(u32::MAX), EJECTION_MAX);
    }
}
