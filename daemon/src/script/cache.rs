//! The scripts that EVALSHA finds.
//!
//! Guards: those that were loaded stay until SCRIPT FLUSH; of those that were only run, the last few hundred do. Both are bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;

/// Scripts that were run and not loaded.
const RUN_MAX: usize = 500;
/// Bytes of all that were loaded.
const LOADED_BYTES_MAX: usize = 64 << 20;

/// By what a script is called: the SHA-1 of its text, which proves nothing here and only names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sha([u8; 20]);

impl Sha {
    pub fn of(text: &[u8]) -> Sha {
        Sha(sha1_smol::Sha1::from(text).digest().bytes())
    }

    /// As clients write it, in either case.
    pub fn parse(hex: &[u8]) -> Option<Sha> {
        if hex.len() != 40 {
            return None;
        }
        let mut bytes = [0; 20];
        for (byte, digits) in bytes.iter_mut().zip(hex.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Sha(bytes))
    }

    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[derive(Default)]
struct Known {
    loaded: HashMap<Sha, Arc<[u8]>>,
    loaded_bytes: usize,
    run: HashMap<Sha, Arc<[u8]>>,
    order: VecDeque<Sha>,
}

#[derive(Default)]
pub struct Scripts(RwLock<Known>);

impl Scripts {
    pub fn get(&self, sha: &Sha) -> Option<Arc<[u8]>> {
        let known = self.0.read();
        known.loaded.get(sha).or_else(|| known.run.get(sha)).cloned()
    }

    /// A script that was given to EVAL.
    pub fn remember(&self, sha: &Sha, source: &[u8]) -> Arc<[u8]> {
        if let Some(known) = self.get(sha) {
            return known;
        }
        let source: Arc<[u8]> = source.into();
        let mut known = self.0.write();
        if known.run.insert(sha.clone(), Arc::clone(&source)).is_none() {
            known.order.push_back(sha.clone());
        }
        if known.order.len() > RUN_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.run.remove(&oldest);
        }
        source
    }

    /// False: there is no room for it.
    pub fn load(&self, sha: &Sha, source: &[u8]) -> bool {
        let mut known = self.0.write();
        if known.loaded.contains_key(sha) {
            return true;
        }
        if known.loaded_bytes + source.len() > LOADED_BYTES_MAX {
            return false;
        }
        known.loaded_bytes += source.len();
        known.loaded.insert(sha.clone(), source.into());
        true
    }

    pub fn flush(&self) {
        *self.0.write() = Known::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_is_kept() {
        let sha = Sha::of(b"return 1");
        assert_eq!(sha.hex(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(Sha::parse(sha.hex().to_uppercase().as_bytes()), Some(sha.clone()));
        assert!(
            Sha::parse(b"e0e1").is_none() && Sha::parse(&[b'g'; 40]).is_none() && Sha::parse(&[0xff; 40]).is_none()
        );
        let scripts = Scripts::default();
        assert!(scripts.get(&sha).is_none() && scripts.load(&sha, b"return 1"));
        for n in 0..RUN_MAX + 1 {
            let source = n.to_string();
            scripts.remember(&Sha::of(source.as_bytes()), source.as_bytes());
        }
        assert!(scripts.get(&Sha::of(b"0")).is_none(), "the oldest went");
        assert!(scripts.get(&Sha::of(b"1")).is_some() && scripts.get(&sha).is_some());
        assert!(!scripts.load(&Sha::of(b"long"), &vec![b' '; LOADED_BYTES_MAX]));
        scripts.flush();
        assert!(scripts.get(&sha).is_none());
    }
}
