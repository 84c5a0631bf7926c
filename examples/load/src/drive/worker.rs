//! A thread with its connections.

use super::Drive;
use super::address::PATIENCE;
use super::connection::Connection;
use super::judge::Judge;
use super::pace::{Alarm, Pace};
use super::requests::{Plan, Requests};
use super::tally::Tally;
use crate::BoxError;
use crate::options::Length;
use mio::{Events, Poll, Token};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const ALARM: Token = Token(usize::MAX);

/// The interval in which a thread checks whether another one has failed.
const GLANCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Worker<'a> {
    drive: &'a Drive<'a>,
    poll: Poll,
    connections: Vec<Connection>,
    requests: Requests<'a>,
    judge: Judge<'a>,
    alarm: Alarm,
    /// None if a connection sends when it has received its replies.
    pace: Option<Pace>,
    /// Connections in their think time, with its end, in order.
    thinking: VecDeque<(Instant, usize)>,
    /// The next connection to send, with a fixed rate.
    turn: usize,
    /// The number of unanswered requests.
    open: usize,
}

impl<'a> Worker<'a> {
    /// Makes the thread's connections.
    pub(crate) fn new(drive: &'a Drive<'a>, thread: usize) -> Result<Self, BoxError> {
        let options = drive.options;
        let poll = Poll::new()?;
        let greeting = options.greeting();
        let mut connections = Vec::new();
        for _ in (thread..options.connections).step_by(options.threads) {
            let mut socket = options.address.connect(&greeting)?;
            socket.register(poll.registry(), Token(connections.len()))?;
            connections.push(Connection::new(socket));
        }
        Ok(Self {
            drive,
            alarm: Alarm::new(poll.registry(), ALARM)?,
            poll,
            connections,
            requests: Requests::new(drive, thread),
            judge: Judge::new(drive, thread),
            pace: options.rate.map(|rate| Pace::new(rate, thread, options.threads)),
            thinking: Default::default(),
            turn: 0,
            open: 0,
        })
    }

    /// Runs until all requests are sent and answered.
    pub(crate) fn run(mut self, start: Instant) -> Result<Tally, BoxError> {
        self.requests.begin(start);
        self.judge.begin(start);
        let mut events = Events::with_capacity(1024);
        match &mut self.pace {
            Some(pace) => {
                pace.begin(start);
                self.send_due_requests()?;
            }
            None => {
                for n in 0..self.connections.len() {
                    self.send_batch(n)?;
                }
            }
        }
        let mut last = Instant::now();
        while self.open > 0 || !self.requests.are_over() {
            match self.poll.poll(&mut events, Some(GLANCE)) {
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(e.into()),
                _ => {}
            }
            if self.drive.failed.load(Ordering::Relaxed) {
                return Ok(self.judge.tally);
            }
            if events.is_empty() {
                if self.open > 0 && last.elapsed() > PATIENCE {
                    return Err(format!("no answer for {} s", PATIENCE.as_secs()).into());
                }
                // A phase may end without an unanswered request.
                self.resume()?;
                continue;
            }
            last = Instant::now();
            for event in &events {
                if event.token() != ALARM {
                    self.serve(event.token().0)?;
                }
            }
            self.resume()?;
        }
        if let Some(pace) = &self.pace {
            self.judge.tally.unsent = match self.drive.plan {
                Plan::Run { length: Length::Time(time), .. } => {
                    pace.behind(self.judge.tally.since + time)
                }
                _ => 0,
            };
        }
        Ok(self.judge.tally)
    }

    /// Receives a connection's replies, and sends its next requests.
    fn serve(&mut self, n: usize) -> Result<(), BoxError> {
        let connection = &mut self.connections[n];
        if connection.has_output() {
            connection.send()?;
        }
        let before = connection.awaited.len();
        connection.receive(|awaited, now, reply| self.judge.answered(awaited, now, reply))?;
        let answered = before - connection.awaited.len();
        if answered == 0 {
            return Ok(());
        }
        self.open -= answered;
        self.drive.done.fetch_add(answered as u64, Ordering::Relaxed);
        if self.pace.is_some() || !connection.awaited.is_empty() {
            return Ok(());
        }
        if self.drive.options.think > Duration::ZERO {
            self.thinking.push_back((Instant::now() + self.drive.options.think, n));
            return Ok(());
        }
        self.send_batch(n)
    }

    /// Sends the requests that depend on time and not on replies.
    fn resume(&mut self) -> Result<(), BoxError> {
        if self.pace.is_some() {
            return self.send_due_requests();
        }
        while let Some(&(ready, n)) = self.thinking.front() {
            let left = ready.saturating_duration_since(Instant::now());
            if left > Duration::ZERO && !self.requests.are_over() {
                return self.alarm.set(left);
            }
            self.thinking.pop_front();
            self.send_batch(n)?;
        }
        Ok(())
    }

    fn send_batch(&mut self, n: usize) -> Result<(), BoxError> {
        let connection = &mut self.connections[n];
        let now = Instant::now();
        while connection.awaited.len() < self.drive.pipeline
            && let Some(awaited) = self.requests.next(now, &mut connection.output)
        {
            connection.awaited.push_back(awaited);
            self.open += 1;
        }
        connection.sent_at = if self.drive.pipeline == 1 { now } else { Instant::now() };
        connection.send()
    }

    /// With a fixed rate: sends all requests that are due, as far as connections have room.
    fn send_due_requests(&mut self) -> Result<(), BoxError> {
        let Some(pace) = &mut self.pace else { return Ok(()) };
        let now = Instant::now();
        let connections = self.connections.len();
        let mut full = 0;
        while pace.due <= now && full < connections {
            let connection = &mut self.connections[self.turn];
            self.turn = (self.turn + 1) % connections;
            if connection.awaited.len() >= self.drive.pipeline {
                full += 1;
                continue;
            }
            full = 0;
            // A run with a duration ends then, even if requests are left.
            let Some(mut awaited) = self.requests.next(now, &mut connection.output) else { break };
            awaited.due = Some(pace.due);
            connection.awaited.push_back(awaited);
            self.open += 1;
            pace.step();
        }
        let next = pace.due;
        for connection in self.connections.iter_mut().filter(|c| c.has_output()) {
            connection.send()?;
        }
        // If no connection has room, the next reply makes some.
        if !self.requests.are_over() && full < connections {
            self.alarm.set(next.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }
}
