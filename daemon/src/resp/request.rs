//! Requests out of a stream of bytes: arrays of bulk strings, or lines typed by a person.
//!
//! Guards: no byte is looked at twice by more than a constant, memory follows what was really sent (a declared length
//! reserves nothing), and a value that could never be stored is thrown away as it arrives, not gathered.
//! A request's arguments are slices of the input buffer; nothing is copied but quoted inline arguments.

use super::inline;
use super::number::parse_i64;

/// Bytes of a line: an inline command, or the header of an array or a bulk.
const LINE_LEN_MAX: usize = 64 << 10;
/// Elements of one request.
const ARGS_MAX: i64 = 1 << 20;
/// What Redis allows before a password was given, per request.
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_LEN_MAX: i64 = 16 << 10;
/// The same, for lines: the longest header is far below, and an inline AUTH fits.
const UNAUTHENTICATED_LINE_LEN_MAX: usize = 16 << 10;
/// Free room offered to the next receive, at least and at most.
const ROOM_MIN: usize = 1 << 10;
const ROOM_MAX: usize = 64 << 10;
/// An idle decoder keeps no more than this.
const IDLE_CAPACITY_MAX: usize = 64 << 10;

/// What a peer may send. Values over `kept_bulk_len` are read past and refused with an answer; over `bulk_len` the
/// connection has lost its footing and is closed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub authenticated: bool,
    pub bulk_len: i64,
    pub kept_bulk_len: usize,
    /// Bytes of all arguments of one request.
    pub kept_request_len: usize,
}

/// The stream cannot be understood any further; the text is Redis's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    InlineTooBig,
    UnbalancedQuotes,
    CountLineTooBig,
    BulkLineTooBig,
    InvalidCount,
    UnauthenticatedCount,
    ExpectedBulk { got: u8 },
    InvalidBulkLen,
    UnauthenticatedBulkLen,
}

impl ProtocolError {
    /// The error's line without its end.
    pub fn message(self) -> Vec<u8> {
        let text: &[u8] = match self {
            ProtocolError::InlineTooBig => b"too big inline request",
            ProtocolError::UnbalancedQuotes => b"unbalanced quotes in request",
            ProtocolError::CountLineTooBig => b"too big mbulk count string",
            ProtocolError::BulkLineTooBig => b"too big bulk count string",
            ProtocolError::InvalidCount => b"invalid multibulk length",
            ProtocolError::UnauthenticatedCount => b"unauthenticated multibulk length",
            ProtocolError::InvalidBulkLen => b"invalid bulk length",
            ProtocolError::UnauthenticatedBulkLen => b"unauthenticated bulk length",
            ProtocolError::ExpectedBulk { got } => {
                let mut message = b"ERR Protocol error: expected '$', got '".to_vec();
                match got {
                    // Redis builds this text as a C string.
                    0 => {}
                    b'\r' | b'\n' => message.extend_from_slice(b" '"),
                    _ => message.extend_from_slice(&[got, b'\'']),
                }
                return message;
            }
        };
        [b"ERR Protocol error: ", text].concat()
    }
}

/// A request that was well formed but too large to be kept; all of its bytes have been read past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Bulk { len: u64, max: u64 },
    Request { max: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    start: u32,
    len: u32,
}

/// One request; its arguments borrow the decoder's buffer until the next call.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Request<'a> {
    /// Arguments, with the command's name as the first; at least one.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `i`, or nothing past the end.
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(i)?;
        self.bytes.get(span.start as usize..span.start as usize + span.len as usize)
    }

    /// Argument `i`, or an empty one past the end: handlers run after the arity was checked.
    pub fn arg(&self, i: usize) -> &'a [u8] {
        self.get(i).unwrap_or_default()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let request = *self;
        (0..request.len()).map(move |i| request.arg(i))
    }

    /// Without the first `n` arguments.
    pub fn skip(&self, n: usize) -> Request<'a> {
        Request { bytes: self.bytes, spans: self.spans.get(n..).unwrap_or_default() }
    }
}

/// A request that is kept for later.
#[derive(Debug)]
pub struct KeptRequest {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl KeptRequest {
    pub fn new(request: Request<'_>) -> KeptRequest {
        let mut kept =
            KeptRequest { bytes: Vec::with_capacity(request.iter().map(<[u8]>::len).sum()), spans: Vec::new() };
        for arg in request.iter() {
            kept.spans.push(Span { start: kept.bytes.len() as u32, len: arg.len() as u32 });
            kept.bytes.extend_from_slice(arg);
        }
        kept
    }

