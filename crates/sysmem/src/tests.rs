//! What one process can see of itself, and what must kill it: the latter in child processes, which
//! are this test binary again with a role in the environment.
#![expect(unsafe_code, reason = "fork and setrlimit for the children")]

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};

use super::*;
use crate::arena::SLOT_BYTES;
use crate::mapping::Mapping;

const ROLE: &str = "TWINKEEP_SYSMEM_ROLE";

fn arenas() -> Vec<Arena> {
    let mut all = vec![Arena::over(Mapping::locked(1).unwrap())];
    match Mapping::secret(1) {
        Ok(mapping) => all.push(Arena::over(mapping)),
        Err(e) => println!("skipped: no memfd_secret on this kernel: {e}"),
    }
    all
}

#[test]
fn secret_is_readable_while_owned_and_zero_after_drop() {
    for arena in arenas() {
        let secret = arena.protect::<32>(|slot| slot.fill(0xa5)).unwrap();
        assert_eq!(secret.danger_expose(), &[0xa5; 32]);
        assert_eq!(arena.peek(0)[..32], [0xa5; 32], "the secret lives in its slot");
        drop(secret);
        assert_eq!(arena.peek(0), [0; SLOT_BYTES], "{}", arena.protection());
    }
}

#[test]
fn slot_is_wiped_when_filling_panics() {
    let arena = Arena::new(1).unwrap();
    let filling = catch_unwind(AssertUnwindSafe(|| {
        arena.protect::<64>(|slot| {
            slot.fill(0x5a);
            panic!("no entropy");
        })
    }));
    assert!(filling.is_err());
    assert_eq!(arena.peek(0), [0; SLOT_BYTES]);
}

#[test]
fn full_arena_refuses_and_a_dropped_slot_serves_again() {
    let arena = Arena::new(1).unwrap();
    let mut held: Vec<_> =
        (0..arena.slots()).map(|_| arena.protect::<1>(|_| ()).unwrap()).collect();
    assert!(matches!(arena.protect::<1>(|_| ()), Err(ArenaError::Full { .. })));
    held.pop();
    arena.protect::<1>(|_| ()).unwrap();
}

#[test]
fn slots_do_not_overlap() {
    let arena = Arena::new(1).unwrap();
    let held: Vec<_> = (0..arena.slots())
        .map(|i| arena.protect::<64>(|slot| slot.fill(i as u8)).unwrap())
        .collect();
    for (i, secret) in held.iter().enumerate() {
        assert_eq!(secret.danger_expose(), &[i as u8; 64]);
    }
}

#[test]
fn debug_shows_the_length_alone() {
    let arena = Arena::new(1).unwrap();
    let secret = arena.protect::<32>(|slot| slot.fill(0x41)).unwrap();
    assert_eq!(format!("{secret:?}"), "Protected(32 bytes)");
}

#[test]
fn arena_says_which_protection_is_in_force() {
    let strongest =
        if Mapping::secret(1).is_ok() { Protection::MemfdSecret } else { Protection::Locked };
    assert_eq!(Arena::new(1).unwrap().protection(), strongest);
    assert_eq!(Arena::over(Mapping::locked(1).unwrap()).protection(), Protection::Locked);
}

#[test]
fn pages_are_locked_and_left_out_of_dumps() {
    for arena in arenas() {
        let flags = vm_flags(&arena);
        assert!(flags.contains("lo"), "not locked: {flags}");
        assert!(flags.contains("dd"), "would be dumped: {flags}");
        assert!(flags.contains("dc"), "a fork would copy it: {flags}");
    }
}

/// Returns the `VmFlags` line of the pages in `/proc/self/smaps`.
fn vm_flags(arena: &Arena) -> String {
    let start = format!("{:x}-", arena.start_address());
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = smaps.lines().skip_while(|l| !l.starts_with(&start));
    lines.find(|l| l.starts_with("VmFlags")).expect("the pages are mapped").to_owned()
}

#[test]
fn a_step_over_either_end_kills_the_process() {
    for role in ["before", "after"] {
        assert_eq!(child(role).status.signal(), Some(libc::SIGSEGV), "{role}");
    }
    assert!(child("inside").status.success(), "the last usable byte is readable");
}

#[test]
fn hardened_process_leaves_no_core() {
    let output = child("abort");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    assert!(!output.status.core_dumped());
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("dumpable=false core_size_max=0"), "{told}");
}

#[test]
fn forked_child_does_not_have_the_pages() {
    assert!(child("fork").status.success());
}

fn child(role: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::child_process", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap()
}

/// Plays the role that a parent test asked for; does nothing in an ordinary run.
#[test]
fn child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let arena = Arena::new(1).unwrap();
    let end = arena.len() as isize;
    match role.as_str() {
        "before" => drop(arena.danger_touch(-1)),
        "after" => drop(arena.danger_touch(end)),
        "inside" => drop(arena.danger_touch(end - 1)),
        "abort" => abort_hardened(),
        "fork" => fork_and_touch(&arena),
        other => panic!("unknown role {other}"),
    }
}

fn abort_hardened() {
    let most = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `most` outlives the call. It may fail for want of rights; the limit then stays.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const most) };
    process::harden().unwrap();
    println!(
        "dumpable={} core_size_max={}",
        process::is_dumpable().unwrap(),
        process::core_size_max().unwrap()
    );
    std::process::abort();
}

fn fork_and_touch(arena: &Arena) {
    // SAFETY: the forked child only reads one byte and leaves; it takes no lock.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        arena.danger_touch(0);
        // SAFETY: leaves at once; reached only if the pages were inherited.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place and `pid` is our child.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV);
}
