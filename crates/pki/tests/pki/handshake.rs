//! Who meets whom, over real TLS on loopback.

use std::slice::from_ref;
use std::sync::Arc;

use crate::common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use twinkeep_core::id::Incarnation;
use twinkeep_pki::authority::Hosts;
use twinkeep_pki::{Authority, Identity, Limits, PrivateKey, Validity, tls};

#[tokio::test]
async fn peers_learn_each_others_identity_and_share_a_secret() {
    let authorities = authorities();
    let (one, two) = (authorities.node_credential(1), authorities.node_credential(2));
    let server = authorities.peer(Arc::clone(&one)).server().unwrap();
    let client = authorities.peer(Arc::clone(&two)).client(Some(node(1))).unwrap();
    let met = meet(server, client).await.unwrap();

    assert_eq!(met.server.peer(), Some(&two.facts()));
    assert_eq!(met.client.peer(), Some(&one.facts()));
    assert_eq!(met.server.exporter(), met.client.exporter());
    assert_ne!(met.server.exporter(), &[0; 32]);
    assert!(met.server.remote().ip().is_loopback());
}

#[tokio::test]
async fn connections_agree_on_the_hybrid_group_and_leave_no_ticket() {
    let authorities = authorities();
    let client = authorities.peer(authorities.node_credential(2)).client(Some(node(1))).unwrap();
    let (address, mut accepted) = listen(authorities.peer_port(), Limits::default()).await;
    let greeting = tokio::spawn(async move {
        let mut connection = accepted.next().await.unwrap().unwrap();
        greet(&mut connection).await;
        connection
    });
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut stream = TlsConnector::from(client).connect(name, tcp).await.unwrap();
    stream.read_u8().await.unwrap();
    let _greeted = greeting.await.unwrap();
    let tls = stream.get_ref().1;
    let group = tls.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(tls.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(tls.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(tls.tls13_tickets_received(), 0);
}

#[tokio::test]
async fn tls_1_2_is_refused_by_its_version() {
    let (address, _accepted) = listen(authorities().endpoint(), Limits::default()).await;
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(&client_hello_1_2()).await.unwrap();
    let mut answer = [0; 7];
    tcp.read_exact(&mut answer).await.unwrap();
    // A fatal alert, `protocol_version` (70).
    assert_eq!((answer[0], answer[5], answer[6]), (21, 2, 70));
}

/// The hello of a client that knows TLS 1.2 alone (RFC 5246, 7.4.1.2): ECDHE-ECDSA with AES-128-GCM, P-256.
fn client_hello_1_2() -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
        0, 23, 0, 0, // extended_master_secret
    ];
    let mut body = vec![3, 3];
    body.extend([5; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, extensions.len() as u8]);
    body.extend(extensions);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    hello
}

