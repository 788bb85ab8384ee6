//! Names of metadata that both ends of a call have to know.

/// The leader's address, `address:port`, on answers with `UNAVAILABLE`.
pub const LEADER: &str = "x-twinkeep-leader";
/// On an `UNAVAILABLE` that was decided before anything was proposed: nothing was changed, and even a call that
/// must happen once may be sent again.
pub const NOT_DONE: &str = "x-twinkeep-not-done";
/// Milliseconds after which a refused call may be sent again (gRFC A6); clients with gRPC's own retries heed
/// it.
pub const PUSHBACK_MS: &str = "grpc-retry-pushback-ms";
/// The request's id, on every answer.
pub const REQUEST_ID: &str = "x-twinkeep-request-id";
