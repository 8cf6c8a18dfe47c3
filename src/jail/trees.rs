//! Process 1's side of homes and shares: takes from the mounter what arrives in time, and attaches
//! it.

use super::failure::Failure;
use super::mounter::{Item, Order, Parcel};
use super::plan::Plan;
use super::view;
use host::homes::{self, Fault, bounded};
use host::sys::mount::Tree;
use host::sys::socket;
use host::sys::wait::readable;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use wire::MAX_MESSAGE;
use wire::claim::{HomeFault, HomeState, JailReport};

/// The most notes in a report; [`MAX_NOTE`] is the most bytes in each.
const MAX_NOTES: usize = 16;
const MAX_NOTE: usize = 300;

/// The home and the shares that have arrived, or why they have not.
pub struct Trees {
    home: Option<Result<Tree, Fault>>,
    shares: BTreeMap<usize, Result<Tree, Fault>>,
    notes: Vec<String>,
}

/// Waits for the home and for the shares of these groups.
///
/// Dropping `mounter` at the end tells the mounter to end.
#[must_use]
pub fn collect(plan: &Plan, mounter: OwnedFd, groups: &[String]) -> Trees {
    let mut notes = Vec::new();
    let mut wanted = Vec::new();
    let mut ordered = Vec::new();
    if plan.homes.is_some() {
        wanted.push(Item::Home);
    }
    for (number, share) in plan.shares.iter().enumerate().filter(|(_, share)| share.is_for(groups)) {
        if plan.clashes(share) {
            notes.push(format!("share {} is left out: this user's home is there", share.path.display()));
            continue;
        }
        wanted.push(Item::Share(number));
        if !share.groups.is_empty() {
            ordered.push(number);
        }
    }
    let mut waiting =
        Waiting { plan, mounter, wanted, trees: Trees { home: None, shares: BTreeMap::new(), notes } };
    let told = if ordered.is_empty() { Ok(()) } else { waiting.order(&Order::Shares(ordered)) };
    match told.and_then(|()| waiting.take_all()) {
        Ok(()) => waiting.fail(HomeFault::NoAnswer, &format!("no answer within {} s", plan.time.as_secs())),
        Err(e) => waiting.fail(HomeFault::Failed, &format!("the process that mounts is gone: {e}")),
    }
    waiting.trees
}

struct Waiting<'a> {
    plan: &'a Plan,
    mounter: OwnedFd,
    wanted: Vec<Item>,
    trees: Trees,
}

impl Waiting<'_> {
    fn order(&self, order: &Order) -> io::Result<()> {
        socket::send(self.mounter.as_fd(), &serde_json::to_vec(order)?, &[])
    }

    /// Takes parcels until everything wanted is there, or the deadline has passed.
    fn take_all(&mut self) -> io::Result<()> {
        let mut creation_ordered = false;
        let mut buffer = vec![0; MAX_MESSAGE];
        while !self.wanted.is_empty() && readable(self.mounter.as_fd(), self.plan.end)? {
            let (item, outcome) = take(self.mounter.as_fd(), &mut buffer)?;
            // Only now that the gateway has taken the connection may a home be made.
            let creates = self.plan.homes.as_ref().is_some_and(|homes| homes.create.is_some());
            let missing = matches!(&outcome, Err(Fault { kind: HomeFault::Missing, .. }));
            if item == Item::Home && missing && creates && !creation_ordered {
                creation_ordered = true;
                self.order(&Order::CreateHome)?;
                continue;
            }
            self.put(item, outcome);
        }
        Ok(())
    }

    fn put(&mut self, item: Item, outcome: Result<Tree, Fault>) {
        let Some(at) = self.wanted.iter().position(|wanted| *wanted == item) else { return };
        self.wanted.remove(at);
        match item {
            Item::Home => self.trees.home = Some(outcome),
            Item::Share(number) => {
                self.trees.shares.insert(number, outcome);
            }
        }
    }

    /// Gives up on everything that is still wanted.
    fn fail(&mut self, kind: HomeFault, why: &str) {
        for item in std::mem::take(&mut self.wanted) {
            let path = match (item, &self.plan.homes) {
                (Item::Home, Some(homes)) => homes::open::path(homes, &self.plan.user),
                (Item::Share(number), _) => self.plan.shares[number].source.display().to_string(),
                (Item::Home, None) => String::new(),
            };
            self.wanted.push(item);
            self.put(item, Err(Fault::new(kind, &format!("{path}: {why}"))));
        }
    }
}

