//! SIGBUS in the thread that touched a page, and who serves it.
//!
//! A userfaultfd that was opened with `UFFD_FEATURE_SIGBUS` sends no messages: the kernel raises
//! SIGBUS in the toucher (`mm/userfaultfd.c`, `handle_userfault`), with the address in `si_addr`. The handler
//! here looks the address up among the [`Serve`]rs that are registered, without a lock; whichever
//! it belongs to brings the page back, and the instruction is run again. Everything else goes to the
//! handler that was there before.
//!
//! # What the handler may rely on
//!
//! It is installed once, when the first server is registered, and stays, for a program may have
//! saved it as the one to call after its own. It serves with all signals blocked, whoever has called
//! it and with whatever mask, so that a thread that owns a page is interrupted by nothing of the
//! program's; and it saves errno. A server is not freed while a thread is in it: threads count
//! themselves in and out of its slot, and who unregisters it waits for the last one.
//!
//! # Which stack it uses
//!
//! The kernel starts the handler on the thread's alternate signal stack, if the thread has one. Runtimes
//! insist on that: a goroutine's own stack may end right below the frame that touched a page, and the
//! memory below it is another object of Go's heap. Alternate stacks are small, so the handler does
//! its work on a [service stack](service_stack). The previous handler is called on the stack
//! that the kernel has chosen, because it may unwind or jump out of it. Below the kernel's signal frame
//! lies less than 1 KiB of the library's, in every profile and also where the signal is passed on.

#![allow(unsafe_code)]

use super::service_stack;
use super::signals::{self, Uncancellable};
use crate::prim::sync::plain::Mutex;
use crate::prim::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::sys::error::SysError;
use crate::sys::fork::Generation;
use core::ffi::{c_int, c_void};
use core::fmt;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::AtomicPtr;
use std::sync::{Arc, OnceLock, PoisonError};
use std::thread;

pub(crate) use crate::sys::serve::{MAX_SERVERS, RegisterError, Serve, Served};

/// A range of addresses and who serves it.
struct Slot {
    /// The generation of the process that has taken the slot; zero where it is free.
    owner: AtomicU32,
    /// Zero where nobody is registered. Written last, cleared first.
    start: AtomicUsize,
    end: AtomicUsize,
    server: AtomicPtr<Arc<dyn Serve>>,
    /// Threads that are looking at the server.
    users: AtomicUsize,
}

static SLOTS: [Slot; MAX_SERVERS] = [const {
    Slot {
        owner: AtomicU32::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        server: AtomicPtr::new(ptr::null_mut()),
        users: AtomicUsize::new(0),
    }
}; MAX_SERVERS];

/// Slots from here on were never used.
static USED: AtomicUsize = AtomicUsize::new(0);

impl Slot {
    fn covers(&self, address: usize) -> bool {
        // SeqCst, here and in `Registration::drop`: either who unregisters sees the user, or the
        // user sees that nobody is registered.
        let start = self.start.load(Ordering::SeqCst);
        start != 0 && (start..self.end.load(Ordering::SeqCst)).contains(&address)
    }

    /// Takes the slot for this process, if it is free, or was taken by one that this is a fork of: what
    /// it covers is not there.
    fn take(&self, generation: Generation) -> bool {
        let seen = self.owner.load(Ordering::Acquire);
        let ours = generation.number();
        let take = || self.owner.compare_exchange(seen, ours, Ordering::AcqRel, Ordering::Relaxed);
        let taken = seen != ours && take().is_ok();
        if taken {
            self.start.store(0, Ordering::SeqCst);
            // Threads of the parent's that were being served are not there either.
            self.users.store(0, Ordering::SeqCst);
        }
        taken
    }

    /// Has the address served, if it belongs to this slot.
    fn serve(&self, address: usize) -> Option<Served> {
        if !self.covers(address) {
            return None;
        }
        self.users.fetch_add(1, Ordering::SeqCst);
        let served = self.covers(address).then(|| {
            // SAFETY: the slot covers the address while this thread is counted, so the server is
            // registered, and is not freed before the count goes down.
            let server = unsafe { &*self.server.load(Ordering::Acquire) };
            // A child has the slots of its parent, and none of the memory that they cover.
            let ours = self.owner.load(Ordering::Acquire) == Generation::counted().number();
            ours.then(|| server.serve(address))
        });
        self.users.fetch_sub(1, Ordering::SeqCst);
        served.flatten()
    }
}

