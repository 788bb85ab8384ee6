//! Records as JSON, one object on one line, for people and their tools.
//!
//! Names are those of the fields; what is absent is left out. Times are RFC 3339 in UTC with
//! nanoseconds, ids are written as everywhere, digests as `sha256:` and hex.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::call::{
    Call, Context, Decision, Principal, PrincipalKind, Resource, Resources, Surface,
};
use crate::record::{Entry, Mark, MarkEvent, Record};

impl Record {
    /// Returns the record as a JSON object on one line, without the line's end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = Map::new();
        let stamp = &self.stamp;
        out.insert("version".into(), stamp.version.into());
        out.insert("sequence".into(), stamp.sequence.into());
        out.insert("event".into(), stamp.event.to_string().into());
        out.insert("cluster".into(), stamp.cluster.to_string().into());
        out.insert("node".into(), stamp.node.get().into());
        out.insert("zone".into(), stamp.zone.as_str().into());
        match &self.entry {
            Entry::Call(call) => put_call(&mut out, call),
            Entry::Mark(mark) => put_mark(&mut out, mark),
        }
        Value::Object(out).to_string()
    }
}

fn put_call(out: &mut Map<String, Value>, call: &Call) {
    out.insert("kind".into(), "call".into());
    out.insert("time".into(), rfc3339(call.time_unix_ns).into());
    out.insert("request".into(), call.request.to_string().into());
    put(out, "client_trace", call.client_trace.as_ref().map(|trace| trace.as_str().into()));
    out.insert("instance".into(), call.instance.to_string().into());
    out.insert("principal".into(), principal(&call.principal));
    put(out, "source", call.source.map(|source| source.to_string().into()));
    out.insert("surface".into(), surface(call.surface).into());
    out.insert("operation".into(), call.operation.as_str().into());
    put_resources(out, &call.resources);
    put(out, "algorithm", call.algorithm.as_ref().map(|name| name.as_str().into()));
    if let Some(context) = &call.context {
        put_context(out, context);
    }
    out.insert("input_bytes".into(), call.input_bytes.into());
    out.insert("output_bytes".into(), call.output_bytes.into());
    out.insert("decision".into(), decision(call.decision).into());
    out.insert("outcome".into(), call.outcome.as_str().into());
    put(out, "backend", call.backend.as_ref().map(|name| name.as_str().into()));
    out.insert("latency_us".into(), call.latency_us.into());
    out.insert("retries".into(), call.retries.into());
    put(out, "state_age_ms", call.state_age_ms.map(Value::from));
}

fn put_mark(out: &mut Map<String, Value>, mark: &Mark) {
    out.insert("kind".into(), "mark".into());
    out.insert("time".into(), rfc3339(mark.time_unix_ns).into());
    let name = match mark.event {
        MarkEvent::Opened => "opened",
        MarkEvent::Closed => "closed",
        MarkEvent::LossPossible { window_ms, cut_bytes } => {
            out.insert("window_ms".into(), window_ms.into());
            out.insert("cut_bytes".into(), cut_bytes.into());
            "loss-possible"
        }
    };
    out.insert("mark".into(), name.into());
}

fn put(out: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        out.insert(name.into(), value);
    }
}

/// Returns a time as RFC 3339 writes it. One outside its years, which no clock shows, is written as the
/// number it is rather than not at all.
pub(crate) fn rfc3339(unix_ns: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_ns.to_string())
}

fn principal(principal: &Principal) -> Value {
    let mut out = Map::new();
    let kind = match principal.kind {
        PrincipalKind::Nobody => "nobody",
        PrincipalKind::Caller => "caller",
        PrincipalKind::Node => "node",
        PrincipalKind::Local => "local",
        PrincipalKind::Cluster => "cluster",
    };
    out.insert("kind".into(), kind.into());
    out.insert("name".into(), principal.name.as_str().into());
    put(&mut out, "credential", principal.credential.map(|digest| sha256(&digest)));
    Value::Object(out)
}

const fn surface(surface: Surface) -> &'static str {
    match surface {
        Surface::Grpc => "grpc",
        Surface::GrpcStream => "grpc-stream",
        Surface::Local => "local",
        Surface::Internal => "internal",
    }
}

const fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
    }
}

fn put_resources(out: &mut Map<String, Value>, resources: &Resources) {
    let listed = resources.listed().iter().map(|resource| match resource {
        Resource::Key { id, version: None } => json!({ "key": id.to_string() }),
        Resource::Key { id, version: Some(version) } => {
            json!({ "key": id.to_string(), "version": version.get() })
        }
        Resource::Instance { id } => json!({ "instance": id.to_string() }),
        Resource::Node { id } => json!({ "node": id.get() }),
        Resource::Named { kind, name } => json!({ "kind": kind.as_str(), "name": name.as_str() }),
    });
    out.insert("resources".into(), listed.collect());
    if resources.omitted() > 0 {
        out.insert("resources_omitted".into(), resources.omitted().into());
    }
}

fn put_context(out: &mut Map<String, Value>, context: &Context) {
    match context {
        Context::Pairs { pairs, omitted } => {
            let pairs: Map<_, _> =
                pairs.iter().map(|pair| (pair.key.clone(), pair.value.as_str().into())).collect();
            out.insert("encryption_context".into(), Value::Object(pairs));
            if *omitted > 0 {
                out.insert("encryption_context_omitted".into(), (*omitted).into());
            }
        }
        Context::Bytes { len, sha256: digest } => {
            let value = json!({ "len": len, "digest": sha256(digest) });
            out.insert("associated_data".into(), value);
        }
    }
}

fn sha256(digest: &[u8; 32]) -> Value {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}").into()
}
