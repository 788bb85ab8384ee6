//! Consensus behind a narrow trait: openraft adapters, peer transport, membership, zones.
