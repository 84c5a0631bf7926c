//! Starts the server from its options, and runs it until a signal stops it.

use crate::figures::{self, Memory};
use crate::keyspace::Keyspace;
use crate::net::{Listeners, Workers};
use crate::options::{Options, Port};
use crate::rates::Counters;
use crate::server::{Server, Settings, unix_ms};
use crate::{metrics, process, signals, size};
use mio::{Events, Interest, Poll, Token, Waker};
use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{BuildError, Swapping};

/// The interval of the keyspace's maintenance.
const TICK: Duration = Duration::from_millis(100);

/// The time to the next attempt to accept waiting connections.
const RETRY_ACCEPT: Duration = Duration::from_millis(10);

const SIGNALS: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);

/// Any error, with a message for the user.
type BoxError = Box<dyn Error + Send + Sync>;

/// Serves until the server is stopped.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<(), BoxError> {
    let threads = options
        .threads
        .map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    let settings = settings(options, threads, out)?;
    let arena = options.arena().build().map_err(explain_build_error)?;
    let keyspace = Keyspace::new(arena, options.keyspace());
    let server = Arc::new(Server::new(keyspace, settings, threads));
    figures::settings_changed(&server);

    let mut poll = Poll::new()?;
    let mut signals = signals::on_stop()?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
    server.stop.set_waker(Waker::new(poll.registry(), STOP)?);
    let mut listeners = Listeners::bind(&options.addresses(), options.unixsocket.as_deref())?;
    if listeners.addresses().is_empty() {
        return Err("nowhere to listen: give a --port or a --unixsocket".into());
    }
    listeners.register(poll.registry())?;
    let metrics = options.metrics.map(|address| metrics::serve(address, Arc::clone(&server)));
    let workers = Workers::start(&server)?;
    print_readiness(out, options, &server, &listeners, metrics.transpose()?)?;

    let mut events = Events::with_capacity(64);
    let mut last_tick = Instant::now();
    let mut more_waiting = false;
    while !server.stop.is_requested() {
        let timeout =
            if more_waiting { RETRY_ACCEPT } else { TICK.saturating_sub(last_tick.elapsed()) };
        match poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        signals::forward_to(&signals, &server.stop);
        more_waiting = listeners.accept(&server);
        if last_tick.elapsed() >= TICK {
            last_tick = Instant::now();
            tick(&server);
        }
    }
    // Before the last replies are sent, no client can connect and the socket's file is removed.
    drop(listeners);
    workers.stop(&server)?;
    print_summary(out, &server)
}

fn tick(server: &Server) {
    server.keyspace.tend(unix_ms());
    server.clients.tend(server.started.elapsed());
    server.rates.sample(Instant::now(), || {
        let stats = figures::arena(server).stats();
        Counters {
            refaults: stats.refaults as f64,
            pages: (stats.refaults + stats.readahead_pages + stats.prefetched_pages) as f64,
            commands: server.totals_since_start().commands as f64,
        }
    });
}

fn settings(options: &Options, threads: usize, out: &mut dyn Write) -> io::Result<Settings> {
    let asked = usize::try_from(options.maxclients).unwrap_or(usize::MAX);
    let maxclients = process::allow_clients(asked);
    if maxclients < asked {
        writeln!(
            out,
            "warning: the limit of open files leaves room for {maxclients} clients, not {asked}; \
             raise it (ulimit -n) for more"
        )?;
    }
    let port = match options.port {
        Port::At(port) => port,
        Port::Off | Port::Any => 0,
    };
    let bind: Vec<String> = options.bind.iter().map(ToString::to_string).collect();
    let path = options.unixsocket.as_deref().map(|path| path.display().to_string());
    let mut settings = Settings::default();
    settings.maxmemory = options.maxmemory.into();
    settings.maxclients = maxclients.into();
    settings.timeout = u64::from(options.timeout).into();
    settings.memory_limit = options.memory_limit.unwrap_or(0).into();
    settings.set_cold_after(options.cold_after);
    settings.debug_command = options.enable_debug_command;
    settings.fixed = vec![
        ("port", port.to_string()),
        ("bind", bind.join(" ")),
        ("unixsocket", path.unwrap_or_default()),
        ("io-threads", threads.to_string()),
        ("databases", "1".into()),
        ("threads", threads.to_string()),
        ("metrics", options.metrics.map(|address| address.to_string()).unwrap_or_default()),
        ("enable-debug-command", (if options.enable_debug_command { "yes" } else { "no" }).into()),
    ];
    settings.set_client_share(options.maxmemory_clients);
    settings.set_policy(options.maxmemory_policy);
    settings.set_password(options.requirepass.as_deref().unwrap_or_default().as_bytes());
    Ok(settings)
}

fn explain_build_error(error: BuildError) -> BoxError {
    match error {
        BuildError::NoUserfaultfd { .. } | BuildError::TrackerUnavailable { .. } => {
            format!("{error}. Or give --or-plain-memory to run without compression").into()
        }
        BuildError::AddressSpace { .. } => {
            format!("{error}. The server's option for the reserve is --reserve").into()
        }
        error => error.into(),
    }
}

/// Prints the line that reports readiness, the addresses and the compression.
fn print_readiness(
    out: &mut dyn Write,
    options: &Options,
    server: &Server,
    listeners: &Listeners,
    metrics: Option<String>,
) -> io::Result<()> {
    let memory = Memory::of(server);
    if options.allows_other_hosts() && !server.settings.has_password() {
        writeln!(out, "warning: other hosts can connect, and there is no password")?;
    }
    let how = match &memory.swapping {
        Swapping::On(tracker) => format!(
            "values idle for {} are compressed (tracker {tracker}, faults {})",
            humantime::format_duration(options.cold_after),
            memory.fault_mode,
        ),
        Swapping::Off(reason) => format!("nothing is compressed: {reason}"),
        _ => "nothing is compressed".into(),
    };
    let addresses = listeners.addresses().join(", ");
    let threads = server.workers.len();
    let s = if threads == 1 { "" } else { "s" };
    write!(out, "listening on {addresses}; {threads} thread{s}; {how}")?;
    if let Some(metrics) = metrics {
        write!(out, "; metrics on http://{metrics}/metrics")?;
    }
    writeln!(out)?;
    out.flush()
}

fn print_summary(out: &mut dyn Write, server: &Server) -> Result<(), BoxError> {
    let totals = server.totals_since_start();
    let saved = figures::arena(server).stats().saved_bytes();
    writeln!(
        out,
        "stopped after {} commands from {} connections; {} of memory were saved at the end",
        totals.commands,
        totals.connections,
        size::human(saved),
    )?;
    Ok(out.flush()?)
}
