//! `corering`: reads the command line and ends with the status that `exit` promises.

use std::io::Write as _;
use std::path::PathBuf;

use corering_daemon::exit::{self, Failure};
use corering_daemon::{bench, cli, config, locks_cli, logging, offline, server};

fn main() {
    let matches = match cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are errors to clap, and none to the user.
            let status = if error.use_stderr() { exit::USAGE } else { exit::OK };
            let _ = error.print();
            std::process::exit(status);
        }
    };
    let result = match matches.subcommand() {
        Some(("serve", matches)) => serve(matches),
        Some(("check", matches)) => offline::run_check(matches),
        Some(("stat", matches)) => offline::run_stat(matches),
        Some(("locks", matches)) => locks_cli::run(matches),
        Some(("bench", matches)) => bench::cli::run(matches),
        _ => Err(Failure::usage("no such command")),
    };
    let status = match result {
        Ok(()) => exit::OK,
        Err(failure) => {
            // Standard error may be closed; the status still tells.
            let _ = writeln!(std::io::stderr(), "corering: {failure}");
            failure.status
        }
    };
    std::process::exit(status);
}

fn serve(matches: &clap::ArgMatches) -> Result<(), Failure> {
    let file = matches.get_one::<PathBuf>("config").cloned();
    let settings =
        config::load(file.as_deref(), utf8_variables(), cli::flags_given(matches)).map_err(Failure::usage)?;
    let levels = logging::start(settings.log_level, settings.log_format);
    let served = server::serve(settings, levels, file.as_deref());
    if let Err(failure) = served {
        // The log has its own form; a line of another one would break it for whoever reads it.
        tracing::error!(process.exit_code = failure.status, "{failure}");
        std::process::exit(failure.status);
    }
    Ok(())
}

/// Variables whose names and values are text; none of ours is anything else.
fn utf8_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
