//! Swap on a zram device of the benchmark's own. A second process removes the device, however the benchmark
//! ends.
//!
//! This process, the keeper (not an arena's keeper thread), sets up the device, and removes it when its
//! standard input ends. That happens when [`Swap`] is dropped, and also when the benchmark panics or a signal
//! kills it. The keeper has a process group of its own and ignores the signals that ask a process to end.

use crate::Trouble;
use crate::common::PAGE;
use crate::kernel;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const CONTROL: &str = "/sys/class/zram-control";
const READY: &str = "ready";

/// A swap device that exists as long as this value.
#[derive(Debug)]
pub(crate) struct Swap {
    keeper: Child,
    device: String,
    pub(crate) algorithm: String,
}

impl Swap {
    /// Creates a device for `pages` pages. The error says in words why that failed.
    pub(crate) fn start(pages: usize) -> Result<Self, Trouble> {
        // Only this process may hold the other end of the keeper's input. Std opens pipes close-on-exec,
        // so programs that are started later do not inherit it.
        let mut keeper = Command::new(std::env::current_exe()?)
            .args(["--keep-swap", &(pages * PAGE).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut answer = String::new();
        BufReader::new(keeper.stdout.take().ok_or("no pipe")?).read_line(&mut answer)?;
        match answer.trim_end().split(' ').collect::<Vec<_>>()[..] {
            [READY, device, algorithm] => {
                Ok(Self { keeper, device: device.to_owned(), algorithm: algorithm.to_owned() })
            }
            _ => {
                drop(keeper.stdin.take());
                keeper.wait()?;
                Err(answer.trim_end().into())
            }
        }
    }

    /// Bytes swapped to the device, as the kernel counts them.
    pub(crate) fn used_bytes(&self) -> io::Result<usize> {
        let swaps = fs::read_to_string("/proc/swaps")?;
        let ours = format!("/dev/{}", self.device);
        let line = swaps.lines().find(|line| line.split_whitespace().next() == Some(&ours));
        let used = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
        used.map(|kib| kib << 10).ok_or_else(|| io::Error::other(format!("{ours} is not in use")))
    }

    /// Bytes that were swapped, and bytes of memory that the device uses for them.
    pub(crate) fn compression(&self) -> io::Result<(usize, usize)> {
        let stat = fs::read_to_string(Path::new("/sys/block").join(&self.device).join("mm_stat"))?;
        let mut figures = stat.split_whitespace().map_while(|figure| figure.parse().ok());
        figures.next().zip(figures.nth(1)).ok_or_else(|| io::Error::other("mm_stat is not known"))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // The keeper itself reports a device that it could not remove.
        let _ = self.keeper.wait();
    }
}

/// The main function of the keeper.
pub(crate) fn keep(bytes: usize) -> Result<(), Trouble> {
    kernel::outlive_signals();
    let device = match Device::start(bytes) {
        Ok(device) => device,
        Err(reason) => return Ok(writeln!(io::stdout(), "{reason}")?),
    };
    writeln!(io::stdout(), "{READY} {} {}", device.name(), device.algorithm()?)?;
    // The benchmark sends nothing: this waits for the end of the input.
    io::stdin().read_to_end(&mut Vec::new())?;
    device.remove()
}

/// A zram device that this process added. Dropping removes it, whether or not its setup was complete.
#[derive(Debug)]
struct Device {
    number: usize,
    /// The kernel's sequence number of this disk, which it never uses again (`diskseq`, Linux 5.15). If
    /// another program removes the device, the next device may get the same `number`.
    sequence: Option<String>,
    swapped_to: bool,
    removed: bool,
}

impl Device {
    fn start(bytes: usize) -> Result<Self, Trouble> {
        let number = fs::read_to_string(Path::new(CONTROL).join("hot_add"))
            .map_err(|e| format!("{CONTROL}/hot_add: {e}; it takes root and the module zram"))?;
        let number = number.trim().parse()?;
        let mut device = Self { number, sequence: None, swapped_to: false, removed: false };
        device.sequence = device.read_sequence();
        let setting = device.sys("comp_algorithm");
        if let Err(e) = fs::write(&setting, "lz4") {
            // The keeper continues with the kernel's default, which the report names.
            writeln!(io::stderr(), "{}: no lz4: {e}", setting.display())?;
        }
        // Much more than the benchmark uses. That costs nothing, and with few free slots the kernel would
        // search for them.
        device.set("disksize", &((bytes * 4).max(1 << 30)).to_string())?;
        let node = device.node();
        fs::OpenOptions::new()
            .write(true)
            .open(&node)
            .and_then(|mut file| {
                let size = fs::read_to_string(device.sys("disksize"))?;
                file.write_all(&header(size.trim().parse().map_err(io::Error::other)?))?;
                file.sync_all()
            })
            .map_err(|e| format!("{}: {e}", node.display()))?;
        kernel::swap_on(&node).map_err(|e| format!("swapon {}: {e}", node.display()))?;
        device.swapped_to = true;
        Ok(device)
    }

    fn name(&self) -> String {
        format!("zram{}", self.number)
    }

    fn node(&self) -> PathBuf {
        Path::new("/dev").join(self.name())
    }

    fn sys(&self, file: &str) -> PathBuf {
        Path::new("/sys/block").join(self.name()).join(file)
    }

    fn read_sequence(&self) -> Option<String> {
        fs::read_to_string(self.sys("diskseq")).ok()
    }

    /// Fails if another device has the number now.
    fn check_identity(&self) -> Result<(), Trouble> {
        if self.read_sequence() == self.sequence {
            Ok(())
        } else {
            Err(format!("{} was removed and replaced by another program", self.name()).into())
        }
    }

    fn set(&self, file: &str, value: &str) -> Result<(), Trouble> {
        let path = self.sys(file);
        fs::write(&path, value).map_err(|e| format!("{}: {e}", path.display()).into())
    }

    /// The algorithm in use: the kernel's file has it in brackets.
    fn algorithm(&self) -> Result<String, Trouble> {
        let all = fs::read_to_string(self.sys("comp_algorithm"))?;
        let chosen = all.split(['[', ']']).nth(1).unwrap_or("unknown");
        Ok(chosen.to_owned())
    }

    fn remove(mut self) -> Result<(), Trouble> {
        self.try_remove()
    }

    fn try_remove(&mut self) -> Result<(), Trouble> {
        self.removed = true;
        self.check_identity()?;
        if self.swapped_to {
            kernel::swap_off(&self.node())
                .map_err(|e| format!("swapoff {}: {e}", self.node().display()))?;
        }
        // Programs that watch devices may have it open for a short time.
        retry(|| self.check_identity().and_then(|()| self.set("reset", "1")))?;
        let control = Path::new(CONTROL).join("hot_remove");
        let number = self.number.to_string();
        retry(|| self.check_identity().and_then(|()| Ok(fs::write(&control, &number)?)))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if !self.removed
            && let Err(e) = self.try_remove()
        {
            // If standard error is closed, there is no other place for the message.
            let _ = writeln!(io::stderr(), "{} stays behind: {e}", self.name());
        }
    }
}

fn retry(mut attempt: impl FnMut() -> Result<(), Trouble>) -> Result<(), Trouble> {
    for _ in 0..50 {
        if attempt().is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    attempt()
}

/// The first page of a swap area (`union swap_header` of the kernel): 1024 bytes for a boot loader,
/// then the version, last page and number of bad pages, and the signature in the last ten bytes.
fn header(bytes: usize) -> [u8; PAGE] {
    const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";
    let last = u32::try_from(bytes / PAGE - 1).unwrap_or(u32::MAX);
    let mut page = [0; PAGE];
    page[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&last.to_ne_bytes());
    page[PAGE - SIGNATURE.len()..].copy_from_slice(SIGNATURE);
    page
}
