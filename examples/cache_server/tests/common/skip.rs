//! Reports skipped tests, in the form of the library's own tests.

use std::io::Write;
use std::process::{Command, Stdio};

/// The version of Redis that replies are compared with: other versions word errors differently.
const REDIS: &str = "v=7.0.";

/// Whether these programs are installed. Reports a skipped test if not.
///
/// # Panics
///
/// Panics if a program is missing that `THERMOCLINE_EXPECT` (`redis-server,redis-cli`) names.
pub fn has_programs(test: &str, programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
        let Some(output) = output.ok().filter(|output| output.status.success()) else {
            skip(test, program, &format!("{program} is not installed"));
            return false;
        };
        let version = String::from_utf8_lossy(&output.stdout);
        let is_it = *program != "redis-server" || version.contains(REDIS);
        if !is_it {
            skip(test, program, &format!("{} is not {REDIS}", version.trim()));
        }
        is_it
    })
}

fn skip(test: &str, what: &str, reason: &str) {
    let expected = std::env::var("THERMOCLINE_EXPECT").unwrap_or_default();
    let must_be_there = expected.split(',').any(|item| item.trim() == what);
    assert!(!must_be_there, "{test}: {what} must be here, but: {reason}");
    say(&format!("SKIPPED {test}: {reason}"));
}

/// Writes a line around the test harness's capture of output.
pub fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A number that an environment variable may set.
pub fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number"))
    })
}
