//! A cache that speaks Redis' protocol and keeps idle values compressed.
//!
//! ```text
//! cargo run --release -p cache_server
//! cargo run --release -p cache_server -- --memory-limit 2gb --unixsocket /run/cache.sock
//! ```

mod command;
mod figures;
mod footprint;
mod keyspace;
mod metrics;
mod net;
mod options;
mod process;
mod rates;
mod reply;
mod request;
mod server;
mod session;
mod signals;
mod size;
mod start;

use crate::options::Options;
use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    abort_on_panic();
    match start::run(&options, &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A failure of standard error cannot be reported.
            let _ = writeln!(io::stderr(), "cache_server: {error}");
            ExitCode::from(1)
        }
    }
}

/// A thread that panics may hold locks and leave the data under them inconsistent. Other threads would
/// wait for ever or read that data. So the process aborts, after the panic's message.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
