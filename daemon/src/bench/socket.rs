//! A server behind a socket: ours, or any that speaks the protocol.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::keys::{self, Keys, Values};
use super::measure::{Measured, Paced, Run, Worked, histogram, record, run_threads};
use super::open_loop::{Pace, Schedule};
use super::plan::{Plan, Workload};
use crate::exit::{self, Failure};
use crate::resp::{ReplyReader, Value};

/// A server that answers nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const FILL_LEN: u64 = 256;

pub fn run(plan: &Plan, address: &str) -> Result<Vec<Measured>, Failure> {
    let mut results = Vec::new();
    for &workload in &plan.workloads {
        if workload.needs_keys() {
            fill(plan, address)?;
        }
        results.push(run_threads(plan, workload, |thread, run| {
            let worker = Worker::new(plan, address, thread)?;
            match Pace::of(plan, thread) {
                // A scan needs the answer of the one before for its cursor.
                Some(_) if workload == Workload::Scan => Err(Failure::usage("a scan over a socket cannot have a rate")),
                Some(pace) => worker.work_paced(workload, run, pace),
                None => worker.work(workload, run).map(Worked::from),
            }
        })?);
    }
    Ok(results)
}

fn fill(plan: &Plan, address: &str) -> Result<(), Failure> {
    let mut connection = Connection::open(address)?;
    let mut values = Values::new(plan.value_len, plan.seed);
    let mut name = Vec::new();
    for first in (0..plan.keys).step_by(FILL_LEN as usize) {
        let numbers = first..(first + FILL_LEN).min(plan.keys);
        connection.begin(1 + 2 * (numbers.end - numbers.start) as usize);
        connection.argument(b"MSET");
        for number in numbers {
            keys::name(number, &mut name);
            connection.argument(&name);
            connection.argument(values.next());
        }
        connection.flush()?;
        connection.skip_reply()?;
    }
    Ok(())
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn try_clone(&self) -> std::io::Result<Socket> {
        Ok(match self {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone()?),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone()?),
        })
    }

    fn open(address: &str) -> std::io::Result<Socket> {
        if address.contains('/') {
            let stream = UnixStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            return Ok(Socket::Unix(stream));
        }
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Socket::Tcp(stream))
    }
}

/// One connection: requests are gathered, sent together, and their replies read one by one.
struct Connection {
    socket: Socket,
    requests: Vec<u8>,
    replies: ReplyReader,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Result<Connection, Failure> {
        let failed = |error| Failure::new(exit::USAGE, format!("cannot connect to {address}: {error}"));
        Ok(Connection::over(Socket::open(address).map_err(failed)?))
    }

    fn over(socket: Socket) -> Connection {
        Connection { socket, requests: Vec::new(), replies: ReplyReader::new(), buffer: vec![0; 64 << 10] }
    }

    fn begin(&mut self, arguments: usize) {
        self.header(b'*', arguments);
    }

    fn argument(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len());
        self.requests.extend_from_slice(bytes);
        self.requests.extend_from_slice(b"\r\n");
    }

    fn header(&mut self, mark: u8, n: usize) {
        self.requests.push(mark);
        self.requests.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        self.requests.extend_from_slice(b"\r\n");
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let sent = match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(&self.requests),
            Socket::Unix(stream) => stream.write_all(&self.requests),
        };
        self.requests.clear();
        sent.map_err(broken)
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let received = match &mut self.socket {
            Socket::Tcp(stream) => stream.read(&mut self.buffer),
            Socket::Unix(stream) => stream.read(&mut self.buffer),
        };
        match received.map_err(broken)? {
            0 => Err(Failure::new(exit::DISK, "the server closed the connection")),
            n => {
                self.replies.feed(self.buffer.get(..n).unwrap_or_default());
                Ok(())
            }
        }
    }

    fn skip_reply(&mut self) -> Result<(), Failure> {
        loop {
            match self.replies.next_is_error().map_err(|error| Failure::new(exit::DISK, error.to_string()))? {
                Some(false) => return Ok(()),
                Some(true) => return Err(Failure::new(exit::DISK, "the server answered with an error")),
                None => self.receive()?,
            }
        }
    }

    fn reply(&mut self) -> Result<Value, Failure> {
        loop {
            match self.replies.next_value().map_err(|error| Failure::new(exit::DISK, error.to_string()))? {
                Some(Value::Error(text)) => {
                    let text = String::from_utf8_lossy(&text);
                    return Err(Failure::new(exit::DISK, format!("the server answered: {text}")));
                }
                Some(value) => return Ok(value),
                None => self.receive()?,
            }
        }
    }
}

