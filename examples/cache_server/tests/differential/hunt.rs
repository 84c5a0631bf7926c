//! Searches for differences with random programs, and reports them.

use super::play::{Difference, Pair};
use super::program::{self, Plan};
use super::request::Step;
use super::rules::LISTED;
use super::shrink::shrink;
use super::syntax;
use crate::common::process::ServerProcess;
use crate::common::skip::say;
use std::fmt::Write;

/// The requests of one program. The next program begins with empty servers.
const PROGRAM: u64 = 2000;

/// A difference, and the smallest program found that shows it.
#[derive(Debug)]
pub struct Finding {
    pub smallest: Vec<Step>,
    pub report: String,
}

/// The parameters of a search.
#[derive(Debug, Clone, Copy)]
pub struct Hunt<'a> {
    pub name: &'a str,
    pub requests: u64,
    pub seed: u64,
    pub password: Option<&'a str>,
    /// Stops after this number of findings.
    pub enough: usize,
    /// Whether to print the known differences with their counts.
    pub lists: bool,
}

impl Hunt<'_> {
    /// Plays programs until all requests are made, or enough differences are found.
    pub fn run(self, redis: &ServerProcess, ours: &ServerProcess) -> Vec<Finding> {
        say(&format!("{} requests={} seed={}", self.name, self.requests, self.seed));
        let mut pair = Pair::new(redis, ours, self.password);
        let mut findings: Vec<Finding> = Vec::new();
        let mut differences = 0;
        let mut compared = 0;
        for number in 0..self.requests.div_ceil(PROGRAM) {
            let requests = PROGRAM.min(self.requests) as usize;
            let plan = Plan { requests, password: self.password.is_some() };
            let steps = program::random(self.seed.wrapping_add(number), plan);
            let result = pair.play(&steps);
            compared = pair.requests;
            if let Err(difference) = result {
                differences += 1;
                let seed = self.seed.wrapping_add(number);
                let finding = examine(&mut pair, &steps, &difference, seed);
                say(&finding.report);
                findings.push(finding);
                if findings.len() >= self.enough {
                    break;
                }
            }
            pair.requests = compared;
        }
        for (entry, count) in LISTED.iter().zip(pair.excused).filter(|_| self.lists) {
            let words = entry.words.join(" ");
            say(&format!("excused {count:>7}  {words}: {:?}: {}", entry.demand, entry.reason));
        }
        let commands = syntax::count();
        let excused: u64 = pair.excused.iter().sum();
        say(&format!(
            "{} requests={compared} commands={commands} differences={differences} \
             excused={excused} seed={}",
            self.name, self.seed
        ));
        findings
    }
}

/// Shrinks the program that shows a difference, and describes both.
fn examine(pair: &mut Pair<'_>, steps: &[Step], difference: &Difference, seed: u64) -> Finding {
    let failed = &steps[difference.step];
    let name = failed.request.word(0);
    let excused = pair.excused;
    let smallest = shrink(steps[..=difference.step].to_vec(), |candidate| {
        // A difference in another command is another finding.
        pair.play(candidate).is_err_and(|d| candidate[d.step].request.word(0) == name)
    });
    let again = pair.play(&smallest);
    pair.excused = excused;
    let mut report = String::new();
    let mut line = |text: String| writeln!(report, "{text}").expect("strings take anything");
    line(format!("DIFFERENCE in program {seed}, request {}", difference.step));
    line(format!("request: {}", failed.request));
    line(format!("  redis: {}", difference.theirs));
    line(format!("   ours: {}", difference.ours));
    line("before, with the same keys:".to_owned());
    let keys = &failed.request.args[1..];
    let related: Vec<_> = steps[..difference.step]
        .iter()
        .filter(|step| step.request.args.iter().skip(1).any(|arg| keys.contains(arg)))
        .collect();
    for step in &related[related.len().saturating_sub(20)..] {
        line(format!("  {}", step.request));
    }
    line(format!("smallest program ({} requests):", smallest.len()));
    for step in &smallest {
        let note = if step.reconnects { "    (new connection)" } else { "" };
        line(format!("  {}{note}", step.request));
    }
    if let Err(difference) = again {
        line(format!("  redis: {}", difference.theirs));
        line(format!("   ours: {}", difference.ours));
    }
    Finding { smallest, report }
}
