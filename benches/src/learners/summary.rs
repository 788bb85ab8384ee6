//! What all samples together say: the figures of the report.
//!
//! How fast a node is differs between moments of one machine, by a quarter and more where others use it too. What nodes
//! answer is therefore taken in terms of what the voters that follow answer in the same seconds: learners cost them
//! nothing. What they cost the leader shows. Ratios are taken within a round, whose samples follow each other, and their
//! median counts; a rate is the median of all samples with as many learners.

use twinkeep_report::{Report, Target};

use super::plan::LEARNERS;
use super::records::{Control, Outcome, Part, Quiet, Record, Sample, Served};
use crate::ledger::Ledger;
use crate::load::sample::{count, mean, median, quartiles};

/// Nodes that serve without learners.
const SERVING: f64 = 4.0;
/// What a learner adds, to a quarter of what four nodes give without learners.
const ADDED_MIN: f64 = 0.9;
/// How far the whole may be from as many times more as there are nodes, in percent.
const BENT_MAX: f64 = 10.0;
/// Control writes a second with learners, to without.
const WRITES_MIN: f64 = 0.9;
/// The median of the time that one takes, to without.
const WRITE_TIME_MAX: f64 = 1.1;

/// Adds up all samples.
pub(super) fn report(ledger: &Ledger<Record>) -> Report {
    let samples = Samples::of(ledger.records());
    let mut report = Report::new();
    crypto(&mut report, &samples);
    leader(&mut report, &samples);
    control(&mut report, &samples);
    conditions(&mut report, &samples);
    let is_broken = |record: &&Record| matches!(record.result, Outcome::Broken(_));
    let broken = ledger.records().iter().filter(is_broken).count();
    let name = "samples that could not be taken";
    report.add(name, count(broken as u64), "samples", Target::AtMost(0.0));
    report
}

fn crypto(report: &mut Report, samples: &Samples<'_>) {
    let rate = |sample: &Sample| sample.crypto.rate(|_| true);
    for learners in LEARNERS {
        let name = format!("Encrypt 32 B with {learners} learners");
        report.add(name, samples.median(learners, rate), "/s", Target::None);
    }
    for learners in LEARNERS {
        let whole = |sample: &Sample| sample.crypto.in_followers(|_| true);
        let name = format!("Encrypt with {learners} learners, to a follower's");
        report.add(name, samples.median(learners, whole), "×", Target::None);
    }
    for learners in &LEARNERS[1..] {
        let name = format!("each of {learners} learners adds, to a node without learners");
        let added = |with: &Sample, without: &Sample| added(*learners, with, without);
        let target = Target::AtLeast(ADDED_MIN);
        report.add(&name, samples.paired(*learners, added), "×", target);
        let (lower, upper) = quartiles(samples.pairs(*learners, added));
        report.add(format!("{name}, lower quartile"), lower, "×", Target::None);
        report.add(format!("{name}, upper quartile"), upper, "×", Target::None);
        let linear = (SERVING + f64::from(*learners)) / SERVING;
        let mut away = |what: &str, target, of: fn(&Sample) -> f64| {
            let bent = samples.paired(*learners, |with, without| of(with) / of(without) / linear);
            let name = format!("Encrypt with {learners} learners, away from linear{what}");
            report.add(name, 100.0 * (bent - 1.0).abs(), "%", target);
        };
        let whole = |sample: &Sample| sample.crypto.in_followers(|_| true);
        away("", Target::AtMost(BENT_MAX), whole);
        away(", by the clock", Target::None, |sample| sample.crypto.rate(|_| true));
    }
    for learners in LEARNERS {
        let each = |sample: &Sample| {
            let cpu_s: f64 = sample.crypto.nodes.iter().map(|node| node.cpu_s).sum();
            1e6 * cpu_s / (rate(sample) * sample.crypto.leader.seconds)
        };
        let name = format!("processor time of an Encrypt with {learners} learners");
        report.add(name, samples.median(learners, each), "us", Target::None);
    }
}

