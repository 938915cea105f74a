//! The log: text for people or JSON lines for programs, always to standard error. Spec: DPS-DEV-3, DPS-SERVE-9.

use std::fmt;
use std::io::{IsTerminal as _, stderr};

use anyhow::anyhow;
use clap::ValueEnum;
use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::exit::Failure;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// The least severe lines that are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Format {
    pub(crate) const WORDS: [(&str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Level {
    pub(crate) const WORDS: [(&str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Names a filter that goes before the level.
const VARIABLE: &str = "HARBORMASTER_LOG";

/// Ends the help of the commands that log.
pub(crate) const HELP: &str = "The variable HARBORMASTER_LOG sets what is logged: a level (error, warn, info, debug, trace, \
                               off), or levels of single modules, such as info,dps_server=debug.";

/// Begins the log. HARBORMASTER_LOG, a filter, goes before `level`.
///
/// # Errors
/// Where the filter cannot be read.
pub(crate) fn start(format: Format, level: Level) -> Result<(), Failure> {
    // Empty is as good as not set.
    let filter = std::env::var_os(VARIABLE).filter(|filter| !filter.is_empty());
    let Some(filter) = filter else {
        begin(format, EnvFilter::new(level.word()));
        return Ok(());
    };
    let text = filter.to_string_lossy();
    let filter = EnvFilter::builder().parse(&text).map_err(|why| {
        Failure::usage(anyhow!(
            "{VARIABLE}={text}: {why}; write a level, or levels of modules, such as info,dps_server=debug"
        ))
    })?;
    if let Some(word) = unknown_word(&text) {
        // The filter itself would hold it back.
        let _warning = begin_for_now(format);
        tracing::warn!(
            "{VARIABLE}: {word:?} is no level (error, warn, info, debug, trace, off), so it counts as the name of a module, and \
             nothing else is logged"
        );
    }
    begin(format, filter);
    Ok(())
}

/// A bare word of the filter that is neither a level nor a module of this program: probably a slip of the pen.
fn unknown_word(filter: &str) -> Option<&str> {
    let is_known = |word: &str| {
        word.parse::<LevelFilter>().is_ok()
            || ["harbormaster", "dps_"].iter().any(|module| word.starts_with(module))
    };
    filter
        .split(',')
        .map(str::trim)
        .find(|word| !word.is_empty() && !word.contains(['=', '[', ']', '{', '}', ':']) && !is_known(word))
}

fn begin(format: Format, filter: EnvFilter) {
    // It fails where a log was begun before, and none was.
    let _ = log(format, filter).try_init();
}

fn begin_for_now(format: Format) -> tracing::subscriber::DefaultGuard {
    log(format, EnvFilter::new("warn")).set_default()
}

fn log(format: Format, filter: EnvFilter) -> Dispatch {
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
    match format {
        Format::Text => log.with_ansi(stderr().is_terminal()).fmt_fields(TextFields).finish().into(),
        // Flat, so that a field has the same path in every line.
        Format::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).finish().into()
        }
    }
}

/// The fields of a text line: a value stands in quotation marks where a reader could not tell its end, and only there,
/// whichever type it has.
struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Uniform(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct Uniform<'w>(DefaultVisitor<'w>);

impl Visit for Uniform<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.record_str(field, value);
        } else if value.is_empty()
            || value.contains(|c: char| c.is_whitespace() || c.is_control() || "\"\\=".contains(c))
        {
            self.0.record_debug(field, &value);
        } else {
            self.0.record_debug(field, &format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.record_debug(field, value);
        } else {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// DPS-SERVE-9
    #[test]
    fn a_value_looks_the_same_whichever_type_it_has() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .fmt_fields(TextFields)
            .finish();
        tracing::subscriber::with_default(log, || {
            let scope = "0ne1";
            tracing::warn!(id_scope = scope, shown = %scope, reason = %"two words\nand a line", count = 7, "said = so");
        });
        let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let expected = "said = so id_scope=0ne1 shown=0ne1 reason=\"two words\\nand a line\" count=7\n";
        assert!(told.ends_with(expected), "{told}");
    }

    #[test]
    fn a_word_that_is_no_level_is_found() {
        for known in [
            "info",
            "WARN",
            "off",
            "debug,rustls=off",
            "harbormaster",
            "dps_server::mqtt",
            "hyper::proto",
            "",
        ] {
            assert_eq!(unknown_word(known), None, "{known}");
        }
        assert_eq!(unknown_word("info, inof"), Some("inof"));
    }
}
