//! No secret where it does not belong: the witness holds none, no file of any node does, and a data node
//! that was sealed has none in its memory. Searched for raw, as hex and as base64, while the nodes log
//! everything that they can.
//!
//! The control is a marker that is meant to be stored: it stands in the description of two keys, and the
//! same search has to find it in every place where the cluster keeps descriptions.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use twinkeep_client::{Client, v1};
use twinkeep_core::id::{ClusterId, NodeId};
use twinkeep_core::record::{Record as _, RecordKind, SealedRecord};
use twinkeep_envelope::OpenKey;
use twinkeep_keyring::recovery::Identity;
use twinkeep_keyring::{AuthorityName, Bundle, Keyring};
use twinkeep_storage::StateDb;
use twinkeep_sysmem::Arena;
use twinkeep_tests::prometheus::get;
use twinkeep_tests::{Cluster, Node};

/// Bytes that are read at one time.
const WINDOW: usize = 4 << 20;
/// What neighbouring windows share; longer than any pattern.
const OVERLAP: usize = 1024;

/// A secret and everything that it could look like.
struct Canary {
    name: &'static str,
    patterns: Vec<Vec<u8>>,
}

/// Looks for all forms of some secrets in one pass.
struct Search {
    patterns: AhoCorasick,
    /// The secret that each pattern is a form of.
    names: Vec<&'static str>,
}

impl Search {
    fn of(canaries: &[Canary]) -> anyhow::Result<Self> {
        let all = || canaries.iter().flat_map(|canary| &canary.patterns);
        let name = |canary: &Canary| vec![canary.name; canary.patterns.len()];
        Ok(Self {
            patterns: AhoCorasick::new(all())?,
            names: canaries.iter().flat_map(name).collect(),
        })
    }

    fn leaks(&self, bytes: &[u8], place: &str) -> Vec<Leak> {
        let found = self.patterns.find_iter(bytes);
        let names: BTreeSet<_> = found.map(|found| self.names[found.pattern()]).collect();
        names.into_iter().map(|name| (name, place.to_owned())).collect()
    }
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
}

/// Where a node keeps what it writes, in its folder.
const SINKS: [(&str, &str); 5] = [
    ("logs and traces", "messages.log"),
    ("audit", "data/audit"),
    ("RocksDB state", "data/state"),
    ("Raft log", "data/log"),
    ("snapshots", "data/snapshots"),
];

/// Names the place that a file of a node belongs to.
fn sink(folder: &Path, path: &Path) -> &'static str {
    let inside = path.strip_prefix(folder).unwrap_or(path);
    let found = SINKS.iter().find(|(_, place)| inside.starts_with(place));
    found.map_or("another file", |(name, _)| name)
}

/// A canary that was found, and where.
type Leak = (&'static str, String);

/// Looks through a file.
fn leaks_in_file(path: &Path, search: &Search, place: &str) -> anyhow::Result<Vec<Leak>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(search.leaks(&bytes, place)),
        // RocksDB removes files that it has merged; what was in them is in others.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
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

/// Looks through all files in a node's folder.
fn leaks_on_disk(folder: &Path, search: &Search) -> anyhow::Result<Vec<Leak>> {
    let mut found = Vec::new();
    for path in files(folder)? {
        found.extend(leaks_in_file(&path, search, sink(folder, &path))?);
    }
    Ok(found)
}

/// Looks through the memory of a process. Needs root, as the processes forbid it to their own user.
fn leaks_in_memory(pid: i32, search: &Search) -> anyhow::Result<Vec<Leak>> {
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
            found.extend(search.leaks(&window[..read], &format!("memory {range}")));
            // Neighbouring windows overlap, unless the read ended early: what follows is looked at next.
            at += if read == WINDOW { (WINDOW - OVERLAP) as u64 } else { read.max(1) as u64 };
        }
    }
    Ok(found)
}

fn root_key(cluster: &Cluster) -> anyhow::Result<OpenKey> {
    let bundle = std::fs::read_to_string(cluster.path("callers").join("recovery-bundle"))?;
    let identity = |name: &str| {
        let text = std::fs::read_to_string(cluster.path(name))?;
        Identity::parse(text.trim()).context("no operator's key")
    };
    let identities = [identity("operator-1.age")?, identity("operator-2.age")?];
    Ok(Bundle::parse(&bundle)?.recover(&identities)?)
}

