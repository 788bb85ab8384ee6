//! Rust client: endpoints, leader hints, deadlines, retries, read-your-writes.
