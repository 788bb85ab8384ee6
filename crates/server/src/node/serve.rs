//! Serves: Raft, and on data nodes the callers; until the process is told to stop or must not go on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::FutureExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tower::util::option_layer;
use twinkeep_api::arrival::Arrivals;
use twinkeep_api::health::{self, Condition};
use twinkeep_api::ports::{Backends, Ports, UnsealSecret};
use twinkeep_api::{Services, reflection, trace_streams};
use twinkeep_audit::Log;
use twinkeep_core::record::{ClusterRecord, Record};
use twinkeep_crypto::SoftwareBackend;
use twinkeep_envelope::OpenKey;
use twinkeep_pki::{Credential, Limits, lanes, tls};
use zeroize::Zeroizing;

use super::assembly::Assembly;
use super::renewal::Renewal;
use super::{caller_threads, endpoint, fence, local_desk};
use crate::config::{Config, Role};
use crate::identity::{DataDir, check_private};
use crate::lives;
use crate::metrics;
use crate::ports::cluster::{Cluster, watch_topology};
use crate::ports::diagnosis::Diagnostics;
use crate::telemetry::{Begin, Disk, Telemetry, TraceCalls};

/// Longest time for handing leadership over; nobody takes it while the whole cluster is being stopped.
const HAND_OVER_MAX: Duration = Duration::from_secs(3);
/// Longest time for finishing calls after SIGTERM.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long a removed node still votes: the others may need it for the very change that takes it out.
const LEAVING: Duration = Duration::from_secs(3);
/// Most calls and streams of one connection that are open at a time; the client holds further ones back.
const CONNECTION_CALLS_MAX: u32 = 128;
/// How often the health report follows the node's condition.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// Runs an assembled node until it is told to stop.
pub(crate) async fn serve(
    config: &Config,
    data: &DataDir,
    assembly: Assembly,
    root: Option<OpenKey>,
    telemetry: &Telemetry,
) -> anyhow::Result<()> {
    let assembly = Arc::new(assembly);
    metrics::of_node(&telemetry.scrape, &assembly, config.node.role);
    assembly.run();
    local_desk::open(data, &assembly, config.node.role)?;
    tokio::spawn(renewal(config, data, &assembly).of_node());
    tokio::spawn(fence::tell_the_lost(Arc::clone(&assembly)));
    let node = assembly.node().clone();
    let stop = Stop::default();
    let work = async {
        match config.node.role {
            Role::Data => serve_callers(config, data, &assembly, root, telemetry, &stop).await,
            // A witness has no callers.
            Role::Witness => std::future::pending().await,
        }
    };
    tokio::pin!(work);
    tokio::select! {
        () = assembly.peer_port_closed.cancelled() => bail!("the peer port has closed; see above"),
        () = assembly.fenced.cancelled() => {
            lives::check(data, None)?;
            bail!("this node was given up");
        }
        fatal = node.fatal() => bail!("{fatal}; the process ends so that nobody counts on this node"),
        ended = &mut work => return ended.context("the endpoint has closed"),
        () = told_to_stop() => tracing::info!("told to stop; handing over"),
        () = removed(&assembly) => tracing::info!("this node was removed; finishing its calls"),
    }
    // Callers are to go elsewhere while this node still answers them.
    stop.leaving.cancel();
    assembly.control.stop();
    if let Err(error) = node.drain(Instant::now() + HAND_OVER_MAX).await {
        tracing::warn!(%error, "leadership was not handed over");
    }
    stop.ending.cancel();
    if config.node.role == Role::Data {
        work.await?;
    }
    assembly.unsealer.seal();
    let is_removed = is_removed(&assembly);
    if is_removed {
        sleep(LEAVING).await;
    }
    node.shutdown().await;
    ensure!(
        !is_removed,
        "this node was removed from the cluster and serves nobody; {}: wipe {}",
        what_it_has(config.node.role),
        config.node.data_dir.display()
    );
    Ok(())
}

/// The two steps of a node that is told to stop.
#[derive(Default)]
struct Stop {
    /// It hands over, and says that it is not to be called any more; it answers as ever.
    leaving: CancellationToken,
    /// It takes no further calls and finishes those it has.
    ending: CancellationToken,
}

/// What a node leaves behind on its disk.
fn what_it_has(role: Role) -> &'static str {
    match role {
        Role::Data => "it has seen keys",
        Role::Witness => "it has the log, whose keys are sealed",
    }
}

fn is_removed(assembly: &Assembly) -> bool {
    assembly.node().roster().is_removed(assembly.me.node.get())
}

