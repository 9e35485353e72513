//! What the machine itself can do: the limits that no system passes.
//!
//! Guards: the same lengths and the same disk as the workloads beside which they stand; the file was written before, so that no
//! write finds an unwritten extent.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Group, Size};
use crate::child::Reporter;
use crate::data::{Choice, Numbers};
use crate::measure::run;
use crate::store::Outcome;

const BLOCK: usize = 4096;
const FILE_BYTES: u64 = 64 << 20;
const READ_FILE_BYTES: u64 = 1 << 30;

pub fn disk(group: Group, size: Size, dir: &Path, reporter: &mut Reporter) -> Outcome<()> {
    std::fs::create_dir_all(dir).map_err(fault)?;
    reporter
        .settings("O_DIRECT on a file that was written before; durable: pwritev2(RWF_DSYNC), one at a time".to_owned());
    match group {
        Group::Durable => {
            let file = zeroed(&dir.join("raw"), FILE_BYTES)?;
            // As many bytes as the frames of so many puts of 16 + 100 bytes have, and as many puts in one write.
            for (name, blocks, puts) in [
                ("put_durable_1", 1, 1),
                ("put_durable_8", 1, 8),
                ("put_durable_64", 3, 64),
                ("put_durable_async64", 3, 64),
                ("batch100_durable", 4, 100),
            ] {
                reporter.measure(name, || {
                    run(1, size.times(), |_| {
                        let buffer = Aligned::filled(blocks * BLOCK);
                        let (file, mut at) = (&file, 0);
                        Ok(move || {
                            write_dsync(file, at, buffer.bytes())?;
                            at = (at + (blocks * BLOCK) as u64) % (FILE_BYTES - (blocks * BLOCK) as u64);
                            at -= at % BLOCK as u64;
                            Ok(puts)
                        })
                    })
                    .map(Some)
                });
            }
        }
        Group::Cold => {
            let bytes = if size == Size::Tiny { FILE_BYTES } else { READ_FILE_BYTES };
            let file = zeroed(&dir.join("raw"), bytes)?;
            for (name, threads) in [("get_cold_1", 1), ("get_cold_4", 4)] {
                reporter.measure(name, || {
                    run(threads, size.times(), |thread| {
                        let mut buffer = Aligned::filled(BLOCK);
                        let mut numbers = Numbers::new(Choice::Uniform, bytes / BLOCK as u64, thread);
                        let file = &file;
                        Ok(move || read(file, numbers.draw() * BLOCK as u64, buffer.bytes_mut()).map(|()| 1))
                    })
                    .map(Some)
                });
            }
        }
        Group::Recovery => {
            let bytes = size.recovery_bytes().max(FILE_BYTES);
            let file = zeroed(&dir.join("raw"), bytes)?;
            reporter.measure("recovery", || {
                run(1, size.times(), |_| {
                    let mut buffer = Aligned::filled(1 << 20);
                    let (file, mut at) = (&file, 0);
                    Ok(move || {
                        read(file, at, buffer.bytes_mut())?;
                        at = (at + (1 << 20)) % bytes;
                        Ok(1 << 20)
                    })
                })
                .map(Some)
            });
        }
        _ => return Err("no limit of the disk belongs to it".to_owned()),
    }
    Ok(())
}

/// A chain through as much memory as the keys take, each step of which misses: a get has two or three such steps.
pub fn memory(group: Group, size: Size, reporter: &mut Reporter) -> Outcome<()> {
    reporter.settings(
        "one dependent load for each, over 256 bytes for each key, in huge pages where there are some".to_owned(),
    );
    let label = if group == Group::Small { "1m" } else { "10m" };
    let chain = Chain::new(size.keys(group))?;
    for threads in [1, 4] {
        reporter.measure(&format!("get_{label}_uniform_{threads}"), || {
            run(threads, size.times(), |thread| {
                let mut at = (thread * 7919) % chain.len;
                let chain = &chain;
                Ok(move || {
                    // Several for each reading of the clock, which would cost more than the load.
                    for _ in 0..16 {
                        at = chain.next(at);
                    }
                    std::hint::black_box(at);
                    Ok(16)
                })
            })
            .map(Some)
        });
    }
    reporter.measure(&format!("multi_get16_{label}"), || {
        run(1, size.times(), |thread| {
            let mut numbers = Numbers::new(Choice::Uniform, chain.len, thread);
            let chain = &chain;
            Ok(move || {
                // Independent of each other: the processor overlaps them.
                let sum = (0..16).fold(0, |sum: u64, _| sum.wrapping_add(chain.next(numbers.draw())));
                std::hint::black_box(sum);
                Ok(16)
            })
        })
        .map(Some)
    });
    Ok(())
}

