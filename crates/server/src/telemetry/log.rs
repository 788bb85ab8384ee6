//! What the node says on standard error.

use std::sync::Once;

use anyhow::Context;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use super::traces;
use crate::config::{LogConfig, LogFormat};

/// Sets up logging, and has panics logged with their place alone: a panic's text may hold what it
/// compared.
pub(super) fn start(config: &LogConfig, traces: Option<&SdkTracerProvider>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.filter)
        .with_context(|| format!("log.filter `{}` is no filter", config.filter))?;
    match traces {
        // One filter for everything: what it leaves out costs nothing.
        None => tracing_subscriber::registry().with(filter).with(messages(config)).init(),
        Some(traces) => {
            let messages = messages(config).with_filter(filter);
            tracing_subscriber::registry().with(messages).with(traces::layer(traces)).init();
        }
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "a task panicked");
        }));
    });
    Ok(())
}

fn messages<S>(config: &LogConfig) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let messages = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => messages.with_ansi(false).boxed(),
        LogFormat::Json => messages.json().boxed(),
    }
}
