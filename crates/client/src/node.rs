//! One node: its channel and how it has behaved lately.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::Channel;

/// Failures in a row that eject a node.
const FAILURES_MAX: u32 = 3;
/// How long the first ejection lasts; each further one in a row twice as long.
const EJECTION_MIN: Duration = Duration::from_millis(250);
const EJECTION_MAX: Duration = Duration::from_secs(10);

/// A node of the cluster as this client sees it.
#[derive(Debug)]
pub(crate) struct Node {
    /// `address:port`, which is what the node is known by.
    pub(crate) address: String,
    zone: Mutex<Option<Arc<str>>>,
    channel: Channel,
    open_calls: AtomicU32,
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
    pub(crate) fn new(address: String, zone: Option<Arc<str>>, channel: Channel) -> Self {
        Self {
            address,
            zone: Mutex::new(zone),
            channel,
            open_calls: AtomicU32::new(0),
            health: Mutex::default(),
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn zone(&self) -> Option<Arc<str>> {
        self.zone.lock().clone()
    }

    pub(crate) fn learn_zone(&self, zone: &str) {
        *self.zone.lock() = Some(zone.into());
    }

    pub(crate) fn open_calls(&self) -> u32 {
        self.open_calls.load(Ordering::Relaxed)
    }

    pub(crate) fn standing(&self, now: Instant) -> Standing {
        match self.health.lock().ejected_until {
            None => Standing::Good,
            Some(until) if until <= now => Standing::Due,
            Some(_) => Standing::Ejected,
        }
    }

    /// Counts a call as open until the guard is dropped. A node that was due for a try is ejected for
    /// others until this one is over.
    pub(crate) fn enter(&self) -> OpenCall<'_> {
        self.open_calls.fetch_add(1, Ordering::Relaxed);
        let mut health = self.health.lock();
        let now = Instant::now();
        if health.ejected_until.is_some_and(|until| until <= now) {
            health.ejected_until = Some(now + ejection(health.ejections));
        }
        OpenCall(self)
    }

    pub(crate) fn succeeded(&self) {
        *self.health.lock() = Health::default();
    }

    /// Notes a failure that may be chance: a lost answer, a hedge that was faster.
    pub(crate) fn failed(&self) {
        let mut health = self.health.lock();
        health.failures = health.failures.saturating_add(1);
        if health.failures >= FAILURES_MAX {
            health.eject();
        }
    }

    /// Notes that nobody is there.
    pub(crate) fn unreachable(&self) {
        self.health.lock().eject();
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
#[derive(Debug)]
pub(crate) struct OpenCall<'a>(&'a Node);

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.0.open_calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;

    fn node() -> Node {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        Node::new("127.0.0.1:1".into(), None, channel)
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
        let trying = node.enter();
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
