//! The state of a run: its tasks, and which of them has the baton.

use super::{Failure, Plan, Step, number_after};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ready,
    /// All other runnable tasks go first.
    Yielded,
    Parked,
    Joining(usize),
    Done,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) status: Status,
    /// Whether it was unparked before it parked.
    pub(super) token: bool,
    pub(super) thread: Option<std::thread::Thread>,
}

impl Task {
    pub(super) fn is_runnable(&self) -> bool {
        matches!(self.status, Status::Ready | Status::Yielded)
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) tasks: Vec<Task>,
    /// The task that has the baton.
    pub(super) current: usize,
    pub(super) plan: Plan,
    pub(super) steps: usize,
    pub(super) noted: Vec<Step>,
    pub(super) ended: bool,
    pub(super) failure: Option<Failure>,
    pub(super) threads: Vec<std::thread::JoinHandle<()>>,
}

impl State {
    pub(super) fn end(&mut self, failure: Failure) {
        if !self.ended {
            self.ended = true;
            self.failure = Some(failure);
        }
        self.tasks
            .iter()
            .filter_map(|task| task.thread.as_ref())
            .for_each(std::thread::Thread::unpark);
    }

    fn hand_baton_to(&mut self, next: usize) {
        self.tasks[next].status = Status::Ready;
        self.current = next;
        if let Some(thread) = &self.tasks[next].thread {
            thread.unpark();
        }
    }

    /// Takes a step, and returns whether another task has the baton now.
    pub(super) fn take_step(&mut self, me: usize) -> bool {
        let at = self.steps;
        self.steps += 1;
        if self.steps > self.plan.limit {
            self.end(Failure::Endless);
            return true;
        }
        let others = || (0..self.tasks.len()).filter(|n| *n != me && self.tasks[*n].is_runnable());
        if self.plan.record {
            let others = others().fold(0, |bits, n| bits | 1 << n);
            self.noted.push(Step { thread: me, others });
        }
        let mut next = None;
        if self.plan.switches.first().is_some_and(|(step, _)| *step == at) {
            let to = self.plan.switches.remove(0).1;
            next = self.tasks.get(to).is_some_and(Task::is_runnable).then_some(to);
        } else if let Some(seed) = &mut self.plan.seed {
            let number = number_after(seed);
            if number.is_multiple_of(self.plan.odds) {
                let count = others().count().max(1);
                next = others().nth(crate::prim::units::index(number / self.plan.odds) % count);
            }
        }
        match next {
            Some(next) if next != me => {
                self.hand_baton_to(next);
                true
            }
            _ => false,
        }
    }

    /// Blocks the task or lets it yield, and returns whether another task has the baton now.
    pub(super) fn block(&mut self, me: usize, status: Status) -> bool {
        let continues = match status {
            Status::Parked => std::mem::take(&mut self.tasks[me].token),
            Status::Joining(other) => self.tasks[other].status == Status::Done,
            _ => false,
        };
        if continues {
            return false;
        }
        self.steps += 1;
        if self.steps > self.plan.limit {
            self.end(Failure::Endless);
            return true;
        }
        if self.plan.record {
            // The plan has no choice here, but recorded steps are numbered without gaps.
            self.noted.push(Step { thread: me, others: 0 });
        }
        self.tasks[me].status = status;
        self.pass_baton(me);
        self.ended || self.current != me
    }

    /// Hands the baton to the first runnable task.
    fn pass_baton(&mut self, me: usize) {
        let ready = |tasks: &[Task]| tasks.iter().position(|m| m.status == Status::Ready);
        if ready(&self.tasks).is_none() {
            // All tasks have yielded or are blocked. `me` yielded last, so it goes last.
            for (number, task) in self.tasks.iter_mut().enumerate() {
                if task.status == Status::Yielded && number != me {
                    task.status = Status::Ready;
                }
            }
        }
        match ready(&self.tasks) {
            Some(next) => self.hand_baton_to(next),
            None if self.tasks[me].status == Status::Yielded => self.hand_baton_to(me),
            None => {
                let blocked = self.tasks.iter().filter(|m| m.status != Status::Done);
                let blocked: Vec<_> =
                    blocked.map(|m| format!("{} is {:?}", m.name, m.status)).collect();
                if !blocked.is_empty() {
                    self.end(Failure::Deadlock(blocked.join(", ")));
                }
            }
        }
    }

    pub(super) fn unpark(&mut self, number: usize) {
        let task = &mut self.tasks[number];
        match task.status {
            Status::Parked => task.status = Status::Ready,
            _ => task.token = true,
        }
    }

    pub(super) fn finish(&mut self, me: usize) {
        self.tasks[me].status = Status::Done;
        for task in &mut self.tasks {
            if task.status == Status::Joining(me) {
                task.status = Status::Ready;
            }
        }
        if !self.ended {
            self.pass_baton(me);
        }
    }
}
