//! The operations: one marker type for each call, tied to its method, messages and audit class.
//!
//! The permission is the one that the proto files declare; nothing here can choose another.

use twinkeep_core::access::Permission;
use twinkeep_proto::v1;
use twinkeep_proto::v1::method::{self, Method};

use crate::convert;
use crate::message::{AnswerMessage, RequestMessage};

/// When an answer may leave, measured by its audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditClass {
    /// When the record is in the log's queue.
    Queued,
    /// When the record is synced.
    Synced,
    /// When the record has been tried: what repairs a node must work while its audit log does not.
    Attempted,
}

/// What the gate asks of everybody who comes with a call.
pub(crate) trait Guarded: Send + Sync + 'static {
    /// The method in the proto files.
    const METHOD: Method;
    /// What a caller must be allowed to do.
    const PERMISSION: Permission = convert::permission(Self::METHOD.permission);
    /// When an answer may leave.
    const AUDIT: AuditClass;
}

/// One call of a service.
pub(crate) trait Operation: Guarded {
    /// What comes in.
    type Request: RequestMessage;
    /// What goes out; of a stream, one message.
    type Answer: AnswerMessage;
}

/// An operation that has a batch form.
pub(crate) trait Batched: Operation {
    /// The method of the batch form. It declares the same permission.
    const BATCH: Method;
    /// The batch that comes in.
    type Batch: Send + 'static;
    /// The batch of results that goes out.
    type Results: Send + 'static;

    /// Takes a batch apart: its items and the state that it asks for.
    fn items(batch: Self::Batch) -> (Vec<Self::Request>, u64);

    /// Puts results together, in the order of the items.
    fn results(
        results: Vec<Result<Self::Answer, v1::ItemError>>,
        state_index: u64,
    ) -> Self::Results;
}

macro_rules! operations {
    ($($name:ident, $method:ident, $request:ident => $answer:ident, $audit:ident;)+) => {$(
        #[doc = concat!("`", stringify!($name), "`.")]
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl Guarded for $name {
            const METHOD: Method = method::$method;
            const AUDIT: AuditClass = AuditClass::$audit;
        }

        impl Operation for $name {
            type Request = v1::$request;
            type Answer = v1::$answer;
        }
    )+};
}

macro_rules! batched {
    ($($name:ident, $method:ident, $batch:ident => $results:ident, $result:ident, $module:ident;)+) => {$(
        impl Batched for $name {
            const BATCH: Method = method::$method;
            type Batch = v1::$batch;
            type Results = v1::$results;

            fn items(batch: v1::$batch) -> (Vec<Self::Request>, u64) {
                (batch.items, batch.min_state_index)
            }

            fn results(
                results: Vec<Result<Self::Answer, v1::ItemError>>,
                state_index: u64,
            ) -> v1::$results {
                use v1::$module::Result as Outcome;
                let one = |result| v1::$result {
                    result: Some(match result {
                        Ok(answer) => Outcome::Ok(answer),
                        Err(error) => Outcome::Error(error),
                    }),
                };
                v1::$results { results: results.into_iter().map(one).collect(), state_index }
            }
        }
    )+};
}