/// Receives one parcel.
///
/// This doesn't look into the tree: on a file server that hangs, even fstat(2) might wait forever.
/// The child has checked the very descriptor that it cloned.
fn take(mounter: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(Item, Result<Tree, Fault>)> {
    let (length, mut descriptors) = socket::recv(mounter, buffer, 1)?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let Parcel { item, outcome } = serde_json::from_slice(&buffer[..length])?;
    let tree = match (outcome, descriptors.pop()) {
        (Ok(()), Some(descriptor)) => Ok(Tree::received(descriptor)),
        (Ok(()), None) => Err(Fault::new(HomeFault::Failed, "the mount got lost")),
        (Err(fault), _) => Err(fault),
    };
    Ok((item, tree))
}

impl Trees {
    /// Attaches everything in the jail at `root`, and returns the report for the gateway.
    ///
    /// `notes` come first in the report.
    ///
    /// What is unavailable gets a directory that belongs to root and can be entered but neither
    /// listed nor changed. It must not be an empty one: a client that synchronises takes an empty
    /// home for one whose files were deleted, and would delete its own.
    ///
    /// # Errors
    /// Fails if a mount point cannot be made.
    pub fn attach(self, plan: &Plan, mut notes: Vec<String>, root: &Path) -> Result<JailReport, Failure> {
        notes.extend(self.notes);
        view::mount_point(root, &plan.home_dir)?;
        let home = match self.home.map(|tree| attach(root, &plan.home_dir, tree)) {
            None => HomeState::Unconfigured,
            Some(Ok(())) => HomeState::Mounted,
            Some(Err(Fault { kind, detail })) => HomeState::Unavailable { fault: kind, detail },
        };
        for (number, tree) in self.shares {
            let path = plan.shares[number].path.to_string_lossy();
            view::mount_point(root, &path)?;
            if let Err(fault) = attach(root, &path, tree) {
                notes.push(format!("share {path} is not available: {fault}"));
            }
        }
        Ok(JailReport { home, notes: few(notes), accounts: Vec::new() })
    }
}

fn attach(root: &Path, at: &str, tree: Result<Tree, Fault>) -> Result<(), Fault> {
    tree?
        .attach(&root.join(at.trim_start_matches('/')))
        .map_err(|e| Fault::new(HomeFault::Failed, &format!("cannot be mounted at {at} of the jail: {e}")))
}

/// Drops and shortens notes so that a report always fits a message.
fn few(mut notes: Vec<String>) -> Vec<String> {
    let more = notes.len().saturating_sub(MAX_NOTES);
    if more > 0 {
        notes.truncate(MAX_NOTES - 1);
        notes.push(format!("and {} more", more + 1));
    }
    notes.iter().map(|note| bounded(note, MAX_NOTE)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use host::uids;

    #[test]
    fn the_longest_report_fits_a_message() {
        // A quotation mark takes two bytes in JSON.
        let long = "\"".repeat(5000);
        let detail = Fault::new(HomeFault::Failed, &long).detail;
        let notes = few(vec![long; 200]);
        assert_eq!((notes.len(), notes[MAX_NOTES - 1].as_str()), (MAX_NOTES, "and 185 more"));
        let home = HomeState::Unavailable { fault: HomeFault::Failed, detail };
        let report = JailReport { home, notes, accounts: uids::most_names() };
        assert!(serde_json::to_vec(&report).unwrap().len() < MAX_MESSAGE);
        assert_eq!(few(vec!["a\nb".into()]), ["a; b"]);
    }
}
