//! The SIGBUS handler, which serves faults in the faulting thread.
//!
//! A userfaultfd that was opened with `UFFD_FEATURE_SIGBUS` sends no messages: the kernel raises
//! SIGBUS in the faulting thread (`mm/userfaultfd.c`, `handle_userfault`), with the address in `si_addr`. The
//! handler looks the address up among the registered [`Serve`]rs, without a lock. The server of that address
//! brings the page back, and the thread runs the instruction again. The handler passes every other SIGBUS to
//! the previous handler.
//!
//! # What the handler guarantees
//!
//! The first registration of a server installs the handler. It is never removed, because a handler of the
//! program may have saved it and call it. The handler blocks all signals while it serves, also if another
//! handler calls it with a mask of its own. So no signal handler of the program interrupts a thread that owns
//! a page. The handler restores errno. A server is not freed while a thread is in it: each thread increments
//! the count of its slot before and decrements it after, and the thread that unregisters the server waits for
//! zero.
//!
//! # Which stack the handler uses
//!
//! The kernel starts the handler on the thread's alternate signal stack, if the thread has one. Some runtimes
//! require that: a goroutine's own stack may end right below the frame that touched a page, and the
//! memory below it is another object of Go's heap. Alternate stacks are small, so the handler does
//! its work on a [service stack](service_stack). It calls the previous handler on the stack that the
//! kernel has chosen, because that handler may unwind or jump out of it. Below the kernel's signal frame lie
//! less than 1 KiB of the library's frames, in every profile, also while the previous handler runs.

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

/// A range of addresses and its server.
struct Slot {
    /// The generation of the process that has taken the slot; zero if the slot is free.
    owner: AtomicU32,
    /// Zero if no server is registered. Written last, cleared first.
    start: AtomicUsize,
    end: AtomicUsize,
    server: AtomicPtr<Arc<dyn Serve>>,
    /// The number of threads that use the server.
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

/// The slots from this index on have never been used.
static SLOTS_USED: AtomicUsize = AtomicUsize::new(0);

impl Slot {
    fn covers(&self, address: usize) -> bool {
        // SeqCst, here and in `Registration::drop`: either the unregistering thread sees the user's
        // increment, or the user sees the cleared start.
        let start = self.start.load(Ordering::SeqCst);
        start != 0 && (start..self.end.load(Ordering::SeqCst)).contains(&address)
    }

    /// Takes the slot for this process, if it is free or a process that this one was forked from had taken
    /// it: a child does not inherit that range.
    fn take(&self, generation: Generation) -> bool {
        let seen = self.owner.load(Ordering::Acquire);
        let ours = generation.number();
        let take = || self.owner.compare_exchange(seen, ours, Ordering::AcqRel, Ordering::Relaxed);
        let taken = seen != ours && take().is_ok();
        if taken {
            self.start.store(0, Ordering::SeqCst);
            // The parent's threads that used the server do not exist in the child.
            self.users.store(0, Ordering::SeqCst);
        }
        taken
    }

    /// Serves a fault at the address, if it belongs to this slot.
    fn serve(&self, address: usize) -> Option<Served> {
        if !self.covers(address) {
            return None;
        }
        self.users.fetch_add(1, Ordering::SeqCst);
        let served = self.covers(address).then(|| {
            // SAFETY: the slot covers the address while this thread is counted, so the server is
            // registered, and is not freed before this thread decrements the count.
            let server = unsafe { &*self.server.load(Ordering::Acquire) };
            // A child inherits its parent's slots, but not the memory that they cover.
            let ours = self.owner.load(Ordering::Acquire) == Generation::counted().number();
            ours.then(|| server.serve(address))
        });
        self.users.fetch_sub(1, Ordering::SeqCst);
        served.flatten()
    }
}

/// The registration of a server, which lasts as long as this lives.
///
/// Dropping it waits for the threads that are being served. They must not wait for the dropping thread.
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

/// Registers `serve`, which the handler calls in a thread that faults in `addresses`.
pub(crate) fn register(
    addresses: Range<usize>,
    serve: Arc<dyn Serve>,
) -> Result<Registration, RegisterError> {
    debug_assert!(addresses.start != 0);
    let generation = Generation::current()?;
    install_once()?;
    let index = SLOTS.iter().position(|slot| slot.take(generation)).ok_or(RegisterError::Full)?;
    let slot = &SLOTS[index];
    slot.server.store(Box::into_raw(Box::new(serve)), Ordering::Release);
    slot.end.store(addresses.end, Ordering::SeqCst);
    slot.start.store(addresses.start, Ordering::SeqCst);
    SLOTS_USED.fetch_max(index + 1, Ordering::SeqCst);
    Ok(Registration(slot))
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::SeqCst);
        while self.0.users.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        let server = self.0.server.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: made by `register` and taken once; no thread uses it any more.
        drop(unsafe { Box::from_raw(server) });
        self.0.owner.store(0, Ordering::Release);
    }
}

