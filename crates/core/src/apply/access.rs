//! Role bindings.

use super::{Apply, Done, following, refuse};
use crate::access::{Grant, Role, Scope};
use crate::id::Revision;
use crate::name::CallerName;
use crate::outcome::{Applied, Refusal};
use crate::record::{Binding, Record};
use crate::state::{Fault, Write};

/// Most callers that a cluster has bindings for.
const BINDINGS_MAX: usize = 65_536;

const ADMIN: Grant = Grant { role: Role::Admin, scope: Scope::Cluster };

impl<S: Write> Apply<'_, S> {
    pub(super) fn set_binding(
        &mut self,
        caller: CallerName,
        mut grants: Vec<Grant>,
        expected: Option<Revision>,
    ) -> Done {
        let old = Binding::load(self.state, &caller)?;
        let found = old.as_ref().map(|binding| binding.revision);
        if found != expected {
            return refuse(Refusal::RevisionMismatch { expected, found });
        }
        grants.sort_unstable();
        grants.dedup();
        if grants.len() > Binding::GRANTS_MAX {
            let what = "grants of one caller".to_owned();
            return refuse(Refusal::LimitReached { what, max: Binding::GRANTS_MAX as u64 });
        }
        let was_admin = old.as_ref().is_some_and(|binding| binding.grants.contains(&ADMIN));
        if was_admin && !grants.contains(&ADMIN) && !self.has_other_admin(&caller)? {
            return refuse(Refusal::LastAdmin);
        }
        if old.is_none() && Binding::all(self.state)?.len() >= BINDINGS_MAX {
            let what = "callers with roles".to_owned();
            return refuse(Refusal::LimitReached { what, max: BINDINGS_MAX as u64 });
        }
        let revision = found.map_or(Ok(Revision::FIRST), following)?;
        let binding = Binding { caller, grants, revision };
        binding.store(self.state);
        Ok(Ok(Applied::Binding(Box::new(binding))))
    }

    fn has_other_admin(&self, caller: &CallerName) -> Result<bool, Fault> {
        let bindings = Binding::all(self.state)?;
        Ok(bindings.iter().any(|b| b.caller != *caller && b.grants.contains(&ADMIN)))
    }
}
