//! `twinkeep key …`.

use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;
use twinkeep_client::v1;

use crate::context::Context;
use crate::effect::Effect;
use crate::names::Named;
use crate::output::{Show, columns, plain, show, time};

/// Makes and manages keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Key {
    /// Makes a key with its first version.
    Create(Create),
    /// Says what a key is, with its versions.
    Describe {
        /// The key.
        key: String,
    },
    /// Lists the keys of an instance.
    List(List),
    /// Lets a disabled key be used again.
    Enable {
        /// The key.
        key: String,
    },
    /// Stops all use of a key, decryption included.
    Disable {
        /// The key.
        key: String,
    },
    /// Changes the description of a key.
    UpdateDescription {
        /// The key.
        key: String,
        /// The new description; empty removes it.
        description: String,
    },
}

/// What the new key shall be.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The kind of key material, for example AES_256, EC_P256, RSA_3072, HMAC_256.
    #[arg(long, value_parser = v1::KeySpec::parse, default_value = "AES_256")]
    spec: v1::KeySpec,
    /// ENCRYPT_DECRYPT, SIGN_VERIFY or GENERATE_VERIFY_MAC; needed for RSA alone.
    #[arg(long, value_parser = v1::KeyUsage::parse)]
    usage: Option<v1::KeyUsage>,
    /// The instance; needed where the cluster has several.
    #[arg(long, default_value = "", hide_default_value = true)]
    instance: String,
    /// Free text.
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Not to be used on a node that hears no leader: a disable reaches it everywhere within one freshness lease.
    #[arg(long, conflicts_with = "grace_s")]
    fail_closed: bool,
    /// How long it is used on a node that hears no leader, in seconds, at most a day; an hour unless the instance
    /// says otherwise.
    #[arg(long)]
    grace_s: Option<u32>,
}

/// Which keys to list.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// The instance; needed where the cluster has several.
    #[arg(long, default_value = "", hide_default_value = true)]
    instance: String,
    /// Only keys of this spec.
    #[arg(long, value_parser = v1::KeySpec::parse)]
    spec: Option<v1::KeySpec>,
    /// Only keys of this usage.
    #[arg(long, value_parser = v1::KeyUsage::parse)]
    usage: Option<v1::KeyUsage>,
    /// Only keys in this state.
    #[arg(long, value_parser = v1::KeyState::parse)]
    state: Option<v1::KeyState>,
}

impl Key {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client()?;
        let format = context.format();
        let mut effect = None;
        let (changed, durability) = match self {
            Self::Create(create) => {
                let answer = client.create_key(create.request()).await?;
                (answer.key, answer.durability)
            }
            Self::Describe { key: key_id } => {
                let request = v1::DescribeKeyRequest { key_id, ..Default::default() };
                let described = client.describe_key(request).await?;
                return show(format, &Described::of(described)?);
            }
            Self::List(list) => return show(format, &list.all(&client).await?),
            Self::Enable { key: key_id } => {
                let request = v1::EnableKeyRequest { key_id, ..Default::default() };
                let answer = client.enable_key(request).await?;
                (answer.key, answer.durability)
            }
            Self::Disable { key: key_id } => {
                let request = v1::DisableKeyRequest { key_id, ..Default::default() };
                let answer = client.disable_key(request).await?;
                effect = Some(Effect::of(answer.effective_everywhere, answer.pending_in));
                (answer.key, answer.durability)
            }
            Self::UpdateDescription { key: key_id, description } => {
                let request =
                    v1::UpdateKeyDescriptionRequest { key_id, description, ..Default::default() };
                let answer = client.update_key_description(request).await?;
                (answer.key, answer.durability)
            }
        };
        let key = KeyView::of(&changed.context(NO_KEY)?);
        let durability = Some(v1::Durability::name(durability));
        show(format, &Described { key, versions: Vec::new(), durability, effect })
    }
}

const NO_KEY: &str = "the answer holds no key";

impl Create {
    fn request(self) -> v1::CreateKeyRequest {
        v1::CreateKeyRequest {
            instance_id: self.instance,
            spec: self.spec.into(),
            usage: self.usage.unwrap_or_default().into(),
            description: self.description,
            when_stale: when_stale(self.fail_closed, self.grace_s),
            ..Default::default()
        }
    }
}

/// Returns the choice for a node that hears no leader; `None` leaves it to the instance.
fn when_stale(fail_closed: bool, grace_s: Option<u32>) -> Option<v1::WhenStale> {
    use v1::when_stale::Choice;
    let choice = match (fail_closed, grace_s) {
        (true, _) => Choice::FailClosed(v1::FailClosed {}),
        (false, Some(seconds)) => Choice::GraceS(seconds),
        (false, None) => return None,
    };
    Some(v1::WhenStale { choice: Some(choice) })
}

