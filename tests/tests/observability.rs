//! What operators look at: the metrics of a real cluster through a real Prometheus, with the rules and
//! dashboards that we ship.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;
use twinkeep_client::{Client, v1};
use twinkeep_tests::Cluster;
use twinkeep_tests::prometheus::{Prometheus, Rule, get, tool};

/// How long queries may take to have data: rates need two scrapes and rules an evaluation.
const DATA_MAX: Duration = Duration::from_secs(90);
/// Stands in for Grafana's variable.
const RATE_INTERVAL: &str = "10s";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/observability")
}

fn run(program: &Path, arguments: &[&str], folder: &Path) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).current_dir(folder).output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn rules_are_valid_and_fire_when_they_should() -> anyhow::Result<()> {
    let Some(promtool) = tool("promtool") else { return Ok(()) };
    run(&promtool, &["check", "rules", "rules.yml", "alerts.yml"], &folder())?;
    run(&promtool, &["check", "config", "prometheus.yml"], &folder())?;
    run(&promtool, &["test", "rules", "alerts_test.yml"], &folder())
}

#[test]
fn dashboards_are_what_their_source_writes() -> anyhow::Result<()> {
    run(Path::new("python3"), &["dashboards.py", "--check"], &folder())
}

#[test]
fn every_alert_leads_to_a_section_of_the_runbook() -> anyhow::Result<()> {
    let alerts = std::fs::read_to_string(folder().join("alerts.yml"))?;
    let runbook = std::fs::read_to_string(folder().join("../../docs/runbook.md"))?;
    let mut sections: BTreeSet<_> =
        runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names = alerts.lines().filter(|line| line.contains("- alert:")).count();
    let links = alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: "));
    let links: Vec<_> = links.collect();
    ensure!(names == links.len() && names > 0, "{names} alerts and {} links", links.len());
    for link in links {
        let section = link.strip_prefix("docs/runbook.md#").context("a link to elsewhere")?;
        ensure!(sections.remove(section), "{link} leads nowhere, or two alerts lead there");
    }
    ensure!(sections.is_empty(), "no alert leads to {sections:?}");
    Ok(())
}

/// Copies what we ship beside the targets of a cluster; scrapes are sped up, or the test would take minutes.
fn configuration(cluster: &Cluster) -> anyhow::Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for name in ["rules.yml", "alerts.yml"] {
        std::fs::copy(folder().join(name), copy.path().join(name))?;
    }
    let shipped = std::fs::read_to_string(folder().join("prometheus.yml"))?;
    let faster = [
        ("scrape_interval: 5s", "scrape_interval: 250ms"),
        ("scrape_timeout: 4s", "scrape_timeout: 250ms"),
        ("evaluation_interval: 5s", "evaluation_interval: 500ms"),
    ];
    let mut config = shipped;
    for (from, to) in faster {
        ensure!(config.contains(from), "prometheus.yml has no `{from}`");
        config = config.replace(from, to);
    }
    std::fs::write(copy.path().join("prometheus.yml"), config)?;
    let targets = "prometheus-targets.json";
    std::fs::copy(cluster.path(targets), copy.path().join(targets))?;
    Ok(copy)
}

