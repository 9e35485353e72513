//! The workloads: their names, what each does, and which systems take part.
//!
//! Workloads that share a loaded database are a group; one process measures a group of one system.

pub mod limits;
pub mod recovery;
pub mod store;
pub mod transactions;

use std::time::Duration;

use crate::measure::Times;

/// Workloads measured by one process, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Durable,
    NoWait,
    Small,
    Large,
    Cold,
    Ycsb,
    Transactions,
    Recovery,
    Python,
    Server,
}

impl Group {
    pub const ALL: [Group; 10] = [
        Group::Durable,
        Group::NoWait,
        Group::Small,
        Group::Large,
        Group::Cold,
        Group::Ycsb,
        Group::Transactions,
        Group::Recovery,
        Group::Python,
        Group::Server,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Group::Durable => "durable",
            Group::NoWait => "nowait",
            Group::Small => "get1m",
            Group::Large => "get10m",
            Group::Cold => "cold",
            Group::Ycsb => "ycsb",
            Group::Transactions => "transactions",
            Group::Recovery => "recovery",
            Group::Python => "python",
            Group::Server => "server",
        }
    }

    /// Ours first; limits of the machine last.
    pub fn systems(self) -> &'static [&'static str] {
        match self {
            Group::Durable => &["corering", "corering-c", "rocksdb", "lmdb", "redb", "fjall", "disk"],
            Group::NoWait => &["corering", "corering-c", "rocksdb", "lmdb", "redb", "fjall"],
            Group::Small | Group::Large => {
                &["corering", "corering-tables", "corering-c", "rocksdb", "lmdb", "redb", "fjall", "memory"]
            }
            Group::Cold => &["corering-tables", "rocksdb", "lmdb", "redb", "fjall", "disk"],
            Group::Ycsb => &["corering", "rocksdb", "lmdb", "redb", "fjall"],
            Group::Transactions => &["corering", "corering-kept", "rocksdb", "rocksdb-optimistic", "etcd"],
            Group::Recovery => &["corering", "rocksdb", "lmdb", "redb", "fjall", "disk"],
            Group::Python => &["corering", "lmdb", "rocksdict"],
            Group::Server => &["corering-sync", "corering-none", "redis-always", "redis-everysec", "redis-none"],
        }
    }
}

/// Limits of the machine are no peers.
pub fn is_limit(system: &str) -> bool {
    matches!(system, "disk" | "memory")
}

pub fn is_ours(system: &str) -> bool {
    system.starts_with("corering")
}

pub struct Workload {
    pub name: &'static str,
    pub group: Group,
    /// What is counted.
    pub unit: &'static str,
    pub what: &'static str,
}

const fn workload(name: &'static str, group: Group, unit: &'static str, what: &'static str) -> Workload {
    Workload { name, group, unit, what }
}

pub const WORKLOADS: &[Workload] = &[
    workload("put_durable_1", Group::Durable, "puts", "durable puts, 1 blocking thread"),
    workload("put_durable_8", Group::Durable, "puts", "durable puts, 8 blocking threads"),
    workload("put_durable_64", Group::Durable, "puts", "durable puts, 64 blocking threads"),
    workload("put_durable_async64", Group::Durable, "puts", "durable puts, 1 thread with 64 under way"),
    workload("batch100_durable", Group::Durable, "puts", "durable atomic batches of 100 puts, 1 thread"),
    workload("put_nowait_1", Group::NoWait, "puts", "puts that do not wait for the disk, 1 thread"),
    workload("batch100_nowait", Group::NoWait, "puts", "atomic batches of 100 puts that do not wait, 1 thread"),
    workload("get_1m_uniform_1", Group::Small, "gets", "hot gets of 1 million keys, uniform, 1 thread"),
    workload("get_1m_uniform_4", Group::Small, "gets", "hot gets of 1 million keys, uniform, 4 threads"),
    workload("get_1m_zipf_1", Group::Small, "gets", "hot gets of 1 million keys, Zipf 0.99, 1 thread"),
    workload("get_1m_zipf_4", Group::Small, "gets", "hot gets of 1 million keys, Zipf 0.99, 4 threads"),
    workload("multi_get16_1m", Group::Small, "keys", "multi_get of 16 of 1 million keys, uniform, 1 thread"),
    workload("scan_1m", Group::Small, "rows", "scans of all of 1 million keys in order, 1 thread"),
    workload("get_10m_uniform_1", Group::Large, "gets", "hot gets of 10 million keys, uniform, 1 thread"),
    workload("get_10m_uniform_4", Group::Large, "gets", "hot gets of 10 million keys, uniform, 4 threads"),
    workload("get_10m_zipf_1", Group::Large, "gets", "hot gets of 10 million keys, Zipf 0.99, 1 thread"),
    workload("get_10m_zipf_4", Group::Large, "gets", "hot gets of 10 million keys, Zipf 0.99, 4 threads"),
    workload("multi_get16_10m", Group::Large, "keys", "multi_get of 16 of 10 million keys, uniform, 1 thread"),
    workload("scan_10m", Group::Large, "rows", "scans of all of 10 million keys in order, 1 thread"),
    workload("get_cold_1", Group::Cold, "gets", "gets of what is not in the page cache, 1 thread"),
    workload("get_cold_4", Group::Cold, "gets", "gets of what is not in the page cache, 4 threads"),
    workload(
        "ycsb_a",
        Group::Ycsb,
        "operations",
        "YCSB A: half reads, half updates, Zipf; 1000-byte values, 4 threads, not waiting",
    ),
    workload("ycsb_b", Group::Ycsb, "operations", "YCSB B: 95 % reads, 5 % updates, Zipf"),
    workload("ycsb_c", Group::Ycsb, "operations", "YCSB C: reads, Zipf"),
    workload("ycsb_d", Group::Ycsb, "operations", "YCSB D: 95 % reads of what is new, 5 % insertions"),
    workload("ycsb_e", Group::Ycsb, "operations", "YCSB E: 95 % scans of 1 to 100 rows, 5 % insertions"),
    workload("ycsb_f", Group::Ycsb, "operations", "YCSB F: half reads, half reads with an update of what was read"),
    workload(
        "ycsbt",
        Group::Transactions,
        "transactions",
        "YCSB-T: half reads of two accounts, half transfers, Zipf; durable, 8 threads",
    ),
    workload("ycsbt_1", Group::Transactions, "transactions", "YCSB-T, 1 thread"),
    workload(
        "tpcc",
        Group::Transactions,
        "transactions",
        "TPC-C's new-order and payment, half of each; durable, 8 threads",
    ),
    workload("tpcc_1", Group::Transactions, "transactions", "TPC-C's new-order and payment, 1 thread"),
    workload("recovery", Group::Recovery, "bytes", "opening after a kill, with 1 GB of keys and values in the log"),
    workload("python_put_durable", Group::Python, "puts", "Python: durable puts, 1 thread"),
    workload("python_put_nowait", Group::Python, "puts", "Python: puts that do not wait, 1 thread"),
    workload("python_get", Group::Python, "gets", "Python: hot gets of 200 thousand keys, uniform, 1 thread"),
    workload("server_set_p1", Group::Server, "requests", "SET by redis-benchmark, 50 connections"),
    workload("server_set_p16", Group::Server, "requests", "SET, 50 connections, 16 in a pipeline"),
    workload("server_get_p1", Group::Server, "requests", "GET, 50 connections"),
    workload("server_get_p16", Group::Server, "requests", "GET, 50 connections, 16 in a pipeline"),
    workload("server_mset_p1", Group::Server, "requests", "MSET of 10 keys, 50 connections"),
    workload("server_mset_p16", Group::Server, "requests", "MSET of 10 keys, 50 connections, 16 in a pipeline"),
    workload("server_incr_p1", Group::Server, "requests", "INCR, 50 connections"),
    workload("server_incr_p16", Group::Server, "requests", "INCR, 50 connections, 16 in a pipeline"),
];

pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

/// How much of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// To see that the harness works.
    Tiny,
    Quick,
    Full,
}

impl Size {
    pub fn parse(name: &str) -> Option<Size> {
        [Size::Tiny, Size::Quick, Size::Full].into_iter().find(|size| size.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Size::Tiny => "tiny",
            Size::Quick => "quick",
            Size::Full => "full",
        }
    }

    fn pick<T>(self, tiny: T, quick: T, full: T) -> T {
        match self {
            Size::Tiny => tiny,
            Size::Quick => quick,
            Size::Full => full,
        }
    }

    pub fn times(self) -> Times {
        let (warm, count) = self.pick((20, 60), (150, 500), (500, 2500));
        Times { warm: Duration::from_millis(warm), count: Duration::from_millis(count) }
    }

    /// How often each system has its turn in a group.
    pub fn rounds(self, group: Group) -> u32 {
        match group {
            Group::Large | Group::Cold | Group::Recovery => self.pick(1, 1, 3),
            Group::Ycsb | Group::Transactions => self.pick(1, 1, 3),
            _ => self.pick(1, 3, 5),
        }
    }

    /// Keys of a loaded database.
    pub fn keys(self, group: Group) -> u64 {
        match group {
            Group::Large => self.pick(2000, 10_000_000, 10_000_000),
            Group::Cold => self.pick(2000, 2_000_000, 10_000_000),
            Group::Ycsb => self.pick(2000, 100_000, 1_000_000),
            Group::Python => self.pick(2000, 200_000, 200_000),
            _ => self.pick(2000, 1_000_000, 1_000_000),
        }
    }

    /// Groups that a run without names leaves out.
    pub fn leaves_out(self, group: Group) -> bool {
        match self {
            Size::Full => false,
            Size::Quick => matches!(group, Group::Large),
            // What needs a compiler, the network or other programs.
            Size::Tiny => matches!(group, Group::Python | Group::Server),
        }
    }

    /// Of YCSB-T.
    pub fn accounts(self) -> u64 {
        self.pick(200, 20_000, 100_000)
    }

    /// Of TPC-C.
    pub fn warehouses(self) -> u64 {
        self.pick(1, 2, 4)
    }

    pub fn items(self) -> u64 {
        self.pick(100, 2_000, 10_000)
    }

    /// Keys and values in the log that is replayed.
    pub fn recovery_bytes(self) -> u64 {
        self.pick(1 << 20, 128 << 20, 1 << 30)
    }

    /// A process that takes longer for one group, both conditions, is stopped.
    pub fn patience(self, group: Group) -> Duration {
        let workloads = WORKLOADS.iter().filter(|workload| workload.group == group).count() as u64;
        let times = self.times();
        let measuring = (times.warm + times.count) * workloads as u32 * 2;
        let loading = match group {
            Group::Large | Group::Cold => self.pick(20, 180, 400),
            Group::Ycsb | Group::Recovery => self.pick(20, 60, 240),
            // Some systems are asked for each row by itself, before and after.
            Group::Transactions => self.pick(60, 240, 900),
            // Requests are counted there, not time.
            Group::Server => 180,
            _ => self.pick(20, 60, 120),
        };
        measuring * 3 + Duration::from_secs(loading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_group_has_workloads() {
        let names: std::collections::HashSet<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
        for group in Group::ALL {
            assert!(WORKLOADS.iter().any(|workload| workload.group == group), "{}", group.name());
            assert!(is_ours(group.systems()[0]), "{}", group.name());
        }
    }
}
