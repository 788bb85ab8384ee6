//! `twinkeep cluster order` and `twinkeep cluster admit`: several people let a node in.
//!
//! Whoever may ask for the admission writes the order. It travels to the operators, who look at it and sign
//! it where no node is (`twinkeep operator approve`), and comes back with their approvals.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use time::OffsetDateTime;
use twinkeep_client::{Client, v1};
use twinkeep_core::admission::{AdmissionOrder, Approval};
use twinkeep_core::id::{ClusterId, Incarnation};
use twinkeep_core::name::ZoneName;
use twinkeep_core::topology::NodeRole;
use twinkeep_pki::OrderFile;
use twinkeep_pki::order::requested_key;

use crate::output::{Format, Sink, document, time};

/// Longest life of an order, in seconds: a minute below what the cluster takes, since clocks differ.
const LIFETIME_S_MAX: u64 = AdmissionOrder::LIFE_MAX_MS / 1000 - 60;
/// Life of an order where nobody names one, in seconds: a working day.
pub(crate) const LIFETIME_S: u64 = 8 * 3600;

/// Whom to admit.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// The node's certificate signing request, as `twinkeepd identity` prints it.
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// `data` or `witness`.
    #[arg(long, value_parser = |text: &str| text.to_lowercase().parse::<NodeRole>(), default_value = "data")]
    role: NodeRole,
    /// The zone that the node stands in.
    #[arg(long)]
    zone: ZoneName,
    /// How long the operators have, from now on. Once admitted the node has ten minutes.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=LIFETIME_S_MAX),
        default_value_t = LIFETIME_S
    )]
    lifetime: u64,
    #[command(flatten)]
    sink: Sink,
}

impl Order {
    /// Writes the order.
    pub(crate) async fn run(self, client: &Client, format: Format) -> anyhow::Result<()> {
        let csr_pem = std::fs::read_to_string(&self.csr)
            .with_context(|| format!("cannot read {}", self.csr.display()))?;
        let lifetime = Duration::from_secs(self.lifetime);
        let (file, approvals_min) = order(client, csr_pem, self.role, self.zone, lifetime).await?;
        let (order, expires) = (file.to_text(), time(file.order().expires_ms));
        if self.sink.is_file() || !format.is_document() {
            self.sink.write(order.as_bytes(), false)?;
        }
        eprintln!(
            "{approvals_min} operators have to approve the order until {expires}, each with\n  \
             twinkeep operator approve --key FILE --name NAME ORDER"
        );
        match format {
            Format::Table => Ok(()),
            _ => {
                let order = (!self.sink.is_file()).then_some(order);
                document(format, &Ordered { approvals_min, expires, order })
            }
        }
    }
}

/// Which order, and who approved it.
#[derive(Debug, clap::Args)]
pub(crate) struct Admit {
    /// The order, as `twinkeep cluster order` wrote it.
    order: PathBuf,
    /// An approval, as `twinkeep operator approve` printed it, or a file with approvals, one in a line; as
    /// many as the cluster needs.
    #[arg(long = "approval", value_name = "FILE|TEXT", required = true)]
    approvals: Vec<String>,
    #[command(flatten)]
    sink: Sink,
}

impl Admit {
    /// Has the node admitted and prints its pass.
    pub(crate) async fn run(self, client: &Client, format: Format) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(&self.order)
            .with_context(|| format!("cannot read {}", self.order.display()))?;
        let order = OrderFile::parse(&text)
            .with_context(|| format!("{} is not understood", self.order.display()))?;
        let approvals = self.approvals.iter().map(|argument| approvals_of(argument));
        let approvals = approvals.collect::<anyhow::Result<Vec<_>>>()?.concat();
        let answer = admit(client, &order, &approvals).await?;
        let expires = time(answer.expires_unix_ms);
        eprintln!("node {} may join until {expires}", answer.node_id);
        if self.sink.is_file() || !format.is_document() {
            self.sink.write(answer.pass.as_bytes(), false)?;
            eprintln!("put the pass where the node's `join.pass-file` says, and start it");
        }
        match format {
            Format::Table => Ok(()),
            _ => {
                let pass = (!self.sink.is_file()).then_some(answer.pass);
                document(format, &Admitted { node_id: answer.node_id, expires, pass })
            }
        }
    }
}

/// An order, as a document. As text it is the file itself.
#[derive(Debug, Serialize)]
struct Ordered {
    approvals_min: u32,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<String>,
}

