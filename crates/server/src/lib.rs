//! The node binary twinkeepd.
