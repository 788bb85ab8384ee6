//! The policy against nodes that are closures, on a clock that stands still unless everybody waits.

use std::collections::BTreeMap;
use std::io;
use std::marker::Send;
use std::sync::OnceLock;

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use tonic::transport::Endpoint;
use tonic::{Code, ConnectError};
use twinkeep_proto::metadata;

use super::*;
use crate::budget::Budget;
use crate::error::Outcome;
use crate::latency::Latency;
use crate::memory::Memory;
use crate::metrics::Totals;
use crate::pool::Pool;

const MS: Duration = Duration::from_millis(1);
const NAMES: [&str; 4] = ["a1:1", "a2:1", "b1:1", "b2:1"];

/// What an attempt comes to, after a while.
#[derive(Debug, Clone, PartialEq)]
enum Fate {
    Answer(Duration),
    Silence,
    /// No connection came about.
    Unreachable(Duration),
    /// The connection broke.
    Breaks(Duration),
    Refuses(Duration, Code),
    /// Refuses, and vouches that nothing was changed.
    RefusesUndone(Duration, Code),
    /// Refuses, and says where the leader is.
    Hints(Duration, &'static str),
    /// Answers then, or so long after it was asked if that is later.
    AnswerAt(Instant, Duration),
}

struct Told;

impl Answer for Told {
    fn state_index(&self) -> u64 {
        0
    }
}

/// One attempt as its node saw it.
#[derive(Debug, Clone)]
struct Seen {
    node: String,
    at: Instant,
    fate: Fate,
}

type Script = dyn Fn(&str, Instant) -> Fate + Send + Sync;

/// Four nodes in two zones, and a client in zone a.
struct Sim {
    shared: Shared,
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
}

impl Sim {
    fn new(script: impl Fn(&str, Instant) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        let given = NAMES.map(|name| (name.to_owned(), Some(name[..1].to_owned())));
        let dial =
            |address: &str| Ok(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy());
        let pool = Pool::new(&given, Some("a".into()), false, false, Box::new(dial)).unwrap();
        let shared = Shared {
            pool,
            budget: Budget::full(),
            change_budget: Budget::full(),
            crypto_limit: Duration::from_secs(2),
            control_limit: Duration::from_secs(10),
            own: None,
            seen: Default::default(),
            single: Latency::new(),
            batch: Latency::new(),
            reading: Latency::new(),
            writing: Latency::new(),
            memory: Arc::new(Memory::fresh()),
            totals: Totals::default(),
            tasks: OnceLock::new(),
        };
        Arc::new(Self { shared, script: Box::new(script), seen: Mutex::default() })
    }

    async fn call(self: &Arc<Self>, safety: Safety) -> Result<Told, Error> {
        let limit = if safety.crypto() { 2000 * MS } else { 10_000 * MS };
        self.call_within(safety, limit).await.1
    }

    /// Makes a call; returns what its attempts were, too.
    async fn call_within(
        self: &Arc<Self>,
        safety: Safety,
        limit: Duration,
    ) -> (Vec<Seen>, Result<Told, Error>) {
        let own = Arc::new(Mutex::new(Vec::new()));
        let (sim, log) = (Arc::clone(self), Arc::clone(&own));
        let send = move |node: &Arc<Node>, _: Duration| {
            let (node, at) = (node.address.clone(), Instant::now());
            let fate = (sim.script)(&node, at);
            let seen = Seen { node, at, fate: fate.clone() };
            log.lock().push(seen.clone());
            sim.seen.lock().push(seen);
            live(fate).boxed()
        };
        let terms = Terms { safety, limit, only: None };
        let (began, begun) = (Instant::now(), Begun::Nothing);
        let result = call(&self.shared, &terms, began, begun, &send, &|_| Ok(())).await;
        let own = own.lock().clone();
        (own, result)
    }

