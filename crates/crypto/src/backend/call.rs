//! What travels with a call: its deadline, and whose it is.

use std::time::{Duration, Instant};

use super::Error;

/// What a backend is told about a call besides its operands.
///
/// The deadline is a point in time of this process's monotonic clock. A backend in another process or
/// on another machine is sent what remains of it, never the point itself: clocks differ.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    deadline: Instant,
    caller: u64,
}

impl Call {
    /// The longest budget. Whoever names more, as a client's timeout header can, gets this.
    pub const BUDGET_MAX: Duration = Duration::from_secs(3600);

    /// A call that has to be answered by `deadline`.
    #[must_use]
    pub const fn until(deadline: Instant) -> Self {
        Self { deadline, caller: 0 }
    }

    /// Says whose call it is. Callers share slow workers evenly; calls that nobody is named for share as
    /// one caller.
    #[must_use]
    pub const fn of(self, caller: u64) -> Self {
        Self { caller, ..self }
    }

    /// Returns whose call it is.
    #[must_use]
    pub const fn caller(self) -> u64 {
        self.caller
    }

    /// A call that has to be answered within `budget` from now, at most [`Call::BUDGET_MAX`].
    #[must_use]
    pub fn within(budget: Duration) -> Self {
        Self::until(Instant::now() + budget.min(Self::BUDGET_MAX))
    }

    /// Returns the point in time by which an answer is worth anything.
    #[must_use]
    pub const fn deadline(self) -> Instant {
        self.deadline
    }

    /// Returns the time left.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] once there is none.
    pub fn remaining(self) -> Result<Duration, Error> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Error::DeadlineExceeded),
            left => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spent_deadline_is_an_error_and_not_zero_time() {
        assert!(matches!(Call::within(Duration::ZERO).remaining(), Err(Error::DeadlineExceeded)));
        let left = Call::within(Duration::from_secs(60)).remaining().unwrap();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60));
    }
    #[test]
    fn endless_budget_is_cut_and_does_not_overflow() {
        assert!(Call::within(Duration::MAX).remaining().unwrap() <= Call::BUDGET_MAX);
    }
}
