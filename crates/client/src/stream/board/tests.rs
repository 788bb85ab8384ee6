use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn times() -> Times {
    let now = Instant::now();
    Times { late: now + Duration::from_millis(10), overdue: now + Duration::from_secs(10) }
}

fn place(board: &mut Board) -> Option<CallId> {
    board.place(v1::CryptoStreamRequest::default(), times())
}

fn given() -> Option<Given> {
    Some(Given::Error(v1::CallError::default()))
}

fn is_answered(board: &mut Board, id: CallId) -> bool {
    matches!(board.look(id, Waker::noop()), Look::Answered(Some(_)))
}

#[test]
fn answer_frees_the_place_once_it_is_taken_and_the_next_call_has_another_number() {
    let mut board = Board::default();
    let id = place(&mut board).unwrap();
    assert_eq!(board.take_out().unwrap().call_id, id.0);
    assert!(matches!(board.look(id, Waker::noop()), Look::Waiting));
    assert!(board.answer(id.0, given()).unwrap().is_some());
    assert_eq!(board.open(), 1);
    assert!(is_answered(&mut board, id));
    assert_eq!((board.open(), board.take_freed()), (0, 1));
    let next = place(&mut board).unwrap();
    assert_eq!(next.place(), id.place());
    assert_ne!(next, id);
}

#[test]
fn answers_that_nobody_waits_for_are_strangers() {
    let mut board = Board::default();
    assert_eq!(board.answer(0, given()).unwrap_err(), Stranger);
    assert_eq!(board.answer(u64::MAX, given()).unwrap_err(), Stranger);
    let id = place(&mut board).unwrap();
    // It has not left yet, so nobody can have answered it.
    assert_eq!(board.answer(id.0, given()).unwrap_err(), Stranger);
    board.take_out().unwrap();
    board.answer(id.0, given()).unwrap();
    assert_eq!(board.answer(id.0, given()).unwrap_err(), Stranger);
    assert!(is_answered(&mut board, id));
    assert_eq!(board.answer(id.0, given()).unwrap_err(), Stranger);
}

#[test]
fn doubt_is_told_once_to_one_call_that_has_left_and_then_to_another() {
    let mut board = Board::default();
    let ids: Vec<_> = (0..3).map(|_| place(&mut board).unwrap()).collect();
    assert!(!board.doubt().0, "none has left");
    board.take_out().unwrap();
    board.take_out().unwrap();
    for id in &ids[..2] {
        assert!(board.doubt().0);
        assert!(matches!(board.look(*id, Waker::noop()), Look::Doubted));
        assert!(matches!(board.look(*id, Waker::noop()), Look::Waiting));
    }
    assert!(!board.doubt().0, "the third has not left");
    board.answer(ids[0].0, given()).unwrap();
    assert!(is_answered(&mut board, ids[0]));
    place(&mut board).unwrap();
    while board.take_out().is_some() {}
    assert!(board.doubt().0, "a new call at the old place");
}

#[test]
fn call_given_up_before_it_left_never_leaves() {
    let mut board = Board::default();
    let id = place(&mut board).unwrap();
    assert!(!board.give_up(id));
    assert!(board.take_out().is_none());
    assert_eq!(board.open(), 0);
}

#[test]
fn call_given_up_after_it_left_is_cancelled_and_holds_its_place_until_the_answer() {
    let mut board = Board::default();
    let id = place(&mut board).unwrap();
    board.take_out().unwrap();
    assert!(board.give_up(id));
    let cancel = board.take_out().unwrap();
    assert_eq!((cancel.call_id, cancel.body), (id.0, Some(Body::Cancel(v1::CancelCall {}))));
    assert_eq!(board.open(), 1);
    assert!(board.answer(id.0, given()).unwrap().is_none());
    assert_eq!(board.open(), 0);
}

#[test]
fn cancellation_is_not_sent_when_the_answer_was_faster() {
    let mut board = Board::default();
    let id = place(&mut board).unwrap();
    board.take_out().unwrap();
    board.give_up(id);
    board.answer(id.0, given()).unwrap();
    assert!(board.take_out().is_none());
}

