//! The same commands to redis-server and to us: the replies must be the same bytes, in RESP2 and in RESP3.
//!
//! Scripts in `compat_scripts/` hold one command a line, quoted as on a command line; a blank line empties both servers.
//! A line may begin with a mark that says how its replies are compared:
//! - `~sorted`: arrays in any order (the order of keys is ours);
//! - `~near N`: integers may differ by N (time passes between the two);
//! - `~differs REASON |`: they differ, for this reason. Should they agree one day, the mark has to go.

use std::fmt::Write as _;

use crate::common::redis::Redis;
use crate::common::{Client, Server};
use corering_daemon::resp::{Decoder, Limits, Next, ReplyReader, Value};

const SCRIPTS: &[(&str, &str)] = &[
    ("strings", include_str!("compat_scripts/strings.txt")),
    ("numbers", include_str!("compat_scripts/numbers.txt")),
    ("keys", include_str!("compat_scripts/keys.txt")),
    ("expiry", include_str!("compat_scripts/expiry.txt")),
    ("scan", include_str!("compat_scripts/scan.txt")),
    ("connection", include_str!("compat_scripts/connection.txt")),
    ("server", include_str!("compat_scripts/server.txt")),
    ("pubsub", include_str!("compat_scripts/pubsub.txt")),
    ("transactions", include_str!("compat_scripts/transactions.txt")),
    ("scripts", include_str!("compat_scripts/scripts.txt")),
];

#[derive(Clone, PartialEq, Debug)]
enum Compare {
    Bytes,
    Sorted,
    Near(i64),
    Differs(String),
}

struct Line {
    number: usize,
    compare: Compare,
    args: Vec<Vec<u8>>,
}

/// Split a line as an inline command is split: by our own parser, which has its own tests.
fn split(text: &str) -> Vec<Vec<u8>> {
    let limits = Limits { authenticated: true, bulk_len: 1 << 20, kept_bulk_len: 1 << 20, kept_request_len: 1 << 20 };
    let mut decoder = Decoder::new();
    decoder.feed(text.as_bytes());
    decoder.feed(b"\n");
    match decoder.next(&limits) {
        Ok(Next::Request(request)) => request.iter().map(<[u8]>::to_vec).collect(),
        other => panic!("{text:?} is no command: {other:?}"),
    }
}

fn parse(number: usize, text: &str) -> Line {
    let (compare, command) = match text.strip_prefix('~') {
        None => (Compare::Bytes, text),
        Some(rest) => {
            let (mark, rest) = rest.split_once(' ').expect("a mark and a command");
            match mark {
                "sorted" => (Compare::Sorted, rest),
                "near" => {
                    let (n, rest) = rest.split_once(' ').expect("a number and a command");
                    (Compare::Near(n.parse().expect("a number")), rest)
                }
                "differs" => {
                    let (reason, rest) = rest.split_once('|').expect("a reason and a command");
                    (Compare::Differs(reason.trim().to_owned()), rest.trim())
                }
                _ => panic!("line {number}: no such mark: {mark}"),
            }
        }
    };
    Line { number, compare, args: split(command) }
}

struct Pair {
    redis: Client,
    ours: Client,
}

fn value(raw: &[u8]) -> Value {
    let mut reader = ReplyReader::new();
    reader.feed(raw);
    reader.next_value().unwrap().unwrap()
}

fn sorted(value: Value) -> Value {
    let sort = |items: Vec<Value>| {
        let mut items: Vec<Value> = items.into_iter().map(sorted).collect();
        items.sort_by_key(|item| format!("{item:?}"));
        items
    };
    match value {
        Value::Array(items) => Value::Array(sort(items)),
        Value::Set(items) => Value::Set(sort(items)),
        Value::Map(pairs) => {
            let mut pairs = pairs;
            pairs.sort_by_key(|(key, _)| format!("{key:?}"));
            Value::Map(pairs)
        }
        other => other,
    }
}

