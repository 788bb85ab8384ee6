//! Where the cluster is and who calls.
//!
//! In this order: `--config` or `$TWINKEEP_CONFIG`; the development cluster in `$TWINKEEP_HOME` or
//! `.dev`; `~/.config/twinkeep/config.toml`. Options on the command line replace single values of it.
//!
//! ```toml
//! endpoints = [{ zone = "zone-a", address = "10.0.1.11:7100" }, { address = "10.0.2.11:7100" }]
//! zone = "zone-a"                  # the zone that this machine is in
//! root = "endpoint-root.pem"       # paths are relative to this file
//! certificate = "app.pem"
//! private-key = "app.key"
//! ```

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use twinkeep_client::{Builder, Client};

use crate::dev::layout::Layout;
use crate::output::Format;

/// Who calls in a development cluster unless `--as` says otherwise.
const DEV_CALLER: &str = "app";

/// Where the cluster is, who calls, and how to print.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster and output")]
pub(crate) struct Context {
    /// Configuration file; without it the development cluster in $TWINKEEP_HOME or .dev, then
    /// ~/.config/twinkeep/config.toml.
    #[arg(long, env = "TWINKEEP_CONFIG", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A node to call instead of the configured ones; may be given several times.
    #[arg(long = "endpoint", global = true, value_name = "ADDRESS:PORT")]
    endpoints: Vec<String>,
    /// Root certificates that endpoints are checked against, PEM.
    #[arg(long, global = true, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The caller's certificate, PEM.
    #[arg(long, global = true, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// The caller's private key, PEM.
    #[arg(long, global = true, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Who calls, in a development cluster: `app` or `admin`.
    #[arg(long = "as", id = "as", global = true, value_name = "CALLER")]
    caller: Option<String>,
    /// Time for the call, retries included.
    #[arg(long, global = true, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// How to print.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    endpoints: Vec<Endpoint>,
    zone: Option<String>,
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    private_key: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Endpoint {
    zone: Option<String>,
    address: String,
}

impl Context {
    /// Returns how to print.
    pub(crate) fn format(&self) -> Format {
        self.output
    }

    /// Makes the client.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(self.connect()?.0)
    }

    /// Makes the client, and returns the addresses that were configured.
    pub(crate) fn connect(&self) -> anyhow::Result<(Client, Vec<String>)> {
        let config = self.overlaid(self.load()?);
        if config.endpoints.is_empty() {
            bail!(
                "no cluster is configured: start one with `twinkeep dev up`, or name a file with `--config`, or give \
                 `--endpoint`, `--root`, `--certificate` and `--private-key`"
            );
        }
        let addresses = config.endpoints.iter().map(|node| node.address.clone()).collect();
        let client = config.builder().build().context("cannot make a client")?;
        let client = match self.timeout {
            Some(seconds) => client.with_deadline(Duration::from_secs(seconds)),
            None => client,
        };
        Ok((client, addresses))
    }

    fn load(&self) -> anyhow::Result<Config> {
        if let Some(path) = &self.config {
            return Config::read(path);
        }
        let home = env::var_os("TWINKEEP_HOME").map_or_else(|| ".dev".into(), PathBuf::from);
        if let Some(layout) = Layout::load(&home)? {
            return self.dev(&layout);
        }
        if self.caller.is_some() {
            bail!("`--as` is for a development cluster, and there is none in {}", home.display());
        }
        let own =
            env::var_os("HOME").map(|home| Path::new(&home).join(".config/twinkeep/config.toml"));
        match own.filter(|path| path.exists()) {
            Some(path) => Config::read(&path),
            None => Ok(Config::default()),
        }
    }

    fn dev(&self, layout: &Layout) -> anyhow::Result<Config> {
        let caller = self.caller.as_deref().unwrap_or(DEV_CALLER);
        let callers = layout.path("callers");
        let certificate = callers.join(format!("{caller}.pem"));
        if !certificate.exists() {
            bail!(
                "the development cluster has no caller `{caller}`: {} is missing",
                certificate.display()
            );
        }
        let nodes = layout.nodes().iter().filter(|node| !node.witness);
        let endpoints = nodes.map(|node| Endpoint {
            zone: Some(node.zone.clone()),
            address: node.client_address.to_string(),
        });
        Ok(Config {
            endpoints: endpoints.collect(),
            zone: None,
            root: Some(callers.join("endpoint-root.pem")),
            private_key: Some(callers.join(format!("{caller}.key"))),
            certificate: Some(certificate),
        })
    }

    fn overlaid(&self, mut config: Config) -> Config {
        if !self.endpoints.is_empty() {
            let given = self.endpoints.iter().cloned();
            config.endpoints = given.map(|address| Endpoint { zone: None, address }).collect();
        }
        config.root = self.root.clone().or(config.root);
        config.certificate = self.certificate.clone().or(config.certificate);
        config.private_key = self.private_key.clone().or(config.private_key);
        config
    }
}

impl Config {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self = toml::from_str(&text)
            .with_context(|| format!("{} is not understood", path.display()))?;
        Ok(config.beside(path))
    }

    /// Takes paths as relative to the file that they stand in.
    fn beside(self, path: &Path) -> Self {
        let folder = path.parent().unwrap_or(Path::new(""));
        let absolute = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Self {
            root: absolute(self.root),
            certificate: absolute(self.certificate),
            private_key: absolute(self.private_key),
            ..self
        }
    }

    fn builder(self) -> Builder {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_the_manual_is_understood_and_its_paths_are_beside_it() {
        let manual = include_str!("context.rs").split("```").nth(1).unwrap();
        let text: String = manual
            .lines()
            .skip(1)
            .map(|line| line.trim_start_matches("//!").to_owned() + "\n")
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        let config = Config::read(&path).unwrap();
        assert_eq!(config.endpoints.len(), 2);
        assert_eq!(config.root.unwrap(), folder.path().join("endpoint-root.pem"));
        assert_eq!(config.private_key.unwrap(), folder.path().join("app.key"));
    }

    #[test]
    fn unknown_field_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "endpoints = []\npassword = \"x\"\n").unwrap();
        assert!(Config::read(&path).unwrap_err().to_string().contains("config.toml"));
    }
}
