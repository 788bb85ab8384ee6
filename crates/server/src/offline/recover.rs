//! `twinkeepd recover-apply`: ends a life of the cluster on a node that is stopped, by an order that operators signed.
//!
//! On the survivor with the newest log, which the order names first, it puts the first node of the next life
//! together in `next/`, exchanges the folders, and writes passes for the other survivors. On those it moves the
//! folders away and prints a receipt, which the first one asks for: a survivor that could still start in the
//! former life would make that life a majority again, together with nodes that were only thought to be lost.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ring::digest::{SHA256, digest};
use twinkeep_api::ports::UnsealSecret;
use twinkeep_core::admission::Approval;
use twinkeep_core::clock::Clock;
use twinkeep_core::id::NodeId;
use twinkeep_core::record::{ClusterRecord, NodeRecord, Record};
use twinkeep_core::recovery::{RecoveryOrder, Survivor};
use twinkeep_core::topology::Standing;
use twinkeep_keyring::CommandVerifier;
use twinkeep_pki::{RecoveryOrderFile, pem};
use twinkeep_raft::rebirth::{Former, Reborn};
use twinkeep_storage::{LogDb, SnapshotStore, StateDb};
use zeroize::Zeroizing;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::identity::{DataDir, Identity, Pass, PinnedPeer, check_private};
use crate::lives::{Ended, NEXT, Progress, RECOVERY_PASS};
use crate::node::node_key;
use crate::ports::issuer::Issuer;
use crate::ports::unseal::Unsealer;
use crate::ports::vault::NodeVault;

/// How long a node that should be powered off is given to answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// By which order, and approved by whom.
#[derive(Debug, clap::Args)]
pub(crate) struct RecoverApply {
    /// The node's configuration.
    #[arg(long, default_value = "/etc/twinkeep/twinkeepd.toml")]
    config: PathBuf,
    /// The order, as `twinkeep recover plan` wrote it.
    order: PathBuf,
    /// An approval, as `twinkeep operator approve` printed it; as many as the cluster needs.
    #[arg(long = "approval", value_name = "TEXT", required = true)]
    approvals: Vec<Approval>,
    /// The receipt of another survivor, as this command printed it there: of all of them, on the node that brings the
    /// state.
    #[arg(long = "receipt", value_name = "NODE:DIGITS")]
    receipts: Vec<String>,
    /// A file with a share of the unseal key, or with the passphrase, on the node that brings the state.
    #[arg(long = "unseal-from", value_name = "FILE")]
    unseal_from: Vec<PathBuf>,
    /// Where the passes of the other survivors go.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
}

