//! The binary without a cluster: messages, exit codes, pipes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, in helpers too")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustls_pki_types::UnixTime;
use twinkeep_pki::{Authority, Endpoints, Validity, pem};

fn twinkeep(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinkeep"));
    command.current_dir(folder).env("HOME", folder).args(arguments).stdin(Stdio::null());
    for name in ["TWINKEEP_CONFIG", "TWINKEEP_HOME", "TWINKEEP_LOG"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_a_cluster_the_message_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = twinkeep(folder.path(), &["key", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("`twinkeep dev up`"), "{}", said(&output));
}

#[test]
fn wrong_usage_names_what_is_allowed_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let output = twinkeep(folder.path(), &["key", "create", "--spec", "DES"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("AES_256"), "{}", said(&output));
    let output = twinkeep(folder.path(), &["cluster", "remove", "4"]);
    assert_ne!(output.status.code(), Some(0));
}

/// A folder with a configuration that trusts a root and names one address.
fn configured(address: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let cluster = twinkeep_core::id::ClusterId::from_bytes([7; 16]);
    let validity =
        Validity::starting(UnixTime::now().as_secs(), std::time::Duration::from_secs(3600));
    let authority = Authority::<Endpoints>::create(cluster, validity).unwrap();
    let root = pem::certificates(std::slice::from_ref(authority.root()));
    std::fs::write(folder.path().join("root.pem"), root).unwrap();
    let text = format!("endpoints = [{{ address = \"{address}\" }}]\nroot = \"root.pem\"\n");
    std::fs::write(folder.path().join("twinkeep.toml"), text).unwrap();
    folder
}

#[test]
fn cluster_that_is_away_ends_with_5_and_says_where_to_look() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = configured(&free.to_string());
    let arguments = ["--config", "twinkeep.toml", "--timeout", "1", "key", "list"];
    let output = twinkeep(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("refused"), "{}", said(&output));
    assert!(said(&output).contains("`twinkeep cluster status`"), "{}", said(&output));
}

#[test]
fn too_much_for_a_bare_ciphertext_is_refused_before_anybody_is_called() {
    let folder = configured("127.0.0.1:1");
    std::fs::write(folder.path().join("big"), vec![7; 100 << 10]).unwrap();
    let arguments = ["--config", "twinkeep.toml", "encrypt", "--key", "key-00", "--base64", "big"];
    let output = twinkeep(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("more than 64 KiB"), "{}", said(&output));
}

#[test]
fn configuration_with_an_unknown_field_is_refused_by_name() {
    let folder = configured("127.0.0.1:1");
    std::fs::write(folder.path().join("twinkeep.toml"), "endpoints = []\nsecret = \"x\"\n")
        .unwrap();
    let output = twinkeep(folder.path(), &["--config", "twinkeep.toml", "key", "list"]);
    assert!(said(&output).contains("secret") && said(&output).contains("twinkeep.toml"));
}

#[test]
fn reader_who_leaves_early_hears_no_complaint() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_twinkeep"))
        .arg("--help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
}