#[test]
fn number_of_open_calls_is_bounded() {
    let mut board = Board::default();
    let ids: Vec<_> = (0..OPEN_MAX).map(|_| place(&mut board).unwrap()).collect();
    assert!(place(&mut board).is_none());
    board.give_up(ids[7]);
    board.take_out().unwrap();
    assert!(place(&mut board).is_none(), "the order of leaving is the order of coming");
    while board.take_out().is_some() {}
    assert!(place(&mut board).is_some());
}

#[test]
fn late_call_is_told_once_and_overdue_ones_are_seen() {
    // Taken first, so that no stall of the machine makes the call late.
    let now = Instant::now();
    let mut board = Board::default();
    let id = place(&mut board).unwrap();
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    assert!(matches!(board.look(id, &waker), Look::Waiting));
    let mut late = Vec::new();
    assert!(!board.sweep(now, &mut late));
    assert!(late.is_empty());
    assert!(!board.sweep(now + Duration::from_secs(1), &mut late));
    assert_eq!(late.len(), 1);
    assert!(matches!(board.look(id, &waker), Look::Late));
    assert!(matches!(board.look(id, &waker), Look::Waiting));
    // What has not left is not overdue, however long it lies there.
    assert!(!board.sweep(now + Duration::from_secs(100), &mut late));
    board.take_out().unwrap();
    assert!(board.sweep(now + Duration::from_secs(100), &mut late));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Place,
    TakeOut,
    Answer(prop::sample::Index),
    Look(prop::sample::Index),
    GiveUp(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Place),
        Just(Step::TakeOut),
        any::<prop::sample::Index>().prop_map(Step::Answer),
        any::<prop::sample::Index>().prop_map(Step::Look),
        any::<prop::sample::Index>().prop_map(Step::GiveUp),
    ];
    prop::collection::vec(step, 0..600)
}

proptest! {
    /// Whatever is interleaved: each call is answered once or given up, what leaves is what was placed, and
    /// in the end every place is free and was given back as often as it was taken.
    #[test]
    fn every_call_ends_once_and_frees_its_place(steps in steps()) {
        let mut board = Board::default();
        // What callers hold, and what the node has and has not answered.
        let (mut held, mut at_node) = (Vec::new(), BTreeSet::new());
        let mut answered = BTreeMap::new();
        let (mut placed, mut freed) = (0, 0);
        for step in steps {
            match step {
                Step::Place => {
                    let id = place(&mut board);
                    prop_assert_eq!(id.is_none(), placed - freed == OPEN_MAX);
                    placed += usize::from(id.is_some());
                    held.extend(id);
                }
                Step::TakeOut => {
                    if let Some(message) = board.take_out() && message.body.is_none() {
                        prop_assert!(at_node.insert(message.call_id));
                    }
                }
                Step::Answer(index) if !at_node.is_empty() => {
                    let id = *index.get(&at_node.iter().copied().collect::<Vec<_>>());
                    at_node.remove(&id);
                    prop_assert!(board.answer(id, given()).is_ok());
                    prop_assert!(board.answer(id, given()).is_err());
                    answered.insert(id, ());
                }
                Step::Look(index) if !held.is_empty() => {
                    let at = index.index(held.len());
                    let done = is_answered(&mut board, held[at]);
                    prop_assert_eq!(done, answered.contains_key(&held[at].0));
                    if done {
                        held.swap_remove(at);
                    }
                }
                Step::GiveUp(index) if !held.is_empty() => {
                    board.give_up(held.swap_remove(index.index(held.len())));
                }
                Step::Answer(_) | Step::Look(_) | Step::GiveUp(_) => {}
            }
            freed += board.take_freed();
            prop_assert_eq!(board.open(), placed - freed);
        }
        for id in held {
            board.give_up(id);
        }
        while let Some(message) = board.take_out() {
            prop_assert!(message.body.is_some(), "only cancellations can be left");
        }
        for id in at_node {
            prop_assert!(board.answer(id, given()).is_ok());
        }
        prop_assert_eq!(board.open(), 0);
        prop_assert_eq!(freed + board.take_freed(), placed);
    }
}
