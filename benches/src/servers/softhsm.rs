//! SoftHSM, the HSM in software that PKCS#11 applications are tested with, as a peer: one thread in one process,
//! without any network.
//!
//! It runs in a process of its own, which the library's configuration is given to by environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

use super::bare::{MESSAGE, repeat};
use crate::system::cores;

/// Where Debian's packages put the library.
const MODULES: [&str; 2] =
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
/// Bytes of plaintext.
const SIZE: usize = 1024;
/// DER of the object identifier of P-256, as PKCS#11 names curves.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// The PIN of a token that lives as long as the run.
const PIN: &str = "12345678";

/// How often a second it does what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// AES-256-GCM of 1 KiB with a random IV.
    pub(crate) encrypt: f64,
    /// ECDSA on P-256, of a digest.
    pub(crate) sign_p256: f64,
    /// RSA, PKCS#1 v1.5, SHA-256, 2048 bits.
    pub(crate) sign_rsa2048: f64,
}

/// What the process with the library is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The library.
    #[arg(long)]
    module: PathBuf,
    /// How long each function is timed, in milliseconds.
    #[arg(long)]
    ms: u64,
}

/// Measures it on the server's core; `None` when it is not installed.
pub(crate) fn measure(folder: &Path, time: Duration) -> anyhow::Result<Option<Rates>> {
    let Some(module) = MODULES.iter().find(|module| Path::new(module).exists()) else {
        return Ok(None);
    };
    let tokens = folder.join("softhsm");
    fs::create_dir_all(&tokens)?;
    let config = folder.join("softhsm2.conf");
    fs::write(
        &config,
        format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()),
    )?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["softhsm", "--module", module, "--ms", &time.as_millis().to_string()])
        .env("SOFTHSM2_CONF", config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let output = cores::spawn_on(&[cores::SERVER], &mut command)?.wait_with_output()?;
    ensure!(output.status.success(), "SoftHSM failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let rates: Vec<f64> = text.split_whitespace().filter_map(|rate| rate.parse().ok()).collect();
    let [encrypt, sign_p256, sign_rsa2048] = rates[..] else {
        anyhow::bail!("SoftHSM's process printed `{text}`");
    };
    Ok(Some(Rates { encrypt, sign_p256, sign_rsa2048 }))
}

/// Times the functions and prints the rates of [`Rates`] in their order.
///
/// # Errors
/// What the library says.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let time = Duration::from_millis(arguments.ms);
    let library = Pkcs11::new(&arguments.module).context("the library cannot be loaded")?;
    library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slot = *library.get_slots_with_token()?.first().context("the library has no slot")?;
    let pin = AuthPin::new(PIN.into());
    library.init_token(slot, &pin, "bench")?;
    let session = library.open_rw_session(slot)?;
    session.login(UserType::So, Some(&pin))?;
    session.init_pin(&pin)?;
    session.logout()?;
    session.login(UserType::User, Some(&pin))?;
    let [encrypt, p256, rsa] =
        [encrypt(&session, time)?, sign_p256(&session, time)?, sign_rsa2048(&session, time)?];
    println!("{encrypt} {p256} {rsa}");
    Ok(())
}

fn encrypt(session: &Session, time: Duration) -> anyhow::Result<f64> {
    let template = [Attribute::ValueLen(32.into()), Attribute::Encrypt(true)];
    let key = session.generate_key(&Mechanism::AesKeyGen, &template)?;
    let (random, plaintext) = (SystemRandom::new(), vec![0x5a; SIZE]);
    repeat(time, || {
        let mut iv = [0; 12];
        random.fill(&mut iv)?;
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, &[], 128.into())?);
        Ok(session.encrypt(&mechanism, key, &plaintext)?.len())
    })
}

fn sign_p256(session: &Session, time: Duration) -> anyhow::Result<f64> {
    let public = [Attribute::EcParams(P256.to_vec())];
    let (_, key) =
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &[Attribute::Sign(true)])?;
    // The message has the length of a digest.
    sign(session, &Mechanism::Ecdsa, key, time)
}

fn sign_rsa2048(session: &Session, time: Duration) -> anyhow::Result<f64> {
    let public = [Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])];
    let pair = Mechanism::RsaPkcsKeyPairGen;
    let (_, key) = session.generate_key_pair(&pair, &public, &[Attribute::Sign(true)])?;
    sign(session, &Mechanism::Sha256RsaPkcs, key, time)
}

fn sign(
    session: &Session,
    mechanism: &Mechanism<'_>,
    key: ObjectHandle,
    time: Duration,
) -> anyhow::Result<f64> {
    repeat(time, || Ok(session.sign(mechanism, key, MESSAGE)?.len()))
}
