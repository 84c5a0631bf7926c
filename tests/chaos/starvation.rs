//! Threads that get no processor time.

use super::common::blocks::Random;
use super::scene::Scene;
use super::tasks;
use std::hint;
use std::thread;
use std::time::{Duration, Instant};

/// Spins on all processors, lowers a thread's priority, or puts all threads on one processor.
pub fn starve(scene: Scene<'_>, random: Random) -> u64 {
    let processors = affinity(0);
    let steps = scene.repeat(random, 40_000, |random| {
        let stretch = Duration::from_micros(random.below(40_000) as u64);
        match random.below(3) {
            0 => spin(stretch),
            1 => {
                let mut tasks = tasks::all();
                // New threads inherit the priority of the thread that starts them.
                tasks.retain(|(id, name)| *id != scene.main && !name.starts_with("chaos-"));
                if let Some((task, _)) = tasks.get(random.below(tasks.len().max(1))) {
                    // SAFETY: takes numbers. The call fails for a thread that has ended.
                    unsafe { libc::setpriority(libc::PRIO_PROCESS, *task as libc::id_t, 19) };
                    spin(stretch);
                }
            }
            _ => {
                let mut one = processors;
                let number = (0..1024).find(|n| {
                    // SAFETY: reads a set of this function's own.
                    unsafe { libc::CPU_ISSET(*n, &processors) }
                });
                // SAFETY: as above.
                unsafe {
                    libc::CPU_ZERO(&mut one);
                    libc::CPU_SET(number.unwrap(), &mut one);
                }
                confine(&one);
                thread::sleep(stretch);
                confine(&processors);
            }
        }
    });
    confine(&processors);
    steps
}

fn spin(time: Duration) {
    let end = Instant::now() + time;
    let spin = || {
        while Instant::now() < end {
            hint::spin_loop();
        }
    };
    let count = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..count {
            thread::Builder::new().name("chaos-spin".to_owned()).spawn_scoped(scope, spin).unwrap();
        }
    });
}

/// The processors on which a thread may run.
fn affinity(task: libc::pid_t) -> libc::cpu_set_t {
    // SAFETY: zeros are the empty set, and the kernel writes one.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sched_getaffinity(task, size_of::<libc::cpu_set_t>(), &raw mut set);
        set
    }
}

/// Puts all threads on these processors.
fn confine(set: &libc::cpu_set_t) {
    for (task, _) in tasks::all() {
        // SAFETY: takes numbers and a set. The call fails for a thread that has ended.
        unsafe { libc::sched_setaffinity(task, size_of::<libc::cpu_set_t>(), set) };
    }
}
