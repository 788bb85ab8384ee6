//! Callers: `twinkeep.v1.AccessService`.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};
use twinkeep_core::access::{Grant, Resource, Role, Scope};
use twinkeep_core::command::Command;
use twinkeep_core::freshness::WhenStale;
use twinkeep_core::name::CallerName;
use twinkeep_core::outcome::{Applied, Refusal};
use twinkeep_core::record::{Binding, Record as _};
use twinkeep_proto::v1;
use twinkeep_proto::v1::access_service_server::AccessService;

use crate::authorize::{Entered, Gate, Handle};
use crate::change::{Changes, Done, Effect, strange};
use crate::convert::{self, Wire as _};
use crate::error::{CallError, Invalid};
use crate::field;
use crate::limits::{
    CERTIFICATE_LIFE_DEFAULT, CERTIFICATE_LIFE_MAX, CHANGE_ATTEMPTS_MAX, CSR_BYTES_MAX, check,
};
use crate::operation::{self as op, Operation};
use crate::page;
use crate::ports::{CallerIssuer, Ports, Reached};

/// `twinkeep.v1.AccessService`.
pub(crate) struct Access {
    gate: Arc<Gate>,
    changes: Changes,
    issuer: Arc<dyn CallerIssuer>,
}

impl Access {
    pub(crate) fn new(gate: Arc<Gate>, ports: &Ports) -> Self {
        Self { gate, changes: Changes::new(ports), issuer: Arc::clone(&ports.issuer) }
    }
}

impl Handle<op::IssueCallerCertificate> for Access {
    async fn handle(
        &self,
        call: &Entered<op::IssueCallerCertificate>,
        request: &v1::IssueCallerCertificateRequest,
    ) -> Result<v1::IssueCallerCertificateResponse, CallError> {
        let caller = field::parse("caller", &request.caller)?;
        check("csr_pem", request.csr_pem.len(), CSR_BYTES_MAX, "send one request with one key")?;
        let lifetime = lifetime(request.lifetime_s)?;
        // On the whole cluster: whoever names callers can become any of them.
        call.on_cluster()?;
        let view = self.changes.control().view();
        let issued = self.issuer.issue(&*view, &caller, &request.csr_pem, lifetime)?;
        Ok(v1::IssueCallerCertificateResponse {
            certificate_chain_pem: issued.certificate_chain_pem,
            endpoint_trust_pem: issued.endpoint_trust_pem,
            not_after_unix_ms: issued.not_after_unix_ms,
            state_index: 0,
        })
    }
}

fn lifetime(seconds: u64) -> Result<Duration, Invalid> {
    match Duration::from_secs(seconds) {
        Duration::ZERO => Ok(CERTIFICATE_LIFE_DEFAULT),
        lifetime if lifetime <= CERTIFICATE_LIFE_MAX => Ok(lifetime),
        _ => {
            let range = "a certificate holds for 397 days (34300800 s) at most; renew it in time";
            Err(Invalid::OutOfRange { field: "lifetime_s", number: seconds, range })
        }
    }
}

impl Handle<op::GrantRoles> for Access {
    async fn handle(
        &self,
        call: &Entered<op::GrantRoles>,
        request: &v1::GrantRolesRequest,
    ) -> Result<v1::GrantRolesResponse, CallError> {
        let grants = grants(&request.grants)?;
        let add = |held: Vec<Grant>| held.into_iter().chain(grants.iter().copied()).collect();
        let change = Change {
            caller: field::parse("caller", &request.caller)?,
            expected_revision: request.expected_revision,
            grants: &grants,
        };
        let (binding, reached) = self.set(call, &change, add).await?;
        let (binding, durability) = (Some(binding), convert::durability(reached));
        Ok(v1::GrantRolesResponse { binding, durability, state_index: reached.index })
    }
}

impl Handle<op::RevokeRoles> for Access {
    async fn handle(
        &self,
        call: &Entered<op::RevokeRoles>,
        request: &v1::RevokeRolesRequest,
    ) -> Result<v1::RevokeRolesResponse, CallError> {
        let grants = grants(&request.grants)?;
        let take = |held: Vec<Grant>| held.into_iter().filter(|g| !grants.contains(g)).collect();
        let change = Change {
            caller: field::parse("caller", &request.caller)?,
            expected_revision: request.expected_revision,
            grants: &grants,
        };
        let (binding, reached) = self.set(call, &change, take).await?;
        // Keys differ in how long they are used on a stale node; none is for longer than this.
        let grace = Duration::from_secs(WhenStale::GRACE_SECONDS_MAX.into());
        let Effect { effective_everywhere, pending_in } =
            self.changes.everywhere(call, reached, grace).await?;
        Ok(v1::RevokeRolesResponse {
            binding: Some(binding),
            effective_everywhere,
            pending_in,
            durability: convert::durability(reached),
            state_index: reached.index,
        })
    }
}

/// A change of what a caller holds.
struct Change<'a> {
    caller: CallerName,
    /// 0 for any.
    expected_revision: u64,
    /// What is given or taken.
    grants: &'a [Grant],
}

