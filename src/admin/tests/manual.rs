//! The manual pages are written by hand, as reference pages read better that way. Here they are
//! held to what they describe: the command line as the program reads it, and the keys and defaults
//! of config.toml.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use admin::cli;

const PROGRAM_PAGE: &str = include_str!("../../../packaging/man/jupyterhub-openssh.8");
const CONFIG_PAGE: &str = include_str!("../../../packaging/man/jupyterhub-openssh.toml.5");
const CONFIG: &str = include_str!("../../../packaging/config.toml");

/// The lines of a page from the one after `start` to the one before one that starts with `end`.
fn between<'p>(page: &'p str, start: &str, end: &str) -> Vec<&'p str> {
    page.lines().skip_while(|line| *line != start).skip(1).take_while(|line| !line.starts_with(end)).collect()
}

/// The long options in a piece of a page: `.Fl -json`, also within a line.
fn options<'p>(lines: &[&'p str]) -> BTreeSet<&'p str> {
    let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
    let options = words.windows(2).filter(|pair| pair[0].trim_start_matches('.') == "Fl");
    options.filter_map(|pair| pair[1].strip_prefix('-')).collect()
}

/// `(name, the lines of its item)` for each item at the outermost level of a piece that is marked
/// up with `mark`.
fn items<'p>(lines: &[&'p str], mark: &str) -> Vec<(&'p str, Vec<&'p str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut depth = 0;
    for line in lines {
        match line.split_whitespace().next() {
            Some(".Bl") => depth += 1,
            Some(".El") => depth -= 1,
            Some(".It") if depth == 1 => {
                let name = line.strip_prefix(&format!(".It {mark} ")).expect(line);
                found.push((name.split(' ').next().unwrap(), Vec::new()));
            }
            _ => {}
        }
        if let Some((_, item)) = found.last_mut() {
            item.push(line);
        }
        if depth == 0 && !found.is_empty() {
            break;
        }
    }
    found
}

#[test]
fn the_page_of_the_program_has_every_command_and_option() {
    let command = cli::command();
    let (hidden, shown): (Vec<_>, Vec<_>) =
        command.get_subcommands().partition(|command| command.is_hide_set());
    let description = between(PROGRAM_PAGE, ".Sh DESCRIPTION", ".Ss");
    let synopsis = between(PROGRAM_PAGE, ".Sh SYNOPSIS", ".Sh").join("\n");
    // A form of the synopsis starts with the program's name.
    let forms: Vec<Vec<&str>> = synopsis.split(".Nm\n").skip(1).map(|form| form.lines().collect()).collect();
    let described = items(&description, "Cm");

    let names: BTreeSet<&str> = shown.iter().map(|command| command.get_name()).collect();
    let internal: BTreeSet<&str> = hidden.iter().map(|command| command.get_name()).collect();
    let on_page: BTreeSet<&str> = described.iter().map(|(name, _)| *name).collect();
    assert_eq!(&on_page - &internal, names, "the commands under DESCRIPTION");
    let in_synopsis: BTreeSet<&str> =
        forms.iter().filter_map(|form| form[0].strip_prefix(".Cm ")?.split(' ').next()).collect();
    assert_eq!(in_synopsis, names, "the commands in the SYNOPSIS");

    for command in shown {
        let name = command.get_name();
        let known: BTreeSet<&str> = command
            .get_arguments()
            .filter(|argument| !argument.is_hide_set())
            .filter_map(|argument| argument.get_long())
            .filter(|long| *long != "help")
            .collect();
        let item = &described.iter().find(|(item, _)| *item == name).unwrap().1;
        let form: Vec<&str> = forms.iter().filter(|form| form[0].contains(name)).flatten().copied().collect();
        assert_eq!(options(item), known, "the options of {name} under DESCRIPTION");
        assert_eq!(options(&form), known, "the options of {name} in the SYNOPSIS");
        assert!(command.get_about().is_some(), "{name} has no help");
    }
}

