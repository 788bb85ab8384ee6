//! The metrics of the services: names, what they mean, and the handles that count.
//!
//! Labels come from closed sets: `operation` is a call of the proto files, `outcome` a gRPC code as
//! [`crate::status`] names it, `instance_type` one of `software` and `none`, `cache` one of
//! [`CacheMeter`]'s. No key, caller, instance or error text is a label.
//!
//! Handles are made once and kept: to count costs an atomic addition, no lookup and no allocation.
//! Without a recorder in the process they count nothing.

use metrics::{
    Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge,
};

/// Calls, and items of batches, that have ended.
pub const OPERATIONS_TOTAL: &str = "twinkeep_api_operations_total";
/// Time from a call's arrival to its end, its audit record included.
pub const OPERATION_SECONDS: &str = "twinkeep_api_operation_seconds";
/// Calls, and items of batches, under way.
pub const IN_FLIGHT_OPERATIONS: &str = "twinkeep_api_in_flight_operations";
/// Items of a batch.
pub const BATCH_ITEMS: &str = "twinkeep_api_batch_items";
/// Lookups that a cache answered.
pub const CACHE_HITS_TOTAL: &str = "twinkeep_api_cache_hits_total";
/// Lookups that a cache could not answer.
pub const CACHE_MISSES_TOTAL: &str = "twinkeep_api_cache_misses_total";
/// Entries that a cache gave up to stay within its bound.
pub const CACHE_EVICTIONS_TOTAL: &str = "twinkeep_api_cache_evictions_total";
/// Entries of a cache.
pub const CACHE_ENTRIES: &str = "twinkeep_api_cache_entries";
/// Open crypto streams.
pub const OPEN_STREAMS: &str = "twinkeep_api_open_streams";
/// Messages of crypto streams that were taken in and not answered yet.
pub const IN_FLIGHT_MESSAGES: &str = "twinkeep_api_in_flight_messages";

/// Tells the process's recorder what the metrics of this crate mean.
pub fn describe() {
    describe_counter!(
        OPERATIONS_TOTAL,
        "Calls and items of batches that ended, by `operation`, `outcome` (a gRPC code) and \
         `instance_type`; a caller that went away counts as `CANCELLED`"
    );
    describe_histogram!(
        OPERATION_SECONDS,
        "Time of a call or item from its arrival to its end, audit record included, by `operation` \
         and `instance_type`"
    );
    describe_gauge!(IN_FLIGHT_OPERATIONS, "Calls and items of batches under way");
    describe_histogram!(BATCH_ITEMS, "Items of a batch, by `operation`");
    describe_counter!(CACHE_HITS_TOTAL, "Lookups that a cache answered, by `cache`");
    describe_counter!(CACHE_MISSES_TOTAL, "Lookups that a cache could not answer, by `cache`");
    describe_counter!(
        CACHE_EVICTIONS_TOTAL,
        "Entries that a cache gave up to stay within its bound, by `cache`"
    );
    describe_gauge!(CACHE_ENTRIES, "Entries of a cache, by `cache`");
    describe_gauge!(OPEN_STREAMS, "Open crypto streams");
    describe_gauge!(IN_FLIGHT_MESSAGES, "Messages of crypto streams under way");
}

/// Counts what a cache does. Clones count together.
#[derive(Clone)]
pub(crate) struct CacheMeter {
    hits: Counter,
    misses: Counter,
    evictions: Counter,
    entries: Gauge,
}

impl CacheMeter {
    /// Makes the meter of a cache. The name becomes a label: a word of our own, never data.
    pub(crate) fn of(cache: &'static str) -> Self {
        Self {
            hits: counter!(CACHE_HITS_TOTAL, "cache" => cache),
            misses: counter!(CACHE_MISSES_TOTAL, "cache" => cache),
            evictions: counter!(CACHE_EVICTIONS_TOTAL, "cache" => cache),
            entries: gauge!(CACHE_ENTRIES, "cache" => cache),
        }
    }

    /// Counts a lookup.
    pub(crate) fn looked_up(&self, found: bool) {
        if found { self.hits.increment(1) } else { self.misses.increment(1) }
    }

    /// Counts entries that were given up.
    pub(crate) fn evicted(&self, entries: usize) {
        self.evictions.increment(entries as u64);
    }

    /// Counts a change in the number of entries.
    #[expect(clippy::cast_precision_loss, reason = "no cache holds 2^52 entries")]
    pub(crate) fn moved(&self, before: usize, now: usize) {
        if now != before {
            self.entries.increment(now as f64 - before as f64);
        }
    }
}

/// Counts open streams and their messages. Clones count together.
#[derive(Clone)]
pub(crate) struct StreamMeter {
    open: Gauge,
    messages: Gauge,
}

impl Default for StreamMeter {
    fn default() -> Self {
        Self { open: gauge!(OPEN_STREAMS), messages: gauge!(IN_FLIGHT_MESSAGES) }
    }
}

impl StreamMeter {
    /// Counts a stream for as long as the value lives.
    #[must_use]
    pub(crate) fn stream(&self) -> Present {
        Present::in_(&self.open)
    }

    /// Counts a message for as long as the value lives.
    #[must_use]
    pub(crate) fn message(&self) -> Present {
        Present::in_(&self.messages)
    }
}

/// Something that a gauge counts until it is dropped.
pub(crate) struct Present(Gauge);

impl Present {
    pub(crate) fn in_(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
