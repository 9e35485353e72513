//! The content of one file: what reads see, what a crash of the machine is sure to leave, and everything it may leave.
//!
//! Each block keeps a chain: `base` (durable), the versions written since (any of which a crash may leave), and `cur`
//! (what reads see). The length keeps its own chain. A sync moves the base forward; a failed one breaks the tie between
//! `cur` and the chain: reads still see bytes that can no longer become durable.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::crash::{Damage, SECTOR};
use crate::runtime::BLOCK;
use crate::runtime::sim::rng::{Rng, splitmix};

/// One version of a block; `None` is all zeroes.
pub type Page = Option<Arc<[u8; BLOCK]>>;

/// How many versions of a block are kept beside its base; with more, one in the middle is forgotten, which only makes
/// fewer of the allowed outcomes possible.
const VERSIONS_MAX: usize = 12;

#[derive(Clone)]
struct Version {
    seq: u64,
    page: Page,
    /// Zeroes because the file was cut here: whether they count depends on which length survives.
    cut: bool,
}

#[derive(Clone, Default)]
struct Chain {
    base: Page,
    since: Vec<Version>,
    cur: Page,
    /// It takes up space on the disk.
    reserved: bool,
}

#[derive(Clone, Default)]
pub struct Inode {
    chains: Vec<Chain>,
    /// Blocks whose chain has versions that are not durable.
    dirty: BTreeSet<usize>,
    len: u64,
    /// The durable length and the number of the change that made it so.
    base_len: (u64, u64),
    lens_since: Vec<(u64, u64)>,
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("a simulated file fits into memory")
}

pub fn blocks_of(len: u64) -> usize {
    to_usize(len.div_ceil(BLOCK as u64))
}

fn bytes(page: &Page) -> &[u8; BLOCK] {
    static ZEROES: [u8; BLOCK] = [0; BLOCK];
    page.as_deref().unwrap_or(&ZEROES)
}

fn same(a: &Page, b: &Page) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn patched(page: &Page, at: usize, data: &[u8]) -> Page {
    if data.len() == BLOCK && data == bytes(&None) {
        return None;
    }
    let mut new = *bytes(page);
    new[at..at + data.len()].copy_from_slice(data);
    Some(Arc::new(new))
}

/// The pieces of a range of bytes, block by block: block, offset in it, range of the data.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let (block, within) = (to_usize(at / BLOCK as u64), to_usize(at % BLOCK as u64));
        let n = (BLOCK - within).min(len - done);
        done += n;
        Some((block, within, done - n..done))
    })
}

impl Chain {
    fn tip(&self) -> &Page {
        self.since.last().map_or(&self.base, |v| &v.page)
    }

    fn push(&mut self, version: Version) {
        self.since.push(version);
        if self.since.len() > VERSIONS_MAX {
            let tip = self.since.len() - 1;
            let writes: Vec<usize> = (0..tip).filter(|i| !self.since[*i].cut).collect();
            if let Some(middle) = writes.get(writes.len() / 2) {
                self.since.remove(*middle);
            }
        }
    }

    fn write(&mut self, seq: u64, at: usize, data: &[u8]) {
        let new = patched(&self.cur, at, data);
        let candidate = if same(&self.cur, self.tip()) { new.clone() } else { patched(self.tip(), at, data) };
        self.cur = new;
        self.push(Version { seq, page: candidate, cut: false });
    }

    fn write_durable(&mut self, at: usize, data: &[u8]) {
        let clean = self.since.is_empty() && same(&self.base, &self.cur);
        let new = patched(&self.cur, at, data);
        self.base = if clean { new.clone() } else { patched(&self.base, at, data) };
        if data.len() == BLOCK {
            self.since.clear();
            self.base = new.clone();
        }
        for version in &mut self.since {
            version.page = patched(&version.page, at, data);
        }
        self.cur = new;
    }

    /// The versions up to `upto` become durable.
    fn sync(&mut self, upto: u64) {
        let n = self.since.partition_point(|v| v.seq <= upto);
        if let Some(last) = self.since.drain(..n).next_back() {
            self.base = last.page;
        }
    }
}

impl Inode {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn space(&self) -> u64 {
        self.chains.iter().filter(|chain| chain.reserved).count() as u64 * BLOCK as u64
    }

