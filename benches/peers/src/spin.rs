//! Programs that want all processors, as for "both busy".

use std::process::{Child, Command, Stdio};

use crate::store::Outcome;

/// One process that spins for each processor; gone when this is.
pub struct Spinners {
    children: Vec<Child>,
}

impl Spinners {
    pub fn start() -> Outcome<Spinners> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut spinners = Spinners { children: Vec::new() };
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            let child = Command::new(&program)
                .args(["spin", &std::process::id().to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .map_err(|error| error.to_string())?;
            spinners.children.push(child);
        }
        Ok(spinners)
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Spin until `parent` is not this process's parent any more.
pub fn spin(parent: u32) {
    while std::os::unix::process::parent_id() == parent {
        for _ in 0..10_000_000 {
            std::hint::spin_loop();
        }
    }
}
