//! Checks that the shared directories are there.

use super::{Finding, PATIENCE, mounts};
use crate::status::patience::await_each;
use host::config::{Config, Share};
use host::homes::open::open_share;
use std::sync::Arc;

const TOPIC: &str = "shares";

/// Checks each share, within [`PATIENCE`].
pub fn check(config: &Config) -> Vec<Finding> {
    let shares = Arc::new(config.shares.clone());
    if shares.is_empty() {
        return Vec::new();
    }
    let answers = await_each(&shares, PATIENCE, look);
    let findings: Vec<Finding> = shares
        .iter()
        .zip(answers)
        .filter_map(|(share, answer)| match answer {
            None => Some(Finding::error(
                TOPIC,
                format_args!(
                    "a share cannot be shown: {}: no answer within {} s",
                    share.source.display(),
                    PATIENCE.as_secs()
                ),
                format_args!("See what hangs: findmnt -T {}", share.source.display()),
            )),
            Some(problem) => problem,
        })
        .collect();
    if findings.is_empty() {
        let count = shares.len();
        let what =
            if count == 1 { "the directory is".to_owned() } else { format!("all {count} directories are") };
        return vec![Finding::fine(TOPIC, format_args!("{what} there"))];
    }
    findings
}

/// Checks one share. Opens it as the jail does: with O_PATH, which needs no permission to read.
fn look(share: &Share) -> Option<Finding> {
    let fault = match open_share(&share.source, None) {
        // `open_share` follows no links, so this is the real path.
        Ok(_) if share.writable => {
            let what = format!("the share {}", share.source.display());
            return mounts::open_to_accounts(TOPIC, &what, &share.source);
        }
        Ok(_) => return None,
        Err(fault) => fault,
    };
    let remedy = "Make it a directory that can be reached without links, or remove the share";
    Some(Finding::error(TOPIC, format_args!("a share cannot be shown: {fault}"), remedy))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::path::Path;

    fn texts(sources: &[&Path]) -> Vec<String> {
        let mut text = "[homes]\nroot = '/srv/homes'\n".to_owned();
        for (number, source) in sources.iter().enumerate() {
            text += &format!("[[shares]]\nsource = '{}'\npath = '/shared/{number}'\n", source.display());
        }
        let config = Config::from_str(&text, Path::new("config.toml")).unwrap();
        check(&config)
            .into_iter()
            .map(|finding| format!("{} {}", finding.is_error(), finding.text()))
            .collect()
    }

    #[test]
    fn each_that_cannot_be_shown_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("data")).unwrap();
        fs::write(at("file"), "").unwrap();
        assert!(texts(&[]).is_empty());
        assert_eq!(texts(&[&at("data")]), ["false shares: the directory is there"]);
        assert_eq!(texts(&[&at("data"), dir.path()]), ["false shares: all 2 directories are there"]);
        let found = texts(&[&at("none"), &at("data"), &at("file")]);
        assert_eq!(found.len(), 2, "{found:?}");
        let start = format!("true shares: a share cannot be shown: {}", dir.path().display());
        for (text, why) in
            [(&found[0], "/none: No such file"), (&found[1], "/file: Not a directory. Make it a directory")]
        {
            assert!(text.starts_with(&format!("{start}{why}")), "{text}");
        }
        std::os::unix::fs::symlink("data", at("link")).unwrap();
        let found = texts(&[&at("link")]).remove(0);
        let why = "/link leads through a symbolic link: write the real path in config.toml. ";
        assert!(found.starts_with(&format!("{start}{why}")), "{found}");
    }
}
