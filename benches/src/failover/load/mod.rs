//! What is done to a cluster while it loses something: crypto calls and control writes, through the client library.

pub(crate) mod crypto;
pub(crate) mod spectrum;
pub(crate) mod writer;

use std::time::Duration;

use tokio::time::Instant;

use crypto::{Application, Sent};
use spectrum::Spectrum;
use writer::{Write, Writer};

use super::records::{Calls, Failure, Writes};
use super::site::Site;

/// Calls that were sent within this time after a loss make up the event.
pub(crate) const EVENT: Duration = Duration::from_secs(2);
/// Writes that took longer are told one by one.
const SLOW_WRITE: Duration = Duration::from_millis(50);

/// Everything that calls.
pub(crate) struct Load {
    applications: [Application; 2],
    pub(crate) writer: Writer,
}

impl Load {
    /// Begins to call: an application in each zone, and a writer in one.
    pub(crate) async fn start(site: &Site<'_>, writer_zone: &str) -> anyhow::Result<Self> {
        let application = |zone| async move {
            Application::start(site.client_in(zone)?, zone, site.first_key()?).await
        };
        let (a, b) = tokio::try_join!(application("a"), application("b"))?;
        let writer = Writer::start(&site.client_in(writer_zone)?, site.new_key()?);
        Ok(Self { applications: [a, b], writer })
    }

    /// Splits it, since the writer ends first.
    pub(crate) fn split(self) -> ([Application; 2], Writer) {
        (self.applications, self.writer)
    }
}

/// Ends the applications and returns all their calls.
pub(crate) async fn stop(applications: [Application; 2]) -> anyhow::Result<Vec<Sent>> {
    let [a, b] = applications;
    let (mut calls, more) = tokio::try_join!(a.stop(), b.stop())?;
    calls.extend(more);
    Ok(calls)
}

/// Sums up calls around an event that lasts for a while.
pub(crate) fn calls(sent: &[Sent], event: Instant, lasts: Duration) -> Calls {
    let mut during = Spectrum::default();
    for call in sent.iter().filter(|call| call.due >= event && call.due < event + lasts) {
        during.add(call.took);
    }
    let failures = sent.iter().filter_map(|call| {
        Some(Failure {
            at_ms: since(event, call.due),
            took_ms: ms(call.took),
            what: format!("{} in zone {}", call.operation, call.zone),
            error: call.failed.clone()?,
        })
    });
    Calls { sent: sent.len(), failures: failures.collect(), during }
}

/// Sums up writes around an event.
pub(crate) fn writes(done: &[Write], event: Instant) -> Writes {
    let took = |write: &Write| write.ended - write.sent;
    let slow = done.iter().filter(|write| took(write) > SLOW_WRITE);
    let failures = done.iter().filter_map(|write| {
        Some(Failure {
            at_ms: since(event, write.sent),
            took_ms: ms(took(write)),
            what: "create key".to_owned(),
            error: write.key_id.as_ref().err()?.clone(),
        })
    });
    Writes {
        acknowledged: done.iter().filter(|write| write.key_id.is_ok()).count(),
        failures: failures.collect(),
        slow_ms: slow.map(|write| (since(event, write.sent), ms(took(write)))).collect(),
        lost: Vec::new(),
    }
}

/// Milliseconds, to a microsecond.
pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Milliseconds from an event to a moment, negative before it.
pub(crate) fn since(event: Instant, moment: Instant) -> f64 {
    ms(moment.saturating_duration_since(event)) - ms(event.saturating_duration_since(moment))
}
