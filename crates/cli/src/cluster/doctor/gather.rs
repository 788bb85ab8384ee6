//! Asks every node what it knows of itself and of the others.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use time::OffsetDateTime;
use twinkeep_client::{Client, v1};
use twinkeep_pki::{Facts as CertificateFacts, pem};

use super::super::status::{Node as Seen, Status};
use super::facts::{Certificate, Facts, Mode, Node, Own, Peer};

/// How long each node has for its answer.
const NODE_LIMIT: Duration = Duration::from_secs(2);

/// Days before the end of a certificate that something is to be done: as the alert `certificate-ends`, for those that
/// nodes renew by themselves.
const RENEWED_NOTICE_DAYS: u64 = 14;
/// The same for the caller's own, which nobody renews.
const CALLER_NOTICE_DAYS: u64 = 14;
/// The same for authorities: everything that they signed ends with them.
const AUTHORITY_NOTICE_DAYS: u64 = 180;

/// Asks every data node of a status, and reads the caller's certificate.
pub(super) async fn facts(
    client: &Client,
    status: &Status,
    certificate: Option<&Path>,
) -> anyhow::Result<Facts> {
    let seen: Vec<(&str, &Seen)> = status
        .zones
        .iter()
        .flat_map(|zone| zone.nodes.iter().map(|node| (zone.zone.as_str(), node)))
        .collect();
    let answers = join_all(seen.iter().map(|(_, node)| diagnosed(client, node))).await;
    let mut certificates: Vec<_> = certificate.map(callers).transpose()?.into_iter().collect();
    // All nodes say the same of the cluster: they read it from the replicated state.
    let any = answers.iter().flatten().next();
    certificates.extend(any.iter().flat_map(|any| &any.authorities).map(authority));
    let nodes =
        seen.iter().zip(&answers).map(|((zone, node), answer)| member(zone, node, answer.as_ref()));
    let leadership = &status.leadership;
    Ok(Facts {
        leader: Some(status.leader_node_id).filter(|leader| *leader != 0),
        nodes: nodes.collect(),
        mode: mode(status),
        mode_since: status.replication.as_ref().and_then(|r| r.since.clone()).unwrap_or_default(),
        preferred_zone: leadership.preferred_zone.clone(),
        drained_zone: leadership.drained_zone.clone(),
        drained_since: leadership.drained_since.clone().unwrap_or_default(),
        majority_zone: any.map(|any| any.majority_zone.clone()).filter(|zone| !zone.is_empty()),
        cluster_version: status.cluster_version,
        operators: any.map(|any| any.operators),
        dev: any.is_some_and(|any| any.dev),
        certificates,
        now_unix: u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0),
    })
}

async fn diagnosed(client: &Client, node: &Seen) -> Option<v1::DiagnoseResponse> {
    if node.is_witness() {
        return None;
    }
    let client = client.at(&node.client_address)?.any_state().with_deadline(NODE_LIMIT);
    match client.diagnose(v1::DiagnoseRequest::default()).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            // Its silence is a finding; a node that refuses is to be told of at once.
            tracing::debug!(node = node.node_id, %error, "no diagnosis");
            None
        }
    }
}

fn member(zone: &str, node: &Seen, answer: Option<&v1::DiagnoseResponse>) -> Node {
    Node {
        id: node.node_id,
        zone: zone.to_owned(),
        is_witness: node.is_witness(),
        is_voter: node.standing == "VOTER",
        is_up: if answer.is_some() { Some(true) } else { node.is_up() },
        behind: node.entries_behind,
        own: answer.map(own),
    }
}

fn own(answer: &v1::DiagnoseResponse) -> Own {
    let peer = |peer: &v1::PeerDiagnosis| Peer {
        node: peer.node_id,
        read_ago_ms: peer.read_ago_ms,
        round_trip_us: peer.round_trip_us,
        clock_ahead_ms: peer.clock_ahead_ms,
        version: peer.software_version.clone(),
    };
    Own {
        is_sealed: answer.sealed,
        is_fresh: answer.state_fresh,
        takes_part: answer.takes_part,
        version: answer.software_version.clone(),
        cluster_version_max: answer.cluster_version_max,
        may_be_paused: answer.pauses_unknown,
        heartbeat_ms: answer.heartbeat_ms.into(),
        election_min_ms: answer.election_min_ms.into(),
        log_syncs: answer.log_syncs,
        log_sync_p99_us: answer.log_sync_p99_us,
        disk: (answer.disk_size_bytes, answer.disk_free_bytes),
        peers: answer.peers.iter().map(peer).collect(),
        certificates: answer.certificates.iter().map(renewed).collect(),
    }
}

fn mode(status: &Status) -> Mode {
    match &status.replication {
        Some(replication) => match replication.mode {
            "SYNC" => Mode::Sync,
            "DEGRADED" => Mode::Degraded(replication.zone.clone()),
            "RECOVERING" => Mode::Recovering(replication.zone.clone()),
            _ => Mode::None,
        },
        None => Mode::None,
    }
}

fn renewed(certificate: &v1::CertificateEnd) -> Certificate {
    Certificate {
        whose: format!("the {} certificate", certificate.kind),
        not_after_unix: certificate.not_after_unix_s,
        notice_days: RENEWED_NOTICE_DAYS,
        way_out: "nodes renew it by themselves: see why not in the node's messages, and runbook.md, certificate-ends",
    }
}

fn authority(certificate: &v1::CertificateEnd) -> Certificate {
    Certificate {
        whose: format!("the authority of {} certificates", certificate.kind),
        not_after_unix: certificate.not_after_unix_s,
        notice_days: AUTHORITY_NOTICE_DAYS,
        way_out: "everything that it signed ends with it: plan a new cluster, or a release that replaces authorities",
    }
}

/// Reads the end of the caller's own certificate.
fn callers(path: &Path) -> anyhow::Result<Certificate> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let chain = pem::read_certificates(&text)
        .with_context(|| format!("{} holds no certificate", path.display()))?;
    let own = chain.first().with_context(|| format!("{} holds no certificate", path.display()))?;
    let facts = CertificateFacts::of(own)
        .with_context(|| format!("{} is no caller's certificate", path.display()))?;
    Ok(Certificate {
        whose: format!("the caller's certificate {}", path.display()),
        not_after_unix: facts.not_after_unix,
        notice_days: CALLER_NOTICE_DAYS,
        way_out: "an admin issues a new one with `twinkeep access issue-certificate`",
    })
}
