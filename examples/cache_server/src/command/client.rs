//! Commands about clients.

use super::help::help;
use super::row::{ADMIN, ANYTIME, Command, NO_KEY};
use super::table::table;
use super::{Call, kill};
use crate::request::number;
use crate::server::Server;
use crate::session::{Client, Replies};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::new("client", -2, &[], NO_KEY, "Commands about clients", never_executed),
    Command::new("client|getname", 2, ANYTIME, NO_KEY, "The name of this client", getname),
    Command::new("client|help", 2, &["loading", "stale"], NO_KEY, "Help on commands about clients", client_help),
    Command::new("client|id", 2, ANYTIME, NO_KEY, "The number of this client", id),
    Command::new("client|info", 2, ANYTIME, NO_KEY, "Describes this client", info),
    Command::new("client|kill", -3, ADMIN, NO_KEY, "Closes connections", kill::kill),
    Command::new("client|list", -2, ADMIN, NO_KEY, "Describes each client", list),
    Command::new("client|no-evict", 3, ADMIN, NO_KEY, "Has no effect: clients are never evicted", no_evict),
    Command::new("client|no-touch", 3, ANYTIME, NO_KEY, "Has no effect: every access counts", no_touch),
    Command::new("client|reply", 3, ANYTIME, NO_KEY, "Switches this client's replies on or off", reply),
    Command::new("client|setinfo", 4, ANYTIME, NO_KEY, "Names this client's library", setinfo),
    Command::new("client|setname", 3, ANYTIME, NO_KEY, "Names this client", setname),
];

pub const BAD_NAME: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";

const SYNTAX: &str = "ERR syntax error";

/// The handler of containers, which are never executed: they have too few arguments.
pub fn never_executed(call: &mut Call<'_>) {
    call.reply.error(SYNTAX);
}

