//! Keys: `twinkeep.v1.KeyService`.

mod change;
mod create;
mod list;

use std::sync::Arc;

use tonic::{Request, Response, Status};
use twinkeep_core::record::{KeyRecord, KeyVersionRecord};
use twinkeep_proto::v1;
use twinkeep_proto::v1::key_service_server::KeyService;

use crate::authorize::{Entered, Gate, Handle};
use crate::change::Changes;
use crate::convert;
use crate::crypto::versions;
use crate::error::CallError;
use crate::field;
use crate::operation::{self as op, Operation};
use crate::ports::{Backends, Ports};
use crate::records::Kept;

/// `twinkeep.v1.KeyService`.
pub(crate) struct Keys {
    gate: Arc<Gate>,
    changes: Changes,
    backends: Backends,
}

impl Keys {
    pub(crate) fn new(gate: Arc<Gate>, ports: &Ports) -> Self {
        Self { gate, changes: Changes::new(ports), backends: ports.backends.clone() }
    }
}

impl Handle<op::DescribeKey> for Keys {
    async fn handle(
        &self,
        call: &Entered<op::DescribeKey>,
        request: &v1::DescribeKeyRequest,
    ) -> Result<v1::DescribeKeyResponse, CallError> {
        let authorized = call.on_key(field::key("key_id", &request.key_id)?)?;
        let key = authorized.resource();
        let versions = versions(call, key.id)?;
        Ok(v1::DescribeKeyResponse {
            key: Some(shown(call, key)?),
            versions: versions.iter().map(convert::key_version).collect(),
            state_index: 0,
        })
    }
}

/// Returns a key that this node has applied, as callers see it.
fn shown<O: Operation>(call: &Entered<O>, key: &KeyRecord) -> Result<v1::Key, CallError> {
    Ok(convert::key(key, &*primary(call, key)?))
}

fn primary<O: Operation>(
    call: &Entered<O>,
    key: &KeyRecord,
) -> Result<Kept<KeyVersionRecord>, CallError> {
    let record = call.records().version(key.id, key.primary)?;
    record.ok_or_else(|| CallError::Missing(format!("{} version {}", key.id, key.primary)))
}

#[tonic::async_trait]
impl KeyService for Keys {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        self.gate.unary::<op::CreateKey, _>(self, request).await
    }

    async fn describe_key(
        &self,
        request: Request<v1::DescribeKeyRequest>,
    ) -> Result<Response<v1::DescribeKeyResponse>, Status> {
        self.gate.unary::<op::DescribeKey, _>(self, request).await
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        self.gate.unary::<op::ListKeys, _>(self, request).await
    }

    async fn enable_key(
        &self,
        request: Request<v1::EnableKeyRequest>,
    ) -> Result<Response<v1::EnableKeyResponse>, Status> {
        self.gate.unary::<op::EnableKey, _>(self, request).await
    }

    async fn disable_key(
        &self,
        request: Request<v1::DisableKeyRequest>,
    ) -> Result<Response<v1::DisableKeyResponse>, Status> {
        self.gate.unary::<op::DisableKey, _>(self, request).await
    }

    async fn update_key_description(
        &self,
        request: Request<v1::UpdateKeyDescriptionRequest>,
    ) -> Result<Response<v1::UpdateKeyDescriptionResponse>, Status> {
        self.gate.unary::<op::UpdateKeyDescription, _>(self, request).await
    }
}
