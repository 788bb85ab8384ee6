//! The metrics of the node as a process, and where those of all crates come together.
//!
//! What is counted is counted where it happens. The rest is looked up for each answer: [`of_process`]
//! from the start of the process, [`of_node`] once the node is put together, [`of_callers`] once it
//! serves. They hold what they look at weakly.

use std::sync::{Arc, Weak};

use metrics::{counter, describe_counter, describe_gauge, gauge};
use twinkeep_audit::Log;
use twinkeep_pki::Credential;

use crate::config::{Config, Role};
use crate::node::assembly::Assembly;
use crate::telemetry::{Disk, Process, Registry, Scrape, started_unix_seconds};

/// Version of the software, as a label.
pub(crate) const BUILD_INFO: &str = "twinkeep_server_build_info";
/// Where the node stands, as labels.
pub(crate) const NODE_INFO: &str = "twinkeep_server_node_info";
/// When the process started.
pub(crate) const START_TIME_SECONDS: &str = "twinkeep_server_start_time_seconds";
/// Memory that the process has.
pub(crate) const RESIDENT_BYTES: &str = "twinkeep_server_resident_bytes";
/// Time that the process has computed.
pub(crate) const CPU_SECONDS: &str = "twinkeep_server_cpu_seconds";
/// File descriptors of the process.
pub(crate) const OPEN_FILES: &str = "twinkeep_server_open_files";
/// Size of the disk under the data folder.
pub(crate) const DATA_SIZE_BYTES: &str = "twinkeep_server_data_size_bytes";
/// Free room on the disk under the data folder.
pub(crate) const DATA_FREE_BYTES: &str = "twinkeep_server_data_free_bytes";
/// Whether the node holds no keys.
pub(crate) const IS_SEALED: &str = "twinkeep_server_is_sealed";
/// Time until a certificate ends.
pub(crate) const CERTIFICATE_LEFT_SECONDS: &str = "twinkeep_server_certificate_left_seconds";
/// Answers of the metrics' endpoint.
pub(crate) const SCRAPES_TOTAL: &str = "twinkeep_server_scrapes_total";

/// Tells the process's recorder what the metrics of all crates mean.
pub(crate) fn describe_all() {
    twinkeep_api::metrics::describe();
    twinkeep_audit::metrics::describe();
    twinkeep_raft::metrics::describe();
    twinkeep_storage::metrics::describe();
    describe();
}

fn describe() {
    describe_gauge!(BUILD_INFO, "1, with the software's `version`");
    describe_gauge!(NODE_INFO, "1, with the node's `zone` and `role`");
    describe_gauge!(START_TIME_SECONDS, "When the process started, in seconds since 1970");
    describe_gauge!(RESIDENT_BYTES, "Memory that the process has");
    describe_gauge!(CPU_SECONDS, "Time that the process has computed, in user and kernel mode");
    describe_gauge!(OPEN_FILES, "Open file descriptors of the process");
    describe_gauge!(DATA_SIZE_BYTES, "Size of the file system under the data folder");
    describe_gauge!(DATA_FREE_BYTES, "Room that the process may still use there");
    describe_gauge!(IS_SEALED, "1 while a data node holds no keys and refuses their use");
    describe_gauge!(
        CERTIFICATE_LEFT_SECONDS,
        "Time until a certificate ends, by `certificate`: the `node`'s, which other nodes see, and \
         its `endpoint`'s, which callers see; below zero it has ended"
    );
    describe_counter!(SCRAPES_TOTAL, "Answers of the metrics' endpoint, this one included");
}

/// Shows the process and its disk.
pub(crate) fn of_process(scrape: &Scrape, config: &Config) {
    let started = started_unix_seconds();
    let disk = Disk(config.node.data_dir.clone());
    let scrapes = counter!(SCRAPES_TOTAL);
    let zone = config.node.zone.clone();
    let role = match config.node.role {
        Role::Data => "data",
        Role::Witness => "witness",
    };
    scrape.sample_with(move || {
        scrapes.increment(1);
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        gauge!(NODE_INFO, "zone" => zone.clone(), "role" => role).set(1.0);
        gauge!(START_TIME_SECONDS).set(started);
        if let Some(now) = Process::now() {
            gauge!(RESIDENT_BYTES).set(float(now.resident_bytes));
            gauge!(CPU_SECONDS).set(now.cpu);
            gauge!(OPEN_FILES).set(float(now.open_files));
        }
        if let Some((size, free)) = disk.size_and_free() {
            gauge!(DATA_SIZE_BYTES).set(float(size));
            gauge!(DATA_FREE_BYTES).set(float(free));
        }
    });
}

