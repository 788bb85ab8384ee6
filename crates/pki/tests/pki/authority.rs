//! What authorities certify, load and refuse; OpenSSL's opinion of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::slice::from_ref;

use crate::common::*;
use twinkeep_core::id::{ClusterId, Incarnation};
use twinkeep_pki::authority::{AuthorityError, Hosts};
use twinkeep_pki::key::RequestError;
use twinkeep_pki::{
    Authority, Callers, Endpoints, Facts, Identity, Nodes, PrivateKey, PublicKey, Validity, pem,
};

#[test]
fn certificate_says_what_was_asked_for() {
    let authorities = authorities();
    let key = PrivateKey::generate().unwrap();
    let validity = Validity::starting(1_800_000_000, HOUR);
    let nodes = Authority::<Nodes>::create(cluster(), Validity::starting(1_800_000_000, 2 * HOUR));
    let issued =
        nodes.unwrap().issue_node(&key.public_key(), node(9), Incarnation::FIRST, validity);
    let facts = Facts::of(&issued.unwrap()).unwrap();
    let incarnation = Incarnation::FIRST;
    assert_eq!(facts.identity, Identity::Node { cluster: cluster(), node: node(9), incarnation });
    assert_eq!(facts.spki_sha256, key.public_key().sha256());
    assert_eq!((facts.not_before_unix, facts.not_after_unix), (1_799_999_700, 1_800_003_600));
    assert!(facts.valid_at(1_800_003_600) && !facts.valid_at(1_800_003_601));
    drop(authorities);
}

#[test]
fn serial_numbers_do_not_repeat() {
    let authorities = authorities();
    let key = PrivateKey::generate().unwrap().public_key();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let validity = Validity::starting(now(), HOUR);
        let der = authorities.callers.issue_caller(&key, "app".parse().unwrap(), validity).unwrap();
        let (_, x509) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(x509.raw_serial().len(), 16);
        assert!(seen.insert(x509.raw_serial().to_vec()));
    }
}

#[test]
fn authority_is_loaded_with_its_own_root_and_key_alone() {
    // One reading of the clock: a second one may fall into the next second.
    let from = now();
    let validity = Validity::starting(from, HOUR);
    let callers = Authority::<Callers>::create(cluster(), validity).unwrap();
    let (root, key) = (callers.root().clone(), callers.private_key().danger_pkcs8());
    let loaded = Authority::<Callers>::load(cluster(), root.clone(), key).unwrap();
    assert_eq!(loaded.not_after_unix(), from + 3600);

    let other = Authority::<Callers>::create(cluster(), validity).unwrap();
    let other_key = other.private_key().danger_pkcs8();
    let refused = Authority::<Callers>::load(cluster(), root.clone(), other_key).unwrap_err();
    assert!(matches!(refused, AuthorityError::KeyMismatch { .. }));
    let refused = Authority::<Nodes>::load(cluster(), root.clone(), key).unwrap_err();
    assert!(matches!(refused, AuthorityError::Root { .. }));
    let elsewhere = ClusterId::from_bytes([8; 16]);
    let refused = Authority::<Callers>::load(elsewhere, root.clone(), key).unwrap_err();
    assert!(matches!(refused, AuthorityError::Root { .. }));
    let refused = Authority::<Callers>::load(cluster(), root, b"junk").unwrap_err();
    assert!(matches!(refused, AuthorityError::Key { .. }));

    let leaf = callers
        .issue_caller(&callers.private_key().public_key(), "app".parse().unwrap(), validity)
        .unwrap();
    let refused = Authority::<Callers>::load(cluster(), leaf, key).unwrap_err();
    assert!(matches!(refused, AuthorityError::Root { .. }));
}

#[test]
fn certificate_that_would_outlive_its_root_is_refused() {
    let callers = Authority::<Callers>::create(cluster(), Validity::starting(now(), HOUR)).unwrap();
    let key = PrivateKey::generate().unwrap().public_key();
    let refused =
        callers.issue_caller(&key, "app".parse().unwrap(), Validity::starting(now() + 1, HOUR));
    assert!(matches!(refused.unwrap_err(), AuthorityError::Validity { .. }));
    let never = Validity::starting(u64::MAX, HOUR);
    assert!(matches!(
        Authority::<Nodes>::create(cluster(), never).unwrap_err(),
        AuthorityError::Validity { .. }
    ));
}

#[test]
fn endpoint_needs_hosts_and_takes_no_wildcard() {
    let endpoints = authorities().endpoints;
    let key = PrivateKey::generate().unwrap().public_key();
    let issue = |dns: &[&str]| {
        let dns = dns.iter().map(ToString::to_string).collect();
        let hosts = Hosts { dns, addresses: Vec::new() };
        let validity = Validity::starting(now(), HOUR);
        endpoints.issue_endpoint(&key, node(1), Incarnation::FIRST, &hosts, validity)
    };
    issue(&["kms.example"]).unwrap();
    assert!(matches!(issue(&[]).unwrap_err(), AuthorityError::NoHost));
    for bad in ["*.example", "*", "", "a b", "-a.example", "ä.example"] {
        assert!(matches!(issue(&[bad]).unwrap_err(), AuthorityError::DnsName(_)), "{bad:?}");
    }
}

