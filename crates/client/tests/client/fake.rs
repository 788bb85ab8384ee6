//! Nodes that behave as a test tells them to. Each has a runtime of its own, so that it can be killed
//! with all its connections at once, as SIGKILL does.

use std::future::Future;
use std::pin::Pin;
use std::slice::from_ref;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::UnixTime;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::health_server::HealthServer;
use twinkeep_client::{Builder, Client, v1};
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
use twinkeep_pki::authority::Hosts;
use twinkeep_pki::{
    Authority, Callers, Credential, Endpoints, Limits, PrivateKey, Validity, incoming, pem, tls,
};
use twinkeep_proto::metadata;
use twinkeep_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use twinkeep_proto::v1::crypto_service_server::{CryptoService, CryptoServiceServer};
use twinkeep_proto::v1::key_service_server::{KeyService, KeyServiceServer};

mod health;
mod shy;
mod stream;
mod wire;

pub(crate) use health::Health;
pub(crate) use stream::{Streams, Tally, count};
pub(crate) use wire::Wire;

use shy::Shy;
use stream::CallAnswers;

/// What a node does with calls.
#[derive(Clone)]
pub(crate) enum Way {
    Answer,
    /// Answers after a while.
    Slow(Duration),
    /// Never answers.
    Silent,
    /// Refuses, with the leader's address if one is given.
    Refuse(Code, Option<String>),
    /// Refuses, and vouches that nothing was changed.
    RefuseUndone(Code),
    /// Refuses with RESOURCE_EXHAUSTED and a time in milliseconds.
    Busy(u32),
    /// Answers with a damaged ciphertext.
    Damage,
}

/// A call as a node saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: &'static str,
    /// Whether it came on a crypto stream.
    pub(crate) streamed: bool,
    pub(crate) traceparent: String,
    pub(crate) min_state_index: u64,
    pub(crate) token: Vec<u8>,
}

pub(crate) struct State {
    way: Mutex<Way>,
    pub(crate) streams: Mutex<Streams>,
    seen: Mutex<Vec<Seen>>,
    state_index: Mutex<u64>,
    topology: watch::Sender<Option<v1::WatchTopologyResponse>>,
    health: Mutex<Health>,
    pub(crate) tally: Tally,
    me: Weak<State>,
}

pub(crate) struct Node {
    pub(crate) address: String,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

impl Node {
    pub(crate) fn does(&self, way: Way) {
        *self.state.way.lock().unwrap() = way;
    }

    pub(crate) fn refuses(&self, code: Code) {
        self.does(Way::Refuse(code, None));
    }

    /// Refuses with the milliseconds after which to come again.
    pub(crate) fn is_busy(&self, retry_after_ms: u32) {
        self.does(Way::Busy(retry_after_ms));
    }

    pub(crate) fn streams(&self, streams: Streams) {
        *self.state.streams.lock().unwrap() = streams;
    }

    /// What it says of its health, or does instead.
    pub(crate) fn is(&self, health: Health) {
        *self.state.health.lock().unwrap() = health;
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.state.tally
    }

    pub(crate) fn answers_from(&self, state_index: u64) {
        *self.state.state_index.lock().unwrap() = state_index;
    }

    /// The calls seen, but those for the topology.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
    }

    pub(crate) fn shows(&self, topology: v1::WatchTopologyResponse) {
        self.state.topology.send_replace(Some(topology));
    }

    /// How many clients follow the topology here.
    pub(crate) fn followers(&self) -> usize {
        self.state.topology.receiver_count()
    }

    /// Ends all tasks and closes all sockets at once.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How a node treats a new connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Usual,
    /// Says nothing before the client has.
    Shy,
    /// Closes it.
    Curt,
}

