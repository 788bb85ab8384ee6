use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::call::{
    CONTEXT_BYTES_MAX, Context, Principal, PrincipalKind, RESOURCES_MAX, Resource, Resources,
};
use crate::testing::call;
use crate::text::Text;

/// Stands in the request id of the call that the tests share.
const CALL: u64 = 0x22;

fn stamp(sequence: u64) -> Stamp {
    Stamp {
        version: VERSION,
        sequence,
        event: EventId::new(1_700_000_000_123_000_000, 5),
        cluster: ClusterId::from_bytes([0x10; 16]),
        node: NodeId::new(3).unwrap(),
        zone: ZoneName::parse("zone-a").unwrap(),
    }
}

fn bytes(stamp: &Stamp, entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    stamp.write_record(&entry.to_bytes(), &mut out);
    out
}

#[test]
fn record_put_together_from_its_parts_has_the_bytes_of_the_whole() {
    let (stamp, entry) = (stamp(7), Entry::Call(call(CALL)));
    assert_eq!(call_entry(&call(CALL)), entry.to_bytes());
    let written = bytes(&stamp, &entry);
    assert_eq!(written, minicbor::to_vec(Record { stamp, entry }).unwrap());
}

/// The stored form. A change here is a change of format, and of every hash in every log.
#[test]
fn canonical_bytes_stay_as_they_are() {
    let entry = Entry::Mark(Mark {
        time_unix_ns: 1_000_000_000,
        event: MarkEvent::LossPossible { window_ms: 50, cut_bytes: 9 },
    });
    let hex: String = bytes(&stamp(2), &entry).iter().map(|b| format!("{b:02x}")).collect();
    let golden = concat!(
        "82a6000101020250018bcfe5687b0000000000000000000503501010101010101010101010101010101",
        "0040305667a6f6e652d61820281a2001a3b9aca00018203821832",
        "09"
    );
    assert_eq!(hex, golden);
}

#[test]
fn json_shows_every_field_of_a_call() {
    let record = Record { stamp: stamp(7), entry: Entry::Call(call(CALL)) };
    let golden = concat!(
        r#"{"algorithm":"AES_256","backend":"software","cluster":"clu-10101010101010101010101010101010","#,
        r#""decision":"allow","encryption_context":{"tenant":"acme"},"event":"evt-018bcfe5687b00000000000000000005","#,
        r#""input_bytes":14,"instance":"kst-33333333333333333333333333333333","kind":"call","latency_us":31,"#,
        r#""node":3,"operation":"Encrypt","outcome":"OK","output_bytes":114,"#,
        r#""principal":{"credential":"sha256:abababababababababababababababababababababababababababababababab","#,
        r#""kind":"caller","name":"billing"},"request":"req-00000000000000000000000000000022","#,
        r#""resources":[{"key":"key-44444444444444444444444444444444","version":1}],"retries":0,"sequence":7,"#,
        r#""source":"127.0.1.9:40000","surface":"grpc","time":"2023-11-14T22:13:20.123456789Z","version":1,"zone":"zone-a"}"#
    );
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&record.to_json()), json(golden));
    assert!(!record.to_json().contains('\n'));
}

#[test]
fn json_of_a_mark_says_what_may_be_missing() {
    let event = MarkEvent::LossPossible { window_ms: 50, cut_bytes: 9 };
    let entry = Entry::Mark(Mark { time_unix_ns: 0, event });
    let json = Record { stamp: stamp(2), entry }.to_json();
    for part in [r#""mark":"loss-possible""#, r#""window_ms":50"#, r#""cut_bytes":9"#] {
        assert!(json.contains(part), "{part} in {json}");
    }
}

#[test]
fn a_line_break_in_a_name_does_not_break_the_json_line() {
    let mut call = call(CALL);
    call.outcome = Text::new("a\nb\"c\u{1b}");
    let json = Record { stamp: stamp(1), entry: Entry::Call(call) }.to_json();
    assert!(!json.contains('\n') && !json.contains('\u{1b}'));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["outcome"],
        "a\nb\"c\u{1b}"
    );
}

#[test]
fn largest_record_that_can_be_made_fits() {
    let long = "x".repeat(4096);
    let resource =
        || Resource::Named { kind: Text::new(long.clone()), name: Text::new(long.clone()) };
    let small: Vec<_> = (0..CONTEXT_BYTES_MAX).map(|n| format!("{n:x}")).collect();
    for context in [
        Context::from_pairs([("k", "x".repeat(CONTEXT_BYTES_MAX - 5).as_str())]),
        Context::from_pairs(small.iter().map(|key| (key.as_str(), ""))),
    ] {
        let call = Call {
            time_unix_ns: u64::MAX,
            client_trace: Some(Text::new(long.clone())),
            principal: Principal {
                kind: PrincipalKind::Cluster,
                name: Text::new(long.clone()),
                credential: Some([0xff; 32]),
            },
            source: Some("[ffff:ffff:ffff:ffff::1]:65535".parse::<SocketAddr>().unwrap()),
            operation: Text::new(long.clone()),
            resources: Resources::new((0..2 * RESOURCES_MAX).map(|_| resource())),
            algorithm: Some(Text::new(long.clone())),
            context: Some(context),
            input_bytes: u64::MAX,
            output_bytes: u64::MAX,
            outcome: Text::new(long.clone()),
            backend: Some(Text::new(long.clone())),
            latency_us: u64::MAX,
            retries: u32::MAX,
            state_age_ms: Some(u64::MAX),
            ..call(CALL)
        };
        let mut stamp = stamp(u64::MAX);
        stamp.zone = ZoneName::parse(&"z".repeat(ZoneName::LEN_MAX)).unwrap();
        let bytes = bytes(&stamp, &Entry::Call(call));
        assert!(bytes.len() <= RECORD_BYTES_MAX, "{} bytes", bytes.len());
        assert!(Record::from_bytes(&bytes).is_ok());
    }
}

#[test]
fn event_ids_sort_by_time() {
    let early = EventId::new(1_000_000, u128::MAX);
    assert!(early < EventId::new(2_000_000, 0));
    assert_eq!(early.to_string(), "evt-000000000001ffffffffffffffffffff");
}

#[test]
fn record_of_a_later_version_or_with_a_tail_is_refused() {
    let entry = Entry::Call(call(CALL));
    let mut later = stamp(1);
    later.version = 2;
    let refused = Record::from_bytes(&bytes(&later, &entry)).unwrap_err();
    assert!(matches!(refused, InvalidRecord::Version(2)));

    let mut tail = bytes(&stamp(1), &entry);
    tail.push(0);
    assert!(matches!(Record::from_bytes(&tail).unwrap_err(), InvalidRecord::Trailing(1)));
    let cut = &tail[..tail.len() - 2];
    assert!(matches!(Record::from_bytes(cut).unwrap_err(), InvalidRecord::Malformed(_)));
}

proptest! {
    #[test]
    fn bytes_that_are_no_record_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = Record::from_bytes(&bytes);
    }

    #[test]
    fn records_read_back_as_written(sequence in 1..u64::MAX, ns: u64, name in ".{0,200}", value in ".{0,200}", bytes_in: u64) {
        let mut call = call(CALL);
        call.time_unix_ns = ns;
        call.principal.name = Text::new(name);
        call.context = Some(Context::from_pairs([("k", value.as_str())]));
        call.input_bytes = bytes_in;
        let record = Record { stamp: stamp(sequence), entry: Entry::Call(call) };
        let read = Record::from_bytes(&bytes(&record.stamp, &record.entry)).unwrap();
        prop_assert_eq!(read, record);
    }
}
