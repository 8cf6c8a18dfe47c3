//! Tests of the mounter and process 1's side of it, with real mounts.
//!
//! They run in children that leave the machine's mount namespace, and need root.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::trees;
use super::*;
use host::config::Config;
use host::sys::mount;
use host::sys::process::in_child;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use wire::claim::{HomeState, JailReport};
use wire::jail::Request;

/// The uid of the tests' alice.
const UID: u32 = 20_001;

pub fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Makes a host: `homes/alice` with a file, `data` and `secret` to be shared.
fn host() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["homes", "homes/alice", "data", "secret", "jail"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join(name).join("file"), name).unwrap();
    }
    chown(dir.path().join("homes/alice"), Some(UID), Some(UID)).unwrap();
    dir
}

fn plan(dir: &Path, more: &str, within: Duration) -> Plan {
    let dir = dir.display();
    let text = format!(
        "[homes]\nroot = '{dir}/homes'\n{more}\n\
         [[shares]]\nsource = '{dir}/data'\npath = '/shared/data'\nwritable = true\n\
         [[shares]]\nsource = '{dir}/secret'\npath = '/shared/secret'\ngroups = ['staff']\n"
    );
    let config = Config::from_str(&text, Path::new("config.toml")).unwrap();
    let handle = "0a".repeat(32);
    let request = format!("user alice\nhandle {handle}\nuid {UID}\ngid {UID}\nsshd 4711\n\n");
    let request = Request::parse(request.as_bytes()).unwrap();
    let mut plan = Plan::new(config, &request, Instant::now()).unwrap();
    (plan.time, plan.end) = (within, Instant::now() + within);
    plan
}

/// Leaves the machine's mount namespace for one whose mounts are shared, as on most hosts.
pub fn leave() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount::stop_propagation().unwrap();
    let none = None::<&str>;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).unwrap();
}

/// Does what process 1 does: makes a jail with what arrives, in a mount namespace of its own.
fn build(plan: &Plan, parcels: OwnedFd, groups: &[&str], root: &Path) -> JailReport {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount::stop_propagation().unwrap();
    mount::tmpfs(root, 65536, 64).unwrap();
    let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    let report = trees::collect(plan, parcels, &groups).attach(plan, vec!["a note".into()], root).unwrap();
    mount::restrict(root, Flags::RO).unwrap();
    report
}

/// True if no process that we started is left; as their subreaper we would inherit them.
fn all_gone() -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return true,
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(5)),
            _ => {}
        }
    }
    false
}

fn be_subreaper() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
}