/// The certificates of a cluster.
pub(crate) struct Cluster {
    callers: Authority<Callers>,
    endpoints: Authority<Endpoints>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::with_callers_of(id())
    }

    /// A cluster with an id of its own.
    pub(crate) fn of(id: [u8; 16]) -> Self {
        let cluster = ClusterId::from_bytes(id);
        Self {
            callers: Authority::create(cluster, validity()).unwrap(),
            endpoints: Authority::create(cluster, validity()).unwrap(),
        }
    }

    /// A cluster whose nodes trust the caller authority of some cluster, for callers of their own.
    pub(crate) fn with_callers_of(cluster: ClusterId) -> Self {
        Self {
            callers: Authority::create(cluster, validity()).unwrap(),
            endpoints: Authority::create(id(), validity()).unwrap(),
        }
    }

    pub(crate) fn node(&self) -> Node {
        self.node_at("127.0.0.1:0", Manner::Usual)
    }

    /// A node of a later life of this cluster.
    pub(crate) fn node_of_life(&self, incarnation: u64) -> Node {
        let incarnation = Incarnation::new(incarnation).unwrap();
        self.start("127.0.0.1:0", Manner::Usual, incarnation)
    }

    /// A node in the place of one that was killed.
    pub(crate) fn node_instead_of(&self, killed: &Node) -> Node {
        self.node_at(&killed.address, Manner::Usual)
    }

    /// A node that is silent until the client has said something.
    pub(crate) fn shy_node(&self) -> Node {
        self.node_at("127.0.0.1:0", Manner::Shy)
    }

    /// A node that shakes hands and closes the connection, as one that shuts down does.
    pub(crate) fn curt_node(&self) -> Node {
        self.node_at("127.0.0.1:0", Manner::Curt)
    }

    fn node_at(&self, address: &str, manner: Manner) -> Node {
        self.start(address, manner, Incarnation::FIRST)
    }

    fn start(&self, address: &str, manner: Manner, incarnation: Incarnation) -> Node {
        let key = PrivateKey::generate().unwrap();
        let hosts = Hosts { addresses: vec!["127.0.0.1".parse().unwrap()], ..Hosts::default() };
        let node = NodeId::new(1).unwrap();
        let certificate =
            self.endpoints.issue_endpoint(&key.public_key(), node, incarnation, &hosts, short());
        let own = Arc::new(Credential::new(vec![certificate.unwrap()], &key, now()).unwrap());
        let config = tls::endpoint(own, from_ref(self.callers.root()), id()).unwrap();

        let state = Arc::new_cyclic(|me| State {
            way: Mutex::new(Way::Answer),
            streams: Mutex::new(Streams::Take),
            seen: Mutex::default(),
            state_index: Mutex::new(1),
            topology: watch::channel(None).0,
            health: Mutex::new(Health::default()),
            tally: Tally::default(),
            me: Weak::clone(me),
        });
        let runtime = RuntimeBuilder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = bind(address);
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = Arc::clone(&state);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = incoming(listener, config, Limits::default());
            if manner == Manner::Curt {
                tokio::pin!(incoming);
                while let Some(ready) = incoming.next().await {
                    ready.unwrap().shutdown().await.unwrap();
                }
                return Ok(());
            }
            let is_shy = manner == Manner::Shy;
            Server::builder()
                .add_service(CryptoServiceServer::from_arc(Arc::clone(&serving)))
                .add_service(KeyServiceServer::from_arc(Arc::clone(&serving)))
                .add_service(HealthServer::from_arc(Arc::clone(&serving)))
                .add_service(ClusterServiceServer::from_arc(serving))
                .serve_with_incoming(incoming.map(|ready| ready.map(|one| Shy::new(one, is_shy))))
                .await
        });
        Node { address, state, runtime: Some(runtime) }
    }

    /// A client of these nodes, which are in turn in zones a and b; it is in zone a.
    pub(crate) fn client(&self, nodes: &[&Node]) -> Client {
        self.builder(nodes).follow_topology(false).build().unwrap()
    }

    pub(crate) fn builder(&self, nodes: &[&Node]) -> Builder {
        let (chain, key) = self.identity();
        nodes
            .iter()
            .zip(["zone-a", "zone-b"].iter().cycle())
            .fold(self.bare_builder().identity(chain, key), |builder, (node, zone)| {
                builder.endpoint_in(*zone, &node.address)
            })
    }

    /// A builder that knows the root and its zone alone.
    pub(crate) fn bare_builder(&self) -> Builder {
        Client::builder().root(self.root()).zone("zone-a")
    }

    /// The root of endpoints, in PEM.
    pub(crate) fn root(&self) -> String {
        pem::certificates(from_ref(self.endpoints.root()))
    }

    /// A fresh certificate and private key of a caller, in PEM.
    pub(crate) fn identity(&self) -> (Vec<u8>, Vec<u8>) {
        self.identity_for(Duration::from_secs(3600))
    }

    /// The same with a certificate that ends soon.
    pub(crate) fn identity_for(&self, lifetime: Duration) -> (Vec<u8>, Vec<u8>) {
        let key = PrivateKey::generate().unwrap();
        let name = "app".parse().unwrap();
        let validity = Validity::starting(now(), lifetime);
        let certificate = self.callers.issue_caller(&key.public_key(), name, validity).unwrap();
        let chain = pem::certificates(&[certificate]);
        (chain.into(), pem::danger_private_key(&key).as_bytes().to_vec())
    }
}

