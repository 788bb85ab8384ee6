//! Instances: `twinkeep.v1.InstanceService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use twinkeep_core::access::Resource;
use twinkeep_core::command::{Command, CreateInstance};
use twinkeep_core::freshness::WhenStale;
use twinkeep_core::id::InstanceId;
use twinkeep_core::name::InstanceName;
use twinkeep_core::outcome::Applied;
use twinkeep_core::record::{InstanceKind, InstanceRecord, Record as _};
use twinkeep_crypto::random;
use twinkeep_proto::v1;
use twinkeep_proto::v1::instance_service_server::InstanceService;

use crate::authorize::{Entered, Gate, Handle};
use crate::change::{Changes, strange};
use crate::convert::{self, Wire as _};
use crate::error::{CallError, Invalid};
use crate::field;
use crate::operation::{self as op, Operation};
use crate::page;
use crate::ports::Ports;

/// `twinkeep.v1.InstanceService`.
pub(crate) struct Instances {
    gate: Arc<Gate>,
    changes: Changes,
}

impl Instances {
    pub(crate) fn new(gate: Arc<Gate>, ports: &Ports) -> Self {
        Self { gate, changes: Changes::new(ports) }
    }
}

/// Returns the instance that a request names, or the only one of the cluster.
pub(crate) fn named_or_only<O: Operation>(
    call: &Entered<O>,
    text: &str,
) -> Result<InstanceId, CallError> {
    if !text.is_empty() {
        return Ok(field::parse("instance_id", text)?);
    }
    let two = InstanceRecord::list(&*call.records().control().view(), &[], &[], 2)?;
    match two.as_slice() {
        [only] => Ok(only.id),
        _ => {
            let way_out = "it can be left out only while the cluster has exactly one instance; \
                           ListInstances shows them";
            Err(Invalid::Missing { field: "instance_id", way_out }.into())
        }
    }
}

impl Handle<op::CreateInstance> for Instances {
    async fn handle(
        &self,
        call: &Entered<op::CreateInstance>,
        request: &v1::CreateInstanceRequest,
    ) -> Result<v1::CreateInstanceResponse, CallError> {
        let name = field::parse::<InstanceName>("name", &request.name)?;
        let kind = InstanceKind::required("type", request.r#type)?;
        let when_stale = field::when_stale(request.when_stale.as_ref())?;
        call.on_cluster()?;
        let bare = v1::CreateInstanceRequest {
            idempotency_token: bytes::Bytes::new(),
            min_state_index: 0,
            ..request.clone()
        };
        let token = self.changes.token::<op::CreateInstance>(&request.idempotency_token, &bare)?;
        let (applied, reached) = match self.changes.earlier(call, token.as_ref()).await? {
            Some(earlier) => earlier.applied()?,
            None => {
                let command =
                    Command::CreateInstance(Box::new(self.new_instance(name, kind, when_stale)?));
                self.changes.propose(call, token, command).await?.applied()?
            }
        };
        let Applied::Instance(instance) = applied else { return Err(strange(applied)) };
        call.draft().tell(|about| about.instance = Some(instance.id));
        let instance = Some(convert::instance(&instance));
        let durability = convert::durability(reached);
        Ok(v1::CreateInstanceResponse { instance, durability, state_index: reached.index })
    }
}

impl Handle<op::DescribeInstance> for Instances {
    async fn handle(
        &self,
        call: &Entered<op::DescribeInstance>,
        request: &v1::DescribeInstanceRequest,
    ) -> Result<v1::DescribeInstanceResponse, CallError> {
        let id = field::parse("instance_id", &request.instance_id)?;
        let authorized = call.on_instance(id)?;
        let instance = Some(convert::instance(authorized.resource()));
        Ok(v1::DescribeInstanceResponse { instance, state_index: 0 })
    }
}

impl Handle<op::ListInstances> for Instances {
    async fn handle(
        &self,
        call: &Entered<op::ListInstances>,
        request: &v1::ListInstancesRequest,
    ) -> Result<v1::ListInstancesResponse, CallError> {
        let size = field::page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            text => Some(field::parse::<InstanceId>("page_token", text)?),
        };
        // Each instance is authorised on its own: the list shows what its caller may see.
        let seen = |instance: &InstanceRecord| call.sees(Resource::Instance(instance.id));
        let view = self.changes.control().view();
        let token = |instance: &InstanceRecord| instance.id.to_string();
        let page = page::read(&*view, after.as_ref(), size, seen, token)?;
        Ok(v1::ListInstancesResponse {
            instances: page.shown.iter().map(convert::instance).collect(),
            next_page_token: page.next_token,
            state_index: 0,
        })
    }
}

impl Instances {
    fn new_instance(
        &self,
        name: InstanceName,
        kind: InstanceKind,
        when_stale: Option<WhenStale>,
    ) -> Result<CreateInstance, CallError> {
        let mut bytes = [0; 16];
        random::fill(&mut bytes)?;
        let id = InstanceId::from_bytes(bytes);
        let sealed = self.changes.vault().seal_instance_key(&*self.changes.control().view(), id)?;
        Ok(CreateInstance { id, name, kind, sealed, when_stale })
    }
}

#[tonic::async_trait]
impl InstanceService for Instances {
    async fn create_instance(
        &self,
        request: Request<v1::CreateInstanceRequest>,
    ) -> Result<Response<v1::CreateInstanceResponse>, Status> {
        self.gate.unary::<op::CreateInstance, _>(self, request).await
    }

    async fn describe_instance(
        &self,
        request: Request<v1::DescribeInstanceRequest>,
    ) -> Result<Response<v1::DescribeInstanceResponse>, Status> {
        self.gate.unary::<op::DescribeInstance, _>(self, request).await
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Result<Response<v1::ListInstancesResponse>, Status> {
        self.gate.unary::<op::ListInstances, _>(self, request).await
    }
}
