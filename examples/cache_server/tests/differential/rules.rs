//! Which replies need not be the same byte by byte, and what is asked of them instead.
//!
//! [`LISTED`] is the whole list of known differences. Any other is a failure.

use super::request::Request;

/// What two replies must have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// The same elements in any order.
    SameElements,
    /// The same elements in any order, from the start and if both say that these are all; otherwise
    /// cursors of the same kind.
    SameScan,
    /// Be among the keys that `KEYS *` named just before, or null where there was none.
    AmongKeys,
    /// Differ by no more than the time that passed between the two servers' doing it.
    SameTime { per_second: u64 },
    /// Become the same, once what has expired is removed.
    SameInTheEnd,
    /// The same kind of reply: both a number, both a text, both the same error or null.
    SameKind,
    /// The same kind, or a number from Redis and null from ours where keys may have expired.
    SameKindOrExpired,
    /// The same keys with the same kinds of values, and the same value of `proto`.
    SameGreeting,
    /// Redis does not know it and says so.
    NewerThanRedis,
}

/// A known difference.
#[derive(Debug)]
pub struct Listed {
    /// The first words of the requests that it is about.
    pub words: &'static [&'static str],
    pub demand: Demand,
    pub reason: &'static str,
}

const fn listed(words: &'static [&'static str], demand: Demand, reason: &'static str) -> Listed {
    Listed { words, demand, reason }
}

/// All known differences, the first that fits being the one that counts.
pub const LISTED: [Listed; 24] = {
    use Demand::*;
    const ORDER: &str = "hash tables have an order of their own";
    const CLOCK: &str = "two servers do the same at two times";
    const ABOUT: &str = "tells of the server itself";
    [
        listed(&["KEYS"], SameElements, ORDER),
        listed(&["SCAN"], SameScan, ORDER),
        listed(&["RANDOMKEY"], AmongKeys, "random"),
        listed(&["TTL"], SameTime { per_second: 1 }, CLOCK),
        listed(&["PTTL"], SameTime { per_second: 1000 }, CLOCK),
        listed(&["EXPIRETIME"], SameTime { per_second: 1 }, CLOCK),
        listed(&["PEXPIRETIME"], SameTime { per_second: 1000 }, CLOCK),
        listed(&["OBJECT", "IDLETIME"], SameTime { per_second: 1 }, CLOCK),
        listed(&["DBSIZE"], SameInTheEnd, "counts expired keys that nobody has noticed yet"),
        listed(
            &["OBJECT", "REFCOUNT"],
            SameKind,
            "Redis shares small numbers, but not under this policy",
        ),
        listed(
            &["MEMORY", "USAGE"],
            SameKindOrExpired,
            "each server uses as much as it uses, Redis by expired keys too until it notices them",
        ),
        listed(&["MEMORY", "DOCTOR"], SameKind, ABOUT),
        listed(&["INFO"], SameKind, ABOUT),
        listed(&["HELLO"], SameGreeting, ABOUT),
        listed(&["CLIENT", "ID"], SameKind, "counts this server's connections"),
        listed(&["CLIENT", "LIST"], SameKind, ABOUT),
        listed(&["CLIENT", "INFO"], SameKind, ABOUT),
        listed(
            &["CLIENT", "SETINFO"],
            NewerThanRedis,
            "of Redis 7.2; clients of today send it first",
        ),
        listed(&["COMMAND", "COUNT"], SameKind, "ours has fewer commands"),
        listed(&["COMMAND", "DOCS"], SameKind, "ours documents in its own words"),
        listed(&["COMMAND", "INFO"], SameKind, "Redis tells more of its commands"),
        listed(&["TIME"], SameKind, CLOCK),
        listed(&["COMMAND"], SameKind, "ours has fewer commands"),
        listed(&["CONFIG", "GET", "*"], SameKind, "ours has other settings"),
    ]
};

/// The entry of [`LISTED`] that a request falls under.
pub fn of(request: &Request) -> Option<usize> {
    let fits = |entry: &Listed| {
        entry.words.iter().enumerate().all(|(index, word)| request.word(index) == *word)
    };
    LISTED.iter().position(fits)
}
