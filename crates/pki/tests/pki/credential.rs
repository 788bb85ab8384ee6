//! Certificates that are replaced while the server runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;

use crate::common::*;
use rustls_pki_types::CertificateDer;
use twinkeep_core::id::Incarnation;
use twinkeep_pki::credential::CredentialError;
use twinkeep_pki::{Credential, Facts, PrivateKey, Validity, pem, tls};

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, chain: &[CertificateDer<'_>], key: &PrivateKey) {
        fs::write(self.path("chain.pem"), pem::certificates(chain)).unwrap();
        fs::write(self.path("key.pem"), pem::danger_private_key(key).as_bytes()).unwrap();
        protect(&self.path("key.pem"), 0o600);
    }

    fn read(&self) -> Result<Credential, CredentialError> {
        Credential::from_files(self.path("chain.pem"), self.path("key.pem"), now())
    }
}

fn protect(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn endpoint(
    authorities: &Authorities,
    number: u64,
    issued_unix: u64,
) -> (CertificateDer<'static>, PrivateKey) {
    let key = PrivateKey::generate().unwrap();
    let validity = Validity::starting(issued_unix, HOUR);
    let issued = authorities.endpoints.issue_endpoint(
        &key.public_key(),
        node(number),
        Incarnation::FIRST,
        &loopback(),
        validity,
    );
    (issued.unwrap(), key)
}

#[tokio::test]
async fn new_connections_see_the_certificate_that_was_reloaded() {
    let (authorities, files) = (authorities(), Files::new());
    let (first, key) = endpoint(&authorities, 1, now());
    files.write(from_ref(&first), &key);
    let credential = Arc::new(files.read().unwrap());
    let server =
        tls::endpoint(Arc::clone(&credential), from_ref(authorities.callers.root()), cluster())
            .unwrap();
    let client = tls::caller(None, from_ref(authorities.endpoints.root())).unwrap();
    let met = meet(Arc::clone(&server), Arc::clone(&client)).await.unwrap();
    assert_eq!(met.client.peer(), Some(&Facts::of(&first).unwrap()));

    let (second, key) = endpoint(&authorities, 1, now());
    files.write(from_ref(&second), &key);
    let reloaded = credential.reload(now()).unwrap();
    assert_eq!(reloaded, Facts::of(&second).unwrap());
    let met = meet(server, client).await.unwrap();
    assert_eq!(met.client.peer(), Some(&reloaded));
}

#[tokio::test]
async fn bad_files_leave_the_old_certificate_in_use() {
    let (authorities, files) = (authorities(), Files::new());
    let (good, key) = endpoint(&authorities, 1, now());
    files.write(from_ref(&good), &key);
    let credential = Arc::new(files.read().unwrap());
    let server =
        tls::endpoint(Arc::clone(&credential), from_ref(authorities.callers.root()), cluster())
            .unwrap();

    let refused = || credential.reload(now()).unwrap_err();
    let (expired, expired_key) = endpoint(&authorities, 1, now() - 7200);
    files.write(&[expired], &expired_key);
    assert!(matches!(refused(), CredentialError::Validity { .. }));
    let (other_node, other_key) = endpoint(&authorities, 2, now());
    files.write(&[other_node], &other_key);
    assert!(matches!(refused(), CredentialError::OtherIdentity { .. }));
    files.write(from_ref(&good), &other_key);
    assert!(matches!(refused(), CredentialError::KeyMismatch));
    files.write(&[], &key);
    assert!(matches!(refused(), CredentialError::NoCertificate));
    files.write(&[CertificateDer::from(vec![1, 2, 3])], &key);
    assert!(matches!(refused(), CredentialError::Certificate(_)));
    files.write(&[authorities.endpoints.root().clone()], &key);
    assert!(matches!(refused(), CredentialError::Certificate(_)));
    files.write(from_ref(&good), &key);
    fs::write(files.path("key.pem"), "no key").unwrap();
    assert!(matches!(refused(), CredentialError::NoKey));
    fs::write(files.path("key.pem"), vec![b'x'; 100 << 10]).unwrap();
    assert!(matches!(refused(), CredentialError::Read { .. }));
    fs::remove_file(files.path("key.pem")).unwrap();
    assert!(matches!(refused(), CredentialError::Read { .. }));

    let client = tls::caller(None, from_ref(authorities.endpoints.root())).unwrap();
    let met = meet(server, client).await.unwrap();
    assert_eq!(met.client.peer(), Some(&Facts::of(&good).unwrap()));
}

#[test]
fn key_that_everybody_can_read_is_refused_with_the_cure() {
    let (authorities, files) = (authorities(), Files::new());
    let (certificate, key) = endpoint(&authorities, 1, now());
    files.write(&[certificate], &key);
    protect(&files.path("key.pem"), 0o644);
    let refused = files.read().unwrap_err();
    assert!(refused.to_string().contains("chmod o-rwx"), "{refused}");
    protect(&files.path("key.pem"), 0o640);
    files.read().unwrap();
}

#[test]
fn credential_without_files_says_so_on_reload() {
    let credential = authorities().node_credential(1);
    assert!(matches!(credential.reload(now()).unwrap_err(), CredentialError::NoFiles));
}