/// Opens the stored keys of a stopped node with the recovery bundle, as an auditor would.
fn stored_secrets(cluster: &Cluster, node: &Node) -> anyhow::Result<Vec<Canary>> {
    #[derive(serde::Deserialize)]
    struct Identity {
        cluster: String,
        node: u64,
    }
    let text = std::fs::read_to_string(cluster.data(node).join("identity.toml"))?;
    let own: Identity = toml::from_str(&text)?;
    let own = twinkeep_storage::Identity {
        cluster: own.cluster.parse::<ClusterId>()?,
        node: NodeId::new(own.node)?,
    };
    let state = StateDb::open(&cluster.data(node).join("state"), own)?.latest();
    let arena = Arena::new(Keyring::SLOTS)?;
    let keyring = Keyring::open_with_root(&state, root_key(cluster)?, arena)?;
    let mut secrets = Vec::new();
    let prefix = SealedRecord::kind_prefix(RecordKind::KeyMaterial);
    for record in SealedRecord::list(&state, &prefix, &prefix, 1000)? {
        let material = keyring.open_material(&state, &record)?;
        secrets.push(Canary::new("key material", private_bytes(material.danger_expose())));
    }
    ensure!(secrets.len() > 60, "only {} key versions are stored", secrets.len());
    for name in AuthorityName::ALL {
        let key = keyring.open_authority(&state, name)?.context("an authority has no key")?;
        secrets.push(Canary::new("authority key", private_bytes(key.danger_expose())));
    }
    Ok(secrets)
}

/// Returns what is secret of a key: a PKCS#8 document holds the private bytes behind an OCTET STRING's
/// header and much that all such documents have in common.
fn private_bytes(key: &[u8]) -> &[u8] {
    let scalar = key.windows(2).position(|pair| pair == [0x04, 0x20]).map(|at| &key[at + 2..]);
    scalar.filter(|rest| key.len() > 32 && rest.len() >= 32).map_or(key, |rest| &rest[..32])
}

fn described(cluster: &Cluster, description: &str) -> anyhow::Result<v1::CreateKeyRequest> {
    Ok(v1::CreateKeyRequest { description: description.to_owned(), ..cluster.new_key()? })
}

fn process_id(cluster: &Cluster, node: &Node) -> anyhow::Result<i32> {
    let pid = cluster.pid(node).with_context(|| format!("{} does not run", node.name))?;
    Ok(pid.as_raw_nonzero().get())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_on_disk_in_the_witness_or_in_a_sealed_node() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(&["--snapshot-every", "20", "--log-filter", "trace"]).await?;
    let app = cluster.client("app")?;
    let marker = b"marker-4b8e02d96f7a1c53";
    let text = std::str::from_utf8(marker)?;
    app.create_key(described(&cluster, text)?).await?;
    let plaintext = Bytes::from_static(b"canary-plaintext-7f3c9a1e5b2d8046");
    // So many changes that every node has taken or fetched snapshots.
    for _ in 0..60 {
        app.create_key(cluster.new_key()?).await?;
    }
    let signing = v1::CreateKeyRequest {
        spec: v1::KeySpec::EcP256.into(),
        usage: v1::KeyUsage::SignVerify.into(),
        ..cluster.new_key()?
    };
    app.create_key(signing).await?;
    app.create_key(described(&cluster, text)?).await?;

    // a1 began the cluster, so that `init` has sent it the passphrase. It uses every key and sees what is
    // secret of calls, and then its callers go.
    let (a1, b2) = (cluster.node("a1")?, cluster.node("b2")?);
    let at_a1 = cluster.client_at("app", a1)?;
    use_every_key(&at_a1, &cluster.new_key()?).await?;
    let data_key = use_in_clear(&at_a1, &cluster.first_key()?, &plaintext).await?;
    drop((at_a1, app));

    // What is secret is read from a node that has stopped; every node holds the same.
    cluster.kill([b2])?;
    let mut secrets = stored_secrets(&cluster, b2)?;
    secrets.push(Canary::new("root key", root_key(&cluster)?.danger_expose()));
    secrets.push(Canary::new("passphrase", &std::fs::read(cluster.path("passphrase"))?));
    secrets.push(Canary::new("plaintext", &plaintext));
    secrets.push(Canary::new("data key", &data_key));

    let search = Search::of(&secrets)?;
    for node in cluster.nodes() {
        let found = leaks_on_disk(&cluster.path(&node.name), &search)?;
        ensure!(found.is_empty(), "on {}: {found:?}", node.name);
    }
    for node in cluster.nodes().iter().filter(|node| cluster.pid(node).is_some()) {
        let shown = get(node.metrics_address, "/metrics")?;
        ensure!(shown.contains("\ntwinkeep_"), "{} shows no metrics", node.name);
        let found = search.leaks(shown.as_bytes(), "metrics");
        ensure!(found.is_empty(), "of {}: {found:?}", node.name);
    }
    let witness = cluster.node("w")?;
    let found = leaks_in_memory(process_id(&cluster, witness)?, &search)?;
    ensure!(found.is_empty(), "in the witness: {found:?}");
    let pid = process_id(&cluster, a1)?;
    let found = leaks_in_memory(pid, &search)?;
    ensure!(found.iter().any(|(name, _)| *name == "key material"), "keys in use are not found");
    let admin = cluster.client_at("admin", a1)?;
    admin.seal(v1::SealRequest::default()).await?;
    let found = leaks_in_memory(pid, &search)?;
    ensure!(found.is_empty(), "in the sealed node: {found:?}");

    let marker = Canary::new("marker", marker);
    expect_stored(&cluster, witness, &marker)?;
    expect_stored(&cluster, a1, &marker)?;
    println!("{} secrets were searched for on {} nodes", secrets.len(), cluster.nodes().len());
    Ok(())
}