fn agree(compare: &Compare, redis: &[u8], ours: &[u8]) -> bool {
    match compare {
        Compare::Bytes => redis == ours,
        Compare::Sorted => redis.first() == ours.first() && sorted(value(redis)) == sorted(value(ours)),
        Compare::Near(by) => match (value(redis), value(ours)) {
            (Value::Integer(a), Value::Integer(b)) => (a - b).abs() <= *by,
            (a, b) => a == b,
        },
        Compare::Differs(_) => redis != ours,
    }
}

impl Pair {
    fn new(redis: &Redis, server: &Server, protocol: u8) -> Pair {
        let mut pair = Pair { redis: redis.client(), ours: server.client() };
        if protocol == 3 {
            pair.redis.words("HELLO 3");
            pair.ours.words("HELLO 3");
        }
        pair
    }

    fn both<A: AsRef<[u8]>>(&mut self, args: &[A]) -> (Vec<u8>, Vec<u8>) {
        (self.redis.call_raw(args), self.ours.call_raw(args))
    }

    fn flush(&mut self) {
        self.redis.ok("FLUSHALL");
        self.ours.ok("FLUSHALL");
    }

    /// Many commands at once; replies in order.
    fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut replies = Vec::new();
        for chunk in commands.chunks(200) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|args| crate::common::client::encode(args)).collect();
            self.redis.send_raw(&bytes).unwrap();
            self.ours.send_raw(&bytes).unwrap();
            for _ in chunk {
                replies.push((self.redis.raw_reply().unwrap(), self.ours.raw_reply().unwrap()));
            }
        }
        replies
    }
}

fn shown(args: &[Vec<u8>]) -> String {
    args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

/// What a comparison found, told at its end.
#[derive(Default)]
struct Findings {
    compared: usize,
    allowed: usize,
    text: String,
}

impl Findings {
    fn check(&mut self, place: &str, compare: &Compare, args: &[Vec<u8>], replies: &(Vec<u8>, Vec<u8>)) {
        self.compared += 1;
        let (redis, ours) = replies;
        if matches!(compare, Compare::Differs(_)) {
            self.allowed += 1;
        }
        if !agree(compare, redis, ours) {
            let _ = writeln!(
                self.text,
                "{place}: {}  [{compare:?}]\n    redis: {}\n    ours:  {}",
                shown(args),
                redis.escape_ascii(),
                ours.escape_ascii()
            );
        }
    }

    fn done(self, what: &str) {
        println!("{what}: {} replies compared, {} of them known to differ", self.compared, self.allowed);
        let lines = self.text.lines().count() / 3;
        assert!(self.text.is_empty(), "{lines} replies differ:\n{}", self.text);
    }
}

#[test]
fn scripts() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&["--durability", "none"]);
    let mut findings = Findings::default();
    for protocol in [2, 3] {
        for (name, script) in SCRIPTS {
            let mut pair = Pair::new(&redis, &server, protocol);
            pair.flush();
            for (i, text) in script.lines().enumerate() {
                let text = text.trim();
                if text.is_empty() {
                    pair.flush();
                }
                if text.is_empty() || text.starts_with('#') {
                    continue;
                }
                let line = parse(i + 1, text);
                let replies = pair.both(&line.args);
                findings.check(&format!("RESP{protocol} {name}:{}", line.number), &line.compare, &line.args, &replies);
            }
        }
    }
    findings.done("scripts");
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split_ascii_whitespace().map(|word| word.as_bytes().to_vec()).collect()
}

/// All sequences of up to `len` of the words.
fn sequences(vocabulary: &[&str], len: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..len {
        last = last.iter().flat_map(|head| vocabulary.iter().map(move |word| format!("{head} {word}"))).collect();
        all.extend(last.clone());
    }
    all
}

