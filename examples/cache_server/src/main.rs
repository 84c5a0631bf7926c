//! A cache that speaks Redis' protocol and whose idle values sleep compressed.

#![allow(dead_code)]

mod command;
mod footprint;
mod keyspace;
mod net;
mod reply;
mod request;
mod server;
mod session;

use crate::keyspace::Keyspace;
use crate::net::{Listeners, Workers};
use crate::server::{Server, Settings};
use mio::{Events, Poll, Token, Waker};
use std::sync::Arc;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).map(std::path::PathBuf::from);
    let arena = thermocline::Arena::builder().or_plain_memory().build().unwrap();
    let keyspace = Keyspace::new(arena, keyspace::Options::default());
    let server = Arc::new(Server::new(keyspace, Settings::default(), 1));
    let mut listeners =
        Listeners::bind(&["127.0.0.1:0".parse().unwrap()], path.as_deref()).unwrap();
    let mut poll = Poll::new()?;
    listeners.register(poll.registry())?;
    server.stop.wakes(Waker::new(poll.registry(), Token(usize::MAX))?);
    let workers = Workers::start(&server)?;
    let mut events = Events::with_capacity(16);
    let mut soon = false;
    while !server.stop.is_asked() {
        let patience = Duration::from_millis(if soon { 10 } else { 100 });
        poll.poll(&mut events, Some(patience))?;
        soon = listeners.accept(&server);
        server.keyspace.tend(server::unix_ms());
    }
    workers.stop(&server)
}
