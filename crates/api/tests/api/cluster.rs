//! Status, members, topology, unsealing; health and reflection beside them.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;
use twinkeep_api::ports::Topology;
use twinkeep_core::record::ClusterVersion;
use twinkeep_proto::v1;

use crate::node::{CLUSTER, FORGED, OPERATORS, START_MS, TestNode};

#[tokio::test]
async fn status_tells_of_cluster_and_node() {
    let node = TestNode::start().await;
    let status = node.clusters("auditor").get_status(v1::GetStatusRequest::default()).await;
    let status = status.unwrap().into_inner();
    assert_eq!(status.cluster_id, CLUSTER.to_string());
    assert_eq!((status.node_id, status.leader_node_id), (1, 1));
    assert_eq!(status.leader_address, "127.0.1.11:7101");
    assert!(!status.sealed && status.applied_index > 0);
    let [member] = &status.members[..] else { panic!("{:?}", status.members) };
    assert_eq!((member.node_id, member.standing()), (1, v1::Standing::Voter));
    assert!(member.reachable);
    assert_eq!(member.placement.as_ref().unwrap().cidr, "127.0.1.0/24");
}

#[tokio::test]
async fn topology_comes_at_once_and_after_each_change_until_the_roles_are_gone() {
    let node = TestNode::start().await;
    let request = v1::WatchTopologyRequest::default();
    let mut watch = node.clusters("key-user").watch_topology(request).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!((first.endpoints.len(), first.leader_node_id), (1, 1));
    assert_eq!(first.endpoints[0].address, "127.0.1.11:7101");
    node.cluster.topology.send_replace(Topology::default());
    let second = watch.message().await.unwrap().unwrap();
    assert_eq!((second.endpoints.len(), second.leader_node_id), (0, 0));
    node.bind("key-user", &[]);
    node.cluster.topology.send_replace(Topology::default());
    let ended = watch.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Aborted);
}

#[tokio::test]
async fn stream_ends_with_the_certificate_of_its_caller() {
    let node = TestNode::start().await;
    let request = v1::WatchTopologyRequest::default();
    let mut watch = node.clusters("key-user").watch_topology(request).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    node.clock.advance(Duration::from_secs(4000));
    node.cluster.topology.send_replace(Topology::default());
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unauthenticated);
}

/// Asks to admit a node for so long, with these operators' approvals.
fn admission(life_ms: u64, operators: &[&str]) -> v1::AdmitNodeRequest {
    v1::AdmitNodeRequest {
        csr_pem: "request".to_owned(),
        role: v1::NodeRole::Data.into(),
        zone: "zone-b".to_owned(),
        expires_unix_ms: START_MS + life_ms,
        approvals: operators.iter().map(|name| approval(name, [1; 64].to_vec())).collect(),
        ..Default::default()
    }
}

fn approval(operator: &str, signature: Vec<u8>) -> v1::Approval {
    v1::Approval { operator: operator.to_owned(), signature: signature.into() }
}

#[tokio::test]
async fn order_of_more_than_a_day_or_of_none_is_refused() {
    let node = TestNode::start().await;
    let mut clusters = node.clusters("operator");
    let status = clusters.admit_node(admission(86_400_001, &OPERATORS)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("at most 86400 s"), "{}", status.message());
    let mut request = admission(600_000, &OPERATORS);
    request.expires_unix_ms = START_MS;
    let status = clusters.admit_node(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    request.expires_unix_ms = 0;
    let status = clusters.admit_node(request).await.unwrap_err();
    let text = "expires_unix_ms is missing; give the time that the operators signed";
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));

    let admitted = clusters.admit_node(admission(600_000, &OPERATORS)).await.unwrap().into_inner();
    assert_eq!((admitted.node_id, admitted.pass.as_str()), (2, "pass"));
    assert_eq!(admitted.expires_unix_ms, START_MS + 600_000);
}

