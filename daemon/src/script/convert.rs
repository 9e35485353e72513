//! Replies as Lua's values and back, by Redis's rules.

use mlua::{Lua, MultiValue, Table, Value as LuaValue};

use super::Sha;
use crate::resp::Value;

/// Tables within tables.
const DEPTH_MAX: usize = 32;

/// A command's words.
pub fn words(args: &MultiValue) -> Result<Vec<Vec<u8>>, &'static str> {
    if args.is_empty() {
        return Err("ERR Please specify at least one argument for this redis.call() call");
    }
    let word = |value: &LuaValue| match value {
        LuaValue::String(text) => Ok(text.as_bytes().to_vec()),
        LuaValue::Integer(number) => Ok(number.to_string().into_bytes()),
        LuaValue::Number(number) => Ok(number_text(*number).into_bytes()),
        _ => Err("ERR Lua redis lib command arguments must be strings or integers"),
    };
    args.iter().map(word).collect()
}

/// As C prints it by `%.17g`, but for whole numbers, which have no point.
fn number_text(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e17 { format!("{number:.0}") } else { format!("{number}") }
}

/// An error as a script sees it; `line` is where it happened.
pub fn problem(lua: &Lua, text: &[u8], line: Option<usize>) -> mlua::Result<LuaValue> {
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string(text)?)?;
    if let Some(line) = line {
        table.raw_set("line", line)?;
    }
    Ok(LuaValue::Table(table))
}

pub fn to_lua(lua: &Lua, value: &Value) -> mlua::Result<LuaValue> {
    Ok(match value {
        Value::Integer(number) => LuaValue::Number(*number as f64),
        Value::Bulk(bytes) | Value::Verbatim(bytes) | Value::Double(bytes) => {
            LuaValue::String(lua.create_string(bytes)?)
        }
        Value::Null => LuaValue::Boolean(false),
        Value::Boolean(is) => LuaValue::Boolean(*is),
        Value::Simple(text) => {
            let table = lua.create_table()?;
            table.raw_set("ok", lua.create_string(text)?)?;
            LuaValue::Table(table)
        }
        Value::Error(text) => problem(lua, text, None)?,
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            let items = items.iter().map(|item| to_lua(lua, item)).collect::<mlua::Result<Vec<_>>>()?;
            LuaValue::Table(lua.create_sequence_from(items)?)
        }
        Value::Map(pairs) => {
            let flat = pairs.iter().flat_map(|(key, value)| [key, value]);
            let items = flat.map(|item| to_lua(lua, item)).collect::<mlua::Result<Vec<_>>>()?;
            LuaValue::Table(lua.create_sequence_from(items)?)
        }
    })
}

/// What a script returned.
pub fn to_reply(value: &LuaValue, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err("ERR reached lua stack limit".to_owned());
    }
    Ok(match value {
        LuaValue::String(text) => Value::Bulk(text.as_bytes().to_vec()),
        LuaValue::Integer(number) => Value::Integer(*number),
        LuaValue::Number(number) => Value::Integer(*number as i64),
        LuaValue::Boolean(true) => Value::Integer(1),
        LuaValue::Table(table) => table_reply(table, depth)?,
        _ => Value::Null,
    })
}

fn table_reply(table: &Table, depth: usize) -> Result<Value, String> {
    let bad = |error: mlua::Error| format!("ERR {error}");
    if let Some(text) = text_of(table, "err") {
        return Ok(Value::Error(one_line(&text)));
    }
    if let Some(text) = text_of(table, "ok") {
        return Ok(Value::Simple(one_line(&text)));
    }
    let mut items = Vec::new();
    for at in 1.. {
        match table.raw_get::<LuaValue>(at).map_err(bad)? {
            LuaValue::Nil => break,
            item => items.push(to_reply(&item, depth + 1)?),
        }
    }
    Ok(Value::Array(items))
}

fn text_of(table: &Table, name: &str) -> Option<Vec<u8>> {
    match table.raw_get::<LuaValue>(name) {
        Ok(LuaValue::String(text)) => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}

/// What a script raised and did not catch.
pub fn raised(value: &LuaValue, sha: &Sha) -> Vec<u8> {
    let (text, line) = match value {
        LuaValue::Table(table) => (text_of(table, "err"), table.raw_get::<Option<usize>>("line").ok().flatten()),
        LuaValue::String(text) => {
            let text = text.as_bytes();
            (Some([b"ERR ".as_slice(), &text].concat()), line_in(&text))
        }
        LuaValue::Error(error) => {
            let text = error.to_string();
            (Some(format!("ERR {text}").into_bytes()), line_in(text.as_bytes()))
        }
        _ => (None, None),
    };
    let text = text.unwrap_or_else(|| b"ERR unknown error".to_vec());
    let place = line.map_or_else(String::new, |line| format!(", on @user_script:{line}."));
    one_line(&[&text, b" script: ".as_slice(), sha.hex().as_bytes(), place.as_bytes()].concat())
}

/// Where Lua's own messages say that it was.
fn line_in(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b"user_script:")?;
    let digits = rest.split(|byte| *byte == b':').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A line of the protocol holds no end of a line.
pub fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}
