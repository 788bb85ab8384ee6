//! How much each caller has open on this node: calls, over all of its streams and alone, and streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;
use twinkeep_core::name::CallerName;

use crate::error::CallError;

/// Callers that are remembered before those without open calls are forgotten.
const CALLERS_KEPT: usize = 4096;

/// Counts what callers have open of one kind.
pub(super) struct Places {
    /// Most of one caller.
    max: u32,
    /// What a caller is told who has as many.
    refusal: fn() -> CallError,
    callers: RwLock<HashMap<CallerName, Arc<AtomicU32>>>,
}

/// The place of one open call or stream; given back on drop.
pub(super) struct Place(Arc<AtomicU32>);

impl Places {
    pub(super) fn new(max: u32, refusal: fn() -> CallError) -> Self {
        Self { max, refusal, callers: RwLock::default() }
    }

    /// Takes a place for a caller whose certificate is known to be good.
    ///
    /// # Errors
    /// The refusal, when the caller has as many as it may.
    pub(super) fn take(&self, caller: &CallerName) -> Result<Place, CallError> {
        let place = Place(self.of(caller));
        // The place is counted before it is looked at, so two calls cannot both take the last one.
        if place.0.fetch_add(1, Ordering::Relaxed) < self.max {
            Ok(place)
        } else {
            Err((self.refusal)())
        }
    }

    fn of(&self, caller: &CallerName) -> Arc<AtomicU32> {
        if let Some(open) = self.callers.read().get(caller) {
            return Arc::clone(open);
        }
        let mut callers = self.callers.write();
        if callers.len() >= CALLERS_KEPT {
            // A clone is held for as long as a call is open.
            callers.retain(|_, open| Arc::strong_count(open) > 1);
        }
        Arc::clone(callers.entry(caller.clone()).or_default())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 1024;

    fn caller(name: &str) -> CallerName {
        CallerName::parse(name).unwrap()
    }

    #[test]
    fn one_caller_fills_its_own_places_and_nobody_elses() {
        let places = Places::new(MAX, || CallError::Busy);
        let (one, other) = (caller("one"), caller("other"));
        let taken: Vec<_> = (0..MAX).map(|_| places.take(&one).map_err(drop).unwrap()).collect();
        assert!(matches!(places.take(&one), Err(CallError::Busy)));
        assert!(places.take(&other).is_ok());
        drop(taken);
        assert!(places.take(&one).is_ok(), "refusals take no place");
    }

    #[test]
    fn callers_without_open_calls_are_forgotten() {
        let places = Places::new(MAX, || CallError::Busy);
        let _open = places.take(&caller("open"));
        for n in 0..2 * CALLERS_KEPT {
            drop(places.take(&caller(&format!("caller-{n}"))));
        }
        assert!(places.callers.read().len() <= CALLERS_KEPT);
        assert!(places.callers.read().contains_key(&caller("open")));
    }
}
