//! `format/footer.rs`: a footer that is accepted is the one that would be written, and its parts lie in the file.

use corering_engine::format::footer::{FOOTER_LEN, Footer, FooterFault, MAGIC_BYTES, TABLE_VERSION};

use crate::input::Input;
use crate::{memory, seal};

const FIELDS_LEN: usize = 144 + 2 * 256;
const FILE_LEN_AT: usize = 48;

type Decode = fn(&[u8], u64) -> Result<Footer, FooterFault>;

pub fn check(input: &[u8]) {
    agree(input, Footer::decode);
}

/// Believes the footer about the length of the file.
pub fn planted(input: &[u8]) {
    agree(input, |bytes, _| {
        let own = bytes[FILE_LEN_AT..FILE_LEN_AT + 8].try_into().map(u64::from_le_bytes);
        Footer::decode(bytes, own.expect("eight bytes"))
    });
}

fn agree(input: &[u8], decode: Decode) {
    let mut input = Input::new(input);
    let file_len = u64::from(input.u16()) * 64;
    let fields = input.slice(FIELDS_LEN);
    let mut bytes = seal::sparse(FOOTER_LEN, fields, input.rest());
    read(&bytes, file_len, decode);
    seal::put(&mut bytes, 0, &MAGIC_BYTES);
    seal::put(&mut bytes, 8, &TABLE_VERSION.to_le_bytes());
    seal::crc(&mut bytes, FOOTER_LEN - 4, 0..FOOTER_LEN - 4);
    read(&bytes, file_len, decode);
    seal::put(&mut bytes, FILE_LEN_AT, &file_len.to_le_bytes());
    seal::crc(&mut bytes, FOOTER_LEN - 4, 0..FOOTER_LEN - 4);
    read(&bytes, file_len, decode);
}

fn read(bytes: &[u8], file_len: u64, decode: Decode) {
    match memory::at_most(2 * FOOTER_LEN + memory::TEXT, "a footer", || decode(bytes, file_len)) {
        Ok(footer) => {
            assert_eq!(footer.encode(), bytes, "what is accepted is what would be written");
            assert_eq!(footer.meta.bytes, file_len);
            let ends = [0, footer.data_len, footer.index.start, footer.index.end, footer.bloom.start, footer.bloom.end];
            assert!(ends.is_sorted() && footer.bloom.end + FOOTER_LEN as u64 <= file_len, "{ends:?} of {file_len}");
        }
        Err(FooterFault::Damaged(damage)) => assert!(damage.at <= FOOTER_LEN as u64),
        Err(FooterFault::Version(version)) => assert_ne!(version, TABLE_VERSION),
    }
}
