//! Namespaces of runs that were killed: they are named after the process that made them.

use std::path::Path;

use super::namespace::{FOLDER, Namespace};

/// What all names of our namespaces begin with.
const BEGINNING: &str = "tkfo-";

/// Returns what the names of this process's namespaces begin with.
pub(super) fn beginning() -> String {
    format!("{BEGINNING}{}", std::process::id())
}

/// Removes what dead processes have left, with the nodes that still run in it.
pub(super) fn remove() -> anyhow::Result<()> {
    // Nobody has made any yet where the folder is missing.
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            println!("removing the network namespace {name}, which a killed run has left");
            Namespace::left_behind(name).remove()?;
        }
    }
    Ok(())
}

/// Returns the process that made a namespace, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(BEGINNING)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_have_an_owner() {
        assert_eq!(owner("tkfo-4711-a"), Some(4711));
        assert_eq!(owner(&format!("{}-router", beginning())), Some(std::process::id()));
        for foreign in ["cni-4711-a", "tkfo-", "tkfo-x-a", "4711"] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
