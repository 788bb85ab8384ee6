//! A queue that gives each caller the same share of time, however much work it sends.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996) with measured cost: each caller has a clock that moves
//! by the time its work took, and the caller whose clock is furthest behind is next. Who comes back after a
//! pause starts at the present, so nobody saves up; a clock that is ahead of the present is kept until the
//! present has come up with it, so nobody gets ahead by sending one job at a time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Jobs of callers.
#[derive(Debug)]
pub(super) struct Fair<J> {
    callers: HashMap<u64, Line<J>>,
    /// How far the caller that was served last had come: the present for who comes anew.
    present: Duration,
    waiting: usize,
}

#[derive(Debug)]
struct Line<J> {
    clock: Duration,
    jobs: VecDeque<J>,
    /// How many of the caller's jobs are being worked on.
    running: usize,
}

impl<J> Line<J> {
    /// Tells whether the line has work, or a clock that must not be forgotten.
    fn is_needed(&self, present: Duration) -> bool {
        !self.jobs.is_empty() || self.running > 0 || self.clock > present
    }
}

impl<J> Default for Fair<J> {
    fn default() -> Self {
        Self { callers: HashMap::new(), present: Duration::ZERO, waiting: 0 }
    }
}

impl<J> Fair<J> {
    /// Returns how many jobs wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns how many jobs of a caller wait.
    pub(super) fn waiting_of(&self, caller: u64) -> usize {
        self.callers.get(&caller).map_or(0, |line| line.jobs.len())
    }

    /// Queues a job.
    pub(super) fn push(&mut self, caller: u64, job: J) {
        let clock = self.present;
        let anew = || Line { clock, jobs: VecDeque::new(), running: 0 };
        self.callers.entry(caller).or_insert_with(anew).jobs.push_back(job);
        self.waiting += 1;
    }

    /// Takes the next job, with its caller. To be followed by [`Self::done`].
    pub(super) fn pop(&mut self) -> Option<(u64, J)> {
        // Callers with work in the queue are few: the queue is bounded.
        let ready = self.callers.iter_mut().filter(|(_, line)| !line.jobs.is_empty());
        let (caller, line) =
            ready.min_by_key(|(caller, line)| (line.clock, line.running, **caller))?;
        let job = line.jobs.pop_front()?;
        line.running += 1;
        let (caller, clock) = (*caller, line.clock);
        self.waiting -= 1;
        if clock > self.present {
            self.present = clock;
            self.callers.retain(|_, line| line.is_needed(clock));
        }
        Some((caller, job))
    }

    /// Charges a caller for a job that has ended.
    pub(super) fn done(&mut self, caller: u64, took: Duration) {
        let Some(line) = self.callers.get_mut(&caller) else { return };
        line.clock += took;
        line.running -= 1;
        if !line.is_needed(self.present) {
            self.callers.remove(&caller);
        }
    }

    /// Takes all jobs out.
    pub(super) fn drain(&mut self) -> Vec<J> {
        self.waiting = 0;
        self.callers.drain().flat_map(|(_, line)| line.jobs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Serves `rounds` jobs of callers who always have one waiting; returns the time that each got.
    fn serve(cost: &[(u64, Duration)], rounds: usize) -> HashMap<u64, Duration> {
        let cost: HashMap<_, _> = cost.iter().copied().collect();
        let mut fair = Fair::default();
        cost.keys().for_each(|caller| fair.push(*caller, ()));
        let mut got = HashMap::new();
        for _ in 0..rounds {
            let (caller, ()) = fair.pop().unwrap();
            fair.push(caller, ());
            fair.done(caller, cost[&caller]);
            *got.entry(caller).or_default() += cost[&caller];
        }
        got
    }

    #[test]
    fn callers_get_equal_time_whatever_their_jobs_cost() {
        let got = serve(&[(1, MS), (2, 5 * MS), (3, 25 * MS)], 10_000);
        let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
        assert!(*most - *least <= 25 * MS, "{got:?}");
    }

    #[test]
    fn caller_who_sends_one_job_passes_the_line_of_another() {
        let mut fair = Fair::default();
        (0..500).for_each(|_| fair.push(1, "flood"));
        for _ in 0..3 {
            let (caller, _) = fair.pop().unwrap();
            fair.done(caller, MS);
        }
        fair.push(2, "single");
        assert_eq!(fair.pop(), Some((2, "single")));
    }

    #[test]
    fn pause_saves_up_no_time() {
        let mut fair = Fair::default();
        fair.push(1, ());
        fair.push(2, ());
        for _ in 0..2 {
            let (caller, ()) = fair.pop().unwrap();
            fair.done(caller, MS);
        }
        // Caller 2 pauses while caller 1 works for a second.
        for _ in 0..1000 {
            fair.push(1, ());
            let (caller, ()) = fair.pop().unwrap();
            fair.done(caller, MS);
        }
        let mut second = 0;
        fair.push(1, ());
        fair.push(2, ());
        for _ in 0..100 {
            let (caller, ()) = fair.pop().unwrap();
            second += usize::from(caller == 2);
            fair.push(caller, ());
            fair.done(caller, MS);
        }
        assert!((45..=55).contains(&second), "caller 2 got {second} of 100");
    }

    #[test]
    fn one_long_job_at_a_time_gets_no_more_than_a_flood_of_short_ones() {
        let mut fair = Fair::default();
        let (long, short) = (1, 2);
        (0..100_000).for_each(|_| fair.push(short, ()));
        let mut got = [Duration::ZERO; 3];
        let mut is_waiting = false;
        for _ in 0..10_000 {
            if !is_waiting {
                fair.push(long, ());
                is_waiting = true;
            }
            let (caller, ()) = fair.pop().unwrap();
            let took = if caller == long { 20 * MS } else { MS };
            is_waiting &= caller != long;
            fair.done(caller, took);
            got[caller as usize] += took;
        }
        assert!(got[1].abs_diff(got[2]) <= 40 * MS, "{got:?}");
    }

    #[test]
    fn nothing_is_kept_of_callers_without_work() {
        let mut fair = Fair::default();
        for caller in 0..1000 {
            fair.push(caller, ());
        }
        assert_eq!((fair.waiting(), fair.waiting_of(7)), (1000, 1));
        while let Some((caller, ())) = fair.pop() {
            fair.done(caller, MS);
        }
        // Their clocks stand a millisecond ahead, until somebody has come as far.
        for _ in 0..2 {
            fair.push(7, ());
            let (caller, ()) = fair.pop().unwrap();
            fair.done(caller, Duration::ZERO);
        }
        assert_eq!((fair.waiting(), fair.callers.len()), (0, 0));
    }
}
