//! The engine as the register whose histories are checked: calls of `corering-proof` on keys of the default keyspace.

// Each test uses one of the ways to wait.
#![allow(dead_code)]

use corering_engine::{Client, Condition, Error, Keyspace, Pending, PutIf, Value, WriteOptions};
use corering_proof::{Condition as Asked, Op, Ret, Told};

const KS: Keyspace = Keyspace::DEFAULT;

/// A call that was submitted.
pub enum Call {
    Read(Result<Option<Value>, Error>),
    Put(Pending<corering_engine::CommitTs>),
    Delete(Pending<bool>),
    PutIf(Pending<PutIf>),
    Incr(Pending<i64>),
}

pub fn key_of(key: u64) -> Vec<u8> {
    format!("register:{key}").into_bytes()
}

fn text(value: i64) -> Vec<u8> {
    value.to_string().into_bytes()
}

pub fn submit(client: &Client, key: u64, op: Op, options: WriteOptions) -> Call {
    let key = key_of(key);
    match op {
        Op::Get => Call::Read(client.get(KS, &key)),
        Op::Put(value) => Call::Put(client.put(KS, &key, &text(value), options)),
        Op::Delete => Call::Delete(client.delete(KS, &key, options)),
        Op::PutIf(condition, value) => {
            let condition = match condition {
                Asked::Absent => Condition::Absent,
                Asked::Present => Condition::Present,
                Asked::Equal(wanted) => Condition::Equal(text(wanted)),
            };
            Call::PutIf(client.put_if(KS, &key, &text(value), condition, options))
        }
        Op::Incr(by) => Call::Incr(client.incr(KS, &key, by, options)),
    }
}

impl Call {
    /// Wait in this thread, which may perform the flush itself.
    pub fn wait(self) -> Told<Ret> {
        told(match self {
            Call::Read(found) => found.map(of_value),
            Call::Put(pending) => pending.wait().map(|_| Ret::Done),
            Call::Delete(pending) => pending.wait().map(Ret::Existed),
            Call::PutIf(pending) => pending.wait().map(of_put_if),
            Call::Incr(pending) => pending.wait().map(Ret::Sum),
        })
    }

    /// Wait as a task does, for others to perform the flush.
    pub async fn finish(self) -> Told<Ret> {
        told(match self {
            Call::Read(found) => found.map(of_value),
            Call::Put(pending) => pending.await.map(|_| Ret::Done),
            Call::Delete(pending) => pending.await.map(Ret::Existed),
            Call::PutIf(pending) => pending.await.map(of_put_if),
            Call::Incr(pending) => pending.await.map(Ret::Sum),
        })
    }
}

fn of_value(found: Option<Value>) -> Ret {
    let number = |value: Value| String::from_utf8(value.bytes).ok().and_then(|text| text.parse().ok());
    Ret::Value(found.map(|value| number(value).expect("only integers are written")))
}

fn of_put_if(outcome: PutIf) -> Ret {
    Ret::Taken(matches!(outcome, PutIf::Done(_)))
}

fn told(result: Result<Ret, Error>) -> Told<Ret> {
    match result {
        Ok(ret) => Told::Answer(ret),
        Err(error) if error.may_have_committed() || matches!(error, Error::Closed) => Told::Nothing,
        Err(error) if error.is_retryable() => Told::Refused,
        Err(error) => panic!("no call of this load is wrong: {error}"),
    }
}