impl RecoverApply {
    /// Ends the life.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config)?;
        let data = DataDir::open(&config.node.data_dir)?;
        let text = fs::read_to_string(&self.order)
            .with_context(|| format!("cannot read {}", self.order.display()))?;
        let file = RecoveryOrderFile::parse(&text)
            .with_context(|| format!("{} is not applied", self.order.display()))?;
        let order = file.order();
        let ended = Ended::read(&data)?.filter(|ended| ended.is_by(order));
        let identity = match &ended {
            Some(ended) => former_identity(&data, ended)?,
            None => data.identity()?,
        };
        let Some(identity) = identity else {
            bail!("{} holds no node of a cluster", config.node.data_dir.display());
        };
        let node = identity.node()?;
        let Some(place) = order.survivors.iter().position(|survivor| survivor.former == node)
        else {
            bail!(
                "the order does not let node {node} go on{}",
                if order.lost.contains(&node) { ": it says that it is powered off" } else { "" }
            );
        };
        if let Some(ended) = ended
            && self.go_on(&data, ended, order, place)?
        {
            return Ok(());
        }
        let former = former(&data, &identity)?;
        self.check(&former, order)?;
        if place == 0 {
            self.begin(&config, &data, &identity, former, &file)
        } else {
            drop(former);
            let ended = Ended::new(Progress::Moving, order);
            ended.save(&data)?;
            make_empty(&data, order, &ended, place)
        }
    }

    /// Goes on where an earlier try was cut off, or repeats what it said; tells whether there was anything to go on
    /// with.
    fn go_on(
        &self,
        data: &DataDir,
        ended: Ended,
        order: &RecoveryOrder,
        place: usize,
    ) -> anyhow::Result<bool> {
        ensure!(ended.state != Progress::Lost, "this node was given up by this order");
        if place > 0 {
            make_empty(data, order, &ended, place)?;
            return Ok(true);
        }
        let is_built = data.path(NEXT).join("identity.toml").exists();
        if ended.state == Progress::Moving && is_built {
            ended.switch(data)?;
        } else if !data.identity()?.is_some_and(|own| ended.is_over(&own).unwrap_or(false)) {
            // Cut off before anything was moved.
            return Ok(false);
        }
        ended.save_as(Progress::Begun, data)?;
        say_begun(&self.out, order);
        Ok(true)
    }

    /// Refuses what can be known to be wrong before anything is changed.
    fn check(&self, former: &Former, order: &RecoveryOrder) -> anyhow::Result<()> {
        let state = former.state.latest();
        let cluster = ClusterRecord::load(&state, &())?.context("the cluster has not begun")?;
        order.check_signed(&self.approvals, &cluster, &CommandVerifier)?;
        let now_ms = SystemClock.unix_ms();
        ensure!(order.expires_ms > now_ms, "the order has lapsed: plan again");
        for record in NodeRecord::all(&state)? {
            let address = record.placement.peer_address;
            let stopped = order.survivors.iter().any(|survivor| survivor.former == record.id);
            if record.standing != Standing::Removed && answers(address) {
                let is = if stopped { "stopped" } else { "powered off" };
                bail!(
                    "something answers at {address}, where node {} belongs: it has to be {is} for the recovery",
                    record.id
                );
            }
        }
        Ok(())
    }

    /// Begins the next life on this node.
    fn begin(
        &self,
        config: &Config,
        data: &DataDir,
        identity: &Identity,
        former: Former,
        file: &RecoveryOrderFile,
    ) -> anyhow::Result<()> {
        let order = file.order();
        self.check_receipts(order)?;
        let next = data.path(NEXT);
        if next.exists() {
            fs::remove_dir_all(&next)
                .with_context(|| format!("cannot remove {}", next.display()))?;
        }
        let (now_ms, folder) = (SystemClock.unix_ms(), next.join("state"));
        eprintln!("recover: copying the state and applying the rest of the log");
        let reborn = Reborn::new(&former, order, &self.approvals, &folder, now_ms)?;
        // Closed before the folders are exchanged: a database that closes removes files by their paths, and others will
        // stand there.
        drop(former);
        let record = reborn.record.clone();
        let vault = Arc::new(NodeVault::new(record.incarnation, record.id));
        let unsealer = Unsealer::new(Arc::clone(&vault), Arc::clone(&reborn.state));
        self.unseal(config, &unsealer)?;
        eprintln!("recover: making the first snapshot of incarnation {}", record.incarnation);
        let snapshots = SnapshotStore::open(&next.join("snapshots"), identity.cluster()?)?;
        let signer = Arc::<NodeVault>::clone(&vault);
        reborn.finish(signer, Arc::new(snapshots), &next.join("log"))?;
        let own = identity.in_life(record.incarnation, record.id);
        let passes = self.certify(data, &reborn, &own, vault, file)?;
        for (node, pass) in passes {
            let path = pass_path(&self.out, node);
            fs::write(&path, pass).with_context(|| format!("cannot write {}", path.display()))?;
        }
        drop(reborn);
        // The identity is written last: a folder without one is not complete.
        data.write(&format!("{NEXT}/identity.toml"), toml::to_string(&own)?.as_bytes())?;
        let ended = Ended::new(Progress::Moving, order);
        ended.save(data)?;
        ended.switch(data)?;
        ended.save_as(Progress::Begun, data)?;
        say_begun(&self.out, order);
        Ok(())
    }

    /// Certifies this node and the other survivors for the next life; returns the passes of those.
    fn certify(
        &self,
        data: &DataDir,
        reborn: &Reborn,
        own: &Identity,
        vault: Arc<NodeVault>,
        file: &RecoveryOrderFile,
    ) -> anyhow::Result<Vec<(NodeId, String)>> {
        let issuer = Issuer::new(vault, Arc::new(SystemClock));
        let state = reborn.state.latest();
        let cluster = ClusterRecord::load(&state, &())?.context("the cluster has not begun")?;
        let node_root = pem::certificates(&[cluster.roots.node.into()]);
        let key = node_key(data)?.public_key();
        ensure!(key.sha256() == reborn.record.spki_sha256, "node.key is not this node's key");
        let certificate = issuer.certify_node(&state, &key, reborn.record.id)?;
        data.write(&format!("{NEXT}/node.pem"), certificate.as_bytes())?;
        data.write(&format!("{NEXT}/node-root.pem"), node_root.as_bytes())?;
        let others = file.order().survivors.iter().zip(file.keys()).skip(1);
        let pass = |(survivor, key): (&Survivor, _)| {
            let pass = Pass {
                certificate: issuer.certify_node(&state, key, survivor.node)?,
                node_root: node_root.clone(),
                identity: own.of_joiner(survivor.node),
                peers: vec![PinnedPeer::of(&reborn.record)],
            };
            Ok((survivor.node, pass.to_toml()?))
        };
        others.map(pass).collect()
    }

    fn check_receipts(&self, order: &RecoveryOrder) -> anyhow::Result<()> {
        let given: BTreeSet<_> = self.receipts.iter().map(String::as_str).collect();
        for survivor in &order.survivors[1..] {
            let former = survivor.former;
            ensure!(
                given.contains(receipt(order, survivor).as_str()),
                "the receipt of node {former} is missing or wrong: run `twinkeep recover apply` there first, so that it \
                 cannot start in the former life any more, and give what it prints with --receipt; if its machine is \
                 gone, plan again without it"
            );
        }
        Ok(())
    }

    /// Opens the keyring, which certifies and signs.
    fn unseal(&self, config: &Config, unsealer: &Unsealer) -> anyhow::Result<()> {
        let configured = config.unseal.passphrase_file.iter();
        let files = if self.unseal_from.is_empty() {
            configured.collect::<Vec<_>>()
        } else {
            self.unseal_from.iter().collect()
        };
        for path in files {
            check_private(path).context("--unseal-from")?;
            let text = fs::read_to_string(path).map(Zeroizing::new);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            let text = Zeroizing::new(text.trim_end_matches('\n').to_owned());
            let secret = match text.starts_with("tkshare1") {
                true => UnsealSecret::Share(text),
                false => UnsealSecret::Passphrase(text),
            };
            let offered = unsealer.offer(secret);
            offered.with_context(|| format!("{} does not unseal", path.display()))?;
        }
        ensure!(
            !unsealer.is_sealed(),
            "the keys are still sealed: give the file of the passphrase, or of enough shares, with --unseal-from"
        );
        Ok(())
    }
}

