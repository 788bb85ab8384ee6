//! Unseal, Seal: of the answering node.

use twinkeep_proto::v1;
use zeroize::Zeroizing;

use super::Cluster;
use crate::authorize::{Entered, Handle};
use crate::error::{CallError, Invalid};
use crate::limits::{UNSEAL_SECRET_BYTES_MAX, check};
use crate::operation as op;
use crate::ports::{UnsealProgress, UnsealSecret};

impl Handle<op::Unseal> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::Unseal>,
        request: &v1::UnsealRequest,
    ) -> Result<v1::UnsealResponse, CallError> {
        let secret = secret(request)?;
        call.on_cluster()?;
        let mut progress = request.forget_shares.then(|| self.cluster.forget_shares());
        if let Some(secret) = secret {
            progress = Some(self.cluster.unseal(secret).await?);
        }
        let way_out = "give one, or forget_shares";
        let missing = Invalid::Missing { field: "share or passphrase", way_out };
        let UnsealProgress { sealed, shares_given, shares_needed } = progress.ok_or(missing)?;
        Ok(v1::UnsealResponse { sealed, shares_given, shares_needed, state_index: 0 })
    }
}

impl Handle<op::Seal> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::Seal>,
        _: &v1::SealRequest,
    ) -> Result<v1::SealResponse, CallError> {
        call.on_cluster()?;
        self.cluster.seal().await?;
        // In this order: a call that opens a key meanwhile sees that the vault is sealed and takes it out
        // itself.
        self.handles.forget_all();
        Ok(v1::SealResponse { state_index: 0 })
    }
}

fn secret(request: &v1::UnsealRequest) -> Result<Option<UnsealSecret>, CallError> {
    let copy = |text: &String| Zeroizing::new(text.clone());
    check_len("share", &request.share)?;
    check_len("passphrase", &request.passphrase)?;
    match (request.share.is_empty(), request.passphrase.is_empty()) {
        (true, true) => Ok(None),
        (false, true) => Ok(Some(UnsealSecret::Share(copy(&request.share)))),
        (true, false) => Ok(Some(UnsealSecret::Passphrase(copy(&request.passphrase)))),
        (false, false) => {
            let way_out = "give one of them";
            Err(Invalid::Both { one: "share", other: "passphrase", way_out }.into())
        }
    }
}

fn check_len(field: &'static str, text: &str) -> Result<(), CallError> {
    Ok(check(field, text.len(), UNSEAL_SECRET_BYTES_MAX, "give it as it was printed")?)
}
