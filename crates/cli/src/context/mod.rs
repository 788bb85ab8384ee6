//! Where the cluster is and who calls.
//!
//! The first of these that is there:
//!
//! 1. the file of `--config` or `$TWINKEEP_CONFIG`, and in it the context of `--context` or
//!    `$TWINKEEP_CONTEXT`, else its current one;
//! 2. the context of `--context` or `$TWINKEEP_CONTEXT` in `~/.config/twinkeep/config.toml`
//!    (`$XDG_CONFIG_HOME` counts); `dev` is the development cluster;
//! 3. the development cluster in `$TWINKEEP_HOME`;
//! 4. what `twinkeep context use` chose;
//! 5. the development cluster in `.dev`;
//! 6. the one cluster of a file without names.
//!
//! Options on the command line replace single values of it. One `--endpoint` binds every call to that node.

pub(crate) mod command;
mod edit;
mod file;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use twinkeep_client::{BuildError, Client, Error};
use twinkeep_pki::credential::CredentialError;

use crate::dev::{self, layout::Layout};
use crate::exit::Advice;
use crate::output::{Format, time};
use file::{Config, DEV, Endpoint, File};

/// Who calls in a development cluster unless `--as` says otherwise.
const DEV_CALLER: &str = "app";

/// Where the cluster is, who calls, and how to print.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster and output")]
pub(crate) struct Context {
    /// Configuration file, instead of the development cluster or ~/.config/twinkeep/config.toml.
    #[arg(long, env = "TWINKEEP_CONFIG", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The context to use instead of the current one; see `twinkeep context list`.
    #[arg(long, env = "TWINKEEP_CONTEXT", global = true, value_name = "NAME")]
    context: Option<String>,
    /// A node to call instead of the configured ones. Given once, no other node is called; may be given
    /// several times.
    #[arg(
        long = "endpoint",
        global = true,
        value_name = "[ZONE=]ADDRESS:PORT",
        value_parser = Endpoint::parse
    )]
    endpoints: Vec<Endpoint>,
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

/// Where a configuration comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A context of the file.
    Named(String),
    /// A development cluster.
    Dev(Layout),
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
        let config = self.overlaid(self.load(self.context.as_deref())?.1);
        if config.endpoints.is_empty() {
            bail!(
                "no cluster is configured: start one with `twinkeep dev up`, or name one with `twinkeep context set`, or \
                 name a file with `--config`, or give `--endpoint`, `--root`, `--certificate` and `--private-key`"
            );
        }
        let addresses: Vec<_> = config.endpoints.iter().map(|node| node.address.clone()).collect();
        let certificate = config.certificate.clone().unwrap_or_default();
        let built = config.builder().build();
        let mut client = built.map_err(|error| not_built(error, &certificate))?;
        if let Some(address) = self.pinned() {
            // A client of one node learns of the leader and would call it too.
            client = client.at(address).with_context(|| format!("`{address}` is no address"))?;
        }
        if let Some(seconds) = self.timeout {
            client = client.with_deadline(Duration::from_secs(seconds));
        }
        Ok((client, addresses))
    }

    /// Returns the file of the caller's certificate, if one is configured.
    pub(crate) fn certificate_file(&self) -> anyhow::Result<Option<PathBuf>> {
        Ok(self.overlaid(self.load(self.context.as_deref())?.1).certificate)
    }

    /// Returns the development cluster of this machine that commands use, or the one in `home`; refuses any other
    /// cluster. `to_do` is what is asked for, as it is typed.
    pub(crate) fn development(
        &self,
        home: Option<&Path>,
        to_do: &'static str,
    ) -> anyhow::Result<Layout> {
        let given = self.given();
        let files = [&given.root, &given.certificate, &given.private_key];
        if !given.endpoints.is_empty() || files.into_iter().any(Option::is_some) {
            return Err(not_development("`--endpoint`, `--root` or `--certificate`", to_do));
        }
        let is_dev = self.config.is_none() && self.context.as_deref() == Some(DEV);
        let is_named = self.config.is_some() || self.context.is_some();
        if !is_dev
            && (is_named || home.is_none())
            && let Some(Source::Named(name)) = self.selected()?
        {
            return Err(not_development(&format!("the context `{name}`"), to_do));
        }
        let home = home.map_or_else(dev_home, Path::to_path_buf);
        // Processes are known by the paths on their command lines, which must not depend on where we stand.
        dev::existing(&std::path::absolute(home)?)
    }

    /// Returns the one node that calls are bound to.
    pub(crate) fn pinned(&self) -> Option<&str> {
        match &self.endpoints[..] {
            [one] => Some(&one.address),
            _ => None,
        }
    }

    /// Returns the configuration of a context, or of the one that commands use, and where it comes from.
    fn load(&self, name: Option<&str>) -> anyhow::Result<(Option<Source>, Config)> {
        let source = match name {
            Some(name) => Some(self.named(name)?),
            None => self.selected()?,
        };
        let config = match &source {
            Some(Source::Named(name)) => self.file()?.take(name, &self.file_path()?)?,
            Some(Source::Dev(layout)) => self.dev(layout)?,
            None => Config::default(),
        };
        if self.caller.is_some() && !matches!(source, Some(Source::Dev(_))) {
            bail!("`--as` is for a development cluster; another caller is another context");
        }
        Ok((source, config))
    }

    fn named(&self, name: &str) -> anyhow::Result<Source> {
        if name != DEV || self.config.is_some() {
            return Ok(Source::Named(name.to_owned()));
        }
        let layout = self.dev_layout()?;
        layout.map(Source::Dev).with_context(|| {
            format!(
                "there is no development cluster in {}; `twinkeep dev up` makes one",
                dev_home().display()
            )
        })
    }

    /// Decides where to look when no name was given on the command line; the order is that of the module.
    fn selected(&self) -> anyhow::Result<Option<Source>> {
        if let Some(name) = &self.context {
            return self.named(name).map(Some);
        }
        if self.config.is_some() {
            let current = self.file()?.current;
            return match current {
                Some(name) => Ok(Some(Source::Named(name))),
                None => bail!(
                    "no context of {} is in use: name one with `--context`",
                    self.file_path()?.display()
                ),
            };
        }
        let dev = self.dev_layout()?;
        let file = match self.file_path() {
            Ok(path) => File::read_if_there(&path)?,
            Err(_) => File::default(),
        };
        let chosen = file.current.as_ref().filter(|_| !file.unnamed);
        match (dev, chosen) {
            (Some(layout), _) if env::var_os("TWINKEEP_HOME").is_some() => {
                Ok(Some(Source::Dev(layout)))
            }
            (_, Some(name)) => self.named(name).map(Some),
            (Some(layout), None) => Ok(Some(Source::Dev(layout))),
            (None, None) => Ok(file.current.map(Source::Named)),
        }
    }

    /// Returns the file with the contexts: the one that was named, else the user's own.
    fn file_path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.config {
            return Ok(path.clone());
        }
        let folder = env::var_os("XDG_CONFIG_HOME").filter(|path| Path::new(path).is_absolute());
        let folder = folder.map(PathBuf::from).or_else(|| {
            env::var_os("HOME")
                .filter(|home| !home.is_empty())
                .map(|home| Path::new(&home).join(".config"))
        });
        let folder = folder.context("$HOME is not set: name a file with `--config`")?;
        Ok(folder.join("twinkeep/config.toml"))
    }

    /// Reads that file.
    fn file(&self) -> anyhow::Result<File> {
        match &self.config {
            Some(path) => File::read(path),
            None => File::read_if_there(&self.file_path()?),
        }
    }

    fn dev_layout(&self) -> anyhow::Result<Option<Layout>> {
        Layout::load(&dev_home())
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

    /// What the command line says of the cluster.
    fn given(&self) -> Config {
        Config {
            endpoints: self.endpoints.clone(),
            zone: None,
            root: self.root.clone(),
            certificate: self.certificate.clone(),
            private_key: self.private_key.clone(),
        }
    }

    fn overlaid(&self, config: Config) -> Config {
        let given = self.given();
        Config {
            endpoints: match given.endpoints.is_empty() {
                true => config.endpoints,
                false => given.endpoints,
            },
            zone: config.zone,
            root: given.root.or(config.root),
            certificate: given.certificate.or(config.certificate),
            private_key: given.private_key.or(config.private_key),
        }
    }
}

