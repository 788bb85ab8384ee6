//! A node's life: it begins a cluster or joins one, once; then it serves until it is told to stop.
//!
//! ```text
//! fresh ──(pass)──► join ─┐
//!   │                     ├──► assemble ──► serve ──► stop
//!   └──(init)──► begin ───┘        ▲
//!            restarted ────────────┘
//! ```

pub(crate) mod assembly;
mod begin;
mod caller_threads;
mod desk_client;
mod endpoint;
mod fence;
mod join;
mod join_desk;
mod local_desk;
pub(crate) mod possession;
mod renewal;
mod serve;

use std::os::unix::fs::PermissionsExt;

use anyhow::Context;
use tokio::net::UnixListener;
use twinkeep_pki::{PrivateKey, pem};

use crate::config::{Config, Role};
use crate::identity::{DataDir, Pass};
use crate::lives;
use crate::telemetry::Telemetry;

/// Runs a node until it is told to stop.
pub(crate) async fn run(config: Config, telemetry: &Telemetry) -> anyhow::Result<()> {
    let data = DataDir::open(&config.node.data_dir)?;
    let identity = data.identity()?;
    lives::check(&data, identity.as_ref())?;
    // A pass of a recovery is newer than the one that the node first joined with.
    let paths = [Some(data.path(lives::RECOVERY_PASS)), config.join.pass_file.clone()];
    let pass = paths.into_iter().flatten().find(|path| path.exists()).map(|path| Pass::load(&path));
    if let Some(identity) = identity {
        // The pass has done its work: one that is damaged meanwhile keeps no node from starting.
        let pass = pass.and_then(Result::ok);
        identity.check_expected(config.cluster_id()?, pass.as_ref()).with_context(|| {
            format!("the data folder {} is not this node's", config.node.data_dir.display())
        })?;
        let assembly = assembly::assemble(&config, &data, &identity).await?;
        return serve::serve(&config, &data, assembly, None, telemetry).await;
    }
    if let Some(pass) = pass.transpose()? {
        pass.identity
            .check_expected(config.cluster_id()?, None)
            .context("the pass in join.pass-file is not for this node")?;
        let root = join::join(&config, &data, &pass).await?;
        let identity = data.identity()?.context("joining left no identity")?;
        let assembly = assembly::assemble(&config, &data, &identity).await?;
        return serve::serve(&config, &data, assembly, root, telemetry).await;
    }
    anyhow::ensure!(
        config.node.role == Role::Data,
        "a witness cannot begin a cluster; admit it with `twinkeep cluster admit` and name the pass in join.pass-file"
    );
    match begin::begin(&config, &data).await? {
        Some(assembly) => serve::serve(&config, &data, assembly, None, telemetry).await,
        None => Ok(()),
    }
}

/// Listens on the node's own socket, `admin.sock` in its data folder, for whoever may open that file.
fn own_socket(data: &DataDir) -> anyhow::Result<UnixListener> {
    let path = data.path("admin.sock");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    Ok(listener)
}

/// Returns the node's own key, making it when there is none yet.
pub(crate) fn node_key(data: &DataDir) -> anyhow::Result<PrivateKey> {
    own_key(data, "node.key")
}

fn own_key(data: &DataDir, name: &str) -> anyhow::Result<PrivateKey> {
    let path = data.path(name);
    if path.exists() {
        let text = zeroize::Zeroizing::new(
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
        );
        return pem::read_private_key(&text)
            .with_context(|| format!("{} holds no private key", path.display()));
    }
    let key = PrivateKey::generate().context("cannot make a private key")?;
    data.write(name, pem::danger_private_key(&key).as_bytes())?;
    Ok(key)
}