/// The process's action before this handler was installed.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
static INSTALLED: Mutex<bool> = Mutex::new(false);
/// The default action has replaced the previous one: the kernel would have reset it (`SA_RESETHAND`), or the
/// previous handler has reset it itself, as the handler of Rust's runtime does.
static PREVIOUS_IS_DEFAULT: AtomicBool = AtomicBool::new(false);

fn install_once() -> Result<(), SysError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        service_stack::prepare()?;
        let before = current_action()?;
        // Set before the handler can run. If another thread installs a handler between the two
        // calls, that handler is lost.
        let _ = PREVIOUS.set(before);
        install_handler()?;
        *installed = true;
    }
    Ok(())
}

/// Installs the handler for SIGBUS.
fn install_handler() -> Result<(), SysError> {
    let mut action = default_action();
    action.sa_sigaction = on_sigbus as extern "C-unwind" fn(_, _, _) as usize;
    // SIGINFO passes the address. RESTART: a SIGBUS sent by a process must not interrupt system calls.
    // ONSTACK: see the head of this file.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    action.sa_mask = signals::set(signals::ALL);
    // SAFETY: a complete action, whose handler is never unloaded: `register` has called
    // `Generation::current`, which prevents that.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(SysError::last("sigaction(SIGBUS)")),
    }
}

fn default_action() -> libc::sigaction {
    // SAFETY: zero bytes are the default action with an empty mask.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn current_action() -> Result<libc::sigaction, SysError> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sets no action; the call writes the current one to `action`.
    match unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), action.as_mut_ptr()) } {
        // SAFETY: written by the call.
        0 => Ok(unsafe { action.assume_init() }),
        _ => Err(SysError::last("sigaction(SIGBUS)")),
    }
}

/// Whether this is the process's current handler for SIGBUS. If not, the current handler must call this one
/// for each SIGBUS that it does not handle itself.
pub(crate) fn is_installed() -> bool {
    let ours = on_sigbus as extern "C-unwind" fn(_, _, _) as usize;
    current_action().is_ok_and(|action| action.sa_sigaction == ours)
}

/// The arguments of a signal handler.
#[derive(Clone, Copy)]
struct HandlerArgs {
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
}

/// A SIGBUS, and the previous handler if the library does not serve it.
struct Fault {
    args: HandlerArgs,
    /// The thread's errno before the signal.
    errno: c_int,
    previous: Option<Previous>,
}

/// The previous handler, and how to call it.
struct Previous {
    /// A function of three arguments if `takes_info`, else of one argument.
    handler: usize,
    takes_info: bool,
    /// The signals that are blocked while it runs.
    mask: u64,
    /// The thread's errno before the signal.
    errno: c_int,
}

// Only small frames: they lie on the stack that the kernel has chosen.
extern "C-unwind" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let args = HandlerArgs { signal, info, context };
    // SAFETY: the thread's own errno.
    let errno = unsafe { libc::__errno_location().read() };
    let mut fault = Fault { args, errno, previous: None };
    service_stack::run(serve, &mut fault);
    if let Some(previous) = &mut fault.previous {
        // SAFETY: `serve` has chosen the handler, for these arguments of the kernel.
        unsafe { previous.call(args) };
        service_stack::run(after_previous, previous);
    }
}

