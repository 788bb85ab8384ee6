//! One answer of the metrics' endpoint: what was counted, and what is looked up when somebody asks.

use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;

use super::exposition;
use super::registry::Registry;

type Sampler = Box<dyn Fn() + Send>;

/// The metrics of this node.
#[derive(Default)]
pub(crate) struct Scrape {
    counted: Arc<Registry>,
    samplers: Mutex<Vec<Sampler>>,
}

impl Scrape {
    /// Makes this the process's recorder. Once in a process.
    pub(super) fn record(&self) -> anyhow::Result<()> {
        metrics::set_global_recorder(Arc::clone(&self.counted))
            .context("the process records metrics already")?;
        crate::metrics::describe_all();
        Ok(())
    }

    /// Adds something that looks up values. It is called for each answer, on the endpoint's thread, and
    /// sets gauges as if they were new: what it does not set is not shown. It must not wait, and holds
    /// what it looks at weakly, or that would never close.
    pub(crate) fn sample_with(&self, sampler: impl Fn() + Send + 'static) {
        self.samplers.lock().push(Box::new(sampler));
    }

    /// Returns everything as text.
    pub(super) fn text(&self) -> String {
        let looked_up = Registry::default();
        metrics::with_local_recorder(&looked_up, || {
            self.samplers.lock().iter().for_each(|sample| sample());
        });
        let mut series = self.counted.values();
        series.extend(looked_up.values());
        series.sort_by(|(a, _), (b, _)| a.cmp(b));
        exposition::text(&self.counted.described(), series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::{counter, gauge};

    #[test]
    fn what_is_no_longer_looked_up_is_no_longer_shown() {
        let scrape = Scrape::default();
        metrics::with_local_recorder(&*scrape.counted, || counter!("counted_total").increment(2));
        let peers = Arc::new(Mutex::new(vec!["1", "2"]));
        let seen = Arc::clone(&peers);
        scrape.sample_with(move || {
            seen.lock().iter().for_each(|peer| gauge!("lag_entries", "peer" => *peer).set(1.0));
        });
        let both = "counted_total 2\nlag_entries{peer=\"1\"} 1\nlag_entries{peer=\"2\"} 1\n";
        assert_eq!(scrape.text(), both);
        peers.lock().pop();
        assert_eq!(scrape.text(), "counted_total 2\nlag_entries{peer=\"1\"} 1\n");
    }
}
