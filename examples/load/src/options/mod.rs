//! The command line.

use crate::BoxError;
use crate::content::{Content, Kind, Sizes};
use crate::drive::Address;
use crate::keys::Popularity;
use crate::quantity;
use crate::resp;
use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = include_str!("help.txt");

/// The digits of a key, after the prefix.
pub(crate) const KEY_DIGITS: usize = 12;

/// Each key takes a word of memory.
const MOST_KEYS: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Fill,
    Run,
    First,
}

impl Phase {
    const ALL: [(&str, Self); 3] =
        [("fill", Self::Fill), ("run", Self::Run), ("first", Self::First)];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, phase)| *phase == self).map_or("", |(name, _)| name)
    }
}

/// The length of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Time(Duration),
    Requests(u64),
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) address: Address,
    pub(crate) password: Option<String>,
    pub(crate) user: Option<String>,
    phases: Vec<Phase>,
    pub(crate) length: Length,
    pub(crate) warm_up: Duration,
    pub(crate) idle: Option<Duration>,
    pub(crate) every: u64,
    pub(crate) flush: bool,
    pub(crate) keys: u64,
    pub(crate) prefix: String,
    pub(crate) popularity: Popularity,
    pub(crate) read_share: f64,
    sizes: Sizes,
    kind: Kind,
    ratio: f64,
    pub(crate) ttl: Duration,
    pub(crate) ttl_share: f64,
    pub(crate) seed: u64,
    pub(crate) sequence: u64,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) pipeline: usize,
    pub(crate) fill_pipeline: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) think: Duration,
    pub(crate) verify: f64,
    pub(crate) json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Address::Tcp("127.0.0.1:6379".to_owned()),
            password: None,
            user: None,
            phases: Vec::new(),
            length: Length::Time(Duration::from_secs(30)),
            warm_up: Duration::ZERO,
            idle: None,
            every: 10,
            flush: false,
            keys: 100_000,
            prefix: "key:".to_owned(),
            popularity: Popularity::Zipf(0.99),
            read_share: 0.95,
            sizes: Sizes::Fixed(500),
            kind: Kind::Json,
            ratio: 3.0,
            ttl: Duration::from_secs(60),
            ttl_share: 0.0,
            seed: 1,
            sequence: 1,
            connections: 50,
            threads: 1,
            pipeline: 1,
            fill_pipeline: 32,
            rate: None,
            think: Duration::ZERO,
            verify: 0.1,
            json: None,
        }
    }
}

impl Options {
    /// None if the user asked for help.
    pub(crate) fn from_env() -> Result<Option<Self>, BoxError> {
        Self::parse(lexopt::Parser::from_env()).map_err(|e| format!("{e}; see --help").into())
    }

    pub(crate) fn phases(&self) -> Vec<Phase> {
        match (&self.phases[..], self.idle) {
            ([], None) => vec![Phase::Fill, Phase::Run],
            ([], Some(_)) => vec![Phase::Fill, Phase::Run, Phase::First],
            (phases, _) => phases.to_vec(),
        }
    }

    pub(crate) fn content(&self) -> Content {
        Content::new(self.kind, self.sizes, self.ratio)
    }

    /// The number of keys that take `bytes` together with their values.
    fn keys_of(&self, bytes: u64) -> Result<u64, String> {
        let (content, key_len) = (self.content(), self.prefix.len() + KEY_DIGITS);
        let (mut keys, mut left) = (0, bytes);
        while let Some(rest) = left.checked_sub((key_len + content.size(keys)) as u64) {
            (keys, left) = (keys + 1, rest);
            if keys > MOST_KEYS {
                return Err("--dataset takes more than 2^32 keys".into());
            }
        }
        if keys > 0 { Ok(keys) } else { Err(format!("--dataset {bytes} has no room for a key")) }
    }

