//! `twinkeepd identity`: the node's signing request.

use twinkeep_pki::pem;

use crate::config::Config;
use crate::identity::DataDir;
use crate::node::node_key;

/// Prints the signing request of the node's key, PEM.
pub(crate) fn print(config: &Config) -> anyhow::Result<()> {
    let data = DataDir::open(&config.node.data_dir)?;
    let request = node_key(&data)?.certificate_request()?;
    print!("{}", pem::certificate_request(&request));
    Ok(())
}
