//! Changes of the configuration file. What a person wrote there, comments too, stays as it is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value, value};

use super::file::{Config, DEFAULT, Endpoint, File};
use crate::output::replace;

/// Fields of a cluster in a file without names.
const FIELDS: [&str; 5] = ["endpoints", "zone", "root", "certificate", "private-key"];

/// A configuration file that is being changed.
pub(crate) struct Edit {
    path: PathBuf,
    document: DocumentMut,
    /// Whether the file had one cluster without a name, which has got one.
    pub(crate) named: bool,
}

impl Edit {
    /// Opens a file; a missing one is made when the change is saved. A cluster without a name gets one.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        // Read as every command reads it, so that nothing is changed in a file that is not understood.
        let named = File::read_if_there(path)?.unnamed;
        let text = if path.exists() { fs::read_to_string(path)? } else { String::new() };
        let mut document: DocumentMut = text.parse()?;
        if named {
            let mut table = Table::new();
            for field in FIELDS {
                if let Some((key, item)) = document.remove_entry(field) {
                    table.insert_formatted(&key, item);
                }
            }
            contexts(&mut document)?.insert(DEFAULT, Item::Table(table));
            document.insert("current-context", value(DEFAULT));
        }
        Ok(Self { path: path.to_owned(), document, named })
    }

    /// Makes a context the one that is used unless another is named.
    pub(crate) fn make_current(&mut self, name: &str) {
        self.document.insert("current-context", value(name));
    }

    /// Returns the current context.
    pub(crate) fn current(&self) -> Option<&str> {
        self.document.get("current-context")?.as_str()
    }

    /// Sets what is given of a context, making it if need be; the rest of it stays.
    pub(crate) fn set(&mut self, name: &str, given: &Config) -> anyhow::Result<()> {
        let entry = contexts(&mut self.document)?.entry(name).or_insert(Item::Table(Table::new()));
        let table = entry.as_table_like_mut().context("a context is no table")?;
        if !given.endpoints.is_empty() {
            let endpoints: Array = given.endpoints.iter().map(inline).collect();
            table.insert("endpoints", value(endpoints));
        }
        if let Some(zone) = &given.zone {
            table.insert("zone", value(zone));
        }
        let files = [
            ("root", &given.root),
            ("certificate", &given.certificate),
            ("private-key", &given.private_key),
        ];
        for (field, path) in files {
            let Some(path) = path else { continue };
            // Named on the command line, it is relative to where that was.
            let path = std::path::absolute(path)?;
            let text = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
            table.insert(field, value(text));
        }
        Ok(())
    }

    /// Takes a context out. Afterwards none is current if it was.
    pub(crate) fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        if contexts(&mut self.document)?.remove(name).is_none() {
            bail!("there is no context `{name}`; see `twinkeep context list`");
        }
        if self.current() == Some(name) {
            self.document.remove("current-context");
        }
        Ok(())
    }

    /// Writes the file, whole or not at all, for its owner alone.
    pub(crate) fn save(self) -> anyhow::Result<()> {
        let text = self.document.to_string();
        File::parse(&text).context("the change would leave a file that is not understood")?;
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            crate::init::private_folder(folder)?;
        }
        replace(&self.path, text.as_bytes(), 0o600)
    }
}

fn contexts(document: &mut DocumentMut) -> anyhow::Result<&mut dyn toml_edit::TableLike> {
    let mut fresh = Table::new();
    // `[contexts]` alone says nothing: `[contexts.prod]` is enough.
    fresh.set_implicit(true);
    let entry = document.entry("contexts").or_insert(Item::Table(fresh));
    entry.as_table_like_mut().context("`contexts` is no table")
}

fn inline(endpoint: &Endpoint) -> Value {
    let mut table = InlineTable::new();
    if let Some(zone) = &endpoint.zone {
        table.insert("zone", zone.into());
    }
    table.insert("address", (&endpoint.address).into());
    Value::InlineTable(table)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn prod() -> Config {
        Config {
            endpoints: vec![Endpoint::parse("a=10.0.1.11:7100").unwrap()],
            root: Some("/etc/root.pem".into()),
            ..Config::default()
        }
    }

    #[test]
    fn context_is_set_changed_and_removed_and_comments_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twinkeep").join("config.toml");
        let mut edit = Edit::open(&path).unwrap();
        edit.set("prod", &prod()).unwrap();
        edit.make_current("prod");
        edit.save().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("# mine\n{text}# the end\n")).unwrap();

        let mut edit = Edit::open(&path).unwrap();
        edit.set("prod", &Config { zone: Some("a".to_owned()), ..Config::default() }).unwrap();
        edit.set("test", &prod()).unwrap();
        edit.save().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("# mine") && text.contains("# the end"), "{text}");
        let file = File::read(&path).unwrap();
        assert_eq!(file.current.as_deref(), Some("prod"));
        let config = &file.contexts["prod"];
        assert_eq!(config.endpoints, prod().endpoints);
        assert_eq!(config.zone.as_deref(), Some("a"));

        let mut edit = Edit::open(&path).unwrap();
        edit.remove("prod").unwrap();
        assert!(edit.remove("prod").is_err());
        edit.save().unwrap();
        let file = File::read(&path).unwrap();
        assert_eq!((file.current, file.contexts.len()), (None, 1));
    }

    #[test]
    fn cluster_without_a_name_gets_one_and_keeps_what_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let old =
            "# ours\nendpoints = [{ address = \"10.0.1.11:7100\" }] # one\nroot = \"r.pem\"\n";
        fs::write(&path, old).unwrap();
        let mut edit = Edit::open(&path).unwrap();
        assert!(edit.named && edit.current() == Some(DEFAULT));
        edit.set("prod", &prod()).unwrap();
        edit.save().unwrap();
        let file = File::read(&path).unwrap();
        assert_eq!(file.contexts.len(), 2);
        assert_eq!(file.contexts[DEFAULT].root, Some(folder.path().join("r.pem")));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("# ours") && text.contains("# one"), "{text}");
    }

    #[test]
    fn file_that_is_not_understood_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "endpoints = []\nsecret = 1\n").unwrap();
        assert!(Edit::open(&path).is_err());
    }
}
