//! Commands on values that are numbers.

use super::decimal::Decimal;
use crate::command::Call;
use crate::command::args::NOT_AN_INTEGER;
use crate::command::row::{Command, ONE_KEY, STORE_FAST};
use crate::keyspace::NewExpiry;
use crate::request::number;

pub const COMMANDS: &[Command] = &[
    Command::new("incr", 2, STORE_FAST, ONE_KEY, "Adds one to an integer", incr),
    Command::new("decr", 2, STORE_FAST, ONE_KEY, "Takes one from an integer", decr),
    Command::new("incrby", 3, STORE_FAST, ONE_KEY, "Adds to an integer", incrby),
    Command::new("decrby", 3, STORE_FAST, ONE_KEY, "Takes from an integer", decrby),
    Command::new("incrbyfloat", 3, STORE_FAST, ONE_KEY, "Adds to a number", incrbyfloat),
];

const NOT_A_NUMBER: &str = "ERR value is not a valid float";

pub fn incr(call: &mut Call<'_>) {
    add(call, 1);
}

pub fn decr(call: &mut Call<'_>) {
    add(call, -1);
}

pub fn incrby(call: &mut Call<'_>) {
    if let Some(increment) = call.integer(2) {
        add(call, increment);
    }
}

pub fn decrby(call: &mut Call<'_>) {
    let Some(decrement) = call.integer(2) else { return };
    match decrement.checked_neg() {
        Some(increment) => add(call, increment),
        None => call.reply.error("ERR decrement would overflow"),
    }
}

fn add(call: &mut Call<'_>, increment: i64) {
    let (key, mut keys) = call.lock_key();
    let Some(old) = keys.get(key).map_or(Some(0), number) else {
        return call.reply.error(NOT_AN_INTEGER);
    };
    let Some(new) = old.checked_add(increment) else {
        return call.reply.error("ERR increment or decrement would overflow");
    };
    let mut text = itoa::Buffer::new();
    let result = keys.set(key, text.format(new).as_bytes(), NewExpiry::Keep);
    if call.stored(result).is_some() {
        call.reply.integer(new);
    }
}