/// A cycle through all places (Sattolo's algorithm), one in each 256 bytes.
struct Chain {
    places: Aligned,
    len: u64,
}

const STRIDE: usize = 256;

impl Chain {
    fn new(len: u64) -> Outcome<Chain> {
        let mut places = Aligned::filled(len as usize * STRIDE);
        places.want_huge_pages();
        let mut order: Vec<u32> = (0..u32::try_from(len).map_err(fault)?).collect();
        let mut numbers = Numbers::new(Choice::Uniform, len, 1);
        for i in (1..order.len()).rev() {
            order.swap(i, numbers.below(i as u64) as usize);
        }
        for (i, next) in order.into_iter().enumerate() {
            places.bytes_mut()[i * STRIDE..][..8].copy_from_slice(&u64::from(next).to_ne_bytes());
        }
        Ok(Chain { places, len })
    }

    fn next(&self, at: u64) -> u64 {
        let bytes = &self.places.bytes()[at as usize * STRIDE..][..8];
        u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
    }
}

fn fault(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A file full of something, on disk.
fn zeroed(path: &Path, bytes: u64) -> Outcome<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .map_err(fault)?;
    if file.metadata().map_err(fault)?.len() != bytes {
        let buffer = Aligned::filled(1 << 20);
        for at in (0..bytes).step_by(1 << 20) {
            write(&file, at, buffer.bytes(), 0)?;
        }
        file.set_len(bytes).map_err(fault)?;
    }
    file.sync_all().map_err(fault)?;
    Ok(file)
}

fn write_dsync(file: &File, at: u64, bytes: &[u8]) -> Outcome<()> {
    write(file, at, bytes, libc::RWF_DSYNC)
}

fn write(file: &File, at: u64, bytes: &[u8], flags: libc::c_int) -> Outcome<()> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `part` describes `bytes`, which outlives the call and is only read.
    let done = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, at as libc::off_t, flags) };
    whole(done, bytes.len())
}

fn read(file: &File, at: u64, bytes: &mut [u8]) -> Outcome<()> {
    // SAFETY: the buffer is as long as said and outlives the call.
    let done = unsafe { libc::pread(file.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), at as libc::off_t) };
    whole(done, bytes.len())
}

fn whole(done: isize, len: usize) -> Outcome<()> {
    match usize::try_from(done) {
        Ok(n) if n == len => Ok(()),
        Ok(n) => Err(format!("{n} of {len} bytes")),
        Err(_) => Err(std::io::Error::last_os_error().to_string()),
    }
}

/// Have the kernel write and drop what it holds of a file.
pub fn drop_pages(path: &Path) -> Outcome<()> {
    let file = File::open(path).map_err(fault)?;
    file.sync_all().map_err(fault)?;
    // SAFETY: takes no pointers.
    let done = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(done).to_string()) }
}

/// Memory aligned as direct I/O and huge pages want it.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

const ALIGN: usize = 2 << 20;

impl Aligned {
    fn filled(len: usize) -> Aligned {
        // Small buffers need only a block's alignment.
        let align = if len >= ALIGN { ALIGN } else { BLOCK };
        let memory: Vec<u8> = vec![0; len + align];
        let start = memory.as_ptr().align_offset(align);
        let mut aligned = Aligned { memory, start, len };
        if len < ALIGN {
            aligned.bytes_mut().fill(0x5a);
        }
        aligned
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    /// Only a wish.
    fn want_huge_pages(&mut self) {
        let bytes = self.bytes_mut();
        // SAFETY: a range of this process's own memory; its contents stay.
        unsafe { libc::madvise(bytes.as_mut_ptr().cast(), bytes.len(), libc::MADV_HUGEPAGE) };
    }
}
