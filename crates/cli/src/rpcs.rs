//! Every call of the service has a command: a call that is added and has none fails a test.

use clap::CommandFactory;
use twinkeep_proto::v1::method;

/// How a call is made from the command line.
enum Way {
    /// By this command.
    Command(&'static str),
    /// Not at all, for this reason.
    #[expect(dead_code, reason = "the reason is for who reads the table")]
    Exempt(&'static str),
}

use Way::{Command, Exempt};

/// All calls. A batch form is made by the same command with several inputs.
const WAYS: &[(&str, Way)] = &[
    ("CreateKey", Command("key create")),
    ("DescribeKey", Command("key describe")),
    ("ListKeys", Command("key list")),
    ("EnableKey", Command("key enable")),
    ("DisableKey", Command("key disable")),
    ("UpdateKeyDescription", Command("key update-description")),
    ("Encrypt", Command("crypto encrypt")),
    ("EncryptBatch", Command("crypto encrypt")),
    ("Decrypt", Command("crypto decrypt")),
    ("DecryptBatch", Command("crypto decrypt")),
    ("ReEncrypt", Command("crypto re-encrypt")),
    ("ReEncryptBatch", Command("crypto re-encrypt")),
    ("GenerateDataKey", Command("crypto data-key")),
    ("GenerateDataKeyBatch", Command("crypto data-key")),
    ("GenerateDataKeyWithoutPlaintext", Command("crypto data-key")),
    ("GenerateDataKeyWithoutPlaintextBatch", Command("crypto data-key")),
    ("Sign", Command("crypto sign")),
    ("SignBatch", Command("crypto sign")),
    ("Verify", Command("crypto verify")),
    ("VerifyBatch", Command("crypto verify")),
    ("GenerateMac", Command("crypto mac")),
    ("GenerateMacBatch", Command("crypto mac")),
    ("VerifyMac", Command("crypto verify-mac")),
    ("VerifyMacBatch", Command("crypto verify-mac")),
    ("GetPublicKey", Command("crypto public-key")),
    ("GetPublicKeyBatch", Command("crypto public-key")),
    ("GenerateRandom", Command("crypto random")),
    ("GenerateRandomBatch", Command("crypto random")),
    ("CryptoStream", Exempt("the client library sends the other calls over it")),
    ("GetStatus", Command("cluster status")),
    ("Diagnose", Command("doctor")),
    ("ListMembers", Command("cluster members")),
    ("WatchTopology", Command("cluster topology")),
    ("AdmitNode", Command("cluster admit")),
    ("PromoteNodes", Command("cluster promote")),
    ("RemoveNode", Command("cluster remove")),
    ("DrainZone", Command("zone drain")),
    ("UndrainZone", Command("zone undrain")),
    ("PreferZone", Command("zone prefer")),
    ("Unseal", Command("unseal")),
    ("Seal", Command("seal")),
    ("CreateInstance", Command("instance create")),
    ("DescribeInstance", Command("instance describe")),
    ("ListInstances", Command("instance list")),
    ("IssueCallerCertificate", Command("access issue-certificate")),
    ("GrantRoles", Command("access grant")),
    ("RevokeRoles", Command("access revoke")),
    ("ListRoleBindings", Command("access list")),
    ("TailAudit", Command("audit tail")),
];

#[test]
fn every_call_of_the_service_has_a_command() {
    let without: Vec<_> = method::ALL
        .iter()
        .filter(|method| !WAYS.iter().any(|(call, _)| *call == method.name))
        .map(|method| method.path)
        .collect();
    assert!(without.is_empty(), "no command makes {without:?}: add one, and a line here");
}

#[test]
fn every_named_command_and_call_exists() {
    let root = crate::Arguments::command();
    for (call, way) in WAYS {
        let Command(path) = way else { continue };
        assert!(method::ALL.iter().any(|method| method.name == *call), "there is no call {call}");
        let found = path.split(' ').try_fold(&root, |command, name| command.find_subcommand(name));
        assert!(found.is_some(), "there is no command `{path}`");
    }
}