    /// One of words that did not come from a client.
    pub fn of(words: &[Vec<u8>]) -> KeptRequest {
        let mut kept = KeptRequest { bytes: words.concat(), spans: Vec::with_capacity(words.len()) };
        let mut start = 0;
        for word in words {
            kept.spans.push(Span { start, len: word.len() as u32 });
            start += word.len() as u32;
        }
        kept
    }

    pub fn request(&self) -> Request<'_> {
        Request { bytes: &self.bytes, spans: &self.spans }
    }

    /// Bytes it takes.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.spans.len() * size_of::<Span>() + size_of::<KeptRequest>()
    }
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

/// What the bytes so far amount to.
#[derive(Debug)]
pub enum Next<'a> {
    /// More bytes are needed.
    Incomplete,
    Request(Request<'a>),
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between requests.
    Start,
    /// In an array with `left` elements to come, before the header of the next.
    BulkHeader {
        left: u32,
    },
    /// In the data of the first of `left` elements.
    BulkData {
        left: u32,
        len: u32,
    },
    /// Reading past: `todo` bytes of an element and its line end, then `left` more elements.
    SkipData {
        left: u32,
        todo: u64,
    },
    SkipHeader {
        left: u32,
    },
    /// The stream was given up.
    Failed(ProtocolError),
}

/// Cuts a connection's bytes into requests.
#[derive(Debug)]
pub struct Decoder {
    buf: Vec<u8>,
    /// Where the current request begins in `buf`; its spans count from here.
    start: usize,
    /// Everything before was understood.
    at: usize,
    /// Up to here was searched for a line end.
    searched: usize,
    state: State,
    spans: Vec<Span>,
    /// Unquoted arguments of an inline command.
    inline: Vec<u8>,
    refusal: Option<Refusal>,
    /// Bytes of the last receive, by which the next one's room is chosen.
    received: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

enum Step {
    Again,
    Incomplete,
    Array,
    Inline,
    Refused(Refusal),
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder {
            buf: Vec::new(),
            start: 0,
            at: 0,
            searched: 0,
            state: State::Start,
            spans: Vec::new(),
            inline: Vec::new(),
            refusal: None,
            received: 0,
        }
    }

