//! Who may do what: roles, their permissions, and the scope in which a caller holds a role.
//!
//! Every RPC declares exactly one [`Permission`]; the table [`Role::permits`] says which roles have
//! it. There is no role that may do everything: an administrator who wants to use keys has to grant
//! that to an identity, and the grant is in the audit log.

use std::collections::HashMap;

use crate::id::{InstanceId, KeyId};
use crate::key::closed_set;

closed_set! {
    /// One permission per RPC. The numbers are those of the `Permission` enum in the proto files.
    Permission, "permission", {
        /// `KeyService.CreateKey`.
        CreateKey = 1, "CREATE_KEY";
        /// `KeyService.DescribeKey`.
        DescribeKey = 2, "DESCRIBE_KEY";
        /// `KeyService.ListKeys`.
        ListKeys = 3, "LIST_KEYS";
        /// `KeyService.EnableKey`.
        EnableKey = 4, "ENABLE_KEY";
        /// `KeyService.DisableKey`.
        DisableKey = 5, "DISABLE_KEY";
        /// `KeyService.UpdateKeyDescription`.
        UpdateKeyDescription = 6, "UPDATE_KEY_DESCRIPTION";
        /// `CryptoService.Encrypt` and its batch form.
        Encrypt = 16, "ENCRYPT";
        /// `CryptoService.Decrypt` and its batch form.
        Decrypt = 17, "DECRYPT";
        /// `CryptoService.ReEncrypt` and its batch form.
        ReEncrypt = 18, "RE_ENCRYPT";
        /// `CryptoService.GenerateDataKey` and its batch form.
        GenerateDataKey = 19, "GENERATE_DATA_KEY";
        /// `CryptoService.GenerateDataKeyWithoutPlaintext` and its batch form.
        GenerateDataKeyWithoutPlaintext = 20, "GENERATE_DATA_KEY_WITHOUT_PLAINTEXT";
        /// `CryptoService.Sign` and its batch form.
        Sign = 21, "SIGN";
        /// `CryptoService.Verify` and its batch form.
        Verify = 22, "VERIFY";
        /// `CryptoService.GenerateMac` and its batch form.
        GenerateMac = 23, "GENERATE_MAC";
        /// `CryptoService.VerifyMac` and its batch form.
        VerifyMac = 24, "VERIFY_MAC";
        /// `CryptoService.GetPublicKey` and its batch form.
        GetPublicKey = 25, "GET_PUBLIC_KEY";
        /// `CryptoService.GenerateRandom` and its batch form.
        GenerateRandom = 26, "GENERATE_RANDOM";
        /// `CryptoService.CryptoStream`; each call on it demands its own permission as well.
        OpenCryptoStream = 27, "OPEN_CRYPTO_STREAM";
        /// `ClusterService.GetStatus`.
        GetClusterStatus = 32, "GET_CLUSTER_STATUS";
        /// `ClusterService.ListMembers`.
        ListMembers = 33, "LIST_MEMBERS";
        /// `ClusterService.WatchTopology`.
        WatchTopology = 34, "WATCH_TOPOLOGY";
        /// `ClusterService.AdmitNode`.
        AdmitNode = 35, "ADMIT_NODE";
        /// `ClusterService.PromoteNodes`.
        PromoteNodes = 36, "PROMOTE_NODES";
        /// `ClusterService.RemoveNode`.
        RemoveNode = 37, "REMOVE_NODE";
        /// `ClusterService.Unseal`.
        Unseal = 38, "UNSEAL";
        /// `ClusterService.Seal`.
        Seal = 39, "SEAL";
        /// `ClusterService.DrainZone`.
        DrainZone = 40, "DRAIN_ZONE";
        /// `ClusterService.UndrainZone`.
        UndrainZone = 41, "UNDRAIN_ZONE";
        /// `ClusterService.PreferZone`.
        PreferZone = 42, "PREFER_ZONE";
        /// `ClusterService.Diagnose`.
        Diagnose = 43, "DIAGNOSE";
        /// `InstanceService.CreateInstance`.
        CreateInstance = 48, "CREATE_INSTANCE";
        /// `InstanceService.DescribeInstance`.
        DescribeInstance = 49, "DESCRIBE_INSTANCE";
        /// `InstanceService.ListInstances`.
        ListInstances = 50, "LIST_INSTANCES";
        /// `AccessService.IssueCallerCertificate`.
        IssueCallerCertificate = 64, "ISSUE_CALLER_CERTIFICATE";
        /// `AccessService.GrantRoles`.
        GrantRoles = 65, "GRANT_ROLES";
        /// `AccessService.RevokeRoles`.
        RevokeRoles = 66, "REVOKE_ROLES";
        /// `AccessService.ListRoleBindings`.
        ListRoleBindings = 67, "LIST_ROLE_BINDINGS";
        /// `AuditService.TailAudit`.
        TailAudit = 80, "TAIL_AUDIT";
    }
}

