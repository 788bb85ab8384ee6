//! Describing a client.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{fmt, fs, io};

use rustls_pki_types::{CertificateDer, UnixTime};
use tonic::transport::Endpoint;
use tonic::transport::Uri;
use twinkeep_pki::credential::CredentialError;
use twinkeep_pki::pem::{self, NotPem};
use twinkeep_pki::tls::{self, ConfigError};
use twinkeep_pki::{Connector, Credential};
use zeroize::Zeroizing;

use crate::budget::Budget;
use crate::client::{Client, Shared};
use crate::connect::Dialler;
use crate::latency::Latency;
use crate::memory::Memory;
use crate::metrics::Totals;
use crate::pool::{Dial, Pool};
use crate::{probe, topology};

/// Flow control windows: room for several answers of 1 MiB at once.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Why a client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nobody to call.
    #[error("no endpoint was given; give at least one `address:port`")]
    NoEndpoint,
    /// An endpoint is not written as it should be.
    #[error("`{0}` is not an endpoint; write `address:port` or `name:port`")]
    Endpoint(String),
    /// There is nothing to check endpoints against.
    #[error("no root certificate was given; give the cluster's endpoint root")]
    NoRoot,
    /// A file with root certificates cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The root certificates are no PEM text.
    #[error("the root certificates")]
    Root(#[from] NotPem),
    /// The certificate or key of the caller cannot be used.
    #[error("the caller's certificate and key")]
    Identity(#[from] CredentialError),
    /// The memory file cannot be used.
    #[error("{}: {why}; give another path, or remove the file to have the client begin anew", path.display())]
    Memory {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be set up with these certificates.
    #[error("the TLS configuration")]
    Tls(#[from] ConfigError),
}

enum Roots {
    Pem(Vec<u8>),
    File(PathBuf),
}

enum Identity {
    Pem { chain: Vec<u8>, key: Zeroizing<Vec<u8>> },
    Files { chain: PathBuf, key: PathBuf },
}

/// Describes a client; [`Client::builder`] begins one.
pub struct Builder {
    endpoints: Vec<(String, Option<String>)>,
    zone: Option<String>,
    roots: Option<Roots>,
    identity: Option<Identity>,
    crypto_limit: Duration,
    control_limit: Duration,
    tcp_limit: Duration,
    connect_limit: Duration,
    keep_alive: Duration,
    follow_topology: bool,
    crypto_stream: bool,
    health_probes: bool,
    memory: Option<PathBuf>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            zone: None,
            roots: None,
            identity: None,
            crypto_limit: Duration::from_secs(2),
            control_limit: Duration::from_secs(10),
            tcp_limit: Duration::from_millis(250),
            connect_limit: Duration::from_secs(1),
            keep_alive: Duration::from_millis(500),
            follow_topology: true,
            crypto_stream: true,
            health_probes: true,
            memory: None,
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Builder {
    /// Adds a node by its `address:port` or `name:port`.
    #[must_use]
    pub fn endpoint(mut self, address: impl Into<String>) -> Self {
        self.endpoints.push((address.into(), None));
        self
    }

    /// Adds a node in a known zone.
    #[must_use]
    pub fn endpoint_in(mut self, zone: impl Into<String>, address: impl Into<String>) -> Self {
        self.endpoints.push((address.into(), Some(zone.into())));
        self
    }

    /// Says which zone this client is in; its nodes are called first. Default: none, all alike.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Trusts endpoints below these roots, in PEM.
    #[must_use]
    pub fn root(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(Roots::Pem(pem.into()));
        self
    }

    /// Trusts endpoints below the roots in this PEM file.
    #[must_use]
    pub fn root_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots = Some(Roots::File(path.into()));
        self
    }

    /// Calls as the holder of this certificate chain and private key, in PEM.
    #[must_use]
    pub fn identity(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let (chain, key) = (chain.into(), Zeroizing::new(key.into()));
        self.identity = Some(Identity::Pem { chain, key });
        self
    }

    /// Calls as the holder of the certificate chain and private key in these PEM files, which
    /// [`Client::reload_identity`] reads again.
    #[must_use]
    pub fn identity_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some(Identity::Files { chain: chain.into(), key: key.into() });
        self
    }

    /// Time of a call that uses keys, retries included. Default 2 s.
    #[must_use]
    pub fn crypto_deadline(mut self, limit: Duration) -> Self {
        self.crypto_limit = limit;
        self
    }

    /// Time of every other call, retries included. Default 10 s.
    #[must_use]
    pub fn control_deadline(mut self, limit: Duration) -> Self {
        self.control_limit = limit;
        self
    }

    /// Time for reaching an address, and for the whole connection with its handshake. Default 250 ms and
    /// 1 s.
    #[must_use]
    pub fn connect_timeouts(mut self, tcp: Duration, whole: Duration) -> Self {
        self.tcp_limit = tcp;
        self.connect_limit = whole;
        self
    }

    /// How often a connection is probed, and how long the answer may take before it counts as dead.
    /// Default 500 ms for each.
    #[must_use]
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval;
        self
    }

    /// Whether to learn nodes, zones and the leader from the cluster. Default yes; needs the permission
    /// to watch the topology and does without where that is missing.
    #[must_use]
    pub fn follow_topology(mut self, follow: bool) -> Self {
        self.follow_topology = follow;
        self
    }

    /// Whether calls that use keys share one stream per node, which costs a tenth of what single calls cost.
    /// Default yes. Where streams do not get through, the client notices and makes single calls there; this
    /// is for where they are known not to.
    #[must_use]
    pub fn crypto_stream(mut self, stream: bool) -> Self {
        self.crypto_stream = stream;
        self
    }

    /// Whether to ask nodes for their health (`grpc.health.v1`): ejected ones until they are well, others every ten
    /// seconds or so, which also keeps a connection to each open. Default yes; without it, a call finds out.
    #[must_use]
    pub fn health_probes(mut self, probes: bool) -> Self {
        self.health_probes = probes;
        self
    }

    /// Remembers in this file which cluster was met, in which of its lives, so that a client that is started anew
    /// refuses nodes that a recovery has given up. Default: none, and a client knows what it has met itself. The
    /// folder has to exist and be writable; a file `.lock` stands beside it. Clients of one cluster may share it.
    #[must_use]
    pub fn memory_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.memory = Some(path.into());
        self
    }

    /// Builds the client. Connections are opened when they are needed. Runs within a Tokio runtime.
    ///
    /// # Errors
    /// [`BuildError`] with the first thing that is wrong.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn build(self) -> Result<Client, BuildError> {
        let roots = self.read_roots()?;
        let own = self.read_identity()?.map(Arc::new);
        let memory = Arc::new(self.read_memory()?);
        let config = tls::wary_caller(own.clone(), &roots, Arc::clone(&memory) as _)?;
        let connector = Connector::new(config, self.connect_limit).tcp_limit(self.tcp_limit);
        if self.endpoints.is_empty() {
            return Err(BuildError::NoEndpoint);
        }
        for (address, _) in &self.endpoints {
            check_endpoint(address)?;
        }
        let dialler = Dialler::new(connector, self.connect_limit);
        let dial = dial(dialler, self.keep_alive);
        let (streams, probes) = (self.crypto_stream, self.health_probes);
        let pool = Pool::new(&self.endpoints, self.zone, streams, probes, dial);
        let pool = pool.map_err(|error| BuildError::Endpoint(error.to_string()))?;
        let shared = Arc::new(Shared {
            pool,
            budget: Budget::full(),
            change_budget: Budget::full(),
            crypto_limit: self.crypto_limit,
            control_limit: self.control_limit,
            own,
            seen: AtomicU64::new(0),
            single: Latency::new(),
            batch: Latency::new(),
            reading: Latency::new(),
            writing: Latency::new(),
            memory,
            totals: Totals::default(),
            tasks: OnceLock::new(),
        });
        let following = self.follow_topology.then(|| topology::follow(Arc::downgrade(&shared)));
        let probing = self.health_probes.then(|| probe::watch(Arc::downgrade(&shared)));
        shared.tasks.get_or_init(|| following.into_iter().chain(probing).collect());
        Ok(Client::new(shared))
    }

    fn read_memory(&self) -> Result<Memory, BuildError> {
        let Some(path) = &self.memory else { return Ok(Memory::fresh()) };
        Memory::at(path.clone()).map_err(|error| {
            let source = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            let why = error.to_string() + &source.unwrap_or_default();
            BuildError::Memory { path: path.clone(), why }
        })
    }

    fn read_roots(&self) -> Result<Vec<CertificateDer<'static>>, BuildError> {
        let text = match self.roots.as_ref().ok_or(BuildError::NoRoot)? {
            Roots::Pem(text) => text.clone(),
            Roots::File(path) => {
                fs::read(path).map_err(|source| BuildError::Read { path: path.clone(), source })?
            }
        };
        Ok(pem::read_certificates(&text)?)
    }

    fn read_identity(&self) -> Result<Option<Credential>, BuildError> {
        Ok(match &self.identity {
            None => None,
            Some(Identity::Pem { chain, key }) => {
                Some(Credential::from_pem(chain, key, now_unix())?)
            }
            Some(Identity::Files { chain, key }) => {
                Some(Credential::from_files(chain, key, now_unix())?)
            }
        })
    }
}

