//! `twinkeepd operator-key` and `twinkeepd operator-approve`: what operators do with their keys, away
//! from every node.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use twinkeep_core::admission::Approval;
use twinkeep_core::clock::Clock;
use twinkeep_core::name::CallerName;
use twinkeep_keyring::recovery::Identity;
use twinkeep_pki::order::is_recovery;
use twinkeep_pki::{OrderFile, RecoveryOrderFile};
use zeroize::Zeroizing;

use crate::clock::SystemClock;

/// Longest identity file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// Makes an operator's key, or reads one, and prints its public half. The key file is an ordinary age
/// identity.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct OperatorKey {
    /// Where the key goes; mode 0600, never overwritten.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A key that was made before: its public half is printed again.
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,
}

impl OperatorKey {
    /// Makes or reads the key.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let identity = match (self.out, self.public) {
            (Some(path), _) => make(&path)?,
            (None, Some(path)) => identity(&path)?,
            (None, None) => unreachable!("clap asks for one of them"),
        };
        println!("{}", identity.public_key());
        Ok(())
    }
}

fn make(path: &Path) -> anyhow::Result<Identity> {
    let identity = Identity::generate();
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot make {}", path.display()))?;
    writeln!(file, "{}", *identity.danger_to_text())?;
    file.sync_all()?;
    Ok(identity)
}

/// Reads an operator's key file.
pub(super) fn identity(path: &Path) -> anyhow::Result<Identity> {
    let text = read(path, KEY_FILE_BYTES_MAX).map(Zeroizing::new)?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    line.and_then(Identity::parse)
        .with_context(|| format!("{} holds no key of an operator", path.display()))
}

/// Approves the admission of a node or the recovery of a cluster: shows the order and signs it.
#[derive(Debug, clap::Args)]
pub(crate) struct OperatorApprove {
    /// The operator's key file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The operator's name, as the cluster has it.
    #[arg(long)]
    name: CallerName,
    /// The order, as `twinkeep cluster order` or `twinkeep recover plan` wrote it.
    order: PathBuf,
}

impl OperatorApprove {
    /// Shows on standard error what is signed, and prints the approval.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let text = read(&self.order, RecoveryOrderFile::BYTES_MAX as u64)?;
        let refused = || format!("{} is not approved", self.order.display());
        let identity = identity(&self.key)?;
        if is_recovery(&text) {
            let file = RecoveryOrderFile::parse(&text).with_context(refused)?;
            let order = file.order();
            check_life(order.expires_ms, SystemClock.unix_ms(), "twinkeep recover plan")?;
            eprintln!(
                "operator {} approves that a cluster that has lost its quorum begins a new life, and says that the \
                 nodes named here are powered off and stay so:\n{file}",
                self.name
            );
            println!("{}", identity.approve_recovery(self.name, order));
            return Ok(());
        }
        let order = OrderFile::parse(&text).with_context(refused)?;
        eprintln!("operator {} approves that one node joins:\n{order}", self.name);
        println!("{}", approve(&identity, self.name, &order, SystemClock.unix_ms())?);
        Ok(())
    }
}

/// The cluster decides; this saves the way to it.
fn check_life(expires_ms: u64, now_ms: u64, writer: &str) -> anyhow::Result<()> {
    let holds = expires_ms > now_ms;
    anyhow::ensure!(holds, "the order has lapsed: have a new one written with `{writer}`");
    Ok(())
}

fn approve(
    identity: &Identity,
    name: CallerName,
    file: &OrderFile,
    now_ms: u64,
) -> anyhow::Result<Approval> {
    check_life(file.order().expires_ms, now_ms, "twinkeep cluster order")?;
    Ok(identity.approve(name, file.order()))
}

/// Reads a small text file; a longer one is not what it is taken for.
fn read(path: &Path, bytes_max: u64) -> anyhow::Result<String> {
    use std::io::Read;

    let cannot = || format!("cannot read {}", path.display());
    // One buffer for all of it: a growing one would leave copies of a key.
    let mut text = String::with_capacity(usize::try_from(bytes_max)? + 1);
    let file = std::fs::File::open(path).with_context(cannot)?;
    file.take(bytes_max + 1).read_to_string(&mut text).with_context(cannot)?;
    anyhow::ensure!(text.len() as u64 <= bytes_max, "{} is too long", path.display());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use twinkeep_core::admission::AdmissionOrder;
    use twinkeep_core::command::SignatureVerifier;
    use twinkeep_core::id::{ClusterId, Incarnation};
    use twinkeep_core::topology::NodeRole;
    use twinkeep_keyring::CommandVerifier;
    use twinkeep_pki::{PrivateKey, pem};

    use super::*;

    fn order() -> OrderFile {
        let key = PrivateKey::generate().unwrap();
        let order = AdmissionOrder {
            cluster: ClusterId::from_bytes([0x10; 16]),
            incarnation: Incarnation::FIRST,
            spki_sha256: key.public_key().sha256(),
            role: NodeRole::Data,
            zone: "zone-b".parse().unwrap(),
            expires_ms: 1_800_000_000_000,
        };
        let csr_pem = pem::certificate_request(&key.certificate_request().unwrap());
        OrderFile::new(order, csr_pem).unwrap()
    }

    #[test]
    fn key_file_is_private_and_read_again_it_is_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ann.age");
        let made = make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(identity(&path).unwrap().public_key(), made.public_key());
        let again = make(&path).unwrap_err().to_string();
        assert!(again.starts_with("cannot make "), "a key is never overwritten: {again}");
        let wrong = folder.path().join("wrong");
        std::fs::write(&wrong, made.public_key().to_string()).unwrap();
        assert!(identity(&wrong).unwrap_err().to_string().ends_with("holds no key of an operator"));
        std::fs::write(&wrong, "#".repeat(5000)).unwrap();
        assert!(identity(&wrong).unwrap_err().to_string().ends_with("is too long"));
    }

    #[test]
    fn order_is_approved_with_the_key_that_the_cluster_has_and_not_after_its_time() {
        let (identity, file) = (Identity::generate(), order());
        let ann: CallerName = "ann".parse().unwrap();
        let expires_ms = file.order().expires_ms;
        let approval = approve(&identity, ann.clone(), &file, expires_ms - 1).unwrap();
        let key = identity.public_key().operator(ann.clone()).signing_key;
        assert!(CommandVerifier.verify(&key, &file.order().message(), &approval.signature));
        assert!(approve(&identity, ann, &file, expires_ms).is_err());
    }
}
