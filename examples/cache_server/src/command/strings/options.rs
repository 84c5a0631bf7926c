//! The options of `SET` and `GETEX`.

use crate::command::Call;
use crate::command::args::{SYNTAX, Time, is};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Set,
    GetEx,
}

/// The keys for which `SET` sets a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Always,
    Missing,
    Present,
}

/// The new lifetime of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    Unsaid,
    Keep,
    Persist,
    /// Until a time; the argument with this index contains it.
    Until(Time, usize),
}

impl Lifetime {
    /// An option may be repeated, and the last one counts. Contradictory options are an error.
    fn agrees_with(self, next: Self) -> bool {
        match (self, next) {
            (Self::Unsaid, _) => true,
            (Self::Until(time, _), Self::Until(next, _)) => time == next,
            _ => self == next,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub condition: Condition,
    /// The reply is the old value.
    pub get: bool,
    pub lifetime: Lifetime,
}

impl Options {
    /// Replies with an error if the options are invalid.
    pub fn parse(call: &mut Call<'_>, of: Of) -> Option<Self> {
        let mut options =
            Self { condition: Condition::Always, get: false, lifetime: Lifetime::Unsaid };
        let mut at = if of == Of::Set { 3 } else { 2 };
        while at < call.args.len() {
            let Some(next) = options.take(call.args, at, of) else {
                call.reply.error(SYNTAX);
                return None;
            };
            at = next;
        }
        Some(options)
    }

    /// Parses the option at `at`. Returns the index of the next one.
    fn take(&mut self, args: &[&[u8]], at: usize, of: Of) -> Option<usize> {
        let word = args[at];
        match of {
            Of::Set if is(word, "NX") => self.only_if(Condition::Missing)?,
            Of::Set if is(word, "XX") => self.only_if(Condition::Present)?,
            Of::Set if is(word, "GET") => self.get = true,
            Of::Set if is(word, "KEEPTTL") => self.lives(Lifetime::Keep)?,
            Of::GetEx if is(word, "PERSIST") => self.lives(Lifetime::Persist)?,
            _ => {
                self.lives(Lifetime::Until(time(word)?, at + 1))?;
                args.get(at + 1)?;
                return Some(at + 2);
            }
        }
        Some(at + 1)
    }

    fn only_if(&mut self, condition: Condition) -> Option<()> {
        let agree = self.condition == Condition::Always || self.condition == condition;
        self.condition = condition;
        agree.then_some(())
    }

    fn lives(&mut self, lifetime: Lifetime) -> Option<()> {
        let agree = self.lifetime.agrees_with(lifetime);
        self.lifetime = lifetime;
        agree.then_some(())
    }
}

fn time(word: &[u8]) -> Option<Time> {
    let words = [
        ("EX", Time::Seconds),
        ("PX", Time::Milliseconds),
        ("EXAT", Time::AtSecond),
        ("PXAT", Time::AtMillisecond),
    ];
    words.into_iter().find(|(name, _)| is(word, name)).map(|(_, time)| time)
}
