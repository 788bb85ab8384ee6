//! Which thread of a node may interrupt which (docs/architecture.md, "Threads").

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use twinkeep_client::v1;
use twinkeep_sysmem::turns;
use twinkeep_tests::Cluster;

/// How far workers stand back.
const NICENESS: i32 = 15;

/// What the kernel says of a thread.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Thread {
    niceness: i32,
    /// None on a kernel before 6.12, which has no turns of threads.
    turn: Option<Duration>,
}

#[tokio::test]
async fn heartbeats_and_logs_interrupt_callers_and_workers_stand_back() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let node = cluster.node("a1")?;
    let client = cluster.client_at("app", node)?;
    let spec = v1::KeySpec::Rsa2048.into();
    let usage = v1::KeyUsage::SignVerify.into();
    let request = v1::CreateKeyRequest { spec, usage, ..cluster.new_key()? };
    let key = client.create_key(request).await?.key.context("the answer has no key")?;
    // Workers start with the first operation.
    let request = v1::SignRequest {
        key_id: key.key_id,
        message: "a message".into(),
        algorithm: v1::Algorithm::RsassaPkcs1V15Sha256.into(),
        ..Default::default()
    };
    client.sign(request).await?;

    let threads = threads(&cluster, node)?;
    let callers = threads["callers-0"];
    for (name, turn) in [
        ("callers-0", turns::CALLS),
        ("twinkeepd", turns::MOMENT),
        ("audit-sync", turns::MOMENT),
        ("log-writer", turns::MOMENT),
    ] {
        let turn = callers.turn.map(|_| turn);
        let expected = Thread { turn, ..callers };
        assert_eq!(threads.get(name), Some(&expected), "{name} of {threads:?}");
    }
    let turn = callers.turn.map(|_| turns::OPERATIONS);
    let expected = Thread { niceness: (callers.niceness + NICENESS).min(19), turn };
    assert_eq!(threads.get("crypto-0"), Some(&expected), "crypto-0 of {threads:?}");
    Ok(())
}

/// Reads a node's threads by name.
fn threads(
    cluster: &Cluster,
    node: &twinkeep_tests::Node,
) -> anyhow::Result<BTreeMap<String, Thread>> {
    let pid = cluster.pid(node).context("the node has ended")?.as_raw_nonzero();
    let mut threads = BTreeMap::new();
    for folder in fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = folder?.path();
        // The runtime's threads come and go.
        let Ok(said) = fs::read_to_string(folder.join("sched")) else { continue };
        let Ok(name) = fs::read_to_string(folder.join("comm")) else { continue };
        let figure = |name: &str| {
            let line = said.lines().find(|line| line.split_whitespace().next() == Some(name))?;
            line.rsplit(' ').next()?.parse::<u64>().ok()
        };
        // 120 stands for niceness 0.
        let prio = figure("prio").context("the kernel does not say a thread's priority")?;
        let niceness = i32::try_from(prio)? - 120;
        let turn = figure("se.slice").map(Duration::from_nanos);
        threads.insert(name.trim_end().to_owned(), Thread { niceness, turn });
    }
    Ok(threads)
}
