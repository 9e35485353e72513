//! `corering locks`: who holds what in a running server, and who waits for it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;

use crate::exit::{self, Failure};
use crate::resp::{ReplyReader, Value};

/// A server that answers nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const PASSWORD_VARIABLE: &str = "CORERING_REQUIREPASS";

pub fn command() -> Command {
    with_address(Command::new("locks"))
        .about("Tell who holds which locks of a running server, and who waits for them")
        .arg(flag("match", "GLOB", "Only locks whose names match"))
        .arg(
            flag("count", "N", "At most so many locks")
                .value_parser(value_parser!(u32).range(1..))
                .default_value("1000"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON"))
}

fn flag(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// The flags that say where a running server is.
pub fn with_address(command: Command) -> Command {
    command
        .after_help(format!("A password is read from the environment variable {PASSWORD_VARIABLE}, or from the URL."))
        .arg(flag("url", "URL", "redis://[:PASSWORD@]HOST[:PORT]").conflicts_with_all(["port", "socket", "host"]))
        .arg(flag("host", "HOST", "Host of the server").default_value("127.0.0.1"))
        .arg(flag("port", "N", "Port of the server").value_parser(value_parser!(u16)).default_value("6380"))
        .arg(flag("socket", "PATH", "Unix socket of the server").conflicts_with("port"))
}

/// A connection to the server that the flags name, greeted.
pub fn connect(matches: &ArgMatches) -> Result<Connection, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let (address, password) = match (text("url"), text("socket")) {
        (Some(url), _) => parse_url(&url)?,
        (None, Some(path)) => (path, None),
        (None, None) => {
            let port = matches.get_one::<u16>("port").copied().unwrap_or_default();
            (format!("{}:{port}", text("host").unwrap_or_default()), None)
        }
    };
    let password = password.or_else(|| std::env::var(PASSWORD_VARIABLE).ok());
    let mut connection = Connection::open(&address)?;
    if let Some(password) = password {
        connection.call(&["AUTH", &password])?;
    }
    connection.call(&["HELLO", "3"])?;
    Ok(connection)
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let mut connection = connect(matches)?;
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let count = matches.get_one::<u32>("count").copied().unwrap_or_default().to_string();
    let pattern = text("match").unwrap_or_else(|| "*".to_owned());
    let list = connection.call(&["LOCK.LIST", "COUNT", &count, "MATCH", &pattern])?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    let shown = if matches.get_flag("json") { format!("{:#}\n", as_json(&list)) } else { as_text(&list, now_ms) };
    // Whoever reads this may have enough of it.
    let _ = std::io::stdout().write_all(shown.as_bytes());
    Ok(())
}

/// Host and port, and the password.
fn parse_url(url: &str) -> Result<(String, Option<String>), Failure> {
    let bad = || Failure::usage(format!("--url {url}: it must look like redis://[:PASSWORD@]HOST[:PORT]"));
    let rest = url.strip_prefix("redis://").ok_or_else(bad)?;
    let (password, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (user.split_once(':').map(|(_, password)| password.to_owned()), rest),
        None => (None, rest),
    };
    let place = rest.split('/').next().unwrap_or_default();
    if place.is_empty() {
        return Err(bad());
    }
    let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok((if has_port { place.to_owned() } else { format!("{place}:6380") }, password))
}

/// TCP or Unix.
pub trait Socket: Read + Write {}
impl<T: Read + Write> Socket for T {}

/// To a running server.
pub struct Connection {
    socket: Box<dyn Socket>,
    replies: ReplyReader,
}

impl Connection {
    fn open(address: &str) -> Result<Connection, Failure> {
        let failed = |error| Failure::new(exit::USAGE, format!("cannot connect to {address}: {error}"));
        let socket: Box<dyn Socket> = if address.contains('/') {
            let stream = UnixStream::connect(address).map_err(failed)?;
            stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
            Box::new(stream)
        } else {
            let stream = TcpStream::connect(address).map_err(failed)?;
            stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
            Box::new(stream)
        };
        Ok(Connection { socket, replies: ReplyReader::new() })
    }

    pub fn call(&mut self, words: &[&str]) -> Result<Value, Failure> {
        let broken = |error: String| Failure::new(exit::DISK, format!("the connection broke: {error}"));
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.socket.write_all(request.as_bytes()).map_err(|error| broken(error.to_string()))?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.replies.next_value().map_err(|error| broken(error.to_string()))? {
                Some(Value::Error(text)) => {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    return Err(Failure::new(exit::USAGE, format!("the server answered: {text}")));
                }
                Some(value) => return Ok(value),
                None => {}
            }
            match self.socket.read(&mut buffer).map_err(|error| broken(error.to_string()))? {
                0 => return Err(broken("the server closed it".to_owned())),
                n => self.replies.feed(buffer.get(..n).unwrap_or_default()),
            }
        }
    }
}

fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    let Value::Map(pairs) = value else { return &Value::Null };
    let found = pairs.iter().find(|(key, _)| key.as_bytes() == Some(name.as_bytes()));
    found.map_or(&Value::Null, |(_, value)| value)
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    field(value, name).as_array().unwrap_or_default()
}