/// A server that is registered for as long as this lives.
///
/// Dropping it waits for the threads that are being served; they must not need the one that drops.
pub(crate) struct Registration(&'static Slot);

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (&self.0.start, &self.0.end);
        write!(
            f,
            "Registration({:#x}..{:#x})",
            start.load(Ordering::Relaxed),
            end.load(Ordering::Relaxed)
        )
    }
}

/// Has `serve` called when a thread touches a page of `addresses` that is not there.
pub(crate) fn register(
    addresses: Range<usize>,
    serve: Arc<dyn Serve>,
) -> Result<Registration, RegisterError> {
    debug_assert!(addresses.start != 0);
    let generation = Generation::current()?;
    install()?;
    let index = SLOTS.iter().position(|slot| slot.take(generation)).ok_or(RegisterError::Full)?;
    let slot = &SLOTS[index];
    slot.server.store(Box::into_raw(Box::new(serve)), Ordering::Release);
    slot.end.store(addresses.end, Ordering::SeqCst);
    slot.start.store(addresses.start, Ordering::SeqCst);
    USED.fetch_max(index + 1, Ordering::SeqCst);
    Ok(Registration(slot))
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::SeqCst);
        while self.0.users.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        let server = self.0.server.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: made by `register`, taken once, and no thread looks at it any more.
        drop(unsafe { Box::from_raw(server) });
        self.0.owner.store(0, Ordering::Release);
    }
}

/// What was there before, for what is not ours.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
static INSTALLED: Mutex<bool> = Mutex::new(false);
/// The default action has taken the place of what was there before: the kernel would have put it
/// there (`SA_RESETHAND`), or the handler did so itself, as the one of Rust's runtime does.
static SPENT: AtomicBool = AtomicBool::new(false);

fn install() -> Result<(), SysError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        service_stack::prepare()?;
        let before = current_action()?;
        // Before the handler can run. If another thread installs one in this very moment, that
        // one is lost; it is as if it had been there after.
        let _ = PREVIOUS.set(before);
        take_charge()?;
        *installed = true;
    }
    Ok(())
}

/// Makes the handler the one that the process has for SIGBUS.
fn take_charge() -> Result<(), SysError> {
    let mut action = default_action();
    action.sa_sigaction = on_sigbus as extern "C-unwind" fn(_, _, _) as usize;
    // SIGINFO: the address. RESTART: a SIGBUS that a process sends is to disturb no more than before.
    // ONSTACK: see the head of this file.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    action.sa_mask = signals::set(signals::ALL);
    // SAFETY: the action is whole, and its handler is a function that is never unloaded: whoever
    // comes here has asked for the generation before.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(SysError::last("sigaction(SIGBUS)")),
    }
}

fn default_action() -> libc::sigaction {
    // SAFETY: zero is the default action with an empty mask.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn current_action() -> Result<libc::sigaction, SysError> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action; the current one is written to `action`.
    match unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), action.as_mut_ptr()) } {
        // SAFETY: written by the call.
        0 => Ok(unsafe { action.assume_init() }),
        _ => Err(SysError::last("sigaction(SIGBUS)")),
    }
}

/// Whether the handler that the process has for SIGBUS is the one that serves. If not, the handler that it
/// has must call this one for what is not its own.
pub(crate) fn is_in_charge() -> bool {
    let ours = on_sigbus as extern "C-unwind" fn(_, _, _) as usize;
    current_action().is_ok_and(|action| action.sa_sigaction == ours)
}

/// What the kernel gives to a handler.
#[derive(Clone, Copy)]
struct Delivery {
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
}

/// A delivery, and the handler to call for it if it is not for this one.
struct Fault {
    delivery: Delivery,
    /// The thread's errno before the signal.
    errno: c_int,
    previous: Option<Previous>,
}

/// How to call the previous handler.
struct Previous {
    /// A function of three arguments if `takes_info`, else of one.
    handler: usize,
    takes_info: bool,
    /// What is blocked while it runs.
    mask: u64,
    /// The thread's errno before the signal.
    errno: c_int,
}

// Nothing but small frames: these lie on the stack that the kernel has chosen.
extern "C-unwind" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let delivery = Delivery { signal, info, context };
    // SAFETY: the thread's own errno.
    let errno = unsafe { libc::__errno_location().read() };
    let mut fault = Fault { delivery, errno, previous: None };
    service_stack::run(serve, &mut fault);
    if let Some(previous) = &mut fault.previous {
        // SAFETY: `serve` has found the handler, for these arguments of the kernel's.
        unsafe { previous.call(delivery) };
        service_stack::run(settle, previous);
    }
}

