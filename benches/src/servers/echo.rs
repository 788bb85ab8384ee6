//! Starts the echo service and makes calls of it that are as long as others.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;
use bytes::Bytes;
use prost::Message;

use super::{Server, certificates, pid};
use crate::load::closed::Call;
use crate::load::wire::{FRAME_HEADER_BYTES, frame};
use crate::proto::echo::EchoRequest;
use crate::system::cores;

/// The unary call.
pub(crate) const UNARY: &str = "/twinkeep.bench.echo.Echo/Unary";
/// The bidirectional stream.
pub(crate) const STREAM: &str = "/twinkeep.bench.echo.Echo/Stream";

/// A running echo server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Echo {
    server: Server,
    process: Child,
    /// Held so that the process ends when this one is killed.
    _input: Option<ChildStdin>,
}

impl Echo {
    /// Starts one with the system's allocator, as a user would have it.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo");
        Self::start_program("echo", command, folder)
    }

    /// Starts one with the node's allocator, which wipes what it takes back.
    pub(crate) fn start_wiping(folder: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("twinkeep-echo-wiping");
        Self::start_program("echo, wiping", Command::new(program), folder)
    }

    /// Starts one on tokio's runtime for several threads, with one worker.
    pub(crate) fn start_multi_thread(folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["echo", "--multi-thread"]);
        Self::start_program("echo, multi", command, folder)
    }

    fn start_program(
        name: &'static str,
        mut command: Command,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        command.arg("--certificates").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = cores::spawn_on(&[cores::LOAD], &mut command)?;
        let _input = process.stdin.take();
        let mut line = String::new();
        let output = process.stdout.take().context("the echo server has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().context("the echo server did not start")?;
        let tls = Some(certificates::caller(folder, "caller")?);
        let server = Server { name, process: pid(process.id())?, address, tls };
        Ok(Self { server, process, _input })
    }

    /// Returns where it is.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It would first finish the calls of connections whose tasks wait for this very thread.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A call whose request and answer are as long as those of another call, frames included.
pub(crate) fn as_long_as(request_bytes: usize, answer_bytes: usize) -> Call {
    Call::same(UNARY, message_as_long_as(request_bytes, answer_bytes))
}

/// A framed message of a length, frame included, that asks for an answer of a length.
pub(crate) fn message_as_long_as(request_bytes: usize, answer_bytes: usize) -> Bytes {
    let reply_bytes = body_of(answer_bytes.saturating_sub(FRAME_HEADER_BYTES));
    let mut request = EchoRequest {
        body: Bytes::new(),
        reply_bytes: u32::try_from(reply_bytes).expect("answers of benchmarks are short"),
    };
    let left = request_bytes.saturating_sub(FRAME_HEADER_BYTES + request.encoded_len());
    request.body = vec![0x5a; body_of(left)].into();
    frame(&request)
}

/// Length of a bytes field's content, when the field takes so many bytes with its tag and length.
fn body_of(field_bytes: usize) -> usize {
    let tag_and_length = match field_bytes {
        0..=129 => 2,
        130..=16_386 => 3,
        _ => 4,
    };
    field_bytes.saturating_sub(tag_and_length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_call_is_as_long_as_the_one_beside_it() {
        for len in [40, 120, 131, 1100, 4300, 20_000] {
            let call = as_long_as(len, len);
            assert_eq!(call.frames[0].len(), len);
            let request = EchoRequest::decode(call.frames[0].slice(FRAME_HEADER_BYTES..)).unwrap();
            let answer = crate::proto::echo::EchoResponse {
                body: vec![0; request.reply_bytes as usize].into(),
            };
            assert_eq!(frame(&answer).len(), len);
        }
    }
}