/// Has a node create one more key, and open all keys that there are.
async fn use_every_key(client: &Client, new_key: &v1::CreateKeyRequest) -> anyhow::Result<()> {
    client.create_key(new_key.clone()).await?;
    let list = v1::ListKeysRequest { page_size: 1000, ..v1::ListKeysRequest::default() };
    for key in client.list_keys(list).await?.keys {
        if key.spec() == v1::KeySpec::EcP256 {
            let request = v1::SignRequest {
                key_id: key.key_id,
                message: Bytes::from_static(b"x"),
                ..v1::SignRequest::default()
            };
            client.sign(request).await?;
        } else {
            let request = v1::EncryptRequest {
                key_id: key.key_id,
                plaintext: Bytes::from_static(b"x"),
                ..v1::EncryptRequest::default()
            };
            client.encrypt(request).await?;
        }
    }
    Ok(())
}

/// Sends a plaintext to a node, gets it back, and gets a data key.
async fn use_in_clear(client: &Client, key_id: &str, plaintext: &Bytes) -> anyhow::Result<Bytes> {
    let encrypt = v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext: plaintext.clone(),
        ..v1::EncryptRequest::default()
    };
    let ciphertext = client.encrypt(encrypt).await?.ciphertext;
    client.decrypt(v1::DecryptRequest { ciphertext, ..v1::DecryptRequest::default() }).await?;
    let key_id = key_id.to_owned();
    let request = v1::GenerateDataKeyRequest { key_id, ..v1::GenerateDataKeyRequest::default() };
    Ok(client.generate_data_key(request).await?.plaintext)
}

/// The control: the same search finds what is stored and held in memory, and what is planted in the
/// places that store no descriptions.
fn expect_stored(cluster: &Cluster, node: &Node, marker: &Canary) -> anyhow::Result<()> {
    let (folder, search) = (cluster.path(&node.name), Search::of(std::slice::from_ref(marker))?);
    let mut seen: BTreeSet<_> =
        leaks_on_disk(&folder, &search)?.into_iter().map(|(_, place)| place).collect();
    for stored in ["RocksDB state", "Raft log", "snapshots"] {
        ensure!(seen.contains(stored), "on {} the marker is not found in: {stored}", node.name);
    }
    if !node.witness {
        plant(&folder.join("data/audit/planted"), marker, &mut seen)?;
    }
    plant(&folder.join("messages.log"), marker, &mut seen)?;
    let missing: Vec<_> = SINKS
        .iter()
        .filter(|(name, place)| folder.join(place).exists() && !seen.contains(*name))
        .collect();
    ensure!(missing.is_empty(), "on {} nothing was planted in {missing:?}", node.name);
    let found = leaks_in_memory(process_id(cluster, node)?, &search)?;
    ensure!(!found.is_empty(), "the marker is not found in the memory of {}", node.name);
    Ok(())
}

/// Plants each form of a canary at the end of a file and has it found there.
fn plant(file: &Path, canary: &Canary, seen: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let folder = file.ancestors().find(|folder| folder.join("messages.log").exists());
    let folder = folder.context("the file lies in no node's folder")?;
    for pattern in &canary.patterns {
        let form = Canary { name: canary.name, patterns: vec![pattern.clone()] };
        // Appended, since the node goes on writing to its messages.
        File::options().create(true).append(true).open(file)?.write_all(pattern)?;
        let found = leaks_in_file(file, &Search::of(&[form])?, sink(folder, file))?;
        ensure!(!found.is_empty(), "what was planted in {} is not found", file.display());
        seen.extend(found.into_iter().map(|(_, place)| place));
    }
    Ok(())
}
