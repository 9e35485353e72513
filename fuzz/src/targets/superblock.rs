//! `format/superblock.rs`: the root record.

use corering_engine::format::superblock::{BadSuperblock, Superblock};

use crate::{memory, seal};

const LEN: usize = 96;
const RESERVED_AT: usize = 64;

type Decode = fn(&[u8]) -> Result<Superblock, BadSuperblock>;

pub fn check(input: &[u8]) {
    agree(input, Superblock::decode);
}

/// Passes over bytes that a newer version may have given a meaning.
pub fn planted(input: &[u8]) {
    agree(input, |bytes| {
        let mut bytes = bytes.to_vec();
        bytes.iter_mut().skip(RESERVED_AT).for_each(|byte| *byte = 0);
        Superblock::decode(&bytes)
    });
}

fn agree(input: &[u8], decode: Decode) {
    read(input, decode);
    let mut bytes = input.to_vec();
    bytes.resize(LEN, 0);
    read(&bytes, decode);
    seal::put(&mut bytes, 0, &1u16.to_le_bytes());
    read(&bytes, decode);
}

fn read(bytes: &[u8], decode: Decode) {
    if let Ok(superblock) = memory::at_most(memory::TEXT, "a superblock", || decode(bytes)) {
        assert_eq!(superblock.encode(), bytes);
        assert!(superblock.shards > 0 && superblock.vnodes > 0, "a ring has nodes");
    }
}
