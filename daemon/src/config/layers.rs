//! Puts the layers together: file, then environment, then flags, each over the one before.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::settings::Settings;
use super::table::{Change, SETTINGS, Setting, find};

/// Environment variables of settings begin so.
const PREFIX: &str = "CORERING_";
/// Names the file, as `--config` does.
const CONFIG_VARIABLE: &str = "CORERING_CONFIG";
/// The tests' own switches, no settings.
const TEST_PREFIX: &str = "CORERING_TEST_";

/// Where a value was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    File(PathBuf),
    Environment,
    Flag,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    CannotRead { path: PathBuf, why: String },
    NotToml { path: PathBuf, why: String },
    Unknown { name: String, source: Source, meant: Option<&'static str> },
    Bad { name: String, source: Source, value: String, why: String },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |name: &str, source: &Source| match source {
            Source::File(path) => format!("{}: `{name}`", path.display()),
            Source::Environment => format!("the environment variable {name}"),
            Source::Flag => format!("--{name}"),
        };
        match self {
            ConfigError::CannotRead { path, why } => write!(f, "cannot read {}: {why}", path.display()),
            ConfigError::NotToml { path, why } => write!(f, "{}: {why}", path.display()),
            ConfigError::Unknown { name, source, meant } => {
                write!(f, "{} is no setting", named(name, source))?;
                match meant {
                    Some(meant) => write!(f, "; did you mean `{meant}`?"),
                    None => Ok(()),
                }
            }
            ConfigError::Bad { name, source, value, why } => {
                write!(f, "{} = {value:?}: {why}", named(name, source))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Values by the setting's name, as one layer gives them.
type Layer = Vec<(&'static Setting, String, Vec<String>)>;

/// The settings out of the defaults, the file (named by `file` or the environment), `environment` and `flags`.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: Vec<(&'static Setting, Vec<String>)>,
) -> Result<Settings, ConfigError> {
    let variables: BTreeMap<String, String> =
        environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    let file = file.map(Path::to_path_buf).or_else(|| variables.get(CONFIG_VARIABLE).map(PathBuf::from));
    let mut settings = Settings::default();
    if let Some(path) = file {
        apply(&mut settings, file_layer(&path)?, &Source::File(path))?;
    }
    apply(&mut settings, environment_layer(variables)?, &Source::Environment)?;
    let flags = flags.into_iter().map(|(setting, values)| (setting, setting.name.to_owned(), values)).collect();
    apply(&mut settings, flags, &Source::Flag)?;
    Ok(settings)
}

fn apply(settings: &mut Settings, layer: Layer, source: &Source) -> Result<(), ConfigError> {
    for (setting, name, values) in layer {
        if setting.name == "bind" {
            settings.bind.clear();
        }
        for value in values {
            (setting.set)(settings, &value).map_err(|why| ConfigError::Bad {
                name: name.clone(),
                source: source.clone(),
                // A password does not belong in a message.
                value: if setting.name == "requirepass" { "…".to_owned() } else { value },
                why: why.0,
            })?;
        }
    }
    Ok(())
}

fn file_layer(path: &Path) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|why| ConfigError::CannotRead { path: path.to_path_buf(), why: why.to_string() })?;
    let source = Source::File(path.to_path_buf());
    let table: toml::Table = text
        .parse()
        .map_err(|why: toml::de::Error| ConfigError::NotToml { path: path.to_path_buf(), why: why.to_string() })?;
    let mut layer = Vec::new();
    for (name, value) in table {
        let setting = settable(&name, &source)?;
        let values = texts(&value, setting.list).ok_or_else(|| ConfigError::Bad {
            name: name.clone(),
            source: source.clone(),
            value: value.type_str().to_owned(),
            why: "a setting is a text, a number, true or false; only `bind` may be a list of them".to_owned(),
        })?;
        layer.push((setting, name, values));
    }
    Ok(layer)
}

fn texts(value: &toml::Value, list: bool) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(n) => Some(vec![n.to_string()]),
        toml::Value::Boolean(b) => Some(vec![b.to_string()]),
        toml::Value::Array(items) if list => {
            let texts: Option<Vec<Vec<String>>> = items.iter().map(|item| texts(item, false)).collect();
            Some(texts?.concat())
        }
        _ => None,
    }
}

fn environment_layer(variables: BTreeMap<String, String>) -> Result<Layer, ConfigError> {
    let mut layer = Vec::new();
    for (variable, value) in variables {
        if variable == CONFIG_VARIABLE || variable.starts_with(TEST_PREFIX) {
            continue;
        }
        let name = variable.strip_prefix(PREFIX).unwrap_or_default();
        let setting = match settable(name, &Source::Environment) {
            Ok(setting) => setting,
            Err(ConfigError::Unknown { source, meant, .. }) => {
                return Err(ConfigError::Unknown { name: variable, source, meant });
            }
            Err(other) => return Err(other),
        };
        layer.push((setting, variable, vec![value]));
    }
    Ok(layer)
}