fn dial(dialler: Dialler, keep_alive: Duration) -> Dial {
    Box::new(move |address| {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .http2_keep_alive_interval(keep_alive)
            .keep_alive_timeout(keep_alive)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .user_agent(concat!("twinkeep-client/", env!("CARGO_PKG_VERSION")))?;
        Ok(endpoint.connect_with_connector_lazy(dialler.clone()))
    })
}

fn check_endpoint(address: &str) -> Result<(), BuildError> {
    let refused = || BuildError::Endpoint(address.to_owned());
    let uri: Uri = format!("http://{address}").parse().map_err(|_| refused())?;
    let authority = uri.authority().ok_or_else(refused)?;
    // User names, paths and queries are not part of an address.
    let plain = authority.as_str() == address && !address.contains('@');
    if plain && authority.port_u16().is_some_and(|port| port != 0) {
        Ok(())
    } else {
        Err(refused())
    }
}

/// Reads the wall clock, for the validity of certificates.
pub(crate) fn now_unix() -> u64 {
    UnixTime::now().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_a_host_and_a_port_and_nothing_else() {
        for good in ["127.0.1.11:7101", "[::1]:7101", "kms.example:443"] {
            check_endpoint(good).unwrap();
        }
        for bad in
            ["", "host", "host:", "host:0", "host:x", "https://host:1", "host:1/x", "u@host:1"]
        {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_said_with_the_cure() {
        let error = Client::builder().build().unwrap_err();
        assert!(matches!(error, BuildError::NoRoot), "{error}");
        let error = Client::builder().root("junk").build().unwrap_err();
        assert!(matches!(error, BuildError::Root(_)), "{error}");
        let error = Client::builder().root_file("/nowhere").build().unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }
}