/// Uses every data node, rightly and wrongly, until what is returned is dropped. One node is sealed.
async fn load(cluster: &Cluster) -> anyhow::Result<JoinSet<()>> {
    let sealed = cluster.data_nodes().last().context("no data nodes")?;
    cluster.client_at("admin", sealed)?.seal(v1::SealRequest::default()).await?;
    let mut load = JoinSet::new();
    for node in cluster.data_nodes() {
        let client = cluster.client_at("app", node)?.with_deadline(Duration::from_millis(500));
        let (key_id, new_key) = (cluster.first_key()?, cluster.new_key()?);
        load.spawn(async move {
            loop {
                use_rightly_and_wrongly(&client, &key_id, &new_key).await;
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    Ok(load)
}

/// What comes of each call is for the metrics to say.
async fn use_rightly_and_wrongly(client: &Client, key_id: &str, new_key: &v1::CreateKeyRequest) {
    let encrypt = |key_id: &str| v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext: "seen by nobody".into(),
        ..v1::EncryptRequest::default()
    };
    let _ = client.encrypt(encrypt(key_id)).await;
    let _ = client.encrypt(encrypt("key-00000000000000000000000000000000")).await;
    let items = vec![encrypt(key_id), encrypt(key_id), encrypt("nonsense")];
    let batch = v1::EncryptBatchRequest { items, ..v1::EncryptBatchRequest::default() };
    let _ = client.encrypt_batch(batch).await;
    let _ = client.create_key(new_key.clone()).await;
    // Only administrators may.
    let grant = v1::GrantRolesRequest { caller: "app".to_owned(), ..Default::default() };
    let _ = client.grant_roles(grant).await;
}

/// A query with where it stands.
#[derive(Debug)]
struct Asked {
    place: String,
    query: String,
}

fn panel_queries() -> anyhow::Result<Vec<Asked>> {
    let mut all = Vec::new();
    for name in ["zones", "crypto", "raft", "storage"] {
        let path = folder().join("dashboards").join(format!("{name}.json"));
        let board: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let panels = board["panels"].as_array().context("a dashboard without panels")?;
        for panel in panels {
            let title = panel["title"].as_str().context("a panel without a title")?;
            let targets = panel["targets"].as_array().context("a panel without queries")?;
            ensure!(!targets.is_empty(), "{name}: {title} asks nothing");
            for target in targets {
                let expr = target["expr"].as_str().context("a target without a query")?;
                let query = expr.replace("$__rate_interval", RATE_INTERVAL);
                all.push(Asked { place: format!("dashboard {name}, {title}"), query });
            }
        }
    }
    Ok(all)
}

/// An alert's expression is empty as long as nothing is wrong, so it is asked without its comparison. A term
/// of it could still hide another that has no data, so each selector is asked alone, too.
fn rule_queries(rules: &[Rule]) -> anyhow::Result<Vec<Asked>> {
    let mut all = Vec::new();
    for rule in rules {
        let place = format!("rule {}", rule.name);
        let whole =
            if rule.is_alert { without_comparison(&rule.query) } else { Some(&*rule.query) };
        let whole = whole.with_context(|| format!("{place} ends with no comparison"))?;
        all.push(Asked { place: place.clone(), query: whole.to_owned() });
        for selector in selectors(&rule.query) {
            all.push(Asked { place: place.clone(), query: selector });
        }
    }
    Ok(all)
}

fn without_comparison(query: &str) -> Option<&str> {
    let (left, number) = query.rsplit_once(' ')?;
    number.parse::<f64>().ok()?;
    let operators = [" >", " <", " ==", " >=", " <=", " !="];
    operators.iter().find_map(|operator| left.strip_suffix(operator))
}

/// Returns the selectors of an expression: names of metrics with what stands in braces behind them.
fn selectors(query: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(is_name) {
        let word = &rest[start..];
        let end = word.find(|c| !is_name(c)).unwrap_or(word.len());
        let (name, behind) = word.split_at(end);
        let braces =
            if behind.starts_with('{') { behind.find('}').map_or(0, |at| at + 1) } else { 0 };
        if name.contains("twinkeep_") || (name == "up" && braces > 0) {
            found.push(format!("{name}{}", &behind[..braces]));
        }
        rest = &behind[braces..];
    }
    found
}

#[test]
fn selectors_are_taken_out_of_an_expression() {
    let query =
        r#"sum by (zone) (rate(twinkeep_a_total{job="x",o=~"A|B"}[5m])) / node:twinkeep_b:rate1m"#;
    let expected = [r#"twinkeep_a_total{job="x",o=~"A|B"}"#, "node:twinkeep_b:rate1m"];
    assert_eq!(selectors(query), expected);
    assert_eq!(without_comparison("sum(up{a=\"b\"}) == 0"), Some("sum(up{a=\"b\"})"));
    assert_eq!(without_comparison("sum(up)"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_every_panel_and_rule_returns_data() -> anyhow::Result<()> {
    let Some(program) = tool("prometheus") else { return Ok(()) };
    let cluster = Cluster::start_with(&["--snapshot-every", "40"]).await?;
    let config = configuration(&cluster)?;
    let prometheus = Prometheus::start(&program, &config.path().join("prometheus.yml"))?;
    let _load = load(&cluster).await?;
    let rules = prometheus.rules()?;
    ensure!(rules.iter().any(|rule| rule.is_alert), "no alerts were loaded");
    let mut asked = panel_queries()?;
    asked.extend(rule_queries(&rules)?);
    let queries = asked.len();
    let started = Instant::now();
    while !asked.is_empty() {
        let mut empty = Vec::new();
        for one in asked {
            let series = prometheus.query(&one.query).with_context(|| one.place.clone())?;
            if series.is_empty() {
                empty.push(one);
            }
        }
        ensure!(
            empty.is_empty() || started.elapsed() < DATA_MAX,
            "without data after {DATA_MAX:?}: {empty:#?}"
        );
        asked = empty;
        sleep(Duration::from_millis(500)).await;
    }
    let failed: Vec<_> = prometheus.rules()?.into_iter().filter(|r| r.error.is_some()).collect();
    ensure!(failed.is_empty(), "rules that cannot be evaluated: {failed:?}");
    println!("{queries} queries of panels and rules returned data");
    Ok(())
}

/// Names of metrics in the text of an endpoint, each with whether it is described there.
fn families(text: &str) -> BTreeMap<String, bool> {
    let mut families = BTreeMap::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            let name = described.split(' ').next().unwrap_or_default();
            families.insert(name.to_owned(), true);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let ending = ["_bucket", "_sum", "_count"].iter().find_map(|e| name.strip_suffix(e));
            let family = ending.filter(|name| families.contains_key(*name)).unwrap_or(name);
            families.entry(family.to_owned()).or_insert(false);
        }
    }
    families
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_name_what_is_documented_and_no_key_caller_or_instance() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(&["--snapshot-every", "40"]).await?;
    let _load = load(&cluster).await?;
    let docs = std::fs::read_to_string(folder().join("../../docs/observability.md"))?;
    let documented = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<_> = documented.map(str::to_owned).collect();
    let (key, instance) = (cluster.first_key()?, cluster.first_instance()?);
    let private = [
        key.as_str(),
        key.trim_start_matches("key-"),
        instance.as_str(),
        "\"app\"",
        "\"admin\"",
        "seen by nobody",
        "nonsense",
    ];
    let started = Instant::now();
    loop {
        let mut seen = BTreeMap::new();
        for node in cluster.nodes() {
            let text = get(node.metrics_address, "/metrics")?;
            for word in private {
                ensure!(!text.contains(word), "{} shows `{word}`", node.name);
            }
            seen.extend(families(&text));
        }
        let bare: Vec<_> = seen.iter().filter(|(_, described)| !**described).collect();
        ensure!(bare.is_empty(), "not described: {bare:?}");
        let seen: BTreeSet<_> = seen.into_keys().collect();
        let missing: Vec<_> = documented.difference(&seen).collect();
        let strange: Vec<_> = seen.difference(&documented).collect();
        ensure!(strange.is_empty(), "not in docs/observability.md: {strange:?}");
        if missing.is_empty() {
            break;
        }
        ensure!(started.elapsed() < DATA_MAX, "documented and never shown: {missing:?}");
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Operators need to see a node most when it serves nobody.
#[tokio::test(flavor = "multi_thread")]
async fn sealed_node_and_witness_show_their_metrics() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let (witness, node) = (cluster.node("w")?, cluster.node("a2")?);
    let text = get(witness.metrics_address, "/metrics")?;
    ensure!(text.contains("role=\"witness\"") && text.contains("\ntwinkeep_raft_term "), "{text}");
    ensure!(!text.contains("twinkeep_server_is_sealed"), "a witness is never unsealed");
    ensure!(get(node.metrics_address, "/metrics")?.contains("\ntwinkeep_server_is_sealed 0\n"));
    cluster.client_at("admin", node)?.seal(v1::SealRequest::default()).await?;
    ensure!(get(node.metrics_address, "/metrics")?.contains("\ntwinkeep_server_is_sealed 1\n"));
    ensure!(get(node.metrics_address, "/elsewhere").is_err());
    Ok(())
}