/// Take the replies in the order of their requests, each of which was due at a known time.
fn take_replies(
    mut connection: Connection,
    schedule: Schedule,
    sent: &AtomicU64,
    all: &AtomicU64,
) -> Result<Histogram<u64>, Failure> {
    let mut latencies = histogram();
    let mut taken = 0;
    while taken < all.load(Ordering::Acquire) {
        if taken == sent.load(Ordering::Acquire) {
            // Nothing is to come before the next is sent.
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        connection.skip_reply()?;
        record(&mut latencies, schedule.due(taken));
        taken += 1;
    }
    Ok(latencies)
}

fn broken(error: std::io::Error) -> Failure {
    Failure::new(exit::DISK, format!("the connection broke: {error}"))
}

struct Worker<'a> {
    plan: &'a Plan,
    connection: Connection,
    keys: Keys,
    values: Values,
    cursor: Vec<u8>,
    latencies: Histogram<u64>,
}

impl<'a> Worker<'a> {
    fn new(plan: &'a Plan, address: &str, thread: u32) -> Result<Worker<'a>, Failure> {
        Ok(Worker {
            plan,
            connection: Connection::open(address)?,
            keys: Keys::new(plan, thread),
            values: Values::new(plan.value_len, plan.seed ^ u64::from(thread)),
            cursor: b"0".to_vec(),
            latencies: histogram(),
        })
    }

    fn work(mut self, workload: Workload, run: &Run) -> Result<Histogram<u64>, Failure> {
        // A scan needs the answer of the one before for its cursor.
        let pipeline = if workload == Workload::Scan { 1 } else { u64::from(self.plan.pipeline.max(1)) };
        loop {
            let mut claimed = run.claim();
            if claimed == 0 {
                return Ok(self.latencies);
            }
            while claimed > 0 {
                let together = claimed.min(pipeline);
                self.some(workload, together)?;
                run.count(together);
                claimed -= together;
            }
        }
    }

    /// Send requests when they are due, all that are due together; another thread takes the replies.
    fn work_paced(mut self, workload: Workload, run: &Run, mut pace: Pace) -> Result<Worked, Failure> {
        let socket = self.connection.socket.try_clone().map_err(broken)?;
        let replies = Connection::over(socket);
        let (sent, schedule) = (AtomicU64::new(0), pace.schedule());
        // All that will be sent; not known before the end.
        let all = AtomicU64::new(u64::MAX);
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| take_replies(replies, schedule, &sent, &all));
            let mut send = || {
                while run.claim_at_most(1) == 1 && !receiving.is_finished() {
                    pace.wait_for_next();
                    let mut together = 1;
                    self.request(workload);
                    while pace.next_is_due() && together < 1024 && run.claim_at_most(1) == 1 {
                        pace.wait_for_next();
                        self.request(workload);
                        together += 1;
                    }
                    sent.fetch_add(together, Ordering::Release);
                    self.connection.flush()?;
                    run.count(together);
                }
                Ok(())
            };
            let outcome: Result<(), Failure> = send();
            all.store(sent.load(Ordering::Acquire), Ordering::Release);
            let latencies =
                receiving.join().unwrap_or_else(|_| Err(Failure::new(exit::DISK, "the receiver panicked")))?;
            outcome?;
            Ok(Worked { latencies, paced: Some(Paced { refused: 0, late: pace.into_late() }) })
        })
    }

    fn some(&mut self, workload: Workload, together: u64) -> Result<(), Failure> {
        for _ in 0..together {
            self.request(workload);
        }
        let began = Instant::now();
        self.connection.flush()?;
        for _ in 0..together {
            if workload == Workload::Scan {
                self.take_cursor()?;
            } else {
                self.connection.skip_reply()?;
            }
            record(&mut self.latencies, began);
        }
        Ok(())
    }

    fn request(&mut self, workload: Workload) {
        let connection = &mut self.connection;
        match workload {
            Workload::Put => {
                connection.begin(3);
                connection.argument(b"SET");
                connection.argument(self.keys.next());
                connection.argument(self.values.next());
            }
            Workload::Get => {
                connection.begin(2);
                connection.argument(b"GET");
                connection.argument(self.keys.next());
            }
            Workload::Incr => {
                connection.begin(2);
                connection.argument(b"INCR");
                connection.argument(&[b"n:", self.keys.next()].concat());
            }
            Workload::Batch => {
                connection.begin(1 + 2 * self.plan.batch_len as usize);
                connection.argument(b"MSET");
                for _ in 0..self.plan.batch_len {
                    connection.argument(self.keys.next());
                    connection.argument(self.values.next());
                }
            }
            Workload::Scan => {
                connection.begin(4);
                connection.argument(b"SCAN");
                connection.argument(&self.cursor);
                connection.argument(b"COUNT");
                connection.argument(self.plan.batch_len.to_string().as_bytes());
            }
        }
    }

    fn take_cursor(&mut self) -> Result<(), Failure> {
        let reply = self.connection.reply()?;
        let cursor = reply.as_array().and_then(|items| items.first()?.as_bytes());
        self.cursor = cursor.ok_or_else(|| Failure::new(exit::DISK, "SCAN was answered without a cursor"))?.to_vec();
        Ok(())
    }
}