fn id() -> ClusterId {
    ClusterId::from_bytes([7; 16])
}

/// Seconds since 1970 by the wall clock, which certificates go by.
pub(crate) fn now() -> u64 {
    UnixTime::now().as_secs()
}

fn validity() -> Validity {
    Validity::starting(now(), Duration::from_secs(7200))
}

fn short() -> Validity {
    Validity::starting(now(), Duration::from_secs(3600))
}

/// Listens, as soon as who was killed there is gone.
fn bind(address: &str) -> std::net::TcpListener {
    let began = std::time::Instant::now();
    loop {
        match std::net::TcpListener::bind(address) {
            Err(_) if began.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            bound => return bound.unwrap(),
        }
    }
}

/// Waits for something, but not for ever.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = tokio::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

impl State {
    /// Notes the call and behaves.
    pub(crate) async fn take(&self, seen: Seen) -> Result<Way, Status> {
        self.seen.lock().unwrap().push(seen);
        match self.way() {
            Way::RefuseUndone(code) => {
                let mut status = Status::new(code, "as the test says");
                status.metadata_mut().insert(metadata::NOT_DONE, "1".parse().unwrap());
                Err(status)
            }
            Way::Busy(retry_after_ms) => Err(busy(retry_after_ms)),
            Way::Silent => std::future::pending().await,
            Way::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(Way::Answer)
            }
            Way::Refuse(code, leader) => {
                let mut status = Status::new(code, "as the test says");
                if let Some(leader) = leader {
                    status.metadata_mut().insert(metadata::LEADER, leader.parse().unwrap());
                }
                Err(status)
            }
            way => Ok(way),
        }
    }

    pub(crate) fn way(&self) -> Way {
        self.way.lock().unwrap().clone()
    }

    /// Itself, for its tasks.
    pub(crate) fn me(&self) -> Arc<Self> {
        self.me.upgrade().unwrap()
    }

    pub(crate) fn state_index(&self) -> u64 {
        *self.state_index.lock().unwrap()
    }
}

/// A refusal with a time to come back; 0 stands for none.
fn busy(retry_after_ms: u32) -> Status {
    let mut status = Status::resource_exhausted("busy, as the test says");
    status.metadata_mut().insert(metadata::PUSHBACK_MS, u64::from(retry_after_ms).into());
    status
}

type Answering<'a, A> = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send + 'a>>;

/// The token of a request that has one.
trait Token {
    fn token(&self) -> Vec<u8> {
        Vec::new()
    }
}

impl Token for v1::CreateKeyRequest {
    fn token(&self) -> Vec<u8> {
        self.idempotency_token.to_vec()
    }
}