/// Run `command` on a key that is absent, present, or present with an expiry, and look at the key afterwards.
fn on_each_state(commands: impl Iterator<Item = String>) -> Vec<(Vec<Vec<u8>>, Compare)> {
    let mut all = Vec::new();
    for command in commands {
        for state in ["DEL k", "SET k old", "SET k old PX 5000000", "SET k 12 EX 4000000000"] {
            all.push((words(state), Compare::Bytes));
            all.push((words(&command), Compare::Bytes));
            all.push((words("GET k"), Compare::Bytes));
            all.push((words("PTTL k"), Compare::Near(20_000)));
        }
    }
    all
}

fn compare_all(findings: &mut Findings, what: &str, pair: &mut Pair, commands: Vec<(Vec<Vec<u8>>, Compare)>) {
    let args: Vec<Vec<Vec<u8>>> = commands.iter().map(|(args, _)| args.clone()).collect();
    let replies = pair.pipeline(&args);
    for ((args, compare), replies) in commands.iter().zip(&replies) {
        findings.check(what, compare, args, replies);
    }
}

#[test]
fn all_combinations_of_options() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&["--durability", "none"]);
    let mut findings = Findings::default();
    for protocol in [2, 3] {
        let mut pair = Pair::new(&redis, &server, protocol);
        let set =
            ["NX", "xx", "GET", "keepttl", "EX 100", "px 100000", "EXAT 9999999999", "PXAT 1", "EX", "PERSIST", "EX 0"];
        let set = sequences(&set, 3).into_iter().map(|options| format!("SET k new{options}"));
        compare_all(&mut findings, "SET", &mut pair, on_each_state(set));
        let getex = ["PERSIST", "EX 100", "PX 100000", "EXAT 9999999999", "PXAT 1", "EX x", "PX -1", "NX", "EXAT"];
        let getex = sequences(&getex, 2).into_iter().map(|options| format!("GETEX k{options}"));
        compare_all(&mut findings, "GETEX", &mut pair, on_each_state(getex));
        for command in ["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"] {
            for time in [
                "1000000",
                "0",
                "-1",
                "9223372036854775807",
                "-9223372036854775808",
                "9223372036854775",
                "abc",
                "99999999999",
            ] {
                let options = sequences(&["NX", "xx", "GT", "lt", "odd"], 2);
                // Clocks differ by little, and so may these dates: where a comparison with the present expiry is close,
                // the answer is not the same. None of the numbers above is close.
                let commands = options.into_iter().map(|options| format!("{command} k {time}{options}"));
                compare_all(&mut findings, command, &mut pair, on_each_state(commands));
            }
        }
    }
    findings.done("options");
}

/// A small generator, so that a failure can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }

    /// A number's text: mostly plausible, at times huge, tiny, or nonsense.
    fn float(&mut self) -> String {
        let digits = |random: &mut Random, max: u64| {
            let len = random.below(max);
            (0..len).map(|_| char::from(b'0' + random.below(10) as u8)).collect::<String>()
        };
        match self.below(12) {
            0 => format!("{}e{}", digits(self, 20), self.below(10_000) as i64 - 5000),
            1 => format!("0x{:x}.{:x}p{}", self.next(), self.next(), self.below(200) as i64 - 100),
            2 => self
                .one_of(&[
                    "inf",
                    "-inf",
                    "nan",
                    "",
                    "1e4932",
                    "1e-4951",
                    "-0",
                    "+5",
                    " 1",
                    "1 ",
                    "1e",
                    "0x",
                    "infinity",
                    "1e4933",
                    "3.6e-4951",
                ])
                .to_owned(),
            3 => format!("{}.{}", digits(self, 200), digits(self, 40)),
            _ => format!("{}{}.{}", self.one_of(&["", "-"]), digits(self, 12), digits(self, 12)),
        }
    }
}

