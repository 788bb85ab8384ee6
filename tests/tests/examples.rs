//! The client's examples, as a new user runs them, against a cluster.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use twinkeep_client::v1;
use twinkeep_tests::{Cluster, program};

/// Longest quick start, in lines.
const QUICKSTART_LINES_MAX: usize = 30;

const QUICKSTART: &str = include_str!("../../crates/client/examples/quickstart.rs");
const README: &str = include_str!("../../crates/client/README.md");

/// Runs an example with all data nodes as its arguments, or the first one alone; returns what it printed.
fn run(cluster: &Cluster, name: &str, nodes: usize) -> anyhow::Result<String> {
    let addresses = cluster.data_nodes().take(nodes).map(|node| node.client_address.to_string());
    let output = start(name, &cluster.path("."), addresses)?;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{name}: {err}\n{out}");
    println!("{name}:\n{out}");
    Ok(out.into_owned())
}

fn start(
    name: &str,
    home: &Path,
    addresses: impl IntoIterator<Item = String>,
) -> anyhow::Result<Output> {
    let mut example = Command::new(program(&format!("examples/{name}"))?);
    Ok(example.args(addresses).env("TWINKEEP_HOME", home).output()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_do_what_they_say() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let printed = run(&cluster, "quickstart", 1)?;
    ensure!(printed.lines().last() == Some("a secret"), "{printed}");

    let printed = run(&cluster, "sign_verify", 4)?;
    ensure!(
        printed.contains("Alice: valid") && printed.contains("Mallory: not valid"),
        "{printed}"
    );
    ensure!(printed.contains("the public key agrees"), "{printed}");

    let printed = run(&cluster, "data_keys", 4)?;
    ensure!(printed.contains("opened all of them"), "{printed}");

    let printed = run(&cluster, "load", 4)?;
    ensure!(printed.contains("calls/s"), "{printed}");
    Ok(())
}

#[test]
fn quick_start_is_short_and_the_readme_has_it() -> anyhow::Result<()> {
    let lines = QUICKSTART.lines().count();
    ensure!(lines <= QUICKSTART_LINES_MAX, "{lines} lines");
    // The first line is the example's own title.
    let code = QUICKSTART.split_once('\n').context("one line")?.1;
    ensure!(README.contains(code), "the README shows another quick start");
    Ok(())
}

/// What a new user gets wrong first: the folder, and the port.
#[tokio::test]
async fn quickstart_names_what_is_wrong() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    // Nobody listens on port 1.
    let nobody = "127.0.0.1:1";
    let (nowhere, home) = (Path::new("/nowhere"), cluster.path("."));
    for (home, parts) in [
        (nowhere, ["TWINKEEP_HOME", "/nowhere"]),
        (home.as_path(), ["cannot connect to 127.0.0.1:1", "Connection refused"]),
    ] {
        let output = start("quickstart", home, [nobody.to_owned()])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && parts.iter().all(|part| said.contains(part)), "{said}");
        println!("{said}");
    }
    Ok(())
}

/// Data keys against the service itself: what a disable stops at once, and what it stops when it is too old.
#[tokio::test(flavor = "multi_thread")]
async fn disabled_key_gives_no_data_key_and_cached_ones_end_at_their_age() -> anyhow::Result<()> {
    use twinkeep_client::{Context as Bound, DataKeyOptions};
    const AGE: Duration = Duration::from_secs(3);

    let cluster = Cluster::start().await?;
    let app = cluster.client("app")?;
    let key = app.create_key(cluster.new_key()?).await?.key.context("no key")?.key_id;
    let options = DataKeyOptions::default().age_max(AGE).encryption_context([("table", "t")]);
    let keys = app.data_keys(&key, options.clone());
    let sealed = keys.seal(b"a message", &Bound::NONE).await?;

    let disable = v1::DisableKeyRequest { key_id: key.clone(), ..Default::default() };
    app.disable_key(disable).await?;
    let elsewhere = app.data_keys(&key, options);
    ensure!(elsewhere.open(&sealed, &Bound::NONE).await.is_err(), "unwrapped for a disabled key");
    // In memory it goes on, and not for longer than it may.
    let began = Instant::now();
    while keys.open(&sealed, &Bound::NONE).await.is_ok() {
        ensure!(began.elapsed() < AGE * 10, "a data key outlived its age");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("a cached data key ended {:?} after the disable", began.elapsed());

    let enable = v1::EnableKeyRequest { key_id: key, ..Default::default() };
    app.enable_key(enable).await?;
    ensure!(*keys.open(&sealed, &Bound::NONE).await? == b"a message");
    Ok(())
}
