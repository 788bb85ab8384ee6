//! Peers that lie: nothing they send changes a record, a member or the order of what was signed.

use bytes::Bytes;
use tonic::Code;
use twinkeep_core::command::Command;
use twinkeep_core::outcome::{Outcome, Refusal};
use twinkeep_core::topology::Standing;
use twinkeep_proto::peer::v1 as pb;
use twinkeep_raft::codec::encode_entry;
use twinkeep_raft::types::{Entry, LeaderId, LogId, Membership, Payload, SignedBytes};
use twinkeep_raft::{Contact, ProposeError};

use crate::support::{CLUSTER, Cluster, KEY, STRANGER, config, signed, soon};

fn header(from: u64, to: u64) -> pb::Header {
    let cluster_id = Bytes::from_static(CLUSTER.as_bytes());
    pb::Header { cluster_id, incarnation: 1, from, to, starts: Bytes::new() }
}

/// A run of entries behind the last one of a follower, in a term that its sender claims to lead.
fn claim(
    cluster: &Cluster,
    from: u64,
    to: u64,
    payloads: Vec<Payload>,
) -> pb::AppendEntriesRequest {
    let status = cluster.node(to).status();
    let (last, leader) = (status.last_index.unwrap(), status.leader.unwrap());
    let term = status.term + 1;
    let entries = payloads.into_iter().enumerate().map(|(i, payload)| {
        let index = last + 1 + i as u64;
        let log_id = LogId::new(LeaderId { term, node_id: from }, index);
        encode_entry(&Entry { log_id, payload }).into()
    });
    pb::AppendEntriesRequest {
        header: Some(header(from, to)),
        vote: Some(pb::Vote { term, node_id: from, committed: true }),
        prev_log_id: Some(pb::LogId { term: status.term, node_id: leader, index: last }),
        entries: entries.collect(),
        leader_commit: None,
        sync_lease: None,
        acknowledged: Vec::new(),
    }
}

/// Lets a message know of every start that its receiver knows of: those stand in the refusal of one that does not.
async fn heard(cluster: &Cluster, mut claim: pb::AppendEntriesRequest) -> pb::AppendEntriesRequest {
    let (from, to) = claim.header.as_ref().map(|header| (header.from, header.to)).unwrap();
    let refusal = cluster.client(from, to).append_entries(claim.clone()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Aborted, "{refusal:?}");
    let header = claim.header.as_mut().unwrap();
    header.starts = Bytes::copy_from_slice(refusal.details());
    claim
}

