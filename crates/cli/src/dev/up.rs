//! `twinkeep dev up`: five processes, two zones and a witness, a first instance and a first key.
//!
//! The first call begins the cluster; later calls start what does not run and find everything again.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::sleep;
use twinkeep_client::{Builder, Client, v1};
use twinkeep_core::admission::Approval;
use twinkeep_core::topology::NodeRole;
use twinkeep_pki::{OrderFile, PrivateKey, pem};
use twinkeep_proto::local::v1::{InitRequest, Operator};

use super::layout::{DevNode, Held, Layout, Settings};
use super::{process, removed};
use crate::{admission, init};

/// Longest wait for a cluster to form or to find a leader again.
const READY_MAX: Duration = Duration::from_secs(60);
/// The caller that the printed commands use.
pub(crate) const CALLER: &str = "app";
/// The operators who hold the recovery bundle and approve admissions.
const OPERATORS: [&str; 2] = ["operator-1", "operator-2"];
/// The administrator.
pub(crate) const ADMIN: &str = "admin";

/// Starts the cluster of a folder, making it first if there is none.
pub(crate) async fn up(home: &std::path::Path, settings: Settings) -> anyhow::Result<Layout> {
    let _lock = process::lock(home)?;
    if let Some(mut layout) = Layout::load(home)?.filter(|layout| layout.path("ready").exists()) {
        for node in layout.nodes() {
            layout.write_config(node)?;
            process::start(&layout, node)?;
        }
        removed::wait_and_retire(&mut layout).await?;
        return Ok(layout);
    }
    // Held until the last node listens.
    let (layout, _ports) = fresh_layout(home, settings)?;
    begin(&layout).await?;
    let admin = client(&layout, ADMIN)?;
    // One identity that may do everything suits a machine for trying things out, and no other.
    grant_roles(&admin, ADMIN, vec![grant(v1::Role::Operator), grant(v1::Role::Auditor)]).await?;
    let mut node_ids = Vec::new();
    for node in &layout.nodes()[1..] {
        progress(&format!("node {} joins", node.name));
        node_ids.push(join(&layout, &admin, node).await?);
    }
    progress("the members become voters together");
    promote(&admin, node_ids).await?;
    furnish(&layout, &admin).await?;
    // From here on there are keys, and the next call must not take the folder for a half-made one.
    std::fs::write(layout.path("ready"), "").context("cannot finish the cluster's folder")?;
    wait_until_all_serve(&layout).await?;
    Ok(layout)
}

/// A cluster whose making was cut short holds nothing yet: it is made anew.
fn fresh_layout(home: &std::path::Path, settings: Settings) -> anyhow::Result<(Layout, Held)> {
    if let Some(half_made) = Layout::load(home)? {
        for node in half_made.nodes() {
            process::stop(&half_made, node, rustix::process::Signal::KILL)?;
            remove(&half_made.folder(node))?;
        }
        remove(&half_made.path("callers"))?;
        for name in ["passphrase", "cluster-id", "layout.toml"] {
            remove_file(&half_made.path(name))?;
        }
        for name in OPERATORS {
            remove_file(&half_made.path(&format!("{name}.age")))?;
        }
    }
    Layout::create(home, settings)
}

