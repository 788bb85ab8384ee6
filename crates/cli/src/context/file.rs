//! The configuration file: one cluster, or several with a name each.
//!
//! One cluster:
//!
//! ```toml
//! endpoints = [{ zone = "zone-a", address = "10.0.1.11:7100" }, { address = "10.0.2.11:7100" }]
//! zone = "zone-a"                  # the zone that this machine is in
//! root = "endpoint-root.pem"       # paths are relative to this file
//! certificate = "app.pem"
//! private-key = "app.key"
//! ```
//!
//! Several, as `twinkeep context set` writes them; [`edit`](super::edit) changes them:
//!
//! ```toml
//! current-context = "prod"
//!
//! [contexts.prod]
//! endpoints = [{ zone = "zone-a", address = "10.0.1.11:7100" }]
//! root = "prod/endpoint-root.pem"
//! certificate = "prod/app.pem"
//! private-key = "prod/app.key"
//! ```
//!
//! A file of the first form counts as one context, called `default`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use twinkeep_client::{Builder, Client};

/// What the one cluster of a file without names is called.
pub(crate) const DEFAULT: &str = "default";
/// What the development cluster is called; no context of a file may be.
pub(crate) const DEV: &str = "dev";
/// Longest name of a context, in bytes.
const NAME_LEN_MAX: usize = 64;

/// One cluster and who calls it.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) zone: Option<String>,
    pub(crate) root: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) private_key: Option<PathBuf>,
}

/// A node to call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Endpoint {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    pub(crate) address: String,
}

/// All contexts of a file.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// The one that is used unless another is named.
    pub(crate) current: Option<String>,
    /// Whether the file has the form without names.
    pub(crate) unnamed: bool,
    pub(crate) contexts: BTreeMap<String, Config>,
}

/// What may stand in a file: either form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Text {
    current_context: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Config>,
    endpoints: Option<Vec<Endpoint>>,
    zone: Option<String>,
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    private_key: Option<PathBuf>,
}

impl File {
    /// Reads a file; its paths are taken as relative to where it lies.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file =
            Self::parse(&text).with_context(|| format!("{} is not understood", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let contexts =
            file.contexts.into_iter().map(|(name, config)| (name, config.beside(folder)));
        Ok(Self { contexts: contexts.collect(), ..file })
    }

    /// Reads a file that may be missing: then it has no contexts.
    pub(crate) fn read_if_there(path: &Path) -> anyhow::Result<Self> {
        if path.exists() { Self::read(path) } else { Ok(Self::default()) }
    }

    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let Text { current_context, contexts, endpoints, zone, root, certificate, private_key } =
            toml::from_str(text)?;
        for name in contexts.keys() {
            check_name(name)?;
        }
        let others = zone.is_some() || root.is_some() || certificate.is_some();
        let Some(endpoints) = endpoints else {
            if others || private_key.is_some() {
                bail!("`endpoints` is missing beside `root` and the others");
            }
            return Ok(Self { current: current_context, unnamed: false, contexts });
        };
        if !contexts.is_empty() || current_context.is_some() {
            bail!("put the cluster at the top of the file under a name, `[contexts.{DEFAULT}]`");
        }
        let config = Config { endpoints, zone, root, certificate, private_key };
        let contexts = BTreeMap::from([(DEFAULT.to_owned(), config)]);
        Ok(Self { current: Some(DEFAULT.to_owned()), unnamed: true, contexts })
    }

    /// Takes a context out by its name.
    pub(crate) fn take(mut self, name: &str, path: &Path) -> anyhow::Result<Config> {
        let names = self.contexts.keys().cloned().collect::<Vec<_>>().join(", ");
        self.contexts.remove(name).with_context(|| {
            let there = if names.is_empty() { "none".to_owned() } else { names };
            format!(
                "there is no context `{name}` in {}; there is {there}. See `twinkeep context list`",
                path.display()
            )
        })
    }
}

/// Refuses what could not be typed as a name or is taken.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(allowed) {
        bail!(
            "`{name}` is no name of a context: take 1 to {NAME_LEN_MAX} of a-z, 0-9, `-`, `_`, `.`"
        );
    }
    if name == DEV {
        bail!("`{DEV}` is the development cluster; take another name");
    }
    Ok(())
}

