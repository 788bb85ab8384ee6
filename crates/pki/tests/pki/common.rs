//! A small cluster's certificates, and one handshake over loopback.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, Issuer, SanType};
use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tower::Service;
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
use twinkeep_pki::authority::{Hosts, Purpose};
use twinkeep_pki::certificate::SpkiSha256;
use twinkeep_pki::tls::{self, PeerTls};
use twinkeep_pki::{
    Authority, Callers, ConnectInfo, Connector, Credential, Endpoints, Limits, Nodes, PrivateKey,
    Validity, incoming,
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn cluster() -> ClusterId {
    ClusterId::from_bytes([7; 16])
}

pub(crate) fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

pub(crate) fn now() -> u64 {
    UnixTime::now().as_secs()
}

/// The three authorities of one cluster.
pub(crate) struct Authorities {
    pub(crate) nodes: Authority<Nodes>,
    pub(crate) callers: Authority<Callers>,
    pub(crate) endpoints: Authority<Endpoints>,
}

pub(crate) fn authorities() -> Authorities {
    let validity = Validity::starting(now(), 24 * HOUR);
    Authorities {
        nodes: Authority::create(cluster(), validity).unwrap(),
        callers: Authority::create(cluster(), validity).unwrap(),
        endpoints: Authority::create(cluster(), validity).unwrap(),
    }
}

impl Authorities {
    pub(crate) fn node_credential(&self, number: u64) -> Arc<Credential> {
        self.node_credential_at(number, Incarnation::FIRST, now())
    }

    /// A node's credential that was issued at that time for an hour.
    pub(crate) fn node_credential_at(
        &self,
        number: u64,
        incarnation: Incarnation,
        issued_unix: u64,
    ) -> Arc<Credential> {
        let key = PrivateKey::generate().unwrap();
        let validity = Validity::starting(issued_unix, HOUR);
        let certificate =
            self.nodes.issue_node(&key.public_key(), node(number), incarnation, validity).unwrap();
        Arc::new(Credential::new(vec![certificate], &key, issued_unix).unwrap())
    }

    pub(crate) fn caller_credential(&self, name: &str) -> Arc<Credential> {
        let key = PrivateKey::generate().unwrap();
        let validity = Validity::starting(now(), HOUR);
        let certificate =
            self.callers.issue_caller(&key.public_key(), name.parse().unwrap(), validity).unwrap();
        Arc::new(Credential::new(vec![certificate], &key, now()).unwrap())
    }

    pub(crate) fn endpoint_credential(&self, hosts: &Hosts) -> Arc<Credential> {
        let key = PrivateKey::generate().unwrap();
        let validity = Validity::starting(now(), HOUR);
        let certificate = self
            .endpoints
            .issue_endpoint(&key.public_key(), node(1), Incarnation::FIRST, hosts, validity)
            .unwrap();
        Arc::new(Credential::new(vec![certificate], &key, now()).unwrap())
    }

    pub(crate) fn endpoint(&self) -> Arc<ServerConfig> {
        let own = self.endpoint_credential(&loopback());
        tls::endpoint(own, from_ref(self.callers.root()), cluster()).unwrap()
    }

    pub(crate) fn peer(&self, own: Arc<Credential>) -> PeerTls {
        self.peer_that_trusts(own, |_, incarnation, _| incarnation == Incarnation::FIRST)
    }

    pub(crate) fn peer_that_trusts(
        &self,
        own: Arc<Credential>,
        trust: fn(NodeId, Incarnation, &SpkiSha256) -> bool,
    ) -> PeerTls {
        PeerTls::new(own, vec![self.nodes.root().clone()], cluster(), Arc::new(trust))
    }

    /// The peer port of node 1.
    pub(crate) fn peer_port(&self) -> Arc<ServerConfig> {
        self.peer(self.node_credential(1)).server().unwrap()
    }
}

pub(crate) fn loopback() -> Hosts {
    Hosts { dns: Vec::new(), addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] }
}

/// Signs what our own code would never sign.
pub(crate) fn rogue_certificate<P: Purpose>(
    authority: &Authority<P>,
    key: &PrivateKey,
    names: &[&str],
    common_name: Option<&str>,
) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    }
    params.subject_alt_names =
        names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
    params.extended_key_usages = P::USAGES.to_vec();
    let issuer = Issuer::from_ca_cert_der(authority.root(), authority.private_key()).unwrap();
    params.signed_by(&key.public_key(), &issuer).unwrap().into()
}

pub(crate) fn certified(
    certificate: CertificateDer<'static>,
    key: &PrivateKey,
) -> Arc<SingleCertAndKey> {
    let der = PrivatePkcs8KeyDer::from(key.danger_pkcs8()).into();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)))
}

/// Has a client show a certificate that [`Credential`] would refuse.
pub(crate) fn showing(
    config: &Arc<ClientConfig>,
    certificate: CertificateDer<'static>,
    key: &PrivateKey,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.client_auth_cert_resolver = certified(certificate, key);
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Both ends of a connection that came about.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) server: ConnectInfo,
    pub(crate) client: ConnectInfo,
}

/// Connects over loopback; an error says which end refused, and why.
pub(crate) async fn meet(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> Result<Met, String> {
    meet_at("127.0.0.1", server, client).await
}

pub(crate) async fn meet_at(
    host: &str,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> Result<Met, String> {
    let (address, mut accepted) = listen(server, Limits::default()).await;
    let greeting = tokio::spawn(async move {
        let mut connection = accepted.next().await.unwrap().unwrap();
        greet(&mut connection).await;
        let info = tonic::transport::server::Connected::connect_info(&connection);
        (info, connection)
    });
    let met = connect(host, address, client).await.map_err(|error| error.to_string());
    if met.is_err() {
        greeting.abort();
    }
    let (_stream, client) = met?;
    let (server, _) = greeting.await.unwrap();
    Ok(Met { server, client })
}

/// Writes a byte, and reads as a server does all the time: what was gathered leaves then.
pub(crate) async fn greet(connection: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    connection.write_all(b"!").await.unwrap();
    connection.flush().await.unwrap();
    let mut nothing = [0];
    // The other end may have gone already.
    let reading = pin!(connection.read(&mut nothing));
    let _ = futures::poll!(reading);
}

pub(crate) async fn listen(
    server: Arc<ServerConfig>,
    limits: Limits,
) -> (SocketAddr, twinkeep_pki::Incoming) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    (listener.local_addr().unwrap(), incoming(listener, server, limits))
}

/// Connects and waits for a byte: a TLS 1.3 client learns of a refusal only when it reads.
pub(crate) async fn connect(
    host: &str,
    address: SocketAddr,
    client: Arc<ClientConfig>,
) -> io::Result<(impl AsyncRead + AsyncWrite + Unpin + Debug, ConnectInfo)> {
    let (sender, mut infos) = tokio::sync::mpsc::unbounded_channel();
    let mut connector = Connector::new(client, Duration::from_secs(5))
        .on_connect(move |info| sender.send(info.clone()).unwrap());
    let uri = format!("http://{host}:{}", address.port()).parse().unwrap();
    let mut stream = connector.call(uri).await?.into_inner();
    let info = infos.recv().await.unwrap();
    stream.read_u8().await?;
    Ok((stream, info))
}
