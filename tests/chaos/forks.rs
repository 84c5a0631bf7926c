//! Forks, and programs that run and end.

use super::common::blocks::Random;
use super::common::child::fork;
use super::scene::Scene;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Forks, with and without running another program.
pub fn fork_often(scene: Scene<'_>, random: Random) -> u64 {
    scene.repeat(random, 60_000, |random| {
        let mut command = Command::new("/bin/true");
        match random.below(3) {
            0 => assert_eq!(fork(|| 0).code(), Some(0)),
            1 => assert!(command.status().unwrap().success()),
            _ => {
                // SAFETY: the closure does nothing, which is allowed after a fork.
                unsafe { command.pre_exec(|| Ok(())) };
                assert!(command.status().unwrap().success());
            }
        }
    })
}
