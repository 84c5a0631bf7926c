//! The compared commands, and random requests by their syntax.

use super::words::Words;

/// Weights and syntax. Words in lower case stand for a random word from [`word`]; `[ A | B ]` is an option
/// that may be missing and is rarely repeated; `( a b )` appears at least once.
const COMMANDS: [(u32, &str); 134] = [
    (60, "GET key"),
    (70, "SET key value"),
    (
        30,
        "SET key value [ EX secs | PX ms | EXAT unixs | PXAT unixms | KEEPTTL ] [ NX | XX ] [ GET ]",
    ),
    (10, "SET key number"),
    (6, "GETEX key"),
    (20, "GETEX key [ EX secs | PX ms | EXAT unixs | PXAT unixms | PERSIST ]"),
    (12, "GETDEL key"),
    (6, "GETSET key value"),
    (12, "SETNX key value"),
    (8, "SETEX key secs value"),
    (8, "PSETEX key ms value"),
    (20, "MGET ( key )"),
    (15, "MSET ( key value )"),
    (6, "MSETNX ( key value )"),
    (20, "APPEND key value"),
    (12, "STRLEN key"),
    (12, "INCR key"),
    (10, "DECR key"),
    (12, "INCRBY key number"),
    (10, "DECRBY key number"),
    (16, "INCRBYFLOAT key float"),
    (20, "GETRANGE key index index"),
    (4, "SUBSTR key index index"),
    (2, "LCS key key [ LEN | IDX ] [ MINMATCHLEN count ] [ WITHMATCHLEN ]"),
    (16, "SETRANGE key offset value"),
    (24, "DEL ( key )"),
    (10, "UNLINK ( key )"),
    (10, "EXISTS ( key )"),
    (8, "TOUCH ( key )"),
    (8, "TYPE key"),
    (8, "EXPIRE key secs"),
    (8, "EXPIRE key secs [ NX | XX | GT | LT ]"),
    (4, "PEXPIRE key ms [ NX | XX | GT | LT ]"),
    (8, "EXPIREAT key unixs [ NX | XX | GT | LT ]"),
    (8, "PEXPIREAT key unixms [ NX | XX | GT | LT ]"),
    (6, "TTL key"),
    (6, "PTTL key"),
    (8, "EXPIRETIME key"),
    (8, "PEXPIRETIME key"),
    (8, "PERSIST key"),
    (16, "RENAME key key"),
    (6, "RENAMENX key key"),
    (20, "COPY key key [ DB db ] [ REPLACE ]"),
    (4, "KEYS pattern"),
    (4, "SCAN cursor COUNT all [ MATCH pattern ] [ TYPE type ]"),
    (1, "SCAN cursor [ COUNT number ] [ MATCH pattern ]"),
    (6, "OBJECT ENCODING key"),
    (3, "OBJECT IDLETIME key"),
    (2, "OBJECT FREQ key"),
    (2, "OBJECT REFCOUNT key"),
    (1, "OBJECT word key"),
    (3, "MEMORY USAGE key [ SAMPLES count ]"),
    (1, "MEMORY DOCTOR"),
    (1, "MEMORY word key"),
    (4, "DBSIZE"),
    (1, "FLUSHALL [ ASYNC | SYNC ]"),
    (1, "FLUSHDB [ ASYNC | SYNC ]"),
    (6, "PING"),
    (4, "PING value"),
    (6, "ECHO value"),
    (4, "SELECT db"),
    (3, "HELLO"),
    (6, "HELLO proto"),
    (4, "HELLO proto [ SETNAME name ] [ AUTH user pass ]"),
    (2, "AUTH pass"),
    (2, "AUTH user pass"),
    (3, "CLIENT ID"),
    (4, "CLIENT SETNAME name"),
    (4, "CLIENT GETNAME"),
    (1, "CLIENT LIST"),
    (2, "CLIENT LIST ID ( clientid )"),
    (1, "CLIENT LIST ID"),
    (2, "CLIENT LIST TYPE clienttype"),
    (1, "CLIENT LIST TYPE clienttype ID clientid"),
    (1, "CLIENT LIST ID clientid TYPE clienttype"),
    (1, "CLIENT LIST word"),
    (1, "CLIENT KILL nowhere:1"),
    (3, "CLIENT KILL ID clientid [ TYPE clienttype ] [ ADDR nowhere:1 ] [ SKIPME yesno ]"),
    (2, "CLIENT KILL TYPE clienttype ADDR nowhere:1"),
    (2, "CLIENT KILL LADDR nowhere:1 [ USER user ] [ ID clientid ]"),
    (1, "CLIENT KILL USER stranger"),
    (1, "CLIENT KILL ID clientid ADDR"),
    (1, "CLIENT KILL word clientid"),
    (1, "CLIENT KILL"),
    (1, "CLIENT NO-EVICT yesno"),
    (1, "CONFIG SET maxmemory memory timeout 0 tcp-keepalive number"),
    (1, "CLIENT INFO"),
    (1, "CLIENT SETINFO LIB-NAME name"),
    (1, "CLIENT NO-EVICT ON"),
    (1, "CLIENT word"),
    (1, "RESET"),
    (2, "EXEC"),
    (1, "DISCARD"),
    (2, "WATCH ( key )"),
    (2, "UNWATCH"),
    (1, "TIME"),
    (1, "COMMAND COUNT"),
    (1, "COMMAND DOCS GET"),
    (1, "COMMAND INFO GET no-such"),
    (1, "COMMAND GETKEYS MSET key value key value"),
    (1, "COMMAND GETKEYS GET"),
    (1, "COMMAND word"),
    (3, "CONFIG GET maxmemory"),
    (1, "CONFIG GET maxmemory-policy"),
    (1, "CONFIG GET nothing-of-this-name"),
    (1, "CONFIG GET *"),
    (2, "CONFIG SET maxmemory memory"),
    (1, "CONFIG SET maxmemory memory maxmemory memory"),
    (1, "CONFIG SET nothing-of-this-name value"),
    (1, "CONFIG word"),
    (1, "CONFIG"),
    (1, "CONFIG GET"),
    (1, "CONFIG SET maxmemory"),
    (1, "INFO"),
    (1, "INFO MEMORY"),
    (1, "INFO KEYSPACE STATS"),
    (1, "INFO nothing-of-this-name"),
    (1, "DEBUG SLEEP 0"),
    (1, "word"),
    (3, "word key value"),
    (1, "value"),
    (3, "EXISTS key key key"),
    (2, "MGET key key key key key key key key key key key key"),
    (2, "SET key float"),
    (2, "INCRBYFLOAT key number"),
    (1, "SET key value GET GET"),
    (1, "SET key value NX XX"),
    (1, "SET key value EX secs PX ms"),
    (1, "SET key value KEEPTTL EX secs"),
    (1, "GETEX key PERSIST EX secs"),
    (1, "EXPIRE key secs NX GT"),
    (1, "EXPIRE key secs GT LT"),
    (1, "EXPIREAT key unixs XX GT"),
    (1, "COPY key key REPLACE REPLACE"),
];

