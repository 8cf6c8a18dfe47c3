//! Analyses sshd_config(5) as text: which files it includes, what its Match blocks depend on, and
//! why the package's block may not be in force. Pure, and conservative: it reports what it doesn't
//! understand.

use std::collections::BTreeSet;

/// The package's file, in the directory that Debian's sshd_config includes.
pub const DROP_IN: &str = "/etc/ssh/sshd_config.d/50-jupyterhub.conf";
/// sshd's main configuration file.
pub const CONFIG: &str = "/etc/ssh/sshd_config";
/// The directory that relative names are resolved in.
const BASE: &str = "/etc/ssh/";

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    /// An Include line, with its patterns.
    Include(Vec<String>),
    /// A Match line, with the words of its criteria.
    Match(Vec<&'a str>),
    /// Any other line.
    Other,
    /// A line that may be one of these.
    Unclear,
}

fn line(text: &str) -> Line<'_> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(text.len());
    let (keyword, rest) = text.split_at(end);
    if keyword.starts_with('#') || keyword.is_empty() && rest.is_empty() {
        return Line::Other;
    }
    if keyword.is_empty() || keyword.contains(['"', '\\', '\'']) {
        return Line::Unclear;
    }
    let rest = rest.trim_start().strip_prefix('=').unwrap_or(rest).trim();
    if keyword.eq_ignore_ascii_case("include") {
        patterns(rest).map_or(Line::Unclear, Line::Include)
    } else if keyword.eq_ignore_ascii_case("match") {
        Line::Match(
            rest.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty()).collect(),
        )
    } else {
        Line::Other
    }
}

/// Returns the patterns of an Include line as absolute paths.
fn patterns(rest: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for word in rest.split_whitespace() {
        if word.starts_with('#') {
            break;
        }
        let bare = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
        // Quotes with blanks between them, and what some version may expand.
        if bare.is_empty() || bare.contains(['"', '\'', '\\', '~', '$', '%']) {
            return None;
        }
        found.push(if bare.starts_with('/') { bare.to_owned() } else { format!("{BASE}{bare}") });
    }
    Some(found)
}

/// What a file's effect depends on besides its own text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Patterns of included files, as absolute paths.
    pub includes: BTreeSet<String>,
    /// Whether Match lines test more than the user's groups.
    pub more_than_groups: bool,
    /// Whether a part of it was not understood.
    pub unclear: bool,
}

/// Determines what a file's effect depends on.
#[must_use]
pub(crate) fn needs(text: &str) -> Needs {
    let mut found = Needs::default();
    for text in text.lines() {
        match line(text) {
            Line::Include(patterns) => found.includes.extend(patterns),
            Line::Match(words) => found.more_than_groups |= !only_groups(&words),
            Line::Other => {}
            Line::Unclear => found.unclear = true,
        }
    }
    found
}

fn only_groups(words: &[&str]) -> bool {
    let is = |word: &&str, name: &str| word.eq_ignore_ascii_case(name);
    words.len() == 1 && is(&words[0], "all")
        || !words.is_empty() && words.len() % 2 == 0 && words.iter().step_by(2).all(|word| is(word, "group"))
}

/// Why the package's Match block is not in force.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The package's file doesn't exist.
    NoFile,
    /// No line includes it.
    NotIncluded,
    /// The line that includes it belongs to a Match block: number and text of both lines.
    BelowMatch((usize, String), (usize, String)),
    /// None of these.
    Other,
}

/// Finds the reason in the text of sshd's main file; `present` says whether the package's file
/// exists.
#[must_use]
pub fn fault(config: &str, present: bool) -> Fault {
    if !present {
        return Fault::NoFile;
    }
    let mut block = None;
    let mut found = Fault::NotIncluded;
    for (number, text) in (1..).zip(config.lines()) {
        match line(text) {
            Line::Match(words) => {
                let all = words.len() == 1 && words[0].eq_ignore_ascii_case("all");
                block = (!all).then(|| (number, text.trim().to_owned()));
            }
            Line::Include(patterns) if patterns.iter().any(|pattern| matches(pattern, DROP_IN)) => {
                match &block {
                    // This Include line is effective, so it is not the reason.
                    None => return Fault::Other,
                    Some(block) => {
                        found = Fault::BelowMatch((number, text.trim().to_owned()), block.clone());
                    }
                }
            }
            _ => {}
        }
    }
    found
}

