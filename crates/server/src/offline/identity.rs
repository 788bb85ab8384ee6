//! `twinkeepd identity`: the node's signing request.

use twinkeep_pki::pem;

use crate::config::Config;
use crate::identity::DataDir;
use crate::node::node_key;

/// Prints the signing request of the node's key, PEM, and on standard error the digest that operators
/// compare with the order.
pub(crate) fn print(config: &Config) -> anyhow::Result<()> {
    let data = DataDir::open(&config.node.data_dir)?;
    let key = node_key(&data)?;
    let request = key.certificate_request()?;
    eprintln!("spki-sha256 {}", hex::encode(key.public_key().sha256()));
    print!("{}", pem::certificate_request(&request));
    Ok(())
}
