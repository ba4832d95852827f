//! Logs, on standard error. Names of containers and addresses belong at `debug` and below.

use std::{
    io::{self, IsTerminal},
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::{Level, Span, info_span};
use tracing_subscriber::{
    EnvFilter,
    fmt::writer::{BoxMakeWriter, MakeWriterExt},
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, LogLevel};

/// Sets up logging for the whole process; once. An engine logs all that a `managed_plugin` writes on standard error
/// as errors of its own, so that only what is wrong goes there, and the rest to standard output.
pub fn init(level: LogLevel, format: LogFormat, managed_plugin: bool) -> anyhow::Result<()> {
    let writer = if managed_plugin {
        BoxMakeWriter::new(io::stderr.with_max_level(Level::WARN).or_else(io::stdout))
    } else {
        BoxMakeWriter::new(io::stderr)
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(directives(level))?)
        .with_writer(writer)
        .with_target(true);
    let done = match format {
        LogFormat::Text => builder.with_ansi(colours()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(true).finish().try_init(),
    };
    done.map_err(|err| anyhow::anyhow!("logging is already set up: {err}"))
}

/// A span for one call of the engine, numbered so that the lines of calls that overlap can be told apart.
pub fn call_span(method: &str) -> Span {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    info_span!("call", id = NEXT.fetch_add(1, Ordering::Relaxed), method)
}

/// Our own level is the user's; libraries speak up only when something is wrong or everything is asked
/// for. netlink-proto warns about each message that arrives after its request was given up, which is no
/// news to anyone.
fn directives(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn,netlink_proto=error",
        LogLevel::Info => "warn,rs_overlay=info,netlink_proto=error",
        LogLevel::Debug => "warn,rs_overlay=debug,netlink_proto=error",
        LogLevel::Trace => "debug,rs_overlay=trace,netlink_proto=error",
    }
}

/// Colours are for terminals, and for people who have not said no (<https://no-color.org>).
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_makes_a_filter() {
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            assert!(EnvFilter::try_new(directives(level)).is_ok(), "{level:?}");
        }
    }
}
