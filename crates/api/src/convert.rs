//! Enums and records between the wire and the core. Numbers are the same on both sides; each enum is
//! written out all the same, so that a value which one side lacks does not compile.

use twinkeep_core::access as core_access;
use twinkeep_core::freshness::WhenStale;
use twinkeep_core::key as core_key;
use twinkeep_core::record::{
    Binding, InstanceKind, InstanceRecord, InstanceStatus, KeyRecord, KeyVersionRecord,
};
use twinkeep_core::replication::{Durability, Mode};
use twinkeep_core::topology;
use twinkeep_proto::v1;

use crate::error::Invalid;
use crate::ports::{Reached, ReplicationStatus};

/// An enum that has a twin on the wire.
pub(crate) trait Wire: Copy + Sized {
    /// Returns the number on the wire.
    fn to_wire(self) -> i32;

    /// Reads the number of a field; `None` for the forgotten zero.
    fn optional(field: &'static str, number: i32) -> Result<Option<Self>, Invalid>;

    /// Reads the number of a field that has to be given.
    fn required(field: &'static str, number: i32) -> Result<Self, Invalid> {
        let missing = Invalid::Missing { field, way_out: "name one of its values" };
        Self::optional(field, number)?.ok_or(missing)
    }
}

macro_rules! twins {
    ($core:ty, $wire:ty, { $($ours:ident = $theirs:ident,)+ }) => {
        impl Wire for $core {
            fn to_wire(self) -> i32 {
                (match self { $(Self::$ours => <$wire>::$theirs,)+ }) as i32
            }

            fn optional(field: &'static str, number: i32) -> Result<Option<Self>, Invalid> {
                let unknown = |_| Invalid::UnknownValue { field, number };
                Ok(match <$wire>::try_from(number).map_err(unknown)? {
                    <$wire>::Unspecified => None,
                    $(<$wire>::$theirs => Some(Self::$ours),)+
                })
            }
        }
    };
}

twins!(core_key::KeySpec, v1::KeySpec, {
    Aes256 = Aes256,
    Hmac256 = Hmac256,
    Hmac384 = Hmac384,
    Hmac512 = Hmac512,
    Rsa2048 = Rsa2048,
    Rsa3072 = Rsa3072,
    Rsa4096 = Rsa4096,
    EcP256 = EcP256,
    EcP384 = EcP384,
    EcP521 = EcP521,
    EcP256k1 = EcP256k1,
    Ed25519 = Ed25519,
});

twins!(core_key::KeyUsage, v1::KeyUsage, {
    EncryptDecrypt = EncryptDecrypt,
    SignVerify = SignVerify,
    GenerateVerifyMac = GenerateVerifyMac,
});

twins!(core_key::KeyState, v1::KeyState, {
    Enabled = Enabled,
    Disabled = Disabled,
    PendingDeletion = PendingDeletion,
    Destroyed = Destroyed,
});

twins!(core_key::Algorithm, v1::Algorithm, {
    SymmetricDefault = SymmetricDefault,
    RsaOaepSha256 = RsaesOaepSha256,
    RsaOaepSha384 = RsaesOaepSha384,
    RsaOaepSha512 = RsaesOaepSha512,
    RsaPssSha256 = RsassaPssSha256,
    RsaPssSha384 = RsassaPssSha384,
    RsaPssSha512 = RsassaPssSha512,
    RsaPkcs1Sha256 = RsassaPkcs1V15Sha256,
    RsaPkcs1Sha384 = RsassaPkcs1V15Sha384,
    RsaPkcs1Sha512 = RsassaPkcs1V15Sha512,
    EcdsaSha256 = EcdsaSha256,
    EcdsaSha384 = EcdsaSha384,
    EcdsaSha512 = EcdsaSha512,
    Ed25519 = Ed25519Sha512,
    HmacSha256 = HmacSha256,
    HmacSha384 = HmacSha384,
    HmacSha512 = HmacSha512,
});

twins!(core_access::Role, v1::Role, {
    Admin = Admin,
    Operator = Operator,
    KeyAdmin = KeyAdmin,
    KeyUser = KeyUser,
    Auditor = Auditor,
});

twins!(InstanceKind, v1::InstanceType, { Software = Software, });
twins!(InstanceStatus, v1::InstanceStatus, { Connected = Connected, });
twins!(topology::NodeRole, v1::NodeRole, { Data = Data, Witness = Witness, });
twins!(Durability, v1::Durability, {
    EveryZone = EveryZone,
    SingleCopyOutside = SingleCopyOutside,
    SingleZone = SingleZone,
});
twins!(topology::Standing, v1::Standing, {
    Learner = Learner,
    Voter = Voter,
    Removed = Removed,
});

/// Returns the core's permission for one that a method declares.
///
/// # Panics
/// At compile time, where it is called: a method without a permission does not get past the build.
pub(crate) const fn permission(declared: v1::Permission) -> core_access::Permission {
    use core_access::Permission as P;
    use v1::Permission as D;
    match declared {
        D::Unspecified => panic!("a method declares no permission"),
        D::CreateKey => P::CreateKey,
        D::DescribeKey => P::DescribeKey,
        D::ListKeys => P::ListKeys,
        D::EnableKey => P::EnableKey,
        D::DisableKey => P::DisableKey,
        D::UpdateKeyDescription => P::UpdateKeyDescription,
        D::Encrypt => P::Encrypt,
        D::Decrypt => P::Decrypt,
        D::ReEncrypt => P::ReEncrypt,
        D::GenerateDataKey => P::GenerateDataKey,
        D::GenerateDataKeyWithoutPlaintext => P::GenerateDataKeyWithoutPlaintext,
        D::Sign => P::Sign,
        D::Verify => P::Verify,
        D::GenerateMac => P::GenerateMac,
        D::VerifyMac => P::VerifyMac,
        D::GetPublicKey => P::GetPublicKey,
        D::GenerateRandom => P::GenerateRandom,
        D::OpenCryptoStream => P::OpenCryptoStream,
        D::GetClusterStatus => P::GetClusterStatus,
        D::ListMembers => P::ListMembers,
        D::WatchTopology => P::WatchTopology,
        D::AdmitNode => P::AdmitNode,
        D::PromoteNodes => P::PromoteNodes,
        D::RemoveNode => P::RemoveNode,
        D::Unseal => P::Unseal,
        D::Seal => P::Seal,
        D::DrainZone => P::DrainZone,
        D::UndrainZone => P::UndrainZone,
        D::PreferZone => P::PreferZone,
        D::Diagnose => P::Diagnose,
        D::CreateInstance => P::CreateInstance,
        D::DescribeInstance => P::DescribeInstance,
        D::ListInstances => P::ListInstances,
        D::IssueCallerCertificate => P::IssueCallerCertificate,
        D::GrantRoles => P::GrantRoles,
        D::RevokeRoles => P::RevokeRoles,
        D::ListRoleBindings => P::ListRoleBindings,
        D::TailAudit => P::TailAudit,
    }
}

/// Returns a key version as callers see it.
pub(crate) fn key_version(version: &KeyVersionRecord) -> v1::KeyVersion {
    v1::KeyVersion {
        version_id: version.id.to_string(),
        number: version.number.get(),
        created_unix_ms: version.created_ms,
    }
}

/// Returns a key as callers see it.
pub(crate) fn key(key: &KeyRecord, primary: &KeyVersionRecord) -> v1::Key {
    v1::Key {
        key_id: key.id.to_string(),
        instance_id: key.instance.to_string(),
        spec: key.spec.to_wire(),
        usage: key.usage.to_wire(),
        state: key.state.to_wire(),
        description: key.description.as_str().to_owned(),
        created_unix_ms: key.created_ms,
        revision: key.revision.get(),
        primary_version: Some(key_version(primary)),
        algorithms: algorithms(key),
        when_stale: key.when_stale.map(when_stale),
    }
}

/// Returns the algorithms of a key, the default first.
pub(crate) fn algorithms(key: &KeyRecord) -> Vec<i32> {
    key.spec.algorithms(key.usage).iter().map(|algorithm| algorithm.to_wire()).collect()
}

/// Returns an instance as callers see it.
pub(crate) fn instance(instance: &InstanceRecord) -> v1::Instance {
    v1::Instance {
        instance_id: instance.id.to_string(),
        name: instance.name.to_string(),
        r#type: instance.kind.to_wire(),
        created_unix_ms: instance.created_ms,
        revision: instance.revision.get(),
        status: instance.status.to_wire(),
        when_stale: instance.when_stale.map(when_stale),
    }
}

/// Returns a grant as callers see it.
pub(crate) fn grant(grant: &core_access::Grant) -> v1::Grant {
    let mut out = v1::Grant { role: grant.role.to_wire(), ..Default::default() };
    match grant.scope {
        core_access::Scope::Cluster => {}
        core_access::Scope::Instance(instance) => out.instance_id = instance.to_string(),
        core_access::Scope::Key(key) => out.key_id = key.to_string(),
    }
    out
}

/// Returns a role binding as callers see it.
pub(crate) fn binding(binding: &Binding) -> v1::RoleBinding {
    v1::RoleBinding {
        caller: binding.caller.to_string(),
        grants: binding.grants.iter().map(grant).collect(),
        revision: binding.revision.get(),
    }
}

/// Returns where a change is on disk, as it stands on the wire.
pub(crate) fn durability(reached: Reached) -> i32 {
    reached.durability.map_or(v1::Durability::Unspecified as i32, Durability::to_wire)
}

pub(crate) fn replication(status: &ReplicationStatus, usable_up_to: u64) -> v1::Replication {
    let mode = match status.mode {
        Mode::Sync => v1::ReplicationMode::Sync,
        Mode::Degraded { .. } => v1::ReplicationMode::Degraded,
        Mode::Recovering { .. } => v1::ReplicationMode::Recovering,
    };
    v1::Replication {
        mode: mode.into(),
        zone: status.mode.missing().map(ToString::to_string).unwrap_or_default(),
        since_unix_ms: status.since_ms,
        revision: status.revision,
        usable_up_to,
        zone_complete_until_unix_ms: status.zone_complete_until_ms.unwrap_or(0),
    }
}

fn when_stale(choice: WhenStale) -> v1::WhenStale {
    use v1::when_stale::Choice;
    let choice = match choice {
        WhenStale::FailClosed => Choice::FailClosed(v1::FailClosed {}),
        WhenStale::Grace { seconds } => Choice::GraceS(seconds),
    };
    v1::WhenStale { choice: Some(choice) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same<T: Wire + PartialEq + std::fmt::Debug>(all: &[T], stored: impl Fn(T) -> i32) {
        for &value in all {
            assert_eq!(value.to_wire(), stored(value), "{value:?}");
            assert_eq!(T::required("f", stored(value)), Ok(value));
        }
        assert_eq!(T::optional("f", 0), Ok(None));
        assert!(matches!(T::required("f", 0), Err(Invalid::Missing { field: "f", .. })));
        let unknown = Invalid::UnknownValue { field: "f", number: 9999 };
        assert_eq!(T::optional("f", 9999), Err(unknown));
    }

    #[test]
    fn numbers_on_the_wire_are_the_stored_ones() {
        same(core_key::KeySpec::ALL, |v| v as i32);
        same(core_key::KeyUsage::ALL, |v| v as i32);
        same(core_key::KeyState::ALL, |v| v as i32);
        same(core_key::Algorithm::ALL, |v| v as i32);
        same(core_access::Role::ALL, |v| v as i32);
        same(InstanceKind::ALL, |v| v as i32);
        same(InstanceStatus::ALL, |v| v as i32);
        same(topology::NodeRole::ALL, |v| v as i32);
        same(topology::Standing::ALL, |v| v as i32);
    }

    #[test]
    fn every_permission_of_the_core_is_declared_by_some_method_under_its_name() {
        for permission in core_access::Permission::ALL {
            let declared = v1::Permission::try_from(*permission as i32).unwrap();
            assert_eq!(declared.as_str_name(), format!("PERMISSION_{}", permission.as_str()));
            assert_eq!(super::permission(declared), *permission);
            let used = v1::method::ALL.iter().any(|method| method.permission == declared);
            assert!(used, "no method demands {permission}");
        }
    }
}
