//! What may go wrong with the disk, decided by a table of rules that the harness fills.
//!
//! Nothing strikes by default. A rule names the files (a pattern on the path), the fault, and when it strikes; the
//! simulation only decides by its seed where a rule leaves it a choice. What the engine must answer to each is the
//! harness's table, not this module's.

use std::path::Path;

use super::points::OpKind;
use super::rng::Rng;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// EIO; the buffer holds nothing useful.
    ReadError,
    /// EIO; any sectors of the write may have reached the disk.
    WriteError,
    /// ENOSPC from a write, an allocation, a longer length or a new name; nothing was done.
    NoSpace,
    /// EIO; what the sync covered is durable in parts, and the rest never will be, whatever a later sync says.
    SyncError,
    /// EIO from a sync of a directory; the names it covered may or may not be durable, and a later sync does not help.
    SyncDirError,
    /// EIO from create, open, rename or remove; nothing was done.
    NameError,
    /// Fewer bytes than asked for although the file has more; breaks the promise of `IoOp::Read`.
    ShortRead,
    /// Fewer bytes written than given, and the count says so; breaks the promise of `IoOp::Write`.
    ShortWrite,
    /// Success is reported and nothing was written.
    LostWrite,
    /// Success is reported and the bytes are at another block of the same file.
    MisdirectedWrite,
    /// A bit of what is about to be read (or mapped) has flipped on the medium, and stays so.
    BitRot,
    /// The operation takes up to thousands of times longer.
    Slow,
}

impl Fault {
    pub const ALL: [Fault; 12] = [
        Fault::ReadError,
        Fault::WriteError,
        Fault::NoSpace,
        Fault::SyncError,
        Fault::SyncDirError,
        Fault::NameError,
        Fault::ShortRead,
        Fault::ShortWrite,
        Fault::LostWrite,
        Fault::MisdirectedWrite,
        Fault::BitRot,
        Fault::Slow,
    ];

    /// Whether the caller is told that all went well.
    pub fn is_a_lie(self) -> bool {
        matches!(self, Fault::LostWrite | Fault::MisdirectedWrite)
    }

    fn strikes_at(self, op: OpKind) -> bool {
        use OpKind::*;
        match self {
            Fault::ReadError => matches!(op, Read | Map),
            Fault::ShortRead => op == Read,
            Fault::BitRot => matches!(op, Read | Map),
            Fault::WriteError | Fault::ShortWrite | Fault::LostWrite | Fault::MisdirectedWrite => {
                matches!(op, Write | WriteDurable)
            }
            Fault::NoSpace => matches!(op, Write | WriteDurable | Allocate | SetLen | Create | CreateDir),
            Fault::SyncError => matches!(op, Sync | WriteDurable),
            Fault::SyncDirError => op == SyncDir,
            Fault::NameError => matches!(op, Open | Create | CreateDir | Rename | Remove | RemoveDir),
            Fault::Slow => op != RegionStore,
        }
    }
}

/// When a rule strikes, of the operations that its pattern and fault fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Each with this chance in a million.
    Chance(u32),
    /// Only the n-th, counted from 0.
    Nth(u64),
    /// The n-th and all after it: a disk that broke and stays broken.
    From(u64),
}

#[derive(Clone, Debug)]
pub struct FaultRule {
    /// `*` stands for any bytes, also `/`; anything else for itself. `*.seg`, `shard-0/*`, `*`.
    pub files: String,
    pub fault: Fault,
    pub when: When,
}

impl FaultRule {
    pub fn new(files: impl Into<String>, fault: Fault, when: When) -> FaultRule {
        FaultRule { files: files.into(), fault, when }
    }
}

/// The rules in force and how often each was asked.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    rules: Vec<(FaultRule, u64)>,
}

impl Faults {
    pub fn new(rules: impl IntoIterator<Item = FaultRule>) -> Faults {
        Faults { rules: rules.into_iter().map(|rule| (rule, 0)).collect() }
    }

    pub(super) fn add(&mut self, rule: FaultRule) {
        self.rules.push((rule, 0));
    }

    /// The first rule that strikes this operation. Every rule that fits counts it, so that a one-shot does not depend on
    /// what other rules did before it.
    pub(super) fn strike(&mut self, rng: &mut Rng, op: OpKind, path: &Path) -> Option<Fault> {
        self.ask(rng, op, path, |fault| fault != Fault::Slow)
    }

    pub(super) fn slow(&mut self, rng: &mut Rng, op: OpKind, path: &Path) -> bool {
        self.ask(rng, op, path, |fault| fault == Fault::Slow).is_some()
    }

    fn ask(&mut self, rng: &mut Rng, op: OpKind, path: &Path, of: impl Fn(Fault) -> bool) -> Option<Fault> {
        if self.rules.is_empty() {
            return None;
        }
        let name = path.to_string_lossy();
        let mut struck = None;
        for (rule, seen) in &mut self.rules {
            if !of(rule.fault) || !rule.fault.strikes_at(op) || !matches(&rule.files, &name) {
                continue;
            }
            let index = *seen;
            *seen += 1;
            let hit = match rule.when {
                When::Chance(chance) => rng.per_million(chance),
                When::Nth(n) => index == n,
                When::From(n) => index >= n,
            };
            if hit && struck.is_none() {
                struck = Some(rule.fault);
            }
        }
        struck
    }
}

/// A row of a harness's table of faults: which may strike which files, and why the engine survives it.
#[derive(Clone, Copy, Debug)]
pub struct FaultRow {
    /// What the files are, in words: "log segment".
    pub kind: &'static str,
    pub files: &'static str,
    pub fault: Fault,
    /// Chance in a million for each operation, when the row is drawn.
    pub chance: u32,
    pub why_we_survive: &'static str,
}

/// A seed's own mix: about one row in three, each with its chance or as one strike at an early operation.
pub fn draw(rows: &[FaultRow], rng: &mut Rng) -> Faults {
    let mut rules = Vec::new();
    for row in rows {
        if rng.below(3) == 0 {
            let when = if rng.coin() { When::Chance(row.chance) } else { When::Nth(rng.below(64)) };
            rules.push(FaultRule::new(row.files, row.fault, when));
        }
    }
    Faults::new(rules)
}

/// Does `pattern` with its stars cover all of `text`?
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_whole_paths() {
        assert!(matches("*", "a/b"));
        assert!(matches("a/*.seg", "a/0001.seg"));
        assert!(!matches("a/*.seg", "b/0001.seg"));
        assert!(!matches("a", "ab"));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(!matches("a*bc*c", "a-bc"), "a byte is not used twice");
    }

    #[test]
    fn a_one_shot_strikes_once_and_a_broken_disk_for_good() {
        let mut rng = Rng::new(0);
        let path = Path::new("log/1.seg");
        let mut once = Faults::new([FaultRule::new("log/*", Fault::WriteError, When::Nth(1))]);
        let mut broken = Faults::new([FaultRule::new("log/*", Fault::WriteError, When::From(1))]);
        let struck = |faults: &mut Faults, rng: &mut Rng| -> Vec<bool> {
            (0..4).map(|_| faults.strike(rng, OpKind::Write, path).is_some()).collect()
        };
        assert_eq!(struck(&mut once, &mut rng), [false, true, false, false]);
        assert_eq!(struck(&mut broken, &mut rng), [false, true, true, true]);
        assert_eq!(once.strike(&mut rng, OpKind::Sync, path), None, "a write fault does not strike a sync");
    }
}
