//! A disabled key is used nowhere, also where nobody heard of it: from the answer `effective_everywhere` on, no node
//! gives a result for a call that is sent then. Zones are stopped in the middle of calls and go on later.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tokio::time::sleep;
use twinkeep_client::{Client, v1};
use twinkeep_tests::{Cluster, Node, rounds};

/// Rounds in which a zone is stopped while a key is disabled; `TWINKEEP_TEST_ROUNDS` asks for more.
const ROUNDS: usize = 12;
/// Keys that are disabled in a healthy cluster.
const HEALTHY: usize = 100;
/// Calls that a node which goes on again is asked for at once.
const CALLS: usize = 8;

async fn fail_closed_key(cluster: &Cluster, admin: &Client) -> anyhow::Result<String> {
    let choice = v1::when_stale::Choice::FailClosed(v1::FailClosed {});
    let when_stale = Some(v1::WhenStale { choice: Some(choice) });
    let request = v1::CreateKeyRequest { when_stale, ..cluster.new_key()? };
    let key = admin.create_key(request).await?.key;
    Ok(key.context("the answer has no key")?.key_id)
}

async fn disable(client: &Client, key_id: &str) -> anyhow::Result<v1::DisableKeyResponse> {
    let request = v1::DisableKeyRequest { key_id: key_id.to_owned(), ..Default::default() };
    Ok(client.disable_key(request).await?)
}

async fn encrypt(client: &Client, key_id: &str) -> Result<(), twinkeep_client::Error> {
    let request = v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext: "used after all".into(),
        ..Default::default()
    };
    client.encrypt(request).await.map(|_| ())
}

