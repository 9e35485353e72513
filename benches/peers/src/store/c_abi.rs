//! Ours through the C ABI: `c/store.c`, compiled by the machine's C compiler against corering.h and loaded together with
//! libcorering.so, so that nothing is inlined that a C program would not have inlined.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::time::Instant;

use super::{AsyncRun, Level, Opening, Outcome, Session, Store};
use crate::data::{Key, key};

/// What `store_get` gives for a key that is not there.
const ABSENT: i64 = -1000;

type Open = unsafe extern "C" fn(*const c_char, u64, *mut c_char, usize) -> *mut c_void;
type Close = unsafe extern "C" fn(*mut c_void) -> i64;
type Put = unsafe extern "C" fn(*mut c_void, *const c_void, usize, *const c_void, usize, c_int) -> i64;
type Get = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> i64;
type MultiGet = unsafe extern "C" fn(*mut c_void, *const Key, usize) -> i64;
type Batch = unsafe extern "C" fn(*mut c_void, *const Key, usize, *const c_void, usize, c_int) -> i64;
type QueueNew = unsafe extern "C" fn(*mut c_void, u32) -> *mut c_void;
type QueuePut = unsafe extern "C" fn(*mut c_void, *const c_void, usize, *const c_void, usize, u64) -> i64;
type QueueReap = unsafe extern "C" fn(*mut c_void, *mut u64, usize) -> i64;
type QueueFree = unsafe extern "C" fn(*mut c_void);
type Scan = unsafe extern "C" fn(*mut c_void, *const c_void, usize, u64) -> i64;

/// The functions of `c/store.c`. The library stays loaded to the end of the process.
#[derive(Clone, Copy)]
struct Calls {
    open: Open,
    close: Close,
    put: Put,
    batch: Batch,
    get: Get,
    multi_get: MultiGet,
    scan: Scan,
    queue_new: QueueNew,
    queue_put: QueuePut,
    queue_reap: QueueReap,
    queue_free: QueueFree,
}

pub struct CoreringC {
    db: *mut c_void,
    calls: Calls,
    memtable_bytes: u64,
}

// SAFETY: corering.h says that a database may be used by any number of threads at once.
unsafe impl Send for CoreringC {}
// SAFETY: as above.
unsafe impl Sync for CoreringC {}

impl CoreringC {
    pub fn open(dir: &Path, opening: Opening) -> Outcome<Box<dyn Store>> {
        let calls = load(&compile()?)?;
        let shards = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        // Zero is the default.
        let memtable_bytes = if opening.resident { opening.memory / shards } else { 0 };
        let path = CString::new(dir.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
        let mut message = [0_u8; 512];
        // SAFETY: the path is a C string, and the message as long as said.
        let db = unsafe { (calls.open)(path.as_ptr(), memtable_bytes, message.as_mut_ptr().cast(), message.len()) };
        if db.is_null() {
            let end = message.iter().position(|byte| *byte == 0).unwrap_or(message.len());
            return Err(String::from_utf8_lossy(&message[..end]).into_owned());
        }
        Ok(Box::new(CoreringC { db, calls, memtable_bytes }))
    }
}

/// Directory of libcorering.so: where this program lies.
fn library_dir() -> Outcome<PathBuf> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let dir = program.parent().ok_or("a program without a directory")?;
    // A test lies one below.
    let near = [dir, dir.parent().unwrap_or(dir)].into_iter().find(|dir| dir.join("libcorering.so").exists());
    near.map(Path::to_path_buf)
        .ok_or(format!("no libcorering.so beside {}: cargo build --release -p corering-ffi", program.display()))
}