operations! {
    CreateKey, CREATE_KEY, CreateKeyRequest => CreateKeyResponse, Synced;
    DescribeKey, DESCRIBE_KEY, DescribeKeyRequest => DescribeKeyResponse, Queued;
    ListKeys, LIST_KEYS, ListKeysRequest => ListKeysResponse, Queued;
    EnableKey, ENABLE_KEY, EnableKeyRequest => EnableKeyResponse, Synced;
    DisableKey, DISABLE_KEY, DisableKeyRequest => DisableKeyResponse, Synced;
    UpdateKeyDescription, UPDATE_KEY_DESCRIPTION,
        UpdateKeyDescriptionRequest => UpdateKeyDescriptionResponse, Synced;

    Encrypt, ENCRYPT, EncryptRequest => EncryptResponse, Queued;
    Decrypt, DECRYPT, DecryptRequest => DecryptResponse, Queued;
    ReEncrypt, RE_ENCRYPT, ReEncryptRequest => ReEncryptResponse, Queued;
    GenerateDataKey, GENERATE_DATA_KEY, GenerateDataKeyRequest => GenerateDataKeyResponse, Queued;
    GenerateDataKeyWithoutPlaintext, GENERATE_DATA_KEY_WITHOUT_PLAINTEXT,
        GenerateDataKeyWithoutPlaintextRequest => GenerateDataKeyWithoutPlaintextResponse, Queued;
    Sign, SIGN, SignRequest => SignResponse, Synced;
    Verify, VERIFY, VerifyRequest => VerifyResponse, Queued;
    GenerateMac, GENERATE_MAC, GenerateMacRequest => GenerateMacResponse, Queued;
    VerifyMac, VERIFY_MAC, VerifyMacRequest => VerifyMacResponse, Queued;
    GetPublicKey, GET_PUBLIC_KEY, GetPublicKeyRequest => GetPublicKeyResponse, Queued;
    GenerateRandom, GENERATE_RANDOM, GenerateRandomRequest => GenerateRandomResponse, Queued;

    CreateInstance, CREATE_INSTANCE, CreateInstanceRequest => CreateInstanceResponse, Synced;
    DescribeInstance, DESCRIBE_INSTANCE,
        DescribeInstanceRequest => DescribeInstanceResponse, Queued;
    ListInstances, LIST_INSTANCES, ListInstancesRequest => ListInstancesResponse, Queued;

    IssueCallerCertificate, ISSUE_CALLER_CERTIFICATE,
        IssueCallerCertificateRequest => IssueCallerCertificateResponse, Synced;
    GrantRoles, GRANT_ROLES, GrantRolesRequest => GrantRolesResponse, Synced;
    RevokeRoles, REVOKE_ROLES, RevokeRolesRequest => RevokeRolesResponse, Synced;
    ListRoleBindings, LIST_ROLE_BINDINGS,
        ListRoleBindingsRequest => ListRoleBindingsResponse, Queued;

    GetStatus, GET_STATUS, GetStatusRequest => GetStatusResponse, Attempted;
    Diagnose, DIAGNOSE, DiagnoseRequest => DiagnoseResponse, Attempted;
    ListMembers, LIST_MEMBERS, ListMembersRequest => ListMembersResponse, Attempted;
    WatchTopology, WATCH_TOPOLOGY, WatchTopologyRequest => WatchTopologyResponse, Attempted;
    AdmitNode, ADMIT_NODE, AdmitNodeRequest => AdmitNodeResponse, Synced;
    PromoteNodes, PROMOTE_NODES, PromoteNodesRequest => PromoteNodesResponse, Synced;
    RemoveNode, REMOVE_NODE, RemoveNodeRequest => RemoveNodeResponse, Synced;
    Unseal, UNSEAL, UnsealRequest => UnsealResponse, Attempted;
    Seal, SEAL, SealRequest => SealResponse, Attempted;
    DrainZone, DRAIN_ZONE, DrainZoneRequest => DrainZoneResponse, Synced;
    UndrainZone, UNDRAIN_ZONE, UndrainZoneRequest => UndrainZoneResponse, Synced;
    PreferZone, PREFER_ZONE, PreferZoneRequest => PreferZoneResponse, Synced;

    TailAudit, TAIL_AUDIT, TailAuditRequest => TailAuditResponse, Queued;
}

/// `CryptoStream`: the opening. Each call on the stream is an operation of its own.
#[derive(Debug)]
pub(crate) enum CryptoStream {}

impl Guarded for CryptoStream {
    const METHOD: Method = method::CRYPTO_STREAM;
    const AUDIT: AuditClass = AuditClass::Queued;
}

batched! {
    Encrypt, ENCRYPT_BATCH,
        EncryptBatchRequest => EncryptBatchResponse, EncryptResult, encrypt_result;
    Decrypt, DECRYPT_BATCH,
        DecryptBatchRequest => DecryptBatchResponse, DecryptResult, decrypt_result;
    ReEncrypt, RE_ENCRYPT_BATCH,
        ReEncryptBatchRequest => ReEncryptBatchResponse, ReEncryptResult, re_encrypt_result;
    GenerateDataKey, GENERATE_DATA_KEY_BATCH,
        GenerateDataKeyBatchRequest => GenerateDataKeyBatchResponse, GenerateDataKeyResult,
        generate_data_key_result;
    GenerateDataKeyWithoutPlaintext, GENERATE_DATA_KEY_WITHOUT_PLAINTEXT_BATCH,
        GenerateDataKeyWithoutPlaintextBatchRequest => GenerateDataKeyWithoutPlaintextBatchResponse,
        GenerateDataKeyWithoutPlaintextResult, generate_data_key_without_plaintext_result;
    Sign, SIGN_BATCH, SignBatchRequest => SignBatchResponse, SignResult, sign_result;
    Verify, VERIFY_BATCH, VerifyBatchRequest => VerifyBatchResponse, VerifyResult, verify_result;
    GenerateMac, GENERATE_MAC_BATCH,
        GenerateMacBatchRequest => GenerateMacBatchResponse, GenerateMacResult, generate_mac_result;
    VerifyMac, VERIFY_MAC_BATCH,
        VerifyMacBatchRequest => VerifyMacBatchResponse, VerifyMacResult, verify_mac_result;
    GetPublicKey, GET_PUBLIC_KEY_BATCH,
        GetPublicKeyBatchRequest => GetPublicKeyBatchResponse, GetPublicKeyResult,
        get_public_key_result;
    GenerateRandom, GENERATE_RANDOM_BATCH,
        GenerateRandomBatchRequest => GenerateRandomBatchResponse, GenerateRandomResult,
        generate_random_result;
}
