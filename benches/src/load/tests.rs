//! The load generator against the echo service, in one process.

use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;

use super::closed::{self, Call, Refusal};
use super::open;
use super::sample::Sample;
use super::streamed;
use super::tally::Tally;
use super::window::{Timing, Window};
use super::wire::{Connection, frame};
use crate::proto::echo::EchoRequest;
use crate::servers::{certificates, echo, echo_service};

const TIMING: Timing =
    Timing { warm_up: Duration::from_millis(50), measure: Duration::from_millis(200) };

async fn connect() -> anyhow::Result<(TempDir, [Connection; 1])> {
    let folder = tempfile::tempdir()?;
    certificates::make(folder.path())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let certificates = folder.path().to_owned();
    tokio::spawn(async move {
        echo_service::serve(listener, &certificates, std::future::pending()).await
    });
    let tls = certificates::caller(folder.path(), "caller")?;
    let connection = Connection::open(address, Some(&tls)).await?;
    Ok((folder, [connection]))
}

#[tokio::test]
async fn closed_loop_counts_answers_and_processor_time() -> anyhow::Result<()> {
    let (_folder, connections) = connect().await?;
    let window = Window::new();
    let tally = Tally::new(&window);
    let own = [rustix::process::getpid()];
    let call = echo::as_long_as(1100, 1200);
    let (passed, ()) = tokio::try_join!(
        window.run(TIMING, &own, &[]),
        closed::run(&connections, &call, 8, &tally),
    )?;
    assert!(tally.answers() > 0);
    assert_eq!(tally.refusals(), 0);
    let sample = Sample::of(&tally, &passed);
    assert!(sample.rate > 0.0 && sample.server_us > 0.0 && sample.p50_us > 0.0, "{sample}");
    Ok(())
}

#[tokio::test]
async fn open_loop_keeps_its_rate_whatever_the_answers() -> anyhow::Result<()> {
    let (_folder, connections) = connect().await?;
    let window = Window::new();
    let tally = Tally::new(&window);
    let call = echo::as_long_as(100, 100);
    tokio::try_join!(window.run(TIMING, &[], &[]), open::run(&connections, &call, 500.0, &tally),)?;
    // 200 ms at 500 a second are 100 calls, on a machine that may be busy with something else.
    assert!((1..=150).contains(&tally.answers()), "{}", tally.answers());
    Ok(())
}

#[tokio::test]
async fn refusals_are_counted_by_code_and_not_as_answers() -> anyhow::Result<()> {
    let (_folder, connections) = connect().await?;
    let window = Window::new();
    let tally = Tally::new(&window);
    let too_long = EchoRequest { reply_bytes: u32::MAX, ..EchoRequest::default() };
    let call = Call::same(echo::UNARY, frame(&too_long));
    tokio::try_join!(window.run(TIMING, &[], &[]), closed::run(&connections, &call, 1, &tally),)?;
    assert_eq!(tally.answers(), 0);
    assert!(tally.refusals() > 0);
    assert_eq!(tally.refusals_with(3), tally.refusals());
    assert!(tally.first_refusal().unwrap().starts_with("gRPC status 3: "));
    Ok(())
}

#[tokio::test]
async fn stream_answers_every_message() -> anyhow::Result<()> {
    let (_folder, connections) = connect().await?;
    let window = Window::new();
    let tally = Tally::new(&window);
    let message = echo::message_as_long_as(1100, 1200);
    let call = Call::same(echo::STREAM, message);
    tokio::try_join!(
        window.run(TIMING, &[], &[]),
        streamed::run(&connections[0], &call, 32, &tally),
    )?;
    assert!(tally.answers() > 0);
    assert_eq!(tally.refusals(), 0);
    Ok(())
}

#[tokio::test]
async fn refusals_on_a_stream_are_told_from_answers() -> anyhow::Result<()> {
    let (_folder, connections) = connect().await?;
    let window = Window::new();
    let tally = Tally::new(&window);
    let refusal: Refusal = |_| Some((8, "busy".to_owned()));
    let message = echo::message_as_long_as(100, 100);
    let call = Call { refusal: Some(refusal), ..Call::same(echo::STREAM, message) };
    tokio::try_join!(
        window.run(TIMING, &[], &[]),
        streamed::run(&connections[0], &call, 4, &tally),
    )?;
    assert_eq!(tally.answers(), 0);
    assert!(tally.refusals_with(8) > 0);
    Ok(())
}

#[tokio::test]
async fn server_that_does_not_exist_is_an_error() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(Connection::open(gone, None).await.is_err());
}
