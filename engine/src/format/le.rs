//! Little-endian numbers in byte strings that may be shorter than they claim.
//!
//! `fixed_*` are for fields of a header that is known to be whole; `*_at` for fields of bytes that may not be; [`Reader`] is for
//! what follows a header.

use std::ops::Range;

use super::damage::Damage;

/// A field of a header that the caller has found to be whole.
pub fn fixed_u16(header: &[u8], at: Range<usize>) -> u16 {
    u16_at(header, at).expect("a field of a whole header")
}

pub fn fixed_u32(header: &[u8], at: Range<usize>) -> u32 {
    u32_at(header, at).expect("a field of a whole header")
}

pub fn fixed_u64(header: &[u8], at: Range<usize>) -> u64 {
    u64_at(header, at).expect("a field of a whole header")
}

pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

pub fn u16_at(bytes: &[u8], at: Range<usize>) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], at: Range<usize>) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at)?.try_into().ok()?))
}

pub fn u64_at(bytes: &[u8], at: Range<usize>) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at)?.try_into().ok()?))
}

/// Takes fields off the front of a byte string; each step says what is missing and where.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], Damage> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(Damage::new(self.at, format!("{what}: {len} bytes expected, {} left", self.left())));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Damage> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    pub fn u16(&mut self, what: &str) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub fn u32(&mut self, what: &str) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub fn u64(&mut self, what: &str) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }
}
