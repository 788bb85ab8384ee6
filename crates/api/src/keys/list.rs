//! ListKeys.

use twinkeep_core::id::KeyId;
use twinkeep_core::key::{KeySpec, KeyState, KeyUsage};
use twinkeep_core::record::KeyRecord;
use twinkeep_proto::v1;

use super::{Keys, shown};
use crate::authorize::{Entered, Handle};
use crate::convert::Wire as _;
use crate::error::{CallError, Invalid};
use crate::operation as op;
use crate::{field, instances, page};

/// Which keys a list shows; `None` takes all.
struct Filter {
    spec: Option<KeySpec>,
    usage: Option<KeyUsage>,
    state: Option<KeyState>,
}

impl Filter {
    fn of(request: &v1::ListKeysRequest) -> Result<Self, Invalid> {
        Ok(Self {
            spec: KeySpec::optional("spec", request.spec)?,
            usage: KeyUsage::optional("usage", request.usage)?,
            state: KeyState::optional("state", request.state)?,
        })
    }

    fn takes(&self, key: &KeyRecord) -> bool {
        self.spec.is_none_or(|spec| spec == key.spec)
            && self.usage.is_none_or(|usage| usage == key.usage)
            && self.state.is_none_or(|state| state == key.state)
    }
}

impl Handle<op::ListKeys> for Keys {
    async fn handle(
        &self,
        call: &Entered<op::ListKeys>,
        request: &v1::ListKeysRequest,
    ) -> Result<v1::ListKeysResponse, CallError> {
        let filter = Filter::of(request)?;
        let size = field::page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            text => Some(field::parse::<KeyId>("page_token", text)?),
        };
        let instance = instances::named_or_only(call, &request.instance_id)?;
        let instance = call.on_instance(instance)?.resource().id;
        let wanted = |key: &KeyRecord| key.instance == instance && filter.takes(key);
        let view = self.changes.control().view();
        let token = |key: &KeyRecord| key.id.to_string();
        let page = page::read(&*view, after.as_ref(), size, wanted, token)?;
        Ok(v1::ListKeysResponse {
            keys: page.shown.iter().map(|key| shown(call, key)).collect::<Result<_, _>>()?,
            next_page_token: page.next_token,
            state_index: 0,
        })
    }
}