/// Shows Raft, the databases, the node's certificate and its seal.
pub(crate) fn of_node(scrape: &Scrape, assembly: &Arc<Assembly>, role: Role) {
    let assembly = Arc::downgrade(assembly);
    scrape.sample_with(move || {
        let Some(assembly) = assembly.upgrade() else { return };
        twinkeep_raft::metrics::sample(assembly.node(), assembly.control.queue());
        if let (Some(log), Some(snapshots)) = (assembly.log.upgrade(), assembly.snapshots.upgrade())
        {
            twinkeep_storage::metrics::sample(&log, &assembly.state, &snapshots);
        }
        if role == Role::Data {
            gauge!(IS_SEALED).set(f64::from(u8::from(assembly.unsealer.is_sealed())));
        }
        certificate("node", &assembly, &assembly.credential);
    });
}

/// Shows the audit log and the certificate that callers see.
pub(crate) fn of_callers(
    scrape: &Scrape,
    assembly: &Arc<Assembly>,
    audit: &Arc<Log>,
    endpoint: &Arc<Credential>,
) {
    let assembly = Arc::downgrade(assembly);
    let (audit, endpoint): (Weak<Log>, _) = (Arc::downgrade(audit), Arc::downgrade(endpoint));
    scrape.sample_with(move || {
        if let Some(audit) = audit.upgrade() {
            twinkeep_audit::metrics::sample(&audit);
        }
        if let (Some(assembly), Some(endpoint)) = (assembly.upgrade(), endpoint.upgrade()) {
            certificate("endpoint", &assembly, &endpoint);
        }
    });
}

fn certificate(of: &'static str, assembly: &Assembly, credential: &Credential) {
    let ends = float(credential.facts().not_after_unix);
    let left = ends - float(assembly.clock.unix_ms() / 1000);
    gauge!(CERTIFICATE_LEFT_SECONDS, "certificate" => of).set(left);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; beyond 2^52 it rounds")]
fn float(value: u64) -> f64 {
    value as f64
}

/// Returns the table of all metrics in Markdown, as docs/observability.md has it.
pub(crate) fn table() -> String {
    let registry = Registry::default();
    metrics::with_local_recorder(&registry, describe_all);
    let mut out = String::from("| metric | kind | what it says |\n|---|---|---|\n");
    for (name, description) in registry.described() {
        out += &format!("| `{name}` | {} | {} |\n", description.kind.name(), description.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCS: &str = include_str!("../../../docs/observability.md");
    const CRATES: [&str; 5] = ["api", "audit", "raft", "server", "storage"];
    /// What a name may end with: what it counts, or what one of it is.
    const UNITS: [&str; 22] = [
        "total",
        "seconds",
        "bytes",
        "items",
        "entries",
        "operations",
        "messages",
        "streams",
        "records",
        "segments",
        "changes",
        "snapshots",
        "proposals",
        "nodes",
        "files",
        "index",
        "term",
        "info",
        "leader",
        "out",
        "sealed",
        "sync",
    ];

    fn described() -> Registry {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, describe_all);
        registry
    }

    #[test]
    fn every_name_has_crate_noun_and_unit() {
        for (name, description) in described().described() {
            let words: Vec<_> = name.split('_').collect();
            assert_eq!(words[0], "twinkeep", "{name}");
            assert!(CRATES.contains(&words[1]) && words.len() >= 3, "{name}");
            let unit = words[words.len() - 1];
            assert!(UNITS.contains(&unit), "{name} ends with no unit");
            let lower = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(lower) && !name.contains("__"), "{name}");
            let counts = description.kind.name() == "counter";
            assert_eq!(unit == "total", counts, "{name}: counters, and only they, are totals");
            assert!(description.help.starts_with(char::is_alphanumeric), "{name}");
        }
    }

    /// The same name in two crates would be described twice and shown once.
    #[test]
    fn no_two_crates_share_a_name() {
        let mut names = BTreeSet::new();
        let describes: [fn(); 5] = [
            twinkeep_api::metrics::describe,
            twinkeep_audit::metrics::describe,
            twinkeep_raft::metrics::describe,
            twinkeep_storage::metrics::describe,
            describe,
        ];
        for describe in describes {
            let registry = Registry::default();
            metrics::with_local_recorder(&registry, describe);
            for name in registry.described().into_keys() {
                assert!(names.insert(name.clone()), "{name} is there twice");
            }
        }
        assert_eq!(names, described().described().into_keys().collect());
    }

    #[test]
    fn documentation_has_the_table_of_all_metrics() {
        let shown = DOCS.lines().filter(|line| line.starts_with("| `twinkeep_"));
        let shown: Vec<_> = shown.collect();
        let table = table();
        let expected: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(shown, expected, "put what `twinkeepd metrics-table` prints into the page");
    }
}