impl Access {
    /// Sets what a caller holds, by what it holds now.
    async fn set<O: Operation>(
        &self,
        call: &Entered<O>,
        change: &Change<'_>,
        becomes: impl Fn(Vec<Grant>) -> Vec<Grant> + Send + Sync,
    ) -> Result<(v1::RoleBinding, Reached), CallError> {
        for grant in change.grants {
            self.reach(call, grant.scope)?;
        }
        let explicit = field::revision(change.expected_revision);
        let mut attempt = 1;
        loop {
            let held = Binding::load(&*self.changes.control().view(), &change.caller)?;
            let expected = explicit.or(held.as_ref().map(|held| held.revision));
            let grants = becomes(held.map(|held| held.grants).unwrap_or_default());
            let caller = change.caller.clone();
            let command = Command::SetBinding { caller, grants, expected };
            match self.changes.propose(call, None, command).await? {
                Done::Refused(Refusal::RevisionMismatch { .. }, reached)
                    if explicit.is_none() && attempt < CHANGE_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                    call.draft().retried();
                    self.changes.caught_up(call, reached).await?;
                }
                done => {
                    let (applied, reached) = done.applied()?;
                    let Applied::Binding(binding) = applied else { return Err(strange(applied)) };
                    return Ok((self.shown(call, *binding), reached));
                }
            }
        }
    }

    /// Authorises a change of grants in a scope: an admin of one instance gives and takes roles there, not
    /// elsewhere.
    fn reach<O: Operation>(&self, call: &Entered<O>, scope: Scope) -> Result<(), CallError> {
        match scope {
            Scope::Cluster => call.on_cluster().map(|_| ()),
            Scope::Instance(instance) => call.on_instance(instance).map(|_| ()),
            Scope::Key(key) => call.on_key(key).map(|_| ()),
        }
    }

    /// Returns those grants of a caller that lie in the reach of the one who asks.
    fn shown<O: Operation>(&self, call: &Entered<O>, mut binding: Binding) -> v1::RoleBinding {
        if !call.sees(Resource::Cluster) {
            binding.grants.retain(|grant| self.reach(call, grant.scope).is_ok());
        }
        convert::binding(&binding)
    }
}

fn grants(wire: &[v1::Grant]) -> Result<Vec<Grant>, CallError> {
    if wire.is_empty() {
        return Err(Invalid::Missing { field: "grants", way_out: "give at least one" }.into());
    }
    check("grants", wire.len(), Binding::GRANTS_MAX, "a caller cannot hold more")?;
    Ok(wire.iter().map(grant).collect::<Result<_, _>>()?)
}

fn grant(wire: &v1::Grant) -> Result<Grant, Invalid> {
    let role = Role::required("role", wire.role)?;
    let scope = match (wire.instance_id.as_str(), wire.key_id.as_str()) {
        ("", "") => Scope::Cluster,
        (instance, "") => Scope::Instance(field::parse("instance_id", instance)?),
        ("", key) => Scope::Key(field::key("key_id", key)?),
        _ => {
            let way_out = "a key implies its instance: leave instance_id empty";
            return Err(Invalid::Both { one: "instance_id", other: "key_id", way_out });
        }
    };
    Ok(Grant { role, scope })
}

impl Handle<op::ListRoleBindings> for Access {
    async fn handle(
        &self,
        call: &Entered<op::ListRoleBindings>,
        request: &v1::ListRoleBindingsRequest,
    ) -> Result<v1::ListRoleBindingsResponse, CallError> {
        let size = field::page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            text => Some(field::parse::<CallerName>("page_token", text)?),
        };
        call.on_cluster()?;
        let view = self.changes.control().view();
        let token = |binding: &Binding| binding.caller.to_string();
        let page = page::read(&*view, after.as_ref(), size, |_| true, token)?;
        Ok(v1::ListRoleBindingsResponse {
            bindings: page.shown.iter().map(convert::binding).collect(),
            next_page_token: page.next_token,
            state_index: 0,
        })
    }
}

#[tonic::async_trait]
impl AccessService for Access {
    async fn issue_caller_certificate(
        &self,
        request: Request<v1::IssueCallerCertificateRequest>,
    ) -> Result<Response<v1::IssueCallerCertificateResponse>, Status> {
        self.gate.unary::<op::IssueCallerCertificate, _>(self, request).await
    }

    async fn grant_roles(
        &self,
        request: Request<v1::GrantRolesRequest>,
    ) -> Result<Response<v1::GrantRolesResponse>, Status> {
        self.gate.unary::<op::GrantRoles, _>(self, request).await
    }

    async fn revoke_roles(
        &self,
        request: Request<v1::RevokeRolesRequest>,
    ) -> Result<Response<v1::RevokeRolesResponse>, Status> {
        self.gate.unary::<op::RevokeRoles, _>(self, request).await
    }

    async fn list_role_bindings(
        &self,
        request: Request<v1::ListRoleBindingsRequest>,
    ) -> Result<Response<v1::ListRoleBindingsResponse>, Status> {
        self.gate.unary::<op::ListRoleBindings, _>(self, request).await
    }
}