/// Returns what each learner adds, to what a node gives without learners, both by what followers give meanwhile.
fn added(learners: u32, with: &Sample, without: &Sample) -> f64 {
    let (more, before) =
        (with.crypto.in_followers(|_| true), without.crypto.in_followers(|_| true));
    (more - before) / f64::from(learners) / (before / SERVING)
}

fn leader(report: &mut Report, samples: &Samples<'_>) {
    let mut each = |what: &str, unit, of: fn(&Sample) -> f64| {
        for learners in LEARNERS {
            let name = format!("{what} with {learners} learners");
            report.add(name, samples.median(learners, of), unit, Target::None);
        }
    };
    each("Encrypt at the leader, to a follower's", "×", |sample| {
        sample.crypto.in_followers(|node| sample.crypto.led(node))
    });
    each("CPU of the leader at rest", "% of a core", |sample| 100.0 * sample.idle.leader_busy());
    each("CPU of a voter at rest", "% of a core", |sample| 100.0 * sample.idle.busy(Part::Voter));
    each("CPU of the leader for a control write", "us", |sample| {
        1e6 * sample.control.leader.leader_cpu_s / count(sample.control.writes)
    });
    each("sent by the leader to a voter at rest", "B/s", |sample| sample.idle.sent_to(Part::Voter));
    for learners in &LEARNERS[1..] {
        let mut add = |what: &str, unit, of: fn(&Sample) -> f64| {
            let name = format!("sent by the leader to each of {learners} learners {what}");
            report.add(name, samples.median(*learners, of), unit, Target::None);
        };
        add("at rest", "B/s", |sample| sample.idle.sent_to(Part::Learner));
        add("under load", "B/s", |sample| sample.crypto.leader.sent_to(Part::Learner));
        add("for a control write", "B", |sample| {
            let control = &sample.control;
            // What is sent at rest is sent meanwhile too.
            let busy = control.leader.sent_to(Part::Learner) - sample.idle.sent_to(Part::Learner);
            busy * control.leader.seconds / count(control.writes)
        });
    }
}

fn control(report: &mut Report, samples: &Samples<'_>) {
    let rate = |sample: &Sample| count(sample.control.writes) / sample.control.leader.seconds;
    let mut writes = |what: &str, of: fn(&Sample) -> &Control| {
        for learners in LEARNERS {
            let name = format!("{what} with {learners} learners");
            let p50 = samples.median(learners, |sample| of(sample).p50_ms);
            report.add(format!("{name}, p50"), p50, "ms", Target::None);
            let p99 = samples.median(learners, |sample| of(sample).p99_ms);
            report.add(format!("{name}, p99"), p99, "ms", Target::None);
        }
        for learners in &LEARNERS[1..] {
            let times = |with: &Sample, without: &Sample| of(with).p50_ms / of(without).p50_ms;
            let name = format!("{what} with {learners} learners, p50 to without");
            let times = samples.paired(*learners, times);
            report.add(name, times, "×", Target::AtMost(WRITE_TIME_MAX));
        }
    };
    writes("CreateKey 20 times a second", |sample| &sample.paced);
    writes("CreateKey one after the other", |sample| &sample.control);
    for learners in LEARNERS {
        let name = format!("CreateKey one after the other with {learners} learners");
        report.add(name, samples.median(learners, rate), "/s", Target::None);
    }
    for learners in &LEARNERS[1..] {
        let rates = samples.paired(*learners, |with, without| rate(with) / rate(without));
        let name =
            format!("CreateKey one after the other with {learners} learners, rate to without");
        report.add(name, rates, "×", Target::AtLeast(WRITES_MIN));
    }
    for learners in LEARNERS {
        let name = format!("CPU of all nodes meanwhile with {learners} learners");
        let used = samples.median(learners, |sample| {
            let Quiet { leader_cpu_s, seconds, others, .. } = &sample.control.leader;
            let all = leader_cpu_s + others.iter().map(|other| other.cpu_s).sum::<f64>();
            100.0 * all / seconds
        });
        report.add(name, used, "% of a core", Target::None);
    }
}