fn follower(cluster: &Cluster) -> u64 {
    let leader = cluster.node(5).status().leader.unwrap();
    (1..=4).find(|node| *node != leader).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_fit_its_certificate_is_refused() {
    let cluster = Cluster::five(config()).await;
    let to = follower(&cluster);
    let mut client = cluster.client(5, to);
    let wrong = [
        (header(1, to), Code::PermissionDenied),
        (header(5, 9), Code::FailedPrecondition),
        (pb::Header { incarnation: 2, ..header(5, to) }, Code::FailedPrecondition),
        (pb::Header { cluster_id: vec![1; 16].into(), ..header(5, to) }, Code::FailedPrecondition),
    ];
    for (header, code) in wrong {
        let hello = pb::HelloRequest { header: Some(header.clone()) };
        assert_eq!(client.hello(hello).await.unwrap_err().code(), code, "{header:?}");
        let request = pb::ProposeRequest { header: Some(header), batch: Bytes::new() };
        assert_eq!(client.propose(request).await.unwrap_err().code(), code);
    }
    let nobody = pb::HelloRequest { header: None };
    assert_eq!(client.hello(nobody).await.unwrap_err().code(), Code::InvalidArgument);
    client.hello(pb::HelloRequest { header: Some(header(5, to)) }).await.unwrap();
}

/// The TLS of the port may let in a key that was admitted and has not joined, so that it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_a_record_is_refused() {
    let mut cluster = Cluster::five(config()).await;
    cluster.machine(9, "a", twinkeep_core::topology::NodeRole::Data).await;
    cluster.trust_everybody();
    let to = follower(&cluster);
    cluster.kill(to);
    cluster.start(to).await;
    let mut client = cluster.client(9, to);
    let hello = pb::HelloRequest { header: Some(header(9, to)) };
    assert_eq!(client.hello(hello).await.unwrap_err().code(), Code::PermissionDenied);
    let request = pb::FetchSnapshotRequest { header: Some(header(9, to)) };
    assert_eq!(client.fetch_snapshot(request).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_entries_and_votes_are_answered_and_harm_nobody() {
    let cluster = Cluster::five(config()).await;
    let to = follower(&cluster);
    let mut client = cluster.client(5, to);
    let good = claim(&cluster, 5, to, vec![Payload::Blank]);
    let mut requests = vec![good.clone(); 8];
    requests[0].vote = Some(pb::Vote { term: 9, node_id: 1, committed: true });
    requests[1].vote = Some(pb::Vote { term: u64::MAX, node_id: 5, committed: true });
    requests[2].vote = None;
    requests[3].entries = vec![Bytes::from_static(b"rubbish")];
    requests[4].entries = vec![good.entries[0].clone(); 2];
    requests[5].prev_log_id = Some(pb::LogId { term: 1, node_id: 1, index: u64::MAX });
    requests[6].leader_commit = Some(pb::LogId { term: 1 << 40, node_id: 1, index: 1 });
    requests[7].entries = vec![Bytes::from_static(&[1, 0]); 300];
    for request in requests {
        let status = client.append_entries(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let ask = |kind: i32, node_id, committed| pb::RequestVoteRequest {
        header: Some(header(5, to)),
        kind,
        vote: Some(pb::Vote { term: 99, node_id, committed }),
        last_log_id: None,
        leadership_transfer: true,
    };
    for request in [ask(2, 1, false), ask(2, 5, true), ask(0, 5, false), ask(7, 5, false)] {
        let status = client.request_vote(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let index = cluster.tick(to).await;
    cluster.all_applied(index).await;
}

/// The witness claims a leadership that nobody granted and sends what it likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_leader_changes_no_record() {
    let cluster = Cluster::five(config()).await;
    let to = follower(&cluster);
    let records = cluster.node(to).roster().records();
    let removal = Command::SetStandings {
        changes: vec![twinkeep_core::command::StandingChange {
            node: crate::support::id(1),
            to: Standing::Removed,
            expected: records[&1].revision,
        }],
    };
    let forged = signed(&STRANGER, 1, vec![removal.clone()]);
    let by_witness = signed(&STRANGER, 5, vec![removal]);
    let payloads = [forged, by_witness, Bytes::from_static(b"unsigned")];
    let payloads = payloads.map(|bytes| Payload::Normal(SignedBytes(bytes))).to_vec();
    let request = heard(&cluster, claim(&cluster, 5, to, payloads)).await;
    cluster.client(5, to).append_entries(request).await.unwrap();
    let index = cluster.tick(to).await;
    cluster.all_applied(index).await;
    for number in 1..=5 {
        assert_eq!(cluster.node(number).roster().records(), records);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_with_a_stranger_is_not_taken() {
    let cluster = Cluster::five(config()).await;
    let to = follower(&cluster);
    let contact = |node: u64| (node, Contact::new(format!("127.0.1.{node}:1")));
    let nodes = [1, 2, 3, 4, 5, 77].map(contact);
    let members = Membership::new(vec![[77, 5].into()], std::collections::BTreeMap::from(nodes));
    let payloads = vec![Payload::Blank, Payload::Membership(members.unwrap()), Payload::Blank];
    let request = heard(&cluster, claim(&cluster, 5, to, payloads)).await;
    let last = request.prev_log_id.unwrap().index;
    let answer = cluster.client(5, to).append_entries(request).await.unwrap().into_inner();
    // The blank entry in front of it is all that was taken.
    let Some(pb::append_entries_response::Result::Matched(matched)) = answer.result else {
        panic!("{answer:?}")
    };
    assert_eq!(matched.log_id.unwrap().index, last + 1);
    let index = cluster.tick(to).await;
    cluster.all_applied(index).await;
    for number in 1..=5 {
        let members = cluster.node(number).status().members;
        assert!(members.iter().all(|member| member.node != 77));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_batch_is_signed_by_its_sender_or_refused() {
    let cluster = Cluster::five(config()).await;
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    let from = follower(&cluster);
    let tick = || vec![Command::Clock { unix_ms: 1 }];
    let other = (1..=4).find(|node| *node != from).unwrap();
    let forgeries = [
        (from, signed(&STRANGER, from, tick())),
        (from, signed(&KEY, other, tick())),
        (from, Bytes::from_static(b"unsigned")),
        (from, Bytes::new()),
        // The witness has no key; were it to have one, it would still be no data node.
        (5, signed(&KEY, 5, tick())),
        (5, signed(&KEY, from, tick())),
    ];
    let before = cluster.node(leader).status().last_index;
    for (sender, batch) in forgeries {
        let request = pb::ProposeRequest { header: Some(header(sender, leader)), batch };
        let answer = cluster.client(sender, leader).propose(request).await.unwrap().into_inner();
        let refused = matches!(answer.result, Some(pb::propose_response::Result::Refused(_)));
        assert!(refused, "{answer:?}");
    }
    assert_eq!(cluster.node(leader).status().last_index, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_batch_in_the_log_is_refused_on_every_node() {
    let cluster = Cluster::five(config()).await;
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    let batch = signed(&STRANGER, leader, vec![Command::Clock { unix_ms: u64::MAX }]);
    let done = cluster.node(leader).propose(batch, soon()).await.unwrap();
    assert_eq!(done.outcomes, [Outcome::Refused(Refusal::Unsigned)]);
    cluster.all_applied(done.index).await;
    // Had the clock moved to its end, every batch after it would be late.
    cluster.tick(leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_batch_changes_nothing() {
    let mut cluster = Cluster::five(config()).await;
    cluster.join(6, "a", twinkeep_core::topology::NodeRole::Data).await;
    let revision = cluster.node(1).roster().records()[&6].revision;
    let promote = |to| twinkeep_core::command::StandingChange {
        node: crate::support::id(6),
        to,
        expected: revision,
    };
    let changes = vec![promote(Standing::Learner)];
    let batch = signed(&KEY, 1, vec![Command::SetStandings { changes }]);
    let first = cluster.node(1).propose(batch.clone(), soon()).await.unwrap();
    assert!(matches!(first.outcomes[..], [Outcome::Applied(_)]));
    let records = cluster.node(1).roster().records();
    let again = cluster.node(1).propose(batch, soon()).await.unwrap();
    assert!(matches!(again.outcomes[..], [Outcome::Refused(Refusal::RevisionMismatch { .. })]));
    assert_eq!(cluster.node(1).roster().records(), records);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_the_limit_is_refused_before_it_is_proposed() {
    let mut cluster = Cluster::new(config());
    cluster.begin().await;
    // A new leader marks what it finds; nothing follows by itself after that.
    let mut applied = cluster.node(1).replication().applied();
    applied.wait_for(|applied| applied.usable_up_to > 0).await.unwrap();
    let before = cluster.node(1).status().last_index;
    let batch = Bytes::from(vec![0; 2 << 20]);
    let refused = cluster.node(1).propose(batch, soon()).await;
    assert!(matches!(refused, Err(ProposeError::Refused(_))), "{refused:?}");
    assert_eq!(cluster.node(1).status().last_index, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_without_a_data_nodes_signature_is_refused() {
    let cluster = Cluster::five(config()).await;
    let to = follower(&cluster);
    let status = cluster.node(to).status();
    let vote = pb::Vote { term: status.term + 1, node_id: 5, committed: true };
    let head = pb::InstallSnapshotHead {
        header: Some(header(5, to)),
        vote: Some(vote),
        signed_manifest: Bytes::from_static(b"unsigned"),
    };
    let parts = |head| {
        let part = Some(pb::install_snapshot_request::Part::Head(head));
        futures::stream::iter(vec![pb::InstallSnapshotRequest { part }])
    };
    let mut client = cluster.client(5, to);
    let unheard = client.install_snapshot(parts(head.clone())).await.unwrap_err();
    assert_eq!(unheard.code(), Code::Aborted, "{unheard:?}");
    let starts = Bytes::copy_from_slice(unheard.details());
    let head =
        pb::InstallSnapshotHead { header: Some(pb::Header { starts, ..header(5, to) }), ..head };
    let status = client.install_snapshot(parts(head)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let empty = futures::stream::iter(Vec::<pb::InstallSnapshotRequest>::new());
    let status = client.install_snapshot(empty).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    cluster.tick(to).await;
}
