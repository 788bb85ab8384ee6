//! What the tests with processes of their own share.

use std::time::{Duration, Instant};

use twinkeep_audit::call::{Decision, Principal, PrincipalKind, Resources, Surface};
use twinkeep_audit::{Call, Identity, Text};
use twinkeep_core::clock::{Clock, UnixMs};
use twinkeep_core::id::{ClusterId, InstanceId, NodeId, RequestId};
use twinkeep_core::name::ZoneName;

/// Shows the process's own steady time, and one wall time for ever.
pub(crate) struct SteadyClock(Instant);

impl Default for SteadyClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SteadyClock {
    fn unix_ms(&self) -> UnixMs {
        1_700_000_000_000
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Whose log it is.
pub(crate) fn identity() -> Identity {
    Identity {
        cluster: ClusterId::from_bytes([0x10; 16]),
        node: NodeId::FIRST,
        zone: ZoneName::parse("zone-a").unwrap(),
    }
}

/// A call whose request id holds `n`.
pub(crate) fn call(n: u64) -> Call {
    let mut request = [0; 16];
    request[8..].copy_from_slice(&n.to_be_bytes());
    Call {
        time_unix_ns: 1_700_000_000_000_000_000,
        request: RequestId::from_bytes(request),
        client_trace: None,
        instance: InstanceId::CLUSTER,
        principal: Principal {
            kind: PrincipalKind::Caller,
            name: Text::new("app"),
            credential: None,
        },
        source: None,
        surface: Surface::Grpc,
        operation: Text::new("Sign"),
        resources: Resources::default(),
        algorithm: None,
        context: None,
        input_bytes: 32,
        output_bytes: 64,
        decision: Decision::Allow,
        outcome: Text::new("OK"),
        backend: None,
        latency_us: 100,
        retries: 0,
        state_age_ms: None,
    }
}

/// A runtime for the waits of one thread.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}