/// Serves a fault, or says which handler is to be called for it. Runs on a service stack.
extern "C" fn serve(fault: &mut Fault) {
    let _errno = Errno(fault.errno);
    let _uncancellable = Uncancellable::new();
    // SAFETY: the kernel passes a whole siginfo to a handler that asked for it.
    let code = unsafe { (*fault.delivery.info).si_code };
    // Other codes are memory that has failed (BUS_MCEERR_AR, which poison looks like too), an
    // access that is not aligned, or a signal that a process has sent.
    let served = code == libc::BUS_ADRERR && {
        // SAFETY: as above; with this code the address is there.
        let address = unsafe { (*fault.delivery.info).si_addr() }.addr();
        let slots = &SLOTS[..USED.load(Ordering::SeqCst)];
        slots.iter().find_map(|slot| slot.serve(address)) == Some(Served::Retry)
    };
    if !served {
        fault.previous = pass_on(fault, code);
    }
}

/// Does what the kernel would do if this handler were not there, short of calling the previous one.
fn pass_on(fault: &Fault, code: c_int) -> Option<Previous> {
    let Fault { delivery, errno, .. } = *fault;
    let action = PREVIOUS.get()?;
    // Of a failed access, rather than sent by a process or told of memory that no thread has touched.
    let access =
        [libc::BUS_ADRALN, libc::BUS_ADRERR, libc::BUS_OBJERR, libc::BUS_MCEERR_AR].contains(&code);
    let spent = SPENT.load(Ordering::Relaxed);
    match if spent { libc::SIG_DFL } else { action.sa_sigaction } {
        libc::SIG_IGN if !access => None,
        libc::SIG_DFL | libc::SIG_IGN => {
            // As the kernel does it: a process cannot ignore an access that failed. It fails again when
            // this handler returns, and then it ends the process.
            let default = default_action();
            // SAFETY: a whole action.
            unsafe { libc::sigaction(delivery.signal, &raw const default, ptr::null_mut()) };
            if !access {
                // SAFETY: takes an integer. The signal is delivered when it is unblocked.
                unsafe { libc::raise(delivery.signal) };
            }
            None
        }
        handler => {
            if action.sa_flags & libc::SA_RESETHAND != 0 {
                SPENT.store(true, Ordering::Relaxed);
            }
            // SAFETY: the kernel passes the interrupted thread's context.
            let interrupted = unsafe { &(*delivery.context.cast::<libc::ucontext_t>()).uc_sigmask };
            let deferred = action.sa_flags & libc::SA_NODEFER == 0;
            let own = if deferred { signals::bit(delivery.signal) } else { 0 };
            Some(Previous {
                handler,
                takes_info: action.sa_flags & libc::SA_SIGINFO != 0,
                mask: signals::mask(interrupted) | signals::mask(&action.sa_mask) | own,
                errno,
            })
        }
    }
}

impl Previous {
    /// Calls the handler, as the kernel would.
    ///
    /// # Safety
    ///
    /// From the handler, with what it was given.
    #[inline(never)]
    unsafe fn call(&self, Delivery { signal, info, context }: Delivery) {
        let before = signals::set_mask(self.mask);
        if self.takes_info {
            // SAFETY: an action with SA_SIGINFO holds a function of three arguments.
            let handler: extern "C-unwind" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                unsafe { core::mem::transmute(self.handler) };
            handler(signal, info, context);
        } else {
            // SAFETY: an action without holds one of one argument.
            let handler: extern "C-unwind" fn(c_int) =
                unsafe { core::mem::transmute(self.handler) };
            handler(signal);
        }
        // A handler that was installed after this one may have called it, and goes on when it returns.
        signals::set_mask(before);
    }
}

/// Finishes after the previous handler has returned. Runs on a service stack.
extern "C" fn settle(previous: &mut Previous) {
    let _errno = Errno(previous.errno);
    if current_action().is_ok_and(|action| action.sa_sigaction == libc::SIG_DFL) {
        // That is what is to happen the next time, to all but pages of ours.
        SPENT.store(true, Ordering::Relaxed);
        let _ = take_charge();
    }
}

/// Sets the thread's errno to this number when it is dropped.
struct Errno(c_int);

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: the thread's own errno.
        unsafe { libc::__errno_location().write(self.0) };
    }
}
