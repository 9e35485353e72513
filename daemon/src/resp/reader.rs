//! Replies read back: what the benchmark's socket mode and the tests need of a client.
//!
//! Guards: depth and length of a reply are bounded, so that a broken server cannot take the client's memory or stack.

use std::fmt;

const DEPTH_MAX: usize = 32;
const LINE_LEN_MAX: usize = 64 << 10;
const LEN_MAX: i64 = 1 << 30;

/// One element of a reply.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Boolean(bool),
    /// The digits as they were sent.
    Double(Vec<u8>),
    Verbatim(Vec<u8>),
}

impl Value {
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// The bytes of a string of any sort.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Simple(bytes) | Value::Error(bytes) | Value::Bulk(bytes) | Value::Verbatim(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(n) => Some(*n),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
            _ => None,
        }
    }
}

/// Why a reply could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadReply(pub &'static str);

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's reply cannot be read: {}", self.0)
    }
}

impl std::error::Error for BadReply {}

/// Cuts a stream of bytes into replies.
#[derive(Default, Debug)]
pub struct ReplyReader {
    buf: Vec<u8>,
    at: usize,
    /// Elements of the reply at hand that were found complete, so that a long one is not walked again from its start.
    walked: usize,
    /// Elements still to come at each level that is open.
    open: Vec<u64>,
}

impl ReplyReader {
    pub fn new() -> ReplyReader {
        ReplyReader::default()
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 && self.at >= self.buf.len() / 2 {
            self.buf.drain(..self.at);
            self.at = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next reply, if all of it is here.
    pub fn next_value(&mut self) -> Result<Option<Value>, BadReply> {
        Ok(match self.next_raw()? {
            Some(bytes) => Some(value(&bytes)?),
            None => None,
        })
    }

    /// The bytes of the next reply, if all of it is here.
    pub fn next_raw(&mut self) -> Result<Option<Vec<u8>>, BadReply> {
        if !self.walk()? {
            return Ok(None);
        }
        let end = self.at + self.walked;
        let bytes = self.buf.get(self.at..end).unwrap_or_default().to_vec();
        self.skip(end);
        Ok(Some(bytes))
    }

    /// Pass the next reply and say whether it was an error; `None` when it is not all here.
    pub fn next_is_error(&mut self) -> Result<Option<bool>, BadReply> {
        if !self.walk()? {
            return Ok(None);
        }
        let is_error = self.buf.get(self.at) == Some(&b'-');
        self.skip(self.at + self.walked);
        Ok(Some(is_error))
    }

    fn skip(&mut self, end: usize) {
        self.at = end;
        self.walked = 0;
        if self.at == self.buf.len() {
            self.buf.clear();
            self.at = 0;
        }
    }

    /// Walk over complete elements; true once the whole reply was passed.
    fn walk(&mut self) -> Result<bool, BadReply> {
        loop {
            let rest = self.buf.get(self.at + self.walked..).unwrap_or_default();
            let Some(element) = element(rest)? else { return Ok(false) };
            self.walked += element.len;
            if let Some(level) = self.open.last_mut() {
                *level -= 1;
            }
            if element.children > 0 {
                if self.open.len() == DEPTH_MAX {
                    return Err(BadReply("it is nested too deeply"));
                }
                self.open.push(element.children);
            }
            while self.open.last() == Some(&0) {
                self.open.pop();
            }
            if self.open.is_empty() {
                return Ok(true);
            }
        }
    }
}

/// The head of one element: its bytes without children, and how many of these follow.
struct Element<'a> {
    mark: u8,
    line: &'a [u8],
    data: &'a [u8],
    null: bool,
    len: usize,
    children: u64,
}

fn element(bytes: &[u8]) -> Result<Option<Element<'_>>, BadReply> {
    let Some(line_end) = memchr::memchr(b'\r', bytes.get(..bytes.len().min(LINE_LEN_MAX)).unwrap_or_default()) else {
        return if bytes.len() > LINE_LEN_MAX { Err(BadReply("a line is too long")) } else { Ok(None) };
    };
    match bytes.get(line_end + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(BadReply("a line does not end with CR LF")),
    }
    let head = line_end + 2;
    let [mark, line @ ..] = bytes.get(..line_end).unwrap_or_default() else {
        return Err(BadReply("an empty line"));
    };
    let mut element = Element { mark: *mark, line, data: &[], null: false, len: head, children: 0 };
    match mark {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {}
        b'$' | b'=' => match length(line)? {
            None => element.null = true,
            Some(len) => {
                let end = head + len as usize;
                if bytes.len() < end + 2 {
                    return Ok(None);
                }
                if bytes.get(end..end + 2) != Some(b"\r\n") {
                    return Err(BadReply("a string does not end with CR LF"));
                }
                element.data = bytes.get(head..end).unwrap_or_default();
                element.len = end + 2;
            }
        },
        b'*' | b'~' | b'>' => match length(line)? {
            None => element.null = true,
            Some(len) => element.children = len,
        },
        b'%' => match length(line)? {
            None => element.null = true,
            Some(len) => element.children = 2 * len,
        },
        _ => return Err(BadReply("an element of an unknown sort")),
    }
    Ok(Some(element))
}