fn remove(folder: &std::path::Path) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn remove_file(path: &std::path::Path) -> anyhow::Result<()> {
    if path.exists() {
        std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

pub(crate) fn progress(what: &str) {
    eprintln!("twinkeep: {what}");
}

/// Starts the first node and begins the cluster on it.
async fn begin(layout: &Layout) -> anyhow::Result<()> {
    let first = &layout.nodes()[0];
    progress(&format!("node {} begins the cluster", first.name));
    // 32 hex digits of randomness; the dev cluster unseals itself with it.
    let passphrase = random_hex()?;
    init::write_private(&layout.path("passphrase"), passphrase.as_bytes())?;
    let operators = OPERATORS.map(|name| operator(layout, name));
    let operators = operators.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    layout.write_config(first)?;
    process::start(layout, first)?;
    let socket = layout.folder(first).join("data").join("admin.sock");
    wait_for(layout, first, "its socket", || socket.exists()).await?;
    let request = InitRequest {
        admin: ADMIN.to_owned(),
        operators,
        recovery_threshold: 2,
        seal: Some(init::dev_seal(passphrase)),
        dev: true,
        domain: "kms.internal".to_owned(),
        freshness_lease_ms: layout.freshness_lease_ms(),
        preferred_zone: layout.preferred_zone().unwrap_or_default().to_owned(),
        ..InitRequest::default()
    };
    let begun = init::begin(&socket, &layout.path("callers"), request).await?;
    std::fs::write(layout.path("cluster-id"), begun.cluster_id)
        .context("cannot write the cluster's id")
}

/// Makes the key of an operator.
fn operator(layout: &Layout, name: &str) -> anyhow::Result<Operator> {
    let path = layout.path(&format!("{name}.age")).display().to_string();
    let public_key = process::offline(&["operator-key", "--out", &path])?;
    Ok(Operator { name: name.to_owned(), public_key: public_key.trim().to_owned() })
}

fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    let mut source = std::fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Lets a node join and starts it.
pub(crate) async fn join(layout: &Layout, admin: &Client, node: &DevNode) -> anyhow::Result<u64> {
    layout.write_config(node)?;
    let config = layout.folder(node).join("twinkeepd.toml").display().to_string();
    let csr_pem = process::offline(&["identity", "--config", &config])?;
    let role = if node.witness { NodeRole::Witness } else { NodeRole::Data };
    let (zone, lifetime) = (node.zone.parse()?, Duration::from_secs(admission::LIFETIME_S));
    let (order, _) = admission::order(admin, csr_pem, role, zone, lifetime).await?;
    let approvals = approvals(layout, node, &order)?;
    let admitted = admission::admit(admin, &order, &approvals)
        .await
        .with_context(|| format!("node {} was not admitted", node.name))?;
    std::fs::write(layout.folder(node).join("pass.toml"), &admitted.pass)?;
    process::start(layout, node)?;
    let identity = layout.folder(node).join("data").join("identity.toml");
    wait_for(layout, node, "its place in the cluster", || identity.exists()).await?;
    Ok(admitted.node_id)
}

/// Has each operator approve an order, as people do: with a key file, in a process of its own.
fn approvals(layout: &Layout, node: &DevNode, order: &OrderFile) -> anyhow::Result<Vec<Approval>> {
    let order_path = layout.folder(node).join("order.toml");
    std::fs::write(&order_path, order.to_text()).context("cannot write an order")?;
    let order_path = order_path.display().to_string();
    let approve = |name: &str| {
        let key = layout.path(&format!("{name}.age")).display().to_string();
        let arguments = ["operator-approve", "--key", &key, "--name", name, &order_path];
        Ok(process::offline(&arguments)?.trim().parse()?)
    };
    OPERATORS.into_iter().map(approve).collect()
}

/// Makes learners voters, as soon as they have caught up.
pub(crate) async fn promote(admin: &Client, node_ids: Vec<u64>) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let request = v1::PromoteNodesRequest {
            node_ids: node_ids.clone(),
            ..v1::PromoteNodesRequest::default()
        };
        match admin.promote_nodes(request).await {
            Ok(_) => return Ok(()),
            Err(error) if started.elapsed() > READY_MAX => {
                return Err(error).context("the members did not become voters");
            }
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Makes the first instance, the first caller and the first key.
async fn furnish(layout: &Layout, admin: &Client) -> anyhow::Result<()> {
    progress("the first instance, caller and key are made");
    let instance = admin
        .create_instance(v1::CreateInstanceRequest {
            name: "main".to_owned(),
            r#type: v1::InstanceType::Software.into(),
            ..v1::CreateInstanceRequest::default()
        })
        .await
        .context("the first instance was not made")?;
    let instance_id = instance.instance.context("the answer names no instance")?.instance_id;
    let roles = [v1::Role::KeyAdmin, v1::Role::KeyUser, v1::Role::Operator, v1::Role::Auditor];
    new_caller(layout, admin, CALLER, roles.map(grant).to_vec()).await?;
    let app = client(layout, CALLER)?;
    let key = app
        .create_key(v1::CreateKeyRequest {
            instance_id: instance_id.clone(),
            spec: v1::KeySpec::Aes256.into(),
            usage: v1::KeyUsage::EncryptDecrypt.into(),
            description: "the first key".to_owned(),
            ..v1::CreateKeyRequest::default()
        })
        .await
        .context("the first key was not made")?;
    let key_id = key.key.context("the answer names no key")?.key_id;
    std::fs::write(layout.path("first-key"), key_id)?;
    std::fs::write(layout.path("first-instance"), instance_id)?;
    Ok(())
}

fn grant(role: v1::Role) -> v1::Grant {
    v1::Grant { role: role.into(), ..v1::Grant::default() }
}

async fn grant_roles(admin: &Client, caller: &str, grants: Vec<v1::Grant>) -> anyhow::Result<()> {
    let request = v1::GrantRolesRequest {
        caller: caller.to_owned(),
        grants,
        ..v1::GrantRolesRequest::default()
    };
    admin.grant_roles(request).await.with_context(|| format!("caller {caller} got no roles"))?;
    Ok(())
}

/// Makes a caller: a key, a certificate for it, and roles.
pub(crate) async fn new_caller(
    layout: &Layout,
    admin: &Client,
    name: &str,
    grants: Vec<v1::Grant>,
) -> anyhow::Result<()> {
    let key = PrivateKey::generate()?;
    let request = v1::IssueCallerCertificateRequest {
        caller: name.to_owned(),
        csr_pem: pem::certificate_request(&key.certificate_request()?),
        ..v1::IssueCallerCertificateRequest::default()
    };
    let issued = admin
        .issue_caller_certificate(request)
        .await
        .with_context(|| format!("caller {name} got no certificate"))?;
    let file = |ending: &str| layout.path("callers").join(format!("{name}.{ending}"));
    init::write_private(&file("key"), pem::danger_private_key(&key).as_bytes())?;
    init::write_private(&file("pem"), issued.certificate_chain_pem.as_bytes())?;
    grant_roles(admin, name, grants).await
}

/// Makes a client of the cluster for a caller, zone a's nodes first.
pub(crate) fn client(layout: &Layout, caller: &str) -> anyhow::Result<Client> {
    client_in(layout, caller, "a")
}

/// Makes a client of the cluster for a caller that stands in a zone.
pub(crate) fn client_in(layout: &Layout, caller: &str, zone: &str) -> anyhow::Result<Client> {
    let data_nodes = layout.nodes().iter().filter(|node| !node.witness);
    Ok(builder_of(layout, caller, data_nodes, zone).build()?)
}

/// Makes a client that knows some nodes and stays with them, and prefers a zone.
pub(crate) fn client_of<'a>(
    layout: &Layout,
    caller: &str,
    nodes: impl IntoIterator<Item = &'a DevNode>,
    zone: &str,
) -> anyhow::Result<Client> {
    let builder = builder_of(layout, caller, nodes, zone).follow_topology(false);
    builder.build().context("cannot make a client")
}

fn builder_of<'a>(
    layout: &Layout,
    caller: &str,
    nodes: impl IntoIterator<Item = &'a DevNode>,
    zone: &str,
) -> Builder {
    let callers = layout.path("callers");
    let mut builder = Client::builder()
        .root_file(callers.join("endpoint-root.pem"))
        .identity_files(
            callers.join(format!("{caller}.pem")),
            callers.join(format!("{caller}.key")),
        )
        .zone(zone);
    for node in nodes {
        builder = builder.endpoint_in(&node.zone, node.client_address.to_string());
    }
    builder
}

/// Waits until every data node answers crypto calls and a leader takes changes.
pub(crate) async fn wait_until_all_serve(layout: &Layout) -> anyhow::Result<()> {
    for node in layout.nodes().iter().filter(|node| !node.witness) {
        wait_until_serving(layout, node).await?;
    }
    Ok(())
}

/// Waits until one data node is unsealed and knows a leader.
pub(crate) async fn wait_until_serving(layout: &Layout, node: &DevNode) -> anyhow::Result<()> {
    let started = Instant::now();
    let only = client_of(layout, ADMIN, [node], &node.zone)?;
    loop {
        let status = only.get_status(v1::GetStatusRequest::default()).await;
        if matches!(&status, Ok(status) if !status.sealed && status.leader_node_id != 0) {
            return Ok(());
        }
        if process::running(layout, node).is_none() {
            bail!(
                "node {} has ended:\n{}\nThe others run on: put right what it says and type `twinkeep dev up` again, \
                 or stop them with `twinkeep dev down`",
                node.name,
                process::last_messages(layout, node, 5)
            );
        }
        if started.elapsed() > READY_MAX {
            let why = status
                .err()
                .map_or_else(|| "it is sealed or knows no leader".to_owned(), |e| e.to_string());
            bail!(
                "node {} does not serve: {why}; see {}",
                node.name,
                process::messages(layout, node)
            );
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn wait_for(
    layout: &Layout,
    node: &DevNode,
    what: &str,
    there: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let started = Instant::now();
    while !there() {
        if process::running(layout, node).is_none() || started.elapsed() > READY_MAX {
            bail!(
                "node {} has not got {what}:\n{}",
                node.name,
                process::last_messages(layout, node, 5)
            );
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
