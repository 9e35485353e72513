//! One operation of many: as C gives it, as the engine does it, as its outcome goes back.

use std::ffi::c_void;

use crate::db::Db;
use crate::engine::{CommitTs, Condition, Error, Expiry, Keyspace, Kind, SessionId, Tx, Value, ValueRef};
use crate::failure::Failure;
use crate::options;
use crate::raw::{Caller, c_struct};
use crate::status::corering_status::{self, *};
use crate::value::corering_value;

/// Some bytes of the program.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_bytes {
    pub data: *const c_void,
    pub len: usize,
}

/// What a conditional write asks of what is there.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_condition_kind {
    /// Nothing.
    CORERING_IF_ALWAYS = 0,
    /// There is no such key.
    CORERING_IF_ABSENT = 1,
    /// There is such a key.
    CORERING_IF_PRESENT = 2,
    /// The value's bytes are exactly `expected`.
    CORERING_IF_EQUAL = 3,
    /// The value was written by exactly the commit `version`.
    CORERING_IF_VERSION = 4,
}
use corering_condition_kind::*;

/// The condition of a conditional write.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_condition {
    /// A `corering_condition_kind`.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// For CORERING_IF_EQUAL.
    pub expected: *const c_void,
    pub expected_len: usize,
    /// For CORERING_IF_VERSION.
    pub version: u64,
}

/// What an operation does.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_op_kind {
    /// Read a key.
    CORERING_OP_GET = 1,
    /// Store `value` under a key.
    CORERING_OP_PUT = 2,
    /// Remove a key.
    CORERING_OP_DELETE = 3,
    /// Store `value` under a key if `condition` holds.
    CORERING_OP_PUT_IF = 4,
    /// Add `delta` to the number under a key.
    CORERING_OP_INCR = 5,
    /// Make durable everything that was answered before. Has no key. Only in a queue.
    CORERING_OP_SYNC = 6,
    /// In results only: the batch of `corering_queue_submit_batch`.
    CORERING_OP_BATCH = 7,
    /// In results only: the lock of `corering_queue_acquire`.
    CORERING_OP_ACQUIRE = 8,
    /// Only in results: a watch given to `corering_queue_watch` has something to be taken.
    CORERING_OP_WATCH = 9,
    /// In results only: the transaction of `corering_queue_commit`.
    CORERING_OP_COMMIT = 10,
    /// In results only: the key of `corering_queue_get_for_update`.
    CORERING_OP_GET_FOR_UPDATE = 11,
    /// In results only: the session of `corering_queue_lost` has lost something.
    CORERING_OP_LOST = 12,
    /// In results only: the transaction of `corering_queue_wait_turn` has its turn.
    CORERING_OP_TURN = 13,
}
use corering_op_kind::*;

/// One operation of `corering_execute` or `corering_queue_submit`. Zero what its kind does not use.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_op {
    /// A `corering_op_kind`.
    pub kind: u32,
    /// The name space of the key: 0 to 65279.
    pub keyspace: u32,
    pub key: *const c_void,
    pub key_len: usize,
    /// For PUT and PUT_IF.
    pub value: *const c_void,
    pub value_len: usize,
    /// For PUT_IF.
    pub condition: corering_condition,
    /// For INCR.
    pub delta: i64,
    /// For PUT, PUT_IF and an INCR of a new key: milliseconds since 1970 at which the value ceases to exist; 0: never.
    pub expires_at_ms: u64,
    /// The same as milliseconds from now at which the value ceases to exist; 0: never.
    pub ttl_ms: u64,
    /// Comes back in the result.
    pub user_data: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

/// The outcome of one operation.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_result {
    /// The operation's.
    pub user_data: u64,
    /// How it went. Below zero, `value` holds the text of the error.
    pub status: corering_status,
    /// The operation's: a `corering_op_kind`.
    pub kind: u32,
    /// PUT, PUT_IF, BATCH and COMMIT: the commit; GET and GET_FOR_UPDATE: the commit that wrote the value; a PUT_IF that was refused: the commit that wrote what is there, 0 if
    /// nothing is; ACQUIRE: the fencing token.
    pub version: u64,
    /// INCR: the new number. DELETE: 1 if the key was there. ACQUIRE: how often the session holds the lock.
    pub integer: i64,
    /// GET, GET_FOR_UPDATE: the value. An error: its text, in UTF-8. To be freed with `corering_value_free`.
    pub value: corering_value,
    /// Zero.
    pub reserved: [u64; 2],
}

c_struct!(plain corering_bytes, corering_condition, corering_op);
c_struct!(zeroable corering_result);

