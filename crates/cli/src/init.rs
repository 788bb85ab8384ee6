//! `twinkeep init`: begins a cluster on a fresh node, over the socket in the node's data folder.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use twinkeep_pki::{PrivateKey, pem};
use twinkeep_proto::local::v1::local_service_client::LocalServiceClient;
use twinkeep_proto::local::v1::{
    InitRequest, InitResponse, Operator, Passphrase, Shamir, init_request,
};

use crate::output::{Format, Show, show};

/// Begins a cluster on a fresh node.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The node's socket: `admin.sock` in its data folder.
    #[arg(long)]
    socket: PathBuf,
    /// Name of the first administrator.
    #[arg(long, default_value = "admin")]
    admin: String,
    /// Folder for what only this command shows: key and certificate of the administrator, root of the
    /// endpoints, shares, recovery bundle. Is made with mode 0700.
    #[arg(long)]
    out: PathBuf,
    /// An operator and their public key, as `twinkeep operator key` printed it: their part of the recovery
    /// bundle is encrypted to it, and their approvals are checked with it. Give two at least.
    #[arg(long = "operator", value_name = "NAME=age1…:…", value_parser = operator)]
    operators: Vec<Operator>,
    /// How many operators together open the recovery bundle, and how many have to approve an admission.
    #[arg(long, default_value_t = 2)]
    recovery_threshold: u32,
    /// How many shares unseal a node, of how many.
    #[arg(long, value_name = "K/N", value_parser = shamir, default_value = "3/5")]
    shares: Shamir,
    /// The domain that endpoints lie in.
    #[arg(long, default_value = "kms.internal")]
    domain: String,
    /// The zone that may hold a majority of the voters, in a cluster without a third place.
    #[arg(long, default_value = "")]
    preferred_zone: String,
    /// How long a node may use keys after it last heard from a leader, in milliseconds, 1000 to 60000: a disable
    /// waits so long for a node that nobody hears.
    #[arg(long, default_value_t = 5000)]
    freshness_lease_ms: u32,
}

fn operator(text: &str) -> Result<Operator, String> {
    let (name, public_key) = text.split_once('=').ok_or("write NAME=age1…:…")?;
    Ok(Operator { name: name.to_owned(), public_key: public_key.to_owned() })
}

fn shamir(text: &str) -> Result<Shamir, String> {
    let (threshold, shares) = text.split_once('/').ok_or("write K/N, for example 3/5")?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
    Ok(Shamir { threshold: number(threshold)?, shares: number(shares)? })
}

impl Init {
    /// Begins the cluster and writes everything that must be carried away.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<()> {
        let request = InitRequest {
            admin: self.admin.clone(),
            operators: self.operators,
            recovery_threshold: self.recovery_threshold,
            seal: Some(init_request::Seal::Shamir(self.shares)),
            domain: self.domain,
            preferred_zone: self.preferred_zone,
            freshness_lease_ms: self.freshness_lease_ms,
            ..InitRequest::default()
        };
        let begun = begin(&self.socket, &self.out, request).await?;
        for (i, share) in begun.shares.iter().enumerate() {
            write_private(&self.out.join(format!("share-{}.txt", i + 1)), share.as_bytes())?;
        }
        show(format, &Begun { cluster_id: begun.cluster_id, folder: self.out })
    }
}

#[derive(Debug, Serialize)]
struct Begun {
    cluster_id: String,
    /// Where everything is that only this command shows.
    folder: PathBuf,
}

impl Show for Begun {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { cluster_id, folder } = self;
        writeln!(
            out,
            "cluster {cluster_id} has begun; everything that only this command shows is in {}",
            folder.display()
        )?;
        writeln!(
            out,
            "give each share to another person, keep the recovery bundle elsewhere, and try it:"
        )?;
        let bundle = folder.join("recovery-bundle");
        writeln!(out, "  twinkeep recovery verify {} --identity <file>…", bundle.display())
    }
}

/// Draws the administrator's key, begins the cluster, and writes key, certificate, root and bundle.
pub(crate) async fn begin(
    socket: &Path,
    out: &Path,
    request: InitRequest,
) -> anyhow::Result<InitResponse> {
    private_folder(out)?;
    // What is written below is shown once. Nothing that lies here already may stand in its way.
    if std::fs::read_dir(out)?.next().is_some() {
        bail!("{} is not empty; name another folder", out.display());
    }
    let admin = &request.admin.clone();
    let key_file = out.join(format!("{admin}.key"));
    let key = PrivateKey::generate().context("cannot make the administrator's key")?;
    let admin_csr_pem = pem::certificate_request(&key.certificate_request()?);
    // The key is on disk before the certificate exists: were it lost, nobody could administer.
    write_private(&key_file, pem::danger_private_key(&key).as_bytes())?;
    let response = match call(socket, InitRequest { admin_csr_pem, ..request }).await {
        Ok(response) => response,
        Err(NotBegun::Refused(why)) => {
            let _ = std::fs::remove_file(&key_file);
            bail!(why);
        }
        Err(NotBegun::Unknown(error)) => {
            return Err(error.context(format!(
                "it is not known whether the cluster has begun; the administrator's key stays in {}",
                key_file.display()
            )));
        }
    };
    write_private(&out.join(format!("{admin}.pem")), response.admin_certificate_pem.as_bytes())?;
    write_private(&out.join("endpoint-root.pem"), response.endpoint_root_pem.as_bytes())?;
    write_private(&out.join("recovery-bundle"), &response.recovery_bundle)?;
    Ok(response)
}

/// Why there is no answer that says that the cluster has begun.
enum NotBegun {
    /// It has not.
    Refused(String),
    /// It may have.
    Unknown(anyhow::Error),
}

async fn call(socket: &Path, request: InitRequest) -> Result<InitResponse, NotBegun> {
    let refused = |error: anyhow::Error| NotBegun::Refused(format!("{error:#}"));
    let channel = connect(socket).await.map_err(refused)?;
    match LocalServiceClient::new(channel).init(request).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status)
            if matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition) =>
        {
            Err(NotBegun::Refused(status.message().to_owned()))
        }
        Err(status) => Err(NotBegun::Unknown(anyhow::anyhow!("{}", status.message()))),
    }
}

pub(crate) async fn connect(socket: &Path) -> anyhow::Result<Channel> {
    let path = socket.to_owned();
    // The address is not used: the connector goes to the socket.
    Endpoint::from_static("http://local")
        .connect_timeout(Duration::from_secs(5))
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .with_context(|| {
            format!(
                "cannot reach the node at {}; is twinkeepd running, and without a cluster?",
                socket.display()
            )
        })
}

/// Makes a folder that its owner alone can read.
pub(crate) fn private_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Writes a file that its owner alone can read, durably; an existing one is not touched.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write {}", path.display()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot sync {}", folder.display()))
}

/// The seal of a development cluster.
pub(crate) fn dev_seal(passphrase: String) -> init_request::Seal {
    init_request::Seal::Passphrase(Passphrase { passphrase })
}