closed_set! {
    /// A set of permissions that goes together with a job.
    Role, "role", {
        /// Manages callers, their roles, and instances.
        Admin = 1, "admin";
        /// Unseals, seals, changes the membership, and says which zone leads.
        Operator = 2, "operator";
        /// Creates and manages keys; does not use them.
        KeyAdmin = 3, "key-admin";
        /// Uses keys; does not manage them.
        KeyUser = 4, "key-user";
        /// Reads the audit log and all metadata.
        Auditor = 5, "auditor";
    }
}

impl Role {
    /// Tells whether the role includes the permission.
    #[must_use]
    pub const fn permits(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Self::Admin => matches!(
                permission,
                P::CreateInstance
                    | P::DescribeInstance
                    | P::ListInstances
                    | P::IssueCallerCertificate
                    | P::GrantRoles
                    | P::RevokeRoles
                    | P::ListRoleBindings
                    | P::DescribeKey
                    | P::ListKeys
                    | P::GetClusterStatus
                    | P::Diagnose
                    | P::ListMembers
                    | P::WatchTopology
            ),
            Self::Operator => matches!(
                permission,
                P::GetClusterStatus
                    | P::Diagnose
                    | P::ListMembers
                    | P::WatchTopology
                    | P::AdmitNode
                    | P::PromoteNodes
                    | P::RemoveNode
                    | P::Unseal
                    | P::Seal
                    | P::DrainZone
                    | P::UndrainZone
                    | P::PreferZone
            ),
            Self::KeyAdmin => matches!(
                permission,
                P::CreateKey
                    | P::DescribeKey
                    | P::ListKeys
                    | P::EnableKey
                    | P::DisableKey
                    | P::UpdateKeyDescription
                    | P::GetPublicKey
                    | P::OpenCryptoStream
                    | P::DescribeInstance
                    | P::ListInstances
                    | P::WatchTopology
            ),
            Self::KeyUser => matches!(
                permission,
                P::DescribeKey
                    | P::Encrypt
                    | P::Decrypt
                    | P::ReEncrypt
                    | P::GenerateDataKey
                    | P::GenerateDataKeyWithoutPlaintext
                    | P::Sign
                    | P::Verify
                    | P::GenerateMac
                    | P::VerifyMac
                    | P::GetPublicKey
                    | P::GenerateRandom
                    | P::OpenCryptoStream
                    | P::WatchTopology
            ),
            Self::Auditor => matches!(
                permission,
                P::TailAudit
                    | P::DescribeKey
                    | P::ListKeys
                    | P::GetClusterStatus
                    | P::Diagnose
                    | P::ListMembers
                    | P::DescribeInstance
                    | P::ListInstances
                    | P::ListRoleBindings
                    | P::WatchTopology
            ),
        }
    }
}

/// Where a caller holds a role.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
pub enum Scope {
    /// Everywhere in the cluster.
    #[n(1)]
    Cluster,
    /// In one instance and on all its keys.
    #[n(2)]
    Instance(#[n(0)] InstanceId),
    /// On one key.
    #[n(3)]
    Key(#[n(0)] KeyId),
}

/// What a request touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The cluster itself, or everything in it.
    Cluster,
    /// One instance, or everything in it.
    Instance(InstanceId),
    /// One key of an instance.
    Key(InstanceId, KeyId),
}

impl Scope {
    /// Tells whether a role held here reaches the resource.
    #[must_use]
    pub fn covers(self, resource: Resource) -> bool {
        match (self, resource) {
            (Self::Cluster, _) => true,
            (Self::Instance(held), Resource::Instance(i) | Resource::Key(i, _)) => held == i,
            (Self::Key(held), Resource::Key(_, key)) => held == key,
            (Self::Instance(_) | Self::Key(_), _) => false,
        }
    }
}

/// One role in one scope.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
pub struct Grant {
    /// The role.
    #[n(0)]
    pub role: Role,
    /// Where it holds.
    #[n(1)]
    pub scope: Scope,
}

impl Grant {
    /// Tells whether this grant lets its holder do the operation on the resource.
    #[must_use]
    pub fn allows(self, permission: Permission, resource: Resource) -> bool {
        self.role.permits(permission) && self.scope.covers(resource)
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet(u128);

impl PermissionSet {
    /// Returns the permissions of a role.
    #[must_use]
    pub fn of(role: Role) -> Self {
        let permitted = Permission::ALL.iter().filter(|permission| role.permits(**permission));
        Self(permitted.fold(0, |set, permission| set | Self::bit(*permission)))
    }

    /// Tells whether the permission is in the set.
    #[must_use]
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & Self::bit(permission) != 0
    }

    /// Returns what is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn bit(permission: Permission) -> u128 {
        1 << permission as u32
    }
}

/// What a caller's grants come to: which permissions it has where. Made once from the grants, asked with
/// each call; however many grants there are, a question takes one or two looks.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// Held in any scope at all.
    anywhere: PermissionSet,
    /// Held everywhere.
    cluster: PermissionSet,
    instances: HashMap<InstanceId, PermissionSet>,
    keys: HashMap<KeyId, PermissionSet>,
}

