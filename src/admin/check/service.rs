//! Checks that the hub's service may do what `[keys]` needs, and no more.

use super::Finding;
use super::hub::no_answer;
use ::hub::http::{Call, Http, Reply};
use ::hub::json;
use ::hub::text::printable;
use host::config::{Keys, Source};
use host::secret::Token;
use serde::Deserialize;
use std::time::Duration;

const TOPIC: &str = "service";
/// How long the hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most scopes that a finding lists.
const MAX_NAMED: usize = 6;

/// Asks the hub whom the service token belongs to, and judges its scopes.
pub fn check(http: &Http, token: &Token, keys: &Keys) -> Vec<Finding> {
    match http.call(token, Call::get(&["hub", "api", "user"], PATIENCE)) {
        Ok(reply) => judge(&reply, keys),
        Err(error) => vec![no_answer(TOPIC, &error)],
    }
}

/// The parts that are read of the hub's answer.
#[derive(Deserialize)]
struct Model {
    kind: String,
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
}

fn judge(reply: &Reply, keys: &Keys) -> Vec<Finding> {
    let file = keys.service_token_file.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    match reply.status {
        200 => {}
        401 | 403 => {
            return vec![Finding::error(
                TOPIC,
                format_args!("the hub does not know the token in {file}: nobody can log in by key"),
                format_args!(
                    "Write the service's api_token (c.JupyterHub.services in jupyterhub_config.py) into {file}, and restart the \
                     hub if it has not read it since"
                ),
            )];
        }
        status => {
            return vec![Finding::unknown(
                TOPIC,
                format_args!("the hub answered with status {status}"),
                "Try again; its log may say why",
            )];
        }
    }
    let Ok(model) = json::object::<Model>(&reply.body) else {
        return vec![Finding::unknown(
            TOPIC,
            "the hub's answer was not understood",
            "Is hub.url the address of a JupyterHub?",
        )];
    };
    let name = printable(&model.name, 64);
    let mut findings = Vec::new();
    if model.kind != "service" {
        findings.push(Finding::warning(
            TOPIC,
            format_args!(
                "the token in {file} is that of the {} {name}, not of a service: it ends with them",
                printable(&model.kind, 20)
            ),
            "Give the hub a service (c.JupyterHub.services), and use its api_token",
        ));
    }
    let missing = missing(&model.scopes, keys);
    if !missing.is_empty() {
        findings.push(Finding::error(
            TOPIC,
            format_args!("{name} lacks {}: {}", listed(&missing), needed_for(&missing)),
            format_args!(
                "Add to its role's scopes (c.JupyterHub.load_roles): {}; then restart the hub",
                quoted(&missing)
            ),
        ));
    }
    let more = too_wide(&model.scopes, keys);
    if !more.is_empty() {
        findings.push(Finding::warning(
            TOPIC,
            format_args!("{name} may do more than it has to: {}", listed(&more)),
            format_args!(
                "Leave only these in its role's scopes (c.JupyterHub.load_roles): {}",
                quoted(&wanted(keys))
            ),
        ));
    }
    if findings.is_empty() {
        findings
            .push(Finding::fine(TOPIC, format_args!("{name} may do what login by key needs, and no more")));
    }
    findings
}

/// True if keys come from the hub, which takes more scopes.
fn asks_hub(keys: &Keys) -> bool {
    keys.sources.contains(&Source::Hub)
}

/// The scopes that the service needs, as in docs/keys.md.
fn wanted(keys: &Keys) -> Vec<String> {
    let hub: &[&str] = if asks_hub(keys) { &["admin:auth_state", "read:users:name"] } else { &[] };
    ["tokens"].iter().chain(hub).map(|scope| (*scope).to_owned()).collect()
}

/// The needed scopes that the service lacks. A scope that is limited to groups or users counts.
fn missing(scopes: &[String], keys: &Keys) -> Vec<String> {
    let has = |name: &str| {
        scopes.iter().any(|scope| {
            let base = scope.split('!').next().unwrap_or_default();
            // These scopes include reading the name.
            base == name || (name == "read:users:name" && matches!(base, "read:users" | "admin:users"))
        })
    };
    wanted(keys).into_iter().filter(|name| !has(name)).collect()
}

