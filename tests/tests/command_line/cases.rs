//! One line for each command, in an order in which each can be done twice: as JSON, then as YAML.
//!
//! In arguments `{name}` stands for what [`Furnished`](crate::furnish::Furnished) has of that name; `{n}` is
//! `json` or `yaml`.
//! The ids of nodes are given in the order of admission: `dev add-node` comes behind `cluster admit`.

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prints {
    /// One document.
    One,
    /// A document in each line.
    Stream,
    /// A file's bytes, a script, or nothing within the time of a test: help and error are looked at.
    Otherwise,
}

/// A command with what it takes and what it refuses.
pub(crate) struct Case {
    pub(crate) path: &'static str,
    pub(crate) prints: Prints,
    pub(crate) right: &'static str,
    pub(crate) wrong: &'static str,
    /// The code that it ends with in error.
    pub(crate) code: i32,
    /// What its error has to say: what to type, or what there is.
    pub(crate) way_out: &'static str,
}

const fn one(path: &'static str, right: &'static str) -> Case {
    Case { path, prints: Prints::One, right, wrong: "", code: 2, way_out: "--help" }
}

const fn other(path: &'static str) -> Case {
    Case { path, prints: Prints::Otherwise, right: "", wrong: "", code: 2, way_out: "--help" }
}

impl Case {
    const fn refuses(self, wrong: &'static str, code: i32, way_out: &'static str) -> Self {
        Self { wrong, code, way_out, ..self }
    }

    const fn streams(self) -> Self {
        Self { prints: Prints::Stream, ..self }
    }
}

const AWAY: &str = "--endpoint 127.0.0.1:1 --timeout 1";
/// Somebody whose certificate the nodes do not take.
const STRANGER: &str = "--certificate {node-certificate} --private-key {node-key}";
const LOOK: &str = "twinkeep cluster status";
const KEYS: &str = "twinkeep key list";