/// Says that a cluster is none that `twinkeep dev up` started here.
fn not_development(named_by: &str, to_do: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "this stops processes, and does so to development clusters of this machine alone, not to a cluster that is named \
         by {named_by}: start one with `twinkeep dev up`, then type `twinkeep --context dev {to_do}`"
    )
}

/// Says why there is no client. A certificate that is not valid now would be refused by every node, so it ends the
/// command as that does.
fn not_built(error: BuildError, certificate: &Path) -> anyhow::Error {
    use CredentialError::Validity;
    let BuildError::Identity(Validity { not_before_unix, not_after_unix, now_unix }) = error else {
        return anyhow::Error::from(error).context("cannot make a client");
    };
    let (what, way_out) = match now_unix > not_after_unix {
        true => (
            "the caller's certificate has expired",
            "an admin issues a new one with `twinkeep access issue-certificate`",
        ),
        // Nobody issues certificates for later.
        false => (
            "the caller's certificate is not valid yet",
            "is the clock of this machine right? `date -u` shows it",
        ),
    };
    let time = |unix: u64| time(unix.saturating_mul(1000));
    let (from, to, now) = (time(not_before_unix), time(not_after_unix), time(now_unix));
    let error = Error::Unauthenticated(format!(
        "{} is valid from {from} to {to}, and now it is {now}",
        certificate.display()
    ));
    anyhow::Error::from(error).context(Advice { what, way_out })
}

fn dev_home() -> PathBuf {
    env::var_os("TWINKEEP_HOME").map_or_else(|| ".dev".into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_certificate_that_is_not_valid_now_is_named_with_times_that_people_read() {
        for (now_unix, what, now, way_out) in [
            (1_800_000_001, "has expired", "2027-01-15T08:00:01Z", "issue-certificate"),
            (1_799_989_999, "is not valid yet", "2027-01-15T05:13:19Z", "clock of this machine"),
        ] {
            let (not_before_unix, not_after_unix) = (1_799_990_000, 1_800_000_000);
            let error = CredentialError::Validity { not_before_unix, not_after_unix, now_unix };
            let error = not_built(BuildError::Identity(error), Path::new("prod/app.pem"));
            // Nodes would say that they do not know the caller.
            assert!(matches!(error.downcast_ref(), Some(Error::Unauthenticated(_))), "{error:#}");
            let expected = format!(
                "the caller's certificate {what}: prod/app.pem is valid from 2027-01-15T05:13:20Z to \
                 2027-01-15T08:00:00Z, and now it is {now}"
            );
            assert_eq!(format!("{error:#}"), expected);
            let advice = error.downcast_ref::<Advice>().unwrap();
            assert!(advice.way_out.contains(way_out), "{}", advice.way_out);
        }
        let other = not_built(BuildError::NoEndpoint, Path::new(""));
        assert!(format!("{other:#}").starts_with("cannot make a client: "), "{other:#}");
    }
}
