//! docs/operations.md, the book for the night: what it says to type is typed here, on clusters that have just lost what
//! the section is about, and what it says is printed is compared.
//!
//! | in the book | means |
//! |---|---|
//! | ` ```sh runs=loss ` | the scenario `loss` runs the block, blocks of one scenario in their order |
//! | `on=b2` | on that node's machine: `systemctl`, `journalctl` and the paths are that node's |
//! | `until` | typed again and again, until it prints what follows |
//! | `fails=5` | its last command ends with that code |
//! | ` ```sh not-run="why" ` | nothing runs it |
//! | ` ```text ` behind a block | what it prints; `…` is anything in a line, a line of `…` alone any lines |
//!
//! Runs of spaces are alike, since the columns of a table are as wide as what is in them. The book's cluster is that
//! of the README; [`Place`] says what stands for its addresses, files and names here. `systemctl` starts and stops the
//! process of the node, by the id that it wrote down itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use tokio::time::sleep;
use twinkeep_client::v1::{self, Durability, ReplicationMode};
use twinkeep_tests::{Cluster, Node, program};

const BOOK: &str = include_str!("../../docs/operations.md");
/// Who runs which blocks, in the order of the scenarios below.
const SCENARIOS: [&str; 14] = [
    "setup", "look", "node", "zone", "witness", "minority", "rolling", "drain", "seal", "socket",
    "caller", "old-disk", "replace", "recovery",
];
/// Longest until a block marked `until` has printed what it should.
const UNTIL_MAX: Duration = Duration::from_secs(30);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// A block of commands.
#[derive(Debug, Clone)]
struct Block {
    line: usize,
    info: String,
    commands: String,
    /// What it prints, if the book says so.
    printed: Option<String>,
}

impl Block {
    fn attribute(&self, name: &str) -> Option<&str> {
        let rest = self.info.split_once(&format!("{name}="))?.1;
        match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').map(|(value, _)| value),
            None => rest.split(' ').next(),
        }
    }

    fn is_until(&self) -> bool {
        self.info.split(' ').any(|word| word == "until")
    }
}

/// Returns the book's blocks of commands with what follows them.
fn blocks(book: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = book.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) else { continue };
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        let body = body.fold(String::new(), |text, line| text + line + "\n");
        match info.split(' ').next() {
            Some("sh") => blocks.push(Block {
                line: number + 1,
                info: info.to_owned(),
                commands: body,
                printed: None,
            }),
            Some("text") => {
                if let Some(last) = blocks.last_mut().filter(|block| block.printed.is_none()) {
                    last.printed = Some(body);
                }
            }
            _ => {}
        }
    }
    blocks
}

/// Whether a line is what the book shows: `…` stands for anything, runs of spaces are alike.
fn line_matches(shown: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, line) = (squeeze(shown), squeeze(line));
    let mut parts = shown.split('…').map(str::trim);
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether lines are what the book shows; a line of `…` alone stands for any number of them.
fn lines_match(shown: &[&str], lines: &[&str]) -> bool {
    match (shown.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"…", later)), _) => {
            (0..=lines.len()).any(|skipped| lines_match(later, &lines[skipped..]))
        }
        (Some((first, later)), Some((line, rest))) => {
            line_matches(first, line) && lines_match(later, rest)
        }
        _ => false,
    }
}

fn matches(shown: &str, printed: &str) -> bool {
    lines_match(&shown.lines().collect::<Vec<_>>(), &printed.lines().collect::<Vec<_>>())
}

/// Where the book's reader sits: a folder with the files that the book names, and programs that stand for systemd.
struct Place {
    desk: TempDir,
    cluster: Cluster,
}

/// Stands for systemd on the machine of `$NODE`.
const SYSTEMCTL: &str = r#"#!/bin/bash
set -e
folder="$CLUSTER/$NODE"
stop() {
  pid=$(cat "$folder/pid")
  kill -TERM "$pid" 2>/dev/null || return 0
  while kill -0 "$pid" 2>/dev/null && ! grep -q ') Z ' "/proc/$pid/stat"; do sleep 0.05; done
}
start() {
  setsid twinkeepd run --config "$folder/twinkeepd.toml" </dev/null >>"$folder/messages.log" 2>&1 &
  echo $! >"$folder/pid"
}
case "$1" in stop) stop ;; start) start ;; restart) stop; start ;; *) exit 1 ;; esac
"#;
/// Stands for the journal of the machine of `$NODE`: `journalctl -u twinkeepd -o cat -n LINES`.
const JOURNALCTL: &str = "#!/bin/bash\ntail -n \"${@: -1}\" \"$CLUSTER/$NODE/messages.log\"\n";

