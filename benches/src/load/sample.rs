//! What one measurement found, and the middle, the quartiles and the mean of several.

use std::fmt;

use super::tally::Tally;
use super::window::Passed;
use crate::system::weather::Weather;

/// What one measurement found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Calls answered a second.
    pub(crate) rate: f64,
    /// The median of the time that a call took, in microseconds.
    pub(crate) p50_us: f64,
    /// The 99th percentile of it. Of one run it means little.
    pub(crate) p99_us: f64,
    /// Processor time of the server for each call, in microseconds.
    pub(crate) server_us: f64,
    /// Share of its core that the server used.
    pub(crate) server_busy: f64,
    /// Share of its core that the load generator used.
    pub(crate) load_busy: f64,
    /// What others did to the machine.
    pub(crate) weather: Weather,
}

impl Sample {
    /// Describes a load that had a window to itself.
    pub(crate) fn of(tally: &Tally<'_>, passed: &Passed) -> Self {
        let answers = count(tally.answers());
        let seconds = passed.time.as_secs_f64();
        Self {
            rate: answers / seconds,
            p50_us: tally.latency_us(50.0),
            p99_us: tally.latency_us(99.0),
            server_us: passed.server.as_secs_f64() * 1e6 / answers.max(1.0),
            server_busy: passed.server.as_secs_f64() / seconds,
            load_busy: passed.load.as_secs_f64() / seconds,
            weather: passed.weather,
        }
    }

    /// Returns the sample with the middle of each figure. There must be one sample at least.
    pub(crate) fn median(samples: &[Self]) -> Self {
        let middle = |figure: fn(&Self) -> f64| median(samples.iter().map(figure).collect());
        Self {
            rate: middle(|sample| sample.rate),
            p50_us: middle(|sample| sample.p50_us),
            p99_us: middle(|sample| sample.p99_us),
            server_us: middle(|sample| sample.server_us),
            server_busy: middle(|sample| sample.server_busy),
            load_busy: middle(|sample| sample.load_busy),
            weather: Weather {
                steal: middle(|sample| sample.weather.steal),
                foreign: middle(|sample| sample.weather.foreign),
            },
        }
    }
}

/// Returns the middle of some figures, or the mean of the two in the middle; not a number for none.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let upper = figures.len() / 2;
    match (figures.get(upper), upper.checked_sub(1).and_then(|lower| figures.get(lower))) {
        (Some(upper), Some(lower)) if figures.len().is_multiple_of(2) => {
            f64::midpoint(*lower, *upper)
        }
        (Some(upper), _) => *upper,
        _ => f64::NAN,
    }
}

/// Returns the lower and the upper quartile: the middles of the lower and of the upper half, without the figure that
/// is the middle of all; not numbers for fewer than two.
pub(crate) fn quartiles(mut figures: Vec<f64>) -> (f64, f64) {
    figures.sort_unstable_by(f64::total_cmp);
    let upper = figures.split_off(figures.len().div_ceil(2));
    figures.truncate(upper.len());
    (median(figures), median(upper))
}

/// Returns the mean; not a number for none.
pub(crate) fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / count(figures.len() as u64)
}

/// Counts become figures.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn count(count: u64) -> f64 {
    count as f64
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        write!(
            f,
            "{:>9.0}/s  p50 {:>8.1} us  p99 {:>9.1} us  server {:>6.1} us/call, busy {:>3.0} %  load {:>3.0} %  steal {:.1} %, others {:.1} %",
            self.rate,
            self.p50_us,
            self.p99_us,
            self.server_us,
            percent(self.server_busy),
            percent(self.load_busy),
            percent(self.weather.steal),
            percent(self.weather.foreign),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn quartiles_are_the_middles_of_the_halves() {
        assert_eq!(quartiles(vec![4.0, 1.0, 2.0, 3.0]), (1.5, 3.5));
        assert_eq!(quartiles(vec![7.0, 1.0, 2.0, 3.0, 9.0]), (1.5, 8.0));
        assert!(quartiles(vec![1.0]).0.is_nan());
    }

    #[test]
    fn mean_of_none_is_no_number() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert!(mean(&[]).is_nan());
    }
}
