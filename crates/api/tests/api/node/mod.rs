//! A node in memory behind a real gRPC server on loopback.
//!
//! State, commands and outcomes are the core's own; keys are sealed by the real envelope and used by
//! the real software backend; the audit log is a real one in a temporary directory. What is missing is
//! what the API does not know: Raft, RocksDB, the keyring and TLS. Who calls is said by a header that a
//! layer of this test server turns into the identity that TLS would have proven.

mod cluster;
mod control;
mod vault;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Interceptor;
use tonic::service::interceptor::{InterceptedService, InterceptorLayer};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};
use twinkeep_api::arrival::Arrivals;
use twinkeep_api::ports::{Backends, CallerIssuer, IssueError, Issued, Ports};
use twinkeep_api::{Peer, Services};
use twinkeep_audit::call::Call;
use twinkeep_audit::record::Entry;
use twinkeep_audit::{Identity as LogIdentity, Log, Options};
use twinkeep_core::access::{Grant, Role, Scope};
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{ClusterId, InstanceId, KeyId, NodeId};
use twinkeep_core::name::{CallerName, ZoneName};
use twinkeep_core::state::Read;
use twinkeep_crypto::SoftwareBackend;
use twinkeep_pki::{Facts, Identity};
use twinkeep_proto::v1;
use twinkeep_proto::v1::access_service_client::AccessServiceClient;
use twinkeep_proto::v1::audit_service_client::AuditServiceClient;
use twinkeep_proto::v1::cluster_service_client::ClusterServiceClient;
use twinkeep_proto::v1::crypto_service_client::CryptoServiceClient;
use twinkeep_proto::v1::instance_service_client::InstanceServiceClient;
use twinkeep_proto::v1::key_service_client::KeyServiceClient;

pub(crate) use cluster::FakeCluster;
pub(crate) use control::{FORGED, MemoryControl, OPERATORS};
pub(crate) use vault::TestVault;

pub(crate) const CLUSTER: ClusterId = ClusterId::from_bytes([0x10; 16]);
/// The instance that keys are made in unless a test says otherwise.
pub(crate) const MAIN: InstanceId = InstanceId::from_bytes([0x20; 16]);
pub(crate) const OTHER: InstanceId = InstanceId::from_bytes([0x21; 16]);
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// One caller for each role in the whole cluster, named like the role.
pub(crate) const ROLES: [Role; 5] =
    [Role::Admin, Role::Operator, Role::KeyAdmin, Role::KeyUser, Role::Auditor];

pub(crate) struct TestNode {
    pub(crate) control: Arc<MemoryControl>,
    pub(crate) vault: Arc<TestVault>,
    pub(crate) cluster: Arc<FakeCluster>,
    pub(crate) audit: Arc<Log>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) stop: CancellationToken,
    pub(crate) channel: Channel,
    _directory: TempDir,
}

impl TestNode {
    /// Starts a node with two instances and a caller for each role.
    pub(crate) async fn start() -> Self {
        let clock = Arc::new(TestClock::new());
        let directory = tempfile::tempdir().unwrap();
        let identity = LogIdentity {
            cluster: CLUSTER,
            node: NodeId::FIRST,
            zone: ZoneName::parse("zone-a").unwrap(),
        };
        let options =
            Options { segment_bytes: 1 << 20, reserve_bytes: 1 << 20, ..Options::default() };
        // Not the temporary directory itself: its mode is the system's.
        let path = directory.path().join("audit");
        let log_clock: Arc<dyn Clock> = clock.clone();
        let audit = Arc::new(Log::open(&path, identity, &options, log_clock).unwrap());
        let control = Arc::new(MemoryControl::begun());
        let vault = Arc::new(TestVault::default());
        let cluster = Arc::new(FakeCluster::new(Arc::clone(&vault), Arc::clone(&control)));
        let stop = CancellationToken::new();
        let ports = Ports {
            control: control.clone(),
            vault: vault.clone(),
            backends: Backends { software: Arc::new(SoftwareBackend::new().unwrap()) },
            cluster: cluster.clone(),
            audit: audit.clone(),
            issuer: Arc::new(FakeIssuer),
            clock: clock.clone(),
            stop: stop.clone(),
        };
        let channel = serve(&Services::new(CLUSTER, ports)).await;
        let node =
            Self { control, vault, cluster, audit, clock, stop, channel, _directory: directory };
        node.control.create_instance("main", MAIN, &node.vault);
        node.control.create_instance("other", OTHER, &node.vault);
        for role in ROLES {
            node.bind(role.as_str(), &[Grant { role, scope: Scope::Cluster }]);
        }
        node
    }

    /// Binds grants to a caller, past the API.
    pub(crate) fn bind(&self, caller: &str, grants: &[Grant]) {
        self.control.bind(caller, grants);
    }

    pub(crate) fn crypto(&self, caller: &str) -> CryptoServiceClient<As> {
        CryptoServiceClient::new(self.channel_as(caller))
            .max_decoding_message_size(8 << 20)
            .max_encoding_message_size(8 << 20)
    }

    pub(crate) fn keys(&self, caller: &str) -> KeyServiceClient<As> {
        KeyServiceClient::new(self.channel_as(caller))
    }

    pub(crate) fn instances(&self, caller: &str) -> InstanceServiceClient<As> {
        InstanceServiceClient::new(self.channel_as(caller))
    }