impl Fault {
    /// Says what is wrong in `config`, sshd's main file, and what to do about it. `opened`
    /// describes what is not confined.
    #[must_use]
    pub fn words(&self, config: &str, opened: &str) -> (String, String) {
        const WHAT: &str = "sshd would not confine hub users";
        match self {
            Self::NoFile => (
                format!("{WHAT}: {DROP_IN} is missing"),
                "apt install --reinstall -o Dpkg::Options::=--force-confmiss jupyterhub-openssh && systemctl reload ssh".to_owned(),
            ),
            Self::NotIncluded => (
                format!("{WHAT}: {config} doesn't include /etc/ssh/sshd_config.d/*.conf"),
                format!(
                    "Put \"Include /etc/ssh/sshd_config.d/*.conf\" at the top of {config}, then: sshd -t && systemctl reload ssh"
                ),
            ),
            Self::BelowMatch((line, include), (above, block)) => (
                format!(
                    "{WHAT}: line {line} of {config} (\"{include}\") stands below line {above} (\"{block}\"), so what it includes \
                     holds in that block only"
                ),
                format!(
                    "Move line {line} of {config} above line {above}, best to the top, then: sshd -t && systemctl reload ssh"
                ),
            ),
            Self::Other => (
                format!("{WHAT}: {opened}"),
                format!(
                    "Find what says so before {DROP_IN} does, and remove it: grep -rinE 'Match|Include|ForceCommand|ChrootDirectory' {config} \
                     /etc/ssh/sshd_config.d; then: sshd -t && systemctl reload ssh"
                ),
            ),
        }
    }
}

/// Matches a name against a pattern of sshd: `*`, `?`.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    fn glob(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                glob(rest, name) || name.split_first().is_some_and(|(_, left)| glob(pattern, left))
            }
            (Some((b'?', rest)), Some((_, left))) => glob(rest, left),
            (Some((one, rest)), Some((other, left))) => one == other && glob(rest, left),
            _ => false,
        }
    }
    // Limited, because each star doubles the work.
    pattern.bytes().filter(|b| *b == b'*').count() <= 8 && glob(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "# comment\n\nInclude /etc/ssh/sshd_config.d/*.conf\n\nUsePAM yes\n#Match User x\n";

    #[test]
    fn what_an_answer_depends_on() {
        let debian = needs(DEBIAN);
        assert_eq!(debian.includes.iter().collect::<Vec<_>>(), ["/etc/ssh/sshd_config.d/*.conf"]);
        assert!(!debian.more_than_groups && !debian.unclear);
        for groups in [
            "Match Group jupyterhub",
            "match=group=a,b",
            "Match all",
            "Match Group a Group b",
            "  MATCH\tgroup\t!a",
        ] {
            let found = needs(groups);
            assert!(!found.more_than_groups && !found.unclear, "{groups}");
        }
        for more in [
            "Match User a",
            "Match Group jupyterhub LocalPort 2222",
            "match address 10.0.0.0/8",
            "Match Group \"domain users\"",
            "Match Group a Future x",
            "Match",
            "Match LocalAddress=127.0.0.1",
        ] {
            assert!(needs(more).more_than_groups, "{more}");
        }
        for unclear in [
            "\"Match\" User a",
            "Inc\"lude\" /x",
            "Include \"/a b\"",
            "Include ~/x",
            "Include /x/%u",
            "= x",
            "Include 'x'",
        ] {
            assert!(needs(unclear).unclear, "{unclear}");
        }
        let more = needs("include=\"/a/*.conf\" b/c.conf # d\nIncludes /no");
        assert_eq!(more.includes.iter().collect::<Vec<_>>(), ["/a/*.conf", "/etc/ssh/b/c.conf"]);
        assert!(!more.unclear);
        assert!(!needs("\0\u{202e}\n\r").more_than_groups);
    }

    #[test]
    fn why_the_block_is_not_in_force() {
        let words = |config: &str, present| fault(config, present).words(CONFIG, "ForceCommand is none");
        assert!(words(DEBIAN, false).0.contains("50-jupyterhub.conf is missing"));
        for config in [
            "",
            "#Include /etc/ssh/sshd_config.d/*.conf",
            "Include /etc/ssh/other/*.conf",
            "Include other.d/*.conf",
        ] {
            assert_eq!(fault(config, true), Fault::NotIncluded, "{config}");
        }
        for config in [
            DEBIAN,
            " include=\"/etc/ssh/sshd_config.d/*.conf\"",
            "Include sshd_config.d/*.conf",
            "Include /x.conf /etc/ssh/sshd_config.d/50-*",
            "Match User x\nX11Forwarding no\nMatch all\nInclude /etc/ssh/sshd_config.d/*.conf",
            "Match User x\nInclude sshd_config.d/*.conf\nMatch all\nInclude sshd_config.d/*.conf",
        ] {
            assert_eq!(fault(config, true), Fault::Other, "{config}");
        }
        let (what, remedy) =
            words("Port 22\n\nMatch User backup\n  X11Forwarding no\n\nInclude sshd_config.d/*.conf\n", true);
        assert!(
            what.contains("line 6 of /etc/ssh/sshd_config (\"Include sshd_config.d/*.conf\") stands below line 3 (\"Match User backup\")"),
            "{what}"
        );
        assert!(remedy.starts_with("Move line 6 of /etc/ssh/sshd_config above line 3"), "{remedy}");
        assert!(words(DEBIAN, true).0.ends_with("ForceCommand is none"));
    }
}
