//! The command line.

use crate::keyspace::{self, Policy};
use crate::server::Share;
use crate::size;
use clap::{Parser, ValueEnum};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use thermocline::{Builder, FaultMode};

/// A cache that speaks Redis' protocol and keeps idle values compressed.
///
/// Any Redis client works with it. The server compresses idle values in the background and
/// restores them when a client uses them; INFO thermocline and MEMORY DOCTOR report the memory saved.
#[derive(Debug, Parser)]
#[command(version = VERSION, after_help = AFTER_HELP, max_term_width = 100, args_override_self = true)]
pub struct Options {
    /// TCP port; 0 for none, `any` for one that is free
    #[arg(long, value_name = "PORT", default_value = "6379")]
    pub port: Port,
    /// Addresses to listen on, with commas between them
    ///
    /// Every host that can reach them can read and change all data, unless there is a password.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "127.0.0.1")]
    pub bind: Vec<IpAddr>,
    /// Path of a Unix socket to listen on as well
    #[arg(long, value_name = "PATH")]
    pub unixsocket: Option<PathBuf>,
    /// Threads that serve connections [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Bytes that keys and values may take before compression; 0 for no limit
    #[arg(long, value_name = "SIZE", value_parser = size::option, default_value = "0")]
    pub maxmemory: u64,
    /// Which keys the server removes at that limit
    #[arg(long, value_name = "POLICY", value_enum, default_value_t)]
    pub maxmemory_policy: Policy,
    /// Bytes of memory that the process may take, compressed values included [default: no limit]
    ///
    /// Above it, the server compresses the values that have been idle longest, even if not for long. If
    /// that is not enough, it removes keys by the maxmemory policy, or refuses commands that need memory.
    #[arg(long, value_name = "SIZE", value_parser = memory_limit)]
    pub memory_limit: Option<u64>,
    /// Bytes that all clients may take together, or a percentage of the memory limit; 0 for no limit
    ///
    /// Counts unfinished requests, unread replies and buffers. Above it, large requests wait; if that does
    /// not help, the server closes the largest clients.
    #[arg(long, value_name = "SHARE", default_value = "25%")]
    pub maxmemory_clients: Share,
    /// Bytes of address space for values: the most that they may take before compression, compressed
    /// ones included [default: 64gb, or less if the system does not grant that much]
    #[arg(long, value_name = "SIZE", value_parser = reserve)]
    pub reserve: Option<usize>,
    /// How long a value is idle before it is compressed
    #[arg(long, value_name = "DURATION", value_parser = size::duration, default_value = "60s")]
    pub cold_after: Duration,
    /// The password that clients must send
    #[arg(long, value_name = "PASSWORD")]
    pub requirepass: Option<String>,
    /// The most clients connected at a time
    #[arg(long, value_name = "N", default_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub maxclients: u32,
    /// Seconds after which idle clients are closed; 0 for never
    #[arg(long, value_name = "SECONDS", default_value = "0",
        value_parser = clap::value_parser!(u32).range(..=0x7fff_ffff))]
    pub timeout: u32,
    /// Address for /metrics for Prometheus, such as 127.0.0.1:9121 [default: none]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Which threads restore compressed values
    #[arg(long, value_name = "MODE", value_enum, default_value = "inline")]
    pub fault_mode: Faults,
    /// How the arena notices touches
    #[arg(long, value_name = "TRACKER", value_enum, default_value = "auto")]
    pub tracker: Tracker,
    /// Run without compression if the system does not support it
    #[arg(long)]
    pub or_plain_memory: bool,
    /// Never move values between lanes (for comparison)
    #[arg(long)]
    pub place_once: bool,
    /// Let clients block their worker thread with DEBUG SLEEP
    #[arg(long)]
    pub enable_debug_command: bool,
}

/// The version of the package, and that of its model.
const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commands and replies as in Redis 7.0.15)");

const AFTER_HELP: &str = "\
Sizes are bytes, or have a unit: k, m, g for thousands, kb, mb, gb for 1024s.
SIGINT and SIGTERM stop the server after it has answered all requests that it has read; a second signal
stops it at once. Exit code: 0, 1 after an error, 2 after an invalid option.";

/// The TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Off,
    Any,
    At(u16),
}

impl FromStr for Port {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("any", _) => Ok(Self::Any),
            (_, Ok(0)) => Ok(Self::Off),
            (_, Ok(port)) => Ok(Self::At(port)),
            _ => Err("give a number from 1 to 65535, 0 for none, or any"),
        }
    }
}