fn length(line: &[u8]) -> Result<Option<u64>, BadReply> {
    match super::parse_i64(line) {
        Some(-1) => Ok(None),
        Some(len @ 0..=LEN_MAX) => Ok(Some(len as u64)),
        _ => Err(BadReply("a length that makes no sense")),
    }
}

/// The value of the complete reply in `bytes`. Depth was bounded when it was walked.
fn value(bytes: &[u8]) -> Result<Value, BadReply> {
    let (value, rest) = parse(bytes, 0)?;
    if rest.is_empty() { Ok(value) } else { Err(BadReply("bytes after its end")) }
}

fn parse(bytes: &[u8], depth: usize) -> Result<(Value, &[u8]), BadReply> {
    if depth > DEPTH_MAX {
        return Err(BadReply("it is nested too deeply"));
    }
    let element = element(bytes)?.ok_or(BadReply("it is cut short"))?;
    let mut rest = bytes.get(element.len..).unwrap_or_default();
    if element.null {
        return Ok((Value::Null, rest));
    }
    let mut children = Vec::new();
    for _ in 0..element.children {
        let (child, after) = parse(rest, depth + 1)?;
        children.push(child);
        rest = after;
    }
    let value = match element.mark {
        b'+' => Value::Simple(element.line.to_vec()),
        b'-' => Value::Error(element.line.to_vec()),
        b':' => Value::Integer(super::parse_i64(element.line).ok_or(BadReply("a bad integer"))?),
        b'_' => Value::Null,
        b'#' => Value::Boolean(element.line == b"t"),
        b',' | b'(' => Value::Double(element.line.to_vec()),
        b'$' => Value::Bulk(element.data.to_vec()),
        b'=' => Value::Verbatim(element.data.get(4..).unwrap_or_default().to_vec()),
        b'~' => Value::Set(children),
        b'>' => Value::Push(children),
        b'%' => {
            let mut pairs = Vec::with_capacity(children.len() / 2);
            let mut children = children.into_iter();
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                pairs.push((key, value));
            }
            Value::Map(pairs)
        }
        _ => Value::Array(children),
    };
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sort_of_reply_in_any_pieces() {
        let bytes = b"+OK\r\n-ERR x\r\n:-3\r\n$2\r\nhi\r\n$-1\r\n*-1\r\n_\r\n*2\r\n*1\r\n:1\r\n$0\r\n\r\n%1\r\n+a\r\n#t\r\n~0\r\n,1.5\r\n=6\r\ntxt:hi\r\n>1\r\n+m\r\n";
        let expected = [
            Value::Simple(b"OK".to_vec()),
            Value::Error(b"ERR x".to_vec()),
            Value::Integer(-3),
            Value::Bulk(b"hi".to_vec()),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Array(vec![Value::Array(vec![Value::Integer(1)]), Value::Bulk(vec![])]),
            Value::Map(vec![(Value::Simple(b"a".to_vec()), Value::Boolean(true))]),
            Value::Set(vec![]),
            Value::Double(b"1.5".to_vec()),
            Value::Verbatim(b"hi".to_vec()),
            Value::Push(vec![Value::Simple(b"m".to_vec())]),
        ];
        for piece in [1, 2, 3, 7, bytes.len()] {
            let mut reader = ReplyReader::new();
            let mut got = Vec::new();
            for chunk in bytes.chunks(piece) {
                reader.feed(chunk);
                while let Some(value) = reader.next_value().unwrap() {
                    got.push(value);
                }
            }
            assert_eq!(got, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&b"?\r\n"[..], b"$x\r\n", b"$1\r\nabc", b"*-2\r\n", b"+a\rb", b"\r\n"] {
            let mut reader = ReplyReader::new();
            reader.feed(bytes);
            assert!(reader.next_value().is_err(), "{}", bytes.escape_ascii());
        }
        let mut reader = ReplyReader::new();
        reader.feed(&b"*1\r\n".repeat(100));
        assert_eq!(reader.next_value(), Err(BadReply("it is nested too deeply")));
    }
}
