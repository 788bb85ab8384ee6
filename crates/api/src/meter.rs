//! Rate, errors and duration of every call: one table of handles, indexed by numbers.
//!
//! The gate says when a call begins and, exactly once, how it ended. A handle is registered when
//! its outcome is first seen, so that a node shows the series it has and not the thousands it could
//! have; from then on it costs one load to find and an atomic addition to count.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tonic::Code;
use twinkeep_core::record::{BackendKind, InstanceKind};
use twinkeep_proto::v1::method::{self, Method};

use crate::metrics::{BATCH_ITEMS, IN_FLIGHT_OPERATIONS, OPERATION_SECONDS, OPERATIONS_TOTAL};
use crate::status;

/// gRPC codes: `OK` is 0, `UNAUTHENTICATED` 16.
const CODES: usize = 17;
/// Variants of [`InstanceType`].
const TYPES: usize = 2;

/// What a call worked on, as far as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum InstanceType {
    /// No instance: a call of the cluster, or one that was refused before its instance was known.
    #[default]
    None = 0,
    /// Keys in sealed records.
    Software = 1,
}

impl InstanceType {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Software => "software",
        }
    }
}

// No `_` arms: a new kind has to choose its label.
impl From<BackendKind> for InstanceType {
    fn from(kind: BackendKind) -> Self {
        match kind {
            BackendKind::Software => Self::Software,
        }
    }
}

impl From<InstanceKind> for InstanceType {
    fn from(kind: InstanceKind) -> Self {
        match kind {
            InstanceKind::Software => Self::Software,
        }
    }
}

/// Counts the calls of a node. Clones count together.
#[derive(Clone)]
pub(crate) struct Meter(Arc<Inner>);

struct Inner {
    /// By [`Method::index`].
    operations: Vec<Operation>,
    in_flight: Gauge,
}

#[derive(Default)]
struct Operation {
    /// By instance type.
    types: [OfType; TYPES],
    items: OnceLock<Histogram>,
}

#[derive(Default)]
struct OfType {
    seconds: OnceLock<Histogram>,
    /// By code.
    ended: [OnceLock<Counter>; CODES],
}

impl Default for Meter {
    fn default() -> Self {
        let operations = method::ALL.iter().map(|_| Operation::default()).collect();
        Self(Arc::new(Inner { operations, in_flight: gauge!(IN_FLIGHT_OPERATIONS) }))
    }
}

impl Meter {
    /// Counts a call, or an item of a batch, as under way. [`Meter::ended`] or [`Meter::forgotten`]
    /// follows.
    pub(crate) fn began(&self) {
        self.0.in_flight.increment(1.0);
    }

    /// Counts a call that is not under way any more and leaves its count to its items.
    pub(crate) fn forgotten(&self) {
        self.0.in_flight.decrement(1.0);
    }

    /// Counts the end of a call, or of an item of a batch.
    pub(crate) fn ended(
        &self,
        method: Method,
        code: Code,
        instance_type: InstanceType,
        elapsed: Duration,
    ) {
        self.0.in_flight.decrement(1.0);
        let of_type = &self.0.operations[method.index].types[instance_type as usize];
        of_type.ended[code as usize]
            .get_or_init(|| counter(method, code, instance_type))
            .increment(1);
        of_type.seconds.get_or_init(|| seconds(method, instance_type)).record(elapsed);
    }

    /// Notes the size of a batch.
    #[expect(clippy::cast_precision_loss, reason = "a batch has a few hundred items at most")]
    pub(crate) fn batch(&self, method: Method, items: usize) {
        let histogram = || histogram!(BATCH_ITEMS, "operation" => method.name);
        self.0.operations[method.index].items.get_or_init(histogram).record(items as f64);
    }
}

fn counter(method: Method, code: Code, instance_type: InstanceType) -> Counter {
    counter!(
        OPERATIONS_TOTAL,
        "operation" => method.name,
        "outcome" => status::name(code),
        "instance_type" => instance_type.name()
    )
}

fn seconds(method: Method, instance_type: InstanceType) -> Histogram {
    histogram!(
        OPERATION_SECONDS,
        "operation" => method.name,
        "instance_type" => instance_type.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_and_every_code_has_its_place() {
        assert!(method::ALL.iter().enumerate().all(|(place, method)| method.index == place));
        assert_eq!(Code::Unauthenticated as usize, CODES - 1);
        let meter = Meter::default();
        for method in method::ALL {
            for code in (0..CODES as i32).map(Code::from_i32) {
                for instance_type in [InstanceType::None, InstanceType::Software] {
                    meter.began();
                    meter.ended(*method, code, instance_type, Duration::from_micros(5));
                }
            }
        }
    }
}
