//! `[metrics]`: where to write metrics for Prometheus.

use common::ConfigError;
use common::table::Document;
use std::path::PathBuf;

/// Where to write metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// `textfile`: the file that `jupyterhub-openssh metrics --textfile` writes; none if not set.
    pub textfile: Option<PathBuf>,
}

/// Reads `[metrics]`.
///
/// # Errors
/// A value is not allowed.
pub(super) fn read(document: &Document<'_>) -> Result<Metrics, ConfigError> {
    let table = document.table("metrics", &["textfile"])?;
    let textfile = table.path("textfile")?;
    if textfile.as_ref().is_some_and(|path| path.extension().is_none_or(|end| end != "prom")) {
        return Err(table.refuse(
            "textfile",
            "the file's name does not end in .prom",
            "node_exporter reads no others: use a name such as jupyterhub-openssh.prom.",
        ));
    }
    Ok(Metrics { textfile })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn the_file_has_a_whole_path_and_its_ending() {
        let parse = |text: &str| Config::from_str(&format!("[metrics]\n{text}"), Path::new("/c"));
        assert_eq!(parse("").unwrap().metrics.textfile, None);
        let read = parse("textfile = '/var/lib/x/jo.prom'").unwrap().metrics.textfile;
        assert_eq!(read.as_deref(), Some(Path::new("/var/lib/x/jo.prom")));
        for bad in ["'jo.prom'", "'/var/lib/x/jo.txt'", "'/var/lib/x'", "7"] {
            assert_eq!(parse(&format!("textfile = {bad}")).unwrap_err().key(), Some("metrics.textfile"));
        }
    }
}