/// Whether a name is allowed in a list of clients.
pub fn is_name(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

fn id(call: &mut Call<'_>) {
    call.reply.integer(call.session.client.id.cast_signed());
}

fn getname(call: &mut Call<'_>) {
    let names = call.session.client.names.lock();
    match names.name.as_slice() {
        [] => call.reply.null(),
        name => call.reply.bulk(name),
    }
}

fn setname(call: &mut Call<'_>) {
    if is_name(call.args[2]) {
        call.session.client.names.lock().name = call.args[2].to_vec();
        call.reply.ok();
    } else {
        call.reply.error(BAD_NAME);
    }
}

fn setinfo(call: &mut Call<'_>) {
    let (option, value) = (call.args[2].to_ascii_lowercase(), call.args[3]);
    let mut names = call.session.client.names.lock();
    let field = match option.as_slice() {
        b"lib-name" => &mut names.library,
        b"lib-ver" => &mut names.library_version,
        _ => return call.reply.error_quoting("ERR Unrecognized option '", call.args[2], "'"),
    };
    if is_name(value) {
        *field = value.to_vec();
        call.reply.ok();
    } else {
        let rest = " cannot contain spaces, newlines or special characters.";
        call.reply.error_quoting("ERR ", &option, rest);
    }
}

fn on_or_off(call: &mut Call<'_>) -> Option<bool> {
    match call.args[2].to_ascii_lowercase().as_slice() {
        b"on" => Some(true),
        b"off" => Some(false),
        _ => {
            call.reply.error(SYNTAX);
            None
        }
    }
}

fn no_evict(call: &mut Call<'_>) {
    if let Some(on) = on_or_off(call) {
        call.session.client.no_evict.store(on, Relaxed);
        call.reply.ok();
    }
}

fn no_touch(call: &mut Call<'_>) {
    if let Some(on) = on_or_off(call) {
        call.session.client.no_touch.store(on, Relaxed);
        call.reply.ok();
    }
}

fn reply(call: &mut Call<'_>) {
    let replies = match call.args[2].to_ascii_lowercase().as_slice() {
        b"on" => Replies::On,
        b"off" => Replies::Off,
        b"skip" if call.session.replies == Replies::Off => Replies::Off,
        b"skip" => Replies::SkipNext,
        _ => return call.reply.error(SYNTAX),
    };
    call.session.replies = replies;
    call.reply.ok();
}

fn info(call: &mut Call<'_>) {
    let mut text = String::new();
    describe(call.server, &call.session.client, &mut text);
    call.reply.verbatim(*b"txt", text.as_bytes());
}

fn list(call: &mut Call<'_>) {
    let option = call.args.get(2).map(|option| option.to_ascii_lowercase());
    let mut ids = None;
    match (option.as_deref(), &call.args[2..]) {
        (None, _) => {}
        (Some(b"type"), [_, kind]) => match kill::is_normal(kind) {
            Some(true) => {}
            Some(false) => ids = Some(Vec::new()),
            None => return call.reply.error_quoting("ERR Unknown client type '", kind, "'"),
        },
        (Some(b"id"), [_, wanted @ ..]) if !wanted.is_empty() => {
            let numbers = wanted.iter().map(|id| number(id));
            match numbers.collect::<Option<Vec<i64>>>() {
                Some(numbers) => ids = Some(numbers),
                None => return call.reply.error("ERR Invalid client ID"),
            }
        }
        _ => return call.reply.error(SYNTAX),
    }
    // The oldest client is first, so the numbers are in order.
    let all = call.server.clients.list();
    let find = |id: &i64| {
        let place = all.binary_search_by_key(id, |client| client.id.cast_signed()).ok()?;
        Some(&all[place])
    };
    let wanted: Vec<&Arc<Client>> = match &ids {
        Some(ids) => ids.iter().filter_map(find).collect(),
        None => all.iter().collect(),
    };
    let mut text = String::new();
    wanted.into_iter().for_each(|client| describe(call.server, client, &mut text));
    call.reply.verbatim(*b"txt", text.as_bytes());
}

/// Writes a line of `CLIENT LIST`. Features that this server lacks have the values of an unused Redis.
fn describe(server: &Server, client: &Client, out: &mut String) {
    let now = server.seconds();
    let names = client.names.lock().clone();
    let [name, library, version] =
        [&names.name, &names.library, &names.library_version].map(|n| String::from_utf8_lossy(n));
    let (input, free) = (client.input.load(Relaxed), client.input_free.load(Relaxed));
    let output = client.output.load(Relaxed);
    let last = client.last_command().and_then(|i| table().all().find(|e| e.index == i));
    let mut flags = String::new();
    let is_unix = client.address.ends_with(":0");
    let queued = client.queued.load(Relaxed);
    for (flag, set) in [
        ('x', queued >= 0),
        ('U', is_unix),
        ('e', client.no_evict.load(Relaxed)),
        ('T', client.no_touch.load(Relaxed)),
    ] {
        flags.extend(set.then_some(flag));
    }
    let _ = writeln!(
        out,
        "id={} addr={} laddr={} fd={} name={name} age={} idle={} flags={} db=0 sub=0 psub=0 ssub=0 \
         multi={queued} qbuf={input} qbuf-free={free} argv-mem=0 multi-mem={} rbs={output} rbp={output} \
         obl={output} oll=0 omem=0 tot-mem={} events={} cmd={} user=default redir=-1 resp={} \
         lib-name={library} lib-ver={version}",
        client.id,
        client.address,
        client.local_address,
        client.descriptor,
        now.saturating_sub(client.connected_at),
        now.saturating_sub(client.active_at.load(Relaxed)),
        if flags.is_empty() { "N" } else { &flags },
        client.queued_bytes.load(Relaxed),
        client.memory.load(Relaxed),
        if output > 0 { "rw" } else { "r" },
        last.map_or("NULL", |entry| entry.full_name()),
        if client.resp3.load(Relaxed) { 3 } else { 2 },
    );
}

fn client_help(call: &mut Call<'_>) {
    help(
        call,
        "GETNAME
    The name of this connection.
ID
    The number of this connection.
INFO
    What is known about this connection.
KILL <ip:port>
    Close the connection from <ip:port>.
KILL <option> <value> [<option> <value> [...]]
    Close connections. Options are:
    * ADDR (<ip:port>|<unixsocket>:0), LADDR (the same)
      From this address, or to this one.
    * ID <client-id>, TYPE (NORMAL|MASTER|REPLICA|PUBSUB), USER <username>
      With this number, of this type, of this user.
    * MAXAGE <seconds>
      Connected for at least this time.
    * SKIPME (YES|NO)
      Leave out this connection (default: yes).
LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <id> [<id> [...]]]
    What is known about each connection.
NO-EVICT (ON|OFF)
    Whether this connection stays open whatever memory it takes.
NO-TOUCH (ON|OFF)
    Accepted, without effect.
REPLY (ON|OFF|SKIP)
    Whether this connection gets replies.
SETINFO (LIB-NAME|LIB-VER) <value>
    Names the library that is used.
SETNAME <name>
    Names this connection.",
    );
}