/// All commands.
pub(crate) const CASES: &[Case] = &[
    one("key create", "--instance {instance}").refuses("--spec DES", 2, "AES_256"),
    one("key describe", "{key}").refuses("{no-key}", 4, KEYS),
    one("key list", "--instance {instance}").refuses("--state LOST", 2, "ENABLED"),
    one("key disable", "{spare-key}").refuses("{no-key}", 4, KEYS),
    one("key enable", "{spare-key}").refuses("{no-key}", 4, KEYS),
    one("key update-description", "{key} text").refuses("{no-key} text", 4, KEYS),
    one("crypto encrypt", "--key {key} {message}").refuses("--key {no-key} {message}", 4, KEYS),
    one("crypto decrypt", "{ciphertext} -o {folder}/plain").refuses("{message} -o {folder}/x", 2, "--help"),
    one("crypto re-encrypt", "--to {spare-key} {ciphertext}").refuses("--to {key} {message}", 2, "--help"),
    one("crypto data-key", "--key {key} --count 3 --plaintext-out {folder}/keys-{n}")
        .refuses("--key {key} --length 5000 -o {folder}/x", 2, "limit of 1024"),
    one("crypto sign", "--key {ec-key} {message} {ciphertext}").refuses("--key {ec-key} {folder}/none", 1, "No such file"),
    one("crypto verify", "--key {ec-key} {message}").refuses("--key {ec-key}", 1, "--signature"),
    one("crypto mac", "--key {hmac-key} {message}").refuses("--key {key} {message} --base64", 2, "GENERATE_VERIFY_MAC"),
    one("crypto verify-mac", "--key {hmac-key} {message}").refuses("--key {hmac-key}", 1, "--mac"),
    one("crypto public-key", "{ec-key}").refuses("{no-key}", 4, KEYS),
    one("crypto random", "100000 -o {folder}/random").refuses("0", 2, "--help"),
    other("encrypt").refuses("--key {key} {folder}/none", 1, "No such file"),
    other("decrypt").refuses("{message}", 1, "is not encrypted by Twinkeep"),
    one("instance create", "test-{n} --as admin").refuses("main --as admin", 4, "exists"),
    one("instance describe", "{instance}").refuses("{no-instance}", 4, "twinkeep instance list"),
    one("instance list", "").refuses("--root {no-root}", 3, "check `root`"),
    one("access issue-certificate", "caller-{n} --out {folder}/caller-{n} --as admin")
        .refuses("caller-x --out {folder}/caller-x", 3, "--as admin"),
    one("access grant", "caller-{n} --role KEY_USER --as admin").refuses("x --role KING --as admin", 2, "KEY_ADMIN"),
    one("access revoke", "caller-{n} --role KEY_USER --as admin").refuses("caller-x --role ADMIN", 3, "--as admin"),
    one("access list", "--as admin").refuses(STRANGER, 3, "twinkeep access issue-certificate NAME"),
    one("cluster status", "").refuses(AWAY, 5, LOOK),
    one("cluster watch", "--interval 0.2 --count 2").streams().refuses("--interval 0", 2, "0.1 to 3600"),
    one("cluster members", "").refuses(AWAY, 5, LOOK),
    one("cluster topology", "").refuses(AWAY, 5, LOOK),
    one("zone list", "").refuses(AWAY, 5, LOOK),
    one("zone prefer", "none").refuses("x", 4, "twinkeep zone list"),
    // These wait for a cluster that is whole: tests/leadership.rs.
    other("zone drain").refuses("x", 4, "twinkeep zone list"),
    other("zone undrain").refuses("x", 4, "twinkeep zone list"),
    // What it finds depends on the moment, and it ends with 1 when it warns: tests/doctor.rs.
    other("doctor").refuses(AWAY, 1, "leave `--endpoint` out"),
    one("cluster order", "--csr {csr} --zone b").refuses("--csr {folder}/none --zone b", 1, "No such file"),
    one("operator key", "--out {folder}/operator-{n}.age").refuses("", 2, "operator key --out"),
    one("operator approve", "--key {operator-key} --name operator-1 {order}")
        .refuses("--key {message} --name operator-1 {order}", 1, "holds no key of an operator"),
    one("cluster admit", "{order} --approval {approvals}").refuses("{order} --approval x", 1, "no approval"),
    one("dev add-node", "b-{n} --zone b").refuses("x --zone x", 1, "there are a, b and w"),
    one("cluster promote", "{learner-{n}}").refuses("", 2, "--help"),
    one("cluster remove", "{learner-{n}} --yes").refuses("3", 1, "--yes"),
    one("seal", "{address}").refuses("", 2, "twinkeep seal <NODES>"),
    one("unseal", "{address} --from {passphrase}").refuses("--from {folder}/none", 1, "No such file"),
    one("audit tail", "--count 3").streams().refuses("--node 127.0.0.1:1 --timeout 1", 5, LOOK),
    one("audit verify", "{audit}").refuses("{folder}/none", 1, "cannot be checked"),
    one("recovery verify", "{bundle} --identity {operator-key} --identity {other-operator-key}")
        .refuses("{message} --identity {operator-key}", 1, "no recovery bundle"),
    // Nothing is lost here. What they do is done by the test `recovery` and by the book for the night.
    other("recover plan").refuses("--zone a", 1, "twinkeep doctor"),
    other("recover apply").refuses("{message} --approval x", 1, "is no approval"),
    other("recover override").refuses("--socket {folder}/none", 1, "--yes"),
    other("recover export").refuses("--config {folder}/none {message}", 1, "No such file"),
    one("context set", "test-{n} --endpoint 127.0.0.1:1").refuses("dev --endpoint 127.0.0.1:1", 1, "another name"),
    one("context list", "").refuses("--config {folder}/none", 1, "No such file"),
    one("context use", "test-{n}").refuses("none", 1, "twinkeep context list"),
    one("context show", "test-{n}").refuses("none", 1, "twinkeep context list"),
    one("context remove", "test-{n}").refuses("none", 1, "twinkeep context list"),
    one("init", "--socket {socket-{n}} --out {folder}/ceremony-{n} --operator one={operator} --operator two={other-operator}")
        .refuses("--socket {folder}/none --out {folder}/ceremony", 1, "is twinkeepd running"),
    one("dev status", "").refuses("--home {folder}/none", 1, "twinkeep dev up"),
    one("dev kill-zone", "w").refuses("x", 1, "there are a, b and w"),
    one("dev start-zone", "w").refuses("x", 1, "there are a, b and w"),
    one("dev kill-node", "b2").refuses("x", 1, "there are a1"),
    one("dev start-node", "b2").refuses("x", 1, "there are a1"),
    // It measures for half a minute: `make demo`.
    other("dev demo").refuses("extra", 2, "--help"),
    // It measures for a quarter of a minute, and a promise may be missed: tests/drill.rs.
    other("drill zone-loss").refuses("--home {folder}/none", 1, "twinkeep dev up"),
    one("dev down", "").refuses("--home {folder}/none", 1, "twinkeep dev up"),
    one("dev up", "").refuses("--snapshot-every x", 2, "--help"),
    other("completions").refuses("csh", 2, "zsh"),
    one("man", "--dir {folder}/man").refuses("--dir {message}/man", 1, "cannot make"),
];