impl Config {
    /// Takes paths as relative to a folder.
    fn beside(self, folder: &Path) -> Self {
        let absolute = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Self {
            root: absolute(self.root),
            certificate: absolute(self.certificate),
            private_key: absolute(self.private_key),
            ..self
        }
    }

    /// Describes the client.
    pub(crate) fn builder(self) -> Builder {
        // A command is over before the topology could tell it anything.
        let mut builder = Client::builder().follow_topology(false);
        for Endpoint { zone, address } in self.endpoints {
            builder = match zone {
                Some(zone) => builder.endpoint_in(zone, address),
                None => builder.endpoint(address),
            };
        }
        if let Some(zone) = self.zone {
            builder = builder.zone(zone);
        }
        if let Some(root) = self.root {
            builder = builder.root_file(root);
        }
        if let (Some(certificate), Some(key)) = (self.certificate, self.private_key) {
            builder = builder.identity_files(certificate, key);
        }
        builder
    }
}

impl Endpoint {
    /// Reads `ADDRESS:PORT` or `ZONE=ADDRESS:PORT`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (zone, address) = match text.split_once('=') {
            Some((zone, address)) => (Some(zone.to_owned()), address),
            None => (None, text),
        };
        if zone.as_deref() == Some("") || !address.contains(':') {
            return Err("write ADDRESS:PORT or ZONE=ADDRESS:PORT".to_owned());
        }
        Ok(Self { zone, address: address.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an example of the manual above.
    fn manual(number: usize) -> String {
        let text = include_str!("file.rs").split("```").nth(2 * number + 1).unwrap();
        let lines =
            text.lines().skip(1).map(|line| line.trim_start_matches("//!").to_owned() + "\n");
        lines.collect()
    }

    fn read(text: &str) -> (tempfile::TempDir, anyhow::Result<File>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        let file = File::read(&path);
        (folder, file)
    }

    #[test]
    fn files_of_the_manual_are_understood_and_their_paths_are_beside_them() {
        let (folder, file) = read(&manual(0));
        let file = file.unwrap();
        assert!(file.unnamed && file.current.as_deref() == Some(DEFAULT));
        let config = &file.contexts[DEFAULT];
        assert_eq!(config.endpoints.len(), 2);
        assert_eq!(*config.root.as_ref().unwrap(), folder.path().join("endpoint-root.pem"));

        let (folder, file) = read(&manual(1));
        let file = file.unwrap();
        assert!(!file.unnamed && file.current.as_deref() == Some("prod"));
        let key = file.contexts["prod"].private_key.as_ref().unwrap();
        assert_eq!(*key, folder.path().join("prod/app.key"));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_file_named() {
        for text in [
            "endpoints = []\npassword = \"x\"\n",
            "endpoints = []\ncurrent-context = \"prod\"\n",
            "root = \"x\"\n",
            "[contexts.dev]\nendpoints = []\n",
            "[contexts.\"a b\"]\nendpoints = []\n",
            "[contexts.prod]\nendpoint = []\n",
        ] {
            let error = read(text).1.unwrap_err().to_string();
            assert!(error.contains("config.toml"), "{text}: {error}");
        }
    }

    #[test]
    fn unknown_context_is_answered_with_those_that_exist() {
        let file = read(&manual(1)).1.unwrap();
        let error = file.take("test", Path::new("config.toml")).unwrap_err().to_string();
        assert!(error.contains("there is prod") && error.contains("context list"), "{error}");
    }

    #[test]
    fn endpoint_may_name_its_zone() {
        let endpoint = |zone: Option<&str>| Endpoint {
            zone: zone.map(str::to_owned),
            address: "10.0.1.11:7100".to_owned(),
        };
        assert_eq!(Endpoint::parse("10.0.1.11:7100"), Ok(endpoint(None)));
        assert_eq!(Endpoint::parse("a=10.0.1.11:7100"), Ok(endpoint(Some("a"))));
        assert!(Endpoint::parse("=10.0.1.11:7100").is_err());
        assert!(Endpoint::parse("10.0.1.11").is_err());
    }
}
