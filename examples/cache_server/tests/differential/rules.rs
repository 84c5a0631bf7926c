//! The replies that may differ, and what the comparison demands of them instead.
//!
//! [`LISTED`] contains all known differences. Any other difference is a failure.

use super::request::Request;

/// The demand on two replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// The same elements in any order.
    SameElements,
    /// The same elements in any order, for a scan from the start that is complete in both replies;
    /// otherwise cursors of the same kind.
    SameScan,
    /// Be among the keys that the `KEYS *` just before has named, or null if there was none.
    AmongKeys,
    /// Differ at most by the time between the execution on both servers.
    SameTime { per_second: u64 },
    /// Become equal after expired keys are removed.
    SameInTheEnd,
    /// The same kind of reply: both numbers, both texts, or the same error or null.
    SameKind,
    /// The same kind, or a number from Redis and null from this server if keys may have expired.
    SameKindOrExpired,
    /// The same keys with the same kinds of values, and the same value of `proto`.
    SameGreeting,
    /// Redis does not know the command.
    NewerThanRedis,
}

/// A known difference.
#[derive(Debug)]
pub struct Listed {
    /// The first words of the requests that it covers.
    pub words: &'static [&'static str],
    pub demand: Demand,
    pub reason: &'static str,
}

const fn listed(words: &'static [&'static str], demand: Demand, reason: &'static str) -> Listed {
    Listed { words, demand, reason }
}

/// All known differences. The first entry that matches a request applies.
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
        listed(&["DBSIZE"], SameInTheEnd, "counts expired keys that were not yet removed"),
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

/// The entry of [`LISTED`] that covers a request.
pub fn of(request: &Request) -> Option<usize> {
    let fits = |entry: &Listed| {
        entry.words.iter().enumerate().all(|(index, word)| request.word(index) == *word)
    };
    LISTED.iter().position(fits)
}