    fn node(&self, name: &str) -> Arc<Node> {
        self.shared.pool.at(name).unwrap()
    }
}

async fn live(fate: Fate) -> Result<Told, Status> {
    match fate {
        Fate::Answer(after) => {
            sleep(after).await;
            Ok(Told)
        }
        Fate::AnswerAt(at, after) => {
            sleep_until(at.max(Instant::now() + after)).await;
            Ok(Told)
        }
        Fate::Silence => std::future::pending().await,
        Fate::Unreachable(after) => {
            sleep(after).await;
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            Err(Status::from_error(Box::new(ConnectError(Box::new(refused)))))
        }
        Fate::Breaks(after) => {
            sleep(after).await;
            Err(Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset))))
        }
        Fate::Refuses(after, code) => {
            sleep(after).await;
            Err(Status::new(code, "no"))
        }
        Fate::RefusesUndone(after, code) => {
            sleep(after).await;
            let mut status = Status::new(code, "no");
            status.metadata_mut().insert(metadata::NOT_DONE, "1".parse().unwrap());
            Err(status)
        }
        Fate::Hints(after, leader) => {
            sleep(after).await;
            let mut status = Status::unavailable("ask the leader");
            status.metadata_mut().insert(metadata::NOT_DONE, "1".parse().unwrap());
            status.metadata_mut().insert(metadata::LEADER, leader.parse().unwrap());
            Err(status)
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Makes a call every so often for a while, whatever became of the ones before; returns when each began and how
/// long it took.
async fn open_loop(
    sim: &Arc<Sim>,
    safety: Safety,
    every: Duration,
    calls: u32,
) -> Vec<(Instant, Duration)> {
    let mut tasks = JoinSet::new();
    for _ in 0..calls {
        let sim = Arc::clone(sim);
        tasks.spawn(async move {
            let began = Instant::now();
            sim.call(safety).await.map_err(|error| format!("{error:?}")).unwrap();
            (began, began.elapsed())
        });
        sleep(every).await;
    }
    tasks.join_all().await
}

fn at(mut times: Vec<Duration>, permille: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * permille / 1000).min(times.len() - 1)]
}

/// 1,000 calls a second, and the near zone is silent from the first second to the third.
#[tokio::test(start_paused = true)]
async fn silent_zone_costs_a_handful_of_calls_ten_milliseconds_each() {
    let begin = Instant::now() + 1000 * MS;
    let end = begin + 2000 * MS;
    let sim = Sim::new(move |node, now| match node.starts_with('a') && now >= begin && now < end {
        true => Fate::Silence,
        false => Fate::Answer(MS),
    });
    let calls = open_loop(&sim, Safety::Crypto, MS, 12_000).await;
    let slow: Vec<_> = calls.iter().filter(|(_, took)| *took > 2 * MS).collect();
    let longest = calls.iter().map(|(_, took)| *took).max().unwrap();
    let p999 = at(calls.iter().map(|(_, took)| *took).collect(), 999);
    println!("{} calls were slow, p99.9 {p999:?}, the longest {longest:?}", slow.len());
    assert!(longest <= 15 * MS, "{longest:?}");
    // Until three were out-hedged at each node, and one for each trial of a node later.
    assert!(slow.len() <= 40, "{}", slow.len());
    let activity = ["a1:1", "a2:1"].map(|name| sim.node(name).activity(Instant::now()));
    assert!(activity.iter().all(|node| node.ejections == 1 && !node.is_ejected), "{activity:?}");
    assert!(sim.shared.budget.left() > 1400, "{}", sim.shared.budget.left());
}

