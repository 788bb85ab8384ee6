//! Keys.

use super::{Apply, Done, check_when_stale, following, is_fresh, now_ms, refuse};
use crate::command::CreateKey;
use crate::id::{KeyId, KeyVersionNumber, Revision};
use crate::key::{KeyEvent, KeyState};
use crate::name::{CallerName, Description};
use crate::outcome::{Applied, Refusal};
use crate::record::{
    ClusterRecord, InstanceRecord, KeyRecord, KeyVersionRecord, Record, RecordKind,
};
use crate::state::{Fault, Write};

impl<S: Write> Apply<'_, S> {
    pub(super) fn create_key(
        &mut self,
        new: CreateKey,
        actor: Option<CallerName>,
        cluster: &ClusterRecord,
    ) -> Done {
        let Some(created_by) = actor else { return refuse(Refusal::NoActor) };
        if let Err(refusal) = check_when_stale(new.when_stale, cluster) {
            return refuse(refusal);
        }
        if InstanceRecord::load(self.state, &new.instance)?.is_none() {
            return refuse(Refusal::NoInstance(new.instance));
        }
        if KeyRecord::load(self.state, &new.id)?.is_some() {
            return refuse(Refusal::KeyExists(new.id));
        }
        if !new.spec.usages().contains(&new.usage) {
            return refuse(Refusal::UsageMismatch { spec: new.spec, usage: new.usage });
        }
        let material = KeyVersionRecord::material_key(&new.id, KeyVersionNumber::FIRST);
        if !is_fresh(&new.sealed, RecordKind::KeyMaterial, &new.instance, &material) {
            return refuse(Refusal::SealedElsewhere);
        }
        let now = now_ms(self.state)?;
        let version = KeyVersionRecord {
            key: new.id,
            number: KeyVersionNumber::FIRST,
            id: new.version,
            backend: new.backend,
            public_key: new.public_key,
            created_ms: now,
            created_index: self.index,
        };
        let key = KeyRecord {
            id: new.id,
            instance: new.instance,
            spec: new.spec,
            usage: new.usage,
            state: KeyState::Enabled,
            primary: KeyVersionNumber::FIRST,
            description: new.description,
            created_by,
            created_ms: now,
            updated_ms: now,
            revision: Revision::FIRST,
            when_stale: new.when_stale,
        };
        new.sealed.store(self.state);
        version.store(self.state);
        key.store(self.state);
        Ok(Ok(Applied::Key(Box::new(key))))
    }

    pub(super) fn move_key(&mut self, id: &KeyId, event: KeyEvent, expected: Revision) -> Done {
        self.change_key(id, expected, |key| {
            key.state = key.state.on(event).map_err(Refusal::IllegalTransition)?;
            Ok(())
        })
    }

    pub(super) fn describe_key(
        &mut self,
        id: &KeyId,
        description: Description,
        expected: Revision,
    ) -> Done {
        self.change_key(id, expected, |key| {
            key.description = description;
            Ok(())
        })
    }

    /// Changes a key's record if it stands at the expected revision and the change is legal.
    fn change_key(
        &mut self,
        id: &KeyId,
        expected: Revision,
        change: impl FnOnce(&mut KeyRecord) -> Result<(), Refusal>,
    ) -> Done {
        let Some(mut key) = KeyRecord::load(self.state, id)? else {
            return refuse(Refusal::NoKey(*id));
        };
        if key.revision != expected {
            let found = Some(key.revision);
            return refuse(Refusal::RevisionMismatch { expected: Some(expected), found });
        }
        if let Err(refusal) = change(&mut key) {
            return refuse(refusal);
        }
        self.touch(&mut key)?;
        key.store(self.state);
        Ok(Ok(Applied::Key(Box::new(key))))
    }

    fn touch(&self, key: &mut KeyRecord) -> Result<(), Fault> {
        key.revision = following(key.revision)?;
        key.updated_ms = now_ms(self.state)?;
        Ok(())
    }
}
