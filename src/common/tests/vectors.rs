//! Escaped names, slugs and URL segments, compared with what escapism, kubespawner and Python make
//! of them.
#![allow(clippy::unwrap_used)]

use common::names::{UserName, quote};
use common::template::{Template, escape, slug};
use common::uid::Range;

/// Made by tests/vectors/make_vectors.py.
const VECTORS: &str = include_str!("vectors.tsv");

fn decode(hex: &str) -> String {
    let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

#[test]
fn every_vector_is_met() {
    let mut names = 0;
    let mut accepted = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [hex, escaped, slugged, segment, uid, shown] = fields[..] else { unreachable!("{line}") };
        let name = decode(hex);
        assert_eq!(escape(&name), escaped, "{shown}");
        assert_eq!(slug(&name), slugged, "{shown}");
        assert_eq!(quote(&name), segment, "{shown}");
        names += 1;
        let Ok(user) = UserName::parse(&name) else { continue };
        accepted += 1;
        assert_eq!(user.path_segment(), segment);
        assert_eq!(Range::DEFAULT.ids(&user).uid(), uid.parse::<u32>().unwrap(), "{shown}");
        for (template, path) in [("{escaped}", escaped), ("{slug}", slugged), ("{username}", &*name)] {
            match Template::parse(template).unwrap().expand(&user) {
                Ok(made) => assert_eq!(made, path),
                Err(_) => assert!(path.len() > 255, "{shown}"),
            }
        }
    }
    let seen: String = VECTORS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| decode(line.split('\t').next().unwrap()))
        .collect();
    assert!(('!'..='~').all(|c| seen.contains(c)), "every character of ASCII has been compared");
    assert!(names > 100 && accepted > 40, "{names} names, {accepted} of them accepted");
}