/// Opens what the node had in the life that ends. Refused while its process runs.
pub(super) fn former(data: &DataDir, identity: &Identity) -> anyhow::Result<Former> {
    let owner = twinkeep_storage::Identity { cluster: identity.cluster()?, node: identity.node()? };
    let log = LogDb::open(&data.path("log"), owner)
        .context("the log cannot be opened; stop the node if it runs")?;
    let state = StateDb::open(&data.path("state"), owner).context("the state cannot be opened")?;
    let verifier = Arc::new(CommandVerifier);
    let (log, state) = (Arc::new(log), Arc::new(state));
    Ok(Former { log, state, trust: identity.trust()?, verifier })
}

/// Reads who the node was in the life that ends, wherever its files are by now.
fn former_identity(data: &DataDir, ended: &Ended) -> anyhow::Result<Option<Identity>> {
    let moved = ended.folder(data).join("identity.toml");
    if !moved.exists() {
        return data.identity();
    }
    let text =
        fs::read_to_string(&moved).with_context(|| format!("cannot read {}", moved.display()))?;
    toml::from_str(&text).map(Some).with_context(|| format!("{} is damaged", moved.display()))
}

/// Moves the folders of a survivor that joins empty, and prints its receipt.
fn make_empty(
    data: &DataDir,
    order: &RecoveryOrder,
    ended: &Ended,
    place: usize,
) -> anyhow::Result<()> {
    if ended.state == Progress::Moving {
        ended.switch(data)?;
        ended.save_as(Progress::Empty, data)?;
    }
    let (first, survivor) = (order.survivors[0].former, &order.survivors[place]);
    eprintln!(
        "incarnation {} has ended on node {}. Now, where node {first} is, which brings the state:\n  \
         twinkeep recover apply … --receipt {}\n\
         and then put the pass that it writes for node {} into {} and start this node",
        order.ends,
        survivor.former,
        receipt(order, survivor),
        survivor.node,
        data.path(RECOVERY_PASS).display(),
    );
    println!("{}", receipt(order, survivor));
    Ok(())
}

fn say_begun(out: &Path, order: &RecoveryOrder) {
    let Survivor { former, node, .. } = &order.survivors[0];
    println!(
        "node {former} has begun the next life of the cluster as node {node}: start it, and it serves and takes changes"
    );
    for survivor in &order.survivors[1..] {
        println!(
            "then carry {} to node {}, put it into its data folder as {}, start it, and give it its vote with\n  \
             twinkeep cluster promote {}",
            pass_path(out, survivor.node).display(),
            survivor.former,
            RECOVERY_PASS,
            survivor.node
        );
    }
}

fn pass_path(out: &Path, node: NodeId) -> PathBuf {
    out.join(format!("pass-{node}.toml"))
}

/// What a survivor shows once the former life has ended there. It proves nothing to somebody who wants to lie; it keeps
/// people in a hurry from leaving the step out.
fn receipt(order: &RecoveryOrder, survivor: &Survivor) -> String {
    let mut bytes = b"twinkeep-receipt-v1\0".to_vec();
    bytes.extend_from_slice(&order.message());
    bytes.extend_from_slice(&survivor.spki_sha256);
    let digest = digest(&SHA256, &bytes);
    format!("{}:{}", survivor.former, hex::encode(&digest.as_ref()[..8]))
}

fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, ANSWER_MAX).is_ok()
}
