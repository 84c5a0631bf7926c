//! Whose turn it is.

use super::{Failure, Plan, Step, number_after};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ready,
    /// It has given way to all others.
    Yielded,
    Parked,
    Joining(usize),
    Done,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) status: Status,
    /// It was unparked before it parked.
    pub(super) token: bool,
    pub(super) system: Option<std::thread::Thread>,
}

impl Member {
    pub(super) fn is_able(&self) -> bool {
        matches!(self.status, Status::Ready | Status::Yielded)
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) members: Vec<Member>,
    pub(super) current: usize,
    pub(super) plan: Plan,
    pub(super) steps: usize,
    pub(super) noted: Vec<Step>,
    pub(super) ended: bool,
    pub(super) failure: Option<Failure>,
    pub(super) systems: Vec<std::thread::JoinHandle<()>>,
}

impl State {
    pub(super) fn end(&mut self, failure: Failure) {
        if !self.ended {
            self.ended = true;
            self.failure = Some(failure);
        }
        self.members.iter().filter_map(|m| m.system.as_ref()).for_each(std::thread::Thread::unpark);
    }

    pub(super) fn hand_to(&mut self, next: usize) {
        self.members[next].status = Status::Ready;
        self.current = next;
        if let Some(system) = &self.members[next].system {
            system.unpark();
        }
    }

    /// Takes a step, and says whether somebody else goes on.
    pub(super) fn take_step(&mut self, me: usize) -> bool {
        let at = self.steps;
        self.steps += 1;
        if self.steps > self.plan.limit {
            self.end(Failure::Endless);
            return true;
        }
        let others = || (0..self.members.len()).filter(|n| *n != me && self.members[*n].is_able());
        if self.plan.record {
            let others = others().fold(0, |bits, n| bits | 1 << n);
            self.noted.push(Step { thread: me, others });
        }
        let mut next = None;
        if self.plan.switches.first().is_some_and(|(step, _)| *step == at) {
            let to = self.plan.switches.remove(0).1;
            next = self.members.get(to).is_some_and(Member::is_able).then_some(to);
        } else if let Some(seed) = &mut self.plan.seed {
            let number = number_after(seed);
            if number.is_multiple_of(self.plan.odds) {
                let count = others().count().max(1);
                next = others().nth(crate::prim::units::index(number / self.plan.odds) % count);
            }
        }
        match next {
            Some(next) if next != me => {
                self.hand_to(next);
                true
            }
            _ => false,
        }
    }

    /// Has the thread wait for something, and says whether somebody else goes on.
    pub(super) fn put_aside(&mut self, me: usize, status: Status) -> bool {
        let goes_on = match status {
            Status::Parked => std::mem::take(&mut self.members[me].token),
            Status::Joining(other) => self.members[other].status == Status::Done,
            _ => false,
        };
        if goes_on {
            return false;
        }
        self.steps += 1;
        if self.steps > self.plan.limit {
            self.end(Failure::Endless);
            return true;
        }
        if self.plan.record {
            // There is no choice here, but each step has its number.
            self.noted.push(Step { thread: me, others: 0 });
        }
        self.members[me].status = status;
        self.go_on(me);
        self.ended || self.current != me
    }

    /// Hands the baton to the first who can go on.
    pub(super) fn go_on(&mut self, me: usize) {
        let ready = |members: &[Member]| members.iter().position(|m| m.status == Status::Ready);
        if ready(&self.members).is_none() {
            // All have given way. The one who has just done so is the last to go on.
            for (number, member) in self.members.iter_mut().enumerate() {
                if member.status == Status::Yielded && number != me {
                    member.status = Status::Ready;
                }
            }
        }
        match ready(&self.members) {
            Some(next) => self.hand_to(next),
            None if self.members[me].status == Status::Yielded => self.hand_to(me),
            None => {
                let waits = self.members.iter().filter(|m| m.status != Status::Done);
                let waits: Vec<_> =
                    waits.map(|m| format!("{} is {:?}", m.name, m.status)).collect();
                if !waits.is_empty() {
                    self.end(Failure::Deadlock(waits.join(", ")));
                }
            }
        }
    }

    pub(super) fn unpark(&mut self, number: usize) {
        let member = &mut self.members[number];
        match member.status {
            Status::Parked => member.status = Status::Ready,
            _ => member.token = true,
        }
    }

    pub(super) fn finish(&mut self, me: usize) {
        self.members[me].status = Status::Done;
        for member in &mut self.members {
            if member.status == Status::Joining(me) {
                member.status = Status::Ready;
            }
        }
        if !self.ended {
            self.go_on(me);
        }
    }
}
