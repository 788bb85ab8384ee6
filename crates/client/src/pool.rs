//! The nodes that this client knows, and which one to call next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::node::{News, Node, Standing};
use crate::spill::{Course, Near, course};
use crate::stream::{Lane, OPEN_MAX};

/// Most nodes that are kept: a cluster is far smaller.
const NODES_MAX: usize = 256;

/// Turns are counted up to here and from zero again: what is chosen then once looks long unused, which does no harm.
const TURNS: usize = 1 << 30;

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
    /// Whether somebody probes the nodes.
    probes: bool,
    turn: AtomicUsize,
    news: News,
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
    /// Whether to prefer nodes that left no change without an answer lately.
    pub(crate) doubted: bool,
}

/// A node that was picked, and why.
pub(crate) struct Pick {
    pub(crate) node: Arc<Node>,
    course: Course,
}

impl Pick {
    /// Counts the reason, of a call that goes there, and returns the node.
    pub(crate) fn take(self) -> Arc<Node> {
        let meter = &self.node.meter;
        match self.course {
            Course::Spill if !self.node.is_near() => meter.spilled.add(),
            Course::Warm if !self.node.is_near() => meter.warming.add(),
            Course::Near | Course::Spill | Course::Warm => {}
        }
        self.node
    }
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
        probes: bool,
        dial: Dial,
    ) -> Result<Self, tonic::transport::Error> {
        let zone: Option<Arc<str>> = zone.map(Arc::from);
        let news = Arc::new(watch::Sender::new(0));
        let known = RwLock::default();
        let pool = Self { known, dial, zone, streams, probes, turn: AtomicUsize::new(0), news };
        let nodes = given.iter().map(|(address, zone)| pool.node(address, zone.as_deref()));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        *pool.known.write() = Known { given: nodes.len(), nodes, ..Known::default() };
        Ok(pool)
    }

    fn node(
        &self,
        address: &str,
        zone: Option<&str>,
    ) -> Result<Arc<Node>, tonic::transport::Error> {
        let (channel, lane) = ((self.dial)(address)?, self.streams.then(Lane::default));
        let near = zone.is_some_and(|zone| self.is_near(zone));
        let (address, zone, news) = (address.to_owned(), zone.map(Arc::from), self.news.clone());
        Ok(Arc::new(Node::new(address, zone, near, channel, lane, news, self.probes)))
    }

    fn is_near(&self, zone: &str) -> bool {
        self.zone.as_deref() == Some(zone)
    }

    /// Chooses the node to call, as [`Self::pick`], and counts why.
    pub(crate) fn choose(&self, avoid: &Avoid, now: Instant) -> Option<Arc<Node>> {
        self.pick(avoid, now).map(Pick::take)
    }

    /// Picks the node to call: none that was tried; healthy before ejected; for a second attempt
    /// another zone, for the first one the near zone, or what [`crate::spill`] says; then the one with the fewest
    /// open calls, in turn among equals.
    pub(crate) fn pick(&self, avoid: &Avoid, now: Instant) -> Option<Pick> {
        let known = self.known.read();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % TURNS;
        let course =
            if avoid.tried.is_empty() { self.course(&known, turn, now) } else { Course::Near };
        let rank = |node: &&Arc<Node>| {
            let misplaced = self.zone.is_some() && node.is_near() != (course == Course::Near);
            // One call tries a node whose ejection is over; `enter` makes it ejected for the next ones.
            let bad =
                node.standing(now) == Standing::Ejected || (avoid.doubted && node.is_doubted(now));
            let last = node.chosen_at.load(Ordering::Relaxed);
            (bad, avoid.zone(node), misplaced, node.open_calls(), last)
        };
        let node = known.nodes.iter().filter(|node| !avoid.node(node)).min_by_key(rank)?;
        node.chosen_at.store(turn + 1, Ordering::Relaxed);
        Some(Pick { node: Arc::clone(node), course })
    }

    /// Looks how the client's own zone is, and says where the next call goes first.
    fn course(&self, known: &Known, turn: usize, now: Instant) -> Course {
        if self.zone.is_none() {
            return Course::Near;
        }
        let (mut near, mut far_is_good) = (Near::default(), false);
        for node in &known.nodes {
            let good = node.standing(now) != Standing::Ejected;
            if !node.is_near() {
                far_is_good |= good;
                continue;
            }
            let room = good && usize::try_from(node.open_calls()).is_ok_and(|n| n < OPEN_MAX);
            near.all += 1;
            near.good += u64::from(good);
            near.with_room += u64::from(room);
        }
        if far_is_good { course(turn, near) } else { Course::Near }
    }

    /// Returns all nodes.
    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        self.known.read().nodes.clone()
    }

    /// Tells of ejected and of new nodes.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
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

    /// Returns the node that leads, as far as this client knows; `None` too if it was silent or failed lately. Any
    /// other node hands changes on, and waits for the next leader if need be.
    pub(crate) fn leader(&self, now: Instant) -> Option<Arc<Node>> {
        let leader = self.known.read().leader.clone();
        leader.filter(|node| node.standing(now) != Standing::Ejected && !node.is_doubted(now))
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
                node.learn_zone(zone, self.is_near(zone));
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
        let node = self.node(address, zone).inspect_err(
            |error| tracing::debug!(address, %error, "address from the cluster is none"),
        );
        let node = node.ok()?;
        known.nodes.push(Arc::clone(&node));
        self.news.send_modify(|count| *count = count.wrapping_add(1));
        Some(node)
    }
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
        Pool::new(&given, zone.map(str::to_owned), true, false, Box::new(dial)).unwrap()
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
        assert_eq!(names.len(), 1, "one call in 64 keeps the other zone warm: {names:?}");
    }

    #[tokio::test]
    async fn far_nodes_are_kept_warm_in_turn() {
        let names = names(&pool(Some("b")), 6400);
        for far in ["a1:1", "a2:1"] {
            assert_eq!(names.iter().filter(|name| *name == far).count(), 50);
        }
    }

    #[tokio::test]
    async fn zone_that_lost_a_node_sends_three_tenths_of_its_calls_away() {
        let pool = pool(Some("a"));
        pool.at("a1:1").unwrap().unreachable();
        let names = names(&pool, 1000);
        let near = names.iter().filter(|name| *name == "a2:1").count();
        assert!((670..=710).contains(&near), "{near}");
        let far = |name| pool.at(name).unwrap().meter.spilled.read();
        assert!(far("b1:1") > 100 && far("b2:1") > 100 && far("b1:1") + far("b2:1") <= 310);
        // With nobody healthy far, all of it stays.
        ["b1:1", "b2:1"].iter().for_each(|name| pool.at(name).unwrap().unreachable());
        assert!(self::names(&pool, 100).iter().all(|name| name == "a2:1"));
    }

    #[tokio::test]
    async fn zone_whose_nodes_are_full_spills_over() {
        let pool = pool(Some("a"));
        let (one, two) = (pool.at("a1:1").unwrap(), pool.at("a2:1").unwrap());
        let now = Instant::now();
        let mut open: Vec<_> =
            (0..OPEN_MAX).flat_map(|_| [one.enter(now), two.enter(now)]).collect();
        assert!(names(&pool, 10).iter().all(|name| name.starts_with('b')));
        open.pop();
        assert_eq!(names(&pool, 1), ["a2:1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_node_is_gone_round_by_changes_until_it_answers_and_an_ejected_leader_too() {
        let pool = pool(Some("a"));
        let now = Instant::now;
        let is_led = |by: &str| pool.leader(now()).is_some_and(|leader| leader.address == by);
        let leader = pool.crown("a1:1").unwrap();
        assert!(is_led("a1:1"));
        leader.doubt(now());
        assert!(pool.leader(now()).is_none());
        let change = Avoid { doubted: true, ..Avoid::default() };
        let chosen = || pool.choose(&change, now()).unwrap().address.clone();
        assert!((0..10).all(|_| chosen() == "a2:1"));
        // Calls that use keys find out for themselves.
        assert!(names(&pool, 10).iter().any(|name| name == "a1:1"));
        leader.succeeded();
        assert!(is_led("a1:1"));
        leader.doubt(now());
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert!(is_led("a1:1"));
        leader.unreachable();
        assert!(pool.leader(now()).is_none());
        leader.succeeded();
        assert!(is_led("a1:1"));
    }

    #[tokio::test]
    async fn cluster_view_adds_and_removes_but_keeps_what_was_given() {
        let pool = pool(None);
        let view = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| (format!("{name}:1"), "c".to_owned())).collect()
        };
        pool.learn(&view(&["c1", "c2"]), Some("c1:1"));
        assert_eq!(pool.len(), 6);
        assert_eq!(pool.leader(Instant::now()).unwrap().address, "c1:1");
        pool.learn(&view(&["c2"]), None);
        assert_eq!(pool.len(), 5);
        assert!(pool.leader(Instant::now()).is_none());
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
