//! The command line. The flags of `serve` are made from the table of settings.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::{Change, SETTINGS, Setting};

const EXIT_STATUSES: &str = "Exit status: 0 done; 1 wrong usage or settings; 2 the data is damaged; 3 the kernel, the container or a limit \
does not allow what is needed; 4 the disk failed or is full; 5 the directory or the address is in use; 130 ended by a second signal.";

pub fn command() -> Command {
    Command::new("corering")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A durable key-value store that speaks Redis's protocol")
        .after_help(EXIT_STATUSES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve())
        .subcommand(crate::offline::check_command())
        .subcommand(crate::offline::stat_command())
        .subcommand(crate::locks_cli::command())
        .subcommand(crate::bench::cli::command())
}

fn serve() -> Command {
    let flags = SETTINGS.iter().filter(|setting| is_flag(setting)).map(flag);
    Command::new("serve")
        .about("Serve a database to Redis clients")
        .after_help(
            "Each flag is also a key of the configuration file (TOML) and an environment variable: --tcp-keepalive is \
             tcp_keepalive there and CORERING_TCP_KEEPALIVE here. Flags win over the environment, that over the file.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Read settings from this file"),
        )
        .args(flags)
}

fn is_flag(setting: &Setting) -> bool {
    matches!(setting.change, Change::AtStart | Change::AtRuntime)
}

fn flag(setting: &'static Setting) -> Arg {
    let action = if setting.list { ArgAction::Append } else { ArgAction::Set };
    // A value may begin with a dash: a password does.
    let argument = Arg::new(setting.name).long(setting.name).value_name(setting.value_name).help(setting.help);
    argument.action(action).allow_hyphen_values(setting.name == "requirepass")
}

/// The settings given as flags, with their values.
pub fn flags_given(matches: &ArgMatches) -> Vec<(&'static Setting, Vec<String>)> {
    let given = |setting: &'static Setting| {
        let values = matches.get_many::<String>(setting.name)?;
        Some((setting, values.cloned().collect()))
    };
    SETTINGS.iter().filter(|setting| is_flag(setting)).filter_map(given).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_are_taken_with_all_their_values() {
        let matches = command()
            .try_get_matches_from(["corering", "serve", "--bind", "::1", "--bind", "10.0.0.1", "--port", "0"])
            .unwrap();
        let (_, serve) = matches.subcommand().unwrap();
        let given: Vec<(&str, Vec<String>)> =
            flags_given(serve).into_iter().map(|(setting, values)| (setting.name, values)).collect();
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        assert_eq!(given, [("bind", list(&["::1", "10.0.0.1"])), ("port", list(&["0"]))]);
        assert!(command().try_get_matches_from(["corering", "serve", "--no-such", "1"]).is_err());
    }
}
