//! One node: its channel and how it has behaved lately.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::stream::Lane;

/// Failures in a row that eject a node.
const FAILURES_MAX: u32 = 3;
/// How long the first ejection lasts; each further one in a row twice as long.
const EJECTION_MIN: Duration = Duration::from_millis(250);
const EJECTION_MAX: Duration = Duration::from_secs(10);

/// A node of the cluster as this client sees it.
pub(crate) struct Node {
    /// `address:port`, which is what the node is known by.
    pub(crate) address: String,
    zone: Mutex<Option<Arc<str>>>,
    channel: RwLock<Channel>,
    /// `None` if calls are to go one by one.
    lane: Option<Lane>,
    open_calls: AtomicU32,
    /// Whether `health` has anything to say; most nodes most of the time are well, and nobody takes the lock.
    ailing: AtomicBool,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    ejections: u32,
    ejected_until: Option<Instant>,
}

/// Whether to call a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It has answered, or nothing is known against it.
    Good,
    /// Its ejection is over: one call may try it.
    Due,
    /// It has failed lately.
    Ejected,
}

impl Node {
    pub(crate) fn new(
        address: String,
        zone: Option<Arc<str>>,
        channel: Channel,
        lane: Option<Lane>,
    ) -> Self {
        Self {
            address,
            zone: Mutex::new(zone),
            channel: RwLock::new(channel),
            lane,
            open_calls: AtomicU32::new(0),
            ailing: AtomicBool::new(false),
            health: Mutex::default(),
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.read().clone()
    }

    /// Returns what carries the node's crypto stream, if streams are to be used.
    pub(crate) fn lane(&self) -> Option<&Lane> {
        self.lane.as_ref()
    }

    /// Makes further calls over another channel; open ones go on over the old one.
    pub(crate) fn renew(&self, channel: Channel) {
        *self.channel.write() = channel;
        if let Some(lane) = &self.lane {
            lane.renew();
        }
    }

    pub(crate) fn zone(&self) -> Option<Arc<str>> {
        self.zone.lock().clone()
    }

    pub(crate) fn is_in(&self, zone: &str) -> bool {
        self.zone.lock().as_deref() == Some(zone)
    }

    pub(crate) fn learn_zone(&self, zone: &str) {
        *self.zone.lock() = Some(zone.into());
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
            Some(until) if until <= now => Standing::Due,
            Some(_) => Standing::Ejected,
        }
    }

    /// Counts a call as open until the guard is dropped. A node that was due for a try is ejected for
    /// others until this one is over.
    pub(crate) fn enter(self: &Arc<Self>, now: Instant) -> OpenCall {
        self.open_calls.fetch_add(1, Ordering::Relaxed);
        if self.ailing.load(Ordering::Relaxed) {
            let mut health = self.health.lock();
            if health.ejected_until.is_some_and(|until| until <= now) {
                health.ejected_until = Some(now + ejection(health.ejections));
            }
        }
        OpenCall(Arc::clone(self))
    }

    pub(crate) fn succeeded(&self) {
        if self.ailing.load(Ordering::Relaxed) {
            let mut health = self.health.lock();
            *health = Health::default();
            self.ailing.store(false, Ordering::Relaxed);
        }
    }

    /// Notes a failure that may be chance: a lost answer, a hedge that was faster.
    pub(crate) fn failed(&self) {
        self.ail(|health| {
            health.failures = health.failures.saturating_add(1);
            if health.failures >= FAILURES_MAX {
                health.eject();
            }
        });
    }

    /// Notes that nobody is there.
    pub(crate) fn unreachable(&self) {
        self.ail(Health::eject);
    }

    fn ail(&self, how: impl FnOnce(&mut Health)) {
        // Under the lock, so that a success at the same time leaves flag and health in step.
        let mut health = self.health.lock();
        self.ailing.store(true, Ordering::Relaxed);
        how(&mut health);
    }
}

impl Health {
    fn eject(&mut self) {
        let now = Instant::now();
        // Many calls break together when a node dies: that is one ejection, not many.
        if self.ejected_until.is_none_or(|until| until <= now) {
            self.ejections = self.ejections.saturating_add(1);
            self.ejected_until = Some(now + ejection(self.ejections));
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

    fn node() -> Arc<Node> {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        Arc::new(Node::new("127.0.0.1:1".into(), None, channel, None))
    }

    fn standing(node: &Node) -> Standing {
        node.standing(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn third_failure_in_a_row_ejects_and_a_success_forgives() {
        let node = node();
        node.failed();
        node.failed();
        node.succeeded();
        node.failed();
        node.failed();
        assert_eq!(standing(&node), Standing::Good);
        node.failed();
        assert_eq!(standing(&node), Standing::Ejected);
        node.succeeded();
        assert_eq!(standing(&node), Standing::Good);
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_tries_a_node_whose_ejection_is_over() {
        let node = node();
        node.unreachable();
        assert_eq!(standing(&node), Standing::Ejected);
        tokio::time::advance(EJECTION_MIN).await;
        assert_eq!(standing(&node), Standing::Due);
        let trying = node.enter(Instant::now());
        assert_eq!(standing(&node), Standing::Ejected);
        node.unreachable();
        drop(trying);
        assert_eq!(node.open_calls(), 0);
        // A try that never came back must not keep the node out for ever.
        tokio::time::advance(EJECTION_MAX).await;
        assert_eq!(standing(&node), Standing::Due);
    }

    #[tokio::test(start_paused = true)]
    async fn hundred_calls_that_break_at_once_are_one_ejection() {
        let node = node();
        (0..100).for_each(|_| node.unreachable());
        tokio::time::advance(EJECTION_MIN).await;
        assert_eq!(standing(&node), Standing::Due);
    }

    #[test]
    fn ejections_in_a_row_grow_to_a_limit() {
        assert_eq!(ejection(1), EJECTION_MIN);
        assert_eq!(ejection(2), EJECTION_MIN * 2);
        assert_eq!(ejection(u32::MAX), EJECTION_MAX);
    }
}
