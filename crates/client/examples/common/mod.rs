//! Where the examples find their cluster: that of `make run`, or of `$TWINKEEP_HOME`. Arguments are
//! addresses of nodes.

use std::env;
use std::error::Error;
use std::fs;

use twinkeep_client::Client;

/// Returns a client and the id of an AES_256 key that it may use.
pub(crate) fn connect() -> Result<(Client, String), Box<dyn Error>> {
    let home = env::var("TWINKEEP_HOME").unwrap_or_else(|_| ".dev".to_owned());
    let mut endpoints: Vec<_> = env::args().skip(1).collect();
    if endpoints.is_empty() {
        endpoints.extend(["127.0.1.1:7100", "127.0.2.1:7100"].map(str::to_owned));
    }
    let builder = Client::builder()
        .root_file(format!("{home}/callers/endpoint-root.pem"))
        .identity_files(format!("{home}/callers/app.pem"), format!("{home}/callers/app.key"));
    let client =
        endpoints.into_iter().fold(builder, |builder, endpoint| builder.endpoint(endpoint));
    Ok((client.build()?, fs::read_to_string(format!("{home}/first-key"))?))
}
