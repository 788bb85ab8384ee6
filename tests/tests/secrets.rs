//! No secret where it does not belong: the witness holds none, no file of any node does, and a data node
//! that was sealed has none in its memory. Searched for raw, as hex and as base64.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use twinkeep_client::v1;
use twinkeep_keyring::Bundle;
use twinkeep_keyring::recovery::Identity;
use twinkeep_tests::{Cluster, Node};

/// Bytes that are read at one time; neighbours overlap by the longest pattern.
const WINDOW: usize = 4 << 20;

/// A secret and everything that it could look like.
struct Canary {
    name: &'static str,
    patterns: Vec<Vec<u8>>,
}

impl Canary {
    fn new(name: &'static str, secret: &[u8]) -> Self {
        // Base64 of the middle depends on where it begins: three shifts, without the uncertain ends.
        let shifted = (0..3).map(|shift| {
            let text = STANDARD.encode([&vec![0; shift], secret].concat());
            text.as_bytes()[4..text.len() - 4].to_vec()
        });
        let hex = hex::encode(secret);
        let plain = [secret.to_vec(), hex.clone().into_bytes(), hex.to_uppercase().into_bytes()];
        Self { name, patterns: plain.into_iter().chain(shifted).collect() }
    }

    fn is_in(&self, haystack: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| contains(haystack, pattern))
    }
}

/// Finds a pattern by its first bytes; they are random, so that few places are looked at twice.
fn contains(haystack: &[u8], pattern: &[u8]) -> bool {
    let mut from = 0;
    let last = haystack.len().saturating_sub(pattern.len());
    while let Some(at) = haystack[from..].iter().position(|byte| *byte == pattern[0]) {
        let at = from + at;
        if at > last {
            return false;
        }
        if haystack[at..].starts_with(pattern) {
            return true;
        }
        from = at + 1;
    }
    false
}

/// Looks through a file.
fn leaks_in_file(path: &Path, canaries: &[Canary]) -> anyhow::Result<Vec<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(leaks(&bytes, canaries, &path.display().to_string())),
        // RocksDB removes files that it has merged; what was in them is in others.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
}

fn leaks(bytes: &[u8], canaries: &[Canary], place: &str) -> Vec<String> {
    let found = canaries.iter().filter(|canary| canary.is_in(bytes));
    found.map(|canary| format!("{} in {place}", canary.name)).collect()
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => all.extend(files(&entry.path())?),
            kind if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
    Ok(all)
}

/// Looks through the files of a node: databases, Raft log, snapshots, audit log, messages.
fn leaks_on_disk(
    cluster: &Cluster,
    node: &Node,
    canaries: &[Canary],
) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for path in files(&cluster.path(&node.name))? {
        found.extend(leaks_in_file(&path, canaries)?);
    }
    Ok(found)
}

/// Looks through the memory of a process. Needs root, as the processes forbid it to their own user.
fn leaks_in_memory(pid: i32, canaries: &[Canary]) -> anyhow::Result<Vec<String>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let maps = BufReader::new(File::open(format!("/proc/{pid}/maps"))?);
    let mut found = Vec::new();
    let mut window = vec![0; WINDOW];
    for line in maps.lines() {
        let line = line?;
        let Some((range, rest)) = line.split_once(' ') else { continue };
        let (start, end) = range.split_once('-').context("a map without a range")?;
        let (mut at, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        if !rest.starts_with("rw") {
            continue;
        }
        while at < end {
            let len = usize::try_from(end - at)?.min(WINDOW);
            // Memory that not even root may read this way is outside what a core or a swap file shows.
            let Ok(read) = memory.read_at(&mut window[..len], at) else { break };
            found.extend(leaks(&window[..read], canaries, &format!("memory {range}")));
            if read < WINDOW {
                break;
            }
            at += (WINDOW - 256) as u64;
        }
    }
    Ok(found)
}

fn root_key(cluster: &Cluster) -> anyhow::Result<Vec<u8>> {
    let bundle = std::fs::read_to_string(cluster.path("callers").join("recovery-bundle"))?;
    let identity = |name: &str| {
        let text = std::fs::read_to_string(cluster.path(name))?;
        Identity::parse(text.trim()).context("no operator's key")
    };
    let identities = [identity("operator-1.age")?, identity("operator-2.age")?];
    Ok(Bundle::parse(&bundle)?.recover(&identities)?.danger_expose().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_on_disk_in_the_witness_or_in_a_sealed_node() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(&["--snapshot-every", "20"]).await?;
    let app = cluster.client("app")?;
    let key_id = cluster.first_key()?;
    let plaintext = Bytes::from_static(b"canary-plaintext-7f3c9a1e5b2d8046");
    let encrypt = v1::EncryptRequest {
        key_id: key_id.clone(),
        plaintext: plaintext.clone(),
        ..v1::EncryptRequest::default()
    };
    app.encrypt(encrypt).await?;
    let request = v1::GenerateDataKeyRequest { key_id, ..v1::GenerateDataKeyRequest::default() };
    let data_key = app.generate_data_key(request).await?.plaintext;
    // So many changes that every node has taken or fetched snapshots.
    for _ in 0..60 {
        app.create_key(cluster.new_key()?).await?;
    }
    let passphrase = std::fs::read(cluster.path("passphrase"))?;
    let at_rest = [
        Canary::new("root key", &root_key(&cluster)?),
        Canary::new("passphrase", &passphrase),
        Canary::new("plaintext", &plaintext),
        Canary::new("data key", &data_key),
    ];
    for node in cluster.nodes() {
        let found = leaks_on_disk(&cluster, node, &at_rest)?;
        ensure!(found.is_empty(), "on {}: {found:?}", node.name);
    }
    let pid = |node: &Node| {
        cluster.pid(node).map(|pid| pid.as_raw_nonzero().get()).context("the node does not run")
    };
    let witness = cluster.node("w")?;
    let found = leaks_in_memory(pid(witness)?, &at_rest)?;
    ensure!(found.is_empty(), "in the witness: {found:?}");

    // The control: the search sees what is there, in memory and in every kind of file.
    let a1 = cluster.node("a1")?;
    for node in [witness, a1] {
        for file in ["messages.log", "data/identity.toml"] {
            for planted in &at_rest[0].patterns {
                expect_found(&cluster.path(&node.name).join(file), planted, &at_rest)?;
            }
        }
    }
    let own = Canary::new("own", &passphrase);
    let held = std::hint::black_box(passphrase.clone());
    let found = leaks_in_memory(i32::try_from(std::process::id())?, &[own])?;
    ensure!(!found.is_empty(), "the search does not see {} bytes in memory", held.len());

    // A sealed node has wiped its keys. Buffers of requests are not wiped, and are not searched for here.
    let admin = cluster.client_at("admin", a1)?;
    admin.seal(v1::SealRequest::default()).await?;
    let found = leaks_in_memory(pid(a1)?, &at_rest[..1])?;
    ensure!(found.is_empty(), "in the sealed node: {found:?}");
    println!("{} secrets were searched for on {} nodes", at_rest.len(), cluster.nodes().len());
    Ok(())
}

/// Plants a leak in a copy of a file and has it found.
fn expect_found(file: &Path, planted: &[u8], canaries: &[Canary]) -> anyhow::Result<()> {
    let copy = file.with_extension("planted");
    let bytes = [std::fs::read(file)?, planted.to_vec()].concat();
    std::fs::write(&copy, bytes)?;
    let found = leaks_in_file(&copy, canaries)?;
    std::fs::remove_file(&copy)?;
    ensure!(!found.is_empty(), "a leak in {} is not found", file.display());
    Ok(())
}