/// Writes a service: the calls that the tests use, then those that they do not.
macro_rules! service {
    ($service:ident: { $($method:ident $ask:ident $answer:ident $make:expr;)* } { $($unused:ident $unused_ask:ident $unused_answer:ident)* } $($rest:tt)*) => {
        impl $service for State {
            $(
                fn $method<'life, 'call>(&'life self, request: Request<v1::$ask>) -> Answering<'call, v1::$answer>
                where
                    'life: 'call,
                    Self: 'call,
                {
                    Box::pin(async move {
                        let traceparent = trace_of(request.metadata());
                        let ask = request.into_inner();
                        let seen = Seen {
                            method: stringify!($method),
                            streamed: false,
                            traceparent,
                            min_state_index: ask.min_state_index,
                            token: ask.token(),
                        };
                        let way = self.take(seen).await?;
                        let make: fn(v1::$ask, Way) -> v1::$answer = $make;
                        let answer = make(ask, way);
                        Ok(Response::new(v1::$answer { state_index: self.state_index(), ..answer }))
                    })
                }
            )*
            $(
                fn $unused<'life, 'call>(&'life self, _: Request<v1::$unused_ask>) -> Answering<'call, v1::$unused_answer>
                where
                    'life: 'call,
                    Self: 'call,
                {
                    Box::pin(async { Err(Status::unimplemented("not in these tests")) })
                }
            )*
            $($rest)*
        }
    };
}

impl Token for v1::EncryptRequest {}
impl Token for v1::DecryptRequest {}
impl Token for v1::GenerateDataKeyRequest {}
impl Token for v1::DescribeKeyRequest {}
impl Token for v1::EnableKeyRequest {}
impl Token for v1::AdmitNodeRequest {}

fn trace_of(metadata: &MetadataMap) -> String {
    metadata.get("traceparent").map(|text| text.to_str().unwrap().to_owned()).unwrap_or_default()
}

pub(crate) fn encrypted(ask: v1::EncryptRequest, way: Way) -> v1::EncryptResponse {
    let mut ciphertext = ask.plaintext.to_vec();
    ciphertext.reverse();
    let sum = crc32c::crc32c(&ciphertext);
    if matches!(way, Way::Damage) {
        ciphertext[0] ^= 1;
    }
    v1::EncryptResponse {
        ciphertext: ciphertext.into(),
        ciphertext_crc32c: sum,
        verified_plaintext_crc32c: ask.plaintext_crc32c == Some(crc32c::crc32c(&ask.plaintext)),
        ..Default::default()
    }
}

service! { CryptoService:
    {
        encrypt EncryptRequest EncryptResponse encrypted;
        decrypt DecryptRequest DecryptResponse |ask, _| decrypted(ask);
        generate_data_key GenerateDataKeyRequest GenerateDataKeyResponse |_, _| data_key();
    }
    {
        encrypt_batch EncryptBatchRequest EncryptBatchResponse
        decrypt_batch DecryptBatchRequest DecryptBatchResponse
        re_encrypt ReEncryptRequest ReEncryptResponse
        re_encrypt_batch ReEncryptBatchRequest ReEncryptBatchResponse
        generate_data_key_batch GenerateDataKeyBatchRequest GenerateDataKeyBatchResponse
        generate_data_key_without_plaintext GenerateDataKeyWithoutPlaintextRequest GenerateDataKeyWithoutPlaintextResponse
        generate_data_key_without_plaintext_batch GenerateDataKeyWithoutPlaintextBatchRequest GenerateDataKeyWithoutPlaintextBatchResponse
        sign SignRequest SignResponse
        sign_batch SignBatchRequest SignBatchResponse
        verify VerifyRequest VerifyResponse
        verify_batch VerifyBatchRequest VerifyBatchResponse
        generate_mac GenerateMacRequest GenerateMacResponse
        generate_mac_batch GenerateMacBatchRequest GenerateMacBatchResponse
        verify_mac VerifyMacRequest VerifyMacResponse
        verify_mac_batch VerifyMacBatchRequest VerifyMacBatchResponse
        get_public_key GetPublicKeyRequest GetPublicKeyResponse
        get_public_key_batch GetPublicKeyBatchRequest GetPublicKeyBatchResponse
        generate_random GenerateRandomRequest GenerateRandomResponse
        generate_random_batch GenerateRandomBatchRequest GenerateRandomBatchResponse
    }

    type CryptoStreamStream = CallAnswers;

    fn crypto_stream<'life, 'call>(&'life self, request: Request<Streaming<v1::CryptoStreamRequest>>) -> Answering<'call, CallAnswers>
    where
        'life: 'call,
        Self: 'call,
    {
        Box::pin(async { stream::serve(self.me(), request.into_inner()).map(Response::new) })
    }
}

/// What stands for wrapping a data key here.
fn wrapped(key: &[u8]) -> Bytes {
    key.iter().map(|byte| byte ^ 0x55).collect()
}

pub(crate) fn data_key() -> v1::GenerateDataKeyResponse {
    let mut key = vec![0; 32];
    SystemRandom::new().fill(&mut key).unwrap();
    let ciphertext = wrapped(&key);
    v1::GenerateDataKeyResponse {
        plaintext_crc32c: crc32c::crc32c(&key),
        plaintext: key.into(),
        ciphertext_crc32c: crc32c::crc32c(&ciphertext),
        ciphertext,
        key_id: "key-00112233445566778899aabbccddeeff".to_owned(),
        ..Default::default()
    }
}

pub(crate) fn decrypted(ask: v1::DecryptRequest) -> v1::DecryptResponse {
    let plaintext = wrapped(&ask.ciphertext);
    v1::DecryptResponse {
        plaintext_crc32c: crc32c::crc32c(&plaintext),
        plaintext,
        verified_ciphertext_crc32c: ask.ciphertext_crc32c == Some(crc32c::crc32c(&ask.ciphertext)),
        key_id: "key-00112233445566778899aabbccddeeff".to_owned(),
        ..Default::default()
    }
}

service! { KeyService:
    {
        create_key CreateKeyRequest CreateKeyResponse |_, _| v1::CreateKeyResponse::default();
        describe_key DescribeKeyRequest DescribeKeyResponse |_, _| v1::DescribeKeyResponse::default();
        enable_key EnableKeyRequest EnableKeyResponse |_, _| v1::EnableKeyResponse::default();
    }
    {
        list_keys ListKeysRequest ListKeysResponse
        disable_key DisableKeyRequest DisableKeyResponse
        update_key_description UpdateKeyDescriptionRequest UpdateKeyDescriptionResponse
    }
}

type Topology =
    Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::WatchTopologyResponse, Status>> + Send>>;

service! { ClusterService:
    { admit_node AdmitNodeRequest AdmitNodeResponse |_, _| v1::AdmitNodeResponse::default(); }
    {
        get_status GetStatusRequest GetStatusResponse
        diagnose DiagnoseRequest DiagnoseResponse
        list_members ListMembersRequest ListMembersResponse
        promote_nodes PromoteNodesRequest PromoteNodesResponse
        remove_node RemoveNodeRequest RemoveNodeResponse
        drain_zone DrainZoneRequest DrainZoneResponse
        undrain_zone UndrainZoneRequest UndrainZoneResponse
        prefer_zone PreferZoneRequest PreferZoneResponse
        unseal UnsealRequest UnsealResponse
        seal SealRequest SealResponse
    }

    type WatchTopologyStream = Topology;

    fn watch_topology<'life, 'call>(&'life self, _: Request<v1::WatchTopologyRequest>) -> Answering<'call, Topology>
    where
        'life: 'call,
        Self: 'call,
    {
        let views = WatchStream::new(self.topology.subscribe());
        Box::pin(async { Ok(Response::new(Box::pin(views.filter_map(|view| view.map(Ok))) as Topology)) })
    }
}

pub(crate) fn hello() -> v1::EncryptRequest {
    v1::EncryptRequest { plaintext: "hello".into(), ..Default::default() }
}