/// Says it in words.
fn when_stale_words(when_stale: Option<v1::WhenStale>) -> String {
    use v1::when_stale::Choice;
    match when_stale.and_then(|when_stale| when_stale.choice) {
        Some(Choice::FailClosed(_)) => "not used".to_owned(),
        Some(Choice::GraceS(seconds)) => format!("used for {seconds} s"),
        None => "as its instance says".to_owned(),
    }
}

impl List {
    async fn all(self, client: &twinkeep_client::Client) -> anyhow::Result<Keys> {
        let mut request = v1::ListKeysRequest {
            instance_id: self.instance,
            spec: self.spec.unwrap_or_default().into(),
            usage: self.usage.unwrap_or_default().into(),
            state: self.state.unwrap_or_default().into(),
            ..Default::default()
        };
        let mut keys = Vec::new();
        loop {
            let page = client.list_keys(request.clone()).await?;
            keys.extend(page.keys.iter().map(KeyView::of));
            if page.next_page_token.is_empty() {
                return Ok(Keys { keys });
            }
            request.page_token = page.next_page_token;
        }
    }
}

#[derive(Debug, Serialize)]
struct KeyView {
    key_id: String,
    instance_id: String,
    spec: &'static str,
    usage: &'static str,
    state: &'static str,
    description: String,
    created: String,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_version: Option<VersionView>,
    algorithms: Vec<&'static str>,
    /// What happens to it on a node that hears no leader.
    when_stale: String,
}

#[derive(Debug, Serialize)]
struct VersionView {
    version_id: String,
    number: u32,
    created: String,
}

#[derive(Debug, Serialize)]
struct Described {
    key: KeyView,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<VersionView>,
    /// Where a change was on disk when it was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<&'static str>,
    /// Where what was taken away may still be used.
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    effect: Option<Effect>,
}

#[derive(Debug, Serialize)]
struct Keys {
    keys: Vec<KeyView>,
}

impl KeyView {
    fn of(key: &v1::Key) -> Self {
        Self {
            key_id: key.key_id.clone(),
            instance_id: key.instance_id.clone(),
            spec: v1::KeySpec::name(key.spec),
            usage: v1::KeyUsage::name(key.usage),
            state: v1::KeyState::name(key.state),
            description: key.description.clone(),
            created: time(key.created_unix_ms),
            revision: key.revision,
            primary_version: key.primary_version.as_ref().map(VersionView::of),
            algorithms: key.algorithms.iter().map(|&number| v1::Algorithm::name(number)).collect(),
            when_stale: when_stale_words(key.when_stale),
        }
    }
}

impl VersionView {
    fn of(version: &v1::KeyVersion) -> Self {
        Self {
            version_id: version.version_id.clone(),
            number: version.number,
            created: time(version.created_unix_ms),
        }
    }
}

impl Described {
    fn of(answer: v1::DescribeKeyResponse) -> anyhow::Result<Self> {
        let key = KeyView::of(&answer.key.context(NO_KEY)?);
        let versions = answer.versions.iter().map(VersionView::of).collect();
        Ok(Self { key, versions, durability: None, effect: None })
    }
}

impl Show for Described {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let key = &self.key;
        writeln!(out, "key          {}", key.key_id)?;
        writeln!(out, "instance     {}", key.instance_id)?;
        writeln!(out, "spec         {} for {}", key.spec, key.usage)?;
        writeln!(out, "state        {}", key.state)?;
        if !key.description.is_empty() {
            writeln!(out, "description  {}", plain(&key.description))?;
        }
        writeln!(out, "created      {}", key.created)?;
        writeln!(out, "algorithms   {}", key.algorithms.join(", "))?;
        writeln!(out, "when stale   {}", key.when_stale)?;
        if let Some(version) = &key.primary_version {
            writeln!(out, "primary      version {}, {}", version.number, version.version_id)?;
        }
        for version in &self.versions {
            let VersionView { version_id, number, created } = version;
            writeln!(out, "version {number:<4} {version_id}, {created}")?;
        }
        if let Some(effect) = &self.effect {
            effect.table(out)?;
        }
        if let Some(durability) = self.durability {
            writeln!(out, "durable      {durability}")?;
        }
        Ok(())
    }
}

impl Show for Keys {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<_> = self.keys.iter().map(KeyView::row).collect();
        columns(out, ["KEY", "SPEC", "USAGE", "STATE", "CREATED", "DESCRIPTION"], &rows)
    }
}

impl KeyView {
    fn row(&self) -> [String; 6] {
        [
            self.key_id.clone(),
            self.spec.to_owned(),
            self.usage.to_owned(),
            self.state.to_owned(),
            self.created.clone(),
            plain(&self.description),
        ]
    }
}
