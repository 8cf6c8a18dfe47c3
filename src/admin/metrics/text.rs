//! Writes counters in Prometheus' text format, version 0.0.4. Pure.

use host::counters::{Counter, Counters, Outcome, START_SECONDS};
use std::fmt::{Display, Write};
use wire::By;

/// The start of every metric's name.
const PREFIX: &str = "jupyterhub_openssh";

/// Writes all metrics. `sessions` is the number of live connections, if it is known.
#[must_use]
pub fn exposition(counters: &Counters, sessions: Option<usize>) -> String {
    let mut text = String::new();
    family(
        &mut text,
        "logins_total",
        "counter",
        "Logins whose token was checked, by outcome and what was shown.",
    );
    for (outcome, word) in
        [(Outcome::Granted, "granted"), (Outcome::Refused, "refused"), (Outcome::Unavailable, "unavailable")]
    {
        for by in [By::Token, By::Key] {
            let labels = format!("{{outcome=\"{word}\",by=\"{}\"}}", by.as_str());
            sample(&mut text, "logins_total", &labels, counters.get(Counter::Login(outcome, by)));
        }
    }
    if let Some(sessions) = sessions {
        family(&mut text, "sessions", "gauge", "Sessions that are live now.");
        sample(&mut text, "sessions", "", sessions);
    }
    for (name, help, counter) in [
        ("sessions_total", "Sessions that have begun.", Counter::Sessions),
        ("received_bytes_total", "Bytes from clients that passed the gateway.", Counter::BytesIn),
        ("sent_bytes_total", "Bytes to clients that passed the gateway.", Counter::BytesOut),
        (
            "reconnects_total",
            "Connections to users' servers that were lost and made anew.",
            Counter::Reconnects,
        ),
    ] {
        family(&mut text, name, "counter", help);
        sample(&mut text, name, "", counters.get(counter));
    }
    family(&mut text, "sessions_ended_total", "counter", "Sessions that were not ended by their users.");
    for (by, counter) in [
        ("idle_limit", Counter::IdleLimit),
        ("max_length", Counter::MaxLength),
        ("administrator", Counter::Disconnects),
    ] {
        sample(&mut text, "sessions_ended_total", &format!("{{by=\"{by}\"}}"), counters.get(counter));
    }
    family(&mut text, "server_start_failures_total", "counter", "Servers of users that did not start.");
    sample(&mut text, "server_start_failures_total", "", counters.get(Counter::StartsFailed));
    starts(&mut text, counters);
    text
}

/// Writes the histogram of the time that servers took to start. Each bucket of Prometheus'
/// histograms includes the smaller ones.
fn starts(text: &mut String, counters: &Counters) {
    let name = "server_start_seconds";
    family(text, name, "histogram", "How long servers of users took to start for a session.");
    let mut count: u64 = 0;
    for (interval, end) in START_SECONDS.iter().map(u64::to_string).chain(["+Inf".to_owned()]).enumerate() {
        count = count.wrapping_add(counters.get(Counter::Starts(interval)));
        sample(text, &format!("{name}_bucket"), &format!("{{le=\"{end}\"}}"), count);
    }
    let millis = counters.get(Counter::StartMillis);
    sample(text, &format!("{name}_sum"), "", format_args!("{}.{:03}", millis / 1000, millis % 1000));
    sample(text, &format!("{name}_count"), "", count);
}

/// Writes the two lines that introduce a metric. (Writing to a `String` cannot fail.)
fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(text, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}\n");
}

/// Writes one line with a value. `labels` has its braces, or is empty.
fn sample(text: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = writeln!(text, "{PREFIX}_{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_there_once() {
        let text = exposition(&Counters::default(), Some(2));
        assert_eq!(text.matches("# TYPE").count(), 9);
        assert!(text.contains("\njupyterhub_openssh_sessions 2\n"));
        assert!(text.contains("\njupyterhub_openssh_logins_total{outcome=\"refused\",by=\"key\"} 0\n"));
        assert!(text.contains("\njupyterhub_openssh_server_start_seconds_bucket{le=\"+Inf\"} 0\n"));
        assert!(text.contains("\njupyterhub_openssh_server_start_seconds_sum 0.000\n"));
        assert!(text.ends_with('\n') && !exposition(&Counters::default(), None).contains("_sessions 2"));
    }
}
