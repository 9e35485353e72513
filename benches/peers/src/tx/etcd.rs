//! etcd (Debian: etcd-server), by its JSON gateway: reads at one revision, and a commit that compares the revision of each key read.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Access, Session, Step, Stopped, Store, Tx};
use crate::server::free_port;
use crate::store::Outcome;

/// A server that does not answer so long after its start has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Etcd {
    child: Child,
    port: u16,
}

impl Etcd {
    pub fn open(dir: &Path) -> Outcome<Box<dyn Store>> {
        let (port, peers) = (free_port()?, free_port()?);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let log = std::fs::File::create(dir.join("etcd.log")).map_err(|error| error.to_string())?;
        let child = Command::new("etcd")
            .args(["--name", "bench", "--data-dir"])
            .arg(dir.join("data"))
            .args(["--listen-client-urls", &url(port), "--advertise-client-urls", &url(port)])
            .args(["--listen-peer-urls", &url(peers), "--initial-advertise-peer-urls", &url(peers)])
            .args(["--initial-cluster", &format!("bench={}", url(peers))])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("etcd: {error}"))?;
        let mut etcd = Etcd { child, port };
        let until = Instant::now() + PATIENCE;
        while Own::connect(port).and_then(|mut own| own.call("/v3/kv/range", &json!({ "key": base64(b"x") }))).is_err()
        {
            if Instant::now() > until || etcd.child.try_wait().is_ok_and(|status| status.is_some()) {
                return Err("etcd does not answer".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Box::new(etcd))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Store for Etcd {
    fn session(&self) -> Outcome<Box<dyn Session + '_>> {
        Ok(Box::new(Own::connect(self.port)?))
    }

    fn settings(&self) -> String {
        "one member, over a socket by its JSON gateway; each commit compares the revisions of what was read".to_owned()
    }

    fn is_here(&self) -> bool {
        false
    }
}

/// A connection that is kept.
struct Own {
    port: u16,
    stream: BufReader<TcpStream>,
}

impl Own {
    fn connect(port: u16) -> Outcome<Own> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        Ok(Own { port, stream: BufReader::new(stream) })
    }

    fn call(&mut self, path: &str, body: &Value) -> Outcome<Value> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let (status, body) = self.answer().map_err(|error| error.to_string())?;
        let value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        if status == 200 { Ok(value) } else { Err(format!("etcd: {status} {value}")) }
    }

    /// Status and body.
    fn answer(&mut self) -> std::io::Result<(u16, Vec<u8>)> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let (mut len, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                None => break,
                Some(("content-length", value)) => len = value.trim().parse().map_err(std::io::Error::other)?,
                Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
                Some(_) => {}
            }
        }
        let mut body = Vec::new();
        if !chunked {
            body.resize(len, 0);
            self.stream.read_exact(&mut body)?;
            return Ok((status, body));
        }
        loop {
            let len = usize::from_str_radix(&self.line()?, 16).map_err(std::io::Error::other)?;
            let from = body.len();
            body.resize(from + len, 0);
            self.stream.read_exact(&mut body[from..])?;
            self.line()?;
            if len == 0 {
                return Ok((status, body));
            }
        }
    }

    /// Without its end.
    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Session for Own {
    fn attempt(&mut self, access: Access, f: &mut dyn FnMut(&mut dyn Tx) -> Step<()>) -> Step<()> {
        let mut running = Running { own: self, revision: None, read: BTreeMap::new(), writes: BTreeMap::new() };
        f(&mut running)?;
        let Running { own, read, writes, .. } = running;
        if access == Access::Reads && writes.is_empty() {
            // All of it was read at one revision.
            return Ok(());
        }
        let compare: Vec<Value> = read
            .iter()
            .map(|(key, revision)| {
                json!({ "key": base64(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision })
            })
            .collect();
        let puts: Vec<Value> = writes
            .iter()
            .map(|(key, value)| json!({ "requestPut": { "key": base64(key), "value": base64(value) } }))
            .collect();
        let answer =
            own.call("/v3/kv/txn", &json!({ "compare": compare, "success": puts })).map_err(Stopped::Failed)?;
        if answer["succeeded"] == json!(true) { Ok(()) } else { Err(Stopped::Again) }
    }
}

struct Running<'a> {
    own: &'a mut Own,
    /// Of the first read; the others are of it too.
    revision: Option<String>,
    /// The revision at which each key was written last.
    read: BTreeMap<Vec<u8>, String>,
    writes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Tx for Running<'_> {
    fn get(&mut self, key: &[u8]) -> Step<Option<Vec<u8>>> {
        if let Some(value) = self.writes.get(key) {
            return Ok(Some(value.clone()));
        }
        let mut asked = json!({ "key": base64(key) });
        if let Some(revision) = &self.revision {
            asked["revision"] = json!(revision);
        }
        let answer = self.own.call("/v3/kv/range", &asked).map_err(Stopped::Failed)?;
        if self.revision.is_none() {
            self.revision = answer["header"]["revision"].as_str().map(str::to_owned);
        }
        let found = &answer["kvs"][0];
        let revision = found["mod_revision"].as_str().unwrap_or("0");
        self.read.insert(key.to_vec(), revision.to_owned());
        match found["value"].as_str() {
            Some(text) => unbase64(text).map(Some).ok_or_else(|| Stopped::Failed("no base64".to_owned())),
            None => Ok(None),
        }
    }

    fn get_for_update(&mut self, key: &[u8]) -> Step<Option<Vec<u8>>> {
        self.get(key)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Step<()> {
        self.writes.insert(key.to_vec(), value.to_vec());
        Ok(())
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let is_there = digit <= chunk.len();
            text.push(if is_there { char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]) } else { '=' });
        }
    }
    text
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.as_bytes().chunks(4) {
        let digits: Vec<u8> = chunk.iter().copied().take_while(|digit| *digit != b'=').collect();
        let mut bits = 0;
        for digit in &digits {
            bits = bits << 6 | DIGITS.iter().position(|own| own == digit)? as u32;
        }
        bits <<= 6 * (4 - digits.len());
        bytes.extend_from_slice(bits.to_be_bytes().get(1..digits.len())?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_there_and_back() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\x00\x01", "//4AAQ==")]
        {
            assert_eq!(base64(bytes), text);
            assert_eq!(unbase64(text).as_deref(), Some(bytes));
        }
        assert_eq!(unbase64("!!!!"), None);
    }
}