/// Whether what was measured is what was meant.
fn conditions(report: &mut Report, samples: &Samples<'_>) {
    let all = || samples.all().flat_map(|sample| &sample.crypto.nodes);
    let refused = all().map(|node| node.refused).sum();
    report.add("batches refused", count(refused), "batches", Target::AtMost(0.0));
    let elections = samples.all().map(|sample| sample.elections).sum();
    report.add("elections", count(elections), "terms", Target::AtMost(0.0));
    let cut_short = |node: &Served| 100.0 * count(node.periods.1) / count(node.periods.0);
    let name = "periods in which a node used up its quota, the least of all";
    let least = all().map(cut_short).fold(f64::NAN, f64::min);
    report.add(name, least, "%", Target::None);
    let busy = samples.all().map(|s| 100.0 * s.crypto.load_cpu_s / s.crypto.leader.seconds);
    let most = busy.fold(f64::NAN, f64::max);
    report.add("CPU of the load generator, the most of all", most, "% of a core", Target::None);
    let taken: Vec<_> = samples.all().map(taken).collect();
    let name = "of the machine taken by others, mean";
    report.add(name, mean(&taken), "%", Target::None);
}

fn taken(sample: &Sample) -> f64 {
    let Sample { crypto, control, .. } = sample;
    100.0 * f64::midpoint(crypto.steal + crypto.foreign, control.steal + control.foreign)
}

/// The samples that were taken, with round and learners.
struct Samples<'r>(Vec<(u32, u32, &'r Sample)>);

impl<'r> Samples<'r> {
    fn of(records: &'r [Record]) -> Self {
        let taken = records.iter().filter_map(|record| match &record.result {
            Outcome::Sample(sample) => Some((record.round, record.learners, sample.as_ref())),
            Outcome::Broken(_) => None,
        });
        Self(taken.collect())
    }

    fn all(&self) -> impl Iterator<Item = &'r Sample> {
        self.0.iter().map(|(_, _, sample)| *sample)
    }

    /// Returns the median of a figure over all samples with so many learners.
    fn median(&self, learners: u32, figure: impl Fn(&Sample) -> f64) -> f64 {
        let with = self.0.iter().filter(|(_, number, _)| *number == learners);
        median(with.map(|(_, _, sample)| figure(sample)).collect())
    }

    /// Returns a figure of samples with learners and without, of each round that has both.
    fn pairs(&self, learners: u32, figure: impl Fn(&Sample, &Sample) -> f64) -> Vec<f64> {
        let in_round = |round, learners| {
            let found = self.0.iter().find(|(r, l, _)| (*r, *l) == (round, learners));
            found.map(|(_, _, sample)| *sample)
        };
        let rounds = self.0.iter().filter(|(_, number, _)| *number == learners);
        let pairs = rounds.filter_map(|(round, _, with)| Some((*with, in_round(*round, 0)?)));
        pairs.map(|(with, without)| figure(with, without)).collect()
    }

    /// Returns the median of that.
    fn paired(&self, learners: u32, figure: impl Fn(&Sample, &Sample) -> f64) -> f64 {
        median(self.pairs(learners, figure))
    }
}

/// Says in a line what came of a sample.
pub(super) fn told(outcome: &Outcome) -> String {
    let sample = match outcome {
        Outcome::Sample(sample) => sample,
        Outcome::Broken(error) => return format!("BROKEN: {error}"),
    };
    let Sample { crypto, control, paced, idle, .. } = sample.as_ref();
    format!(
        "{} led; Encrypt {:.0}/s, {:.2} of a follower's; CreateKey p50 {:.1} ms paced, {:.1} ms one after the other; leader {:.1} % of a core \
         and {:.0} B/s to each voter at rest; others took {:.0} %",
        crypto.leader.leader,
        crypto.rate(|_| true),
        crypto.in_followers(|_| true),
        paced.p50_ms,
        control.p50_ms,
        100.0 * idle.leader_busy(),
        idle.sent_to(Part::Voter),
        taken(sample),
    )
}