/// An admission, as a document. As text it is the pass itself.
#[derive(Debug, Serialize)]
struct Admitted {
    node_id: u64,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
}

/// Writes an order for the cluster that answers, and says how many have to approve it.
pub(crate) async fn order(
    client: &Client,
    csr_pem: String,
    role: NodeRole,
    zone: ZoneName,
    lifetime: Duration,
) -> anyhow::Result<(OrderFile, u32)> {
    let spki_sha256 = requested_key(&csr_pem)?.sha256();
    let (cluster, incarnation, approvals_min) = identity_of(client).await?;
    // Whole seconds, for whoever reads it.
    let expires = OffsetDateTime::now_utc() + lifetime;
    let expires_ms = u64::try_from(expires.unix_timestamp())? * 1000;
    let order = AdmissionOrder { cluster, incarnation, spki_sha256, role, zone, expires_ms };
    Ok((OrderFile::new(order, csr_pem)?, approvals_min))
}

/// Has the node of an approved order admitted.
pub(crate) async fn admit(
    client: &Client,
    file: &OrderFile,
    approvals: &[Approval],
) -> anyhow::Result<v1::AdmitNodeResponse> {
    let order = file.order();
    let (cluster, incarnation, _) = identity_of(client).await?;
    // The service would find the approvals wrong and could not say why.
    if (order.cluster, order.incarnation) != (cluster, incarnation) {
        bail!(
            "the order is for {}, incarnation {}, and this is {cluster}, incarnation {incarnation}: write a new order \
             with `twinkeep cluster order`",
            order.cluster,
            order.incarnation
        );
    }
    let approvals = approvals.iter().map(|approval| v1::Approval {
        operator: approval.operator.to_string(),
        signature: approval.signature.to_vec().into(),
    });
    let role = match order.role {
        NodeRole::Data => v1::NodeRole::Data,
        NodeRole::Witness => v1::NodeRole::Witness,
    };
    let request = v1::AdmitNodeRequest {
        csr_pem: file.csr_pem().to_owned(),
        role: role.into(),
        zone: order.zone.to_string(),
        expires_unix_ms: order.expires_ms,
        approvals: approvals.collect(),
        ..Default::default()
    };
    Ok(client.admit_node(request).await?)
}

/// Asks the cluster who it is and how many approvals an admission needs.
async fn identity_of(client: &Client) -> anyhow::Result<(ClusterId, Incarnation, u32)> {
    let status = client.get_status(v1::GetStatusRequest::default()).await?;
    let cluster = status.cluster_id.parse().context("the service names itself in a strange way")?;
    Ok((cluster, Incarnation::new(status.incarnation)?, status.approvals_min))
}

/// Reads an argument: an approval itself, or a file with a line for each.
pub(crate) fn approvals_of(argument: &str) -> anyhow::Result<Vec<Approval>> {
    if let Ok(approval) = argument.parse() {
        return Ok(vec![approval]);
    }
    let text = std::fs::read_to_string(argument).with_context(|| {
        format!("`{argument}` is no approval, and no file with one that can be read")
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let approvals = lines.map(str::parse).collect::<Result<Vec<_>, _>>();
    let approvals = approvals.with_context(|| format!("{argument} holds something else"))?;
    if approvals.is_empty() {
        bail!("{argument} holds no approval");
    }
    Ok(approvals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn approvals_come_as_text_or_in_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("approvals");
        let path = path.to_str().unwrap();
        let (ann, bob) = (format!("ann:{}", "0a".repeat(64)), format!("bob:{}", "0b".repeat(64)));
        let names = |argument: &str| {
            let approvals = approvals_of(argument).unwrap();
            approvals.iter().map(|approval| approval.operator.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&ann), ["ann"]);
        std::fs::write(path, format!("{ann}\r\n\n  {bob}\n")).unwrap();
        assert_eq!(names(path), ["ann", "bob"]);
    }

    #[test]
    fn what_is_no_approval_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("approvals");
        let path = path.to_str().unwrap();
        let refused = |argument: &str| format!("{:#}", approvals_of(argument).unwrap_err());
        assert!(refused("ann:0a").starts_with("`ann:0a` is no approval"));
        for text in ["", "\n", "ann:0a\n"] {
            std::fs::write(path, text).unwrap();
            assert!(refused(path).contains("approvals holds"), "{}", refused(path));
        }
    }
}
