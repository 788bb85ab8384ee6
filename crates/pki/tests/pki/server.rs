//! A listener that nobody can stop or hold up, and gRPC over it.

use std::slice::from_ref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use twinkeep_pki::{ConnectInfo, Connector, Identity, Limits, lanes, tls};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn rubbish_and_broken_connections_do_not_end_the_loop() {
    let authorities = authorities();
    let (address, mut accepted) = listen(authorities.endpoint(), Limits::default()).await;
    for rubbish in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff], &[0; 4096]] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(rubbish).await.unwrap();
        drop(tcp);
    }
    let strangers = crate::common::authorities();
    let client = tls::caller(
        Some(strangers.caller_credential("app")),
        from_ref(authorities.endpoints.root()),
    );
    let refused = connect("127.0.0.1", address, client.unwrap());
    timeout(SOON, refused).await.unwrap().unwrap_err();

    let client = tls::caller(None, from_ref(authorities.endpoints.root())).unwrap();
    let connecting =
        tokio::spawn(async move { connect("127.0.0.1", address, client).await.map(drop) });
    let mut connection = timeout(SOON, accepted.next()).await.unwrap().unwrap().unwrap();
    greet(&mut connection).await;
    connecting.await.unwrap().unwrap();
}

#[tokio::test]
async fn silent_clients_are_cut_off_and_hold_up_nobody() {
    let authorities = authorities();
    let limits =
        Limits { handshake: Duration::from_millis(300), handshakes_max: 4, ..Limits::default() };
    let (address, mut accepted) = listen(authorities.endpoint(), limits).await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // One handshake is left for the honest.
    let client = tls::caller(None, from_ref(authorities.endpoints.root())).unwrap();
    let honest = tokio::spawn(async move { connect("127.0.0.1", address, client).await.map(drop) });
    let mut connection = timeout(SOON, accepted.next()).await.unwrap().unwrap().unwrap();
    assert!(began.elapsed() < limits.handshake, "waited for the silent");
    greet(&mut connection).await;
    honest.await.unwrap().unwrap();

    for mut tcp in silent {
        let cut_off = timeout(SOON, tcp.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(cut_off, Ok(0) | Err(_)));
    }
    assert!(began.elapsed() >= limits.handshake);
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_closes() {
    let authorities = authorities();
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let (address, mut accepted) = listen(authorities.endpoint(), limits).await;
    for _ in 0..3 {
        let client = tls::caller(None, from_ref(authorities.endpoints.root())).unwrap();
        tokio::spawn(async move { connect("127.0.0.1", address, client).await.map(drop) });
    }
    let first = timeout(SOON, accepted.next()).await.unwrap().unwrap().unwrap();
    let _second = timeout(SOON, accepted.next()).await.unwrap().unwrap().unwrap();
    timeout(Duration::from_millis(300), accepted.next()).await.expect_err("a third over the limit");
    drop(first);
    timeout(SOON, accepted.next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn connection_without_a_certificate_is_closed_after_its_time() {
    let authorities = authorities();
    let without_certificate = Duration::from_millis(300);
    let limits = Limits { without_certificate, ..Limits::default() };
    let (address, mut accepted) = listen(authorities.endpoint(), limits).await;
    let began = Instant::now();
    for own in [None, Some(authorities.caller_credential("app"))] {
        let is_stranger = own.is_none();
        let client = tls::caller(own, from_ref(authorities.endpoints.root())).unwrap();
        let silent = tokio::spawn(async move {
            let connection = connect("127.0.0.1", address, client).await;
            tokio::time::sleep(SOON).await;
            drop(connection);
        });
        let mut connection = timeout(SOON, accepted.next()).await.unwrap().unwrap().unwrap();
        greet(&mut connection).await;
        let read = timeout(3 * without_certificate, connection.read(&mut [0; 16])).await;
        if is_stranger {
            assert_eq!(read.unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
            assert!(began.elapsed() >= without_certificate);
        } else {
            read.expect_err("a caller who says nothing may stay");
        }
        silent.abort();
    }
}

/// The acceptor waited for the one lane that had the fewest connections, and with it everybody.
#[tokio::test]
async fn lane_that_is_stuck_holds_up_no_other() {
    let authorities = authorities();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut lanes = lanes(listener, authorities.endpoint(), Limits::default(), 2).into_iter();
    // Its thread takes nothing.
    let _stuck = lanes.next().unwrap();
    let mut accepted = lanes.next().unwrap().incoming();
    let mut silent = Vec::new();
    // More than a lane has room for, in each.
    for _ in 0..150 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let client = tls::caller(None, from_ref(authorities.endpoints.root())).unwrap();
    tokio::spawn(async move { connect("127.0.0.1", address, client).await.map(drop) });
    timeout(SOON, accepted.next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn connections_wait_while_all_lanes_are_stuck_and_go_on_when_one_is_not() {
    let authorities = authorities();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut lanes = lanes(listener, authorities.endpoint(), Limits::default(), 2).into_iter();
    let (_stuck, late) = (lanes.next().unwrap(), lanes.next().unwrap());
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let client = tls::caller(None, from_ref(authorities.endpoints.root())).unwrap();
    tokio::spawn(async move { connect("127.0.0.1", address, client).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut accepted = late.incoming();
    timeout(SOON, accepted.next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn dropping_the_stream_closes_the_port() {
    let (address, accepted) = listen(authorities().endpoint(), Limits::default()).await;
    drop(accepted);
    timeout(SOON, async { while TcpStream::connect(address).await.is_ok() {} }).await.unwrap();
}

#[tokio::test]
async fn grpc_requests_carry_the_connections_identity() {
    let authorities = authorities();
    let (address, accepted) = listen(authorities.endpoint(), Limits::default()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let (_reporter, health) = tonic_health::server::health_reporter();
    let service = tonic::service::interceptor::InterceptedService::new(
        health,
        move |request: tonic::Request<()>| {
            let info = request.extensions().get::<ConnectInfo>().expect("set by the listener");
            record.lock().unwrap().push(info.identity().cloned());
            Ok(request)
        },
    );
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(accepted));

    let own = authorities.caller_credential("app");
    for own in [Some(own), None] {
        let config = tls::caller(own, from_ref(authorities.endpoints.root())).unwrap();
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_with_connector(Connector::new(config, SOON))
            .await
            .unwrap();
        let request = HealthCheckRequest { service: String::new() };
        HealthClient::new(channel).check(request).await.unwrap();
    }
    let app = Identity::Caller { cluster: cluster(), name: "app".parse().unwrap() };
    assert_eq!(*seen.lock().unwrap(), [Some(app), None]);
}

#[tokio::test]
async fn silent_server_costs_the_caller_its_limit_and_no_more() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let config = tls::caller(None, from_ref(authorities().endpoints.root())).unwrap();
    let mut connector = Connector::new(config, Duration::from_millis(200));
    let connecting = tower::Service::call(&mut connector, uri);
    let error = timeout(SOON, connecting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}
