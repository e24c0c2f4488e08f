//! Where log entries go: the journal when systemd started us, else stderr. Called once by `main`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What the spans of requests and runs are known by. Nothing but bounded words is in them.
pub const SPANS: &str = "synthesis";

/// The filter's variable; its value as tracing-subscriber's `EnvFilter` reads it.
const FILTER: &str = "SYNTHESIS_LOG";

/// What must be ended before the process is.
#[must_use]
pub struct Logging {
    #[cfg(feature = "otel")]
    telemetry: Option<crate::telemetry::Telemetry>,
}

impl Logging {
    pub fn end(self) {
        #[cfg(feature = "otel")]
        if let Some(telemetry) = self.telemetry {
            telemetry.end();
        }
    }
}

pub fn init() -> Logging {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    #[cfg(feature = "otel")]
    let (filter, layer, telemetry) = match crate::telemetry::of_environment() {
        // Whatever else is logged, spans are to be seen.
        Some((layer, telemetry)) => (
            filter.add_directive(format!("{SPANS}=info").parse().expect("a directive")),
            Some(layer),
            Some(telemetry),
        ),
        None => (filter, None, None),
    };
    let registry = tracing_subscriber::registry().with(filter);
    #[cfg(feature = "otel")]
    let registry = registry.with(layer);
    let journal = std::env::var_os("JOURNAL_STREAM")
        .and_then(|_| tracing_journald::layer().ok())
        .map(|layer| layer.with_field_prefix(None).with_syslog_identifier("frontd".to_owned()));
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => {
            let stderr = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal());
            registry.with(stderr).init();
        }
    }
    Logging {
        #[cfg(feature = "otel")]
        telemetry,
    }
}
