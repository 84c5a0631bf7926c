//! Prints the features that this machine's kernel and privileges offer, with remedies for missing ones.

#![allow(clippy::print_stdout, reason = "its output is its result")]

fn main() {
    let probe = thermocline::probe();
    println!("{probe}");
    match (probe.can_rwp(), probe.can_zap()) {
        (true, _) => println!("\narenas swap here, with the rwp tracker"),
        (false, true) => println!("\narenas swap here, with the zap tracker"),
        (false, false) => println!("\narenas can only be plain memory here"),
    }
    match (probe.can_rwp_private(), probe.can_accessed_private()) {
        (true, _) => println!("on request they have private memory, with the rwp tracker"),
        (false, true) => println!("on request they have private memory, with the accessed tracker"),
        (false, false) => {}
    }
}
