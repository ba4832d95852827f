//! The real sources of this process: its environment, and the file that `--config` names.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use super::{
    ConfigError, DaemonConfig, Flags, SERVICE_CONFIG, SERVICE_ENVIRONMENT, SETTINGS, Survey,
    closest::closest, env_file, env_name, resolve_all,
};

/// Beginning of all variables that are settings.
const PREFIX: &str = "RS_OVERLAY_";

/// Variables of a process, and those that are no text.
struct Environment {
    variables: BTreeMap<String, String>,
    errors: Vec<ConfigError>,
    doubts: Vec<String>,
}

/// Reads the process's environment and the file named by `--config` or `RS_OVERLAY_CONFIG`, and
/// resolves all settings.
pub fn load(flags: Flags) -> Result<DaemonConfig, ConfigError> {
    survey(flags).into_config()
}

/// What `load` reads, with all that there is to say of it.
pub fn survey(flags: Flags) -> Survey {
    resolve_in(flags, Environment::of(std::env::vars_os()))
}

/// The same as the packaged service reads it: with the variables of its own environment file, and with its own
/// configuration file unless they name another one.
pub fn survey_service(flags: Flags) -> Survey {
    let mut environment = Environment { variables: BTreeMap::new(), errors: Vec::new(), doubts: Vec::new() };
    environment.variables.insert(env_name("config"), SERVICE_CONFIG.to_owned());
    match std::fs::read_to_string(SERVICE_ENVIRONMENT) {
        Ok(text) => {
            let read = env_file::parse(&text);
            environment.variables.extend(read.variables);
            let ignored = |line| {
                format!("{SERVICE_ENVIRONMENT}, line {line}: is ignored, because it is not NAME=VALUE")
            };
            environment.doubts.extend(read.ignored.into_iter().map(ignored));
        }
        // As systemd has it: the file may be missing.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => {
            environment
                .errors
                .push(ConfigError::place(SERVICE_ENVIRONMENT, format!("cannot be read: {err}")));
        }
    }
    resolve_in(flags, environment)
}

fn resolve_in(flags: Flags, mut environment: Environment) -> Survey {
    let env = |name: &str| environment.variables.get(name).cloned();
    let named = match (flags.config.clone(), env("RS_OVERLAY_CONFIG").filter(|path| !path.is_empty())) {
        (Some(path), _) => Some(("--config", path)),
        (None, Some(path)) => Some(("RS_OVERLAY_CONFIG", path)),
        (None, None) => None,
    };
    let path = named.as_ref().map(|(_, path)| path.into());
    let text = named.and_then(|(name, path)| match std::fs::read_to_string(Path::new(&path)) {
        Ok(text) => Some(text),
        Err(err) => {
            let problem = format!("cannot be read: {err}; give a TOML file");
            environment.errors.push(ConfigError::value(name, path, problem));
            None
        }
    });
    let machine = nix::unistd::gethostname().unwrap_or_default();
    let errors = std::mem::take(&mut environment.errors);
    let env = |name: &str| environment.variables.get(name).cloned();
    let mut survey = resolve_all(flags, &env, text.as_deref(), &machine.to_string_lossy(), errors);
    environment.doubts.extend(unknown(&environment.variables));
    survey.file = path;
    survey.doubts = environment.doubts;
    survey
}

impl Environment {
    fn of(all: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self { variables: BTreeMap::new(), errors: Vec::new(), doubts: Vec::new() };
        for (name, value) in all {
            let Some(name) = name.into_string().ok().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            match value.into_string() {
                Ok(value) => drop(environment.variables.insert(name, value)),
                // A variable that is no setting may hold what it likes.
                Err(_) if !names().contains(&name) => {}
                Err(raw) => {
                    environment.errors.push(ConfigError::value(name, raw.to_string_lossy(), "is not UTF-8"));
                }
            }
        }
        environment
    }
}

/// All variables that mean something.
fn names() -> Vec<String> {
    SETTINGS.into_iter().chain(["config"]).map(env_name).collect()
}

/// Variables that look like settings and are none. The daemon does not mind them, since programs around it
/// may have some of their own.
fn unknown(variables: &BTreeMap<String, String>) -> Vec<String> {
    let names = names();
    let strange = variables.keys().filter(|name| !names.contains(name));
    let ends = || names.iter().filter_map(|name| name.strip_prefix(PREFIX));
    strange
        .filter_map(|name| Some((name, name.strip_prefix(PREFIX)?)))
        .map(|(name, end)| match closest(end, ends()) {
            Some(known) => {
                format!("variable {name} is no setting and has no effect; did you mean {PREFIX}{known}?")
            }
            None => format!("variable {name} is no setting and has no effect"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn a_misspelt_variable_is_told() {
        let survey = resolve_in(
            Flags::default(),
            environment(&[("RS_OVERLAY_CLUSTER_STOR", "x"), ("RS_OVERLAY_Q", ""), ("PATH", "/")]),
        );
        assert_eq!(
            survey.doubts,
            [
                "variable RS_OVERLAY_CLUSTER_STOR is no setting and has no effect; did you mean RS_OVERLAY_CLUSTER_STORE?",
                "variable RS_OVERLAY_Q is no setting and has no effect",
            ]
        );
        assert!(survey.outcome.is_ok(), "{:?}", survey.outcome);
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_beside_all_others() {
        let survey = resolve_in(
            Flags::default(),
            environment(&[("RS_OVERLAY_CONFIG", "/nowhere/a.toml"), ("RS_OVERLAY_SCOPE", "wide")]),
        );
        let errors: Vec<_> = survey.outcome.unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].starts_with("RS_OVERLAY_CONFIG \"/nowhere/a.toml\": cannot be read"), "{errors:?}");
        assert!(errors[1].starts_with("RS_OVERLAY_SCOPE \"wide\""), "{errors:?}");
    }
}
