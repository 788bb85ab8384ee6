//! How long a call may take: what its caller says (`grpc-timeout`), within our own limits.

use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;

use crate::limits::{DEADLINE_DEFAULT, DEADLINE_MAX};

/// Most of a call's time that is kept back for its answer to travel.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(100);

/// Returns the point in time by which the work on a call that has waited for so long has to end, so that its caller
/// hears in time what came of it: a tenth of the call's time is kept back, 100 ms at most.
pub(crate) fn of(metadata: &MetadataMap, waited: Duration) -> Instant {
    let given = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok());
    let time = given.and_then(parse).unwrap_or(DEADLINE_DEFAULT).min(DEADLINE_MAX);
    Instant::now() + for_work(time).saturating_sub(waited)
}

/// Returns the same for a call of a stream; 0 takes the default.
pub(crate) fn of_millis(timeout_ms: u32) -> Instant {
    let given = (timeout_ms != 0).then(|| Duration::from_millis(timeout_ms.into()));
    Instant::now() + for_work(given.unwrap_or(DEADLINE_DEFAULT).min(DEADLINE_MAX))
}

fn for_work(time: Duration) -> Duration {
    time - (time / 10).min(ANSWER_TIME_MAX)
}

/// Reads at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "1", "-1S", "1.5S", "123456789S", "1s", "+1S", "1µ"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_caller_gets_more_than_the_longest_time() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "99999999H".parse().unwrap());
        assert!(of(&metadata, Duration::ZERO) <= Instant::now() + DEADLINE_MAX);
    }

    #[test]
    fn answer_has_time_to_travel() {
        let ms = Duration::from_millis;
        assert_eq!(for_work(ms(50)), ms(45));
        assert_eq!(for_work(ms(15_000)), ms(14_900));
    }

    #[test]
    fn wait_before_the_call_was_begun_counts() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "100m".parse().unwrap());
        assert!(of(&metadata, Duration::from_millis(200)) <= Instant::now());
        assert!(of(&metadata, Duration::ZERO) > Instant::now());
    }
}