/// Compile `c/store.c`, once for each of our builds.
fn compile() -> Outcome<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (source, libraries) = (here.join("c/store.c"), library_dir()?);
    let built = libraries.join("corering-peers-store.so");
    // Several children may come here at once; each moves a whole file into place.
    let part = libraries.join(format!("corering-peers-store.{}.so", std::process::id()));
    let newer = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified());
    if let (Ok(built_at), Ok(source_at)) = (newer(&built), newer(&source))
        && built_at > source_at
    {
        return Ok(built);
    }
    let done = Command::new(std::env::var_os("CC").unwrap_or("cc".into()))
        .args(["-O2", "-shared", "-fPIC", "-Wall", "-o"])
        .arg(&part)
        .arg(&source)
        .arg(format!("-I{}", here.join("../../include").display()))
        .arg(format!("-L{}", libraries.display()))
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .arg("-lcorering")
        .output()
        .map_err(|error| format!("cc: {error}"))?;
    if !done.status.success() {
        return Err(format!("cc: {}", String::from_utf8_lossy(&done.stderr)));
    }
    std::fs::rename(&part, &built).map_err(|error| error.to_string())?;
    Ok(built)
}

fn open_library(path: &Path) -> Outcome<*mut c_void> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a C string; loading runs no code but libcorering's own.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    if handle.is_null() {
        // SAFETY: after a failure it gives a C string.
        let why = unsafe { CStr::from_ptr(libc::dlerror()) };
        return Err(why.to_string_lossy().into_owned());
    }
    Ok(handle)
}

fn load(library: &Path) -> Outcome<Calls> {
    // The build has no file by the name under which an installed one is found; what is loaded already counts by that name.
    open_library(&library_dir()?.join("libcorering.so"))?;
    let handle = open_library(library)?;
    let find = |name: &CStr| {
        // SAFETY: a handle that was just opened, and a C string.
        let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
        if found.is_null() { Err(format!("{} is missing", name.to_string_lossy())) } else { Ok(found) }
    };
    // SAFETY: `c/store.c` defines them with these signatures.
    unsafe {
        Ok(Calls {
            open: std::mem::transmute::<*mut c_void, Open>(find(c"store_open")?),
            close: std::mem::transmute::<*mut c_void, Close>(find(c"store_close")?),
            put: std::mem::transmute::<*mut c_void, Put>(find(c"store_put")?),
            batch: std::mem::transmute::<*mut c_void, Batch>(find(c"store_batch")?),
            get: std::mem::transmute::<*mut c_void, Get>(find(c"store_get")?),
            multi_get: std::mem::transmute::<*mut c_void, MultiGet>(find(c"store_multi_get")?),
            scan: std::mem::transmute::<*mut c_void, Scan>(find(c"store_scan")?),
            queue_new: std::mem::transmute::<*mut c_void, QueueNew>(find(c"store_queue_new")?),
            queue_put: std::mem::transmute::<*mut c_void, QueuePut>(find(c"store_queue_put")?),
            queue_reap: std::mem::transmute::<*mut c_void, QueueReap>(find(c"store_queue_reap")?),
            queue_free: std::mem::transmute::<*mut c_void, QueueFree>(find(c"store_queue_free")?),
        })
    }
}

impl Drop for CoreringC {
    fn drop(&mut self) {
        // SAFETY: opened by `open`; sessions borrow the store and are gone.
        unsafe { (self.calls.close)(self.db) };
    }
}

impl Store for CoreringC {
    fn session(&self) -> Outcome<Box<dyn Session + '_>> {
        Ok(Box::new(Own { db: self.db, calls: self.calls, _store: self }))
    }

    fn settings(&self) -> String {
        format!(
            "durable: CORERING_DURABILITY_SYNC; not waiting: CORERING_DURABILITY_NONE; corering_get_into; memtable_bytes={}",
            match self.memtable_bytes {
                0 => "its default".to_owned(),
                bytes => format!("{} MiB a shard", bytes >> 20),
            }
        )
    }

    fn load(&self, count: u64, value: &[u8]) -> Outcome<()> {
        let mut session = self.session()?;
        (0..count).try_for_each(|i| session.put(&key(i), value, Level::NoWait))
    }

    fn put_async(&self, run: &mut dyn AsyncRun) -> Option<Outcome<()>> {
        // SAFETY: the database is open.
        let queue = unsafe { (self.calls.queue_new)(self.db, run.depth() as u32) };
        if queue.is_null() {
            return Some(Err("no queue".to_owned()));
        }
        let done = self.put_through(queue, run);
        // SAFETY: made above; not used after this.
        unsafe { (self.calls.queue_free)(queue) };
        Some(done)
    }
}