#[tokio::test]
async fn peer_without_certificate_is_refused() {
    let authorities = authorities();
    let client = authorities.peer(authorities.node_credential(2)).client(Some(node(1))).unwrap();
    let mut client = rustls::ClientConfig::clone(&client);
    client.client_auth_cert_resolver = Arc::new(NoCertificate);
    let refused = meet(authorities.peer_port(), Arc::new(client)).await.unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn peer_below_a_root_of_the_same_name_is_refused_by_both_ends() {
    let (ours, theirs) = (authorities(), authorities());
    let stranger = theirs.node_credential(2);
    // The stranger trusts our root, but shows a certificate of its own.
    let client = ours.peer(Arc::clone(&stranger)).client(Some(node(1))).unwrap();
    let refused = meet(ours.peer_port(), client).await.unwrap_err();
    assert!(refused.contains("DecryptError"), "{refused}");

    let server = ours.peer(stranger).server().unwrap();
    let client = ours.peer(ours.node_credential(3)).client(Some(node(2))).unwrap();
    let refused = meet(server, client).await.unwrap_err();
    assert!(refused.contains("BadSignature"), "{refused}");
}

/// A client with a certificate that our node authority signed for these names.
async fn rogue_peer(names: &[&str], common_name: Option<&str>) -> Result<Met, String> {
    let authorities = authorities();
    let key = PrivateKey::generate().unwrap();
    let certificate = rogue_certificate(&authorities.nodes, &key, names, common_name);
    let client = authorities.peer(authorities.node_credential(2)).client(Some(node(1))).unwrap();
    meet(authorities.peer_port(), showing(&client, certificate, &key)).await
}

#[tokio::test]
async fn certificate_needs_exactly_one_uri_of_this_cluster() {
    let good = format!("spiffe://{}/node/2/1", cluster());
    let other = format!("spiffe://{}/node/3/1", cluster());
    rogue_peer(&[&good], None).await.expect("the helper itself makes good certificates");
    rogue_peer(&[&good], Some("somebody else")).await.expect("a common name counts for nothing");

    let elsewhere = good.replace("07", "08");
    let caller = format!("spiffe://{}/caller/app", cluster());
    let cases: [&[&str]; 7] = [
        &[],
        &[&good, &other],
        &[&good, &good],
        &[&elsewhere],
        &[&caller],
        &["https://example.org"],
        &["spiffe://*/node/2/1"],
    ];
    for names in cases {
        let refused = rogue_peer(names, Some(&good)).await.unwrap_err();
        assert!(refused.contains("CertificateUnknown"), "{names:?}: {refused}");
    }
}

#[tokio::test]
async fn other_incarnation_and_unknown_key_are_refused() {
    let authorities = authorities();
    let second = Incarnation::FIRST.next().unwrap();
    let old = authorities.node_credential_at(2, second, now());
    let client = authorities.peer(old).client(Some(node(1))).unwrap();
    let refused = meet(authorities.peer_port(), client).await.unwrap_err();
    assert!(refused.contains("CertificateUnknown"), "{refused}");

    let server = authorities.peer_that_trusts(authorities.node_credential(1), |_, _, _| false);
    let client = authorities.peer(authorities.node_credential(2)).client(Some(node(1))).unwrap();
    let refused = meet(server.server().unwrap(), client).await.unwrap_err();
    assert!(refused.contains("CertificateUnknown"), "{refused}");

    let suspicious = authorities.peer_that_trusts(authorities.node_credential(2), |_, _, _| false);
    let refused =
        meet(authorities.peer_port(), suspicious.client(None).unwrap()).await.unwrap_err();
    assert!(refused.contains("Untrusted("), "{refused}");
}

#[tokio::test]
async fn key_that_the_records_know_is_the_one_that_is_asked_about() {
    let authorities = authorities();
    let two = authorities.node_credential(2);
    let expected = two.facts().spki_sha256;
    let rules = move |id, incarnation, spki: &[u8; 32]| {
        (id, incarnation, *spki) == (node(2), Incarnation::FIRST, expected)
    };
    let own = authorities.node_credential(1);
    let root = vec![authorities.nodes.root().clone()];
    let peer = tls::PeerTls::new(own, root, cluster(), Arc::new(rules));
    let server = peer.server().unwrap();

    let known = authorities.peer(two).client(Some(node(1))).unwrap();
    meet(Arc::clone(&server), known).await.unwrap();
    let same_id_other_key = authorities.peer(authorities.node_credential(2));
    meet(server, same_id_other_key.client(Some(node(1))).unwrap()).await.unwrap_err();
}

#[tokio::test]
async fn expired_and_early_certificates_are_refused_by_both_ends() {
    let root_life = Validity::starting(now() - 48 * 3600, 96 * HOUR);
    let authorities =
        Authorities { nodes: Authority::create(cluster(), root_life).unwrap(), ..authorities() };
    for issued_unix in [now() - 7200, now() + 7200] {
        let stale = authorities.node_credential_at(2, Incarnation::FIRST, issued_unix);
        let client = authorities.peer(Arc::clone(&stale)).client(Some(node(1))).unwrap();
        let refused = meet(authorities.peer_port(), client).await.unwrap_err();
        assert!(refused.contains("CertificateExpired"), "{refused}");

        let server = authorities.peer(stale).server().unwrap();
        let client = authorities.peer(authorities.node_credential(3)).client(None).unwrap();
        let refused = meet(server, client).await.unwrap_err();
        assert!(refused.contains("expired") || refused.contains("not valid yet"), "{refused}");
    }
}

#[tokio::test]
async fn another_node_than_the_one_called_is_refused() {
    let authorities = authorities();
    let client = authorities.peer(authorities.node_credential(2)).client(Some(node(3))).unwrap();
    let refused = meet(authorities.peer_port(), client).await.unwrap_err();
    assert!(refused.contains("OtherNode { expected: NodeId(3), found: NodeId(1) }"), "{refused}");

    let joining = authorities.peer(authorities.node_credential(2)).client(None).unwrap();
    meet(authorities.peer_port(), joining).await.unwrap();
}

#[tokio::test]
async fn caller_is_known_by_its_name_and_may_come_without() {
    let authorities = authorities();
    let root = from_ref(authorities.endpoints.root());
    let app = authorities.caller_credential("app");
    let met = meet(authorities.endpoint(), tls::caller(Some(app), root).unwrap()).await.unwrap();
    let app = Identity::Caller { cluster: cluster(), name: "app".parse().unwrap() };
    assert_eq!(met.server.identity(), Some(&app));

    let met = meet(authorities.endpoint(), tls::caller(None, root).unwrap()).await.unwrap();
    assert_eq!(met.server.identity(), None);
}

#[tokio::test]
async fn certificates_of_nodes_and_callers_open_only_their_own_port() {
    let authorities = authorities();
    let root = from_ref(authorities.endpoints.root());
    let node_as_caller = tls::caller(Some(authorities.node_credential(2)), root).unwrap();
    meet(authorities.endpoint(), node_as_caller).await.unwrap_err();

    let caller_as_node = authorities.peer(authorities.caller_credential("app")).client(None);
    meet(authorities.peer_port(), caller_as_node.unwrap()).await.unwrap_err();

    // Even the callers' own authority cannot make a caller of a node.
    let key = PrivateKey::generate().unwrap();
    let name = format!("spiffe://{}/node/2/1", cluster());
    let certificate = rogue_certificate(&authorities.callers, &key, &[&name], None);
    let client = showing(&tls::caller(None, root).unwrap(), certificate, &key);
    let refused = meet(authorities.endpoint(), client).await.unwrap_err();
    assert!(refused.contains("CertificateUnknown"), "{refused}");
}

#[tokio::test]
async fn caller_checks_the_host_and_the_endpoint_authority() {
    let authorities = authorities();
    let client = tls::caller(None, from_ref(authorities.endpoints.root())).unwrap();
    let hosts = Hosts { dns: vec!["localhost".into()], ..Hosts::default() };
    let own = authorities.endpoint_credential(&hosts);
    let server = tls::endpoint(own, from_ref(authorities.callers.root()), cluster()).unwrap();
    meet_at("localhost", Arc::clone(&server), Arc::clone(&client)).await.unwrap();
    let refused = meet(server, Arc::clone(&client)).await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");

    let own = authorities.node_credential(1);
    let server = tls::endpoint(own, from_ref(authorities.callers.root()), cluster()).unwrap();
    let refused = meet(server, client).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn stolen_caller_authority_makes_no_endpoint_even_for_who_trusts_it() {
    let authorities = authorities();
    let key = PrivateKey::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let authority = &authorities.callers;
    let issuer =
        rcgen::Issuer::from_ca_cert_der(authority.root(), authority.private_key()).unwrap();
    let forged = params.signed_by(&key.public_key(), &issuer).unwrap();
    let mut server = rustls::ServerConfig::clone(&authorities.endpoint());
    server.cert_resolver = certified(forged.into(), &key);
    let client = tls::caller(None, from_ref(authority.root())).unwrap();
    let refused = meet(Arc::new(server), client).await.unwrap_err();
    assert!(refused.contains("NameConstraintViolation"), "{refused}");
}

#[tokio::test]
async fn both_roots_are_good_while_an_authority_is_replaced() {
    let (old, new) = (authorities(), authorities());
    let roots = vec![old.nodes.root().clone(), new.nodes.root().clone()];
    let peer = |own| tls::PeerTls::new(own, roots.clone(), cluster(), Arc::new(|_, _, _: &_| true));
    let server = peer(old.node_credential(1)).server().unwrap();
    for credential in [old.node_credential(2), new.node_credential(2)] {
        let client = peer(credential).client(Some(node(1))).unwrap();
        meet(Arc::clone(&server), client).await.unwrap();
    }
    assert_eq!(tls::caller(None, &[]).unwrap_err(), tls::ConfigError::Root);
}
