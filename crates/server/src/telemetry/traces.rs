//! Spans on their way to a collector, by OTLP over gRPC.
//!
//! Only spans of one target are made into traces: their fields are chosen one by one where they are
//! made, and no other span or message, whatever it holds, leaves by this way. Spans wait in a bounded
//! queue; what does not fit while a collector is away is dropped.

use std::time::Duration;

use anyhow::Context;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::config::Config;

/// The target of spans that become traces. The macros of `tracing` want it written out where spans are made.
const TARGET: &str = "twinkeep_trace";
/// Longest wait for a collector.
const SEND_MAX: Duration = Duration::from_secs(3);

/// Makes what spans go to; `None` when no collector is configured. Called within the runtime that is to send
/// them.
///
/// # Errors
/// When the endpoint is none.
pub(super) fn provider(config: &Config) -> anyhow::Result<Option<SdkTracerProvider>> {
    let Some(endpoint) = &config.tracing.otlp_endpoint else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(SEND_MAX)
        .build()
        .with_context(|| format!("tracing.otlp-endpoint {endpoint}"))?;
    let ratio = Sampler::TraceIdRatioBased(config.tracing.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(ratio)))
        .with_resource(resource(config));
    Ok(Some(provider.build()))
}

/// Says who sends the spans.
fn resource(config: &Config) -> Resource {
    let node = &config.node;
    Resource::builder_empty()
        .with_service_name("twinkeepd")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.client_address.to_string()),
            KeyValue::new("cloud.availability_zone", node.zone.clone()),
        ])
        .build()
}

/// Returns the layer that makes spans into traces.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("twinkeepd"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(TARGET, Level::DEBUG))
}

/// Sends what waits, and ends.
pub(super) fn flush(provider: &SdkTracerProvider) -> OTelSdkResult {
    provider.shutdown_with_timeout(SEND_MAX)
}
