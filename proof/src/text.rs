//! A history as lines of text, from a process that may be killed in the middle of one.
//!
//! ```text
//! ask CLIENT TIME KEY get|put V|delete|absent V|present V|equal W V|add N
//! ans CLIENT TIME nothing|V|done|existed 0/1|taken 0/1|sum V
//! ref CLIENT                                   nothing was done
//! ```
//!
//! Times are of the machine's monotonic clock. A client has one call at a time; one that was never answered stays unknown, and
//! a client's number may not be used again after its process was killed.

use std::collections::BTreeMap;

use crate::history::{Call, End, History};
use crate::register::{Condition, Op, Ret};

/// Read the lines of one process; `first_client` is added to its clients' numbers.
pub fn parse(text: &str, first_client: u32) -> Result<History<Op, Ret>, String> {
    let mut open: BTreeMap<u32, Call<Op, Ret>> = BTreeMap::new();
    let mut history = Vec::new();
    // What follows the last end of a line was cut.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let wrong = || format!("not a line of a history: {line}");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<i64>().ok()).ok_or_else(wrong);
        let client = u32::try_from(number(1)?).map_err(|_| wrong())? + first_client;
        match words.first() {
            Some(&"ask") => {
                let op = match words.get(4) {
                    Some(&"get") => Op::Get,
                    Some(&"put") => Op::Put(number(5)?),
                    Some(&"delete") => Op::Delete,
                    Some(&"absent") => Op::PutIf(Condition::Absent, number(5)?),
                    Some(&"present") => Op::PutIf(Condition::Present, number(5)?),
                    Some(&"equal") => Op::PutIf(Condition::Equal(number(5)?), number(6)?),
                    Some(&"add") => Op::Incr(number(5)?),
                    _ => return Err(wrong()),
                };
                let (asked, key) = (number(2)?.cast_unsigned(), number(3)?.cast_unsigned());
                if open.insert(client, Call { client, key, op, asked, end: End::Unknown }).is_some() {
                    return Err(format!("client {client} has two calls at a time: {line}"));
                }
            }
            Some(&"ans") => {
                let ret = match (words.get(3), words.get(4)) {
                    (Some(&"nothing"), None) => Ret::Value(None),
                    (Some(&"done"), None) => Ret::Done,
                    (Some(&"existed"), Some(_)) => Ret::Existed(number(4)? != 0),
                    (Some(&"taken"), Some(_)) => Ret::Taken(number(4)? != 0),
                    (Some(&"sum"), Some(_)) => Ret::Sum(number(4)?),
                    _ => Ret::Value(Some(number(3)?)),
                };
                let mut call = open.remove(&client).ok_or_else(wrong)?;
                call.end = End::Answered { at: number(2)?.cast_unsigned(), ret };
                history.push(call);
            }
            Some(&"ref") => {
                open.remove(&client).ok_or_else(wrong)?;
            }
            _ => return Err(wrong()),
        }
    }
    history.extend(open.into_values());
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_calls_and_a_cut_line_is_left_out() {
        let text = "ask 0 10 7 put 5\nask 1 11 7 get\nans 1 12 nothing\nans 0 13 done\nask 0 14 7 add -2\nans 0 15 su";
        let history = parse(text, 100).unwrap();
        assert_eq!(
            history,
            [
                Call {
                    client: 101,
                    key: 7,
                    op: Op::Get,
                    asked: 11,
                    end: End::Answered { at: 12, ret: Ret::Value(None) }
                },
                Call { client: 100, key: 7, op: Op::Put(5), asked: 10, end: End::Answered { at: 13, ret: Ret::Done } },
                Call { client: 100, key: 7, op: Op::Incr(-2), asked: 14, end: End::Unknown },
            ]
        );
    }

    #[test]
    fn what_is_no_history_is_refused() {
        for bad in
            ["ans 0 1 done\n", "ask 0 1 1 jump\n", "ask 0 1 1 get\nask 0 2 1 get\n", "ask 0 1 1 put\n", "hello\n"]
        {
            assert!(parse(bad, 0).is_err(), "{bad}");
        }
    }
}
