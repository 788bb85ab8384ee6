//! The audit log: `twinkeep.v1.AuditService`.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream;
use tonic::{Request, Response, Status};
use twinkeep_audit::call::{Call, Resource};
use twinkeep_audit::record::Entry;
use twinkeep_audit::{Log, Record, TAIL_RECORDS_MAX, Tail};
use twinkeep_proto::v1;
use twinkeep_proto::v1::audit_service_server::AuditService;

use crate::authorize::{Answers, Entered, Gate, HandleStream, Outgoing};
use crate::error::CallError;
use crate::operation as op;
use crate::ports::Ports;
use crate::status;

/// `twinkeep.v1.AuditService`.
pub(crate) struct AuditLog {
    gate: Arc<Gate>,
    log: Arc<Log>,
}

impl AuditLog {
    pub(crate) fn new(gate: Arc<Gate>, ports: &Ports) -> Self {
        Self { gate, log: Arc::clone(&ports.audit) }
    }
}

/// A reader on its way through the log.
struct Reader {
    tail: Tail,
    read: VecDeque<Record>,
    follow: bool,
    /// Where a reader that does not follow stops: the newest record when it began.
    until: u64,
    left: u64,
}

impl HandleStream<op::TailAudit> for AuditLog {
    async fn open(
        &self,
        call: &Entered<op::TailAudit>,
        request: &v1::TailAuditRequest,
    ) -> Result<Answers<op::TailAudit>, CallError> {
        call.on_cluster()?;
        let control = Arc::clone(call.records().control());
        let reader = Reader {
            tail: self.log.tail(request.after_sequence.saturating_add(1)),
            read: VecDeque::new(),
            follow: request.follow,
            until: self.log.status().head.sequence,
            left: if request.record_count_max == 0 { u64::MAX } else { request.record_count_max },
        };
        Ok(Box::pin(stream::unfold(Some(reader), move |reader| {
            let control = Arc::clone(&control);
            async move {
                let (next, reader) = next(reader?).await;
                let answer = |record: &Record| v1::TailAuditResponse {
                    record: Some(shown(record)),
                    state_index: control.applied_index(),
                };
                match next {
                    Ok(record) => Some((Ok(answer(&record?)), Some(reader))),
                    Err(error) => Some((Err(error), None)),
                }
            }
        })))
    }
}

/// Returns the next record, or `None` at the end.
async fn next(mut reader: Reader) -> (Result<Option<Record>, CallError>, Reader) {
    if reader.left == 0 {
        return (Ok(None), reader);
    }
    if reader.read.is_empty() {
        let at_end = reader.tail.next_sequence() > reader.until && !reader.follow;
        if at_end || !reader.tail.ready().await {
            return (Ok(None), reader);
        }
        reader = match fill(reader).await {
            Ok(reader) => reader,
            Err((error, reader)) => return (Err(error), reader),
        };
    }
    reader.left -= 1;
    let record = reader.read.pop_front();
    (Ok(record), reader)
}

/// Reads ahead, where blocking is allowed.
async fn fill(reader: Reader) -> Result<Reader, (CallError, Reader)> {
    let wanted = usize::try_from(reader.left).unwrap_or(usize::MAX).min(TAIL_RECORDS_MAX);
    let reading = tokio::task::spawn_blocking(move || {
        let mut reader = reader;
        let read = reader.tail.read(wanted).map(|records| reader.read = records.into());
        (read, reader)
    });
    let (read, reader) = reading.await.expect("reading the log does not panic");
    match read {
        Ok(()) => Ok(reader),
        Err(error) => Err((error.into(), reader)),
    }
}

fn shown(record: &Record) -> v1::AuditRecord {
    let mut out = v1::AuditRecord {
        sequence: record.stamp.sequence,
        json: record.to_json(),
        ..Default::default()
    };
    match &record.entry {
        Entry::Call(call) => tell(call, &mut out),
        Entry::Mark(mark) => out.time_unix_ns = mark.time_unix_ns,
    }
    out
}

fn tell(call: &Call, out: &mut v1::AuditRecord) {
    out.time_unix_ns = call.time_unix_ns;
    out.caller = call.principal.name.to_string();
    out.operation = call.operation.to_string();
    out.code = status::number(call.outcome.as_str());
    out.request_id = call.request.to_string();
    out.resources = call.resources.listed().iter().map(resource).collect();
}

fn resource(resource: &Resource) -> String {
    match resource {
        Resource::Key { id, version: None } => id.to_string(),
        Resource::Key { id, version: Some(version) } => format!("{id}/{version}"),
        Resource::Instance { id } => id.to_string(),
        Resource::Node { id } => format!("node-{id}"),
        Resource::Named { kind, name } => format!("{kind}/{name}"),
    }
}

#[tonic::async_trait]
impl AuditService for AuditLog {
    type TailAuditStream = Outgoing<v1::TailAuditResponse>;

    async fn tail_audit(
        &self,
        request: Request<v1::TailAuditRequest>,
    ) -> Result<Response<Self::TailAuditStream>, Status> {
        self.gate.stream::<op::TailAudit, _>(self, request).await
    }
}