impl corering_condition {
    pub(crate) fn to_engine(self, caller: &Caller) -> Result<Condition, Failure> {
        const ALWAYS: u32 = CORERING_IF_ALWAYS as u32;
        const ABSENT: u32 = CORERING_IF_ABSENT as u32;
        const PRESENT: u32 = CORERING_IF_PRESENT as u32;
        const EQUAL: u32 = CORERING_IF_EQUAL as u32;
        const VERSION: u32 = CORERING_IF_VERSION as u32;
        options::zero("the condition's reserved", self.reserved)?;
        match self.kind {
            ALWAYS => Ok(Condition::Always),
            ABSENT => Ok(Condition::Absent),
            PRESENT => Ok(Condition::Present),
            EQUAL => Ok(Condition::Equal(caller.value(self.expected, self.expected_len)?.to_vec())),
            VERSION => Ok(Condition::Version(CommitTs(self.version))),
            kind => {
                Err(Failure::argument(format!("the condition's kind is {kind}, which is no corering_condition_kind")))
            }
        }
    }
}

/// An operation that owns its bytes, so that it can travel to its shard.
pub(crate) struct Op {
    pub keyspace: Keyspace,
    pub key: Vec<u8>,
    pub action: Action,
}

pub(crate) enum Action {
    Get,
    Put { value: Vec<u8>, expiry: Expiry },
    Delete,
    PutIf { value: Vec<u8>, expiry: Expiry, condition: Condition },
    Incr { by: i64, expiry: Expiry },
    Sync,
}

/// How an operation went.
pub(crate) enum Answer {
    Value(Option<Value>),
    /// Written; the commit is not known yet.
    Put,
    Written {
        version: u64,
    },
    Refused {
        version: u64,
    },
    Existed(bool),
    Number(i64),
    Granted {
        token: u64,
        count: u32,
    },
    Done,
    Failed(Failure),
    /// To be asked by the thread of the program that wants to know.
    Later(Box<dyn FnOnce() -> Answer + Send>),
}

impl Op {
    pub(crate) fn from_c(caller: &Caller, given: &corering_op, db: &Db) -> Result<Op, Failure> {
        const GET: u32 = CORERING_OP_GET as u32;
        const PUT: u32 = CORERING_OP_PUT as u32;
        const DELETE: u32 = CORERING_OP_DELETE as u32;
        const PUT_IF: u32 = CORERING_OP_PUT_IF as u32;
        const INCR: u32 = CORERING_OP_INCR as u32;
        const SYNC: u32 = CORERING_OP_SYNC as u32;
        options::zero("the operation's reserved", given.reserved.iter().fold(0, |all, part| all | part))?;
        let value = || Ok::<_, Failure>(caller.value(given.value, given.value_len)?.to_vec());
        let expiry = || options::expiry(given.expires_at_ms, given.ttl_ms, db);
        let action = match given.kind {
            GET => Action::Get,
            PUT => Action::Put { value: value()?, expiry: expiry()? },
            DELETE => Action::Delete,
            PUT_IF => {
                let condition = given.condition.to_engine(caller)?;
                Action::PutIf { value: value()?, expiry: expiry()?, condition }
            }
            INCR => Action::Incr { by: given.delta, expiry: expiry()? },
            SYNC => Action::Sync,
            kind => {
                return Err(Failure::argument(format!(
                    "the kind is {kind}, which is no corering_op_kind of a request"
                )));
            }
        };
        let key = caller.key(given.key, given.key_len)?.to_vec();
        Ok(Op { keyspace: options::keyspace(given.keyspace)?, key, action })
    }

    pub(crate) fn is_read(&self) -> bool {
        matches!(self.action, Action::Get)
    }

    /// Bytes that it adds to a record.
    pub(crate) fn len(&self) -> usize {
        let value = match &self.action {
            Action::Put { value, .. } | Action::PutIf { value, .. } => value.len(),
            Action::Incr { .. } => 20,
            Action::Get | Action::Delete | Action::Sync => 0,
        };
        self.key.len() + value
    }

    /// Does it on its shard. What goes wrong is its own answer, so that its neighbours are not undone.
    pub(crate) fn run(&self, tx: &mut Tx<'_>, owner: Option<SessionId>) -> Answer {
        self.try_run(tx, owner).unwrap_or_else(|error| Answer::Failed(error.into()))
    }