/// Mounts a file system over `at` that never answers, and returns its pipe.
///
/// It is an automounter whose daemon doesn't read the pipe.
pub fn never_answers(at: &Path) -> (OwnedFd, OwnedFd) {
    let (read, write) = nix::unistd::pipe().unwrap();
    // The kernel answers processes of the daemon's group itself, so this is a group without us.
    let group = nix::unistd::getppid();
    let options = format!("fd={},pgrp={group},minproto=5,maxproto=5,indirect", write.as_raw_fd());
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
    nix::mount::mount(Some("test"), at, Some("autofs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    (read, write)
}

#[test]
fn a_home_and_shares_arrive_restricted() {
    if !root() {
        return;
    }
    let dir = host();
    assert!(in_child(|| {
        be_subreaper();
        leave();
        // A mount in the home belongs to it, and is restricted as well.
        let inner = dir.path().join("homes/alice/inner");
        fs::create_dir(&inner).unwrap();
        let none = None::<&str>;
        nix::mount::mount(none, &inner, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let plan = plan(dir.path(), "", Duration::from_secs(5));
        let (mounter, parcels) = Mounter::start(&plan).unwrap();
        let jail = dir.path().join("jail");
        let report = build(&plan, parcels, &["staff"], &jail);
        assert_eq!(
            report,
            JailReport { home: HomeState::Mounted, notes: vec!["a note".into()], accounts: Vec::new() }
        );

        let flags = |at: &str| statvfs(&jail.join(at)).unwrap().flags();
        let common = FsFlags::ST_NOSUID | FsFlags::ST_NODEV | FsFlags::ST_NOEXEC;
        for at in ["home/alice", "home/alice/inner", "shared/data", "shared/secret"] {
            assert!(flags(at).contains(common), "{at}");
            assert_eq!(flags(at).contains(FsFlags::ST_RDONLY), at == "shared/secret", "{at}");
        }
        assert_eq!(fs::read_to_string(jail.join("home/alice/file")).unwrap(), "homes/alice");
        fs::write(jail.join("home/alice/new"), "").unwrap();
        fs::write(jail.join("shared/data/new"), "").unwrap();
        assert!(fs::write(jail.join("shared/secret/new"), "").is_err());
        assert!(fs::write(jail.join("shared/new"), "").is_err(), "sealed");
        // What the host mounts later doesn't appear in this jail, and the other way round.
        nix::mount::mount(none, &jail.join("home/alice/inner"), Some("tmpfs"), MsFlags::empty(), none)
            .unwrap();
        assert!(
            !fs::read_to_string("/proc/self/mountinfo").unwrap().contains("alice/inner rw,relatime shared")
        );
        drop(mounter);
        assert!(all_gone());
    }));
    assert!(dir.path().join("homes/alice/new").exists());
}

#[test]
fn shares_are_for_their_groups() {
    if !root() {
        return;
    }
    let dir = host();
    assert!(in_child(|| {
        leave();
        let plan = plan(dir.path(), "path = '/home/jovyan/deep'", Duration::from_secs(5));
        let (_mounter, parcels) = Mounter::start(&plan).unwrap();
        let jail = dir.path().join("jail");
        assert_eq!(build(&plan, parcels, &["students"], &jail).home, HomeState::Mounted);
        assert!(jail.join("home/jovyan/deep/file").exists() && jail.join("shared/data/file").exists());
        assert!(!jail.join("shared/secret").exists());
        assert_eq!(fs::metadata(jail.join("home/jovyan")).unwrap().mode() & 0o7777, 0o755);
    }));
}

#[test]
fn what_is_unavailable_is_not_empty() {
    if !root() {
        return;
    }
    let dir = host();
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    chown(dir.path().join("homes/alice"), Some(UID + 1), None).unwrap();
    assert!(in_child(|| {
        leave();
        let plan = plan(dir.path(), "", Duration::from_secs(5));
        let (_mounter, parcels) = Mounter::start(&plan).unwrap();
        let jail = dir.path().join("jail");
        let report = build(&plan, parcels, &[], &jail);
        let HomeState::Unavailable { fault: HomeFault::NotTheirs, detail } = report.home else {
            panic!("{report:?}")
        };
        assert!(detail.contains("uid 20002"), "{detail}");
        assert!(report.notes[1].starts_with("share /shared/data is not available: "), "{:?}", report.notes);
        for at in ["home/alice", "shared/data"] {
            let found = fs::metadata(jail.join(at)).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o711), "{at}");
        }
    }));
}

#[test]
fn a_missing_home_is_made_when_it_should_be() {
    if !root() {
        return;
    }
    let dir = host();
    fs::remove_dir_all(dir.path().join("homes/alice")).unwrap();
    for (more, made) in [("", false), ("missing = 'create'\nmode = '0750'", true)] {
        assert!(in_child(|| {
            leave();
            let plan = plan(dir.path(), more, Duration::from_secs(5));
            let (_mounter, parcels) = Mounter::start(&plan).unwrap();
            let report = build(&plan, parcels, &[], &dir.path().join("jail"));
            assert_eq!(report.home == HomeState::Mounted, made, "{report:?}");
        }));
        let found = fs::metadata(dir.path().join("homes/alice"));
        assert_eq!(found.is_ok_and(|found| found.uid() == UID && found.mode() & 0o7777 == 0o750), made);
    }
}

/// With `nofail` a host comes up without its file server: an empty mount point is left alone and
/// not shown.
#[test]
fn what_should_be_mounted_must_be() {
    if !root() || !Path::new("/etc/fstab").exists() {
        return;
    }
    let dir = host();
    let at = |name: &str| dir.path().join(name);
    fs::remove_dir_all(at("homes/alice")).unwrap();
    let path = dir.path().display();
    fs::write(
        at("fstab"),
        format!("nas:/h {path}/homes nfs nofail 0 0\nnas:/d {path}/data nfs noauto 0 0\n"),
    )
    .unwrap();
    assert!(in_child(|| {
        leave();
        let none = None::<&str>;
        nix::mount::mount(Some(&at("fstab")), "/etc/fstab", none, MsFlags::MS_BIND, none).unwrap();
        let look = |jail: &str| {
            fs::create_dir_all(at(jail)).unwrap();
            let plan = plan(dir.path(), "missing = 'create'", Duration::from_secs(5));
            let (_mounter, parcels) = Mounter::start(&plan).unwrap();
            let (ours, theirs) = socket::pair().unwrap();
            match process::fork_single_threaded().unwrap() {
                None => {
                    let report = build(&plan, parcels, &[], &at(jail));
                    socket::send(theirs.as_fd(), &serde_json::to_vec(&report).unwrap(), &[]).unwrap();
                    process::exit_now(0)
                }
                Some(child) => {
                    drop(parcels);
                    let mut buffer = vec![0; MAX_MESSAGE];
                    let (length, _) = socket::recv(ours.as_fd(), &mut buffer, 0).unwrap();
                    waitpid(Pid::from_raw(child), None).unwrap();
                    serde_json::from_slice::<JailReport>(&buffer[..length]).unwrap()
                }
            }
        };
        let report = look("jail");
        let HomeState::Unavailable { fault: HomeFault::Failed, detail } = &report.home else {
            panic!("{report:?}")
        };
        assert!(
            detail.ends_with(&format!("/etc/fstab lists {path}/homes, and it is not mounted")),
            "{detail}"
        );
        assert!(
            report.notes[1].ends_with(&format!("lists {path}/data, and it is not mounted")),
            "{report:?}"
        );
        assert!(!at("homes/alice").exists());
        for name in ["homes", "data"] {
            nix::mount::mount(Some("nas"), &at(name), Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
                .unwrap();
        }
        let report = look("jail2");
        assert_eq!(
            report,
            JailReport { home: HomeState::Mounted, notes: vec!["a note".into()], accounts: Vec::new() }
        );
        assert!(at("homes/alice").exists());
    }));
    assert!(!at("homes/alice").exists());
}

#[test]
fn a_server_that_hangs_holds_nobody_up() {
    if !root() {
        return;
    }
    let dir = host();
    let within = Duration::from_secs(1);
    assert!(in_child(|| {
        be_subreaper();
        leave();
        let _daemon = never_answers(&dir.path().join("homes"));
        let start = Instant::now();
        let plan = plan(dir.path(), "", within);
        let (mounter, parcels) = Mounter::start(&plan).unwrap();
        let jail = dir.path().join("jail");
        let report = build(&plan, parcels, &["staff"], &jail);
        let took = start.elapsed();
        let HomeState::Unavailable { fault: HomeFault::NoAnswer, detail } = report.home else {
            panic!("{report:?}")
        };
        assert!(detail.ends_with("homes/alice: no answer within 1 s"), "{detail}");
        assert!(took >= within && took < within * 3, "{took:?}");
        assert!(jail.join("shared/secret/file").exists() && jail.join("shared/data/file").exists());
        drop(mounter);
        assert!(all_gone());
    }));
}

/// However the first process ends, it leaves no process that waits for a server.
#[test]
fn nothing_outlives_the_first_process() {
    if !root() {
        return;
    }
    let dir = host();
    assert!(in_child(|| {
        be_subreaper();
        leave();
        let _daemon = never_answers(&dir.path().join("homes"));
        let plan = plan(dir.path(), "", Duration::from_secs(60));
        let (told, tell) = nix::unistd::pipe().unwrap();
        match process::fork_single_threaded().unwrap() {
            None => {
                let (_mounter, parcels) = Mounter::start(&plan).unwrap();
                // The shares are there: the home's child hangs by now, or is about to.
                let mut buffer = [0; 512];
                socket::recv(parcels.as_fd(), &mut buffer, 1).unwrap();
                nix::unistd::write(&tell, b"x").unwrap();
                std::thread::sleep(Duration::from_secs(60));
                process::exit_now(0);
            }
            Some(first) => {
                nix::unistd::read(&told, &mut [0]).unwrap();
                kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
                assert!(all_gone());
            }
        }
    }));
}

#[test]
fn a_mounter_that_dies_is_noticed() {
    if !root() {
        return;
    }
    let dir = host();
    assert!(in_child(|| {
        leave();
        let _daemon = never_answers(&dir.path().join("homes"));
        let plan = plan(dir.path(), "", Duration::from_secs(60));
        let (mounter, parcels) = Mounter::start(&plan).unwrap();
        kill(Pid::from_raw(mounter.0), Signal::SIGKILL).unwrap();
        let report = build(&plan, parcels, &[], &dir.path().join("jail"));
        let HomeState::Unavailable { fault: HomeFault::Failed, detail } = report.home else {
            panic!("{report:?}")
        };
        assert!(detail.contains("the process that mounts is gone"), "{detail}");
    }));
}