#[cfg(test)]
mod tests {
    use super::super::records::Crypto;
    use super::*;

    fn quiet() -> Quiet {
        let leader = "a1".to_owned();
        Quiet { leader, seconds: 1.0, leader_cpu_s: 0.01, others: Vec::new() }
    }

    fn served(node: &str, part: Part, items: u64) -> Served {
        let node = node.to_owned();
        let (p99_ms, cpu_s, periods) = (10.0, 0.1, (100, 100));
        Served { node, part, items, refused: 0, p99_ms, cpu_s, periods }
    }

    /// A sample in which the leader answers less than the other nodes, all of which answer the same.
    fn record(round: u32, learners: u32, [of_leader, items]: [u64; 2], writes: u64) -> Record {
        let led = served("a1", Part::Voter, of_leader);
        let voters = ["a2", "b1", "b2"].map(|name| served(name, Part::Voter, items));
        let others =
            (0..learners).map(|number| served(&format!("l{number}"), Part::Learner, items));
        let nodes = [led].into_iter().chain(voters).chain(others).collect();
        let crypto = Crypto { leader: quiet(), nodes, load_cpu_s: 0.5, steal: 0.0, foreign: 0.0 };
        let (p50_ms, p99_ms) = (1000.0 / count(writes), 9.0);
        let control = Control { leader: quiet(), writes, p50_ms, p99_ms, steal: 0.0, foreign: 0.0 };
        let sample =
            Sample { elections: 0, crypto, idle: quiet(), paced: control.clone(), control };
        let result = Outcome::Sample(Box::new(sample));
        Record { round, learners, ended_unix_ms: 0, took_s: 1.0, result }
    }

    #[test]
    fn what_learners_cost_the_leader_is_taken_off_and_the_machines_pace_is_not() {
        let records = [
            record(1, 0, [1000, 1000], 100),
            // Half as fast as the machine was before.
            record(1, 2, [500, 500], 100),
            record(1, 4, [600, 1000], 80),
            record(2, 4, [600, 1000], 80),
        ];
        let samples = Samples::of(&records);
        let share =
            |learners| samples.paired(learners, |with, without| added(learners, with, without));
        assert!((share(2) - 1.0).abs() < 1e-9, "{}", share(2));
        assert!((share(4) - 0.9).abs() < 1e-9, "{}", share(4));
        assert_eq!(samples.pairs(4, |_, _| 1.0).len(), 1, "round 2 has no sample to pair with");
    }

    #[test]
    fn slower_writes_and_broken_samples_are_misses() {
        let folder = tempfile::tempdir().unwrap();
        let basis = crate::ledger::Basis {
            commit: String::new(),
            program: String::new(),
            machine: String::new(),
            parameters: String::new(),
        };
        let mut ledger = Ledger::open(folder.path(), "bench-test", basis).unwrap();
        for (learners, writes) in [(0, 100), (2, 95), (4, 80)] {
            ledger.add(record(1, learners, [1000, 1000], writes)).unwrap();
        }
        let broken = Outcome::Broken("no".to_owned());
        ledger.add(Record { result: broken, ..record(2, 4, [1, 1], 1) }).unwrap();
        let missed = report(&ledger);
        let missed = missed.figures().iter().filter(|figure| !figure.holds());
        let missed: Vec<_> = missed.map(|figure| figure.name().to_owned()).collect();
        let expected = [
            "CreateKey 20 times a second with 4 learners, p50 to without",
            "CreateKey one after the other with 4 learners, p50 to without",
            "CreateKey one after the other with 4 learners, rate to without",
            "samples that could not be taken",
        ];
        assert_eq!(missed, expected);
    }
}
