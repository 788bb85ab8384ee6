//! Files through a real cluster and the command line: several and folders come back with mode and time, 1,000
//! random damages are each refused before the damaged part is released, and memory stays flat.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use twinkeep_client::file::{ChunkSize, DecryptError, DecryptOptions, Decrypted, EncryptOptions};
use twinkeep_client::{Client, v1};
use twinkeep_tests::{Cluster, program};

/// Damages through the client library.
const DAMAGES: u64 = 1000;
/// Of them again through the command line, one in so many.
const THROUGH_CLI: u64 = 20;
/// What encrypting or decrypting may take, in KiB.
const RSS_KIB_MAX: u64 = 64 << 10;
/// Size of the file whose memory is measured; `TWINKEEP_TEST_FILE_GIB=10` for the figure of the promise.
const BIG_GIB: u64 = 1;

const CHUNK: usize = 64 << 10;
const SEALED: usize = CHUNK + 16;

/// A generator of our own, so that a seed means the same everywhere: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

async fn sealed(client: &Client, key_id: &str, content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut file = Vec::new();
    let options = EncryptOptions { chunk_size: ChunkSize::MIN, ..EncryptOptions::default() };
    client.encrypt_file(key_id, content, &mut file, options).await?;
    Ok(file)
}

async fn opened(client: &Client, file: &[u8]) -> (Vec<u8>, Result<Decrypted, DecryptError>) {
    let mut out = Vec::new();
    let result = client.decrypt_file(file, &mut out, DecryptOptions::default()).await;
    (out, result)
}