/// Text that cannot write over a terminal.
fn shown(value: &Value) -> String {
    match value {
        Value::Integer(n) => n.to_string(),
        other => match other.as_bytes() {
            Some(bytes) => String::from_utf8_lossy(bytes).chars().flat_map(printed).collect(),
            None => String::new(),
        },
    }
}

fn printed(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

fn time(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{} min", ms / 60_000),
        _ => format!("{:.1} h", ms as f64 / 3_600_000.0),
    }
}

fn who(entry: &Value) -> String {
    let label = shown(field(entry, "label"));
    let session = shown(field(entry, "session"));
    if label.is_empty() { format!("session {session}") } else { format!("session {session} ({label})") }
}

/// How many there are beyond those that are told of.
fn more(lock: &Value, count: &str, told: &str) -> Option<i64> {
    let all = field(lock, count).as_integer()?;
    Some(all - items(lock, told).len() as i64).filter(|more| *more > 0)
}

fn as_text(list: &Value, now_ms: u64) -> String {
    let locks = list.as_array().unwrap_or_default();
    let mut text = String::new();
    let ms = |value: &Value| value.as_integer().and_then(|ms| u64::try_from(ms).ok());
    for lock in locks {
        let _ = writeln!(text, "{}", shown(field(lock, "name")));
        for hold in items(lock, "holders") {
            let since = ms(field(hold, "since-unix-ms")).map(|since| time(now_ms.saturating_sub(since)));
            let lease = match ms(field(hold, "lease-left-ms")) {
                Some(left) => format!("lease ends in {}", time(left)),
                None => "as long as its session".to_owned(),
            };
            let _ = writeln!(
                text,
                "  held {} by {}: for {}, token {}, {} times, {lease}",
                shown(field(hold, "mode")),
                who(hold),
                since.unwrap_or_default(),
                shown(field(hold, "token")),
                shown(field(hold, "count")),
            );
        }
        if let Some(more) = more(lock, "holder-count", "holders") {
            let _ = writeln!(text, "  and {more} holders more");
        }
        for (place, waiter) in items(lock, "waiting").iter().enumerate() {
            let waited = time(ms(field(waiter, "waited-ms")).unwrap_or(0));
            let _ =
                writeln!(text, "  {}. waits {waited} for {}: {}", place + 1, shown(field(waiter, "mode")), who(waiter));
        }
        if let Some(more) = more(lock, "waiting-count", "waiting") {
            let _ = writeln!(text, "  and {more} waiters more");
        }
    }
    let waiting: i64 = locks.iter().filter_map(|lock| field(lock, "waiting-count").as_integer()).sum();
    let _ = writeln!(text, "{} locks, {waiting} waiting", locks.len());
    text
}

fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Integer(n) => json!(n),
        Value::Map(pairs) => pairs.iter().map(|(key, value)| (shown(key), as_json(value))).collect(),
        other => match (other.as_array(), other.as_bytes()) {
            (Some(items), _) => items.iter().map(as_json).collect(),
            (None, Some(bytes)) => json!(String::from_utf8_lossy(bytes)),
            (None, None) => serde_json::Value::Null,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_url() {
        let parsed = |url: &str| parse_url(url).ok();
        let at = |place: &str, password: Option<&str>| Some((place.to_owned(), password.map(str::to_owned)));
        assert_eq!(parsed("redis://h"), at("h:6380", None));
        assert_eq!(parsed("redis://h:1/0"), at("h:1", None));
        assert_eq!(parsed("redis://:p@ss@h:1"), at("h:1", Some("p@ss")));
        assert_eq!(parsed("redis://me:secret@[::1]:5"), at("[::1]:5", Some("secret")));
        for bad in ["h:1", "redis://", "http://h"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_do_not_write_over_the_terminal() {
        assert_eq!(shown(&Value::Bulk(b"a\x1b[2J\nb".to_vec())), "a\\u{1b}[2J\\nb");
        assert_eq!(
            (time(5), time(2500), time(120_000), time(9_000_000)),
            ("5 ms".to_owned(), "2.5 s".to_owned(), "2 min".to_owned(), "2.5 h".to_owned())
        );
    }
}
