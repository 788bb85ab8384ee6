//! The metrics of the log: what its thread does is counted there, the rest is [`Log::status`] when asked.

use metrics::{
    Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::log::Log;

/// Records on the disk since the log was opened.
pub const RECORDS_TOTAL: &str = "twinkeep_audit_records_total";
/// Bytes on the disk since the log was opened.
pub const BYTES_TOTAL: &str = "twinkeep_audit_bytes_total";
/// Commits since the log was opened.
pub const COMMITS_TOTAL: &str = "twinkeep_audit_commits_total";
/// Time of one commit.
pub const SYNC_SECONDS: &str = "twinkeep_audit_sync_seconds";
/// Records that are not on the disk yet.
pub const WAITING_RECORDS: &str = "twinkeep_audit_waiting_records";
/// Whether the log takes no records.
pub const IS_OUT: &str = "twinkeep_audit_is_out";
/// Segments that the reserve has room for.
pub const SPARE_SEGMENTS: &str = "twinkeep_audit_spare_segments";
/// Segments that the reserve lacks.
pub const MISSING_SEGMENTS: &str = "twinkeep_audit_missing_segments";

/// Tells the process's recorder what the metrics of this crate mean.
pub fn describe() {
    describe_counter!(RECORDS_TOTAL, "Audit records on the disk since the log was opened");
    describe_counter!(BYTES_TOTAL, "Bytes of audit log on the disk since it was opened");
    describe_counter!(COMMITS_TOTAL, "Commits of the audit log, each one sync");
    describe_histogram!(SYNC_SECONDS, "Time of one commit of the audit log, its sync included");
    describe_gauge!(WAITING_RECORDS, "Audit records that are not on the disk yet");
    describe_gauge!(IS_OUT, "1 while the audit log takes no records and calls are refused");
    describe_gauge!(SPARE_SEGMENTS, "Segments that the audit reserve has room for");
    describe_gauge!(MISSING_SEGMENTS, "Segments that the audit reserve lacks: the disk is full");
}

/// Shows how a log stands now.
#[expect(clippy::cast_precision_loss, reason = "a queue and a reserve are no larger than 2^52")]
pub fn sample(log: &Log) {
    let status = log.status();
    counter!(RECORDS_TOTAL).absolute(status.records);
    counter!(BYTES_TOTAL).absolute(status.bytes);
    counter!(COMMITS_TOTAL).absolute(status.commits);
    gauge!(WAITING_RECORDS).set(status.waiting_records as f64);
    gauge!(IS_OUT).set(f64::from(u8::from(status.outage.is_some())));
    gauge!(SPARE_SEGMENTS).set(status.spare_segments as f64);
    gauge!(MISSING_SEGMENTS).set(status.spare_segments_missing as f64);
}

/// Returns the handle that commits are timed with.
pub(crate) fn sync_seconds() -> Histogram {
    histogram!(SYNC_SECONDS)
}
