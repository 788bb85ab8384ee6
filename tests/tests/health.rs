//! A node that is told to stop says so while it still answers, so that callers and load balancers are gone before it is.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Signal, kill_process};
use tokio::time::sleep;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use twinkeep_client::v1;
use twinkeep_pki::{Connector, pem, tls};
use twinkeep_tests::{Cluster, Node};

/// Longest wait for the report to change; the node tries to hand over for longer than that.
const REPORT_MAX: Duration = Duration::from_secs(2);

type Health = HealthClient<tonic::transport::Channel>;

async fn health(cluster: &Cluster, node: &Node) -> anyhow::Result<Health> {
    let root = std::fs::read(cluster.path("callers").join("endpoint-root.pem"))?;
    // Load balancers have no certificate.
    let tls = tls::caller(None, &pem::read_certificates(&root)?)?;
    let endpoint = Endpoint::from_shared(format!("http://{}", node.client_address))?;
    let connector = Connector::new(tls, Duration::from_secs(1));
    Ok(HealthClient::new(endpoint.connect_with_connector(connector).await?))
}

async fn report(health: &mut Health) -> anyhow::Result<ServingStatus> {
    let answer = health.check(HealthCheckRequest::default()).await?;
    Ok(answer.into_inner().status())
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_is_told_to_stop_reports_it_and_answers_until_it_has_handed_over()
-> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let leader = cluster.until_mode(v1::ReplicationMode::Sync).await?;
    let mut health = health(&cluster, leader).await?;
    ensure!(report(&mut health).await? == ServingStatus::Serving);
    let client = cluster.client_at("app", leader)?;
    let request = v1::EncryptRequest {
        key_id: cluster.first_key()?,
        plaintext: "said before it stops".into(),
        ..v1::EncryptRequest::default()
    };
    client.encrypt(request.clone()).await?;

    // Nobody is there to take over, so it takes all its time for handing over.
    for other in cluster.nodes().iter().filter(|node| node.name != leader.name) {
        kill_process(cluster.pid(other).context("a node has ended")?, Signal::STOP)?;
    }
    kill_process(cluster.pid(leader).context("the leader has ended")?, Signal::TERM)?;
    let told = Instant::now();
    while report(&mut health).await? != ServingStatus::NotServing {
        ensure!(told.elapsed() < REPORT_MAX, "the node still says that it serves");
        sleep(Duration::from_millis(10)).await;
    }
    println!("it said so {} ms after it was told", told.elapsed().as_millis());
    client.encrypt(request).await?;
    Ok(())
}
