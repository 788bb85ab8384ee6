//! Contexts, as a user types them, without any cluster.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, in helpers too")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `twinkeep` with an empty environment but for what is given.
fn twinkeep(home: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinkeep"));
    command.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command.envs(environment.iter().copied()).args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn contexts_are_set_used_shown_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| twinkeep(home.path(), &[], arguments);
    let set = |name, port: &str| {
        let endpoint = format!("a=127.0.0.1:{port}");
        out(&run(&["context", "set", name, "--endpoint", &endpoint, "--root", "root.pem"]))
    };
    assert!(set("prod", "1").contains("commands use it now"));
    assert!(set("test", "2").contains("`twinkeep context use test`"));
    let path = home.path().join(".config/twinkeep/config.toml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let listed = out(&run(&["context", "list"]));
    assert!(listed.lines().any(|line| line.starts_with("*  prod")), "{listed}");
    out(&run(&["context", "use", "test"]));
    let shown = out(&run(&["context", "show"]));
    assert!(
        shown.contains("context      test") && shown.contains("127.0.0.1:2 in zone a"),
        "{shown}"
    );
    // A path is kept as the place that it meant when it was given.
    let root = home.path().join("root.pem").display().to_string();
    assert!(shown.contains(&root), "{shown}");

    out(&run(&["context", "set", "prod", "--zone", "a"]));
    let json: serde_json::Value =
        serde_json::from_str(&out(&run(&["context", "show", "prod", "--output", "json"]))).unwrap();
    assert_eq!(json["endpoints"][0]["address"], "127.0.0.1:1", "what is not given stays");
    assert_eq!(json["zone"], "a");

    assert!(out(&run(&["context", "remove", "test"])).contains("none is used now"));
    assert!(said(&run(&["context", "use", "test"])).contains("there is prod"));
}

#[test]
fn context_is_named_by_option_or_environment_or_is_the_current_one() {
    let home = tempfile::tempdir().unwrap();
    for (name, port) in [("one", "1"), ("two", "2")] {
        let endpoint = format!("127.0.0.1:{port}");
        out(&twinkeep(home.path(), &[], &["context", "set", name, "--endpoint", &endpoint]));
    }
    let shown = |environment: &[(&str, &str)], arguments: &[&str]| {
        out(&twinkeep(home.path(), environment, &[arguments, &["context", "show"]].concat()))
    };
    assert!(shown(&[], &[]).contains("one"));
    assert!(shown(&[("TWINKEEP_CONTEXT", "two")], &[]).contains("two"));
    assert!(shown(&[("TWINKEEP_CONTEXT", "two")], &["--context", "one"]).contains("one"));
    let other = home.path().join("elsewhere");
    let elsewhere = [("XDG_CONFIG_HOME", other.to_str().unwrap())];
    let none = out(&twinkeep(home.path(), &elsewhere, &["context", "list", "--output", "json"]));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&none).unwrap()["contexts"],
        serde_json::json!([])
    );
}

#[test]
fn file_of_one_cluster_goes_on_working_and_is_named_when_another_comes() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".config/twinkeep/config.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "# ours\nendpoints = [{ address = \"127.0.0.1:1\" }]\n").unwrap();
    let run = |arguments: &[&str]| twinkeep(home.path(), &[], arguments);
    assert!(out(&run(&["context", "show"])).contains("context      default"));
    let set = run(&["context", "set", "prod", "--endpoint", "127.0.0.1:2"]);
    let told = String::from_utf8_lossy(&set.stderr).into_owned();
    assert!(set.status.success() && told.contains("is context default now"), "{told}");
    assert!(out(&run(&["context", "show"])).contains("context      default"));
    assert!(std::fs::read_to_string(&path).unwrap().contains("# ours"));
}

#[test]
fn development_cluster_is_a_context_that_gives_way_to_a_chosen_one() {
    let home = tempfile::tempdir().unwrap();
    let dev = home.path().join(".dev");
    std::fs::create_dir_all(dev.join("callers")).unwrap();
    std::fs::write(dev.join("callers/app.pem"), "").unwrap();
    let node = "snapshot-every = 1\n[[node]]\nname = \"a1\"\nzone = \"a\"\nwitness = false\n\
                client-address = \"127.0.1.1:7100\"\npeer-address = \"127.0.1.1:7101\"\n";
    std::fs::write(dev.join("layout.toml"), node).unwrap();
    let run = |arguments: &[&str]| twinkeep(home.path(), &[], arguments);
    assert!(out(&run(&["context", "show"])).contains("context      dev"));
    assert!(
        said(&run(&["context", "set", "dev", "--endpoint", "127.0.0.1:1"]))
            .contains("another name")
    );

    out(&run(&["context", "set", "prod", "--endpoint", "127.0.0.1:1"]));
    assert!(out(&run(&["context", "show"])).contains("context      prod"), "it was chosen");
    let listed = out(&run(&["context", "list"]));
    assert!(listed.contains("dev") && listed.contains("127.0.1.1:7100"), "{listed}");
    assert!(out(&run(&["context", "show", "dev"])).contains("127.0.1.1:7100"));
    out(&run(&["context", "use", "dev"]));
    assert!(out(&run(&["context", "show"])).contains("context      dev"));
    let named =
        twinkeep(home.path(), &[("TWINKEEP_HOME", ".dev")], &["--as", "nobody", "key", "list"]);
    assert!(said(&named).contains("has no caller `nobody`"));
}