pub fn incrbyfloat(call: &mut Call<'_>) {
    let Some(increment) = Decimal::parse(call.args[2]) else {
        return call.reply.error(NOT_A_NUMBER);
    };
    let (key, mut keys) = call.lock_key();
    let Some(old) = keys.get(key).map_or(Some(Decimal::ZERO), Decimal::parse) else {
        return call.reply.error(NOT_A_NUMBER);
    };
    let Some(new) = old.checked_add(increment) else {
        return call.reply.error("ERR increment would produce NaN or Infinity");
    };
    let text = new.to_string();
    let result = keys.set(key, text.as_bytes(), NewExpiry::Keep);
    if call.stored(result).is_some() {
        keys.mark_text(key);
        call.reply.bulk(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use crate::command::transcript::{Both, compare};
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    #[test]
    fn integers_are_counted_as_in_redis() {
        compare(&[
            ("INCR n", ":1\r\n"),
            ("INCRBY n 41", ":42\r\n"),
            ("DECR n", ":41\r\n"),
            ("DECRBY n 50", ":-9\r\n"),
            ("GET n", "$2\r\n-9\r\n"),
            ("DECRBY n -9", ":0\r\n"),
            ("SET n 9223372036854775806 EX 10000", "+OK\r\n"),
            ("INCR n", ":9223372036854775807\r\n"),
            ("INCR n", "-ERR increment or decrement would overflow\r\n"),
            ("TTL n", ":10000\r\n"),
            ("DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n"),
            ("INCRBY n -9223372036854775808", ":-1\r\n"),
            ("DECRBY n 9223372036854775807", ":-9223372036854775808\r\n"),
            ("DECRBY n 2", "-ERR increment or decrement would overflow\r\n"),
            ("INCRBY n ten", "-ERR value is not an integer or out of range\r\n"),
            (r#"INCRBY n """#, "-ERR value is not an integer or out of range\r\n"),
            ("INCRBY n 9223372036854775808", "-ERR value is not an integer or out of range\r\n"),
            ("SET n 01", "+OK\r\n"),
            ("INCR n", "-ERR value is not an integer or out of range\r\n"),
            (r#"SET n " 1""#, "+OK\r\n"),
            ("INCR n", "-ERR value is not an integer or out of range\r\n"),
            (r#"SET n """#, "+OK\r\n"),
            ("INCR n", "-ERR value is not an integer or out of range\r\n"),
            ("SET n 1.0", "+OK\r\n"),
            ("DECRBY n ten", "-ERR value is not an integer or out of range\r\n"),
            ("DECR n", "-ERR value is not an integer or out of range\r\n"),
        ]);
    }

    #[test]
    fn numbers_are_added_as_in_redis() {
        compare(&[
            ("INCRBYFLOAT f 0.1", "$3\r\n0.1\r\n"),
            ("INCRBYFLOAT f 0.2", "$3\r\n0.3\r\n"),
            ("GET f", "$3\r\n0.3\r\n"),
            ("INCRBYFLOAT f 5.0e3", "$22\r\n5000.29999999999999982\r\n"),
            ("INCRBYFLOAT f -5000.3", "$1\r\n0\r\n"),
            ("INCRBYFLOAT f -1e-18", "$1\r\n0\r\n"),
            ("SET f 3", "+OK\r\n"),
            ("INCRBYFLOAT f 1.10", "$3\r\n4.1\r\n"),
            ("INCRBYFLOAT f 0.9", "$1\r\n5\r\n"),
            ("INCRBYFLOAT f 1e25", "$26\r\n10000000000000000000000000\r\n"),
            ("INCRBYFLOAT f 0x1p-3", "$26\r\n10000000000000000000000000\r\n"),
            ("INCRBYFLOAT f -1e25", "$1\r\n0\r\n"),
            ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity\r\n"),
            ("INCRBYFLOAT f -Infinity", "-ERR increment would produce NaN or Infinity\r\n"),
            ("INCRBYFLOAT f nan", "-ERR value is not a valid float\r\n"),
            (r#"INCRBYFLOAT f """#, "-ERR value is not a valid float\r\n"),
            (r#"INCRBYFLOAT f " 1""#, "-ERR value is not a valid float\r\n"),
            (r#"INCRBYFLOAT f "1 ""#, "-ERR value is not a valid float\r\n"),
            ("INCRBYFLOAT f 1e", "-ERR value is not a valid float\r\n"),
            ("INCRBYFLOAT f .", "-ERR value is not a valid float\r\n"),
            ("INCRBYFLOAT f 0x", "-ERR value is not a valid float\r\n"),
            ("INCRBYFLOAT f 1e5000", "-ERR value is not a valid float\r\n"),
            ("INCRBYFLOAT f 1e-5000", "-ERR value is not a valid float\r\n"),
            ("INCRBYFLOAT f 0e-5000", "$1\r\n0\r\n"),
            ("INCRBYFLOAT f +.5", "$3\r\n0.5\r\n"),
            ("INCRBYFLOAT f 5.", "$3\r\n5.5\r\n"),
            ("SET f inf", "+OK\r\n"),
            ("INCRBYFLOAT f 1", "-ERR increment would produce NaN or Infinity\r\n"),
            ("SET f text", "+OK\r\n"),
            ("INCRBYFLOAT f 1", "-ERR value is not a valid float\r\n"),
            ("SET f 1 EX 10000", "+OK\r\n"),
            ("INCRBYFLOAT f 1.5", "$3\r\n2.5\r\n"),
            ("TTL f", ":10000\r\n"),
        ]);
    }

    /// Numbers in every form in which they can be written, and near misses.
    fn written() -> impl Strategy<Value = Vec<u8>> {
        let text = prop_oneof![
            4 => "[-+]?[0-9]{1,12}(\\.[0-9]{0,6})?",
            4 => "[-+]?[0-9]{1,24}(\\.[0-9]{0,24})?([eE][-+]?[0-9]{1,2})?",
            1 => "[-+]?[0-9]{1,6}\\.[0-9]{1,6}[eE]-?(1[0-9]|49[0-9])[0-9]",
            2 => "-?0[xX][0-9a-fA-F]{0,20}(\\.[0-9a-fA-F]{0,20})?([pP][-+]?[0-9]{1,5})?",
            1 => "[-+0-9.eExXpP]{0,6}|-?inf|nan|-?Infinity| 1|1 ",
        ];
        text.prop_map(String::into_bytes)
    }

    #[test]
    fn sums_are_those_of_redis() {
        let Some(both) = Both::start() else { return };
        let mut runner = TestRunner::new(Config::with_cases(4000));
        let checked = runner.run(&(written(), written(), written()), |(start, one, other)| {
            both.say(&[b"SET", b"f", &start]);
            for increment in [one, other] {
                let (ours, theirs) = both.say(&[b"INCRBYFLOAT", b"f", &increment]);
                prop_assert_eq!(ours, theirs);
            }
            Ok(())
        });
        checked.unwrap_or_else(|failure| panic!("{failure}"));
    }
}
