//! Formats messages for journald's native protocol (systemd: docs/JOURNAL_NATIVE_PROTOCOL.md): a
//! datagram of `FIELD=value` lines. Pure.

use syslog::Severity;

/// journald's socket, which exists while journald is this host's logger.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";
/// The facility LOG_AUTHPRIV, the same as for our messages to /dev/log.
const FACILITY: &str = "10";

/// Formats a message as journal fields. Values are single lines already; a value with a line break
/// is left out, because the protocol would need another form for it.
pub(crate) fn datagram(
    program: &str,
    pid: u32,
    severity: Severity,
    fields: &[(&str, &str)],
    line: &str,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.len() + 256);
    let mut push = |name: &str, value: &str| {
        if !value.contains('\n') {
            for part in [name, "=", value, "\n"] {
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    };
    push("MESSAGE", line);
    push("PRIORITY", &(severity as u8).to_string());
    push("SYSLOG_FACILITY", FACILITY);
    push("SYSLOG_IDENTIFIER", program);
    push("SYSLOG_PID", &pid.to_string());
    for (key, value) in fields {
        push(&format!("JUPYTERHUB_{}", key.to_ascii_uppercase()), value);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_fields_and_the_line() {
        let fields = [("session", "1a2b"), ("user", "alice"), ("peer", "a\nPRIORITY=0")];
        let bytes = datagram("program", 7, Severity::LOG_WARNING, &fields, "session=1a2b event=login");
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "MESSAGE=session=1a2b event=login\nPRIORITY=4\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=program\n\
             SYSLOG_PID=7\nJUPYTERHUB_SESSION=1a2b\nJUPYTERHUB_USER=alice\n"
        );
    }
}
