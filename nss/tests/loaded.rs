//! The built module, loaded by glibc into getent(1), which is not sshd.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs};

/// Runs getent with the module as the only source.
fn getent(database: &str, key: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    // Cargo puts the module beside the test's directory, or into it.
    let test = env::current_exe().unwrap();
    let places: Vec<PathBuf> =
        test.ancestors().skip(1).take(2).map(|d| d.join("libnss_jupyterhub.so")).collect();
    let module = places.iter().find(|path| path.exists()).unwrap();
    fs::copy(module, dir.path().join("libnss_jupyterhub.so.2")).unwrap();
    let mut command = Command::new("getent");
    command.args(["-s", "jupyterhub", database, key]).env("LD_LIBRARY_PATH", dir.path());
    command.output().unwrap()
}

#[test]
fn other_programs_see_no_hub_users_and_survive_every_call() {
    for (database, key) in [
        ("passwd", "alice"),
        ("passwd", "no:name"),
        ("passwd", "1879048192"),
        ("passwd", "0"),
        ("group", "jupyterhub"),
        ("group", "990"),
        ("initgroups", "alice"),
    ] {
        let output = getent(database, key);
        let text = String::from_utf8_lossy(&output.stdout);
        // 2: "One or more supplied key could not be found"; initgroups prints the name alone.
        if database == "initgroups" {
            assert_eq!(text.trim(), "alice");
        } else {
            assert_eq!((output.status.code(), &*text), (Some(2), ""), "{database} {key}");
        }
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}
