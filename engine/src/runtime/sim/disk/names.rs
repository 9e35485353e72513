//! The tree of names, apart from what they name: what is seen, what is durable, and the operations in between.
//!
//! An operation sets one or two names at once (a rename takes one away and gives another) and survives whole or not at
//! all. It is durable once every directory it touched was synced after it. A crash of the machine keeps either a prefix
//! of the others (a journaling file system) or any subset in which an operation on a name follows the ones before it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::crash::{Damage, Style};

pub type Ino = u64;
pub type DirId = u64;
pub const ROOT: DirId = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Node {
    Dir(DirId),
    File(Ino),
}

type Key = (DirId, String);

#[derive(Clone)]
struct NameOp {
    seq: u64,
    sets: Vec<(Key, Option<Node>)>,
    /// Directories it touched that were not synced since.
    unsynced: BTreeSet<DirId>,
    /// A failed sync covered it; no later one will make it durable.
    forsaken: bool,
}

#[derive(Clone, Default)]
pub struct Names {
    cur: BTreeMap<Key, Node>,
    base: BTreeMap<Key, Node>,
    since: Vec<NameOp>,
}

fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{kind}: {}", path.display()))
}

fn parts(path: &Path) -> io::Result<Vec<String>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            _ => return Err(error(io::ErrorKind::InvalidInput, path)),
        }
    }
    Ok(parts)
}

impl Names {
    pub fn lookup(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(ROOT);
        for part in parts(path)? {
            let Node::Dir(dir) = node else { return Err(error(io::ErrorKind::NotADirectory, path)) };
            node = *self.cur.get(&(dir, part)).ok_or_else(|| error(io::ErrorKind::NotFound, path))?;
        }
        Ok(node)
    }

    pub fn file(&self, path: &Path) -> io::Result<Ino> {
        match self.lookup(path)? {
            Node::File(ino) => Ok(ino),
            Node::Dir(_) => Err(error(io::ErrorKind::IsADirectory, path)),
        }
    }

    pub fn dir(&self, path: &Path) -> io::Result<DirId> {
        match self.lookup(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(error(io::ErrorKind::NotADirectory, path)),
        }
    }

    /// The directory that holds the last part of `path`, which itself need not exist.
    fn key(&self, path: &Path) -> io::Result<Key> {
        let mut parts = parts(path)?;
        let name = parts.pop().ok_or_else(|| error(io::ErrorKind::InvalidInput, path))?;
        Ok((self.dir(&parts.iter().collect::<std::path::PathBuf>())?, name))
    }

    fn apply(&mut self, seq: u64, sets: Vec<(Key, Option<Node>)>) {
        set(&mut self.cur, &sets);
        let unsynced = sets.iter().map(|(key, _)| key.0).collect();
        self.since.push(NameOp { seq, sets, unsynced, forsaken: false });
    }

    pub fn create(&mut self, seq: u64, path: &Path, node: Node) -> io::Result<()> {
        let key = self.key(path)?;
        if self.cur.contains_key(&key) {
            return Err(error(io::ErrorKind::AlreadyExists, path));
        }
        self.apply(seq, vec![(key, Some(node))]);
        Ok(())
    }

    pub fn remove_file(&mut self, seq: u64, path: &Path) -> io::Result<()> {
        self.file(path)?;
        let key = self.key(path)?;
        self.apply(seq, vec![(key, None)]);
        Ok(())
    }

    pub fn remove_dir(&mut self, seq: u64, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        if self.children(dir).next().is_some() {
            return Err(error(io::ErrorKind::DirectoryNotEmpty, path));
        }
        let key = self.key(path)?;
        self.apply(seq, vec![(key, None)]);
        Ok(())
    }

