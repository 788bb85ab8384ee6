//! One trace over client, node and leader, by single calls and on streams: a collector of our own takes what real
//! nodes send.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use twinkeep_client::v1;
use twinkeep_tests::Cluster;

/// Nodes send what has gathered every five seconds.
const SENT_MAX: Duration = Duration::from_secs(60);
const CLIENT_SPAN: &str = "b7ad6b7169203331";

/// A span with the address of the node that sent it.
#[derive(Clone, Debug)]
struct Sent {
    by: String,
    span: Span,
}

impl Sent {
    fn id(&self) -> String {
        hex::encode(&self.span.span_id)
    }

    fn parent(&self) -> String {
        hex::encode(&self.span.parent_span_id)
    }
}

/// Keeps every span.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Sent>>>);

impl Collector {
    async fn start(&self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = TraceServiceServer::new(self.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(address)
    }

    fn of_trace(&self, id: &str) -> Vec<Sent> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|sent| hex::encode(&sent.span.trace_id) == id).cloned().collect()
    }

    /// Waits for a span of whatever trace, but those.
    async fn wait_for_another(&self, not: &[&str], name: &str, by: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let found = {
                let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let others = |sent: &&Sent| {
                    let trace = hex::encode(&sent.span.trace_id);
                    !not.contains(&trace.as_str())
                };
                all.iter().filter(others).any(|sent| sent.span.name == name && sent.by == by)
            };
            if found {
                return Ok(());
            }
            ensure!(started.elapsed() < SENT_MAX, "no span {name} of another trace by {by}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for a span.
    async fn wait(&self, id: &str, is_it: impl Fn(&Sent) -> bool) -> anyhow::Result<Sent> {
        let started = Instant::now();
        loop {
            let spans = self.of_trace(id);
            if let Some(found) = spans.iter().find(|sent| is_it(sent)) {
                return Ok(found.clone());
            }
            ensure!(started.elapsed() < SENT_MAX, "not among the spans of {id}: {spans:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let by = text(&attributes, "service.instance.id").unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            all.extend(spans.map(|span| Sent { by: by.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn parent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{CLIENT_SPAN}-{flags}")
}

fn encrypt(key_id: &str) -> v1::EncryptRequest {
    let (key_id, plaintext) = (key_id.to_owned(), "a message".into());
    v1::EncryptRequest { key_id, plaintext, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_spans_client_node_and_leader() -> anyhow::Result<()> {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const ON_STREAM: &str = "1bf7651916cd43dd8448eb211c80319d";
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.start().await?);
    let cluster = Cluster::start_with(&["--otlp-endpoint", &endpoint]).await?;
    let status = cluster.client("app")?.get_status(v1::GetStatusRequest::default()).await?;
    let mut follower = None;
    let mut leader = None;
    for node in cluster.data_nodes() {
        let of_node = cluster.client_at("admin", node)?.get_status(Default::default()).await?;
        let is_leader = of_node.node_id == status.leader_node_id;
        let place = if is_leader { &mut leader } else { &mut follower };
        *place = Some(node);
    }
    let (follower, leader) = (follower.context("a follower")?, leader.context("a leader")?);

    let client = cluster.client_at("app", follower)?;
    let sampled = client.with_traceparent(&parent(TRACE, "01"));
    let created = sampled.create_key(cluster.new_key()?).await?;

    let at = |address: SocketAddr, name: &'static str| {
        move |sent: &Sent| sent.by == address.to_string() && sent.span.name == name
    };
    let call = collector.wait(TRACE, at(follower.client_address, "CreateKey")).await?;
    ensure!(call.parent() == CLIENT_SPAN, "the call's parent is {}", call.parent());
    let proposal = collector.wait(TRACE, at(follower.client_address, "propose")).await?;
    ensure!(proposal.parent() == call.id(), "the proposal's parent is {}", proposal.parent());
    let led = collector.wait(TRACE, at(leader.client_address, "Propose")).await?;
    ensure!(led.parent() == proposal.id(), "the leader's parent is {}", led.parent());

    let request = text(&call.span.attributes, "request").context("the span has no request id")?;
    let audit = cluster.path(&follower.name).join("data/audit");
    ensure!(request.len() > 30 && audit.exists(), "`{request}` is no id of a request");

    // On a stream. The node draws by itself, here all, whether the caller traces the call or not.
    let not_sampled = client.with_traceparent(&parent(ON_STREAM, "00"));
    let key_id = cluster.first_key()?;
    not_sampled.encrypt(encrypt(&key_id)).await?;
    let junk = v1::DecryptRequest { ciphertext: "junk".into(), ..Default::default() };
    not_sampled.decrypt(junk).await.expect_err("junk is no ciphertext");
    for (name, outcome) in [("Encrypt", "OK"), ("Decrypt", "INVALID_ARGUMENT")] {
        let call = collector.wait(ON_STREAM, at(follower.client_address, name)).await?;
        ensure!(call.parent() == CLIENT_SPAN, "the call's parent is {}", call.parent());
        let said = text(&call.span.attributes, "outcome");
        ensure!(said.as_deref() == Some(outcome), "{name} ended with {said:?}");
        let request = text(&call.span.attributes, "request").context("no request id")?;
        ensure!(request.len() > 30, "`{request}` is no id of a request");
    }
    client.encrypt(encrypt(&key_id)).await?;
    let by = follower.client_address.to_string();
    collector.wait_for_another(&[TRACE, ON_STREAM], "Encrypt", &by).await?;

    // Nothing is said but what was chosen to be said.
    let created = created.key.context("no key")?.key_id;
    let said = [collector.of_trace(TRACE), collector.of_trace(ON_STREAM)].concat();
    let keys = said.iter().flat_map(|sent| &sent.span.attributes).map(|one| one.key.as_str());
    let keys: BTreeSet<_> = keys.collect();
    ensure!(keys.iter().all(|key| ["outcome", "request", "rpc.system"].contains(key)), "{keys:?}");
    ensure!(said.iter().all(|sent| sent.span.events.is_empty()), "messages went into spans");
    let said = format!("{said:?}");
    ensure!(!said.contains(&created) && !said.contains(&key_id), "a span names the key");
    Ok(())
}