/// Serves a fault, or chooses the handler to call. Runs on a service stack.
extern "C" fn serve(fault: &mut Fault) {
    let _errno = Errno(fault.errno);
    let _uncancellable = Uncancellable::new();
    // SAFETY: the kernel passes a complete siginfo to a handler with SA_SIGINFO.
    let code = unsafe { (*fault.args.info).si_code };
    // Other codes: a memory error (BUS_MCEERR_AR, also for UFFDIO_POISON), a misaligned access, or a
    // signal sent by a process.
    let served = code == libc::BUS_ADRERR && {
        // SAFETY: as above; with this code the field holds an address.
        let address = unsafe { (*fault.args.info).si_addr() }.addr();
        let slots = &SLOTS[..SLOTS_USED.load(Ordering::SeqCst)];
        slots.iter().find_map(|slot| slot.serve(address)) == Some(Served::Retry)
    };
    if !served {
        fault.previous = pass_on(fault, code);
    }
}

/// Acts as the kernel would without this handler, except that it returns the previous handler to call.
fn pass_on(fault: &Fault, code: c_int) -> Option<Previous> {
    let Fault { args, errno, .. } = *fault;
    let action = PREVIOUS.get()?;
    // A failed access of this thread, not a signal sent by a process or by the kernel for memory that
    // this thread has not touched (BUS_MCEERR_AO).
    let access =
        [libc::BUS_ADRALN, libc::BUS_ADRERR, libc::BUS_OBJERR, libc::BUS_MCEERR_AR].contains(&code);
    let is_default = PREVIOUS_IS_DEFAULT.load(Ordering::Relaxed);
    match if is_default { libc::SIG_DFL } else { action.sa_sigaction } {
        libc::SIG_IGN if !access => None,
        libc::SIG_DFL | libc::SIG_IGN => {
            // As in the kernel, a process cannot ignore a failed access. The access fails again when this
            // handler returns, and the default action ends the process.
            let default = default_action();
            // SAFETY: a complete action.
            unsafe { libc::sigaction(args.signal, &raw const default, ptr::null_mut()) };
            if !access {
                // SAFETY: takes an integer. The kernel delivers the signal when it is unblocked.
                unsafe { libc::raise(args.signal) };
            }
            None
        }
        handler => {
            if action.sa_flags & libc::SA_RESETHAND != 0 {
                PREVIOUS_IS_DEFAULT.store(true, Ordering::Relaxed);
            }
            // SAFETY: the kernel passes the interrupted thread's context.
            let interrupted = unsafe { &(*args.context.cast::<libc::ucontext_t>()).uc_sigmask };
            let deferred = action.sa_flags & libc::SA_NODEFER == 0;
            let own = if deferred { signals::bit(args.signal) } else { 0 };
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
    /// Calls the previous handler as the kernel would.
    ///
    /// # Safety
    ///
    /// `on_sigbus` calls this, with its own arguments.
    #[inline(never)]
    unsafe fn call(&self, HandlerArgs { signal, info, context }: HandlerArgs) {
        let before = signals::set_mask(self.mask);
        if self.takes_info {
            // SAFETY: an action with SA_SIGINFO holds a function of three arguments.
            let handler: extern "C-unwind" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                unsafe { core::mem::transmute(self.handler) };
            handler(signal, info, context);
        } else {
            // SAFETY: an action without SA_SIGINFO holds a function of one argument.
            let handler: extern "C-unwind" fn(c_int) =
                unsafe { core::mem::transmute(self.handler) };
            handler(signal);
        }
        // A handler that was installed after this one may have called it, and continues with its own mask.
        signals::set_mask(before);
    }
}

/// Runs after the previous handler has returned, on a service stack.
extern "C" fn after_previous(previous: &mut Previous) {
    let _errno = Errno(previous.errno);
    if current_action().is_ok_and(|action| action.sa_sigaction == libc::SIG_DFL) {
        // The next SIGBUS that the library does not serve gets the default action.
        PREVIOUS_IS_DEFAULT.store(true, Ordering::Relaxed);
        let _ = install_handler();
    }
}

/// Sets the thread's errno to this number when dropped.
struct Errno(c_int);

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: the thread's own errno.
        unsafe { libc::__errno_location().write(self.0) };
    }
}