/// Changes a file somehow. Returns what was done, and where the first changed byte is.
fn damage(
    file: &mut Vec<u8>,
    other: &[u8],
    at: usize,
    random: &mut Random,
) -> (&'static str, usize) {
    let from = random.below(file.len());
    let chunks = (file.len() - at) / SEALED;
    match random.below(9) {
        0 => {
            file[from] ^= 1 << random.below(8);
            ("a bit flipped", from)
        }
        1 => {
            file[from] = file[from].wrapping_add(1 + random.below(255) as u8);
            ("a byte changed", from)
        }
        2 => {
            file.truncate(from);
            ("cut", from)
        }
        3 => {
            let len = 1 + random.below(file.len() - from);
            file.drain(from..from + len);
            ("a piece missing", from)
        }
        4 => {
            let len = 1 + random.below(2 * SEALED);
            let piece = random.bytes(len);
            file.splice(from..from, piece);
            ("a piece inserted", from)
        }
        5 => {
            let end = file.len();
            let len = 1 + random.below(2 * SEALED);
            file.extend(random.bytes(len));
            ("appended", end)
        }
        6 => {
            let (one, two) = (random.below(chunks - 1), 1 + random.below(chunks - 1));
            let (one, two) = if one < two { (one, two) } else { (0, chunks - 1) };
            let (one, two) = (at + one * SEALED, at + two * SEALED);
            let kept = file[one..one + SEALED].to_vec();
            file.copy_within(two..two + SEALED, one);
            file[two..two + SEALED].copy_from_slice(&kept);
            ("two chunks swapped", one)
        }
        7 => {
            let from = random.below(at);
            file[from] ^= 1 << random.below(8);
            ("a bit of the header flipped", from)
        }
        _ => {
            let from = at + random.below(chunks) * SEALED;
            file[from..from + SEALED].copy_from_slice(&other[from..from + SEALED]);
            ("a chunk of another file", from)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_1000_damages_is_refused_before_the_damaged_part_is_released() -> anyhow::Result<()>
{
    let seed = std::env::var("TWINKEEP_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(4);
    println!("seed {seed} (TWINKEEP_TEST_SEED)");
    let mut random = Random(seed);
    let cluster = Cluster::start().await?;
    let (client, key_id) = (cluster.client("app")?, cluster.first_key()?);
    let content = random.bytes(5 * CHUNK + 4321);
    let file = sealed(&client, &key_id, &content).await?;
    let other = sealed(&client, &key_id, &content).await?;
    let at = file.len() - content.len() - 6 * 16;
    ensure!(opened(&client, &file).await.0 == content, "the file itself does not open");

    let mut released_bytes = 0;
    for number in 0..DAMAGES {
        let mut damaged = file.clone();
        let (what, from) = damage(&mut damaged, &other, at, &mut random);
        let case = format!("damage {number}: {what} at byte {from} of {}", file.len());
        ensure!(damaged != file, "{case}: nothing was changed");
        let (released, result) = opened(&client, &damaged).await;
        ensure!(result.is_err(), "{case}: it opened");
        ensure!(content.starts_with(&released), "{case}: something else was released");
        // Whole chunks in front of the damage and nothing else.
        let most = from.saturating_sub(at) / SEALED * CHUNK;
        ensure!(released.len() <= most, "{case}: {} bytes released", released.len());
        ensure!(released.len() % CHUNK == 0, "{case}: {} bytes released", released.len());
        released_bytes += released.len();
        if number % THROUGH_CLI == 0 {
            refused_by_cli(&cluster, &damaged, &content, most).context(case)?;
        }
    }
    println!(
        "{DAMAGES} damages refused; {released_bytes} bytes of whole chunks before them released"
    );
    Ok(())
}

/// The command line leaves nothing under the final name, nor beside it, and a pipe gets whole chunks alone.
fn refused_by_cli(
    cluster: &Cluster,
    damaged: &[u8],
    content: &[u8],
    most: usize,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("report.twinkeep");
    fs::write(&path, damaged)?;
    let output = cluster.try_twinkeep(&["decrypt", &path.to_string_lossy()])?;
    ensure!(!output.status.success(), "the command line opened it");
    ensure!(!output.stderr.is_empty(), "the command line said nothing");
    let left: Vec<_> = fs::read_dir(folder.path())?.collect::<Result<_, _>>()?;
    ensure!(left.len() == 1, "something was left: {left:?}");
    let piped = cluster.try_twinkeep(&["decrypt", "-o", "-", &path.to_string_lossy()])?;
    ensure!(!piped.status.success(), "the command line opened it into a pipe");
    ensure!(piped.stdout.len() <= most && content.starts_with(&piped.stdout), "too much came out");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_file_is_said() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let (client, key_id) = (cluster.client("app")?, cluster.first_key()?);
    let pair = |value: &str| v1::ContextPair { key: "table".into(), value: value.into() };
    let mut file = Vec::new();
    let options = EncryptOptions { context: vec![pair("a")], ..EncryptOptions::default() };
    client.encrypt_file(&key_id, &b"content"[..], &mut file, options).await?;

    let open = async |context, key_id: &str| {
        let mut out = Vec::new();
        let options = DecryptOptions { context, key_id: key_id.into(), progress: None };
        let result = client.decrypt_file(&file[..], &mut out, options).await;
        (out, result)
    };
    let (out, decrypted) = open(vec![pair("a")], &key_id).await;
    ensure!(out == b"content" && decrypted?.key_id == key_id);
    let (out, other_context) = open(vec![pair("b")], "").await;
    ensure!(out.is_empty() && matches!(other_context, Err(DecryptError::DataKey(_))));
    let another = cluster.client("app")?.create_key(cluster.new_key()?).await?;
    let another = another.key.context("no key")?.key_id;
    let (out, wrong_key) = open(vec![pair("a")], &another).await;
    ensure!(
        out.is_empty()
            && matches!(&wrong_key, Err(DecryptError::WrongKey { found, .. }) if *found == key_id),
        "{wrong_key:?}"
    );

    for (bytes, expected) in [
        (b"\xcdTWKFILE\x02\x01\x10\0\0\x01".as_slice(), "version 2 is not known"),
        (b"\xcdTWKFILE\x01\x01", "cut short"),
    ] {
        let path = cluster.path("wrong.twinkeep");
        fs::write(&path, bytes)?;
        let output = cluster.try_twinkeep(&["decrypt", "wrong.twinkeep"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains(expected), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_go_through_one_client_at_once() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let (client, key_id) = (cluster.client("app")?, cluster.first_key()?);
    let tasks: Vec<_> = (0..16_u64)
        .map(|seed| {
            let (client, key_id) = (client.clone(), key_id.clone());
            tokio::spawn(async move {
                let content = Random(seed).bytes(3 * CHUNK + 17);
                let file = sealed(&client, &key_id, &content).await?;
                let (out, result) = opened(&client, &file).await;
                anyhow::Ok(result?.bytes == content.len() as u64 && out == content)
            })
        })
        .collect();
    for task in tasks {
        ensure!(task.await??, "another content came back");
    }
    Ok(())
}

/// Writes a file with mode and time; the bytes are of its name.
fn write(path: &Path, len: usize, mode: u32, seconds: u64) -> anyhow::Result<()> {
    let bytes: Vec<u8> =
        path.as_os_str().as_encoded_bytes().iter().copied().cycle().take(len).collect();
    fs::write(path, bytes)?;
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    let file = File::options().write(true).open(path)?;
    file.set_times(fs::FileTimes::new().set_modified(time))?;
    Ok(file.set_permissions(fs::Permissions::from_mode(mode))?)
}

fn same(one: &Path, other: &Path) -> anyhow::Result<()> {
    let (a, b) = (fs::metadata(one)?, fs::metadata(other)?);
    ensure!(fs::read(one)? == fs::read(other)?, "{}: another content", other.display());
    ensure!(a.mode() == b.mode(), "{}: mode {:o}", other.display(), b.mode());
    let time = |m: &fs::Metadata| (m.mtime(), m.mtime_nsec());
    ensure!(time(&a) == time(&b), "{}: another time", other.display());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_come_back_with_mode_and_time() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let key_id = cluster.first_key()?;
    fs::create_dir_all(cluster.path("docs/inner"))?;
    let names = ["one.txt", "empty", "docs/a b.pdf", "docs/inner/big", "docs/inner/.hidden"];
    for (number, (name, len)) in names.iter().zip([18, 0, CHUNK, 3_000_000, 1]).enumerate() {
        let mode = [0o600, 0o644, 0o755, 0o640, 0o444][number];
        write(&cluster.path(name), len, mode, 1_500_000_000 + number as u64)?;
    }
    symlink("/etc/passwd", cluster.path("docs/link"))?;

    let output =
        cluster.try_twinkeep(&["encrypt", "--key", &key_id, "one.txt", "empty", "docs"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("docs/link is a symbolic link: left alone"), "{said}");
    ensure!(said.lines().count() == 1, "a pipe is told nothing else: {said}");
    ensure!(!cluster.path("docs/link.twinkeep").exists(), "the link was followed");
    for name in names {
        let encrypted = fs::read(cluster.path(&format!("{name}.twinkeep")))?;
        ensure!(encrypted.starts_with(b"\xcdTWKFILE\x01\x01"), "{name}");
        let bare = Path::new(name).file_name().context("a name")?.as_encoded_bytes();
        ensure!(
            bare.len() < 4 || !encrypted.windows(bare.len()).any(|part| part == bare),
            "{name}"
        );
    }

    // Again: what is there is not replaced, and what is encrypted is not encrypted once more.
    let again = cluster.try_twinkeep(&["encrypt", "--key", &key_id, "docs"])?;
    ensure!(!again.status.success(), "files were replaced");
    ensure!(!cluster.path("docs/a b.pdf.twinkeep.twinkeep").exists());

    let arguments = ["decrypt", "--into", "back", "one.txt.twinkeep", "empty.twinkeep", "docs"];
    let printed = cluster.twinkeep(&[&["--output", "json"], &arguments[..]].concat())?;
    ensure!(printed.lines().count() == names.len(), "{printed}");
    ensure!(printed.contains("\"stored_name\":\"a b.pdf\""), "{printed}");
    for name in names {
        same(&cluster.path(name), &cluster.path("back").join(name)).context(name)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_file_among_many_is_reported_and_the_others_are_done() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let key_id = cluster.first_key()?;
    for name in ["a", "b", "c"] {
        fs::write(cluster.path(name), name)?;
    }
    cluster.twinkeep(&["encrypt", "--key", &key_id, "a", "b", "c"])?;
    let path = cluster.path("b.twinkeep");
    let mut bytes = fs::read(&path)?;
    *bytes.last_mut().context("empty")? ^= 1;
    fs::write(&path, bytes)?;
    let files = ["decrypt", "--into", "back", "a.twinkeep", "b.twinkeep", "c.twinkeep"];
    let output = cluster.try_twinkeep(&files)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(said.contains("b.twinkeep") && said.contains("is damaged or cut short"), "{said}");
    ensure!(said.contains("1 of 3 files were not decrypted"), "{said}");
    ensure!(fs::read(cluster.path("back/a"))? == b"a" && fs::read(cluster.path("back/c"))? == b"c");
    ensure!(!cluster.path("back/b").exists(), "a damaged file has a name");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_and_bare_ciphertexts_work_as_the_manual_says() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let key_id = cluster.first_key()?;
    let content = b"attack at dawn\n";
    let piped = |arguments: &[&str], input: &[u8]| -> anyhow::Result<Vec<u8>> {
        let mut child = twinkeep(&cluster, arguments)?.stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("no input")?.write_all(input)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{arguments:?}");
        Ok(output.stdout)
    };
    let encrypted = piped(&["encrypt", "--key", &key_id], content)?;
    ensure!(piped(&["decrypt", "-"], &encrypted)? == content);
    ensure!(piped(&["encrypt", "--key", &key_id, "-o", "message.enc"], content)?.is_empty());
    ensure!(cluster.twinkeep(&["decrypt", "message.enc"])?.as_bytes() == content);
    let again = cluster.try_twinkeep(&["decrypt", "message.enc", "-o", "message.enc"])?;
    ensure!(!again.status.success(), "a file was replaced without --force");

    let bare = piped(&["encrypt", "--key", &key_id, "--raw"], content)?;
    ensure!(bare.first() == Some(&0xcb), "a bare ciphertext");
    ensure!(piped(&["decrypt"], &bare)? == content);
    let text = piped(&["encrypt", "--key", &key_id, "--base64"], content)?;
    ensure!(piped(&["decrypt", "--base64"], &text)? == content);
    Ok(())
}

fn twinkeep(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(program("twinkeep")?);
    command
        .args(arguments)
        .env("TWINKEEP_HOME", cluster.path(""))
        .current_dir(cluster.path(""))
        .stdin(Stdio::piped());
    Ok(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_command_leaves_no_file() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let key_id = cluster.first_key()?;
    fs::create_dir(cluster.path("out"))?;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        // It waits for more input when the signal comes.
        let mut child =
            twinkeep(&cluster, &["encrypt", "--key", &key_id, "-o", "out/file"])?.spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        input.write_all(&vec![7; 3 << 20])?;
        wait_until("nothing was begun", || {
            fs::read_dir(cluster.path("out")).is_ok_and(|names| names.count() == 1)
        })?;
        kill_process(pid(&child)?, signal)?;
        let ended = child.wait()?;
        ensure!(ended.code() == Some(code), "{ended}");
        let left: Vec<_> = fs::read_dir(cluster.path("out"))?.collect::<Result<_, _>>()?;
        ensure!(left.is_empty(), "{left:?}");
    }
    Ok(())
}

fn wait_until(what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !done() {
        ensure!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn pid(child: &Child) -> anyhow::Result<Pid> {
    Pid::from_raw(i32::try_from(child.id())?).context("no process id")
}

/// Runs `twinkeep` to its end; returns the most memory that it had, in KiB.
fn most_memory_kib(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<u64> {
    let mut child = twinkeep(cluster, arguments)?.spawn()?;
    drop(child.stdin.take());
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        most = most.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    ensure!(child.wait()?.success(), "twinkeep {}", arguments.join(" "));
    ensure!(most > 0, "the memory was not seen");
    Ok(most)
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_whatever_the_size() -> anyhow::Result<()> {
    let gib = std::env::var("TWINKEEP_TEST_FILE_GIB").ok().and_then(|gib| gib.parse().ok());
    let len = gib.unwrap_or(BIG_GIB) << 30;
    let cluster = Cluster::start().await?;
    let key_id = cluster.first_key()?;
    // Sparse, with something to recognise at both ends and in the middle.
    let mut file = File::create(cluster.path("big"))?;
    file.set_len(len)?;
    for at in [0, len / 2, len - 4] {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(b"mark")?;
    }
    let began = Instant::now();
    let encrypting = most_memory_kib(&cluster, &["encrypt", "--key", &key_id, "big"])?;
    let encrypted_in = began.elapsed();
    fs::remove_file(cluster.path("big"))?;
    let began = Instant::now();
    let decrypting = most_memory_kib(&cluster, &["decrypt", "big.twinkeep"])?;
    println!(
        "{} GiB: encrypted in {:.1} s and {:.1} MiB of memory, decrypted in {:.1} s and {:.1} MiB",
        len >> 30,
        encrypted_in.as_secs_f64(),
        encrypting as f64 / 1024.0,
        began.elapsed().as_secs_f64(),
        decrypting as f64 / 1024.0
    );
    ensure!(encrypting < RSS_KIB_MAX && decrypting < RSS_KIB_MAX, "over {RSS_KIB_MAX} KiB");
    let mut file = File::open(cluster.path("big"))?;
    ensure!(file.metadata()?.len() == len, "another length");
    for at in [0, len / 2, len - 4] {
        let mut mark = [0; 4];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut mark)?;
        ensure!(mark == *b"mark", "another content at {at}");
    }
    Ok(())
}
