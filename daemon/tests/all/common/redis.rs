//! A redis-server to compare with.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Client;

pub struct Redis {
    child: Child,
    pub port: u16,
    dir: tempfile::TempDir,
}

impl Redis {
    /// `None` only where the tests were told to do without: a comparison that nobody notices missing proves nothing.
    pub fn start(flags: &[&str]) -> Option<Redis> {
        let program = std::env::var("CORERING_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned());
        if Command::new(&program).arg("--version").stdout(Stdio::null()).status().is_err() {
            if std::env::var("CORERING_TEST_NO_REDIS").as_deref() == Ok("1") {
                eprintln!("skipped: there is no {program}, and CORERING_TEST_NO_REDIS is 1");
                return None;
            }
            panic!(
                "{program} is needed to compare with: apt-get install redis-server, or name one in CORERING_TEST_REDIS, \
                 or set CORERING_TEST_NO_REDIS=1 to do without the comparison"
            );
        }
        // Another test may take the free port first; its server would answer us.
        (0..20).find_map(|_| Redis::try_start(&program, flags)).or_else(|| panic!("{program} does not start"))
    }

    fn try_start(program: &str, flags: &[&str]) -> Option<Redis> {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(dir.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let mut redis = Redis { child, port, dir };
        while began.elapsed() < Duration::from_secs(20) {
            let said = std::fs::read_to_string(redis.dir.path().join("log")).unwrap_or_default();
            if said.contains("Ready to accept connections") {
                return Some(redis);
            }
            if redis.child.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
