//! Labels of derived keys. What is derived is stored, signed with or spoken on the wire: a label never
//! changes its meaning, and none is the beginning of another.
//!
//! | label                   | parent           | context                    | gives                                 |
//! |-------------------------|------------------|----------------------------|---------------------------------------|
//! | `twinkeep-kcv-v1`       | seal or root key | share set id 8             | key check value: first 8 bytes        |
//! | `twinkeep-root-id-v1`   | root key         | cluster id 16              | id of the root key: first 16 bytes    |
//! | `twinkeep-command-v1`   | epoch key        | cluster id 16, epoch u32   | Ed25519 seed                          |
//! | `twinkeep-join-v1`      | epoch key        | TLS exporter 32            | proof of possession                   |
//! | `twinkeep-request-v1`   | epoch key        | cluster id 16              | HMAC-SHA-256 key for request digests  |
//! | `twinkeep-transfer-v1`  | hybrid secret    | cluster 16, node u64, exporter 32 | key that carries the root key  |
//! | `twinkeep-operator-v1`  | age identity     | none                       | Ed25519 seed of an operator's approvals |

pub(crate) const CHECK_VALUE: &str = "twinkeep-kcv-v1";
pub(crate) const ROOT_ID: &str = "twinkeep-root-id-v1";
pub(crate) const COMMAND: &str = "twinkeep-command-v1";
pub(crate) const JOIN: &str = "twinkeep-join-v1";
pub(crate) const REQUEST: &str = "twinkeep-request-v1";
pub(crate) const TRANSFER: &str = "twinkeep-transfer-v1";
pub(crate) const OPERATOR: &str = "twinkeep-operator-v1";