    /// Append bytes, copying them.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.compact();
        self.buf.extend_from_slice(bytes);
    }

    /// The buffer, with room for a receive behind the bytes it holds. Give it back with [`Decoder::restore`].
    pub fn lend(&mut self) -> Vec<u8> {
        self.compact();
        let room = self.received.next_power_of_two().saturating_mul(2).clamp(ROOM_MIN, ROOM_MAX);
        if self.buf.is_empty() && self.buf.capacity() > room.max(IDLE_CAPACITY_MAX) {
            self.buf = Vec::new();
        }
        if self.buf.is_empty() && self.buf.capacity() > room.saturating_mul(4) {
            self.buf = Vec::with_capacity(room);
        }
        if self.buf.capacity() - self.buf.len() < room {
            // Doubling follows what was sent: a peer that only announces a long value holds no memory for it.
            let room = room.max(self.buf.len().min(self.wanted()));
            self.buf.reserve_exact(room);
        }
        std::mem::take(&mut self.buf)
    }

    /// Take back the buffer after `received` more bytes were appended to it.
    pub fn restore(&mut self, buf: Vec<u8>, received: usize) {
        self.buf = buf;
        self.received = received;
    }

    /// Bytes held for requests that are not complete.
    pub fn buffered(&self) -> usize {
        self.buf.len() - self.at
    }

    /// Memory held.
    pub fn capacity(&self) -> usize {
        self.buf.capacity() + self.inline.capacity() + self.spans.capacity() * size_of::<Span>()
    }

    /// Whether a request has begun to arrive.
    pub fn is_midway(&self) -> bool {
        !matches!(self.state, State::Start) || self.at < self.buf.len()
    }

    /// Bytes still to come for the value in hand.
    fn wanted(&self) -> usize {
        match self.state {
            State::BulkData { len, .. } => (len as usize + 2).saturating_sub(self.buf.len() - self.at),
            _ => 0,
        }
    }

    /// Drop the bytes of requests that were handed out.
    fn compact(&mut self) {
        self.release();
        if self.start == 0 {
            return;
        }
        self.buf.drain(..self.start);
        self.at -= self.start;
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
    }

    /// Let go of the request handed out last.
    fn release(&mut self) {
        if !matches!(self.state, State::Start) {
            return;
        }
        self.start = self.at;
        self.spans.clear();
        self.inline.clear();
        if self.spans.capacity() > 1 << 10 {
            self.spans = Vec::new();
        }
        if self.inline.capacity() > ROOM_MIN {
            self.inline = Vec::new();
        }
    }

    /// The next request, if its bytes are all here. After an error every call gives that error.
    pub fn next(&mut self, limits: &Limits) -> Result<Next<'_>, ProtocolError> {
        self.release();
        loop {
            let step = match self.state {
                State::Start => self.step_start(limits),
                State::BulkHeader { left } => self.step_bulk_header(left, limits),
                State::BulkData { left, len } => self.step_bulk_data(left, len),
                State::SkipHeader { left } => self.step_skip_header(left, limits),
                State::SkipData { left, todo } => Ok(self.step_skip_data(left, todo)),
                State::Failed(error) => return Err(error),
            };
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Incomplete) => return Ok(Next::Incomplete),
                Ok(Step::Refused(refusal)) => return Ok(Next::Refused(refusal)),
                Ok(Step::Array) => {
                    let bytes = self.buf.get(self.start..self.at).unwrap_or_default();
                    return Ok(Next::Request(Request { bytes, spans: &self.spans }));
                }
                Ok(Step::Inline) => return Ok(Next::Request(Request { bytes: &self.inline, spans: &self.spans })),
                Err(error) => {
                    self.state = State::Failed(error);
                    self.buf = Vec::new();
                    self.spans = Vec::new();
                    (self.start, self.at, self.searched) = (0, 0, 0);
                    return Err(error);
                }
            }
        }
    }

    fn step_start(&mut self, limits: &Limits) -> Result<Step, ProtocolError> {
        match self.buf.get(self.at) {
            None => Ok(Step::Incomplete),
            Some(b'*') => self.step_count(limits),
            Some(_) => self.step_inline(limits),
        }
    }

    fn step_count(&mut self, limits: &Limits) -> Result<Step, ProtocolError> {
        let Some(line) = self.header(limits, ProtocolError::CountLineTooBig, ProtocolError::InvalidCount)? else {
            return Ok(Step::Incomplete);
        };
        let count = parse_i64(line.get(1..).unwrap_or_default()).ok_or(ProtocolError::InvalidCount)?;
        let line_len = line.len();
        if count > ARGS_MAX {
            return Err(ProtocolError::InvalidCount);
        }
        if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedCount);
        }
        self.pass(line_len + 2);
        if count <= 0 {
            // Redis takes an empty or null array for no request at all.
            self.start = self.at;
            return Ok(Step::Again);
        }
        self.state = State::BulkHeader { left: count as u32 };
        Ok(Step::Again)
    }

    fn step_bulk_header(&mut self, left: u32, limits: &Limits) -> Result<Step, ProtocolError> {
        let Some(len) = self.bulk_len(limits)? else { return Ok(Step::Incomplete) };
        let kept = self.at - self.start;
        if len > limits.kept_bulk_len as u64 {
            self.refuse(Refusal::Bulk { len, max: limits.kept_bulk_len as u64 });
        } else if kept as u64 + len > limits.kept_request_len as u64 {
            self.refuse(Refusal::Request { max: limits.kept_request_len as u64 });
        }
        self.state = match self.refusal {
            Some(_) => State::SkipData { left, todo: len + 2 },
            None => State::BulkData { left, len: len as u32 },
        };
        Ok(Step::Again)
    }

    /// Read `$<len>\r\n` and pass it.
    fn bulk_len(&mut self, limits: &Limits) -> Result<Option<u64>, ProtocolError> {
        let Some(line) = self.header(limits, ProtocolError::BulkLineTooBig, ProtocolError::InvalidBulkLen)? else {
            return Ok(None);
        };
        match line {
            [b'$', digits @ ..] => {
                let len = parse_i64(digits).ok_or(ProtocolError::InvalidBulkLen)?;
                if len < 0 || len > limits.bulk_len {
                    return Err(ProtocolError::InvalidBulkLen);
                }
                if len > UNAUTHENTICATED_BULK_LEN_MAX && !limits.authenticated {
                    return Err(ProtocolError::UnauthenticatedBulkLen);
                }
                let line_len = line.len();
                self.pass(line_len + 2);
                Ok(Some(len as u64))
            }
            [got, ..] => Err(ProtocolError::ExpectedBulk { got: *got }),
            [] => Err(ProtocolError::ExpectedBulk { got: b'\r' }),
        }
    }

    fn step_bulk_data(&mut self, left: u32, len: u32) -> Result<Step, ProtocolError> {
        let end = self.at + len as usize;
        match self.buf.get(end..end + 2) {
            None => return Ok(Step::Incomplete),
            Some(b"\r\n") => {}
            // Redis passes the two bytes unseen; the peer's length is wrong, and what follows would be misread.
            Some(_) => return Err(ProtocolError::InvalidBulkLen),
        }
        let start = (self.at - self.start) as u32;
        self.spans.push(Span { start, len });
        self.pass(len as usize + 2);
        Ok(self.after_element(left))
    }

    fn step_skip_header(&mut self, left: u32, limits: &Limits) -> Result<Step, ProtocolError> {
        let Some(len) = self.bulk_len(limits)? else { return Ok(Step::Incomplete) };
        self.state = State::SkipData { left, todo: len + 2 };
        Ok(Step::Again)
    }

    fn step_skip_data(&mut self, left: u32, todo: u64) -> Step {
        let here = (self.buf.len() - self.at) as u64;
        let passed = here.min(todo);
        self.pass(passed as usize);
        self.start = self.at;
        if passed < todo {
            self.state = State::SkipData { left, todo: todo - passed };
            self.buf.clear();
            (self.start, self.at, self.searched) = (0, 0, 0);
            return Step::Incomplete;
        }
        self.after_element(left)
    }

    fn after_element(&mut self, left: u32) -> Step {
        let left = left - 1;
        match (self.refusal, left) {
            (None, 0) => {
                self.state = State::Start;
                Step::Array
            }
            (Some(refusal), 0) => {
                self.state = State::Start;
                self.refusal = None;
                Step::Refused(refusal)
            }
            (None, _) => {
                self.state = State::BulkHeader { left };
                Step::Again
            }
            (Some(_), _) => {
                self.state = State::SkipHeader { left };
                Step::Again
            }
        }
    }

    /// Forget what was gathered of this request; the rest of it is read past.
    fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
        self.spans = Vec::new();
        self.buf = self.buf.split_off(self.at);
        (self.start, self.at, self.searched) = (0, 0, 0);
    }

    fn step_inline(&mut self, limits: &Limits) -> Result<Step, ProtocolError> {
        let max = if limits.authenticated { LINE_LEN_MAX } else { UNAUTHENTICATED_LINE_LEN_MAX };
        let Some(len) = self.find(b'\n', max).map_err(|TooLong| ProtocolError::InlineTooBig)? else {
            return Ok(Step::Incomplete);
        };
        let line = self.buf.get(self.at..self.at + len).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let spans = &mut self.spans;
        inline::split(line, &mut self.inline, |start, end| {
            spans.push(Span { start: start as u32, len: (end - start) as u32 });
        })
        .map_err(|inline::Unbalanced| ProtocolError::UnbalancedQuotes)?;
        self.pass(len + 1);
        if self.spans.is_empty() {
            self.start = self.at;
            return Ok(Step::Again);
        }
        Ok(Step::Inline)
    }

    /// The header line at hand without its end, once it is all here.
    fn header(
        &mut self,
        limits: &Limits,
        too_long: ProtocolError,
        bad_end: ProtocolError,
    ) -> Result<Option<&[u8]>, ProtocolError> {
        let max = if limits.authenticated { LINE_LEN_MAX } else { UNAUTHENTICATED_LINE_LEN_MAX };
        let Some(len) = self.find(b'\r', max).map_err(|TooLong| too_long)? else { return Ok(None) };
        match self.buf.get(self.at + len + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(self.buf.get(self.at..self.at + len)),
            // Redis skips the byte unseen; a peer that sends another one has lost count, and so would we.
            Some(_) => Err(bad_end),
        }
    }

    /// How far ahead `byte` is, if it is here. Each byte is searched once.
    fn find(&mut self, byte: u8, max: usize) -> Result<Option<usize>, TooLong> {
        let from = self.searched.max(self.at);
        let until = self.buf.len().min(self.at + max + 1);
        let window = self.buf.get(from..until).unwrap_or_default();
        match memchr::memchr(byte, window) {
            Some(found) => {
                // The same line is looked at again when only its second end byte is missing.
                self.searched = from + found;
                Ok(Some(from + found - self.at))
            }
            None if self.buf.len() - self.at > max => Err(TooLong),
            None => {
                self.searched = until;
                Ok(None)
            }
        }
    }

    fn pass(&mut self, bytes: usize) {
        self.at += bytes;
        self.searched = self.at;
    }
}

struct TooLong;

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
