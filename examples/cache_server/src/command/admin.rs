//! Commands about the whole server.

use super::Call;
use super::row::{ADMIN, ANYTIME, Command, LOADING_FAST, NO_KEY, WRITE};
use std::thread;
use std::time::Duration;

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::new("dbsize", 1, &["readonly", "fast"], NO_KEY, "Counts the keys", dbsize),
    Command::new("debug", -2, ADMIN, NO_KEY, "Blocks the connection's worker thread, for tests", debug),
    Command::new("flushall", -1, WRITE, NO_KEY, "Removes all keys", flush),
    Command::new("flushdb", -1, WRITE, NO_KEY, "Removes all keys", flush),
    Command::new("shutdown", -1, &["admin", "noscript", "loading", "stale", "no_multi", "allow_busy"], NO_KEY, "Stops the server", shutdown),
    Command::new("time", 1, LOADING_FAST, NO_KEY, "Returns the time", time),
    Command::new("lolwut", -1, ANYTIME, NO_KEY, "Describes this server", lolwut),
];

fn dbsize(call: &mut Call<'_>) {
    call.reply.integer(call.server.keyspace.len().try_into().unwrap_or(i64::MAX));
}

/// `ASYNC` and `SYNC` have no effect.
fn flush(call: &mut Call<'_>) {
    let how = call.args.get(1).map(|how| how.to_ascii_lowercase());
    match (call.args.len(), how.as_deref()) {
        (1, _) | (2, Some(b"async" | b"sync")) => {
            call.server.keyspace.clear();
            call.reply.ok();
        }
        _ => call.reply.error("ERR syntax error"),
    }
}

fn time(call: &mut Call<'_>) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    call.reply.array(2);
    call.reply.bulk(now.as_secs().to_string().as_bytes());
    call.reply.bulk(now.subsec_micros().to_string().as_bytes());
}

/// Also sent to clients without the password, and before a transaction queues the command.
pub const DEBUG_IS_OFF: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is \
    set to \"local\", you can run it from a local connection, otherwise you need to set this option \
    in the configuration file, and then restart the server.";

fn debug(call: &mut Call<'_>) {
    match (call.args[1].to_ascii_lowercase().as_slice(), call.args) {
        (b"sleep", [_, _, seconds]) => {
            let seconds = str::from_utf8(seconds).ok().and_then(|s| s.parse::<f64>().ok());
            let time = seconds.map(|s| s.max(0.0)).map(Duration::try_from_secs_f64);
            match time {
                Some(Ok(time)) => {
                    thread::sleep(time);
                    call.reply.ok();
                }
                _ => call.reply.error("ERR value is not a valid float"),
            }
        }
        _ => call.reply.error_quoting(
            "ERR unknown subcommand or wrong number of arguments for '",
            call.args[1],
            "'. Try DEBUG HELP.",
        ),
    }
}

/// Saves nothing and sends no reply: the connection ends.
fn shutdown(call: &mut Call<'_>) {
    let mut options: Vec<_> = call.args[1..].iter().map(|arg| arg.to_ascii_lowercase()).collect();
    options.sort();
    let options: Vec<&[u8]> = options.iter().map(Vec::as_slice).collect();
    match options.as_slice() {
        [b"abort"] => call.reply.error("ERR No shutdown in progress."),
        [b"save"] => call.reply.error("ERR Errors trying to SHUTDOWN. Check logs."),
        [] | [b"nosave"] | [b"now"] | [b"force"] | [b"force", b"now"] => stop(call),
        [b"force", b"nosave"] | [b"nosave", b"now"] | [b"force", b"nosave", b"now"] => stop(call),
        _ => call.reply.error("ERR syntax error"),
    }
}

fn stop(call: &mut Call<'_>) {
    call.session.close = true;
    call.server.stop.request();
}

fn lolwut(call: &mut Call<'_>) {
    call.reply.verbatim(*b"txt", b"A cache that keeps idle values compressed.\n");
}
