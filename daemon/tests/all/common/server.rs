//! The built program, serving on a free port until it is dropped.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Client;

/// A start or a stop that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that does not outlive its test.
pub struct Guarded(pub Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Server {
    child: Option<Child>,
    pub port: u16,
    pub log: PathBuf,
    dir: PathBuf,
    /// Removed with the server, if it is ours.
    _home: Option<tempfile::TempDir>,
}

impl Server {
    /// In a new directory.
    pub fn start(flags: &[&str]) -> Server {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let mut server = Server::start_in(&dir, flags);
        server._home = Some(home);
        server
    }

    /// In `dir`, which stays.
    pub fn start_in(dir: &Path, flags: &[&str]) -> Server {
        Server::try_start_in(dir, flags)
            .unwrap_or_else(|(status, log)| panic!("the server ended with {status}:\n{log}"))
    }

    pub fn try_start_in(dir: &Path, flags: &[&str]) -> Result<Server, (ExitStatus, String)> {
        Server::start_logging(dir, dir.parent().expect("a directory for data lies in another"), flags)
    }

    /// With the log and the port's file in `beside`.
    pub fn start_logging(dir: &Path, beside: &Path, flags: &[&str]) -> Result<Server, (ExitStatus, String)> {
        let name = beside.join(dir.file_name().expect("a directory for data has a name"));
        let port_file = name.with_extension("port");
        let _ = std::fs::remove_file(&port_file);
        let log = name.with_extension("log");
        let log_file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_corering"))
            .arg("serve")
            .args(["--dir".as_ref(), dir.as_os_str()])
            .args(["--port", "0", "--log-format", "text"])
            .args(["--port-file".as_ref(), port_file.as_os_str()])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .unwrap();
        let began = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&port_file)
                && let Ok(port) = text.trim().parse()
            {
                return Ok(Server { child: Some(child), port, log, dir: dir.to_path_buf(), _home: None });
            }
            if let Some(status) = child.try_wait().unwrap() {
                return Err((status, std::fs::read_to_string(&log).unwrap_or_default()));
            }
            if began.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("the server is not ready:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn log_text(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(&self.log) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Send a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
        // It stops a thread at a time, and on a busy machine that takes a while.
        let began = Instant::now();
        while name == "STOP" && !is_stopped(self.pid()) {
            assert!(began.elapsed() < PATIENCE, "the server does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn wait(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("not waited for before");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the server does not end:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and the status it leads to.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Bytes of memory that the process has.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state stands behind the name, which may hold anything.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}
