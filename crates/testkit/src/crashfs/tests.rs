use std::fs::{self, File, OpenOptions};
use std::io::Write;

use super::*;

/// A mounted file system. Fails where there can be none, unless told to skip: a test that did not run
/// must not look like one that did.
fn mounted() -> Option<CrashFs> {
    let error = match CrashFs::mount() {
        Ok(fs) => return Some(fs),
        Err(error) => error,
    };
    let may_skip = std::env::var_os("TWINKEEP_NO_FUSE").is_some_and(|value| value == "1");
    assert!(
        may_skip,
        "no FUSE here: {error}. Install fuse3 and allow /dev/fuse, or skip with TWINKEEP_NO_FUSE=1"
    );
    println!("skipped, as TWINKEEP_NO_FUSE says: no FUSE here: {error}");
    None
}

fn sync_dir(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

fn write_synced(path: &Path, contents: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(contents).unwrap();
    file.sync_all().unwrap();
    sync_dir(path.parent().unwrap());
}

#[test]
fn synced_files_survive_every_crash() {
    let Some(mut fs) = mounted() else { return };
    let path = fs.path().join("dir/file");
    fs::create_dir(fs.path().join("dir")).unwrap();
    sync_dir(fs.path());
    write_synced(&path, b"synced");
    for seed in 0..50 {
        fs.crash(seed).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"synced", "seed {seed}");
    }
}

#[test]
fn unsynced_writes_are_lost_kept_or_torn() {
    let Some(mut fs) = mounted() else { return };
    let path = fs.path().join("file");
    let (old, new) = (vec![1; 20_000], vec![2; 20_000]);
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..100 {
        write_synced(&path, &old);
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all(&new[..9_000]).unwrap();
        file.write_all(&new[9_000..]).unwrap();
        drop(file);
        fs.crash(seed).unwrap();
        let left = fs::read(&path).unwrap();
        assert_eq!(left.len(), old.len());
        assert!(left.iter().all(|byte| matches!(byte, 1 | 2)));
        match left.iter().filter(|byte| **byte == 2).count() {
            0 => lost += 1,
            20_000 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 0 && kept > 0 && torn > 0, "lost {lost}, kept {kept}, torn {torn}");
}

#[test]
fn synced_file_without_a_synced_entry_can_be_lost() {
    let Some(mut fs) = mounted() else { return };
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..30 {
        let path = fs.path().join(format!("file {seed}"));
        File::create(&path).unwrap().sync_all().unwrap();
        fs.crash(seed).unwrap();
        if path.exists() { kept += 1 } else { lost += 1 }
    }
    assert!(lost > 0 && kept > 0, "lost {lost}, kept {kept}");
}

#[test]
fn unsynced_rename_leaves_the_old_file_or_the_new() {
    let Some(mut fs) = mounted() else { return };
    let (path, beside) = (fs.path().join("file"), fs.path().join("new"));
    let (mut old, mut new) = (0, 0);
    for seed in 0..30 {
        write_synced(&path, b"old");
        write_synced(&beside, b"new");
        fs::rename(&beside, &path).unwrap();
        fs.crash(seed).unwrap();
        match fs::read(&path).unwrap().as_slice() {
            b"old" => old += 1,
            b"new" => new += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(old > 0 && new > 0, "old {old}, new {new}");
}

#[test]
fn removed_files_may_come_back_until_the_directory_is_synced() {
    let Some(mut fs) = mounted() else { return };
    let path = fs.path().join("file");
    let mut back = 0;
    for seed in 0..20 {
        write_synced(&path, b"x");
        fs::remove_file(&path).unwrap();
        fs.crash(seed).unwrap();
        back += usize::from(path.exists());
    }
    assert!(back > 0);
    write_synced(&path, b"x");
    fs::remove_file(&path).unwrap();
    sync_dir(fs.path());
    fs.crash(0).unwrap();
    assert!(!path.exists());
}

#[test]
fn nothing_changes_after_the_power_is_cut() {
    let Some(mut fs) = mounted() else { return };
    let path = fs.path().join("file");
    write_synced(&path, b"before");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    fs.cut_after(1);
    file.write_all(b" in time").unwrap();
    assert!(fs.is_cut());
    file.sync_all().unwrap_err();
    file.write_all(b" late").unwrap_err();
    File::create(fs.path().join("other")).unwrap_err();
    drop(file);
    fs.crash(1).unwrap();
    assert!(fs::read(&path).unwrap().starts_with(b"before"));
    assert!(!fs.path().join("other").exists());
    write_synced(&path, b"the power is back");
}

#[test]
fn same_seed_leaves_the_same() {
    let Some(mut fs) = mounted() else { return };
    let path = fs.path().join("file");
    let mut after = |seed| {
        write_synced(&path, &[0; 50_000]);
        OpenOptions::new().write(true).open(&path).unwrap().write_all(&[1; 50_000]).unwrap();
        fs.crash(seed).unwrap();
        fs::read(&path).unwrap()
    };
    for seed in 0..10 {
        assert!(after(seed) == after(seed), "seed {seed}");
    }
}

#[test]
fn dropping_unmounts() {
    let Some(fs) = mounted() else { return };
    let path = fs.path().display().to_string();
    let is_mounted = || fs::read_to_string("/proc/self/mounts").unwrap().contains(&path);
    assert!(is_mounted());
    drop(fs);
    assert!(!is_mounted());
}