    /// Bytes of disk that a write there, or a reservation, would newly take.
    pub fn space_for(&self, offset: u64, len: u64) -> u64 {
        let blocks = to_usize(offset / BLOCK as u64)..blocks_of(offset + len);
        let taken = |block: &usize| self.chains.get(*block).is_some_and(|chain| chain.reserved);
        blocks.filter(|block| !taken(block)).count() as u64 * BLOCK as u64
    }

    pub fn reserve(&mut self, len: u64) {
        self.reserve_blocks(0..blocks_of(len));
    }

    fn reserve_blocks(&mut self, blocks: std::ops::Range<usize>) {
        self.grow(blocks.end);
        self.chains[blocks].iter_mut().for_each(|chain| chain.reserved = true);
    }

    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.lens_since.is_empty()
    }

    fn grow(&mut self, blocks: usize) {
        if self.chains.len() < blocks {
            self.chains.resize_with(blocks, Chain::default);
        }
    }

    /// Fill `buf` from `offset`; short at the end of the file.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let n = to_usize(self.len.saturating_sub(offset).min(buf.len() as u64));
        for (block, within, range) in pieces(offset, n) {
            let page = self.chains.get(block).map_or(&None, |c| &c.cur);
            let len = range.len();
            buf[range].copy_from_slice(&bytes(page)[within..within + len]);
        }
        n
    }

    pub fn write(&mut self, seq: u64, offset: u64, data: &[u8]) {
        self.before_write(seq, offset, data.len());
        for (block, within, range) in pieces(offset, data.len()) {
            self.chains[block].write(seq, within, &data[range]);
            self.dirty.insert(block);
        }
    }

    /// Write and make durable those bytes, and the length if they lie beyond a length that a crash could leave.
    pub fn write_durable(&mut self, seq: u64, offset: u64, data: &[u8]) {
        self.before_write(seq, offset, data.len());
        let end = offset + data.len() as u64;
        if self.lens_since.iter().map(|l| l.1).chain([self.base_len.1]).any(|len| len < end) {
            self.sync_lens(seq);
        }
        for (block, within, range) in pieces(offset, data.len()) {
            self.chains[block].write_durable(within, &data[range]);
            if self.chains[block].since.is_empty() {
                self.dirty.remove(&block);
            }
        }
    }

    fn before_write(&mut self, seq: u64, offset: u64, len: usize) {
        let end = offset + len as u64;
        self.reserve_blocks(to_usize(offset / BLOCK as u64)..blocks_of(end));
        if end > self.len {
            self.len = end;
            self.lens_since.push((seq, end));
        }
    }

    pub fn set_len(&mut self, seq: u64, len: u64) {
        if len == self.len {
            return;
        }
        self.lens_since.push((seq, len));
        if len < self.len {
            self.cut(seq, len);
        }
        self.len = len;
    }

    /// Zeroes from `len` on.
    fn cut(&mut self, seq: u64, len: u64) {
        let whole = blocks_of(len);
        let within = to_usize(len % BLOCK as u64);
        for block in to_usize(len / BLOCK as u64)..self.chains.len() {
            let chain = &mut self.chains[block];
            let zeroed = |page: &Page| match block < whole {
                true => patched(page, within, &[0; BLOCK][within..]),
                false => None,
            };
            let candidate = zeroed(chain.tip());
            chain.cur = if same(&chain.cur, chain.tip()) { candidate.clone() } else { zeroed(&chain.cur) };
            chain.push(Version { seq, page: candidate, cut: true });
            chain.reserved &= block < whole;
            self.dirty.insert(block);
        }
    }

    /// Everything written with a number up to `upto` becomes durable.
    pub fn sync(&mut self, upto: u64) {
        let chains = &mut self.chains;
        self.dirty.retain(|block| {
            chains[*block].sync(upto);
            !chains[*block].since.is_empty()
        });
        self.sync_lens(upto);
    }

    fn sync_lens(&mut self, upto: u64) {
        let n = self.lens_since.partition_point(|l| l.0 <= upto);
        if let Some(last) = self.lens_since.drain(..n).next_back() {
            self.base_len = last;
        }
    }

    /// A sync that reports an error: each block it covered became durable or is lost to every later sync.
    pub fn sync_failed(&mut self, upto: u64, rng: &mut Rng) {
        let chains = &mut self.chains;
        self.dirty.retain(|block| {
            let chain = &mut chains[*block];
            match rng.coin() {
                true => chain.sync(upto),
                false => chain.since.retain(|v| v.seq > upto),
            }
            !chain.since.is_empty()
        });
        if rng.coin() {
            self.sync_lens(upto);
        }
    }

    /// What is left when the machine stops: everything left is durable and seen.
    pub fn crash(&mut self, damage: &mut Damage) {
        let style = damage.style_of_file();
        let rng = &mut damage.rng;
        let kept_lens = style.prefix(rng, self.lens_since.iter().map(|l| l.0));
        let last = self.lens_since[..kept_lens].last().copied();
        let (len_seq, len) = last.unwrap_or(self.base_len);
        for block in 0..self.chains.len() {
            let chain = &mut self.chains[block];
            if !chain.since.is_empty() {
                chain.base = survivor(chain, len_seq, &style, rng);
                chain.since.clear();
            }
            chain.cur = chain.base.clone();
        }
        self.dirty.clear();
        self.lens_since.clear();
        (self.len, self.base_len) = (len, (len_seq, len));
        self.forget_beyond(len);
    }

    fn forget_beyond(&mut self, len: u64) {
        self.chains.truncate(blocks_of(len));
        let within = to_usize(len % BLOCK as u64);
        if let (Some(chain), true) = (self.chains.get_mut(to_usize(len / BLOCK as u64)), within > 0) {
            chain.base = patched(&chain.base, within, &[0; BLOCK][within..]);
            chain.cur = chain.base.clone();
        }
    }

    /// Change bytes in every version, as a failing medium does.
    pub fn damage(&mut self, offset: u64, change: impl Fn(u8) -> u8) {
        let (block, within) = (to_usize(offset / BLOCK as u64), to_usize(offset % BLOCK as u64));
        self.grow(block + 1);
        let chain = &mut self.chains[block];
        let shared = same(&chain.base, &chain.cur);
        let changed = |page: &Page| patched(page, within, &[change(bytes(page)[within])]);
        chain.base = changed(&chain.base);
        for version in &mut chain.since {
            version.page = changed(&version.page);
        }
        chain.cur = if shared { chain.base.clone() } else { changed(&chain.cur) };
    }

    /// Content and length as reads see them, as one number.
    pub fn fingerprint(&self) -> u64 {
        let blocks = self.chains.iter().enumerate().filter(|(_, c)| c.cur.is_some());
        blocks.fold(splitmix(self.len), |h, (i, c)| {
            splitmix(h ^ splitmix(i as u64) ^ xxhash_rust::xxh3::xxh3_64(bytes(&c.cur)))
        })
    }

    /// A page of a shared region that was found changed.
    pub fn store_page(&mut self, seq: u64, block: usize, page: &[u8; BLOCK]) {
        self.write(seq, block as u64 * BLOCK as u64, page);
    }

    /// The bytes of a whole block as reads see them.
    pub fn page(&self, block: usize) -> &[u8; BLOCK] {
        self.chains.get(block).map_or(bytes(&None), |c| bytes(&c.cur))
    }

    pub fn read_all(&self) -> Vec<u8> {
        let mut all = vec![0; to_usize(self.len)];
        self.read(0, &mut all);
        all
    }
}

/// One version of a block that a crash may leave.
fn survivor(chain: &Chain, len_seq: u64, style: &super::crash::Style, rng: &mut Rng) -> Page {
    let cut_after = chain.since.iter().position(|v| v.cut && v.seq > len_seq).unwrap_or(chain.since.len());
    let possible = &chain.since[..cut_after];
    let from = possible.iter().rposition(|v| v.cut);
    let version = |kept: usize| -> &Page {
        match from.map_or(kept, |cut| kept.max(cut + 1)) {
            0 => &chain.base,
            n => &possible[n - 1].page,
        }
    };
    let seqs = || possible.iter().map(|v| v.seq);
    if !style.tears(rng) {
        return version(style.prefix(rng, seqs())).clone();
    }
    let mut torn = [0; BLOCK];
    for at in (0..BLOCK).step_by(SECTOR) {
        let page = version(style.prefix(rng, seqs()));
        torn[at..at + SECTOR].copy_from_slice(&bytes(page)[at..at + SECTOR]);
    }
    Some(Arc::new(torn))
}
