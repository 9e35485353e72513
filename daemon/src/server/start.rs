//! `corering serve`, from its settings to its exit status.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use corering_engine::{Engine, Error};

use super::control::{Control, Event};
use super::shard::ShardServer;
use super::shared::{Identity, Shared};
use super::sockets::Sockets;
use super::{notify, signals};
use crate::config::Settings;
use crate::exit::{self, Failure};
use crate::logging::LevelHandle;

/// How often the main thread samples rates.
const SAMPLE: Duration = Duration::from_secs(1);
/// Descriptors beside those of clients: logs, tables, rings, listeners.
const OWN_DESCRIPTORS: u64 = 512;
/// A shard whose thread runs no task for so long hangs.
const HANG: Duration = Duration::from_secs(10);
/// How long a stop waits, beyond the time clients have, for the shards to notice.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Serve until something says stop.
pub fn serve(mut settings: Settings, levels: LevelHandle, config_file: Option<&Path>) -> Result<(), Failure> {
    let (control, events) = Control::new();
    signals::listen(control.clone())
        .map_err(|error| Failure::new(exit::UNSUPPORTED, format!("cannot handle signals: {error}")))?;
    settings.maxclients = allow_clients(settings.maxclients);
    // Whoever took our address must be found out before a recovery that may be long, not after.
    drop(Sockets::bind(&settings, 1)?);
    let began = Instant::now();
    let engine = Engine::open(&settings.dir, settings.engine_options())?;
    let sockets = Sockets::bind(&settings, engine.shard_count());
    tracing::info!(
        took_ms = began.elapsed().as_millis() as u64,
        "opened {}: {}",
        settings.dir.display(),
        engine.report()
    );
    let sockets = match sockets {
        Ok(sockets) => sockets,
        Err(failure) => return Err(close_after(&engine, failure)),
    };
    let identity = Identity {
        run_id: (0..5).map(|_| format!("{:08x}", fastrand::u32(..))).collect(),
        port: sockets.port,
        config_file: config_file.map(|path| path.display().to_string()).unwrap_or_default(),
    };
    let shared = Arc::new(Shared::new(engine.clone(), settings, control, levels, identity));
    let lockers = Arc::clone(&shared.lockers);
    engine.client().on_lock_lost(move |lost| lockers.tell_lost(lost));
    let addresses = sockets.addresses.join(", ");
    let ended = start_shards(&shared, sockets).and_then(|()| announce(&shared, &addresses));
    let ended = ended.map(|()| run(&shared, &events));
    notify::stopping();
    stop(&shared, &engine, ended)
}

/// End for a reason that is known already: what closing might add to it is of no interest.
fn close_after(engine: &Engine, failure: Failure) -> Failure {
    let _ = engine.close();
    failure
}

/// Raise the limit of open files to what the clients need, and if that cannot be, lower their number.
fn allow_clients(wanted: u32) -> u32 {
    let needed = u64::from(wanted) + OWN_DESCRIPTORS;
    match rlimit::increase_nofile_limit(needed) {
        Ok(limit) if limit < needed => {
            let allowed = u32::try_from(limit.saturating_sub(OWN_DESCRIPTORS)).unwrap_or(wanted).max(1);
            tracing::warn!(
                "maxclients = {wanted} needs {needed} open files and the limit is {limit}: {allowed} clients are allowed; \
                 raise the limit (ulimit -n, LimitNOFILE=) for more"
            );
            allowed
        }
        Ok(_) => wanted,
        Err(error) => {
            tracing::warn!(error.message = %error, "the limit of open files cannot be read; maxclients stays {wanted}");
            wanted
        }
    }
}

/// Tell whoever waits that clients may come.
fn announce(shared: &Shared, addresses: &str) -> Result<(), Failure> {
    let settings = shared.settings.load();
    if let Some(path) = &settings.port_file {
        write_port_file(path, shared.identity.load().port)?;
    }
    let (dir, shards) = (settings.dir.display(), shared.shard_count);
    let durability = settings.durability;
    tracing::info!(
        server.address = %addresses,
        server.port = shared.identity.load().port,
        "ready on {addresses}: data in {dir}, {shards} shards, durability {durability}"
    );
    notify::ready(&format!("ready on {addresses}"));
    Ok(())
}

/// Whole or not at all: a script may look at any moment.
fn write_port_file(path: &Path, port: u16) -> Result<(), Failure> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, format!("{port}\n"))
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| Failure::usage(format!("cannot write the port to {}: {error}", path.display())))
}

fn start_shards(shared: &Arc<Shared>, sockets: Sockets) -> Result<(), Failure> {
    let (started, results) = mpsc::channel();
    for (shard, bound) in shared.shards().zip(sockets.shards) {
        let (shared, started) = (Arc::clone(shared), started.clone());
        shared.clone().engine.spawn_on(shard, move |local| {
            Box::pin(async move {
                let server = ShardServer::new(shared, local);
                let listening = server.listen(bound);
                let serves = listening.is_ok();
                // The main thread listens until each shard has answered and let go of its end.
                let _ = started.send(listening);
                drop(started);
                if serves {
                    server.keep().await;
                }
            })
        })?;
    }
    drop(started);
    for listening in results {
        listening.map_err(|error| Failure::new(exit::UNSUPPORTED, format!("cannot listen: {error}")))?;
    }
    Ok(())
}

/// Why the server stops.
enum End {
    Asked { save: bool },
    Failed(Error),
}

fn run(shared: &Shared, events: &mpsc::Receiver<Event>) -> End {
    let watchdog = notify::watchdog_interval();
    let mut told = Instant::now();
    loop {
        match events.recv_timeout(watchdog.map_or(SAMPLE, |interval| interval.min(SAMPLE))) {
            Ok(Event::Stop { save, why }) => {
                tracing::info!("stopping: {why}");
                return End::Asked { save };
            }
            Ok(Event::EngineFailed(error)) => {
                tracing::error!(error.message = %error, "stopping: the engine cannot go on");
                return End::Failed(error);
            }
            // The sender lives in `shared`, so that only time can have passed.
            Err(_) => shared.stats.sample(Instant::now()),
        }
        if let Some(interval) = watchdog
            && told.elapsed() >= interval
            && shared.is_alive(HANG)
        {
            notify::alive();
            told = Instant::now();
        }
    }
}

/// Answer what was taken, write a checkpoint, close.
fn stop(shared: &Shared, engine: &Engine, ended: Result<End, Failure>) -> Result<(), Failure> {
    let began = Instant::now();
    shared.stop();
    let time = shared.settings.load().shutdown_timeout + DRAIN_GRACE;
    if !shared.wait_until_drained(time) {
        tracing::warn!("some clients did not take their replies in time; their connections are cut");
    }
    match ended? {
        End::Failed(error) => Err(close_after(engine, Failure::new(exit::DISK, error.to_string()))),
        End::Asked { save } => {
            if save && let Err(error) = engine.checkpoint() {
                return Err(close_after(engine, error.into()));
            }
            engine.close()?;
            tracing::info!(took_ms = began.elapsed().as_millis() as u64, "stopped; everything is on disk");
            Ok(())
        }
    }
}
