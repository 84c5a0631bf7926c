//! Metrics for Prometheus, over HTTP.

use crate::figures::{self, Memory, REFAULT_BOUNDS_US};
use crate::process;
use crate::server::Server;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use thermocline::FigureKind;
use tiny_http::{Header, Method, Request, Response};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics` from a thread of its own until the process ends. Returns the address.
pub fn serve(address: SocketAddr, server: Arc<Server>) -> Result<String, String> {
    let http = tiny_http::Server::http(address)
        .map_err(|error| format!("cannot serve metrics on {address}: {error}"))?;
    let address = http.server_addr().to_string();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(server)));
    let thread = thread::Builder::new().name("metrics".into()).spawn(move || {
        for request in http.incoming_requests() {
            // A client that has disconnected gets no answer.
            let _ = answer(request, &registry);
        }
    });
    thread.map_err(|error| format!("cannot start a thread for metrics: {error}"))?;
    Ok(address)
}

fn answer(request: Request, registry: &Registry) -> std::io::Result<()> {
    let path = request.url().split('?').next();
    if path != Some("/metrics") || !matches!(request.method(), Method::Get | Method::Head) {
        return request.respond(Response::from_string("see /metrics\n").with_status_code(404));
    }
    let mut body = String::new();
    if text::encode(&mut body, registry).is_err() {
        return request.respond(Response::empty(500));
    }
    let header = Header::from_bytes("Content-Type", CONTENT_TYPE).expect("a valid header");
    request.respond(Response::from_string(body).with_header(header))
}

/// Collects all figures at each request.
#[derive(Debug)]
struct Figures(Arc<Server>);

impl Collector for Figures {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let server = &self.0;
        let totals = server.totals_since_start();
        let events = figures::events(server);
        let memory = Memory::of(server);
        let stats = &memory.stats;

        for (name, help, value) in [
            ("connections", "Accepted connections", totals.connections),
            (
                "rejected_connections",
                "Connections refused because of maxclients",
                totals.rejected_connections,
            ),
            ("evicted_clients", "Clients closed because of their memory", totals.evicted_clients),
            ("commands", "Executed commands", totals.commands),
            ("errors", "Requests answered with an error", totals.errors),
            ("memory_waits", "Commands that waited for memory", totals.waits),
            (
                "memory_wait_microseconds",
                "Time that commands waited for memory",
                totals.wait_nanos / 1000,
            ),
            ("received_bytes", "Bytes read from clients", totals.bytes_in),
            ("sent_bytes", "Bytes sent to clients", totals.bytes_out),
            ("keyspace_hits", "Reads of existing keys", events.hits),
            ("keyspace_misses", "Reads of missing keys", events.misses),
            ("expired_keys", "Keys removed after their expiry", events.expired),
            ("evicted_keys", "Keys removed because memory was full", events.evicted),
            ("values_promoted", "Values that moved to the hot lane", events.promoted),
            ("values_demoted", "Values that moved from the hot lane", events.demoted),
            ("values_lost", "Values whose stored copy was damaged", events.lost),
        ] {
            counter(&mut to, name, help, value)?;
        }
        let settings = &server.settings;
        for (name, help, value) in [
            ("connected_clients", "Connected clients", server.clients.count() as f64),
            ("client_bytes", "Bytes of all clients", server.clients.used_bytes() as f64),
            ("keys", "Number of keys", server.keyspace.len() as f64),
            ("used_bytes", "Bytes of keys and values", figures::used_bytes(server) as f64),
            (
                "index_bytes",
                "Bytes that the index takes outside the arena",
                server.keyspace.index_bytes() as f64,
            ),
            (
                "process_resident_bytes",
                "Bytes of the process in memory",
                process::resident_bytes() as f64,
            ),
            ("saved_bytes", "Stored bytes less store bytes", stats.saved_bytes() as f64),
            ("compression_ratio", "Stored bytes divided by store bytes", memory.ratio()),
            ("large_bytes", "Bytes of values too large for a lane", memory.large_bytes as f64),
            (
                "memory_limit_bytes",
                "The memory limit, or 0",
                settings.memory_limit.load(Relaxed) as f64,
            ),
            (
                "swapping",
                "1 if the arena evicts pages, else 0",
                f64::from(memory.tracker() != "none"),
            ),
        ] {
            gauge(&mut to, name, help, value)?;
        }
        for figure in stats.figures() {
            let (name, help) =
                (format!("arena_{}", figure.name), figure.help.trim_end_matches('.'));
            match figure.kind {
                FigureKind::Counter => counter(&mut to, &name, help, figure.value)?,
                _ => gauge(&mut to, &name, help, figure.value as f64)?,
            }
        }
        info(&mut to, &memory)?;
        lanes(&mut to, &memory)?;
        refault_times(&mut to, &memory)
    }
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    let name = format!("cache_{name}");
    metric.encode(to.encode_descriptor(&name, help, None, metric.metric_type())?)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    let name = format!("cache_{name}");
    metric.encode(to.encode_descriptor(&name, help, None, metric.metric_type())?)
}

fn info(to: &mut DescriptorEncoder<'_>, memory: &Memory) -> fmt::Result {
    let labels = [("tracker", memory.tracker()), ("fault_mode", memory.fault_mode.clone())];
    let metric = prometheus_client::metrics::info::Info::new(labels);
    let help = "The arena's tracker and fault mode";
    metric.encode(to.encode_descriptor("cache_arena", help, None, metric.metric_type())?)
}

fn lanes(to: &mut DescriptorEncoder<'_>, memory: &Memory) -> fmt::Result {
    let metric = ConstGauge::new(0.0);
    let help = "Bytes of small values by lane";
    let mut family = to.encode_descriptor("cache_lane_bytes", help, None, metric.metric_type())?;
    for (lane, bytes) in memory.lanes {
        let labels = [("lane", lane)];
        ConstGauge::new(bytes as f64).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn refault_times(to: &mut DescriptorEncoder<'_>, memory: &Memory) -> fmt::Result {
    let times = &memory.stats.refault_time;
    let within = figures::refaults_within(times);
    // Each value counts as its bucket's upper bound.
    let sum: f64 = times.buckets().map(|(ceiling, n)| ceiling.as_secs_f64() * n as f64).sum();
    let mut below = 0;
    let counts = within.map(|count| count - std::mem::replace(&mut below, count));
    let bounds = REFAULT_BOUNDS_US.map(|us| us as f64 / 1e6);
    let mut buckets: Vec<(f64, u64)> = bounds.into_iter().zip(counts).collect();
    buckets.push((f64::INFINITY, times.count() - below));
    let help = "Time to restore a page";
    let kind = prometheus_client::metrics::MetricType::Histogram;
    let mut encoder = to.encode_descriptor("cache_refault", help, Some(&Unit::Seconds), kind)?;
    encoder.encode_histogram::<[(&str, &str); 0]>(sum, times.count(), &buckets, None)
}