/// Tells whether a node has refused a call for what this is about; a call that found no node says nothing.
fn was_refused(error: &twinkeep_client::Error) -> bool {
    let text = error.to_string();
    text.contains("is DISABLED") || text.contains("has not heard from a leader")
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_cluster_disables_a_key_everywhere_at_once() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let admin = cluster.client("app")?;
    let nodes: Vec<_> = cluster.data_nodes().map(|node| cluster.client_at("app", node)).collect();
    let nodes = nodes.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let mut took = Vec::new();
    for _ in 0..HEALTHY {
        let key_id = fail_closed_key(&cluster, &admin).await?;
        for node in &nodes {
            node.require_state_index(admin.state_index());
            encrypt(node, &key_id).await.context("a new key cannot be used")?;
        }
        let began = Instant::now();
        let answer = disable(&admin, &key_id).await?;
        took.push(began.elapsed());
        ensure!(answer.effective_everywhere, "{:?}", answer.pending_in);
        for node in &nodes {
            // Whatever the node has seen: the answer promises it without `min_state_index`.
            let used = encrypt(&node.any_state(), &key_id).await;
            let refused =
                used.as_ref().is_err_and(|error| error.to_string().contains("is DISABLED"));
            ensure!(refused, "{key_id} was disabled everywhere, and a node said {used:?}");
        }
    }
    took.sort();
    let at = |share: usize| took[took.len() * share / 100].as_micros() as f64 / 1000.0;
    println!("disabled everywhere within {:.1} ms (median), {:.1} ms (p99)", at(50), at(99));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_was_stopped_uses_no_key_that_was_disabled_meanwhile() -> anyhow::Result<()> {
    let mut arguments = vec!["--freshness-lease-ms", "1000"];
    let filter = std::env::var("TWINKEEP_TEST_LOG").unwrap_or_default();
    if !filter.is_empty() {
        arguments.extend(["--log-filter", &filter]);
    }
    let cluster = Cluster::start_with(&arguments).await?;
    let rounds = rounds(ROUNDS);
    let mut refused = 0;
    for round in 0..rounds {
        let (stopped, living) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let through = cluster.zone(living).next().context("no such zone")?;
        let admin = cluster.client_at("app", through)?.with_deadline(Duration::from_secs(15));
        let key_id = fail_closed_key(&cluster, &admin).await?;
        let clients: Vec<_> = cluster.zone(stopped).map(|n| cluster.client_at("app", n)).collect();
        let clients = clients.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        for client in &clients {
            encrypt(client, &key_id).await.with_context(|| format!("round {round}: before"))?;
        }
        // Calls are under way when the zone stops: some are worked on, some wait in its sockets.
        let under_way: Vec<_> = clients.iter().cycle().take(CALLS).cloned().collect();
        let under_way = under_way.into_iter().map(|client| {
            let key_id = key_id.clone();
            tokio::spawn(async move { while encrypt(&client, &key_id).await.is_ok() {} })
        });
        let under_way: Vec<_> = under_way.collect();
        sleep(Duration::from_millis(5 + 7 * (round as u64 % 12))).await;
        cluster.signal(stopped, Signal::STOP)?;
        let began = Instant::now();
        let answer = disable(&admin, &key_id).await;
        let waited = began.elapsed();
        under_way.iter().for_each(tokio::task::JoinHandle::abort);
        cluster.signal(stopped, Signal::CONT)?;
        let answer = answer.with_context(|| {
            let said = |node: &Node| {
                let messages = cluster.messages(node);
                let last: Vec<_> = messages.lines().rev().take(400).collect();
                format!("--- {} said last (newest first):\n{}\n", node.name, last.join("\n"))
            };
            let said: String = cluster.nodes().iter().map(said).collect();
            format!("round {round}: not disabled within {waited:?}\n{said}")
        })?;
        ensure!(answer.effective_everywhere, "round {round}: {:?}", answer.pending_in);
        let calls = clients.iter().cycle().take(CALLS).map(|client| {
            let client = client.any_state().with_deadline(Duration::from_secs(5));
            let key_id = key_id.clone();
            async move { encrypt(&client, &key_id).await }
        });
        for result in futures::future::join_all(calls).await {
            refused += usize::from(result.as_ref().is_err_and(was_refused));
            ensure!(
                result.is_err(),
                "round {round}: a node of zone {stopped} used {key_id}, which was disabled everywhere {} ms after the \
                 zone was stopped",
                waited.as_millis()
            );
        }
        // Everybody is well before the next round.
        for client in &clients {
            let began = Instant::now();
            while encrypt(client, &cluster.first_key()?).await.is_err() {
                ensure!(
                    began.elapsed() < Duration::from_secs(20),
                    "round {round}: not served again"
                );
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    ensure!(
        refused >= rounds,
        "only {refused} calls were refused by the nodes: the others say nothing"
    );
    println!(
        "{rounds} rounds: nodes that went on again refused {refused} calls and answered none with a result"
    );
    Ok(())
}

/// The time by the wall clock, in milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "what the nodes say is compared with the machine's own clock"
)]
fn unix_ms() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().try_into()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn disable_that_cannot_wait_says_where_and_until_when_the_key_may_be_used()
-> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let admin = cluster.client("app")?;
    let key_id = fail_closed_key(&cluster, &admin).await?;
    let through = cluster.zone("a").next().context("no such zone")?;
    let admin = cluster.client_at("app", through)?;
    cluster.signal("b", Signal::STOP)?;
    let stopped_ms = unix_ms()?;
    // Time for an election and for giving the zone up, and less than a lease of five seconds.
    let answer = disable(&admin.with_deadline(Duration::from_secs(3)), &key_id).await?;
    ensure!(!answer.effective_everywhere, "nobody could know that");
    let [pending] = answer.pending_in.as_slice() else {
        anyhow::bail!("zone b alone is silent, not {:?}", answer.pending_in)
    };
    let wait_ms = pending.until_unix_ms.saturating_sub(stopped_ms);
    ensure!(pending.zone == "b" && wait_ms < 7_500, "{pending:?}, {wait_ms} ms after the stop");
    // Who has the time is told when it is over, and the zone's nodes know it as well.
    let answer = disable(&admin.with_deadline(Duration::from_secs(15)), &key_id).await?;
    ensure!(answer.effective_everywhere, "{:?}", answer.pending_in);
    ensure!(unix_ms()? + 100 >= pending.until_unix_ms, "the first answer was too careful");
    cluster.signal("b", Signal::CONT)?;
    for node in cluster.zone("b") {
        let client = cluster.client_at("app", node)?.any_state();
        let used = encrypt(&client.with_deadline(Duration::from_secs(5)), &key_id).await;
        ensure!(used.is_err(), "{} used the key", node.name);
    }
    Ok(())
}
