//! Selects those of the user's groups that `[[shares]]` names, for the jail. Pure.

use host::config::Share;
use wire::MAX_MESSAGE;

/// Most bytes for the groups: the answer to a claim must fit into one message.
const MAX_BYTES: usize = MAX_MESSAGE - 256;

/// What the jail is told, and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// The groups.
    pub groups: Vec<String>,
    /// A problem, as a line for the log.
    pub problem: Option<&'static str>,
}

/// Selects from `groups`, as the hub has told them; `None` if it has not.
#[must_use]
pub fn for_shares(groups: Option<&[String]>, shares: &[Share]) -> Told {
    let mut told = Told { groups: Vec::new(), problem: None };
    let mut left = MAX_BYTES;
    for name in shares.iter().flat_map(|share| &share.groups) {
        let Some(groups) = groups else {
            told.problem = Some(
                "the hub doesn't tell this token the user's groups (scope read:users:groups): shares of groups \
                 are left out",
            );
            break;
        };
        if !groups.contains(name) || told.groups.contains(name) {
            continue;
        }
        // In JSON a character takes at most six times its bytes; add the quotes and a comma.
        match left.checked_sub(name.len() * 6 + 3) {
            Some(rest) => left = rest,
            None => {
                told.problem = Some("too many groups have shares: some of this user's are left out");
                continue;
            }
        }
        told.groups.push(name.clone());
    }
    told
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use wire::claim::ClaimReply;

    fn shares(groups: &[&[&str]]) -> Vec<Share> {
        let share = |groups: &&[&str]| Share {
            source: "/srv/x".into(),
            path: "/x".into(),
            writable: false,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        groups.iter().map(share).collect()
    }

    #[test]
    fn only_groups_that_have_shares() {
        let own = ["a", "b", "c"].map(str::to_owned);
        let told = |shares: &[Share]| for_shares(Some(&own), shares).groups;
        assert_eq!(told(&shares(&[&["b", "x"], &[], &["b", "a"]])), ["b", "a"]);
        assert!(told(&[]).is_empty());
        assert_eq!(for_shares(None, &shares(&[&[]])), Told { groups: vec![], problem: None });
        let unknown = for_shares(None, &shares(&[&["a"]]));
        assert!(unknown.groups.is_empty() && unknown.problem.unwrap().contains("read:users:groups"));
    }

    #[test]
    fn the_answer_fits_a_message() {
        let many: Vec<String> = (0..4000).map(|n| format!("\u{1}{n}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        let told = for_shares(Some(&many), &shares(&[&names, &["small"]]));
        assert!(told.problem.unwrap().contains("left out"));
        let message = serde_json::to_vec(&ClaimReply::Claimed { groups: told.groups }).unwrap();
        assert!(message.len() > MAX_MESSAGE / 4 && message.len() <= MAX_MESSAGE, "{}", message.len());
    }
}