    fn try_run(&self, tx: &mut Tx<'_>, owner: Option<SessionId>) -> Result<Answer, Error> {
        let (keyspace, key) = (self.keyspace, self.key.as_slice());
        match &self.action {
            Action::Get => Ok(Answer::Value(tx.get(keyspace, key)?.map(ValueRef::to_value))),
            Action::Put { value, expiry } => {
                tx.put_as(keyspace, key, value, Kind::BYTES, *expiry, owner)?;
                Ok(Answer::Put)
            }
            Action::Delete => {
                let existed = tx.get(keyspace, key)?.is_some();
                if existed {
                    tx.delete(keyspace, key)?;
                }
                Ok(Answer::Existed(existed))
            }
            Action::PutIf { value, expiry, condition } => {
                if let Err(version) = check(condition, tx.get(keyspace, key)?) {
                    return Ok(Answer::Refused { version });
                }
                tx.put_as(keyspace, key, value, Kind::BYTES, *expiry, owner)?;
                Ok(Answer::Put)
            }
            Action::Incr { by, expiry } => {
                let (old, expiry) = match tx.get(keyspace, key)? {
                    Some(value) => (number(value.bytes)?, value.expiry),
                    None => (0, *expiry),
                };
                let new = old.checked_add(*by).ok_or(Error::Overflow)?;
                let value = new.to_string();
                match owner {
                    None => tx.update(keyspace, key, value.as_bytes(), Kind::BYTES, expiry)?,
                    owner => tx.put_as(keyspace, key, value.as_bytes(), Kind::BYTES, expiry, owner)?,
                }
                Ok(Answer::Number(new))
            }
            Action::Sync => Err(Error::invalid("CORERING_OP_SYNC belongs into a queue; call corering_sync")),
        }
    }
}

/// Refuses with the version of what is there.
fn check(condition: &Condition, found: Option<ValueRef<'_>>) -> Result<(), u64> {
    let holds = match (condition, &found) {
        (Condition::Always, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
        (Condition::Equal(expected), Some(found)) => found.bytes == expected.as_slice(),
        (Condition::Version(version), Some(found)) => found.version == *version,
        (Condition::Absent, Some(_)) | (Condition::Present | Condition::Equal(_) | Condition::Version(_), None) => {
            false
        }
    };
    if holds { Ok(()) } else { Err(found.map_or(0, |found| found.version.0)) }
}

/// As the engine's own `incr` reads it: one text for each number.
fn number(bytes: &[u8]) -> Result<i64, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NotAnInteger)?;
    let number: i64 = text.parse().map_err(|_| Error::NotAnInteger)?;
    if number.to_string() == text { Ok(number) } else { Err(Error::NotAnInteger) }
}

impl Answer {
    /// The commit of its shard's hop is known now: the version of what the hop wrote, and of what it read of that.
    pub(crate) fn committed(self, commit: CommitTs) -> Answer {
        let known = |version: CommitTs| if version == CommitTs::MAX { commit } else { version };
        match self {
            Answer::Put => Answer::Written { version: commit.0 },
            Answer::Value(Some(value)) => Answer::Value(Some(Value { version: known(value.version), ..value })),
            Answer::Refused { version } => Answer::Refused { version: known(CommitTs(version)).0 },
            other => other,
        }
    }

    /// The result as C sees it. With no handle left for a value, that is its outcome; an error only goes without text.
    pub(crate) fn into_c(self, user_data: u64, kind: u32) -> corering_result {
        let mut result = corering_result {
            user_data,
            status: CORERING_OK,
            kind,
            version: 0,
            integer: 0,
            value: corering_value::NONE,
            reserved: [0; 2],
        };
        match self {
            Answer::Value(Some(value)) => {
                result.version = value.version.0;
                match corering_value::publish(value) {
                    Ok(value) => result.value = value,
                    Err(failure) => result.status = failure.status(),
                }
            }
            Answer::Value(None) => result.status = CORERING_NOT_FOUND,
            Answer::Written { version } => result.version = version,
            Answer::Refused { version } => {
                result.status = CORERING_REFUSED;
                result.version = version;
            }
            Answer::Existed(existed) => result.integer = existed.into(),
            Answer::Number(number) => result.integer = number,
            Answer::Granted { token, count } => {
                result.version = token;
                result.integer = count.into();
            }
            Answer::Put | Answer::Done => {}
            Answer::Later(ask) => return ask().into_c(user_data, kind),
            Answer::Failed(failure) => {
                result.status = failure.status();
                let text = failure.to_string().into_bytes();
                result.value = corering_value::publish_bytes(text, 0, 0).unwrap_or(corering_value::NONE);
            }
        }
        result
    }
}
