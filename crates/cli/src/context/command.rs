//! `twinkeep context …`: clusters by name.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use serde::Serialize;

use super::edit::Edit;
use super::file::{Config, DEV, File, check_name};
use super::{Context, Source};
use crate::output::{Show, columns, plain, said, show};

/// Names clusters and switches between them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Contexts {
    /// Lists the contexts; `*` is the one that commands use.
    List,
    /// Makes a context the one that commands use; `dev` is the development cluster.
    Use {
        /// The context.
        name: String,
    },
    /// Shows a context, the one that commands use without a name.
    Show {
        /// The context.
        name: Option<String>,
    },
    /// Makes a context or changes what is given of it, by --endpoint, --root, --certificate and
    /// --private-key. The first one is used from then on.
    Set {
        /// The context: 1 to 64 of a-z, 0-9, `-`, `_` and `.`.
        name: String,
        /// The zone that this machine is in: its nodes are called first.
        #[arg(long)]
        zone: Option<String>,
    },
    /// Forgets a context. Its files stay where they are.
    Remove {
        /// The context.
        name: String,
    },
}

impl Contexts {
    /// Does what was asked.
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<()> {
        let format = context.format();
        let message = match self {
            Self::List => return show(format, &list(context)?),
            Self::Show { name } => {
                let (source, config) = context.load(name.as_deref())?;
                return show(format, &Shown::of(source, config));
            }
            Self::Use { name } => select(context, &name)?,
            Self::Set { name, zone } => set(context, &name, zone)?,
            Self::Remove { name } => remove(context, &name)?,
        };
        said(format, message)
    }
}

fn list(context: &Context) -> anyhow::Result<Rows> {
    let current = match context.selected()? {
        Some(Source::Named(name)) => Some(name),
        Some(Source::Dev(_)) => Some(DEV.to_owned()),
        None => None,
    };
    let row = |name: String, config: &Config| Row {
        current: current.as_deref() == Some(&name),
        endpoints: config.endpoints.iter().map(|endpoint| endpoint.address.clone()).collect(),
        caller: config.certificate.clone(),
        name,
    };
    let mut contexts: Vec<_> =
        context.file()?.contexts.iter().map(|(name, config)| row(name.clone(), config)).collect();
    if let Some(layout) = context.dev_layout()? {
        contexts.push(row(DEV.to_owned(), &context.dev(&layout)?));
    }
    Ok(Rows { contexts })
}

fn select(context: &Context, name: &str) -> anyhow::Result<String> {
    if name != DEV {
        context.load(Some(name))?;
    } else if context.dev_layout()?.is_none() {
        bail!("there is no development cluster here; `twinkeep dev up` makes one");
    }
    change(context, |edit| {
        edit.make_current(name);
        Ok(format!("commands use context {name} now"))
    })
}

fn set(context: &Context, name: &str, zone: Option<String>) -> anyhow::Result<String> {
    check_name(name)?;
    let given = Config { zone, ..context.given() };
    let known = File::read_if_there(&context.file_path()?)?.contexts.contains_key(name);
    if !known && given.endpoints.is_empty() {
        bail!("a new context needs a node to call: add `--endpoint ADDRESS:PORT`");
    }
    change(context, |edit| {
        edit.set(name, &given)?;
        if edit.current().is_none() {
            edit.make_current(name);
            return Ok(format!("context {name} is set, and commands use it now"));
        }
        Ok(format!("context {name} is set; `twinkeep context use {name}` makes commands use it"))
    })
}

fn remove(context: &Context, name: &str) -> anyhow::Result<String> {
    change(context, |edit| {
        let was_current = edit.current() == Some(name);
        edit.remove(name)?;
        Ok(match was_current {
            true => format!(
                "context {name} is forgotten, and none is used now; `twinkeep context use` takes another"
            ),
            false => format!("context {name} is forgotten"),
        })
    })
}

/// Changes the file; says so if a cluster in it has got a name by that.
fn change(
    context: &Context,
    change: impl FnOnce(&mut Edit) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let path = context.file_path()?;
    let mut edit = Edit::open(&path)?;
    let message = change(&mut edit)?;
    let named = edit.named;
    edit.save()?;
    if named {
        eprintln!("the cluster that {} had without a name is context default now", path.display());
    }
    Ok(message)
}

#[derive(Debug, Serialize)]
struct Rows {
    contexts: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    current: bool,
    name: String,
    endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<PathBuf>,
}

impl Show for Rows {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |row: &Row| {
            let more = row.endpoints.len().saturating_sub(1);
            let first = row.endpoints.first().map_or("none", String::as_str);
            [
                if row.current { "*" } else { "" }.to_owned(),
                row.name.clone(),
                plain(&if more > 0 {
                    format!("{first} and {more} more")
                } else {
                    first.to_owned()
                }),
                row.caller.as_ref().map_or("none".to_owned(), |path| path.display().to_string()),
            ]
        };
        let rows: Vec<_> = self.contexts.iter().map(row).collect();
        columns(out, ["", "NAME", "ENDPOINTS", "CERTIFICATE"], &rows)
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    #[serde(flatten)]
    config: Config,
}

impl Shown {
    fn of(source: Option<Source>, config: Config) -> Self {
        let name = match source {
            Some(Source::Named(name)) => name,
            Some(Source::Dev(_)) => DEV.to_owned(),
            None => "none".to_owned(),
        };
        Self { name, config }
    }
}

impl Show for Shown {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let Config { endpoints, zone, root, certificate, private_key } = &self.config;
        writeln!(out, "context      {}", self.name)?;
        for endpoint in endpoints {
            let zone = endpoint.zone.as_ref().map(|zone| format!(" in zone {zone}"));
            writeln!(out, "endpoint     {}{}", endpoint.address, zone.unwrap_or_default())?;
        }
        if let Some(zone) = zone {
            writeln!(out, "own zone     {zone}")?;
        }
        for (what, path) in
            [("root        ", root), ("certificate ", certificate), ("private key ", private_key)]
        {
            if let Some(path) = path {
                writeln!(out, "{what} {}", path.display())?;
            }
        }
        Ok(())
    }
}