/// How much later changes are made because of this client's own pacing: beyond the moment at which the cluster has a
/// leader again, which the living zone waits for with the change in hand.
#[tokio::test(start_paused = true)]
async fn silent_leader_delays_changes_by_little_more_than_the_election_does() {
    let mut worst = Duration::ZERO;
    for shift in 0..40u32 {
        let lost = Instant::now() + 1500 * MS + shift * 3 * MS;
        let led = lost + 550 * MS;
        let sim = Sim::new(move |node, now| match node.starts_with('a') {
            true if now >= lost => Fate::Silence,
            _ if now >= lost => Fate::AnswerAt(led + 5 * MS, 5 * MS),
            _ => Fate::Answer(5 * MS),
        });
        sim.shared.pool.crown("a1:1").unwrap();
        // The other zone's view of the topology, which tells of changes within a fifth of a second.
        let learning = {
            let sim = Arc::clone(&sim);
            async move {
                sleep_until(led + 200 * MS).await;
                sim.shared.pool.crown("b1:1").unwrap();
            }
        };
        let learning = tokio::spawn(learning);
        let calls = open_loop(&sim, Safety::Repeatable, 9 * MS, 500).await;
        learning.await.unwrap();
        for (began, took) in calls {
            let needed = if began + 5 * MS < lost {
                5 * MS
            } else {
                led.saturating_duration_since(began) + 5 * MS
            };
            worst = worst.max(took.saturating_sub(needed));
        }
        assert!(sim.shared.budget.left() == 1500, "changes took what calls for keys need");
    }
    println!("a change was made at most {worst:?} later than the cluster could have made it");
    assert!(worst <= 60 * MS, "{worst:?}");
}

/// Without leader hints at all: the client knows no leader and its near zone is silent.
#[tokio::test(start_paused = true)]
async fn change_by_a_client_that_knows_no_leader_gets_out_of_a_silent_zone() {
    let sim = Sim::new(|node, _| match node.starts_with('a') {
        true => Fate::Silence,
        false => Fate::Answer(5 * MS),
    });
    let calls = open_loop(&sim, Safety::Repeatable, 200 * MS, 50).await;
    assert!(calls.iter().all(|(_, took)| *took <= 60 * MS), "{calls:?}");
    // The nodes are looked at again now and then, no more.
    let quick = calls.iter().filter(|(_, took)| *took <= 6 * MS).count();
    assert!(quick >= 30, "{quick} of 50");
}

#[tokio::test(start_paused = true)]
async fn hint_is_followed_at_once_even_after_all_nodes_were_tried() {
    let led = Instant::now() + 400 * MS;
    let sim = Sim::new(move |node, now| match node {
        "b2:1" if now >= led => Fate::Answer(MS),
        _ if now >= led => Fate::Hints(MS, "b2:1"),
        _ => Fate::RefusesUndone(MS, Code::Unavailable),
    });
    let (seen, result) = sim.call_within(Safety::Repeatable, 10_000 * MS).await;
    result.unwrap();
    let late = Instant::now() - led;
    assert!(late <= 90 * MS, "{late:?}");
    assert!(seen.len() <= 25, "{} attempts in 0.4 s", seen.len());
    assert_eq!(seen.last().unwrap().node, "b2:1");
}

/// The time of a hedge passed during a pause, and the attempt after the pause was hedged before it could answer.
#[tokio::test(start_paused = true)]
async fn attempt_after_a_pause_has_its_time_alone() {
    let begin = Instant::now() + 300 * MS;
    let sim = Sim::new(move |_, now| match now >= begin {
        true => Fate::Answer(5 * MS),
        false => Fate::RefusesUndone(MS, Code::Unavailable),
    });
    sim.call(Safety::Repeatable).await.unwrap();
    let activity = NAMES.map(|name| sim.node(name).activity(Instant::now()));
    assert!(activity.iter().all(|node| node.hedges == 0), "{activity:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_cluster_ejects_no_node_for_its_changes() {
    // Every change waits for a second, wherever it is sent: a zone is lost, and not given up yet.
    let sim = Sim::new(|_, _| Fate::Answer(1000 * MS));
    sim.shared.pool.crown("a1:1").unwrap();
    open_loop(&sim, Safety::Repeatable, 20 * MS, 100).await;
    for name in NAMES {
        assert_eq!(sim.node(name).activity(Instant::now()).ejections, 0, "{name}");
    }
    let per_call = sim.seen.lock().len() / 100;
    assert!(per_call <= 3, "{per_call} attempts for each");
}

#[tokio::test(start_paused = true)]
async fn slow_disks_are_learnt_and_their_changes_not_sent_twice_for_ever() {
    let sim = Sim::new(|_, _| Fate::Answer(120 * MS));
    sim.shared.pool.crown("a1:1").unwrap();
    open_loop(&sim, Safety::Repeatable, 50 * MS, 100).await;
    sim.seen.lock().clear();
    open_loop(&sim, Safety::Repeatable, 50 * MS, 100).await;
    assert_eq!(sim.seen.lock().len(), 100);
}

/// Over cold connections a change is hedged before its first attempt is answered. The refusal of one attempt ended as a
/// call whose outcome nobody knows, though the other one was refused a millisecond later.
#[tokio::test(start_paused = true)]
async fn change_that_is_refused_by_both_nodes_that_it_is_at_is_known_not_to_be_made() {
    let sim = Sim::new(|node, _| match node.starts_with('a') {
        true => Fate::Refuses(200 * MS, Code::NotFound),
        false => Fate::Refuses(100 * MS, Code::NotFound),
    });
    let (seen, result) = sim.call_within(Safety::Repeatable, 10_000 * MS).await;
    assert!(seen.len() > 1, "{seen:?}");
    let error = result.err().expect("all refuse it");
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotDone);
}

