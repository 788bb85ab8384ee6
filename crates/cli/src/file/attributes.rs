//! Mode and time of modification, there and back.

use std::fs::{File, FileTimes, Metadata as Lying, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use twinkeep_client::file::{FileName, Metadata, Modified};

/// What is given back: no set-user-id, set-group-id or sticky bit, since the file may come from somebody else.
const RESTORED_BITS: u32 = 0o777;

/// What an encrypted file gets of the mode of its plaintext: nobody executes it.
const ENCRYPTED_BITS: u32 = 0o666;

/// Notes how a file lies, to be kept encrypted beside its content.
pub(super) fn noted(path: &Path, lying: &Lying) -> Metadata {
    Metadata {
        name: path.file_name().and_then(|name| FileName::parse(name.as_bytes()).ok()),
        mode: u16::try_from(lying.mode() & 0o7777).ok(),
        modified: Some(Modified {
            seconds: lying.mtime(),
            nanos: u32::try_from(lying.mtime_nsec()).unwrap_or_default(),
        }),
    }
}

/// Lets an encrypted file be read by those who could read the plaintext.
pub(super) fn show_encrypted(file: &File, lying: Option<&Lying>) -> io::Result<()> {
    let mode = lying.map_or(0o644, |lying| lying.mode() & ENCRYPTED_BITS);
    file.set_permissions(Permissions::from_mode(mode))
}

/// Gives a file its mode and time back, as far as they are stored and can be had here.
pub(super) fn restore(file: &File, stored: &Metadata) -> io::Result<()> {
    // The time first: a mode without write permission would not stop it, but an order that is safe costs nothing.
    if let Some(time) = stored.modified.and_then(system_time) {
        file.set_times(FileTimes::new().set_modified(time))?;
    }
    if let Some(mode) = stored.mode {
        file.set_permissions(Permissions::from_mode(u32::from(mode) & RESTORED_BITS))?;
    }
    Ok(())
}

fn system_time(Modified { seconds, nanos }: Modified) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(whole),
        _ => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    time?.checked_add(Duration::from_nanos(nanos.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_time_come_back_to_the_nanosecond() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        for (seconds, nanos, mode) in [(1_800_000_000, 123_456_789, 0o640), (-86_400, 1, 0o4755)] {
            let file = File::create(&old).unwrap();
            let modified = Modified { seconds, nanos };
            let times = FileTimes::new().set_modified(system_time(modified).unwrap());
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            file.set_times(times).unwrap();
            let noted = noted(&old, &file.metadata().unwrap());
            assert_eq!(noted.modified, Some(modified));
            assert_eq!(noted.mode.map(u32::from), Some(mode));
            assert_eq!(noted.name.as_ref().unwrap().as_bytes(), b"old");

            let file = File::create(&new).unwrap();
            restore(&file, &noted).unwrap();
            let lying = file.metadata().unwrap();
            assert_eq!((lying.mtime(), lying.mtime_nsec()), (seconds, i64::from(nanos)));
            assert_eq!(lying.mode() & 0o7777, mode & 0o777, "no set-user-id");
        }
    }

    #[test]
    fn encrypted_file_is_shown_to_nobody_who_could_not_see_the_plaintext() {
        let folder = tempfile::tempdir().unwrap();
        let plain = File::create(folder.path().join("plain")).unwrap();
        let encrypted = File::create(folder.path().join("encrypted")).unwrap();
        let mode = |file: &File| file.metadata().unwrap().mode() & 0o7777;
        plain.set_permissions(Permissions::from_mode(0o750)).unwrap();
        show_encrypted(&encrypted, Some(&plain.metadata().unwrap())).unwrap();
        assert_eq!(mode(&encrypted), 0o640);
        show_encrypted(&encrypted, None).unwrap();
        assert_eq!(mode(&encrypted), 0o644);
    }

    #[test]
    fn time_that_this_system_does_not_have_is_left_out() {
        let file = tempfile::tempfile().unwrap();
        let never = Modified { seconds: i64::MIN, nanos: 0 };
        restore(&file, &Metadata { modified: Some(never), ..Metadata::default() }).ok();
    }
}