/// [`FaultMode`], as an option.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Faults {
    /// The best mode that the process's privileges allow
    Auto,
    /// The arena's handler threads
    Handler,
    /// The faulting thread
    Inline,
}

/// [`thermocline::Tracker`], as an option.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Tracker {
    /// The best tracker that the kernel supports
    Auto,
    /// Read-write protection, Linux 7.3
    Rwp,
    /// Zapped page tables, Linux 5.19
    Zap,
}

fn memory_limit(text: &str) -> Result<u64, &'static str> {
    match size::option(text)? {
        bytes if bytes < 1 << 20 => Err("has to be at least 1mb"),
        bytes => Ok(bytes),
    }
}

fn reserve(text: &str) -> Result<usize, &'static str> {
    let bytes = usize::try_from(size::option(text)?).unwrap_or(usize::MAX);
    if (2 << 20..=16 << 40).contains(&bytes) {
        Ok(bytes)
    } else {
        Err("has to be from 2mb to 16384gb")
    }
}

impl Options {
    /// The TCP addresses to listen on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let port = match self.port {
            Port::Off => return Vec::new(),
            Port::Any => 0,
            Port::At(port) => port,
        };
        self.bind.iter().map(|&address| SocketAddr::new(address, port)).collect()
    }

    /// Whether another host can connect by TCP.
    pub fn allows_other_hosts(&self) -> bool {
        let loopback =
            |address: &IpAddr| address.is_loopback() || *address == IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.port != Port::Off && !self.bind.iter().all(loopback)
    }

    /// The keyspace's options.
    pub fn keyspace(&self) -> keyspace::Options {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        keyspace::Options {
            maxmemory: (self.maxmemory > 0).then(|| bytes(self.maxmemory)),
            policy: self.maxmemory_policy,
            memory_limit: self.memory_limit.map(bytes),
            cold_after: self.cold_after,
            moves: !self.place_once,
        }
    }

    /// The arena's options. The keyspace sets its limit.
    pub fn arena(&self) -> Builder {
        let mut arena = thermocline::Arena::builder().cold_age(self.cold_after);
        // Ten scans while a value gets cold, and at most one a second.
        let interval = self.cold_after / 10;
        arena = arena
            .scan_interval(interval.clamp(Duration::from_millis(1), Duration::from_secs(1)))
            .fault_mode(match self.fault_mode {
                Faults::Auto => FaultMode::Auto,
                Faults::Handler => FaultMode::Handler,
                Faults::Inline => FaultMode::Inline,
            });
        arena = match self.tracker {
            Tracker::Auto => arena,
            Tracker::Rwp => arena.tracker(thermocline::Tracker::Rwp),
            Tracker::Zap => arena.tracker(thermocline::Tracker::Zap),
        };
        if let Some(bytes) = self.reserve {
            arena = arena.reserve(bytes);
        }
        arena.plain_memory_fallback(self.or_plain_memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::REDIS_VERSION;
    use clap::CommandFactory;

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(["cache_server"].iter().chain(args))
    }

    #[test]
    fn the_options_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn the_version_names_that_of_redis() {
        let text = parse(&["--version"]).unwrap_err().to_string();
        let start = format!("cache_server {} (", env!("CARGO_PKG_VERSION"));
        assert!(text.starts_with(&start) && text.contains(REDIS_VERSION), "{text}");
    }

    #[test]
    fn defaults_listen_on_this_machine_only() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.addresses(), ["127.0.0.1:6379".parse().unwrap()]);
        assert!(!options.allows_other_hosts());
        assert!(parse(&["--bind", "0.0.0.0,::1"]).unwrap().allows_other_hosts());
        assert!(!parse(&["--bind", "0.0.0.0", "--port", "0"]).unwrap().allows_other_hosts());
    }

    #[test]
    fn invalid_options_are_refused_by_name() {
        for args in [
            ["--port", "65536"],
            ["--maxmemory", "1.5g"],
            ["--memory-limit", "4096"],
            ["--reserve", "1mb"],
            ["--maxmemory-clients", "101%"],
            ["--reserve", "16385gb"],
            ["--cold-after", "soon"],
            ["--threads", "0"],
            ["--maxclients", "0"],
            ["--metrics", "9121"],
            ["--bind", "here"],
            ["--maxmemory-policy", "fifo"],
            ["--tracker", "eyes"],
        ] {
            let error = parse(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.contains(args[0]) && text.contains(args[1]), "{text}");
        }
    }
}
