//! A node is admitted by as many operators as the cluster asks for, and by no fewer.

use anyhow::ensure;
use twinkeep_tests::{Cluster, program};

/// The whole way of a node that nobody has met yet, as the README tells it.
#[tokio::test(flavor = "multi_thread")]
async fn node_is_admitted_by_two_operators_and_not_by_one() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    signing_request(&cluster)?;
    let order =
        ["--as", "admin", "cluster", "order", "--csr", "b3.csr", "--zone", "b", "-o", "b3.order"];
    cluster.twinkeep(&order)?;
    let shown = std::fs::read_to_string(cluster.path("b3.order"))?;
    for field in ["cluster = \"clu-", "spki-sha256 = ", "role = \"data\"", "zone = \"b\""] {
        ensure!(shown.contains(field), "the order does not show `{field}`:\n{shown}");
    }
    for name in ["operator-1", "operator-2"] {
        let key = format!("{name}.age");
        let approval = cluster
            .twinkeep(&["operator", "approve", "--key", &key, "--name", name, "b3.order"])?;
        ensure!(approval.lines().count() == 1, "an approval is one line: {approval}");
        std::fs::write(cluster.path(&format!("{name}.approval")), approval)?;
    }
    let admit = |approvals: &[&str]| {
        let mut arguments = vec!["--as", "admin", "cluster", "admit", "b3.order", "-o", "b3.pass"];
        arguments.extend(approvals.iter().flat_map(|approval| ["--approval", approval]));
        cluster.try_twinkeep(&arguments)
    };
    let (one, two) = ("operator-1.approval", "operator-2.approval");

    expect_refusal(&admit(&[one])?, 4, "1 of 2 operators who have to approve it did")?;
    expect_refusal(&admit(&[one, one])?, 2, "operator operator-1 approved twice")?;
    let forged = std::fs::read_to_string(cluster.path(one))?.replace("operator-1", "operator-2");
    expect_refusal(&admit(&[one, forged.trim()])?, 2, "operator operator-2 does not fit")?;
    std::fs::write(cluster.path("b3.order"), shown.replace("\"b\"", "\"a\""))?;
    expect_refusal(&admit(&[one, two])?, 2, "operator operator-1 does not fit")?;
    std::fs::write(cluster.path("b3.order"), &shown)?;
    ensure!(!cluster.path("b3.pass").exists(), "a refused admission left a pass");

    let admitted = admit(&[one, two])?;
    ensure!(admitted.status.success(), "{}", String::from_utf8_lossy(&admitted.stderr));
    let pass = std::fs::read_to_string(cluster.path("b3.pass"))?;
    ensure!(pass.contains("node-root"), "this is no pass:\n{pass}");
    Ok(())
}

/// Makes a node that stands beside b2 and writes its signing request, `b3.csr`.
fn signing_request(cluster: &Cluster) -> anyhow::Result<()> {
    let config = std::fs::read_to_string(cluster.path("b2").join("twinkeepd.toml"))?;
    let data = cluster.data(cluster.node("b2")?);
    let fresh = cluster.path("b3-data");
    let config = config.replace(&data.display().to_string(), &fresh.display().to_string());
    std::fs::write(cluster.path("b3.toml"), config)?;
    let identity = std::process::Command::new(program("twinkeepd")?)
        .args(["identity", "--config"])
        .arg(cluster.path("b3.toml"))
        .output()?;
    ensure!(identity.status.success(), "{}", String::from_utf8_lossy(&identity.stderr));
    std::fs::write(cluster.path("b3.csr"), identity.stdout)?;
    Ok(())
}

fn expect_refusal(output: &std::process::Output, code: i32, part: &str) -> anyhow::Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    // What is wrong, and perhaps what to type next.
    let first = stderr.lines().next().unwrap_or_default();
    ensure!(
        output.status.code() == Some(code) && stderr.lines().count() <= 2 && first.contains(part),
        "expected {code} and one line with `{part}` and a hint at most, got {:?}:\n{stderr}",
        output.status.code()
    );
    Ok(())
}