#[test]
fn random_numbers() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&["--durability", "none"]);
    let mut pair = Pair::new(&redis, &server, 2);
    let mut random = Random(20_251_121);
    let mut commands = Vec::new();
    for _ in 0..4000 {
        let (a, b) = (random.float().into_bytes(), random.float().into_bytes());
        commands.push((vec![b"SET".to_vec(), b"f".to_vec(), a], Compare::Bytes));
        for _ in 0..2 {
            commands.push((vec![b"INCRBYFLOAT".to_vec(), b"f".to_vec(), b.clone()], Compare::Bytes));
        }
    }
    let edges = [
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775806",
        "0",
        "-1",
        "1",
        "-9223372036854775807",
        "x",
        "1.0",
        "01",
        "",
        "9223372036854775808",
    ];
    for value in edges {
        for by in edges {
            for command in ["INCRBY", "DECRBY"] {
                commands.push((vec![b"SET".to_vec(), b"n".to_vec(), value.into()], Compare::Bytes));
                commands.push((vec![command.into(), b"n".to_vec(), by.into()], Compare::Bytes));
                commands.push((words("GET n"), Compare::Bytes));
            }
        }
    }
    let mut findings = Findings::default();
    compare_all(&mut findings, "numbers", &mut pair, commands);
    findings.done("numbers");
}

#[test]
fn random_ranges_and_patterns() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&["--durability", "none"]);
    let mut pair = Pair::new(&redis, &server, 2);
    let mut random = Random(7);
    let mut commands = Vec::new();
    let number = |random: &mut Random| match random.below(10) {
        0 => random.one_of(&["9223372036854775807", "-9223372036854775808", "4294967296", "x"]).to_owned(),
        _ => (random.below(60) as i64 - 30).to_string(),
    };
    for _ in 0..3000 {
        let length = random.below(25) as usize;
        commands.push((vec![b"SET".to_vec(), b"s".to_vec(), vec![b'a'; length]], Compare::Bytes));
        let (from, to) = (number(&mut random), number(&mut random));
        commands.push((words(&format!("GETRANGE s {from} {to}")), Compare::Bytes));
        let offset = random.below(40);
        let part = vec![b'z'; random.below(4) as usize];
        commands.push((vec![b"SETRANGE".to_vec(), b"s".to_vec(), offset.to_string().into(), part], Compare::Bytes));
        commands.push((words("GET s"), Compare::Bytes));
    }
    let mut findings = Findings::default();
    compare_all(&mut findings, "ranges", &mut pair, commands);

    pair.flush();
    let alphabet = [b"a".as_slice(), b"b", b"ab", b"*", b"?", b"[", b"]", b"-", b"^", b"\\", b"a-c", b"\xe9", b"A"];
    let text = |random: &mut Random, max: u64| -> Vec<u8> {
        let len = random.below(max);
        (0..len).flat_map(|_| alphabet[random.below(alphabet.len() as u64) as usize].to_vec()).collect()
    };
    let mut commands: Vec<(Vec<Vec<u8>>, Compare)> = Vec::new();
    for _ in 0..200 {
        // Redis matches no pattern but `*` itself with the empty key; the one difference is not worth a rule.
        let key = [text(&mut random, 6), b"a".to_vec()].concat();
        commands.push((vec![b"SET".to_vec(), key, b"v".to_vec()], Compare::Bytes));
    }
    for _ in 0..4000 {
        commands.push((vec![b"KEYS".to_vec(), text(&mut random, 8)], Compare::Sorted));
    }
    compare_all(&mut findings, "patterns", &mut pair, commands);
    findings.done("ranges and patterns");
}

/// Raw bytes on a connection of their own, answered until it is closed.
fn conversation(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(port);
    client.send_raw(bytes).unwrap();
    client.finish();
    client.read_to_end().unwrap()
}