impl Place {
    async fn new() -> anyhow::Result<Self> {
        let cluster = Cluster::start().await?;
        let place = Self { desk: tempfile::tempdir()?, cluster };
        let programs = place.file("bin");
        fs::create_dir(&programs)?;
        for (name, text) in [("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)] {
            fs::write(programs.join(name), text)?;
            fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755))?;
        }
        for (caller, folder) in [("app", "ops"), ("admin", "admin")] {
            fs::create_dir(place.file(folder))?;
            for ending in ["pem", "key"] {
                let from = place.cluster.path("callers").join(format!("{caller}.{ending}"));
                fs::copy(from, place.file(folder).join(format!("{folder}.{ending}")))?;
            }
            let root = place.cluster.path("callers/endpoint-root.pem");
            fs::copy(root, place.file(folder).join("endpoint-root.pem"))?;
        }
        for (ours, theirs) in [
            ("operator-1.age", "ann.age"),
            ("operator-2.age", "bob.age"),
            ("passphrase", "share-1.txt"),
            ("callers/recovery-bundle", "recovery-bundle"),
        ] {
            fs::copy(place.cluster.path(ours), place.file(theirs))?;
        }
        place.runs("setup").await?;
        place.cluster.until_mode(ReplicationMode::Sync).await?;
        Ok(place)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.desk.path().join(name)
    }

    /// Puts this cluster's names in the place of the book's.
    fn translate(&self, text: &str, on: Option<&Node>) -> String {
        let mut names = BTreeMap::new();
        for (node, address) in
            [("a1", "10.66.1.11"), ("a2", "10.66.1.12"), ("b1", "10.66.2.11"), ("b2", "10.66.2.12")]
        {
            let ours = self.cluster.node(node).map(|node| node.client_address.to_string());
            names.insert(format!("{address}:7100"), ours.unwrap_or_default());
        }
        names.insert("--name ann".to_owned(), "--name operator-1".to_owned());
        names.insert("--name bob".to_owned(), "--name operator-2".to_owned());
        names.insert("operator ann".to_owned(), "operator operator-1".to_owned());
        names.insert("operator bob".to_owned(), "operator operator-2".to_owned());
        names.insert("of ann, bob".to_owned(), "of operator-1, operator-2".to_owned());
        if let Some(node) = on {
            let folder = self.cluster.path(&node.name).display().to_string();
            names.insert("/var/lib/twinkeep".to_owned(), format!("{folder}/data"));
            names.insert(
                "/etc/twinkeep/twinkeepd.toml".to_owned(),
                format!("{folder}/twinkeepd.toml"),
            );
            names.insert("/etc/twinkeep/node.pass".to_owned(), format!("{folder}/pass.toml"));
        }
        names.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    }

    fn run(&self, block: &Block) -> anyhow::Result<Output> {
        let on = block.attribute("on").map(|name| self.cluster.node(name)).transpose()?;
        let ours = program("twinkeep")?;
        let ours = ours.parent().context("a program in no folder")?.display().to_string();
        let path = format!("{}:{ours}:/usr/bin:/bin", self.file("bin").display());
        let mut shell = Command::new("bash");
        // What is printed beside the results is read by the same eyes.
        let commands = format!("exec 2>&1\nset -e\n{}", self.translate(&block.commands, on));
        shell.args(["-c", &commands]).current_dir(self.desk.path()).env_clear();
        shell.envs([("PATH", path.as_str()), ("TERM", "dumb"), ("COLUMNS", "200")]);
        shell.env("HOME", self.desk.path()).env("CLUSTER", self.cluster.path("."));
        shell.env("NODE", on.map_or("", |node| node.name.as_str()));
        Ok(shell.output()?)
    }

    /// Runs a scenario's blocks and compares what they print.
    async fn runs(&self, scenario: &str) -> anyhow::Result<()> {
        for block in blocks(BOOK).iter().filter(|b| b.attribute("runs") == Some(scenario)) {
            let about = format!("docs/operations.md:{}, scenario {scenario}", block.line);
            self.check(block).await.context(about)?;
        }
        println!("{scenario}: as the book says");
        Ok(())
    }

    async fn check(&self, block: &Block) -> anyhow::Result<()> {
        let fails: i32 = block.attribute("fails").unwrap_or("0").parse()?;
        let on = block.attribute("on").map(|name| self.cluster.node(name)).transpose()?;
        let began = Instant::now();
        loop {
            let output = self.run(block)?;
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            let shown = block.printed.as_ref().map(|shown| self.translate(shown, on));
            let is_as_shown = shown.as_ref().is_none_or(|shown| matches(shown, &printed));
            if is_as_shown && output.status.code() == Some(fails) {
                return Ok(());
            }
            if !block.is_until() || began.elapsed() > UNTIL_MAX {
                let shown = shown.unwrap_or_default();
                bail!(
                    "{}\nprinted, with {}:\n{printed}\nthe book says:\n{shown}",
                    block.commands,
                    output.status
                );
            }
            sleep(PAUSE).await;
        }
    }

    async fn healthy(&self) -> anyhow::Result<()> {
        self.cluster.until_mode(ReplicationMode::Sync).await.map(|_| ())
    }

    /// Makes a key and returns where the answer says that it is.
    async fn durability(&self) -> anyhow::Result<Durability> {
        let answer = self.cluster.client("app")?.create_key(self.cluster.new_key()?).await?;
        Ok(answer.durability())
    }

    /// Uses the first key through whoever serves.
    async fn keys_work(&self) -> anyhow::Result<()> {
        let key_id = self.cluster.first_key()?;
        let plaintext = b"3 a.m.".to_vec().into();
        let request = v1::EncryptRequest { key_id, plaintext, ..Default::default() };
        self.cluster.client("app")?.encrypt(request).await.context("keys cannot be used")?;
        Ok(())
    }

    fn lose(&self, names: &[&str]) -> anyhow::Result<()> {
        let nodes = names.iter().map(|name| self.cluster.node(name));
        self.cluster.kill(nodes.collect::<anyhow::Result<Vec<_>>>()?)
    }

    /// Has a node ask for its shares, as every node does that has no passphrase in a file.
    fn takes_shares(&self, name: &str) -> anyhow::Result<()> {
        let path = self.cluster.path(name).join("twinkeepd.toml");
        let text = fs::read_to_string(&path)?;
        let kept = text.split("\n[unseal]").next().context("an empty configuration")?;
        Ok(fs::write(&path, kept)?)
    }
}