#[tokio::test]
async fn admission_without_enough_approvals_says_how_many_it_has() {
    let node = TestNode::start().await;
    let mut clusters = node.clusters("operator");
    let needed = clusters.get_status(v1::GetStatusRequest::default()).await.unwrap();
    assert_eq!(needed.into_inner().approvals_min, 2);
    for given in 0..2 {
        let request = admission(60_000, &OPERATORS[..given]);
        let status = clusters.admit_node(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let text = format!("{given} of 2 operators who have to approve it did");
        assert!(status.message().starts_with(&text), "{}", status.message());
    }
    clusters.admit_node(admission(60_000, &OPERATORS[1..])).await.unwrap();
}

#[tokio::test]
async fn wrong_approval_is_answered_with_its_operator_or_field() {
    let node = TestNode::start().await;
    let mut clusters = node.clusters("operator");
    let mut refused = async |change: fn(&mut v1::AdmitNodeRequest)| {
        let mut request = admission(60_000, &OPERATORS);
        change(&mut request);
        let status = clusters.admit_node(request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let (code, text) = refused(|request| request.approvals[2].operator = "eve".to_owned()).await;
    assert!(code == Code::InvalidArgument && text.starts_with("`eve` is no operator"), "{text}");
    let (code, text) = refused(|request| request.approvals[2] = approval("ann", vec![1; 64])).await;
    assert!(code == Code::InvalidArgument && text.starts_with("operator ann approved twice"));
    let (code, text) =
        refused(|request| request.approvals[2] = approval("cho", FORGED.to_vec())).await;
    assert!(code == Code::InvalidArgument && text.contains("operator cho does not fit"), "{text}");
    let (code, text) = refused(|request| request.approvals[0].signature.truncate(63)).await;
    let short =
        "approvals.signature: an Ed25519 signature has 64 bytes, that of operator ann has 63";
    assert_eq!((code, text.as_str()), (Code::InvalidArgument, short));
    let (code, text) = refused(|request| request.approvals[0].operator.clear()).await;
    assert!(code == Code::InvalidArgument && text.starts_with("approvals.operator: "), "{text}");
    let (code, text) =
        refused(|request| request.approvals = vec![approval("ann", vec![1; 64]); 17]).await;
    let many = "approvals of 17 is over the limit of 16; give one approval of each operator";
    assert_eq!((code, text.as_str()), (Code::ResourceExhausted, many));
    let list = clusters.list_members(v1::ListMembersRequest::default()).await.unwrap();
    assert_eq!(list.into_inner().members.len(), 1);
}

#[tokio::test]
async fn node_says_what_it_knows_of_its_machine_its_peers_and_the_cluster() {
    let node = TestNode::start().await;
    let said = node.clusters("auditor").diagnose(v1::DiagnoseRequest::default()).await.unwrap();
    let said = said.into_inner();
    assert_eq!((said.node_id, said.software_version.as_str()), (1, "0.0.0-test"));
    assert!(!said.sealed && said.state_fresh && said.pauses_unknown && said.dev);
    let timers = (said.heartbeat_ms, said.election_min_ms, said.election_max_ms);
    assert_eq!((timers, said.log_syncs, said.log_sync_p99_us), ((50, 150, 300), 1024, 7_000));
    assert_eq!((said.disk_size_bytes, said.disk_free_bytes), (100, 40));
    let peer = &said.peers[0];
    assert_eq!((peer.node_id, peer.read_ago_ms, peer.round_trip_us), (2, 900, 1_000));
    assert_eq!((peer.clock_ahead_ms, peer.sealed), (-12, true));
    assert_eq!(said.certificates[0].not_after_unix_s, START_MS / 1000);
    assert_eq!((said.operators, said.majority_zone.as_str()), (3, ""));
    assert_eq!(said.cluster_version_max, ClusterVersion::NEWEST.0);
    let end = v1::LogEnd { term: 3, leader_node_id: 1, index: 77 };
    assert_eq!((said.log_end, said.takes_part, said.node_public_key.len()), (Some(end), true, 91));
    node.vault.seal();
    let said = node.clusters("operator").diagnose(v1::DiagnoseRequest::default()).await.unwrap();
    assert!(said.into_inner().sealed, "a sealed node is asked most of all");
}

#[tokio::test]
async fn missing_node_is_neither_promoted_nor_removed() {
    let node = TestNode::start().await;
    let mut clusters = node.clusters("operator");
    let promote = v1::PromoteNodesRequest { node_ids: vec![9], min_state_index: 0 };
    let status = clusters.promote_nodes(promote).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let remove = v1::RemoveNodeRequest { node_id: 9, min_state_index: 0 };
    assert_eq!(clusters.remove_node(remove).await.unwrap_err().code(), Code::NotFound);
    let zero = v1::RemoveNodeRequest::default();
    let status = clusters.remove_node(zero).await.unwrap_err();
    let text = "node_id is 0; node ids count from 1; ListMembers shows them";
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
}

#[tokio::test]
async fn wrong_share_is_answered_and_never_repeated() {
    let node = TestNode::start().await;
    let share = "tkshare1wrong".to_owned();
    let request = v1::UnsealRequest { share: share.clone(), ..Default::default() };
    let status = node.clusters("operator").unseal(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(!status.message().contains(&share));
    let request = v1::UnsealRequest { share, passphrase: "also".to_owned(), ..Default::default() };
    let status = node.clusters("operator").unseal(request).await.unwrap_err();
    assert_eq!(status.message(), "share and passphrase do not go together; give one of them");
    for record in node.recorded() {
        assert!(!format!("{record:?}").contains("tkshare1wrong"));
    }
}

#[tokio::test]
async fn reflection_lists_public_services_and_not_those_of_peers() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let node = TestNode::start().await;
    let mut reflection = ServerReflectionClient::new(node.channel.clone());
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = timeout(Duration::from_secs(5), answers.into_inner().message()).await;
    let answer = answer.unwrap().unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for expected in ["twinkeep.v1.CryptoService", "twinkeep.v1.KeyService", "grpc.health.v1.Health"]
    {
        assert!(names.contains(&expected), "{names:?}");
    }
    assert!(
        names.iter().all(|name| !name.contains("peer") && !name.contains("local")),
        "{names:?}"
    );
}

#[tokio::test]
async fn sealed_node_reports_its_key_services_as_not_serving() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_server::Health as _;
    use twinkeep_api::health::{Condition, report};

    let reporter = tonic_health::server::HealthReporter::new();
    let service = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
    let status = async |name: &str| {
        let request = HealthCheckRequest { service: name.to_owned() };
        service.check(tonic::Request::new(request)).await.unwrap().into_inner().status
    };
    let (serving, not_serving) = (1, 2);
    for (condition, crypto, cluster) in [
        (Condition::Serving, serving, serving),
        (Condition::Sealed, not_serving, serving),
        (Condition::Down, not_serving, not_serving),
    ] {
        report(&reporter, condition).await;
        assert_eq!(status("twinkeep.v1.CryptoService").await, crypto, "{condition:?}");
        assert_eq!(status("twinkeep.v1.ClusterService").await, cluster, "{condition:?}");
        assert_eq!(status("").await, crypto, "{condition:?}");
    }
}

#[tokio::test]
async fn zone_is_preferred_and_the_status_says_so() {
    let node = TestNode::start().await;
    let mut clusters = node.clusters("operator");
    let request =
        |zone: &str| v1::PreferZoneRequest { zone: zone.to_owned(), ..Default::default() };
    let answer = clusters.prefer_zone(request("zone-a")).await.unwrap().into_inner();
    assert_eq!(answer.leadership.unwrap().preferred_zone, "zone-a");
    let status = clusters.get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    let leadership = status.leadership.unwrap();
    assert_eq!((leadership.preferred_zone.as_str(), leadership.revision), ("zone-a", 1));
    let answer = clusters.prefer_zone(request("")).await.unwrap().into_inner();
    assert_eq!(answer.leadership.unwrap().preferred_zone, "");
    let status = clusters.prefer_zone(request("nowhere")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let status = clusters.prefer_zone(request("no zone")).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().starts_with("zone"));
}

#[tokio::test]
async fn zone_that_cannot_be_drained_is_answered_with_the_reason() {
    let node = TestNode::start().await;
    let mut clusters = node.clusters("operator");
    let drain = |zone: &str| v1::DrainZoneRequest { zone: zone.to_owned(), ..Default::default() };
    let status = clusters.drain_zone(drain("zone-a")).await.unwrap_err();
    let text =
        "zone zone-a is the only one with data nodes that vote: nobody could lead in its place";
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, text));
    let status = clusters.drain_zone(drain("")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let undrain = v1::UndrainZoneRequest { zone: "zone-a".to_owned(), ..Default::default() };
    let answer = clusters.undrain_zone(undrain).await.unwrap().into_inner();
    assert_eq!(answer.leadership.unwrap().drained_zone, "");
}