#[test]
fn malformed_requests() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&["--durability", "none"]);
    let long_name = b"x".repeat(300);
    let cases: Vec<(Vec<u8>, Option<&str>)> = vec![
        (b"PING\r\n".to_vec(), None),
        (b"\r\n\r\nPING\r\n".to_vec(), None),
        (b"PING\nECHO \"a b\"\n".to_vec(), None),
        (b"ECHO \"\\x41\\n\"\r\n".to_vec(), None),
        (b"ECHO 'it\\'s'\r\nPING\r\n".to_vec(), None),
        (b"ECHO \"a\r\n".to_vec(), None),
        (b"ECHO 'a'b\r\n".to_vec(), None),
        (b"*0\r\nPING\r\n".to_vec(), None),
        (b"*-1\r\nPING\r\n".to_vec(), None),
        (b"*-10\r\nPING\r\n".to_vec(), None),
        (b"*x\r\nPING\r\n".to_vec(), None),
        (b"*\r\n".to_vec(), None),
        (b"* 1\r\n".to_vec(), None),
        (b"*99999999999999999999\r\n".to_vec(), None),
        (b"*2147483648\r\n".to_vec(), None),
        (b"*1048577\r\n".to_vec(), Some("Redis 7 waits for as many as 2^31 arguments; we take 2^20")),
        (b"*1\r\n*1\r\n".to_vec(), None),
        (b"*1\r\n+PING\r\n".to_vec(), None),
        (b"*1\r\n\x00\r\n".to_vec(), Some("Redis looks for the line's end only up to a zero byte, and waits for ever")),
        (b"*1\r\n\r\n".to_vec(), None),
        (b"*1\r\n$-1\r\n".to_vec(), None),
        (b"*1\r\n$abc\r\n".to_vec(), None),
        (b"*1\r\n$536870913\r\n".to_vec(), None),
        (b"*1\r\n$4\r\nPING\r\n*1\r\n$x\r\n*1\r\n$4\r\nPING\r\n".to_vec(), None),
        (
            b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n".to_vec(),
            Some("Redis does not look at the two bytes behind a string"),
        ),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nab".to_vec(), None),
        (b"*1\r\n$0\r\n\r\n".to_vec(), None),
        ([b"*1\r\n$300\r\n".as_slice(), &long_name, b"\r\n"].concat(), None),
        ([b"*2\r\n$300\r\n".as_slice(), &long_name, b"\r\n$300\r\n", &long_name, b"\r\n"].concat(), None),
        (b"*3\r\n$3\r\nfoo\r\n$4\r\na\r\nb\r\n$2\r\n\x00x\r\n".to_vec(), None),
        (b"*2\r\n$6\r\nCLIENT\r\n$5\r\na\r\nb\x00\r\n".to_vec(), None),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), None),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), None),
        ([b"x".repeat(70_000).as_slice()].concat(), None),
        ([b"*1".as_slice(), &b"1".repeat(70_000)].concat(), None),
        ([b"*1\r\n$1".as_slice(), &b"1".repeat(70_000)].concat(), None),
    ];
    let mut findings = Findings::default();
    for (bytes, differs) in cases {
        let replies = (conversation(redis.port, &bytes), conversation(server.port, &bytes));
        let compare = differs.map_or(Compare::Bytes, |reason| Compare::Differs(reason.to_owned()));
        findings.compared += 1;
        findings.allowed += usize::from(differs.is_some());
        let same = replies.0 == replies.1;
        if same == matches!(compare, Compare::Differs(_)) {
            let head = bytes.escape_ascii().to_string();
            let _ = writeln!(
                findings.text,
                "{}\n    redis: {}\n    ours:  {}",
                &head[..head.len().min(100)],
                replies.0.escape_ascii(),
                replies.1.escape_ascii()
            );
        }
    }
    findings.done("malformed requests");
}

