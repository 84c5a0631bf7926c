//! A row of the table of commands.

use super::Handler;

/// The group of a command in Redis' documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Connection,
    Generic,
    Server,
    String,
    Transactions,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Generic => "generic",
            Self::Server => "server",
            Self::String => "string",
            Self::Transactions => "transactions",
        }
    }
}

/// A row of the table of commands.
#[derive(Debug)]
pub struct Command {
    /// In lower case; for a subcommand with its container: `object|encoding`.
    pub name: &'static str,
    /// The number of arguments with the names; a negative arity means at least `-arity`.
    pub arity: i32,
    pub flags: &'static [&'static str],
    /// The index of the first key; 0 if there is none.
    pub first_key: i32,
    /// The index of the last key; -1 is the last argument.
    pub last_key: i32,
    pub key_step: i32,
    pub summary: &'static str,
    pub handler: Handler,
}

impl Command {
    /// `keys` is the first key, the last key, and the step between keys.
    pub const fn new(
        name: &'static str,
        arity: i32,
        flags: &'static [&'static str],
        keys: [i32; 3],
        summary: &'static str,
        handler: Handler,
    ) -> Self {
        let [first_key, last_key, key_step] = keys;
        Self { name, arity, flags, first_key, last_key, key_step, summary, handler }
    }

    /// Whether this number of arguments, with the name, is allowed.
    pub fn takes(&self, arguments: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arguments >= wanted } else { arguments == wanted }
    }

    /// The keys among `args`, whose number the command [`takes`](Self::takes).
    pub fn keys_in<'a, 's>(
        &self,
        args: &'s [&'a [u8]],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 's> {
        let first = self.first_key.unsigned_abs() as usize;
        let behind = match self.last_key {
            last @ 0.. => last.unsigned_abs() as usize + 1,
            last => (args.len() + 1).saturating_sub(last.unsigned_abs() as usize),
        };
        let range = if first == 0 { 0..0 } else { first..behind.min(args.len()) };
        let step = self.key_step.unsigned_abs().max(1) as usize;
        args.get(range).unwrap_or_default().iter().step_by(step).copied()
    }
}

/// Common sets of flags.
pub const READ: &[&str] = &["readonly"];
pub const READ_FAST: &[&str] = &["readonly", "fast"];
pub const WRITE: &[&str] = &["write"];
pub const WRITE_FAST: &[&str] = &["write", "fast"];
/// May allocate memory.
pub const STORE: &[&str] = &["write", "denyoom"];
pub const STORE_FAST: &[&str] = &["write", "denyoom", "fast"];
/// For commands about the server and its connections.
pub const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];
pub const ANYTIME: &[&str] = &["noscript", "loading", "stale"];
/// Also for clients that have not sent the password.
pub const BEFORE_AUTH: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth"];
pub const LOADING: &[&str] = &["loading", "stale"];
pub const LOADING_FAST: &[&str] = &["loading", "stale", "fast"];

pub const NO_KEY: [i32; 3] = [0, 0, 0];
pub const ONE_KEY: [i32; 3] = [1, 1, 1];
pub const TWO_KEYS: [i32; 3] = [1, 2, 1];
pub const KEYS: [i32; 3] = [1, -1, 1];
pub const KEYS_AND_VALUES: [i32; 3] = [1, -1, 2];
/// For subcommands.
pub const SECOND: [i32; 3] = [2, 2, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_among_the_arguments() {
        fn keys(of: [i32; 3], args: &[&'static str]) -> Vec<&'static [u8]> {
            let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
            Command::new("c", -1, &[], of, "", |_| {}).keys_in(&args).collect()
        }
        assert_eq!(keys(NO_KEY, &["c", "a"]), [b""; 0]);
        assert_eq!(keys(ONE_KEY, &["c", "a", "b"]), [b"a"]);
        assert_eq!(keys(KEYS, &["c", "a", "b"]), [b"a", b"b"]);
        assert_eq!(keys(KEYS_AND_VALUES, &["c", "a", "1", "b", "2"]), [b"a", b"b"]);
        assert_eq!(keys(SECOND, &["c", "a"]), [b""; 0]);
    }
}
