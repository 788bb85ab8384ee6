//! What all requests and answers have in common.

use ring::rand::{SecureRandom, SystemRandom};
use twinkeep_proto::v1;

/// A field that was damaged on its way, on this side's or the other's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch(pub(crate) &'static str);

/// An answer of any call.
pub(crate) trait Answer: Send + 'static {
    /// The state that the answer rests on.
    fn state_index(&self) -> u64;
}

/// A request of any call.
pub(crate) trait Ask: Clone + Send + Sync + 'static {
    type Answer: Answer;

    /// The state that the answering node must have seen.
    fn min_state_index(&mut self) -> &mut u64;

    /// Fills in what the client adds: checksums, a token.
    fn prepare(&mut self) {}

    /// Checks the sums of the answer, and that the service checked those of the request.
    fn check(&self, _: &Self::Answer) -> Result<(), Mismatch> {
        Ok(())
    }
}

/// Draws 16 random bytes, unless the caller has chosen a token.
pub(crate) fn draw_token(token: &mut bytes::Bytes) {
    let mut drawn = [0; 16];
    // Without randomness the request goes out without a token; the service then takes it for a new one
    // each time, and the client must not repeat it (see `Safety::Once`).
    if token.is_empty() && SystemRandom::new().fill(&mut drawn).is_ok() {
        *token = bytes::Bytes::copy_from_slice(&drawn);
    }
}

macro_rules! common {
    ($($ask:ident => $answer:ident $({ $($extra:tt)* })?;)*) => {$(
        impl Answer for v1::$answer {
            fn state_index(&self) -> u64 {
                self.state_index
            }
        }

        impl Ask for v1::$ask {
            type Answer = v1::$answer;

            fn min_state_index(&mut self) -> &mut u64 {
                &mut self.min_state_index
            }

            $($($extra)*)?
        }
    )*};
}
pub(crate) use common;

common! {
    CreateKeyRequest => CreateKeyResponse {
        fn prepare(&mut self) {
            draw_token(&mut self.idempotency_token);
        }
    };
    DescribeKeyRequest => DescribeKeyResponse;
    ListKeysRequest => ListKeysResponse;
    EnableKeyRequest => EnableKeyResponse;
    DisableKeyRequest => DisableKeyResponse;
    UpdateKeyDescriptionRequest => UpdateKeyDescriptionResponse;

    GetStatusRequest => GetStatusResponse;
    DiagnoseRequest => DiagnoseResponse;
    ListMembersRequest => ListMembersResponse;
    WatchTopologyRequest => WatchTopologyResponse;
    AdmitNodeRequest => AdmitNodeResponse;
    PromoteNodesRequest => PromoteNodesResponse;
    RemoveNodeRequest => RemoveNodeResponse;
    DrainZoneRequest => DrainZoneResponse;
    UndrainZoneRequest => UndrainZoneResponse;
    PreferZoneRequest => PreferZoneResponse;
    UnsealRequest => UnsealResponse;
    SealRequest => SealResponse;

    CreateInstanceRequest => CreateInstanceResponse {
        fn prepare(&mut self) {
            draw_token(&mut self.idempotency_token);
        }
    };
    DescribeInstanceRequest => DescribeInstanceResponse;
    ListInstancesRequest => ListInstancesResponse;

    IssueCallerCertificateRequest => IssueCallerCertificateResponse;
    GrantRolesRequest => GrantRolesResponse;
    RevokeRolesRequest => RevokeRolesResponse;
    ListRoleBindingsRequest => ListRoleBindingsResponse;

    TailAuditRequest => TailAuditResponse;
}
