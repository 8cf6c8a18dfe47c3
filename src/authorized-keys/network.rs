//! Asks the sources `hub` and `url`, for a process that runs as the user: it starts `hub-keys`,
//! which may read the service token.

use common::LoginName;
use host::child::program::{Failure, run};
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 256 << 10;

/// Runs the program at this path for a user, and returns its output: lines of source, key type and
/// key.
///
/// The program runs under a uid of its own, so we may be unable to kill it; its own deadline then
/// ends it.
///
/// # Errors
/// One line for the log: the program cannot be run, took longer than `within`, printed too much, or
/// failed.
pub fn run_hub_keys(program: &str, user: &LoginName, within: Duration) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    match run(command.arg(user.as_str()).stderr(Stdio::null()), within, MAX_ANSWER) {
        Ok(said) if said.status.success() => Ok(said.stdout),
        Ok(said) => Err(format!("{program}: it ended with {}", said.status)),
        Err(Failure::Start(error)) => Err(format!("cannot run {program}: {error}")),
        Err(Failure::Run(error)) if error.kind() == io::ErrorKind::TimedOut => {
            Err(format!("no answer of {program} within {} s", within.as_secs_f32()))
        }
        Err(Failure::Run(error)) => Err(format!("{program}: {error}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    fn run(script: &str, within: Duration) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        // Renamed into place, so that no child of another test has it open for writing.
        fs::write(dir.path().join("new"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(dir.path().join("new"), Permissions::from_mode(0o700)).unwrap();
        fs::rename(dir.path().join("new"), &program).unwrap();
        let name = LoginName::parse("alice+gpu").unwrap();
        let mut answer = run_hub_keys(program.to_str().unwrap(), &name, within);
        // "Text file busy": a child of another test had the file open between its fork and its
        // exec.
        while answer.as_ref().is_err_and(|why| why.contains("busy")) {
            answer = run_hub_keys(program.to_str().unwrap(), &name, within);
        }
        answer.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_answer_comes_back() {
        assert_eq!(run("echo \"hub $*\"; pwd; cat", LONG).unwrap(), "hub alice+gpu\n/\n");
        assert_eq!(run("", LONG).unwrap(), "");
        // A shell sets these three by itself.
        assert_eq!(run("env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= || true", LONG).unwrap(), "");
    }

    #[test]
    fn a_program_that_fails_has_no_answer() {
        for (script, why) in [
            ("echo x; exit 3", "it ended with exit status: 3"),
            ("kill -9 $$", "it ended with signal: 9"),
            ("exec 2>&1; head -c 300000 /dev/zero", "the answer is too long"),
        ] {
            let found = run(script, LONG).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
        let name = LoginName::parse("alice").unwrap();
        let why = run_hub_keys("/nowhere/hub-keys", &name, LONG).unwrap_err();
        assert!(why.starts_with("cannot run /nowhere/hub-keys: "), "{why}");
    }

    #[test]
    fn nobody_waits_for_long() {
        let start = Instant::now();
        for script in ["echo x; exec sleep 60", "exec >&-; exec sleep 60"] {
            let why = run(script, Duration::from_millis(300)).unwrap_err();
            assert!(why.ends_with("within 0.3 s"), "{why}");
        }
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
