//! The metrics of the process: what the `metrics` facade's handles count into.
//!
//! Handles are made once and kept by who counts; the maps here are touched when one is made and when
//! somebody asks for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;

use super::histogram::{Histogram, Snapshot};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts samples by size.
    Histogram,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a metric is and means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) kind: Kind,
    pub(crate) help: String,
}

/// Label names with values, in the order of names.
pub(super) type Labels = Vec<(String, String)>;

/// What a series shows at one moment.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Snapshot),
}

enum Cell {
    Counter(Arc<AtomicU64>),
    /// The bits of a float.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Histogram>),
}

impl Cell {
    fn value(&self) -> Value {
        match self {
            Self::Counter(cell) => Value::Counter(cell.load(Ordering::Relaxed)),
            Self::Gauge(cell) => Value::Gauge(f64::from_bits(cell.load(Ordering::Relaxed))),
            Self::Histogram(cell) => Value::Histogram(cell.snapshot()),
        }
    }
}

/// Metrics and what they mean.
#[derive(Default)]
pub(crate) struct Registry {
    described: Mutex<BTreeMap<String, Description>>,
    series: Mutex<BTreeMap<(String, Labels), Cell>>,
}

impl Registry {
    /// Returns what every metric means, by name.
    pub(crate) fn described(&self) -> BTreeMap<String, Description> {
        self.described.lock().clone()
    }

    /// Returns what every series shows now, by name and labels.
    pub(super) fn values(&self) -> Vec<((String, Labels), Value)> {
        let series = self.series.lock();
        series.iter().map(|(key, cell)| (key.clone(), cell.value())).collect()
    }

    fn describe(&self, kind: Kind, name: &KeyName, help: &str) {
        let description = Description { kind, help: help.to_owned() };
        self.described.lock().insert(name.as_str().to_owned(), description);
    }

    /// Finds a series, or begins it. One that is there as another kind is a bug of ours: the later handle
    /// then counts nothing.
    fn find<T>(
        &self,
        key: &Key,
        new: impl FnOnce() -> Cell,
        take: impl FnOnce(&Cell) -> Option<Arc<T>>,
    ) -> Option<Arc<T>> {
        let label = |label: &metrics::Label| (label.key().to_owned(), label.value().to_owned());
        let mut labels: Labels = key.labels().map(label).collect();
        labels.sort_unstable();
        let mut series = self.series.lock();
        let cell = series.entry((key.name().to_owned(), labels)).or_insert_with(new);
        let found = take(cell);
        debug_assert!(found.is_some(), "{} is there as another kind", key.name());
        found
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(Kind::Counter, &key, &help);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(Kind::Gauge, &key, &help);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(Kind::Histogram, &key, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let found = self.find(
            key,
            || Cell::Counter(Arc::default()),
            |cell| match cell {
                Cell::Counter(cell) => Some(Arc::clone(cell)),
                _ => None,
            },
        );
        found.map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let found = self.find(
            key,
            || Cell::Gauge(Arc::default()),
            |cell| match cell {
                Cell::Gauge(cell) => Some(Arc::clone(cell)),
                _ => None,
            },
        );
        found.map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        let new = || Cell::Histogram(Arc::new(Histogram::of(key.name())));
        let found = self.find(key, new, |cell| match cell {
            Cell::Histogram(cell) => Some(Arc::clone(cell)),
            _ => None,
        });
        found.map_or_else(metrics::Histogram::noop, metrics::Histogram::from_arc)
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, histogram};

    use super::*;

    #[test]
    fn what_goes_up_and_down_ends_where_it_began() {
        const CALLS: u32 = 1000;
        let registry = Registry::default();
        let (ended, seconds, in_flight) = metrics::with_local_recorder(&registry, || {
            (counter!("a_total"), histogram!("a_seconds"), gauge!("a_operations"))
        });
        for _ in 0..CALLS {
            in_flight.increment(1.0);
            ended.increment(1);
            seconds.record(0.000_03);
            in_flight.decrement(1.0);
        }
        let values = registry.values();
        assert!(values.iter().any(|(_, value)| *value == Value::Counter(CALLS.into())));
        assert!(values.iter().any(|(_, value)| *value == Value::Gauge(0.0)));
    }

    #[test]
    fn handles_of_the_same_name_and_labels_count_together_in_any_order_of_labels() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            counter!("b_total", "x" => "1", "y" => "2").increment(1);
            counter!("b_total", "y" => "2", "x" => "1").increment(1);
            counter!("b_total", "x" => "1").increment(1);
        });
        let counts: Vec<_> = registry.values().into_iter().map(|(_, value)| value).collect();
        assert_eq!(counts, [Value::Counter(1), Value::Counter(2)]);
    }
}
