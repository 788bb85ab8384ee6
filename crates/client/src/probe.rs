//! Finding out how nodes are, without spending calls on it.
//!
//! One task for each client asks nodes for their health (`grpc.health.v1`, of the service that uses keys), over the
//! connections that calls take:
//!
//! - a node that was ejected, when its time is over: the answer takes it back, or keeps it out for longer;
//! - every other one now and then. That keeps connections to the far zone open, so that the first hedge to it need
//!   not shake hands, and finds nodes that are sealed or stop before a call does.
//!
//! | what comes of a probe                                              | the node is |
//! |--------------------------------------------------------------------|-------------|
//! | `SERVING`                                                          | good        |
//! | another answer about the call itself: no such service, not allowed, busy | good: it answers, and calls are told more |
//! | `NOT_SERVING` and all else that is served                          | ejected     |
//! | no connection                                                      | ejected     |
//! | no answer within [`PROBE_LIMIT`]                                   | ejected after three of them in a row, if it was good |
//! | a certificate is refused                                           | ejected for long |
//!
//! The same task replaces all connections when a newer incarnation of the cluster was met ([`crate::memory`]): those
//! to nodes that were given up do not come about again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use twinkeep_proto::v1::crypto_service_server::SERVICE_NAME;

use crate::client::Shared;
use crate::error::local;
use crate::node::{NextProbe, Node, Probed};
use crate::refusal::Refusal;

/// Longest time for a probe, connecting included.
const PROBE_LIMIT: Duration = Duration::from_millis(500);
/// How often the task looks at the nodes when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Probes nodes until the client is gone.
pub(crate) fn watch(shared: Weak<Shared>) -> AbortHandle {
    tokio::spawn(run(shared)).abort_handle()
}

async fn run(shared: Weak<Shared>) {
    let receivers = shared.upgrade().map(|shared| (shared.pool.news(), shared.memory.newest()));
    let Some((mut news, mut newest)) = receivers else { return };
    let mut probes = JoinSet::new();
    let mut incarnation = *newest.borrow();
    loop {
        let Some(next) = shared.upgrade().map(|shared| begin(&shared, &mut probes)) else { return };
        tokio::select! {
            () = sleep_until(next) => {}
            Some(_) = probes.join_next(), if !probes.is_empty() => {}
            Ok(()) = news.changed() => {}
            Ok(()) = newest.changed() => {
                let met = *newest.borrow_and_update();
                let Some(shared) = shared.upgrade() else { return };
                // The first life that is met makes no connection older.
                if std::mem::replace(&mut incarnation, met) != 0 {
                    tracing::warn!(incarnation = met, "the cluster was recovered: all connections are made anew");
                    shared.pool.redial();
                }
            }
        }
    }
}

/// Begins the probes that are due; returns when to look again.
fn begin(shared: &Shared, probes: &mut JoinSet<()>) -> Instant {
    let now = Instant::now();
    let mut next = now + LOOK_EVERY;
    for node in shared.pool.nodes() {
        match node.next_probe(now) {
            NextProbe::Now => drop(probes.spawn(probe(node))),
            NextProbe::At(at) => next = next.min(at),
            NextProbe::Begun => {}
        }
    }
    next
}

async fn probe(node: Arc<Node>) {
    let request = HealthCheckRequest { service: SERVICE_NAME.to_owned() };
    let mut client = HealthClient::new(node.channel());
    let answer = timeout(PROBE_LIMIT, client.check(request)).await;
    let found = match answer {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => Probed::Well,
        Ok(Ok(_)) => Probed::Unwell,
        Err(_) => Probed::Silent,
        Ok(Err(status)) => judge(&node.address, &status),
    };
    tracing::trace!(node.address, ?found, "probed");
    node.probed(found);
}

fn judge(address: &str, status: &Status) -> Probed {
    if Refusal::of(address, status).is_some() {
        return Probed::Refused;
    }
    if local(status) {
        return Probed::Unwell;
    }
    match status.code() {
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Probed::Well,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Probed::Unwell,
    }
}