/// `(key, its comment, its value)` for each key of a table of config.toml.
fn keys(table: &str) -> Vec<(&'static str, String, &'static str)> {
    let mut found = Vec::new();
    let mut comment = String::new();
    let mut here = false;
    for line in CONFIG.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if bare.starts_with('[') && bare.ends_with(']') && !bare.contains('"') {
            here = bare == table;
            comment.clear();
        } else if let Some((key, value)) = bare.split_once(" = ").filter(|(key, _)| {
            line.starts_with("# ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        }) {
            if here {
                found.push((key, std::mem::take(&mut comment), value));
            }
        } else if line.is_empty() {
            comment.clear();
        } else {
            comment.push_str(bare);
            comment.push('\n');
        }
    }
    found
}

/// The tables of config.toml, as their headers name them.
fn tables() -> Vec<&'static str> {
    let bare = CONFIG.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    bare.filter(|line| line.starts_with('[') && line.ends_with(']') && !line.contains('"')).collect()
}

/// What a piece of a page says, without its markup, in one line.
fn plain(lines: &[&str]) -> String {
    let words = lines.iter().flat_map(|line| {
        let skip = usize::from(line.starts_with('.'));
        line.split_whitespace()
            .skip(skip)
            .filter(move |word| skip == 0 || !matches!(*word, "Ql" | "Ic" | "Pa" | "No"))
    });
    words.collect::<Vec<_>>().join(" ").replace(r"\(dq", "\"").replace(" .", ".").replace(" ,", ",")
}

/// Whether an item of the page names the default that config.toml shows: `"auto" (what it does) The
/// default.` where the values are listed, and otherwise `Default: auto.`
fn names_default(item: &[&str], value: &str) -> bool {
    let text = plain(item);
    let word = value.trim_matches('"');
    let stated = if value == "[]" { "Default: none".to_owned() } else { format!("Default: {word}") };
    let lists = item.split(|line| line.starts_with(".It Ql"));
    let listed = item
        .iter()
        .filter(|line| line.starts_with(".It Ql"))
        .zip(lists.skip(1))
        .any(|(head, text)| plain(&[head]).ends_with(value) && plain(text).contains("he default"));
    text.split_once(&stated).is_some_and(|(_, rest)| rest.starts_with(['.', ',', ' '])) || listed
}

#[test]
fn the_page_of_the_configuration_has_every_key_with_its_default() {
    let titles: Vec<String> =
        tables()
            .iter()
            .map(|table| {
                if table.starts_with("[[") { format!("Sections {table}") } else { format!("Section {table}") }
            })
            .collect();
    let on_page: Vec<&str> = CONFIG_PAGE
        .lines()
        .filter_map(|line| line.strip_prefix(".Ss "))
        .filter(|title| title.starts_with("Section"))
        .collect();
    assert_eq!(on_page, titles, "the sections of the page are the tables of config.toml, in their order");

    for (table, title) in tables().iter().zip(titles) {
        let section = between(CONFIG_PAGE, &format!(".Ss {title}"), ".S");
        let described = items(&section, "Ic");
        let known = keys(table);
        let mut names: Vec<&str> = known.iter().map(|(key, ..)| *key).collect();
        let mut on_page: Vec<&str> = described.iter().map(|(key, _)| *key).collect();
        names.sort_unstable();
        on_page.sort_unstable();
        assert_eq!(on_page, names, "the keys of {table}");
        for (key, comment, value) in known {
            let item = &described.iter().find(|(name, _)| *name == key).unwrap().1;
            let none = comment.to_lowercase().contains("no default");
            assert_eq!(plain(item).contains("No default"), none, "{table} {key}: whether there is a default");
            assert!(
                none || names_default(item, value),
                "{table} {key}: its default is {value}; the page says: {}",
                plain(item)
            );
        }
    }
}