    /// The first commands of each connection.
    pub(crate) fn greeting(&self) -> Vec<Vec<u8>> {
        let Some(password) = &self.password else { return Vec::new() };
        let mut words = vec![&b"AUTH"[..]];
        words.extend(self.user.as_ref().map(|user| user.as_bytes()));
        words.push(password.as_bytes());
        let mut auth = Vec::new();
        resp::command(&words, &mut auth);
        vec![auth]
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self::default();
        let mut duration = None;
        let mut requests = None;
        let (mut given_keys, mut dataset) = (None, None);
        while let Some(argument) = parser.next()? {
            let o = &mut options;
            match argument {
                Long("phases") => o.phases = parser.value()?.parse_with(phases)?,
                Long("duration") => duration = Some(parser.value()?.parse_with(quantity::time)?),
                Long("requests") => requests = Some(parser.value()?.parse_with(some)?),
                Long("warm-up") => o.warm_up = parser.value()?.parse_with(quantity::time)?,
                Long("idle") => o.idle = Some(parser.value()?.parse_with(quantity::time)?),
                Long("every") => o.every = parser.value()?.parse_with(some)?,
                Long("flush") => o.flush = true,
                Short('n') | Long("keys") => given_keys = Some(parser.value()?.parse_with(keys)?),
                Long("dataset") => dataset = Some(parser.value()?.parse_with(quantity::bytes)?),
                Long("prefix") => o.prefix = parser.value()?.string()?,
                Long("popularity") => o.popularity = parser.value()?.parse_with(popularity)?,
                Long("read-share") => o.read_share = parser.value()?.parse_with(quantity::share)?,
                Short('d') | Long("size") => o.sizes = parser.value()?.parse()?,
                Long("content") => o.kind = parser.value()?.parse_with(kind)?,
                Long("ratio") => o.ratio = parser.value()?.parse_with(ratio)?,
                Long("ttl") => o.ttl = parser.value()?.parse_with(ttl)?,
                Long("ttl-share") => o.ttl_share = parser.value()?.parse_with(quantity::share)?,
                Long("seed") => o.seed = parser.value()?.parse()?,
                Long("sequence") => o.sequence = parser.value()?.parse()?,
                Short('c') | Long("connections") => {
                    o.connections = parser.value()?.parse_with(few)?
                }
                Short('t') | Long("threads") => o.threads = parser.value()?.parse_with(few)?,
                Short('P') | Long("pipeline") => o.pipeline = parser.value()?.parse_with(few)?,
                Long("fill-pipeline") => o.fill_pipeline = parser.value()?.parse_with(few)?,
                Long("rate") => o.rate = Some(parser.value()?.parse_with(some)? as f64),
                Long("think") => o.think = parser.value()?.parse_with(quantity::time)?,
                Short('a') | Long("password") => o.password = Some(parser.value()?.string()?),
                Long("user") => o.user = Some(parser.value()?.string()?),
                Long("verify") => o.verify = parser.value()?.parse_with(quantity::share)?,
                Long("json") => o.json = Some(parser.value()?.into()),
                Short('h') | Long("help") => return Ok(None),
                Value(address) => o.address = address.string()?.into(),
                _ => return Err(argument.unexpected()),
            }
        }
        options.length = match (duration, requests) {
            (Some(_), Some(_)) => return Err("--duration or --requests, not both".into()),
            (Some(time), None) => Length::Time(time),
            (None, Some(requests)) => Length::Requests(requests),
            (None, None) => options.length,
        };
        options.keys = match (given_keys, dataset) {
            (Some(_), Some(_)) => return Err("--keys or --dataset, not both".into()),
            (Some(keys), None) => keys,
            (None, Some(bytes)) => options.keys_of(bytes)?,
            (None, None) => options.keys,
        };
        if options.rate.is_some() && options.think > Duration::ZERO {
            return Err("--rate says when to send, so there is no --think with it".into());
        }
        options.threads = options.threads.min(options.connections);
        Ok(Some(options))
    }
}

fn phases(given: &str) -> Result<Vec<Phase>, String> {
    let phase = |name: &str| {
        let known = Phase::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, phase)| *phase).ok_or_else(|| format!("'{name}' is not fill, run or first"))
    };
    given.split(',').map(phase).collect()
}

fn popularity(given: &str) -> Result<Popularity, String> {
    let skew = match given.split_once(':') {
        None if given == "uniform" => return Ok(Popularity::Uniform),
        None if given == "zipf" => Some(0.99),
        Some(("zipf", skew)) => skew.parse().ok().filter(|skew| (0.0..=10.0).contains(skew)),
        _ => None,
    };
    skew.map(Popularity::Zipf)
        .ok_or_else(|| "uniform, zipf, or zipf: with a skew from 0 to 10".into())
}

fn kind(given: &str) -> Result<Kind, String> {
    let known = Kind::ALL.iter().find(|(name, _)| *name == given);
    known.map(|(_, kind)| *kind).ok_or_else(|| "json, text, random or zero".into())
}

fn ratio(given: &str) -> Result<f64, &'static str> {
    let ratio = given.parse().ok().filter(|ratio| (1.0..=100.0).contains(ratio));
    ratio.ok_or("--ratio takes a number from 1 on")
}

/// Redis takes whole seconds here.
fn ttl(given: &str) -> Result<Duration, String> {
    quantity::time(given)
        .and_then(|ttl| if ttl.as_secs() > 0 { Ok(ttl) } else { Err("a second or more".into()) })
}

fn keys(given: &str) -> Result<u64, String> {
    some(given).and_then(|n| if n <= MOST_KEYS { Ok(n) } else { Err("at most 2^32 keys".into()) })
}

fn some(given: &str) -> Result<u64, String> {
    quantity::count(given).and_then(|n| if n > 0 { Ok(n) } else { Err("one or more".into()) })
}

fn few(given: &str) -> Result<usize, String> {
    let n = some(given)?;
    if n <= 100_000 { Ok(n as usize) } else { Err(format!("'{given}' is too much")) }
}

#[cfg(test)]
mod tests;