/// Runs OpenSSL; `None` when the machine has none.
fn openssl(dir: &Path, arguments: &[&str]) -> Option<(bool, String)> {
    let output = match Command::new("openssl").current_dir(dir).args(arguments).output() {
        Ok(output) => output,
        Err(_) => {
            eprintln!("skipped: no openssl on this machine");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text.into_owned()))
}

#[test]
fn openssl_verifies_our_chains_strictly_and_for_their_purpose_alone() {
    let dir = tempfile::tempdir().unwrap();
    let authorities = authorities();
    let key = PrivateKey::generate().unwrap().public_key();
    let validity = Validity::starting(now(), HOUR);
    let first = Incarnation::FIRST;
    let node = authorities.nodes.issue_node(&key, node(1), first, validity).unwrap();
    let caller = authorities.callers.issue_caller(&key, "app".parse().unwrap(), validity).unwrap();
    let hosts = Hosts { dns: vec!["kms.example".into()], ..loopback() };
    let endpoint =
        authorities.endpoints.issue_endpoint(&key, crate::common::node(1), first, &hosts, validity);
    for (name, root, leaf, server, client) in [
        ("node", authorities.nodes.root(), node, true, true),
        ("caller", authorities.callers.root(), caller, false, true),
        ("endpoint", authorities.endpoints.root(), endpoint.unwrap(), true, false),
    ] {
        fs::write(dir.path().join("root.pem"), pem::certificates(from_ref(root))).unwrap();
        fs::write(dir.path().join("leaf.pem"), pem::certificates(&[leaf])).unwrap();
        for (purpose, expected) in [("sslserver", server), ("sslclient", client)] {
            let arguments =
                ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "root.pem", "leaf.pem"];
            let Some((verified, text)) = openssl(dir.path(), &arguments) else { return };
            assert_eq!(verified, expected, "{name} as {purpose}: {text}");
        }
    }
}

#[test]
fn request_made_by_openssl_gives_its_key_and_none_of_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let make = |curve: &str| {
        let arguments = [
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            curve,
            "-nodes",
            "-keyout",
            "key.pem",
            "-outform",
            "DER",
            "-out",
            "request.der",
            "-subj",
            "/CN=admin",
            "-addext",
            "subjectAltName=URI:spiffe://x/caller/admin",
            "-addext",
            "basicConstraints=CA:TRUE",
        ];
        openssl(dir.path(), &arguments).map(|(made, text)| {
            assert!(made, "{text}");
            PublicKey::of_request(&fs::read(dir.path().join("request.der")).unwrap())
        })
    };
    let Some(key) = make("ec_paramgen_curve:P-256") else { return };
    let callers = Authority::<Callers>::create(cluster(), Validity::starting(now(), HOUR)).unwrap();
    let validity = Validity::starting(now() - 1, HOUR);
    let der = callers.issue_caller(&key.unwrap(), "app".parse().unwrap(), validity).unwrap();
    let name = "app".parse().unwrap();
    assert_eq!(Facts::of(&der).unwrap().identity, Identity::Caller { cluster: cluster(), name });
    let (_, x509) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!x509.is_ca());
    assert_eq!(x509.subject().iter().count(), 0);

    make("ec_paramgen_curve:P-384").unwrap().unwrap();
    assert_eq!(make("ec_paramgen_curve:P-521").unwrap().unwrap_err(), RequestError::KeyKind);
}

#[test]
fn roots_of_the_three_authorities_are_told_apart_by_their_subject() {
    let validity = Validity::starting(now(), HOUR);
    let root = Authority::<Endpoints>::create(cluster(), validity).unwrap();
    let (_, x509) = x509_parser::parse_x509_certificate(root.root()).unwrap();
    let expected = format!("O=Twinkeep endpoint authority, OU={}", cluster());
    assert_eq!(x509.subject().to_string(), expected);
}

#[test]
fn endpoint_certificate_serves_its_hosts_and_no_others() {
    let hosts = Hosts { dns: vec!["kms.example".into()], ..loopback() };
    let credential = authorities().endpoint_credential(&hosts);
    assert!(credential.serves(&hosts) && credential.serves(&loopback()));
    for dns in ["other.example", "kms.example.org", "not a name"] {
        assert!(!credential.serves(&Hosts { dns: vec![dns.into()], ..loopback() }), "{dns}");
    }
    let addresses = vec![[127, 0, 0, 2].into()];
    assert!(!credential.serves(&Hosts { addresses, ..Hosts::default() }));
}
