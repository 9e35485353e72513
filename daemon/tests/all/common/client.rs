//! A small blocking client.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use corering_daemon::resp::{ReplyReader, Value};

/// A reply that takes longer has been lost.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client {
    stream: TcpStream,
    replies: ReplyReader,
}

pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl Client {
    pub fn connect(port: u16) -> Client {
        Client::try_connect(port).unwrap_or_else(|error| panic!("cannot connect to port {port}: {error}"))
    }

    pub fn try_connect(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, replies: ReplyReader::new() })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> std::io::Result<()> {
        self.send_raw(&encode(args))
    }

    /// The bytes of the next reply.
    pub fn raw_reply(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            if let Some(reply) = self.replies.next_raw().map_err(std::io::Error::other)? {
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    pub fn reply(&mut self) -> std::io::Result<Value> {
        loop {
            if let Some(reply) = self.replies.next_value().map_err(std::io::Error::other)? {
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 64 << 10];
        let n = self.stream.read(&mut buffer)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.replies.feed(&buffer[..n]);
        Ok(())
    }

    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.try_call(args).unwrap_or_else(|error| {
            let shown: Vec<String> = args.iter().map(|arg| arg.as_ref().escape_ascii().to_string()).collect();
            panic!("{shown:?}: {error}")
        })
    }

    pub fn try_call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> std::io::Result<Value> {
        self.send(args)?;
        self.reply()
    }

    pub fn call_raw<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        self.send(args).unwrap();
        self.raw_reply().unwrap()
    }

    /// Words separated by blanks.
    pub fn words(&mut self, line: &str) -> Value {
        self.call(&line.split_ascii_whitespace().collect::<Vec<_>>())
    }

    pub fn ok(&mut self, line: &str) {
        assert_eq!(self.words(line), Value::Simple(b"OK".to_vec()), "{line}");
    }

    pub fn integer(&mut self, line: &str) -> i64 {
        let reply = self.words(line);
        reply.as_integer().unwrap_or_else(|| panic!("{line}: {reply:?}"))
    }

    /// The text of a string or error reply.
    pub fn text(&mut self, line: &str) -> String {
        let reply = self.words(line);
        let bytes = reply.as_bytes().unwrap_or_else(|| panic!("{line}: {reply:?}"));
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Whatever the server still sends, until it closes the connection.
    pub fn read_to_end(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            // What was sent before a reset has been read.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(bytes),
            Err(error) => Err(error),
        }
    }

    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
