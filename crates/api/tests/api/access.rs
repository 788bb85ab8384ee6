//! Callers and their roles.

use tonic::Code;
use twinkeep_core::access::Role;
use twinkeep_proto::v1;

use crate::node::{MAIN, OTHER, TestNode, on_instance};

const CSR: &str = "-----BEGIN CERTIFICATE REQUEST-----\n";

fn grant(role: v1::Role) -> v1::Grant {
    v1::Grant { role: role.into(), ..Default::default() }
}

fn give(caller: &str, grants: Vec<v1::Grant>) -> v1::GrantRolesRequest {
    v1::GrantRolesRequest { caller: caller.to_owned(), grants, ..Default::default() }
}

#[tokio::test]
async fn granted_role_works_at_once_and_revoked_one_no_more() {
    let node = TestNode::start().await;
    let mut access = node.access("admin");
    let draw = v1::GenerateRandomRequest { length_bytes: 8, ..Default::default() };
    let denied = node.crypto("app").generate_random(draw).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let grants = vec![grant(v1::Role::KeyUser)];
    let given = access.grant_roles(give("app", grants.clone())).await.unwrap().into_inner();
    assert_eq!(given.binding.unwrap().grants, grants);
    node.crypto("app").generate_random(draw).await.unwrap();
    let request = v1::RevokeRolesRequest { caller: "app".to_owned(), grants, ..Default::default() };
    let taken = access.revoke_roles(request).await.unwrap().into_inner();
    assert!(taken.binding.unwrap().grants.is_empty());
    let denied = node.crypto("app").generate_random(draw).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn admin_of_one_instance_gives_roles_there_and_nowhere_else() {
    let node = TestNode::start().await;
    node.bind("narrow", &[on_instance(Role::Admin, MAIN)]);
    node.bind("app", &[on_instance(Role::KeyUser, OTHER)]);
    let mut access = node.access("narrow");
    let within = v1::Grant { instance_id: MAIN.to_string(), ..grant(v1::Role::KeyUser) };
    let given = access.grant_roles(give("app", vec![within.clone()])).await.unwrap().into_inner();
    // What the caller holds elsewhere is kept, and not shown.
    assert_eq!(given.binding.unwrap().grants, std::slice::from_ref(&within));
    let request = v1::ListRoleBindingsRequest::default();
    let all = node.access("auditor").list_role_bindings(request).await.unwrap();
    let all = all.into_inner().bindings;
    assert_eq!(all.iter().find(|binding| binding.caller == "app").unwrap().grants.len(), 2);

    let beside = v1::Grant { instance_id: OTHER.to_string(), ..grant(v1::Role::KeyUser) };
    for beyond in [vec![grant(v1::Role::KeyUser)], vec![beside.clone()], vec![within, beside]] {
        let status = access.grant_roles(give("app", beyond)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
    let request = v1::IssueCallerCertificateRequest {
        caller: "admin".to_owned(),
        csr_pem: CSR.to_owned(),
        ..Default::default()
    };
    let status = access.issue_caller_certificate(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "naming callers is becoming any of them");
}

#[tokio::test]
async fn last_admin_is_not_taken_away() {
    let node = TestNode::start().await;
    let request = v1::RevokeRolesRequest {
        caller: "admin".to_owned(),
        grants: vec![grant(v1::Role::Admin)],
        ..Default::default()
    };
    let status = node.access("admin").revoke_roles(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("grant it to another one first"), "{}", status.message());
}

#[tokio::test]
async fn grant_race_loses_no_grant() {
    let node = TestNode::start().await;
    node.control.before_next(|control| control.bind("app", &[on_instance(Role::KeyUser, MAIN)]));
    let given = node.access("admin").grant_roles(give("app", vec![grant(v1::Role::Auditor)])).await;
    assert_eq!(given.unwrap().into_inner().binding.unwrap().grants.len(), 2);
}

#[tokio::test]
async fn wrong_grants_are_answered_with_what_is_wrong() {
    let node = TestNode::start().await;
    let both = v1::Grant {
        instance_id: MAIN.to_string(),
        key_id: "key-00000000000000000000000000000000".to_owned(),
        ..grant(v1::Role::KeyUser)
    };
    for (caller, grants, text) in [
        ("app", vec![], "grants is missing; give at least one"),
        ("app", vec![v1::Grant::default()], "role is missing; name one of its values"),
        ("app", vec![both], "instance_id and key_id do not go together; "),
        ("App!", vec![grant(v1::Role::Admin)], "caller: a caller's name has 1 to 64 characters"),
    ] {
        let status = node.access("admin").grant_roles(give(caller, grants)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(text), "{}", status.message());
    }
}

#[tokio::test]
async fn certificate_is_issued_for_the_name_and_time_asked_for() {
    let node = TestNode::start().await;
    let request = |csr_pem: &str, lifetime_s| v1::IssueCallerCertificateRequest {
        caller: "app".to_owned(),
        csr_pem: csr_pem.to_owned(),
        lifetime_s,
        ..Default::default()
    };
    let mut access = node.access("admin");
    let issued = access.issue_caller_certificate(request(CSR, 3600)).await.unwrap().into_inner();
    assert_eq!(issued.certificate_chain_pem, "certificate of app");
    assert_eq!(issued.not_after_unix_ms, crate::node::START_MS + 3_600_000);
    let long = access.issue_caller_certificate(request(CSR, 398 * 86_400)).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
    assert!(long.message().contains("397 days"), "{}", long.message());
    let rubbish = access.issue_caller_certificate(request("rubbish", 0)).await.unwrap_err();
    assert_eq!(rubbish.code(), Code::InvalidArgument);
    assert!(rubbish.message().starts_with("csr_pem: "), "{}", rubbish.message());
}