impl Rights {
    /// Returns what the grants come to.
    #[must_use]
    pub fn of(grants: &[Grant]) -> Self {
        let mut rights = Self::default();
        for grant in grants {
            let set = PermissionSet::of(grant.role);
            let held = match grant.scope {
                Scope::Cluster => &mut rights.cluster,
                Scope::Instance(instance) => rights.instances.entry(instance).or_default(),
                Scope::Key(key) => rights.keys.entry(key).or_default(),
            };
            *held = held.union(set);
            rights.anywhere = rights.anywhere.union(set);
        }
        rights
    }

    /// Tells whether any grant holds the permission, in whatever scope.
    #[must_use]
    pub const fn hold(&self, permission: Permission) -> bool {
        self.anywhere.contains(permission)
    }

    /// Tells whether any grant allows the operation on the resource.
    #[must_use]
    pub fn allow(&self, permission: Permission, resource: Resource) -> bool {
        let in_instance = |id| self.instances.get(id).is_some_and(|set| set.contains(permission));
        let on_key = |id| self.keys.get(id).is_some_and(|set| set.contains(permission));
        self.cluster.contains(permission)
            || match &resource {
                Resource::Cluster => false,
                Resource::Instance(instance) => in_instance(instance),
                Resource::Key(instance, key) => in_instance(instance) || on_key(key),
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant() -> impl Strategy<Value = Grant> {
        let scope = prop_oneof![
            Just(Scope::Cluster),
            (0..3_u8).prop_map(|n| Scope::Instance(InstanceId::from_bytes([n; 16]))),
            (0..3_u8).prop_map(|n| Scope::Key(KeyId::from_bytes([n; 16]))),
        ];
        (proptest::sample::select(Role::ALL), scope).prop_map(|(role, scope)| Grant { role, scope })
    }

    fn resource() -> impl Strategy<Value = Resource> {
        let instance = (0..3_u8).prop_map(|n| InstanceId::from_bytes([n; 16]));
        let key = (0..3_u8).prop_map(|n| KeyId::from_bytes([n; 16]));
        prop_oneof![
            Just(Resource::Cluster),
            instance.clone().prop_map(Resource::Instance),
            (instance, key).prop_map(|(instance, key)| Resource::Key(instance, key)),
        ]
    }

    proptest! {
        #[test]
        fn rights_say_what_the_grants_say(
            grants in proptest::collection::vec(grant(), 0..6),
            permission in proptest::sample::select(Permission::ALL),
            resource in resource(),
        ) {
            let rights = Rights::of(&grants);
            let allowed = grants.iter().any(|grant| grant.allows(permission, resource));
            prop_assert_eq!(rights.allow(permission, resource), allowed);
            let held = grants.iter().any(|grant| grant.role.permits(permission));
            prop_assert_eq!(rights.hold(permission), held);
        }
    }

    #[test]
    fn every_permission_has_a_bit_of_its_own() {
        assert!(Permission::ALL.iter().all(|permission| (*permission as u32) < u128::BITS));
    }

    #[test]
    fn every_permission_belongs_to_some_role_and_no_role_has_all() {
        for permission in Permission::ALL {
            assert!(Role::ALL.iter().any(|role| role.permits(*permission)), "{permission}");
        }
        for role in Role::ALL {
            assert!(Permission::ALL.iter().any(|p| !role.permits(*p)), "{role}");
        }
    }

    #[test]
    fn managing_keys_and_using_them_are_different_jobs() {
        for permission in [Permission::Decrypt, Permission::Sign, Permission::GenerateDataKey] {
            assert!(!Role::KeyAdmin.permits(permission) && !Role::Admin.permits(permission));
        }
        assert!(!Role::KeyUser.permits(Permission::CreateKey));
    }

    #[test]
    fn scope_reaches_down_and_never_up_or_aside() {
        let (i, j) = (InstanceId::from_bytes([1; 16]), InstanceId::from_bytes([2; 16]));
        let (k, l) = (KeyId::from_bytes([3; 16]), KeyId::from_bytes([4; 16]));
        assert!(Scope::Cluster.covers(Resource::Key(i, k)));
        assert!(Scope::Instance(i).covers(Resource::Key(i, k)));
        assert!(!Scope::Instance(i).covers(Resource::Key(j, k)));
        assert!(!Scope::Instance(i).covers(Resource::Cluster));
        assert!(Scope::Key(k).covers(Resource::Key(i, k)));
        assert!(!Scope::Key(k).covers(Resource::Key(i, l)));
        assert!(!Scope::Key(k).covers(Resource::Instance(i)));
    }
}