#[tokio::test(start_paused = true)]
async fn change_that_another_node_makes_after_one_refused_it_is_made() {
    let sim = Sim::new(|node, _| match node.starts_with('a') {
        true => Fate::Answer(250 * MS),
        false => Fate::Refuses(100 * MS, Code::NotFound),
    });
    sim.call(Safety::Repeatable).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refused_change_waits_for_silent_attempts_a_moment_and_does_not_claim_to_know() {
    let sim = Sim::new(|node, _| match node.starts_with('a') {
        true => Fate::Silence,
        false => Fate::Refuses(100 * MS, Code::NotFound),
    });
    let began = Instant::now();
    let (seen, result) = sim.call_within(Safety::Repeatable, 10_000 * MS).await;
    let refused = seen.iter().filter(|seen| seen.fate != Fate::Silence).map(|seen| seen.at);
    let refused = refused.min().expect("a node of zone b was asked") + 100 * MS;
    let waited = began.elapsed() - (refused - began);
    assert!((SETTLE_MAX..SETTLE_MAX + 2 * MS).contains(&waited), "{waited:?}: {seen:?}");
    assert_eq!(result.err().map(|error| error.outcome()), Some(Outcome::Unknown));
}

#[tokio::test(start_paused = true)]
async fn brown_out_is_not_amplified() {
    // Everybody refuses everything.
    let sim = Sim::new(|_, _| Fate::Refuses(MS, Code::Unavailable));
    for _ in 0..5000 {
        let error = sim.call(Safety::Crypto).await.err().expect("it is refused");
        assert!(error.is_retryable());
    }
    // 1,500 further attempts are the budget; nothing refills it.
    assert_eq!(sim.seen.lock().len(), 6500);
    assert!(sim.shared.totals.budget_refusals.read() >= 4000);
    assert_eq!(sim.shared.totals.failed_calls.read(), 5000);
}

#[tokio::test(start_paused = true)]
async fn node_that_is_slow_among_quick_ones_is_left_alone() {
    let sim = Sim::new(|node, _| match node {
        "a1:1" => Fate::Answer(100 * MS),
        _ => Fate::Answer(MS),
    });
    let calls = open_loop(&sim, Safety::Crypto, MS, 10_000).await;
    let longest = calls.iter().map(|(_, took)| *took).max().unwrap();
    assert!(longest <= 15 * MS, "{longest:?}");
    let slow = sim.node("a1:1").activity(Instant::now());
    // A tenth of a second's worth, at its trials: it gets no better.
    assert!(slow.attempts <= 100 && slow.hedges_won == 0, "{slow:?}");
}

/// The streams of two nodes carry 512 calls, and all of them broke at once: more than the budget had.
#[tokio::test(start_paused = true)]
async fn zone_that_breaks_with_a_thousand_calls_open_fails_none() {
    let dies = Instant::now() + 100 * MS;
    let sim = Sim::new(move |node, now| match node.starts_with('a') {
        true if now < dies => Fate::Breaks(dies - now),
        true => Fate::Unreachable(MS),
        false => Fate::Answer(MS),
    });
    // Calls take their time here, so that none is hedged before the zone dies.
    (0..100).for_each(|_| sim.shared.single.record(200 * MS));
    let calls = open_loop(&sim, Safety::Crypto, MS / 20, 1000).await;
    assert!(calls.iter().all(|(_, took)| *took < 110 * MS));
    assert!(sim.shared.budget.left() >= 500, "{}", sim.shared.budget.left());
}

#[tokio::test(start_paused = true)]
async fn node_that_flaps_fails_no_call() {
    let start = Instant::now();
    let sim = Sim::new(move |node, now| {
        let phase = (now - start).as_millis() / 40 % 4;
        match (node, phase) {
            ("a1:1", 0) => Fate::Silence,
            ("a1:1", 1) => Fate::Unreachable(MS),
            ("a1:1", 2) => Fate::Breaks(3 * MS),
            _ => Fate::Answer(MS),
        }
    });
    let calls = open_loop(&sim, Safety::Crypto, MS, 10_000).await;
    let longest = calls.iter().map(|(_, took)| *took).max().unwrap();
    assert!(longest <= 30 * MS, "{longest:?}");
    let slow = calls.iter().filter(|(_, took)| *took > 2 * MS).count();
    println!("{slow} of 10000 calls were slow, the longest {longest:?}");
    assert!(slow <= 300, "{slow}");
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_counted() {
    let sim = Sim::new(|node, _| match node {
        "a1:1" => Fate::Silence,
        "a2:1" => Fate::Refuses(MS, Code::Unavailable),
        _ => Fate::Answer(MS),
    });
    for _ in 0..4 {
        sim.call(Safety::Crypto).await.unwrap();
    }
    let far: Vec<_> = ["b1:1", "b2:1"].map(|n| sim.node(n).activity(Instant::now())).into();
    let sum = |what: fn(&crate::NodeActivity) -> u64| far.iter().map(what).sum::<u64>();
    let near = sim.node("a1:1").activity(Instant::now());
    assert_eq!((sum(|n| n.hedges), sum(|n| n.hedges_won)), (2, 2));
    assert_eq!(sum(|n| n.retries), 2);
    assert_eq!((near.attempts, near.out_hedged, near.failures), (2, 2, 2));
}

/// What a node does, one attempt after the other; final refusals among it or not.
fn fates(final_too: bool) -> impl Strategy<Value = Vec<Fate>> {
    let time = (0u32..40).prop_map(|ms| ms * MS);
    let codes = [
        Code::Unavailable,
        Code::Aborted,
        Code::Internal,
        Code::DataLoss,
        Code::PermissionDenied,
        Code::ResourceExhausted,
    ];
    let codes = codes[..if final_too { codes.len() } else { 1 }].to_vec();
    let fate = prop_oneof![
        3 => time.clone().prop_map(Fate::Answer),
        1 => Just(Fate::Silence),
        1 => time.clone().prop_map(Fate::Unreachable),
        1 => time.clone().prop_map(Fate::Breaks),
        1 => (time.clone(), prop::sample::select(codes))
            .prop_map(|(time, code)| Fate::Refuses(time, code)),
        1 => time.clone().prop_map(|time| Fate::RefusesUndone(time, Code::Unavailable)),
        1 => (time, prop::sample::select(NAMES.to_vec())).prop_map(|(t, name)| Fate::Hints(t, name)),
    ];
    prop::collection::vec(fate, 1..6)
}

fn safeties() -> impl Strategy<Value = Safety> {
    use Safety::{Batch, Crypto, Laborious, Once, Read, Repeatable};
    prop::sample::select(vec![Batch, Crypto, Laborious, Once, Read, Repeatable])
}

/// Whether an attempt of this fate may have changed something.
fn may_have_acted(fate: &Fate) -> bool {
    match fate {
        Fate::Answer(_) | Fate::AnswerAt(..) | Fate::Silence | Fate::Breaks(_) => true,
        Fate::Unreachable(_) | Fate::RefusesUndone(..) | Fate::Hints(..) => false,
        Fate::Refuses(_, code) => matches!(code, Code::Unavailable | Code::Internal),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever nodes do: a call ends in time, is tried no more often than it may be, and one that must happen once
    /// is not sent again after it may have happened; and who is told that it did not happen was told the truth.
    #[test]
    fn no_node_can_make_a_call_break_its_rules(
        fates in prop::collection::vec(fates(true), 4..=4),
        safety in safeties(),
        limit in 20u32..800,
    ) {
        let runtime = runtime();
        let _guard = runtime.enter();
        let counts = Mutex::new(BTreeMap::<String, usize>::new());
        let script = move |node: &str, _: Instant| {
            let mut counts = counts.lock();
            let count = counts.entry(node.to_owned()).or_default();
            let own = &fates[NAMES.iter().position(|name| *name == node).unwrap()];
            let fate = own[*count % own.len()].clone();
            *count += 1;
            fate
        };
        let sim = runtime.block_on(async { Sim::new(script) });
        let (began, seen, result, took) = runtime.block_on(async {
            let began = Instant::now();
            let (seen, result) = sim.call_within(safety, limit * MS).await;
            (began, seen, result, began.elapsed())
        });
        prop_assert!(took <= limit * MS + MS, "{took:?}");
        let sent = seen.iter().filter(|seen| !matches!(seen.fate, Fate::Unreachable(_)));
        if !safety.writes() {
            prop_assert!(sent.count() <= 3, "{seen:?}");
        }
        prop_assert!(seen.len() <= 12 + 3 * limit as usize / 10, "a storm: {} attempts", seen.len());
        if safety == Safety::Once {
            let acted = seen.iter().position(|seen| may_have_acted(&seen.fate));
            prop_assert!(acted.is_none_or(|acted| acted == seen.len() - 1), "{seen:?}");
        }
        // Nobody is asked while it is asked already.
        for (index, one) in seen.iter().enumerate() {
            let again = seen[..index].iter().filter(|other| other.node == one.node);
            for other in again {
                prop_assert!(other.fate != Fate::Silence, "{seen:?}");
            }
        }
        match result {
            Ok(_) => {}
            Err(error) if error.outcome() == Outcome::NotDone && safety.writes() => {
                let acted = seen.iter().find(|seen| may_have_acted(&seen.fate));
                prop_assert!(acted.is_none(), "{error:?} after {seen:?}");
            }
            Err(_) => {}
        }
        prop_assert!(seen.iter().all(|seen| seen.at >= began));
    }

    /// One zone may do what it likes, short of final refusals: the other one answers the call soon.
    #[test]
    fn one_good_zone_is_enough(near in fates(false), far in fates(false), good_is_near: bool, delay in 0u32..4) {
        let runtime = runtime();
        let _guard = runtime.enter();
        let counts = Mutex::new(BTreeMap::<String, usize>::new());
        let script = move |node: &str, _: Instant| {
            if node.starts_with('a') == good_is_near {
                return Fate::Answer(delay * MS);
            }
            let mut counts = counts.lock();
            let count = counts.entry(node.to_owned()).or_default();
            *count += 1;
            let own = if node.contains('1') { &near } else { &far };
            own[*count % own.len()].clone()
        };
        let sim = runtime.block_on(async { Sim::new(script) });
        for _ in 0..20 {
            let hedge = sim.shared.hedge_after(Safety::Crypto);
            let (seen, result, took) = runtime.block_on(async {
                let began = Instant::now();
                let (seen, result) = sim.call_within(Safety::Crypto, 2000 * MS).await;
                (seen, result, began.elapsed())
            });
            prop_assert!(result.is_ok(), "{:?} after {seen:?}", result.err());
            // A hedge may come 2 x p95 after the first attempt, and attempts of the bad zone take up to 40 ms.
            prop_assert!(took <= hedge + delay * MS + 2 * MS, "{took:?} {hedge:?}: {seen:?}");
        }
    }
}
