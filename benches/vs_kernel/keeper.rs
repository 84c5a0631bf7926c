//! Swap on a compressed device of our own, and its removal whatever becomes of the benchmark.
//!
//! The device is set up by a second process, the keeper, which takes it away again when its standard
//! input ends. That happens when [`Swap`] is dropped, and just as well when the benchmark panics or
//! is killed by any signal. The keeper has a process group of its own and ignores the signals that
//! ask it to end.

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

/// A device that is swapped to as long as this lives.
#[derive(Debug)]
pub(crate) struct Swap {
    keeper: Child,
    device: String,
    pub(crate) algorithm: String,
}

impl Swap {
    /// Room for `pages` pages. The error says in words what stands in the way.
    pub(crate) fn start(pages: usize) -> Result<Self, Trouble> {
        // Only this process may hold the other end of the keeper's input; std opens pipes so that
        // programs that are started later do not inherit them.
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

    /// Bytes on the device, as the kernel counts its swap.
    pub(crate) fn used_bytes(&self) -> io::Result<usize> {
        let swaps = fs::read_to_string("/proc/swaps")?;
        let ours = format!("/dev/{}", self.device);
        let line = swaps.lines().find(|line| line.split_whitespace().next() == Some(&ours));
        let used = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
        used.map(|kib| kib << 10).ok_or_else(|| io::Error::other(format!("{ours} is not in use")))
    }

    /// Bytes that were swapped, and bytes of memory that the device takes for them.
    pub(crate) fn compression(&self) -> io::Result<(usize, usize)> {
        let stat = fs::read_to_string(Path::new("/sys/block").join(&self.device).join("mm_stat"))?;
        let mut figures = stat.split_whitespace().map_while(|figure| figure.parse().ok());
        figures.next().zip(figures.nth(1)).ok_or_else(|| io::Error::other("mm_stat is not known"))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It says itself what it could not take away.
        let _ = self.keeper.wait();
    }
}

/// The keeper's life.
pub(crate) fn keep(bytes: usize) -> Result<(), Trouble> {
    kernel::outlive_signals();
    let device = match Device::start(bytes) {
        Ok(device) => device,
        Err(reason) => return Ok(writeln!(io::stdout(), "{reason}")?),
    };
    writeln!(io::stdout(), "{READY} {} {}", device.name(), device.algorithm()?)?;
    // Nothing is ever sent.
    io::stdin().read_to_end(&mut Vec::new())?;
    device.remove()
}

/// A zram device that was added by this process. It is removed when dropped, however far it came.
#[derive(Debug)]
struct Device {
    number: usize,
    /// The kernel's number for this disk, which no other disk has or had (`diskseq`, Linux 5.15). A device
    /// that was removed by another program leaves `number` to the next one.
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
            // It goes on with the kernel's choice, which is in the report.
            writeln!(io::stderr(), "{}: no lz4: {e}", setting.display())?;
        }
        // Much more than is used, which costs nothing: where few slots are free the kernel searches.
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

    /// Fails if another device has the number by now.
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

    /// The one in brackets.
    fn algorithm(&self) -> Result<String, Trouble> {
        let all = fs::read_to_string(self.sys("comp_algorithm"))?;
        let chosen = all.split(['[', ']']).nth(1).unwrap_or("unknown");
        Ok(chosen.to_owned())
    }

    fn remove(mut self) -> Result<(), Trouble> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<(), Trouble> {
        self.removed = true;
        self.check_identity()?;
        if self.swapped_to {
            kernel::swap_off(&self.node())
                .map_err(|e| format!("swapoff {}: {e}", self.node().display()))?;
        }
        // Programs that watch devices may have it open for a moment.
        patiently(|| self.check_identity().and_then(|()| self.set("reset", "1")))?;
        let control = Path::new(CONTROL).join("hot_remove");
        let number = self.number.to_string();
        patiently(|| self.check_identity().and_then(|()| Ok(fs::write(&control, &number)?)))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if !self.removed
            && let Err(e) = self.take_away()
        {
            // Where this cannot be written, there is nobody to read it either.
            let _ = writeln!(io::stderr(), "{} stays behind: {e}", self.name());
        }
    }
}

fn patiently(mut attempt: impl FnMut() -> Result<(), Trouble>) -> Result<(), Trouble> {
    for _ in 0..50 {
        if attempt().is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    attempt()
}

/// The first page of a swap area (`union swap_header` of the kernel): 1024 bytes for a boot loader,
/// then version, last page and number of bad pages, and the signature in the last ten bytes.
fn header(bytes: usize) -> [u8; PAGE] {
    const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";
    let last = u32::try_from(bytes / PAGE - 1).unwrap_or(u32::MAX);
    let mut page = [0; PAGE];
    page[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&last.to_ne_bytes());
    page[PAGE - SIGNATURE.len()..].copy_from_slice(SIGNATURE);
    page
}
