//! `twinkeep instance …`.

use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;
use twinkeep_client::v1;

use crate::context::Context;
use crate::names::Named;
use crate::output::{Show, columns, show, time};

/// Makes and lists instances.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Instance {
    /// Makes an instance with its own root of keys.
    Create {
        /// Its name: 1 to 64 of a-z, 0-9, `-`, `.` and `_`.
        name: String,
        /// Where its keys live.
        #[arg(long = "type", value_parser = v1::InstanceType::parse, default_value = "SOFTWARE")]
        kind: v1::InstanceType,
    },
    /// Says what an instance is.
    Describe {
        /// The instance.
        instance: String,
    },
    /// Lists the instances.
    List,
}

impl Instance {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client()?;
        let instances = match self {
            Self::Create { name, kind } => {
                let request =
                    v1::CreateInstanceRequest { name, r#type: kind.into(), ..Default::default() };
                vec![client.create_instance(request).await?.instance.context(NO_INSTANCE)?]
            }
            Self::Describe { instance: instance_id } => {
                let request = v1::DescribeInstanceRequest { instance_id, ..Default::default() };
                vec![client.describe_instance(request).await?.instance.context(NO_INSTANCE)?]
            }
            Self::List => all(&client).await?,
        };
        show(context.format(), &Instances { instances: instances.iter().map(View::of).collect() })
    }
}

const NO_INSTANCE: &str = "the answer holds no instance";

async fn all(client: &twinkeep_client::Client) -> anyhow::Result<Vec<v1::Instance>> {
    let mut request = v1::ListInstancesRequest::default();
    let mut instances = Vec::new();
    loop {
        let page = client.list_instances(request.clone()).await?;
        instances.extend(page.instances);
        if page.next_page_token.is_empty() {
            return Ok(instances);
        }
        request.page_token = page.next_page_token;
    }
}

#[derive(Debug, Serialize)]
struct Instances {
    instances: Vec<View>,
}

#[derive(Debug, Serialize)]
struct View {
    instance_id: String,
    name: String,
    r#type: &'static str,
    status: &'static str,
    created: String,
    revision: u64,
}

impl View {
    fn of(instance: &v1::Instance) -> Self {
        Self {
            instance_id: instance.instance_id.clone(),
            name: instance.name.clone(),
            r#type: v1::InstanceType::name(instance.r#type),
            status: v1::InstanceStatus::name(instance.status),
            created: time(instance.created_unix_ms),
            revision: instance.revision,
        }
    }

    fn row(&self) -> [String; 5] {
        let Self { instance_id, name, r#type, status, created, .. } = self;
        [
            instance_id.clone(),
            name.clone(),
            (*r#type).to_owned(),
            (*status).to_owned(),
            created.clone(),
        ]
    }
}

impl Show for Instances {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<_> = self.instances.iter().map(View::row).collect();
        columns(out, ["INSTANCE", "NAME", "TYPE", "STATUS", "CREATED"], &rows)
    }
}
