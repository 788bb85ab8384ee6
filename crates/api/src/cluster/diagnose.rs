//! Diagnose: what the answering node knows of its machine, of its peers, and of what has to be renewed.

use std::time::Duration;

use twinkeep_core::record::{ClusterRecord, ClusterVersion, Record as _};
use twinkeep_core::recovery::LastEntry;
use twinkeep_pki::certificate::end_unix;
use twinkeep_proto::v1;

use super::Cluster;
use crate::authorize::{Entered, Handle};
use crate::error::CallError;
use crate::operation as op;
use crate::ports::{Certificate, Diagnosis, Freshness, PeerDiagnosis};

impl Handle<op::Diagnose> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::Diagnose>,
        _: &v1::DiagnoseRequest,
    ) -> Result<v1::DiagnoseResponse, CallError> {
        call.on_cluster()?;
        let control = self.changes.control();
        let record = ClusterRecord::load(&*control.view(), &())?;
        let record = record.ok_or_else(|| CallError::Missing("the cluster record".to_owned()))?;
        let (node, machine) = (self.cluster.status(), self.cluster.diagnose());
        let Diagnosis { heartbeat, election_min, election_max, log_sync_p99, .. } = machine;
        let (disk_size_bytes, disk_free_bytes) = machine.disk.unwrap_or_default();
        Ok(v1::DiagnoseResponse {
            node_id: node.node.get(),
            software_version: node.software_version.to_owned(),
            sealed: node.sealed,
            state_fresh: control.freshness() == Freshness::Fresh,
            unix_ms: machine.unix_ms,
            pauses_unknown: machine.virtual_machine,
            heartbeat_ms: short_millis(heartbeat),
            election_min_ms: short_millis(election_min),
            election_max_ms: short_millis(election_max),
            log_syncs: machine.log_syncs as u64,
            log_sync_p99_us: micros(log_sync_p99),
            disk_size_bytes,
            disk_free_bytes,
            peers: machine.peers.into_iter().map(peer).collect(),
            certificates: machine.certificates.into_iter().map(certificate).collect(),
            authorities: authorities(&record),
            cluster_version_max: ClusterVersion::NEWEST.0,
            operators: u32::try_from(record.operators.len()).unwrap_or(u32::MAX),
            dev: record.dev,
            majority_zone: record.preferred_zone.map(|zone| zone.to_string()).unwrap_or_default(),
            log_end: machine.log_end.map(log_end),
            takes_part: machine.takes_part,
            node_public_key: machine.public_key.into(),
            state_index: 0,
        })
    }
}

fn log_end(LastEntry { term, leader, index }: LastEntry) -> v1::LogEnd {
    v1::LogEnd { term, leader_node_id: leader, index }
}

fn peer(peer: PeerDiagnosis) -> v1::PeerDiagnosis {
    v1::PeerDiagnosis {
        node_id: peer.node.get(),
        read_ago_ms: millis(peer.read_ago),
        round_trip_us: micros(peer.round_trip),
        clock_ahead_ms: peer.clock_ahead_ms,
        sealed: peer.sealed,
        software_version: peer.software_version,
    }
}

fn certificate(certificate: Certificate) -> v1::CertificateEnd {
    let Certificate { kind, not_after_unix } = certificate;
    v1::CertificateEnd { kind: kind.to_owned(), not_after_unix_s: not_after_unix }
}

/// Returns the ends of the cluster's authorities. One that does not decode is left out: every connection would tell.
fn authorities(cluster: &ClusterRecord) -> Vec<v1::CertificateEnd> {
    let roots = &cluster.roots;
    let all = [("node", &roots.node), ("caller", &roots.caller), ("endpoint", &roots.endpoint)];
    let end = |(kind, der): (&'static str, &Vec<u8>)| {
        let not_after_unix = end_unix(&der.as_slice().into()).ok()?;
        Some(certificate(Certificate { kind, not_after_unix }))
    };
    all.into_iter().filter_map(end).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn short_millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
