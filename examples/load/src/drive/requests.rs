//! The sequence of a phase's requests, and their encoding.

use super::Drive;
use super::connection::{Asked, Awaited};
use crate::keys::{Picker, Shuffle, mix};
use crate::options::{KEY_DIGITS, Length};
use crate::resp;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::Instant;

#[derive(Debug)]
pub(crate) enum Plan<'a> {
    /// Writes every key once.
    Fill,
    /// Reads and writes.
    Run { picker: &'a Picker, length: Length },
    /// Reads every `every`th key once, in this order.
    First { order: Shuffle, count: u64, every: u64 },
}

/// A thread's sequence of requests.
#[derive(Debug)]
pub(crate) struct Requests<'a> {
    drive: &'a Drive<'a>,
    random: SmallRng,
    /// The start of the measurement.
    since: Instant,
    over: bool,
}

impl<'a> Requests<'a> {
    pub(crate) fn new(drive: &'a Drive<'a>, thread: usize) -> Self {
        let seed = mix(mix(mix(drive.options.seed) ^ drive.options.sequence) ^ thread as u64);
        let random = SmallRng::seed_from_u64(seed);
        Self { drive, random, since: Instant::now() + drive.warm_up, over: false }
    }

    pub(crate) fn begin(&mut self, start: Instant) {
        self.since = start + self.drive.warm_up;
    }

    pub(crate) fn are_over(&self) -> bool {
        self.over
    }

    /// Appends the next request, with this due time, and returns its entry for the queue of unanswered
    /// requests. None if there are no more.
    pub(crate) fn next(&mut self, time: Instant, output: &mut Vec<u8>) -> Option<Awaited> {
        let next = self.draw(time);
        self.over = next.is_none();
        let (key, write) = next?;
        // A key has one writer at a time; a second writer reads instead.
        let version = if write { self.drive.versions.begin(key) } else { None };
        let asked = match version {
            None => {
                self.write_get(key, output);
                Asked::Read { oldest: self.drive.versions.oldest(key) }
            }
            Some(version) => {
                self.write_set(key, version, output);
                Asked::Write { version }
            }
        };
        Some(Awaited { key, asked, due: None })
    }

    /// Draws a key, and whether to write it.
    fn draw(&mut self, time: Instant) -> Option<(u64, bool)> {
        let drive = self.drive;
        let take = || drive.taken.fetch_add(1, Ordering::Relaxed);
        if self.over {
            return None;
        }
        match &drive.plan {
            Plan::Fill => Some((take(), true)).filter(|&(key, _)| key < drive.options.keys),
            Plan::First { order, count, every } => Some(take())
                .filter(|place| place < count)
                .map(|place| (order.at(place) * every, false)),
            Plan::Run { picker, length } => {
                let more = match *length {
                    Length::Time(length) => time < self.since + length,
                    Length::Requests(count) => time < self.since || take() < count,
                };
                more.then(|| {
                    let key = picker.pick(&mut self.random);
                    (key, !self.random.random_bool(drive.options.read_share))
                })
            }
        }
    }

    fn write_get(&self, key: u64, output: &mut Vec<u8>) {
        output.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
        self.write_key(key, output);
    }

    fn write_set(&mut self, key: u64, version: u32, output: &mut Vec<u8>) {
        let options = self.drive.options;
        let expires = matches!(self.drive.plan, Plan::Run { .. })
            && options.ttl_share > 0.0
            && self.random.random_bool(options.ttl_share);
        resp::array(if expires { 5 } else { 3 }, output);
        output.extend_from_slice(b"$3\r\nSET\r\n");
        self.write_key(key, output);
        resp::bulk(self.drive.content.size(key), output);
        self.drive.content.write(key, version, output);
        output.extend_from_slice(b"\r\n");
        if expires {
            let seconds = options.ttl.as_secs().to_string();
            output.extend_from_slice(b"$2\r\nEX\r\n");
            resp::bulk(seconds.len(), output);
            // Writing to a vector cannot fail.
            let _ = write!(output, "{seconds}\r\n");
        }
    }

    /// Appends the prefix and the digits.
    fn write_key(&self, key: u64, output: &mut Vec<u8>) {
        let prefix = &self.drive.options.prefix;
        resp::bulk(prefix.len() + KEY_DIGITS, output);
        output.extend_from_slice(prefix.as_bytes());
        let mut digits = *b"000000000000\r\n";
        let mut rest = key;
        for digit in digits[..KEY_DIGITS].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        output.extend_from_slice(&digits);
    }
}
