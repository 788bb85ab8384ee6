//! A key created through one node can be used at once through every other one.

use anyhow::{Context, ensure};
use twinkeep_client::v1;
use twinkeep_tests::Cluster;

/// Keys that are created, each used at once through the three other nodes.
const KEYS: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn key_created_through_one_node_is_used_at_once_through_each_other() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let nodes: Vec<_> = cluster.data_nodes().cloned().collect();
    for i in 0..KEYS {
        let at = i % nodes.len();
        // Clients that know one node each: none can learn from another what the state is.
        let creator = cluster.client_at("app", &nodes[at])?;
        let created =
            creator.create_key(cluster.new_key()?).await.with_context(|| format!("key {i}"))?;
        let key_id = created.key.context("the answer has no key")?.key_id;
        for other in nodes.iter().filter(|node| node.name != nodes[at].name) {
            let user = cluster.client_at("app", other)?;
            let request = v1::EncryptRequest {
                key_id: key_id.clone(),
                plaintext: "at once".into(),
                min_state_index: created.state_index,
                ..v1::EncryptRequest::default()
            };
            let answer = user.encrypt(request).await;
            let answer = answer
                .with_context(|| format!("key {i} of {} at {}", nodes[at].name, other.name))?;
            ensure!(answer.state_index >= created.state_index);
        }
    }
    println!("{KEYS} keys were used at once through each other node");
    Ok(())
}
