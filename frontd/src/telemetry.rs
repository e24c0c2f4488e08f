//! Traces for a collector: the spans of requests and runs, by OTLP over plain HTTP (protobuf).
//! Their attributes are ids, routes, names and words of ours: never anybody's text.
//!
//! A thread of the SDK's sends them in batches; nothing that serves clients waits for it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tracing::Subscriber;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::logging::SPANS;

/// The standard's own variables for where to send: without either nothing is sent.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const SERVICE: &str = "OTEL_SERVICE_NAME";
/// Of one export, from the connection to the whole answer.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer: it says at most what was wrong.
const ANSWER: usize = 64 * 1024;

/// Sends what is left when it is told to end.
pub struct Telemetry(SdkTracerProvider);

impl Telemetry {
    /// Blocks until the collector has what is left, or its patience is over.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// The layer that exports, if the environment names a collector.
pub fn of_environment<S>() -> Option<(Box<dyn Layer<S> + Send + Sync>, Telemetry)>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    ENDPOINTS.iter().find(|name| is_set(name))?;
    match to(None) {
        Ok(layer) => Some(layer),
        Err(error) => {
            // The log is not there yet.
            eprintln!("frontd: traces are not exported: {error}");
            None
        }
    }
}

/// Likewise, for this collector instead of the environment's.
///
/// # Errors
/// When the exporter cannot be built.
pub fn to<S>(
    endpoint: Option<&str>,
) -> Result<(Box<dyn Layer<S> + Send + Sync>, Telemetry), ExporterBuildError>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let client =
        Client::new().map_err(|error| ExporterBuildError::InternalFailure(error.to_string()))?;
    let mut exporter = SpanExporter::builder().with_http().with_http_client(client);
    if let Some(endpoint) = endpoint {
        exporter = exporter.with_endpoint(endpoint);
    }
    let mut resource = Resource::builder();
    if std::env::var_os(SERVICE).is_none() {
        resource = resource.with_service_name("synthesis-frontd");
    }
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.build())
        .with_batch_exporter(exporter.build()?)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("frontd"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        // Events are for the log: they quote what others said.
        .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == SPANS));
    Ok((Box::new(layer), Telemetry(provider)))
}

/// One request at a time, on the SDK's thread, with a runtime of its own: frontd's serves clients.
#[derive(Debug)]
struct Client(Runtime);

impl Client {
    fn new() -> std::io::Result<Self> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(Self)
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The thread is the SDK's and has nothing else to do.
        self.0.block_on(async { tokio::time::timeout(WITHIN, send(request)).await? })
    }
}

async fn send(mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let uri = request.uri().clone();
    let host = uri.host().ok_or("the collector's address has no host")?;
    if uri.scheme_str() != Some("http") {
        return Err("only http:// is spoken: put a collector on this machine".into());
    }
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    request.headers_mut().insert(http::header::HOST, authority.parse()?);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::try_from(path)?;
    let asking = async {
        let response = sender.send_request(request.map(Full::new)).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER).collect().await?.to_bytes();
        Ok::<_, HttpError>(Response::from_parts(head, body))
    };
    tokio::pin!(connection);
    tokio::select! {
        response = asking => response,
        // It may end before the answer was read to its end; then so be it.
        ended = &mut connection => {
            ended?;
            Err("the collector closed the connection".into())
        }
    }
}
