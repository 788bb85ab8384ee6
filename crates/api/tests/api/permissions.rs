//! Every call of the API by every role and by nobody, driven by the table that the proto files make:
//! a new call is covered when it is declared.

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use twinkeep_audit::call::{Decision, PrincipalKind};
use twinkeep_core::access::Permission;
use twinkeep_proto::v1::method::{self, Method};

use crate::node::{As, ROLES, TestNode};

/// Makes a call with an empty request and returns how it ended.
async fn call(channel: As, method: &Method) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let (path, codec) = (PathAndQuery::from_static(method.path), ProstCodec::<(), ()>::default());
    if method.server_streaming {
        let answers = grpc.server_streaming(Request::new(()), path, codec).await?;
        answers.into_inner().message().await?;
        Ok(())
    } else {
        grpc.unary(Request::new(()), path, codec).await.map(|_| ())
    }
}

fn permission(method: &Method) -> Permission {
    let named = Permission::ALL.iter().find(|p| **p as i32 == method.permission as i32);
    *named.unwrap()
}

fn denied(method: &Method) -> String {
    format!(
        "permission {} is missing on what the call names, or that does not exist; an admin can grant a \
         role that has it",
        permission(method)
    )
}

#[tokio::test]
async fn every_call_is_open_to_the_roles_that_permit_it_and_to_nobody_else() {
    let node = TestNode::start().await;
    for method in method::ALL {
        for role in ROLES {
            let result = call(node.channel_as(role.as_str()), method).await;
            let code = result.as_ref().err().map_or(Code::Ok, Status::code);
            if role.permits(permission(method)) {
                // The empty request may be refused for what it lacks, never for who sent it.
                let refused = [Code::PermissionDenied, Code::Unauthenticated, Code::Internal];
                assert!(!refused.contains(&code), "{role} {}: {result:?}", method.name);
            } else {
                assert_eq!(code, Code::PermissionDenied, "{role} {}", method.name);
                assert_eq!(result.unwrap_err().message(), denied(method));
            }
            node.vault.unseal();
        }
        let stranger = call(node.channel_as("stranger"), method).await.unwrap_err();
        assert_eq!(stranger.code(), Code::PermissionDenied, "{}", method.name);
        assert_eq!(stranger.message(), denied(method));
        let nobody = call(node.channel_as(""), method).await.unwrap_err();
        assert_eq!(nobody.code(), Code::Unauthenticated, "{}", method.name);
        assert!(nobody.message().contains("client certificate"), "{}", nobody.message());
    }
}

#[tokio::test]
async fn every_call_leaves_one_record_with_who_asked_and_what_was_decided() {
    let node = TestNode::start().await;
    for method in method::ALL {
        let before = node.recorded().len();
        let answered = call(node.channel_as("admin"), method).await;
        let refused = call(node.channel_as("stranger"), method).await;
        let nobody = call(node.channel_as(""), method).await;
        let records = node.recorded().split_off(before);
        assert_eq!(records.len(), 3, "{}", method.name);
        for (record, result) in records.iter().zip([&answered, &refused, &nobody]) {
            assert_eq!(record.operation.as_str(), method.name);
            let code = result.as_ref().err().map_or(Code::Ok, Status::code);
            assert_eq!(Code::from_i32(outcome(record.outcome.as_str())), code, "{}", method.name);
            let denies = matches!(code, Code::PermissionDenied | Code::Unauthenticated);
            assert_eq!(record.decision == Decision::Deny, denies, "{}", method.name);
        }
        assert_eq!(records[0].principal.name.as_str(), "admin");
        assert_eq!(records[1].principal.name.as_str(), "stranger");
        assert_eq!(records[2].principal.kind, PrincipalKind::Nobody);
        assert!(records[0].source.is_some() && records[0].principal.credential.is_some());
        assert_ne!(records[0].request, records[1].request);
        node.vault.unseal();
    }
}

fn outcome(name: &str) -> i32 {
    match name {
        "OK" => 0,
        "INVALID_ARGUMENT" => 3,
        "PERMISSION_DENIED" => 7,
        "UNAUTHENTICATED" => 16,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn certificate_that_is_no_callers_of_this_cluster_or_has_ended_is_nobodys() {
    let node = TestNode::start().await;
    let own = "clu-10101010101010101010101010101010";
    let other = "clu-20202020202020202020202020202020";
    for (identity, text) in [
        (format!("spiffe://{own}/node/1/1"), "a node's"),
        (format!("spiffe://{other}/caller/admin"), "another cluster"),
    ] {
        let status = call(node.channel_as(&identity), &method::GET_STATUS).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(text), "{}", status.message());
    }
    assert!(call(node.channel_as("admin"), &method::GET_STATUS).await.is_ok());
    node.clock.advance(std::time::Duration::from_secs(3601));
    let status = call(node.channel_as("admin"), &method::GET_STATUS).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("not valid now"), "{}", status.message());
}
