//! The machine alone, with a `call` that knows a few words.

use super::*;

fn script<'a>(sha: &'a Sha, source: &'a [u8]) -> Script<'a> {
    Script { sha, source, keys: vec![b"k1", b"k2"], args: vec![b"a1", &[0xff, 0]] }
}

fn eval(source: &str) -> Result<Value, String> {
    let sha = Sha::of(source.as_bytes());
    let mut asked = Vec::new();
    let answer = run(&script(&sha, source.as_bytes()), &mut |words| {
        asked.push(words.clone());
        Ok(match words[0].as_slice() {
            b"one" => Value::Integer(1),
            b"ok" => Value::Simple(b"OK".to_vec()),
            b"nothing" => Value::Null,
            b"echo" => Value::Bulk(words[1].clone()),
            b"many" => Value::Array(vec![Value::Integer(1), Value::Null, Value::Bulk(b"x".to_vec())]),
            _ => Value::Error(b"WRONGTYPE it is".to_vec()),
        })
    });
    answer.map_err(|failure| match failure {
        Failure::Error(text) => String::from_utf8_lossy(&text).into_owned(),
        Failure::Stopped => "stopped".to_owned(),
    })
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

#[test]
fn values_come_and_go_by_the_rules() {
    assert_eq!(eval("return 3.99"), Ok(Value::Integer(3)));
    assert_eq!(eval("return -3.99"), Ok(Value::Integer(-3)));
    assert_eq!(eval("return 'x'"), Ok(bulk("x")));
    assert_eq!(eval("return true"), Ok(Value::Integer(1)));
    assert_eq!(eval("return false"), Ok(Value::Null));
    assert_eq!(eval("return nil"), Ok(Value::Null));
    assert_eq!(eval(""), Ok(Value::Null));
    assert_eq!(eval("return {1, 'a', {2}, nil, 3}"), {
        Ok(Value::Array(vec![Value::Integer(1), bulk("a"), Value::Array(vec![Value::Integer(2)])]))
    });
    assert_eq!(eval("return {ok='fine'}"), Ok(Value::Simple(b"fine".to_vec())));
    assert_eq!(eval("return redis.status_reply('fine')"), Ok(Value::Simple(b"fine".to_vec())));
    assert_eq!(eval("return redis.error_reply('MY way')"), Ok(Value::Error(b"MY way".to_vec())));
    assert_eq!(eval("return redis.error_reply('word')"), Ok(Value::Error(b"ERR word".to_vec())));
    assert_eq!(eval("return {err='a\\r\\nb'}"), Ok(Value::Error(b"a  b".to_vec())));
    assert_eq!(eval("return {KEYS[1], KEYS[2], ARGV[2], #KEYS, #ARGV}"), {
        let raw = Value::Bulk(vec![0xff, 0]);
        Ok(Value::Array(vec![bulk("k1"), bulk("k2"), raw, Value::Integer(2), Value::Integer(2)]))
    });
    assert_eq!(eval("return redis.sha1hex('')"), Ok(bulk("da39a3ee5e6b4b0d3255bfef95601890afd80709")));
}

#[test]
fn commands_are_called_and_their_errors_caught_or_not() {
    assert_eq!(eval("return redis.call('one') + 1"), Ok(Value::Integer(2)));
    assert_eq!(eval("return redis.call('ok').ok"), Ok(bulk("OK")));
    assert_eq!(eval("return redis.call('nothing') == false"), Ok(Value::Integer(1)));
    assert_eq!(eval("return redis.call('echo', 12) .. redis.call('echo', 1.5) .. redis.call('echo', 1e15)"), {
        Ok(bulk("121.51000000000000000"))
    });
    assert_eq!(eval("local m = redis.call('many') return {m[1], m[2] == false, m[3]}"), {
        Ok(Value::Array(vec![Value::Integer(1), Value::Integer(1), bulk("x")]))
    });
    assert!(eval("redis.call('bad')").unwrap_err().ends_with(", on @user_script:1."));
    assert_eq!(eval("return redis.pcall('bad')"), Ok(Value::Error(b"WRONGTYPE it is".to_vec())));
    assert_eq!(eval("return redis.pcall('bad').err"), Ok(bulk("WRONGTYPE it is")));
    assert_eq!(eval("local ok, e = pcall(redis.call, 'bad') return {ok == false, e}"), {
        Ok(Value::Array(vec![Value::Integer(1), bulk("WRONGTYPE it is")]))
    });
    assert!(eval("redis.call()").unwrap_err().contains("at least one argument"));
    assert!(eval("redis.call({})").unwrap_err().contains("must be strings or integers"));
    assert!(eval("return 1 +").unwrap_err().starts_with("ERR Error compiling script (new function): user_script:1:"));
    assert!(eval("error('boom')").unwrap_err().starts_with("ERR user_script:1: boom script: "));
    assert!(eval("error({err='MY boom'})").unwrap_err().starts_with("MY boom script: "));
}

#[test]
fn a_script_reaches_nothing_else_and_leaves_nothing_behind() {
    for name in
        "io os debug package require load loadstring loadfile dofile print collectgarbage getfenv setfenv newproxy \
        coroutine module rust string.dump"
            .split_whitespace()
    {
        let got = eval(&format!("local ok, x = pcall(function() return {name} end) return (not ok) or x == nil"));
        assert_eq!(got, Ok(Value::Integer(1)), "{name}");
    }
    assert!(eval("x = 1").unwrap_err().contains("Attempt to modify a readonly table"));
    assert!(eval("return x").unwrap_err().contains("nonexistent global variable 'x'"));
    assert!(eval("return getmetatable('').__index").is_err());
    assert!(eval("return setmetatable(_G, {})").is_err());
    // What one run does to its own tables, the next does not see.
    assert_eq!(eval("string.upper = nil; rawset(_G, 'left', 1); redis.call = nil; return left"), Ok(Value::Integer(1)));
    assert_eq!(eval("return string.upper('a') .. ('b'):upper()"), Ok(bulk("AB")));
    assert!(eval("return left").is_err());
    // Bytes of a compiled chunk are no script.
    assert!(check(&Sha::of(b"\x1bLua"), b"\x1bLuaQ\0").is_err());
}

#[test]
fn a_script_ends() {
    assert!(eval("while true do end").unwrap_err().contains("instructions"));
    let nested = "local function f() while true do end end while true do pcall(pcall, f) end";
    assert!(eval(nested).unwrap_err().contains("instructions"));
    assert!(
        eval("local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end")
            .unwrap_err()
            .contains("not enough memory")
    );
    assert!(eval("return ('x'):rep(1e9)").unwrap_err().contains("not enough memory"));
    assert!(eval("local function f() return f() + 1 end return f()").unwrap_err().contains("stack overflow"));
    assert!(eval("local t = {} for i = 1, 40 do t = {t} end return t").unwrap_err().contains("stack limit"));
    // The next one has all there is.
    assert_eq!(eval("local n = 0 for i = 1, 1e6 do n = n + 1 end return n"), Ok(Value::Integer(1_000_000)));
    let sha = Sha::of(b"stop");
    let source = b"while true do pcall(redis.call, 'x') end";
    assert_eq!(run(&script(&sha, source), &mut |_| Err(Stop)), Err(Failure::Stopped));
}
