//! The nodes that this client knows, and which one to call next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::node::{Node, Standing};
use crate::stream::Lane;

/// Most nodes that are kept: a cluster is far smaller.
const NODES_MAX: usize = 256;

/// Makes the channel to an address; connects on first use.
pub(crate) type Dial = Box<dyn Fn(&str) -> Result<Channel, tonic::transport::Error> + Send + Sync>;

/// All nodes.
pub(crate) struct Pool {
    known: RwLock<Known>,
    dial: Dial,
    /// The zone that this client is in.
    zone: Option<Arc<str>>,
    /// Whether calls that use keys share one stream per node.
    streams: bool,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Known {
    nodes: Vec<Arc<Node>>,
    /// How many of them were given at the start; they are never forgotten.
    given: usize,
    leader: Option<Arc<Node>>,
}

/// What to avoid in a choice.
#[derive(Default)]
pub(crate) struct Avoid {
    /// Nodes that were tried.
    pub(crate) tried: Vec<Arc<Node>>,
    /// Whether to prefer a zone that none of the tried nodes is in.
    pub(crate) zones: bool,
}

impl Avoid {
    fn node(&self, node: &Arc<Node>) -> bool {
        self.tried.iter().any(|tried| Arc::ptr_eq(tried, node))
    }

    fn zone(&self, node: &Arc<Node>) -> bool {
        let mut zones = self.tried.iter().filter_map(|node| node.zone());
        self.zones && zones.any(|tried| node.is_in(&tried))
    }
}

impl Pool {
    /// Begins with the nodes given: address and zone.
    pub(crate) fn new(
        given: &[(String, Option<String>)],
        zone: Option<String>,
        streams: bool,
        dial: Dial,
    ) -> Result<Self, tonic::transport::Error> {
        let nodes = given.iter().map(|(address, zone)| {
            let zone = zone.as_deref().map(Arc::from);
            Ok(Arc::new(Node::new(address.clone(), zone, dial(address)?, lane(streams))))
        });
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let known = RwLock::new(Known { given: nodes.len(), nodes, leader: None });
        let (zone, turn) = (zone.map(Arc::from), AtomicUsize::new(0));
        Ok(Self { known, dial, zone, streams, turn })
    }

    /// Chooses the node to call: none that was tried; healthy before ejected; for a second attempt
    /// another zone, else the near one; then the one with the fewest open calls, in turn among equals.
    pub(crate) fn choose(&self, avoid: &Avoid, now: Instant) -> Option<Arc<Node>> {
        let known = self.known.read();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = known.nodes.len().max(1);
        let rank = |(index, node): &(usize, &Arc<Node>)| {
            let far = self.zone.as_ref().is_some_and(|zone| !node.is_in(zone));
            // One call tries a node whose ejection is over; `enter` makes it ejected for the next ones.
            let bad = node.standing(now) == Standing::Ejected;
            let place = (index + count - turn % count) % count;
            (bad, avoid.zone(node), far, node.open_calls(), place)
        };
        let candidates = known.nodes.iter().enumerate().filter(|(_, node)| !avoid.node(node));
        candidates.min_by_key(rank).map(|(_, node)| Arc::clone(node))
    }

    /// Makes further calls over new connections; open ones go on over the old ones.
    pub(crate) fn redial(&self) {
        for node in &self.known.read().nodes {
            match (self.dial)(&node.address) {
                Ok(channel) => node.renew(channel),
                Err(error) => tracing::debug!(node.address, %error, "a good address turned bad"),
            }
        }
    }

    /// Returns the node that leads, as far as this client knows.
    pub(crate) fn leader(&self) -> Option<Arc<Node>> {
        self.known.read().leader.clone()
    }

    /// Forgets the leader, if it still is this node.
    pub(crate) fn depose(&self, node: &Arc<Node>) {
        let mut known = self.known.write();
        if known.leader.as_ref().is_some_and(|leader| Arc::ptr_eq(leader, node)) {
            known.leader = None;
        }
    }

    /// Notes where the leader is; an unknown address becomes a node.
    pub(crate) fn crown(&self, address: &str) -> Option<Arc<Node>> {
        let mut known = self.known.write();
        let leader = self.find_or_add(&mut known, address, None)?;
        known.leader = Some(Arc::clone(&leader));
        Some(leader)
    }

    /// Returns the node of an address, new if need be.
    pub(crate) fn at(&self, address: &str) -> Option<Arc<Node>> {
        self.find_or_add(&mut self.known.write(), address, None)
    }

    pub(crate) fn len(&self) -> usize {
        self.known.read().nodes.len()
    }

