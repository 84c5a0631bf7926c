//! Commands that test for keys or remove them.

use crate::command::Call;
use crate::command::row::{Command, KEYS, ONE_KEY, READ_FAST, WRITE, WRITE_FAST};

pub const COMMANDS: &[Command] = &[
    Command::new("del", -2, WRITE, KEYS, "Removes keys", del),
    Command::new("unlink", -2, WRITE_FAST, KEYS, "The same as DEL here", del),
    Command::new("exists", -2, READ_FAST, KEYS, "The number of keys that exist", exists),
    Command::new("touch", -2, READ_FAST, KEYS, "Makes keys count as used", touch),
    Command::new("type", 2, READ_FAST, ONE_KEY, "The type of a key's value", type_of),
];

pub fn del(call: &mut Call<'_>) {
    let mut keys = call.lock(&call.args[1..]);
    count(call, |key| keys.remove(key));
}

/// Counts a key twice if it is named twice.
pub fn exists(call: &mut Call<'_>) {
    let mut keys = call.lock(&call.args[1..]);
    count(call, |key| keys.about(key).is_some());
}

pub fn touch(call: &mut Call<'_>) {
    let mut keys = call.lock(&call.args[1..]);
    count(call, |key| keys.touch(key));
}

fn count(call: &mut Call<'_>, mut counts: impl FnMut(&[u8]) -> bool) {
    let number = call.args[1..].iter().filter(|key| counts(key)).count();
    call.reply.integer(number as i64);
}

pub fn type_of(call: &mut Call<'_>) {
    let (key, mut keys) = call.lock_key();
    call.reply.simple(if keys.about(key).is_some() { "string" } else { "none" });
}

#[cfg(test)]
mod tests {
    use crate::command::transcript::compare;

    #[test]
    fn existing_keys_are_counted_and_removed() {
        compare(&[
            (r#"MSET a 1 b 2 c 3 "" 4"#, "+OK\r\n"),
            ("EXISTS a a b missing", ":3\r\n"),
            ("TOUCH a a missing", ":2\r\n"),
            ("TYPE a", "+string\r\n"),
            ("TYPE missing", "+none\r\n"),
            ("DEL a a missing", ":1\r\n"),
            (r#"UNLINK b "" missing"#, ":2\r\n"),
            (r#"EXISTS a b c """#, ":1\r\n"),
            ("SET gone v PXAT 1", "+OK\r\n"),
            ("EXISTS gone", ":0\r\n"),
            ("TYPE gone", "+none\r\n"),
            ("TOUCH gone", ":0\r\n"),
            ("DEL gone", ":0\r\n"),
        ]);
    }
}
