//! `twinkeep unseal` and `twinkeep seal`. Shares and passphrases are read without echo or from a file.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use futures::future::join_all;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::Serialize;
use twinkeep_client::{Client, v1};
use twinkeep_proto::local::v1::{self as local, unseal_request};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::exit::Advice;
use crate::init;
use crate::output::{Show, columns, plain, said, show};

/// Longest share or passphrase, in bytes.
const SECRET_MAX: usize = 4096;
/// What the text of a share opens with.
const SHARE_PREFIX: &str = "tkshare1";

/// Unseals.
#[derive(Debug, clap::Args)]
pub(crate) struct Unseal {
    /// Nodes to unseal, `address:port`; all configured ones without it.
    nodes: Vec<String>,
    /// File with the share or passphrase; without it standard input, or a question on the terminal.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Forgets the shares that were given so far, and gives none.
    #[arg(long, conflicts_with = "from")]
    forget: bool,
    /// Unseals the node behind this socket, `admin.sock` in its data folder: for a node that says that its
    /// endpoint has no valid certificate.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "forget"])]
    socket: Option<PathBuf>,
}

/// Seals.
#[derive(Debug, clap::Args)]
pub(crate) struct Seal {
    /// Nodes to seal, `address:port`.
    #[arg(required_unless_present = "all")]
    nodes: Vec<String>,
    /// Seals every configured node: the cluster then serves nobody.
    #[arg(long, conflicts_with = "nodes")]
    all: bool,
}

impl Unseal {
    /// Gives each node the secret.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        if let Some(socket) = &self.socket {
            return unseal_at(context, socket, read_secret(self.from)?).await;
        }
        let (client, configured) = context.connect()?;
        let request = if self.forget {
            v1::UnsealRequest { forget_shares: true, ..Default::default() }
        } else {
            let secret = read_secret(self.from)?;
            match secret.starts_with(SHARE_PREFIX) {
                true => v1::UnsealRequest { share: secret.to_string(), ..Default::default() },
                false => v1::UnsealRequest { passphrase: secret.to_string(), ..Default::default() },
            }
        };
        let nodes = if self.nodes.is_empty() { configured } else { self.nodes };
        let call = async |node: Client| {
            let answer = node.unseal(request.clone()).await?;
            Ok(match answer.sealed {
                true => format!("{} of {} shares", answer.shares_given, answer.shares_needed),
                false => "unsealed".to_owned(),
            })
        };
        let unsealed = each(context, &client, &nodes, call).await;
        unsealed.map_err(|error| match nobody_listens(&error) {
            true => error.context(NOBODY_LISTENS),
            false => error,
        })
    }
}

/// What to do about a node that opens no endpoint.
const NOBODY_LISTENS: Advice = Advice {
    what: "nobody listens there",
    way_out: "the node does not run, or it is sealed and has no valid certificate for callers; then, on its machine and \
              as its user: `twinkeep unseal --socket <its data folder>/admin.sock`",
};

/// Whether a node was not there to be called. A sealed node may open no endpoint and wait on its socket.
fn nobody_listens(error: &anyhow::Error) -> bool {
    let called = error.chain().find_map(|cause| cause.downcast_ref::<twinkeep_client::Error>());
    matches!(called, Some(twinkeep_client::Error::Unavailable { message, .. }) if message.contains("refused"))
}

/// Gives the secret to the node behind a socket.
async fn unseal_at(
    context: &Context,
    socket: &Path,
    text: Zeroizing<String>,
) -> anyhow::Result<()> {
    let secret = match text.starts_with(SHARE_PREFIX) {
        true => unseal_request::Secret::Share(text.to_string()),
        false => unseal_request::Secret::Passphrase(text.to_string()),
    };
    let channel = init::connect(socket).await?;
    let request = local::UnsealRequest { secret: Some(secret) };
    let answer =
        local::local_service_client::LocalServiceClient::new(channel).unseal(request).await;
    let answer = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
    said(
        context.format(),
        match answer.sealed {
            true => format!("{} of {} shares", answer.shares_given, answer.shares_needed),
            false => "unsealed".to_owned(),
        },
    )
}