#[test]
fn every_command_of_the_book_is_run_or_says_why_not() -> anyhow::Result<()> {
    let blocks = blocks(BOOK);
    ensure!(!blocks.is_empty(), "the book has no commands");
    for block in &blocks {
        let line = block.line;
        match (block.attribute("runs"), block.attribute("not-run")) {
            (Some(name), None) => {
                ensure!(SCENARIOS.contains(&name), "line {line}: there is no scenario {name}");
                ensure!(!block.is_until() || block.printed.is_some(), "line {line}: until what?");
            }
            (None, Some(why)) => ensure!(!why.is_empty(), "line {line}: why is it not run?"),
            _ => bail!("line {line}: say runs=<scenario> or not-run=\"<why>\": {}", block.info),
        }
    }
    for scenario in SCENARIOS {
        let mut all = blocks.iter().filter_map(|block| block.attribute("runs"));
        ensure!(
            all.any(|name| name == scenario),
            "the book has nothing for the scenario {scenario}"
        );
    }
    Ok(())
}

#[test]
fn what_is_printed_is_compared_but_for_what_varies() {
    assert!(matches("… silent: 4; …zone a\n", "2026-01-01  x  silent: 4; stop without zone a\n"));
    assert!(matches("NODE RESULT\n10:1 sealed\n", "NODE    RESULT\n10:1    sealed\n"));
    assert!(matches("…\nlast\n", "one\ntwo\nlast\n") && matches("…\nlast\n", "last\n"));
    assert!(!matches("… silent: 4\n", "silent: 4, 5\n"));
    assert!(!matches("sealed\n", "unsealed\n") && !matches("one\n", "one\ntwo\n"));
    assert!(!matches("one\ntwo\n", "one\n") && !matches("a … b … b\n", "a b\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_of_nodes_zones_and_the_witness_go_as_the_book_says() -> anyhow::Result<()> {
    let place = Place::new().await?;
    place.runs("look").await?;

    place.lose(&["b2"])?;
    place.keys_work().await?;
    ensure!(place.durability().await? == Durability::EveryZone, "a node is lost");
    place.runs("node").await?;

    place.healthy().await?;
    place.lose(&["b1", "b2"])?;
    place.keys_work().await?;
    ensure!(place.durability().await? == Durability::SingleZone, "a zone is lost");
    place.runs("zone").await?;

    place.healthy().await?;
    place.lose(&["w"])?;
    place.keys_work().await?;
    ensure!(place.durability().await? == Durability::EveryZone, "the witness is lost");
    place.runs("witness").await?;

    // The lead is where the book has it.
    place.healthy().await?;
    place.cluster.twinkeep(&["zone", "drain", "b"])?;
    place.cluster.twinkeep(&["zone", "undrain", "b"])?;
    place.lose(&["b1", "b2", "w"])?;
    place.keys_work().await?;
    let hurried = place.cluster.client("app")?.with_deadline(Duration::from_secs(1));
    let created = hurried.create_key(place.cluster.new_key()?).await;
    ensure!(created.is_err(), "a change is answered without a majority");
    place.runs("minority").await?;
    place.healthy().await?;
    ensure!(place.durability().await? == Durability::EveryZone, "all is back");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn zone_and_witness_that_are_lost_for_good_are_given_up_as_the_book_says()
-> anyhow::Result<()> {
    let place = Place::new().await?;
    place.cluster.twinkeep(&["zone", "drain", "b"])?;
    place.cluster.twinkeep(&["zone", "undrain", "b"])?;
    place.durability().await?;
    place.lose(&["b1", "b2", "w"])?;
    place.keys_work().await?;
    place.runs("recovery").await?;
    place.keys_work().await?;
    place.durability().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn planned_work_seals_certificates_and_disks_go_as_the_book_says() -> anyhow::Result<()> {
    let place = Place::new().await?;
    place.takes_shares("a2")?;
    place.runs("rolling").await?;
    place.healthy().await?;
    place.runs("drain").await?;

    place.healthy().await?;
    place.runs("seal").await?;
    let a2 = place.cluster.node("a2")?;
    let pid = place.cluster.pid(a2).context("a2 does not run")?;
    kill_process(pid, Signal::TERM)?;
    while place.cluster.pid(a2).is_some() {
        sleep(PAUSE).await;
    }
    fs::remove_file(place.cluster.data(a2).join("endpoint.pem"))?;
    place.runs("socket").await?;
    // The book's `ops` has this role already; here another caller has stood for it until now.
    place.cluster.twinkeep(&["--as", "admin", "access", "grant", "ops", "--role", "OPERATOR"])?;
    place.runs("caller").await?;

    // The machine of b1 is put back as it was a while ago; its newest disk is still there.
    place.healthy().await?;
    let b1 = place.cluster.node("b1")?;
    let old = place.file("old");
    let pid = place.cluster.pid(b1).context("b1 does not run")?;
    kill_process(pid, Signal::STOP)?;
    let copied = copy(&place.cluster.data(b1), &old);
    kill_process(pid, Signal::CONT)?;
    copied?;
    place.healthy().await?;
    for _ in 0..10 {
        place.durability().await?;
    }
    sleep(Duration::from_millis(500)).await;
    place.lose(&["b1"])?;
    let data = place.cluster.data(b1);
    fs::rename(&data, data.with_extension("newest"))?;
    fs::rename(&old, &data)?;
    place.runs("old-disk").await?;

    // The disks of b2 and of the witness are dead.
    place.healthy().await?;
    place.lose(&["b2", "w"])?;
    place.runs("replace").await?;
    place.keys_work().await?;
    ensure!(place.durability().await? == Durability::EveryZone, "all are replaced");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "the disk was not copied");
    Ok(())
}
