//! What the node tells about itself: messages, metrics, traces.
//!
//! | file            | holds                                                                    |
//! |-----------------|--------------------------------------------------------------------------|
//! | `log.rs`        | messages on standard error                                               |
//! | `registry.rs`   | the metrics that are counted, as the `metrics` facade's recorder         |
//! | `histogram.rs`  | a histogram of fixed buckets                                             |
//! | `exposition.rs` | metrics as text, in Prometheus' format                                   |
//! | `scrape.rs`     | one answer: what was counted, and what is looked up when asked           |
//! | `endpoint.rs`   | the HTTP endpoint                                                        |
//! | `process.rs`    | what the kernel says of the process                                      |
//! | `traces.rs`     | spans on their way to a collector                                        |
//! | `calls.rs`      | a span for each call that comes in                                       |
//!
//! Metrics and traces leave by a thread with a runtime of its own, so that load hides neither.

mod calls;
mod endpoint;
mod exposition;
mod histogram;
mod log;
mod process;
mod registry;
mod scrape;
mod traces;

use std::future::pending;
use std::sync::Arc;

use anyhow::Context;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::{Builder, Runtime};

use crate::config::Config;

pub(crate) use calls::{Begin, TraceCalls};
pub(crate) use process::{Disk, Process, started_unix_seconds};
pub(crate) use registry::Registry;
pub(crate) use scrape::Scrape;

/// What the node tells, running.
pub(crate) struct Telemetry {
    /// The node's metrics.
    pub(crate) scrape: Arc<Scrape>,
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Begins to tell. What is made of metrics' handles before this is called counts nothing.
    ///
    /// # Errors
    /// When the filter of messages is none, or the metrics' address cannot be listened on.
    pub(crate) fn start(config: &Config) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start telemetry's runtime")?;
        let entered = runtime.enter();
        let traces = traces::provider(config)?;
        log::start(&config.log, traces.as_ref())?;
        let scrape = Arc::new(Scrape::default());
        let listener = match config.metrics.address {
            Some(address) => {
                scrape.record()?;
                crate::metrics::of_process(&scrape, config);
                Some(endpoint::listen(address)?)
            }
            None => None,
        };
        drop(entered);
        if listener.is_some() || traces.is_some() {
            let scrape = Arc::clone(&scrape);
            run(runtime, async move {
                match listener {
                    Some(listener) => endpoint::serve(listener, scrape).await,
                    None => pending().await,
                }
            })?;
        }
        Ok(Self { scrape, traces })
    }

    /// Sends the spans that are still here. Waits, but not for long.
    pub(crate) fn end(&self) {
        if let Some(Err(error)) = self.traces.as_ref().map(traces::flush) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

fn run(runtime: Runtime, work: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let thread = std::thread::Builder::new().name("telemetry".into());
    thread.spawn(move || runtime.block_on(work)).context("cannot start telemetry's thread")?;
    Ok(())
}
