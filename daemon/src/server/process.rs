//! What the kernel knows about this process, for INFO. What it does not tell is shown as zero.

use std::fs;

/// Bytes of memory.
#[derive(Clone, Copy, Default, Debug)]
pub struct Memory {
    pub rss: u64,
    pub peak_rss: u64,
    pub system: u64,
}

/// Seconds of processor time.
#[derive(Clone, Copy, Default, Debug)]
pub struct CpuTimes {
    pub user: f64,
    pub system: f64,
}

pub struct Process;

/// Ticks in a second of `/proc/self/stat`; the kernel's interface fixes it on all the machines we run on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    pub fn memory() -> Memory {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Memory {
            rss: kib_field(&status, "VmRSS:"),
            peak_rss: kib_field(&status, "VmHWM:"),
            system: kib_field(&machine, "MemTotal:"),
        }
    }

    pub fn cpu_times() -> CpuTimes {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The program's name may hold blanks; the fields after its closing parenthesis are numbers.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
        let seconds =
            |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0) / TICKS_PER_SECOND;
        CpuTimes { user: seconds(11), system: seconds(12) }
    }

    pub fn os() -> String {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
    }

    pub fn executable() -> String {
        std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

fn kib_field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let memory = Process::memory();
        assert!(memory.rss > 100_000 && memory.peak_rss >= memory.rss && memory.system > memory.rss, "{memory:?}");
        let began = std::time::Instant::now();
        while began.elapsed().as_millis() < 50 {
            std::hint::spin_loop();
        }
        assert!(Process::cpu_times().user > 0.0);
        assert!(Process::os().starts_with("Linux "));
    }
}