    /// Takes the cluster's own view: address and zone of each node, and the leader's address.
    ///
    /// Nodes given at the start stay, so that a view from a lost node never leaves the client alone.
    pub(crate) fn learn(&self, view: &[(String, String)], leader: Option<&str>) {
        let mut known = self.known.write();
        let given = known.given;
        let mut index = 0;
        known.nodes.retain(|node| {
            index += 1;
            index <= given || view.iter().any(|(address, _)| *address == node.address)
        });
        for (address, zone) in view {
            if let Some(node) = self.find_or_add(&mut known, address, Some(zone)) {
                node.learn_zone(zone);
            }
        }
        known.leader = leader.and_then(|address| self.find_or_add(&mut known, address, None));
    }

    fn find_or_add(
        &self,
        known: &mut Known,
        address: &str,
        zone: Option<&str>,
    ) -> Option<Arc<Node>> {
        if let Some(node) = known.nodes.iter().find(|node| node.address == address) {
            return Some(Arc::clone(node));
        }
        if known.nodes.len() >= NODES_MAX {
            return None;
        }
        let channel = (self.dial)(address)
            .inspect_err(
                |error| tracing::debug!(address, %error, "address from the cluster is none"),
            )
            .ok()?;
        let (address, zone) = (address.to_owned(), zone.map(Arc::from));
        let node = Arc::new(Node::new(address, zone, channel, lane(self.streams)));
        known.nodes.push(Arc::clone(&node));
        Some(node)
    }
}

fn lane(streams: bool) -> Option<Lane> {
    streams.then(Lane::default)
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;

    fn pool(zone: Option<&str>) -> Pool {
        let given = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")]
            .map(|(name, zone)| (format!("{name}:1"), Some(zone.to_owned())));
        let dial =
            |address: &str| Ok(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy());
        Pool::new(&given, zone.map(str::to_owned), true, Box::new(dial)).unwrap()
    }

    fn names(pool: &Pool, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| pool.choose(&Avoid::default(), Instant::now()).unwrap().address.clone())
            .collect()
    }

    #[tokio::test]
    async fn near_zone_is_called_in_turn() {
        let mut names = names(&pool(Some("b")), 100);
        let first = names.iter().filter(|name| *name == "b1:1").count();
        assert!((25..=75).contains(&first), "{first}");
        names.retain(|name| name.starts_with('a'));
        assert!(names.is_empty(), "{names:?}");
    }

    #[tokio::test]
    async fn without_a_zone_all_nodes_are_called_in_turn() {
        let mut names = names(&pool(None), 8);
        names.sort();
        assert_eq!(names, ["a1:1", "a1:1", "a2:1", "a2:1", "b1:1", "b1:1", "b2:1", "b2:1"]);
    }

    #[tokio::test]
    async fn second_attempt_goes_to_the_other_zone_and_the_third_to_a_fresh_node() {
        let pool = pool(Some("a"));
        let mut avoid = Avoid { zones: true, ..Avoid::default() };
        let mut zones = Vec::new();
        while let Some(node) = pool.choose(&avoid, Instant::now()) {
            zones.push(node.zone().unwrap().to_string());
            avoid.tried.push(node);
        }
        assert_eq!(zones.len(), 4);
        assert_eq!(zones[..2], ["a", "b"]);
    }

    #[tokio::test]
    async fn ejected_nodes_are_called_when_there_are_no_others() {
        let pool = pool(Some("a"));
        for address in ["a1:1", "a2:1"] {
            pool.at(address).unwrap().unreachable();
        }
        assert!(names(&pool, 10).iter().all(|name| name.starts_with('b')));
        for address in ["b1:1", "b2:1"] {
            pool.at(address).unwrap().unreachable();
        }
        assert!(names(&pool, 10).iter().all(|name| name.starts_with('a')));
    }

    #[tokio::test]
    async fn busy_node_is_spared() {
        let pool = pool(Some("a"));
        let busy = pool.at("a1:1").unwrap();
        let _open = busy.enter(Instant::now());
        assert!(names(&pool, 10).iter().all(|name| name == "a2:1"));
    }

    #[tokio::test]
    async fn cluster_view_adds_and_removes_but_keeps_what_was_given() {
        let pool = pool(None);
        let view = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| (format!("{name}:1"), "c".to_owned())).collect()
        };
        pool.learn(&view(&["c1", "c2"]), Some("c1:1"));
        assert_eq!(pool.len(), 6);
        assert_eq!(pool.leader().unwrap().address, "c1:1");
        pool.learn(&view(&["c2"]), None);
        assert_eq!(pool.len(), 5);
        assert!(pool.leader().is_none());
        pool.learn(&view(&["a1"]), None);
        assert_eq!(pool.len(), 4);
        assert_eq!(pool.at("a1:1").unwrap().zone().as_deref(), Some("c"));
    }

    #[tokio::test]
    async fn number_of_nodes_is_bounded_whatever_the_cluster_says() {
        let pool = pool(None);
        let view: Vec<_> = (0..1000).map(|n| (format!("n{n}:1"), "z".to_owned())).collect();
        pool.learn(&view, None);
        assert_eq!(pool.len(), NODES_MAX);
        assert!(pool.crown("another:1").is_none());
    }
}
