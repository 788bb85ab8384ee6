//! CreateKey: material is made and sealed here, on the node that authorised the call; what travels
//! to the leader is the signed command.

use twinkeep_core::command::{Command, CreateKey};
use twinkeep_core::freshness::WhenStale;
use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{KeySpec, KeyUsage};
use twinkeep_core::name::Description;
use twinkeep_core::outcome::{Applied, Refusal};
use twinkeep_core::record::{
    BackendKind, InstanceKind, InstanceRecord, KeyRecord, KeyVersionRecord,
};
use twinkeep_crypto::{Call, KeyTemplate, Material, random};
use twinkeep_proto::v1;

use super::{Keys, shown};
use crate::authorize::{Authorized, Entered, Handle};
use crate::change::strange;
use crate::convert::{self, Wire as _};
use crate::error::{CallError, Invalid};
use crate::field;
use crate::instances;
use crate::operation as op;
use crate::ports::Reached;
use crate::records::Kept;

/// What a caller wants of a new key, checked.
struct Wanted {
    spec: KeySpec,
    usage: KeyUsage,
    description: Description,
    when_stale: Option<WhenStale>,
}

impl Handle<op::CreateKey> for Keys {
    async fn handle(
        &self,
        call: &Entered<op::CreateKey>,
        request: &v1::CreateKeyRequest,
    ) -> Result<v1::CreateKeyResponse, CallError> {
        let wanted = wanted(request)?;
        let instance = instances::named_or_only(call, &request.instance_id)?;
        let instance = call.on_instance(instance)?;
        let token =
            self.changes.token::<op::CreateKey>(&request.idempotency_token, &bare(request))?;
        if let Some(earlier) = self.changes.earlier(call, token.as_ref()).await? {
            let (applied, reached) = earlier.applied()?;
            return Ok(answer(shown(call, &*key(applied)?)?, reached));
        }
        let (new, version) = self.new_key(&instance, wanted).await?;
        let (id, command) = (new.id, Command::CreateKey(Box::new(new)));
        let (applied, reached) = self.changes.propose(call, token, command).await?.applied()?;
        let key = key(applied)?;
        call.draft().tell(|about| about.version(key.id, key.primary));
        if key.id == id {
            let version = KeyVersionRecord { created_ms: key.created_ms, ..version };
            return Ok(answer(convert::key(&key, &version), reached));
        }
        // An earlier request with the same token made the key, through another node.
        self.changes.caught_up(call, reached).await?;
        Ok(answer(shown(call, &key)?, reached))
    }
}

impl Keys {
    /// Makes the first version of a new key and seals it. Returns the version as it will be recorded,
    /// but for its time, along with the command.
    async fn new_key(
        &self,
        instance: &Authorized<'_, op::CreateKey, Kept<InstanceRecord>>,
        Wanted { spec, usage, description, when_stale }: Wanted,
    ) -> Result<(CreateKey, KeyVersionRecord), CallError> {
        let (call, instance) = (instance.call(), instance.resource());
        let backend = match instance.kind {
            InstanceKind::Software => BackendKind::Software,
        };
        let template = KeyTemplate {
            key_id: KeyId::from_bytes(drawn()?),
            version: KeyVersionNumber::FIRST,
            version_id: KeyVersionId::from_random(drawn()?),
            spec,
            usage,
        };
        let deadline = Call::until(call.deadline()).of(call.share());
        let generated = self.backends.of(backend).generate(deadline, &template).await?;
        let Material::Sealable(material) = generated.material else {
            return Err(CallError::Missing(format!("the material of {}", template.key_id)));
        };
        let version = KeyVersionRecord {
            key: template.key_id,
            number: template.version,
            id: template.version_id,
            backend,
            public_key: generated.public_key.map(|key| key.as_der().to_vec()),
            created_ms: 0,
            created_index: 0,
        };
        let view = self.changes.control().view();
        let place = (&template.key_id, template.version);
        let sealed = self.changes.vault().seal_material(&*view, instance, place, &material)?;
        let new = CreateKey {
            id: template.key_id,
            instance: instance.id,
            spec,
            usage,
            description,
            version: template.version_id,
            backend,
            public_key: version.public_key.clone(),
            sealed,
            when_stale,
        };
        Ok((new, version))
    }
}

fn wanted(request: &v1::CreateKeyRequest) -> Result<Wanted, CallError> {
    let spec = KeySpec::required("spec", request.spec)?;
    let usage = match (KeyUsage::optional("usage", request.usage)?, spec.usages()) {
        (Some(usage), usages) if usages.contains(&usage) => usage,
        (Some(usage), _) => return Err(Refusal::UsageMismatch { spec, usage }.into()),
        (None, [only]) => *only,
        (None, _) => {
            let way_out = "a key of this spec can sign or decrypt, not both: name one";
            return Err(Invalid::Missing { field: "usage", way_out }.into());
        }
    };
    let description = field::parse_with("description", &request.description, Description::parse)?;
    let when_stale = field::when_stale(request.when_stale.as_ref())?;
    Ok(Wanted { spec, usage, description, when_stale })
}

/// Returns what makes the request this request, for the digest that its token is bound to.
fn bare(request: &v1::CreateKeyRequest) -> v1::CreateKeyRequest {
    let idempotency_token = bytes::Bytes::new();
    v1::CreateKeyRequest { idempotency_token, min_state_index: 0, ..request.clone() }
}

fn key(applied: Applied) -> Result<Box<KeyRecord>, CallError> {
    match applied {
        Applied::Key(key) => Ok(key),
        other => Err(strange(other)),
    }
}

fn answer(key: v1::Key, reached: Reached) -> v1::CreateKeyResponse {
    let durability = convert::durability(reached);
    v1::CreateKeyResponse { key: Some(key), durability, state_index: reached.index }
}

fn drawn() -> Result<[u8; 16], CallError> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)?;
    Ok(bytes)
}