impl Seal {
    /// Seals each node.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let (client, configured) = context.connect()?;
        let nodes = if self.all { configured } else { self.nodes };
        let call = async |node: Client| {
            node.seal(v1::SealRequest::default()).await?;
            Ok("sealed".to_owned())
        };
        each(context, &client, &nodes, call).await
    }
}

/// Calls each node and shows what came of it; fails if one failed.
async fn each(
    context: &Context,
    client: &Client,
    nodes: &[String],
    call: impl AsyncFn(Client) -> Result<String, twinkeep_client::Error>,
) -> anyhow::Result<()> {
    let client = client.any_state();
    let calls = nodes.iter().map(async |address| {
        let node = client.at(address).with_context(|| format!("`{address}` is no address"))?;
        anyhow::Ok((address.clone(), call(node).await))
    });
    let results: Vec<_> = join_all(calls).await.into_iter().collect::<Result<_, _>>()?;
    let mut failed = None;
    let mut shown = Vec::new();
    for (node, result) in results {
        let (outcome, error) = match result {
            Ok(outcome) => (Some(outcome), None),
            Err(error) => (None, Some(failed.insert(error).to_string())),
        };
        shown.push(NodeResult { node, outcome, error });
    }
    show(context.format(), &NodeResults { nodes: shown })?;
    match failed {
        Some(error) => Err(anyhow::Error::from(error).context("not every node did it")),
        None => Ok(()),
    }
}

#[derive(Debug, Serialize)]
struct NodeResults {
    nodes: Vec<NodeResult>,
}

#[derive(Debug, Serialize)]
struct NodeResult {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Show for NodeResults {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let text = |result: &NodeResult| result.outcome.clone().or_else(|| result.error.clone());
        let row =
            |result: &NodeResult| [result.node.clone(), plain(&text(result).unwrap_or_default())];
        columns(out, ["NODE", "RESULT"], &self.nodes.iter().map(row).collect::<Vec<_>>())
    }
}

fn read_secret(path: Option<PathBuf>) -> anyhow::Result<Zeroizing<String>> {
    let secret = match path {
        Some(path) => {
            let file = File::open(&path);
            first_line(io::BufReader::new(
                file.with_context(|| format!("cannot read {}", path.display()))?,
            ))
        }
        None if io::stdin().is_terminal() => ask(),
        None => first_line(io::stdin().lock()),
    };
    let secret = secret.context("cannot read the share or passphrase")?;
    if secret.is_empty() {
        bail!("no share and no passphrase was given");
    }
    Ok(secret)
}

/// Asks on the terminal, without echo.
fn ask() -> io::Result<Zeroizing<String>> {
    eprint!("share or passphrase: ");
    let quiet = Quiet::begin()?;
    let line = first_line(io::stdin().lock());
    drop(quiet);
    eprintln!();
    line
}

/// A terminal without echo until it is dropped.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing else can be done for a terminal that refuses.
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.before).ok();
    }
}

/// Reads up to the end of the line, into a buffer that never grows.
fn first_line(source: impl BufRead) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(SECRET_MAX + 1));
    source.take(SECRET_MAX as u64 + 1).read_line(&mut line)?;
    if line.len() > SECRET_MAX {
        return Err(io::Error::other(format!("the line is longer than {SECRET_MAX} bytes")));
    }
    let len = line.trim_end().len();
    line.truncate(len);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_the_first_line_without_its_end() {
        assert_eq!(*first_line(&b"tkshare1abc\r\nmore"[..]).unwrap(), "tkshare1abc");
        assert_eq!(*first_line(&b"pass phrase"[..]).unwrap(), "pass phrase");
        assert!(first_line(&[b'x'; SECRET_MAX + 1][..]).is_err());
    }

    #[test]
    fn refused_connection_leads_to_the_socket() {
        let refused = |message: &str| {
            anyhow::Error::from(twinkeep_client::Error::Unavailable {
                message: message.to_owned(),
                attempts: 1,
                outcome: twinkeep_client::Outcome::NotDone,
            })
        };
        assert!(nobody_listens(&refused("tcp connect error: Connection refused").context("x")));
        assert!(!nobody_listens(&refused("the node is sealed")));
        assert!(!nobody_listens(&anyhow::anyhow!("refused")));
    }

    #[test]
    fn empty_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("share");
        std::fs::write(&path, "\n").unwrap();
        assert!(read_secret(Some(path)).is_err());
    }
}