#[test]
fn a_password() {
    let Some(redis) = Redis::start(&["--requirepass", "secret"]) else { return };
    let server = Server::start(&["--durability", "none", "--requirepass", "secret"]);
    let mut findings = Findings::default();
    let script = "
        PING
        GET k
        NOSUCH
        GET
        QUITE
        AUTH wrong
        AUTH default wrong
        AUTH nobody secret
        AUTH a b c
        HELLO 3
        HELLO 3 AUTH default wrong
        HELLO 3 AUTH default
        HELLO 4
        PING
        RESET
        AUTH secret
        PING
        SET k v
        RESET
        GET k
        AUTH default secret
        GET k
        CONFIG GET requirepass
        CONFIG SET requirepass other
        GET k
        RESET
        AUTH secret
        AUTH other
        CONFIG SET requirepass secret
        CONFIG SET requirepass \"\"
        AUTH secret
        RESET
        PING
        AUTH default anything
        CONFIG SET requirepass secret
        GET k";
    let mut pair = Pair::new(&redis, &server, 2);
    for (i, text) in script.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let line = parse(i, text.trim());
        let replies = pair.both(&line.args);
        findings.check("password", &line.compare, &line.args, &replies);
    }
    // What strangers may send.
    for bytes in [
        [b"*11\r\n".as_slice(), &b"$1\r\na\r\n".repeat(11)].concat(),
        b"*1\r\n$16385\r\n".to_vec(),
        [b"*2\r\n$4\r\nECHO\r\n$16384\r\n".as_slice(), &b"e".repeat(16384), b"\r\n"].concat(),
    ] {
        let replies = (conversation(redis.port, &bytes), conversation(server.port, &bytes));
        findings.check("stranger", &Compare::Bytes, &[bytes[..20.min(bytes.len())].to_vec()], &replies);
    }
    findings.done("password");
}

/// Values as text, for people.
fn plain(values: &[Value]) -> String {
    let one = |value: &Value| match value {
        Value::Integer(n) => n.to_string(),
        Value::Array(items) => format!("[{}]", plain(items)),
        Value::Set(items) => format!("~[{}]", plain(items)),
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| plain(&[key.clone(), value.clone()]));
            format!("%[{}]", pairs.collect::<Vec<_>>().join("; "))
        }
        other => other.as_bytes().map_or_else(|| "nil".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned()),
    };
    values.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn command_tables() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&["--durability", "none"]);
    let mut findings = Findings::default();
    // Commands of ours, and those of Redis 8.4 and Valkey 9.
    let own = ["guard", "delex", "delifeq"];
    let newer = ["client|maint_notifications", "client|no-touch", "client|setinfo"];
    for protocol in [2, 3] {
        let mut pair = Pair::new(&redis, &server, protocol);
        let names = pair.ours.words("COMMAND LIST");
        for name in names.as_array().unwrap() {
            let name = String::from_utf8(name.as_bytes().unwrap().to_vec()).unwrap();
            if own.contains(&name.as_str())
                || ["lock.", "session.", "key.", "tx."].iter().any(|family| name.starts_with(family))
            {
                findings.allowed += 1;
                continue;
            }
            let (redis, ours) = pair.both(&["COMMAND", "INFO", &name]);
            let (redis, ours) = (value(&redis), value(&ours));
            let (redis, ours) = (redis.as_array().unwrap()[0].clone(), ours.as_array().unwrap()[0].clone());
            let (redis, ours) = (redis.as_array().unwrap(), ours.as_array().unwrap());
            findings.compared += 1;
            if sorted(Value::Array(redis[..9].to_vec())) != sorted(Value::Array(ours[..9].to_vec())) {
                let _ = writeln!(findings.text, "{name}\n  {}\n  {}", plain(&redis[..9]), plain(&ours[..9]));
            }
            // Of the subcommands we have some.
            for sub in ours[9].as_array().unwrap() {
                let sub_name = String::from_utf8_lossy(sub.as_array().unwrap()[0].as_bytes().unwrap()).into_owned();
                let theirs = redis[9]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|other| other.as_array().unwrap()[0] == sub.as_array().unwrap()[0]);
                findings.compared += 1;
                match theirs {
                    None if newer.contains(&sub_name.as_str()) => findings.allowed += 1,
                    Some(theirs) if sorted(theirs.clone()) == sorted(sub.clone()) => {}
                    theirs => {
                        let _ = writeln!(
                            findings.text,
                            "{sub_name}\n  {:?}\n  {}",
                            theirs.map(|v| plain(v.as_array().unwrap())),
                            plain(sub.as_array().unwrap())
                        );
                    }
                }
            }
        }
    }
    findings.done("command tables");
}