impl CoreringC {
    /// Puts are known by their place in `began`.
    fn put_through(&self, queue: *mut c_void, run: &mut dyn AsyncRun) -> Outcome<()> {
        let value = crate::data::value(crate::data::VALUE_LEN);
        let mut began = vec![Instant::now(); run.depth()];
        let mut free: Vec<u64> = (0..began.len() as u64).collect();
        let mut reaped = vec![0_u64; began.len()];
        let mut more = true;
        while more || free.len() < began.len() {
            while more && let Some(place) = free.pop() {
                let Some(key) = run.next() else {
                    free.push(place);
                    more = false;
                    break;
                };
                began[place as usize] = Instant::now();
                // SAFETY: the bytes outlive the call, which copies them.
                status(unsafe {
                    (self.calls.queue_put)(
                        queue,
                        key.as_ptr().cast(),
                        key.len(),
                        value.as_ptr().cast(),
                        value.len(),
                        place,
                    )
                })?;
            }
            if free.len() == began.len() {
                break;
            }
            // SAFETY: there is room for as many as said.
            let count = status(unsafe { (self.calls.queue_reap)(queue, reaped.as_mut_ptr(), reaped.len()) })?;
            for place in reaped.iter().take(usize::try_from(count).unwrap_or(0)) {
                run.done(began[*place as usize]);
                free.push(*place);
            }
        }
        Ok(())
    }
}

struct Own<'a> {
    db: *mut c_void,
    calls: Calls,
    _store: &'a CoreringC,
}

fn status(status: i64) -> Outcome<i64> {
    if status < 0 { Err(format!("status {status}")) } else { Ok(status) }
}

impl Session for Own<'_> {
    fn put(&mut self, key: &[u8], value: &[u8], level: Level) -> Outcome<()> {
        let durable = c_int::from(level == Level::Durable);
        // SAFETY: the bytes outlive the call.
        status(unsafe {
            (self.calls.put)(self.db, key.as_ptr().cast(), key.len(), value.as_ptr().cast(), value.len(), durable)
        })
        .map(drop)
    }

    fn batch(&mut self, keys: &[Key], value: &[u8], level: Level) -> Outcome<()> {
        let durable = c_int::from(level == Level::Durable);
        // SAFETY: the bytes outlive the call; keys are 16 bytes each, side by side.
        status(unsafe {
            (self.calls.batch)(self.db, keys.as_ptr(), keys.len(), value.as_ptr().cast(), value.len(), durable)
        })
        .map(drop)
    }

    fn get(&mut self, key: &[u8]) -> Outcome<Option<u64>> {
        // SAFETY: the bytes outlive the call.
        match unsafe { (self.calls.get)(self.db, key.as_ptr().cast(), key.len()) } {
            ABSENT => Ok(None),
            sum => status(sum).map(|sum| Some(sum.unsigned_abs())),
        }
    }

    fn multi_get(&mut self, keys: &[Key]) -> Outcome<usize> {
        // SAFETY: as in `batch`.
        let found = status(unsafe { (self.calls.multi_get)(self.db, keys.as_ptr(), keys.len()) })?;
        usize::try_from(found).map_err(|error| error.to_string())
    }

    fn scan(&mut self, from: &[u8], rows: u64) -> Outcome<u64> {
        let from_ptr = if from.is_empty() { ptr::null() } else { from.as_ptr() };
        // SAFETY: the bytes outlive the call.
        let seen = status(unsafe { (self.calls.scan)(self.db, from_ptr.cast(), from.len(), rows) })?;
        Ok(seen.unsigned_abs())
    }
}