    pub(crate) fn access(&self, caller: &str) -> AccessServiceClient<As> {
        AccessServiceClient::new(self.channel_as(caller))
    }

    pub(crate) fn clusters(&self, caller: &str) -> ClusterServiceClient<As> {
        ClusterServiceClient::new(self.channel_as(caller))
    }

    pub(crate) fn audits(&self, caller: &str) -> AuditServiceClient<As> {
        AuditServiceClient::new(self.channel_as(caller))
    }

    pub(crate) fn channel_as(&self, caller: &str) -> As {
        InterceptedService::new(self.channel.clone(), Header(caller.to_owned()))
    }

    /// Makes a key in the main instance as `key-admin`.
    pub(crate) async fn key(&self, spec: v1::KeySpec) -> v1::Key {
        self.key_in(MAIN, spec, v1::KeyUsage::Unspecified).await
    }

    pub(crate) async fn key_in(
        &self,
        instance: InstanceId,
        spec: v1::KeySpec,
        usage: v1::KeyUsage,
    ) -> v1::Key {
        let request = v1::CreateKeyRequest {
            instance_id: instance.to_string(),
            spec: spec.into(),
            usage: usage.into(),
            ..Default::default()
        };
        self.keys("key-admin").create_key(request).await.unwrap().into_inner().key.unwrap()
    }

    pub(crate) async fn disable(&self, key_id: &str) -> v1::Key {
        let request = v1::DisableKeyRequest { key_id: key_id.to_owned(), ..Default::default() };
        self.keys("key-admin").disable_key(request).await.unwrap().into_inner().key.unwrap()
    }

    /// Returns all calls in the audit log.
    pub(crate) fn recorded(&self) -> Vec<Call> {
        let mut tail = self.audit.tail(0);
        let mut calls = Vec::new();
        // What was answered is queued, not necessarily on the disk yet.
        let settled = Instant::now() + Duration::from_secs(5);
        while self.audit.status().waiting_records > 0 && Instant::now() < settled {
            std::thread::sleep(Duration::from_millis(1));
        }
        loop {
            let records = tail.read(1000).unwrap();
            if records.is_empty() {
                return calls;
            }
            calls.extend(records.into_iter().filter_map(|record| match record.entry {
                Entry::Call(call) => Some(call),
                Entry::Mark(_) => None,
            }));
        }
    }
}

pub(crate) fn caller(name: &str) -> CallerName {
    CallerName::parse(name).unwrap()
}

pub(crate) fn on_instance(role: Role, instance: InstanceId) -> Grant {
    Grant { role, scope: Scope::Instance(instance) }
}

pub(crate) fn on_key(role: Role, key_id: &str) -> Grant {
    Grant { role, scope: Scope::Key(key_id.parse::<KeyId>().unwrap()) }
}

async fn serve(services: &Services) -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .layer(Arrivals)
        .layer(InterceptorLayer::new(identify as fn(Request<()>) -> Result<Request<()>, Status>))
        .add_routes(services.routes());
    let server = twinkeep_api::reflection(server);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// A channel that says who calls.
pub(crate) type As = InterceptedService<Channel, Header>;

const HEADER: &str = "x-test-caller";
/// How many milliseconds a call waits for its turn.
pub(crate) const WAITS: &str = "x-test-waits-ms";

/// Says who calls: nobody at all (empty), a caller of this cluster, or an identity as a URI.
#[derive(Clone)]
pub(crate) struct Header(String);

impl Interceptor for Header {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            request.metadata_mut().insert(HEADER, self.0.parse().unwrap());
        }
        Ok(request)
    }
}

fn identify(mut request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(waits) = request.metadata().get(WAITS) {
        std::thread::sleep(Duration::from_millis(waits.to_str().unwrap().parse().unwrap()));
    }
    let certificate = request.metadata().get(HEADER).map(|value| {
        let text = value.to_str().unwrap();
        let identity = if text.starts_with("spiffe:") {
            text.parse().unwrap()
        } else {
            Identity::Caller { cluster: CLUSTER, name: caller(text) }
        };
        Facts {
            identity,
            spki_sha256: [9; 32],
            not_before_unix: START_MS / 1000 - 10,
            not_after_unix: START_MS / 1000 + 3600,
        }
    });
    let remote = request.remote_addr();
    request.extensions_mut().insert(Peer { remote, certificate });
    Ok(request)
}

/// A clock that tests turn.
pub(crate) struct TestClock {
    began: Instant,
    offset_ms: AtomicU64,
}

impl TestClock {
    fn new() -> Self {
        Self { began: Instant::now(), offset_ms: AtomicU64::new(0) }
    }

    pub(crate) fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap();
        self.offset_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn unix_ms(&self) -> u64 {
        START_MS + self.offset_ms.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

struct FakeIssuer;

impl CallerIssuer for FakeIssuer {
    fn issue(
        &self,
        _: &dyn Read,
        caller: &CallerName,
        csr_pem: &str,
        lifetime: Duration,
    ) -> Result<Issued, IssueError> {
        if !csr_pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----") {
            return Err(IssueError::BadRequest("not a PKCS#10 request in PEM".to_owned()));
        }
        Ok(Issued {
            certificate_chain_pem: format!("certificate of {caller}"),
            endpoint_trust_pem: "endpoint root".to_owned(),
            not_after_unix_ms: START_MS + u64::try_from(lifetime.as_millis()).unwrap(),
        })
    }
}
