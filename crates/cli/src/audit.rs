//! `twinkeep audit …`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use twinkeep_client::v1;

use crate::context::Context;
use crate::offline;
use crate::output::{Format, line, plain, time};
use crate::yaml;

/// Reads and checks audit logs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Audit {
    /// Prints the audit records of one node, oldest first. Each node has a log of its own.
    Tail(Tail),
    /// Checks the hash chain of a log in a folder, without any service.
    Verify {
        /// The folder: `audit` in a node's data folder, or a copy of it.
        folder: PathBuf,
    },
}

/// Which records.
#[derive(Debug, clap::Args)]
pub(crate) struct Tail {
    /// The node, `address:port`; the first configured one without it.
    #[arg(long, value_name = "ADDRESS:PORT")]
    node: Option<String>,
    /// Begins after the record of this number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// Ends after so many records.
    #[arg(long, value_name = "RECORDS", default_value_t = 0, hide_default_value = true)]
    count: u64,
    /// Goes on with new records as they are written.
    #[arg(long, short)]
    follow: bool,
}

impl Audit {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Tail(tail) => tail.run(context).await.map(|()| ExitCode::SUCCESS),
            Self::Verify { folder } => {
                let arguments = ["audit-verify".into(), folder.into_os_string()];
                offline::twinkeepd(context.format(), "report", arguments)
            }
        }
    }
}

impl Tail {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let (client, configured) = context.connect()?;
        let address = self.node.or_else(|| configured.into_iter().next());
        let address = address.context("no node is configured")?;
        let node = client.at(&address).with_context(|| format!("`{address}` is no address"))?;
        let request = v1::TailAuditRequest {
            after_sequence: self.after,
            record_count_max: self.count,
            follow: self.follow,
            ..Default::default()
        };
        let mut answers = node.any_state().tail_audit(request).await?;
        while let Some(answer) = answers.next().await? {
            let record = answer.record.context("the answer holds no record")?;
            match context.format() {
                Format::Json => line(&record.json)?,
                Format::Yaml => line(format!("---\n{}", yaml(&record)?).trim_end())?,
                Format::Table => line(&row(&record))?,
            }
        }
        Ok(())
    }
}

/// What the log says of itself, such as that it was closed or may have lost records; `None` for a call.
fn mark(record: &v1::AuditRecord) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(&record.json).ok()?;
    json.get("mark")?.as_str().map(str::to_owned)
}

fn yaml(record: &v1::AuditRecord) -> anyhow::Result<String> {
    let json = serde_json::from_str(&record.json).context("the record is not JSON")?;
    Ok(yaml::document(&json))
}

fn row(record: &v1::AuditRecord) -> String {
    if let Some(mark) = mark(record) {
        let when = time(record.time_unix_ns / 1_000_000);
        return plain(&format!("{:>8}  {when}  -- {mark} --", record.sequence));
    }
    let caller = if record.caller.is_empty() { "(unknown)" } else { &record.caller };
    let operation = record.operation.rsplit('/').next().unwrap_or_default();
    let code = tonic::Code::from_i32(record.code);
    let text = format!(
        "{:>8}  {}  {caller:12}  {operation:16}  {:18}  {}",
        record.sequence,
        time(record.time_unix_ns / 1_000_000),
        format!("{code:?}"),
        record.resources.join(" ")
    );
    plain(text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_one_line_whatever_it_holds() {
        let record = v1::AuditRecord {
            sequence: 7,
            time_unix_ns: 1_800_000_000_123_456_789,
            caller: String::new(),
            operation: "/twinkeep.v1.CryptoService/Encrypt".to_owned(),
            code: 7,
            resources: vec!["key-00\n\u{1b}[2J".to_owned()],
            ..Default::default()
        };
        let row = row(&record);
        assert!(row.contains("2027-01-15T08:00:00.123Z  (unknown)"), "{row}");
        assert!(row.contains("Encrypt") && row.contains("PermissionDenied"), "{row}");
        assert!(!row.contains(['\n', '\u{1b}']), "{row:?}");
    }

    #[test]
    fn mark_is_not_shown_as_a_call() {
        let json = r#"{"sequence":74,"mark":"loss-possible","window_ms":50}"#.to_owned();
        let shown = row(&v1::AuditRecord { sequence: 74, json, ..Default::default() });
        assert!(shown.ends_with("-- loss-possible --") && !shown.contains("unknown"), "{shown}");
    }
}