/// A syntactically valid request with random words.
pub fn valid(words: &mut Words) -> Vec<Vec<u8>> {
    let total: u32 = COMMANDS.iter().map(|(weight, _)| weight).sum();
    let mut pick = words.rng.u32(..total);
    let chosen = COMMANDS.iter().find(|(weight, _)| {
        let found = pick < *weight;
        pick = pick.wrapping_sub(*weight);
        found
    });
    let syntax = chosen.expect("less than the sum of all").1;
    let tokens: Vec<_> = syntax.split(' ').collect();
    expand(&tokens, words)
}

fn expand(tokens: &[&str], words: &mut Words) -> Vec<Vec<u8>> {
    let mut args = Vec::new();
    let mut options = Vec::new();
    let mut rest = tokens;
    while let Some((&token, behind)) = rest.split_first() {
        let end = |close| behind.iter().position(|t| *t == close).expect("closed");
        rest = match token {
            "(" => {
                let end = end(")");
                let times = if words.one_in(3) { words.rng.usize(2..7) } else { 1 };
                (0..times).for_each(|_| args.extend(expand(&behind[..end], words)));
                &behind[end + 1..]
            }
            "[" => {
                let end = end("]");
                let choices: Vec<_> = behind[..end].split(|token| *token == "|").collect();
                let times = words.one_of(&[0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
                for _ in 0..times {
                    options.push(expand(choices[words.rng.usize(..choices.len())], words));
                }
                &behind[end + 1..]
            }
            _ => {
                args.push(word(token, words));
                behind
            }
        };
    }
    words.rng.shuffle(&mut options);
    args.extend(options.into_iter().flatten());
    args
}

/// A random argument of this kind. A word that is no kind stands for itself.
fn word(kind: &str, words: &mut Words) -> Vec<u8> {
    let text = match kind {
        "key" => return words.key(),
        "value" => return words.value(),
        "number" => words.number(),
        "float" => words.float(),
        "index" => words.index(),
        "offset" => words.offset(),
        "secs" => words.relative(1),
        "ms" => words.relative(1000),
        "unixs" => words.absolute(1),
        "unixms" => words.absolute(1000),
        "pattern" => words.pattern(),
        "cursor" => words.one_of(&["0", "0", "0", "0", "0", "0", "abc", "", " 0", "0x"]).to_owned(),
        "all" => words.one_of(&["1000000", "100000", "1000000", "0", "-1", "abc"]).to_owned(),
        "count" => words.one_of(&["0", "1", "5", "-1", "abc"]).to_owned(),
        "type" => words.one_of(&["string", "STRING", "hash", "list", "zset"]).to_owned(),
        "db" => words.one_of(&["0", "0", "0", "0", "1", "-1", "abc", "99999999999"]).to_owned(),
        "proto" => words.one_of(&["2", "3", "2", "3", "2", "3", "1", "4", "abc", "-1"]).to_owned(),
        "name" => words.one_of(&["", "me", "a-b", "two words", "line\n", "\u{e9}"]).to_owned(),
        "user" => words.one_of(&["default", "default", "nobody", ""]).to_owned(),
        "pass" => words.one_of(&["secret", "secret", "wrong", ""]).to_owned(),
        "clientid" => {
            words.one_of(&["0", "-1", "999999999999", "abc", "", "9223372036854775808"]).to_owned()
        }
        "clienttype" => {
            words.one_of(&["normal", "PUBSUB", "master", "replica", "slave", "x"]).to_owned()
        }
        "yesno" => words.one_of(&["yes", "NO", "on", "OFF", "maybe", ""]).to_owned(),
        "memory" => words.one_of(&["1gb", "2000mb", "1073741824", "1.5gb", "abc", "-1"]).to_owned(),
        "word" => return unknown(words),
        _ => words.spelled(kind),
    };
    text.into_bytes()
}

/// A name that no command has.
fn unknown(words: &mut Words) -> Vec<u8> {
    match words.rng.u8(..6) {
        0 => vec![b'x'; words.rng.usize(1..300)],
        1 => (0..words.rng.usize(1..20)).map(|_| words.rng.u8(..b' ')).collect(),
        2 => (0..words.rng.usize(1..20)).map(|_| words.rng.u8(128..)).collect(),
        _ => words.one_of(&["", "GETT", "SE", "no-such", "two words", "l1\r\nl2", "%s"]).into(),
    }
}

/// The number of compared commands and subcommands.
pub fn count() -> usize {
    let name = |(_, syntax): &(u32, &'static str)| {
        let is_name = |word: &&str| word.bytes().all(|b| b.is_ascii_uppercase());
        let mut words = syntax.split(' ').filter(is_name);
        let container = ["OBJECT", "MEMORY", "CLIENT", "COMMAND", "CONFIG"];
        let first = words.next()?;
        Some((first, container.contains(&first).then(|| words.next()).flatten()))
    };
    COMMANDS.iter().filter_map(name).collect::<std::collections::BTreeSet<_>>().len()
}
