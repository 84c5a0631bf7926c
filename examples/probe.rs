//! Prints what this machine's kernel and privileges offer, and what would help where they do not.

#![allow(clippy::print_stdout, reason = "a program that tells")]

fn main() {
    let probe = thermocline::probe();
    println!("{probe}");
    match (probe.can_rwp(), probe.can_zap()) {
        (true, _) => println!("\narenas swap here, with the rwp tracker"),
        (false, true) => println!("\narenas swap here, with the zap tracker"),
        (false, false) => println!("\narenas can only be plain memory here"),
    }
}
