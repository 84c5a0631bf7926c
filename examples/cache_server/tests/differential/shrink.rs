//! The smallest program that still shows a difference, by delta debugging.

use super::request::{Framing, Step};

/// The most programs that are tried. Each is shorter than the one before.
const TRIES: usize = 400;

/// Removes steps that `fails` does not need, and simplifies the remaining ones.
pub fn shrink(mut steps: Vec<Step>, mut fails: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut tries = 0;
    let mut still_fails = |candidate: &[Step]| {
        tries += 1;
        tries <= TRIES && fails(candidate)
    };
    let last = steps.last().expect("a program that fails").clone();
    let keys = &last.request.args[1..];
    let related: Vec<_> = steps
        .iter()
        .filter(|step| step.request.args.iter().any(|arg| keys.contains(arg)) || **step == last)
        .cloned()
        .collect();
    for candidate in [plain(&steps), related, vec![last]] {
        if candidate.len() <= steps.len() && still_fails(&candidate) {
            steps = candidate;
        }
    }
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < steps.len() {
            let end = steps.len().min(start + size);
            let candidate = [&steps[..start], &steps[end..]].concat();
            if !candidate.is_empty() && still_fails(&candidate) {
                steps = candidate;
            } else {
                start = end;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    let candidate = plain(&steps);
    if still_fails(&candidate) {
        steps = candidate;
    }
    shorten_arguments(&mut steps, &mut still_fails);
    steps
}

/// The same requests one at a time, each sent whole.
fn plain(steps: &[Step]) -> Vec<Step> {
    let plain = |step: &Step| {
        let mut step = Step { reconnects: step.reconnects, ..Step::alone(step.request.clone()) };
        (step.request.framing, step.request.noise) = (Framing::Multibulk, b"");
        step
    };
    steps.iter().map(plain).collect()
}

fn shorten_arguments(steps: &mut Vec<Step>, still_fails: &mut impl FnMut(&[Step]) -> bool) {
    for step in 0..steps.len() {
        let mut arg = 1;
        while arg < steps[step].request.args.len() {
            let mut without = steps.clone();
            without[step].request.args.remove(arg);
            if still_fails(&without) {
                *steps = without;
                continue;
            }
            while steps[step].request.args[arg].len() > 1 {
                let mut shorter = steps.clone();
                let len = shorter[step].request.args[arg].len();
                shorter[step].request.args[arg].truncate(len / 2);
                if !still_fails(&shorter) {
                    break;
                }
                *steps = shorter;
            }
            arg += 1;
        }
    }
}

#[test]
fn unneeded_steps_are_removed() {
    let step = |text: &str| Step::alone(super::request::Request::words(text));
    let mut steps: Vec<_> = (0..300).map(|n| step(&format!("GET other:{n}"))).collect();
    steps[20] = step("SET k aaaaaaaaaaaaaaaa");
    steps[200] = step("INCR k");
    let needed = |steps: &[Step]| {
        let find = |name: &str| steps.iter().position(|step| step.request.word(0) == name);
        matches!((find("SET"), find("INCR")), (Some(set), Some(incr)) if set < incr)
    };
    let shrunk = shrink(steps[..=200].to_vec(), needed);
    assert_eq!(shrunk.len(), 2, "{shrunk:?}");
}
