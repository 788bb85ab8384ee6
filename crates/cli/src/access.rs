//! `twinkeep access …`: callers, their certificates and roles.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::Serialize;
use twinkeep_client::{Client, v1};
use twinkeep_pki::{PrivateKey, pem};

use crate::context::Context;
use crate::effect::Effect;
use crate::init::{private_folder, write_private};
use crate::names::Named;
use crate::output::{Show, columns, show, time};

/// Issues certificates to callers and binds roles to them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Access {
    /// Certifies a caller. The certificate alone allows nothing: give roles with `grant`.
    IssueCertificate(Issue),
    /// Gives a role to a caller.
    Grant(Change),
    /// Takes a role from a caller.
    Revoke(Change),
    /// Lists who holds which roles.
    List,
}

/// Whom to certify.
#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    /// The caller's name: 1 to 64 of a-z, 0-9, `-`, `.` and `_`.
    caller: String,
    /// Folder for NAME.pem, endpoint-root.pem and, without `--csr`, NAME.key. Is made with mode 0700.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The caller's own certificate signing request (PKCS#10, PEM); without it a key is made here.
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// How long the certificate holds; at most 397.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    days: u64,
}

/// Which role, for whom and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// The caller's name.
    caller: String,
    /// ADMIN, OPERATOR, KEY_ADMIN, KEY_USER or AUDITOR; may be given several times.
    #[arg(long = "role", value_parser = v1::Role::parse, required = true)]
    roles: Vec<v1::Role>,
    /// Limits the roles to an instance.
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "key")]
    instance: String,
    /// Limits the roles to a key.
    #[arg(long, default_value = "", hide_default_value = true)]
    key: String,
}

impl Access {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client()?;
        let mut effect = None;
        let bindings: Vec<_> = match self {
            Self::IssueCertificate(issue) => {
                return show(context.format(), &issue.run(&client).await?);
            }
            Self::Grant(change) => {
                let (caller, grants) = change.grants();
                let request = v1::GrantRolesRequest { caller, grants, ..Default::default() };
                client.grant_roles(request).await?.binding.into_iter().collect()
            }
            Self::Revoke(change) => {
                let (caller, grants) = change.grants();
                let request = v1::RevokeRolesRequest { caller, grants, ..Default::default() };
                let answer = client.revoke_roles(request).await?;
                effect = Some(Effect::of(answer.effective_everywhere, answer.pending_in));
                answer.binding.into_iter().collect()
            }
            Self::List => all(&client).await?,
        };
        let bindings = bindings.iter().map(Binding::of).collect();
        show(context.format(), &Bindings { bindings, effect })
    }
}

impl Change {
    fn grants(self) -> (String, Vec<v1::Grant>) {
        let grant = |role: v1::Role| v1::Grant {
            role: role.into(),
            instance_id: self.instance.clone(),
            key_id: self.key.clone(),
        };
        let grants = self.roles.iter().copied().map(grant).collect();
        (self.caller, grants)
    }
}

impl Issue {
    async fn run(self, client: &Client) -> anyhow::Result<Issued> {
        private_folder(&self.out)?;
        let file = |ending: &str| self.out.join(format!("{}.{ending}", self.caller));
        let (certificate, root) = (file("pem"), self.out.join("endpoint-root.pem"));
        if certificate.exists() {
            bail!("{} exists; name another folder", certificate.display());
        }
        let (csr_pem, private_key) = match &self.csr {
            Some(path) => {
                let read = std::fs::read_to_string(path);
                (read.with_context(|| format!("cannot read {}", path.display()))?, None)
            }
            None => {
                let key = PrivateKey::generate().context("cannot make a key")?;
                let csr = pem::certificate_request(&key.certificate_request()?);
                // The key is on disk before its certificate exists.
                write_private(&file("key"), pem::danger_private_key(&key).as_bytes())?;
                (csr, Some(file("key")))
            }
        };
        let request = v1::IssueCallerCertificateRequest {
            caller: self.caller.clone(),
            csr_pem,
            lifetime_s: self.days.saturating_mul(24 * 3600),
            ..Default::default()
        };
        let answer = client.issue_caller_certificate(request).await;
        if let (Err(_), Some(key)) = (&answer, &private_key) {
            // A key without a certificate is of no use, and would stand in the way of the next try.
            std::fs::remove_file(key).ok();
        }
        let answer = answer?;
        write_private(&certificate, answer.certificate_chain_pem.as_bytes())?;
        if !root.exists() {
            write_private(&root, answer.endpoint_trust_pem.as_bytes())?;
        }
        let not_after = time(answer.not_after_unix_ms);
        Ok(Issued { caller: self.caller, certificate, private_key, root, not_after })
    }
}

#[derive(Debug, Serialize)]
struct Issued {
    caller: String,
    certificate: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<PathBuf>,
    root: PathBuf,
    not_after: String,
}

impl Show for Issued {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "certificate  {}", self.certificate.display())?;
        if let Some(key) = &self.private_key {
            writeln!(out, "private key  {}", key.display())?;
        }
        writeln!(out, "root         {}", self.root.display())?;
        writeln!(out, "valid until  {}", self.not_after)?;
        writeln!(out, "\nIt allows nothing yet; for the use of keys:\n")?;
        writeln!(out, "  twinkeep access grant {} --role KEY_USER", self.caller)
    }
}

async fn all(client: &Client) -> anyhow::Result<Vec<v1::RoleBinding>> {
    let mut request = v1::ListRoleBindingsRequest::default();
    let mut bindings = Vec::new();
    loop {
        let page = client.list_role_bindings(request.clone()).await?;
        bindings.extend(page.bindings);
        if page.next_page_token.is_empty() {
            return Ok(bindings);
        }
        request.page_token = page.next_page_token;
    }
}

#[derive(Debug, Serialize)]
struct Bindings {
    bindings: Vec<Binding>,
    /// Where what was taken away may still be used.
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    effect: Option<Effect>,
}

#[derive(Debug, Serialize)]
struct Binding {
    caller: String,
    revision: u64,
    grants: Vec<Grant>,
}

#[derive(Debug, Serialize)]
struct Grant {
    role: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    instance_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    key_id: String,
}

impl Binding {
    fn of(binding: &v1::RoleBinding) -> Self {
        let grant = |grant: &v1::Grant| Grant {
            role: v1::Role::name(grant.role),
            instance_id: grant.instance_id.clone(),
            key_id: grant.key_id.clone(),
        };
        Self {
            caller: binding.caller.clone(),
            revision: binding.revision,
            grants: binding.grants.iter().map(grant).collect(),
        }
    }

    fn rows(&self) -> Vec<[String; 3]> {
        if self.grants.is_empty() {
            return vec![[self.caller.clone(), "none".to_owned(), String::new()]];
        }
        let row =
            |grant: &Grant| [self.caller.clone(), grant.role.to_owned(), grant.scope().to_owned()];
        self.grants.iter().map(row).collect()
    }
}

impl Grant {
    fn scope(&self) -> &str {
        [&self.key_id, &self.instance_id]
            .into_iter()
            .find(|id| !id.is_empty())
            .map_or("the whole cluster", String::as_str)
    }
}

impl Show for Bindings {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<_> = self.bindings.iter().flat_map(Binding::rows).collect();
        columns(out, ["CALLER", "ROLE", "WHERE"], &rows)?;
        self.effect.as_ref().map_or(Ok(()), |effect| effect.table(out))
    }
}