fn settable(name: &str, source: &Source) -> Result<&'static Setting, ConfigError> {
    match find(name) {
        Some(setting) if matches!(setting.change, Change::AtStart | Change::AtRuntime) => Ok(setting),
        _ => Err(ConfigError::Unknown { name: name.to_owned(), source: source.clone(), meant: closest(name) }),
    }
}

/// The setting whose name looks most like `name`, if one does.
fn closest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    SETTINGS
        .iter()
        .filter(|setting| matches!(setting.change, Change::AtStart | Change::AtRuntime))
        .map(|setting| (strsim::jaro_winkler(&name, setting.name), setting.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn flag(name: &str, values: &[&str]) -> (&'static Setting, Vec<String>) {
        (find(name).unwrap(), values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let file = file("port = 1\nmaxclients = 1\ntimeout = 1\nbind = ['::1', '10.0.0.1']\n");
        let settings = load(
            Some(file.path()),
            environment(&[("CORERING_MAXCLIENTS", "2"), ("CORERING_TIMEOUT", "2"), ("HOME", "/")]),
            vec![flag("timeout", &["3"])],
        )
        .unwrap();
        assert_eq!((settings.port, settings.maxclients, settings.timeout), (1, 2, 3));
        assert_eq!(settings.bind, ["::1", "10.0.0.1"]);
        assert_eq!(settings.tcp_keepalive, Settings::default().tcp_keepalive);
    }

    #[test]
    fn a_layer_replaces_the_list_of_addresses() {
        let settings =
            load(None, environment(&[("CORERING_BIND", "1.1.1.1,2.2.2.2")]), vec![flag("bind", &["::", "0.0.0.0"])]);
        assert_eq!(settings.unwrap().bind, ["::", "0.0.0.0"]);
        let settings = load(None, environment(&[("CORERING_BIND", "1.1.1.1,2.2.2.2")]), vec![]).unwrap();
        assert_eq!(settings.bind, ["1.1.1.1", "2.2.2.2"]);
    }

    #[test]
    fn the_environment_names_the_file() {
        let file = file("port = 77");
        let path = file.path().display().to_string();
        assert_eq!(load(None, environment(&[("CORERING_CONFIG", &path)]), vec![]).unwrap().port, 77);
    }

    #[test]
    fn unknown_names_are_errors_that_say_the_name() {
        let path = file("prot = 1");
        let text = load(Some(path.path()), vec![], vec![]).unwrap_err().to_string();
        assert!(text.contains("`prot`") && text.contains("did you mean `port`?"), "{text}");
        let text = load(None, environment(&[("CORERING_SHARD", "1")]), vec![]).unwrap_err().to_string();
        assert!(text.contains("CORERING_SHARD") && text.contains("`shards`"), "{text}");
        // Only by CONFIG SET.
        let path = file("appendfsync = 'no'");
        assert!(load(Some(path.path()), vec![], vec![]).is_err());
        assert!(load(None, environment(&[("CORERING_TEST_X", "1")]), vec![]).is_ok());
    }

    #[test]
    fn bad_values_say_where_and_why() {
        let path = file("port = 'abc'");
        let text = load(Some(path.path()), vec![], vec![]).unwrap_err().to_string();
        assert!(text.contains("`port` = \"abc\": argument couldn't be parsed into an integer"), "{text}");
        let path = file("[server]\nport = 1");
        assert!(load(Some(path.path()), vec![], vec![]).unwrap_err().to_string().contains("server"));
        let path = file("port = [1]");
        assert!(load(Some(path.path()), vec![], vec![]).is_err());
        let path = file("port = ");
        assert!(matches!(load(Some(path.path()), vec![], vec![]), Err(ConfigError::NotToml { .. })));
        assert!(matches!(load(Some(Path::new("/no/such")), vec![], vec![]), Err(ConfigError::CannotRead { .. })));
    }

    #[test]
    fn the_file_of_the_service_is_understood() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/corering.toml");
        let settings = load(Some(&path), vec![], vec![]).unwrap();
        assert_eq!(settings.dir, Path::new("/var/lib/corering"));
        assert_eq!(settings.bind, ["127.0.0.1", "::1"]);
        assert_eq!(settings.unixsocketperm, 0o700);
    }

    #[test]
    fn a_password_is_taken_as_it_is() {
        let settings = load(None, environment(&[("CORERING_REQUIREPASS", "0123")]), vec![]).unwrap();
        assert_eq!(settings.requirepass, "0123");
    }
}
