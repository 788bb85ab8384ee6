//! Audit records and the tamper-evident log of a node.
