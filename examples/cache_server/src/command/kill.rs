//! `CLIENT KILL`.

use super::Call;
use crate::request::number;
use crate::session::Client;

const SYNTAX: &str = "ERR syntax error";

/// The clients to close. Criteria that are not given match all.
#[derive(Debug, Default)]
struct Filter<'a> {
    id: Option<u64>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    /// Connected for at least this number of seconds.
    age: Option<u64>,
    /// The filter names a type that no client has.
    matches_none: bool,
    with_me: bool,
}

impl Filter<'_> {
    fn matches(&self, client: &Client, now: u64) -> bool {
        let is = |wanted: Option<&[u8]>, address: &str| {
            wanted.is_none_or(|wanted| wanted == address.as_bytes())
        };
        !self.matches_none
            && self.id.is_none_or(|id| id == client.id)
            && is(self.address, &client.address)
            && is(self.local_address, &client.local_address)
            && self.age.is_none_or(|age| now.saturating_sub(client.connected_at) >= age)
    }
}

/// Whether a type is `normal`, the type of all clients; `None` if there is no such type.
pub fn is_normal(kind: &[u8]) -> Option<bool> {
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Some(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Some(false),
        _ => None,
    }
}

pub fn kill(call: &mut Call<'_>) {
    if let [_, _, address] = call.args {
        let filter = Filter { address: Some(address), with_me: true, ..Filter::default() };
        match apply(call, &filter) {
            0 => call.reply.error("ERR No such client"),
            _ => call.reply.ok(),
        }
    } else if let Some(filter) = filter(call) {
        let killed = apply(call, &filter);
        call.reply.integer(killed.try_into().unwrap_or(i64::MAX));
    }
}

/// `None` after an error reply.
fn filter<'a>(call: &mut Call<'a>) -> Option<Filter<'a>> {
    let mut filter = Filter::default();
    let mut options = &call.args[2..];
    while let [option, rest @ ..] = options {
        let [value, rest @ ..] = rest else {
            call.reply.error(SYNTAX);
            return None;
        };
        options = rest;
        let value = *value;
        match option.to_ascii_lowercase().as_slice() {
            b"id" => match number(value).and_then(|id| u64::try_from(id).ok()) {
                Some(id @ 1..) => filter.id = Some(id),
                _ => {
                    call.reply.error("ERR client-id should be greater than 0");
                    return None;
                }
            },
            b"type" => match is_normal(value) {
                Some(normal) => filter.matches_none |= !normal,
                None => {
                    call.reply.error_quoting("ERR Unknown client type '", value, "'");
                    return None;
                }
            },
            b"maxage" => match number(value) {
                Some(age @ 1..) => filter.age = Some(age.unsigned_abs()),
                Some(_) => {
                    call.reply.error("ERR maxage should be greater than 0");
                    return None;
                }
                None => {
                    call.reply.error("ERR maxage is not an integer or out of range");
                    return None;
                }
            },
            b"user" if value != b"default" => {
                call.reply.error_quoting("ERR No such user '", value, "'");
                return None;
            }
            b"user" => {}
            b"addr" => filter.address = Some(value),
            b"laddr" => filter.local_address = Some(value),
            b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.with_me = false,
            b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.with_me = true,
            _ => {
                call.reply.error(SYNTAX);
                return None;
            }
        }
    }
    Some(filter)
}

/// Closes the clients and returns their number. The calling client is closed after this reply.
fn apply(call: &mut Call<'_>, filter: &Filter<'_>) -> usize {
    let (me, now) = (call.session.client.id, call.server.seconds());
    let is_other = |client: &Client| client.id != me && filter.matches(client, now);
    let others = call.server.clients.kill(is_other);
    let kill_me = filter.with_me && filter.matches(&call.session.client, now);
    call.session.close |= kill_me;
    others + usize::from(kill_me)
}