    pub fn rename(&mut self, seq: u64, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.lookup(from)?;
        let (from_key, to_key) = (self.key(from)?, self.key(to)?);
        if from_key == to_key {
            return Ok(());
        }
        match (node, self.cur.get(&to_key)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::File(_), Some(Node::Dir(_))) => return Err(error(io::ErrorKind::IsADirectory, to)),
            (Node::Dir(_), Some(Node::File(_))) => return Err(error(io::ErrorKind::NotADirectory, to)),
            (Node::Dir(_), Some(Node::Dir(there))) => {
                if self.children(*there).next().is_some() {
                    return Err(error(io::ErrorKind::DirectoryNotEmpty, to));
                }
            }
        }
        self.apply(seq, vec![(from_key, None), (to_key, Some(node))]);
        Ok(())
    }

    fn children(&self, dir: DirId) -> impl Iterator<Item = (&String, &Node)> {
        self.cur.range((dir, String::new())..(dir + 1, String::new())).map(|(key, node)| (&key.1, node))
    }

    pub fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.children(self.dir(path)?).map(|(name, _)| name.clone()).collect())
    }

    /// Every name in `dir` set so far becomes durable, with the operations it rests on.
    pub fn sync(&mut self, dir: DirId) {
        for op in self.since.iter_mut().filter(|op| !op.forsaken) {
            op.unsynced.remove(&dir);
        }
        let mut needed: BTreeSet<&Key> = BTreeSet::new();
        let mut durable = vec![false; self.since.len()];
        for (i, op) in self.since.iter().enumerate().rev() {
            if op.unsynced.is_empty() || op.sets.iter().any(|(key, _)| needed.contains(key)) {
                durable[i] = true;
                needed.extend(op.sets.iter().map(|(key, _)| key));
            }
        }
        let mut i = 0;
        let base = &mut self.base;
        self.since.retain(|op| {
            i += 1;
            if durable[i - 1] {
                set(base, &op.sets);
            }
            !durable[i - 1]
        });
    }

    /// Every name becomes durable.
    pub fn settle(&mut self) {
        self.since.clear();
        self.base = self.cur.clone();
    }

    pub fn sync_failed(&mut self, dir: DirId) {
        for op in self.since.iter_mut().filter(|op| op.unsynced.contains(&dir)) {
            op.forsaken = true;
        }
    }

    /// What is left when the machine stops.
    pub fn crash(&mut self, damage: &mut Damage) {
        let style = damage.style_of_file();
        let rng = &mut damage.rng;
        let since = std::mem::take(&mut self.since);
        let any_subset = matches!(style, Style::Sectors);
        let mut prefix = style.prefix(rng, since.iter().map(|op| op.seq));
        let mut lost: BTreeSet<Key> = BTreeSet::new();
        for op in since {
            let keeps = match any_subset {
                true => rng.coin(),
                false => prefix > 0,
            };
            prefix = prefix.saturating_sub(1);
            if keeps && op.sets.iter().all(|(key, _)| !lost.contains(key)) {
                set(&mut self.base, &op.sets);
            } else {
                lost.extend(op.sets.into_iter().map(|(key, _)| key));
            }
        }
        self.drop_unreachable();
        self.cur = self.base.clone();
    }

    fn drop_unreachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            for (_, node) in self.base.range((dir, String::new())..(dir + 1, String::new())) {
                if let Node::Dir(id) = *node
                    && reached.insert(id)
                {
                    todo.push(id);
                }
            }
        }
        self.base.retain(|key, _| reached.contains(&key.0));
    }

    /// Files that have a name now.
    pub fn linked(&self) -> BTreeSet<Ino> {
        files(self.cur.values()).collect()
    }

    /// Files that have a name now or may have one after a crash.
    pub fn reachable(&self) -> BTreeSet<Ino> {
        let set_to = self.since.iter().flat_map(|op| op.sets.iter().filter_map(|s| s.1.as_ref()));
        files(self.cur.values().chain(self.base.values()).chain(set_to)).collect()
    }

    /// Every file with its path, sorted.
    pub fn walk(&self) -> Vec<(String, Ino)> {
        let mut found = Vec::new();
        let mut todo = vec![(ROOT, String::new())];
        while let Some((dir, prefix)) = todo.pop() {
            for (name, node) in self.children(dir) {
                match *node {
                    Node::File(ino) => found.push((format!("{prefix}{name}"), ino)),
                    Node::Dir(id) => todo.push((id, format!("{prefix}{name}/"))),
                }
            }
        }
        found.sort();
        found
    }

    /// Directories, as one number with the files: for telling two trees apart.
    pub fn dirs(&self) -> Vec<(DirId, String)> {
        self.cur.iter().filter(|(_, n)| matches!(n, Node::Dir(_))).map(|(k, _)| k.clone()).collect()
    }
}

fn set(names: &mut BTreeMap<Key, Node>, sets: &[(Key, Option<Node>)]) {
    for (key, node) in sets {
        match node {
            Some(node) => names.insert(key.clone(), *node),
            None => names.remove(key),
        };
    }
}

fn files<'a>(nodes: impl Iterator<Item = &'a Node>) -> impl Iterator<Item = Ino> {
    nodes.filter_map(|node| match node {
        Node::File(ino) => Some(*ino),
        Node::Dir(_) => None,
    })
}