/// Waits until the cluster has taken this node out, as far as it is told.
async fn removed(assembly: &Assembly) {
    let mut applied = assembly.node().applied();
    while !is_removed(assembly) {
        if applied.changed().await.is_err() {
            // Raft has stopped, and that is told otherwise.
            std::future::pending::<()>().await;
        }
    }
}

fn renewal(config: &Config, data: &DataDir, assembly: &Arc<Assembly>) -> Renewal {
    Renewal { config: config.clone(), data: data.clone(), assembly: Arc::clone(assembly) }
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn told_to_stop() {
    let streams = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match streams {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without handlers the signals end the process by themselves.
        _ => std::future::pending().await,
    }
}

async fn serve_callers(
    config: &Config,
    data: &DataDir,
    assembly: &Arc<Assembly>,
    root: Option<OpenKey>,
    telemetry: &Telemetry,
    stop: &Stop,
) -> anyhow::Result<()> {
    let Stop { leaving, ending: stop } = stop;
    // Told to stop before it has served anybody: there is nothing to finish.
    let Some(cluster) = stop.run_until_cancelled(begun(assembly)).await else { return Ok(()) };
    let cluster = cluster?;
    unseal(config, assembly, root).await?;
    if endpoint::needs_key(config, data, assembly) {
        tracing::warn!(
            "the endpoint has no valid certificate, and a sealed node cannot issue one; waiting for `twinkeep unseal \
             --socket {}`",
            data.path("admin.sock").display()
        );
        if stop.run_until_cancelled(unsealed(assembly)).await.is_none() {
            return Ok(());
        }
    }
    let credential = endpoint::credential(config, data, assembly)?;
    let audit = open_audit(config, data, assembly)?;
    metrics::of_callers(&telemetry.scrape, assembly, &audit, &credential);
    let cluster_port = Arc::new(Cluster {
        me: assembly.me.node,
        identity: assembly.identity.clone(),
        control: Arc::clone(&assembly.control),
        state: Arc::clone(&assembly.state),
        issuer: Arc::clone(&assembly.issuer),
        unsealer: Arc::clone(&assembly.unsealer),
        possession: assembly.possession.clone(),
        clock: Arc::clone(&assembly.clock),
        topology: watch_topology(assembly.node().clone(), assembly.me.node, stop.clone()),
        diagnostics: Diagnostics {
            log: assembly.log.clone(),
            disk: Disk(config.node.data_dir.clone()),
            node: Arc::clone(&assembly.credential),
            endpoint: Arc::clone(&credential),
            clock: Arc::clone(&assembly.clock),
        },
    });
    let services = Services::new(
        assembly.me.cluster,
        Ports {
            control: Arc::clone(&assembly.control) as _,
            vault: Arc::clone(&assembly.vault) as _,
            backends: Backends { software: Arc::new(SoftwareBackend::new()?) },
            cluster: cluster_port,
            audit: Arc::clone(&audit),
            issuer: Arc::clone(&assembly.issuer) as _,
            clock: Arc::clone(&assembly.clock),
            stop: stop.clone(),
        },
    );
    let (reporter, health) = tonic_health::server::health_reporter();
    let watched = (Arc::clone(assembly), Arc::clone(&audit));
    tokio::spawn(report_health(watched, leaving.clone(), reporter));
    tokio::spawn(renewal(config, data, assembly).of_endpoint(Arc::clone(&credential)));
    tokio::spawn(reload_on_hangup(Arc::clone(assembly), Arc::clone(&credential)));
    let address = config.node.client_address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("node.client-address {address} cannot be listened on"))?;
    let caller_roots = [cluster.roots.caller.clone().into()];
    let tls = tls::endpoint(credential, &caller_roots, cluster.id)?;
    let limits = Limits { connections_max: config.api.connections_max, ..Limits::default() };
    let traced = TraceCalls::of(config, Begin::Sampled);
    if let Some(traced) = traced {
        trace_streams(Box::new(move |parent, name| traced.on_stream(parent, name)));
    }
    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .max_concurrent_streams(Some(CONNECTION_CALLS_MAX))
        .layer(Arrivals)
        .layer(option_layer(traced))
        .add_routes(services.routes())
        .add_service(health);
    let server = if config.api.reflection { reflection(server) } else { server };
    let threads = config.api.threads();
    tracing::info!(%address, threads, "serving callers");
    let serving = caller_threads::run(lanes(listener, tls, limits, threads), || {
        let (server, stop) = (server.clone(), stop.clone());
        Box::new(move |connections| {
            server.serve_with_incoming_shutdown(connections, stop.cancelled_owned()).boxed()
        })
    });
    let served = tokio::select! {
        served = serving => served,
        () = time_is_up(stop) => {
            tracing::warn!("calls were still running at the end of the time for stopping");
            Ok(())
        }
    };
    audit.close().context("the audit log was not closed cleanly")?;
    served
}