fn needed_for(missing: &[String]) -> &'static str {
    if missing.iter().any(|scope| scope == "tokens") {
        "nobody can log in by key"
    } else {
        "the source \"hub\" finds no keys"
    }
}

/// The scopes that the service doesn't need and that could change something or open a server.
fn too_wide(scopes: &[String], keys: &Keys) -> Vec<String> {
    let harmless = |scope: &&String| {
        let base = scope.split('!').next().unwrap_or_default();
        base == "tokens"
            || base == "self"
            || base == "identify"
            || base.starts_with("read:")
            || base.starts_with("list:")
            || base.starts_with("access:services")
            || (asks_hub(keys) && base == "admin:auth_state")
    };
    scopes.iter().filter(|scope| !harmless(scope)).cloned().collect()
}

fn listed(scopes: &[String]) -> String {
    let shown: Vec<String> = scopes.iter().take(MAX_NAMED).map(|scope| printable(scope, 60)).collect();
    let more = scopes.len().saturating_sub(MAX_NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

fn quoted(scopes: &[String]) -> String {
    scopes.iter().map(|scope| format!("\"{scope}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use host::config::Config;
    use std::path::Path;

    fn keys(sources: &str) -> Keys {
        let text =
            format!("[homes]\nroot = '/srv'\n[keys]\nservice_token_file = '/etc/t'\nsources = [{sources}]");
        Config::from_str(&text, Path::new("c")).unwrap().keys
    }

    fn of(status: u16, body: &str, sources: &str) -> Vec<Finding> {
        judge(&Reply { status, retry_after: None, body: body.as_bytes().to_vec() }, &keys(sources))
    }

    fn model(kind: &str, scopes: &str) -> String {
        format!("{{\"kind\": \"{kind}\", \"name\": \"ssh-bastion\", \"scopes\": [{scopes}]}}")
    }

    #[test]
    fn the_readmes_role_is_enough_and_not_too_much() {
        let hub = r#""admin:auth_state", "read:tokens", "read:users:name", "tokens""#;
        for (scopes, sources) in [
            (r#""read:tokens", "tokens""#, "'home'"),
            (hub, "'hub', 'home'"),
            (r#""tokens!group=ssh-users""#, "'home'"),
        ] {
            let found = of(200, &model("service", scopes), sources);
            assert!(found.len() == 1 && found[0].text().contains("and no more"), "{found:?}");
        }
    }

    #[test]
    fn what_is_missing_or_too_wide_is_named() {
        let none = of(200, &model("service", ""), "'home'");
        assert!(
            none.len() == 1
                && none[0].is_error()
                && none[0].text().contains("lacks tokens: nobody can log in by key")
        );
        assert!(none[0].text().contains("\"tokens\"; then restart the hub"), "{none:?}");
        let state = of(200, &model("service", r#""tokens", "read:users""#), "'hub'");
        assert!(
            state.len() == 1
                && state[0].text().contains("lacks admin:auth_state: the source \"hub\" finds no keys")
        );
        let wide = of(
            200,
            &model("service", r#""tokens", "admin:users", "admin:auth_state", "access:servers", "shutdown""#),
            "'home'",
        );
        assert!(wide.len() == 1 && !wide[0].is_error(), "{wide:?}");
        assert!(wide[0].text().contains(
            "more than it has to: admin:users, admin:auth_state, access:servers, shutdown. Leave only"
        ));
        let many: String = (0..20).map(|n| format!("\"x{n}\", ")).collect::<String>() + "\"tokens\"";
        assert!(of(200, &model("service", &many), "'home'")[0].text().contains("and 14 more"));
    }

    #[test]
    fn other_tokens_and_answers() {
        assert!(of(403, "", "'home'")[0].text().contains("does not know the token in /etc/t"));
        let user = of(200, &model("user", r#""tokens""#), "'home'");
        assert!(user.len() == 1 && user[0].text().contains("not of a service"), "{user:?}");
        for (status, body) in [(500, ""), (200, "<html>"), (200, "{}"), (200, "[\"service\", \"x\", []]")] {
            let found = of(status, body, "'home'");
            assert!(
                found.len() == 1 && found[0].severity == super::super::finding::Severity::Unknown,
                "{found:?}"
            );
        }
    }
}