/// Waits until the node has keys.
async fn unsealed(assembly: &Assembly) {
    while assembly.unsealer.is_sealed() {
        sleep(HEALTH_INTERVAL).await;
    }
}

/// Waits for the stop, and then as long as calls may take.
async fn time_is_up(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(DRAIN_MAX).await;
}

/// Waits until this node has the cluster's record: at once after a restart, after catching up when it has
/// just joined.
async fn begun(assembly: &Assembly) -> anyhow::Result<ClusterRecord> {
    let mut applied = assembly.node().applied();
    loop {
        if let Some(cluster) = ClusterRecord::load(&assembly.state.latest(), &())? {
            return Ok(cluster);
        }
        applied.changed().await.context("the state machine stopped")?;
    }
}

/// Opens the keyring by what this node has at hand. A node that has nothing waits for operators.
async fn unseal(
    config: &Config,
    assembly: &Arc<Assembly>,
    root: Option<OpenKey>,
) -> anyhow::Result<()> {
    if let Some(root) = root {
        assembly
            .unsealer
            .open_with_root(root)
            .context("the root key that a peer sent does not open")?;
    }
    let Some(path) =
        config.unseal.passphrase_file.as_ref().filter(|_| assembly.unsealer.is_sealed())
    else {
        return Ok(());
    };
    check_private(path).context("unseal.passphrase-file")?;
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .with_context(|| format!("unseal.passphrase-file {} cannot be read", path.display()))?;
    let words = Zeroizing::new(text.trim_end_matches('\n').to_owned());
    let unsealer = Arc::clone(&assembly.unsealer);
    let offered =
        tokio::task::spawn_blocking(move || unsealer.offer(UnsealSecret::Passphrase(words)));
    offered.await?.context("unseal.passphrase-file does not unseal this node")?;
    Ok(())
}

fn open_audit(config: &Config, data: &DataDir, assembly: &Assembly) -> anyhow::Result<Arc<Log>> {
    let identity = twinkeep_audit::Identity {
        cluster: assembly.me.cluster,
        node: assembly.me.node,
        zone: config.placement()?.zone,
    };
    let reserve_bytes = config.audit.reserve_mib << 20;
    let defaults = twinkeep_audit::Options::default();
    let options = twinkeep_audit::Options {
        // A segment is never larger than the room kept for bad days.
        segment_bytes: defaults
            .segment_bytes
            .min(reserve_bytes.max(twinkeep_audit::SEGMENT_BYTES_MIN)),
        reserve_bytes,
        ..defaults
    };
    let log = Log::open(&data.path("audit"), identity, &options, Arc::clone(&assembly.clock));
    Ok(Arc::new(log.context("the audit log cannot be opened")?))
}

/// Reports to load balancers and clients what the node can do; once it leaves, that it serves nothing.
async fn report_health(
    (assembly, audit): (Arc<Assembly>, Arc<Log>),
    leaving: CancellationToken,
    reporter: tonic_health::server::HealthReporter,
) {
    let mut reported = None;
    while !leaving.is_cancelled() {
        let condition = if audit.status().outage.is_some() {
            // No call is answered without its record, so callers are better served elsewhere.
            Condition::Down
        } else if assembly.unsealer.is_sealed() {
            Condition::Sealed
        } else {
            Condition::Serving
        };
        if reported != Some(condition) {
            health::report(&reporter, condition).await;
            reported = Some(condition);
        }
        leaving.run_until_cancelled(sleep(HEALTH_INTERVAL)).await;
    }
    health::report(&reporter, Condition::Down).await;
}

/// Reads the certificates again on SIGHUP.
async fn reload_on_hangup(assembly: Arc<Assembly>, endpoint: Arc<Credential>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        let now_unix = assembly.clock.unix_ms() / 1000;
        for (what, credential) in [("endpoint", &endpoint), ("node", &assembly.credential)] {
            match credential.reload(now_unix) {
                Ok(_) => tracing::info!(what, "the certificate was read again"),
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::error!(what, error, "the old certificate stays in use");
                }
            }
        }
    }
}
