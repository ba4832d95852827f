//! Which source a setting's value comes from, so that a message can name the place to change.
//!
//! Nothing stops at the first wrong value: each setting leaves a row and its error behind, and the caller
//! decides how many of them to tell.

use std::cell::RefCell;

use super::{
    ConfigError, LISTS, env_name,
    file::{self, FileValues},
    survey::{Setting, Source},
};

/// All sources but the flags, which are handed in by value.
pub(super) struct Sources<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    file: &'a FileValues,
    rows: RefCell<Vec<Setting>>,
    errors: RefCell<Vec<ConfigError>>,
}

/// A list's values and where they stand.
pub(super) struct Given {
    /// Flag, variable or key of the file.
    pub(super) place: String,
    /// The kind of place.
    source: Source,
    /// The values, as text.
    pub(super) values: Vec<String>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(
        env: &'a dyn Fn(&str) -> Option<String>,
        file: &'a FileValues,
        errors: Vec<ConfigError>,
    ) -> Self {
        Self { env, file, rows: RefCell::default(), errors: RefCell::new(errors) }
    }

    /// A setting with one value, from the strongest source that has it; nothing if none has, or if it is
    /// wrong.
    pub(super) fn one<T, E: Into<String>>(
        &self,
        setting: &'static str,
        flag: Option<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let Given { place, values, .. } = self.given(setting, flag.into_iter().collect());
        let text = values.into_iter().next()?;
        self.keep(parse(&text).map_err(|err| ConfigError::value(place, text, err)))
    }

    /// A setting with a list, from the strongest source that has one, without the elements that are wrong.
    pub(super) fn many<T, E: Into<String>>(
        &self,
        setting: &'static str,
        flag: Vec<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let Given { place, values, .. } = self.given(setting, flag);
        let read =
            |text: String| self.keep(parse(&text).map_err(|err| ConfigError::value(&place, text, err)));
        values.into_iter().filter_map(read).collect()
    }

    /// The value, if it is right; else its error is noted.
    pub(super) fn keep<T>(&self, value: Result<T, ConfigError>) -> Option<T> {
        value.map_err(|error| self.errors.borrow_mut().push(error)).ok()
    }

    /// Whether a setting that was asked for before stands anywhere.
    pub(super) fn was_given(&self, setting: &str) -> bool {
        self.rows.borrow().iter().any(|row| row.name == setting && row.source != Source::Default)
    }

    /// What was noted: a row for each setting that was asked for, and the errors in the order of asking.
    pub(super) fn finish(self) -> (Vec<Setting>, Vec<ConfigError>) {
        (self.rows.into_inner(), self.errors.into_inner())
    }

    /// A setting's values as text.
    pub(super) fn given(&self, setting: &'static str, flag: Vec<String>) -> Given {
        let given = self.find(setting, flag);
        self.rows.borrow_mut().push(Setting::new(setting, given.source, &given.place, &given.values));
        given
    }

    /// Pools hold commas, so values of a list in a variable are separated by blanks or semicolons.
    fn find(&self, setting: &str, flag: Vec<String>) -> Given {
        if !flag.is_empty() {
            return Given { place: format!("--{setting}"), source: Source::Flag, values: flag };
        }
        let name = env_name(setting);
        let text = (self.env)(&name).unwrap_or_default();
        let values: Vec<String> = if LISTS.contains(&setting) {
            let parts = text.split(|c: char| c == ';' || c.is_whitespace());
            parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
        } else {
            Some(text).into_iter().filter(|text| !text.is_empty()).collect()
        };
        if !values.is_empty() {
            return Given { place: name, source: Source::Environment, values };
        }
        match self.file.get(setting) {
            Some(values) if !values.is_empty() => {
                Given { place: file::place(setting), source: Source::File, values: values.clone() }
            }
            _ => Given { place: format!("--{setting}"), source: Source::Default, values: Vec::new() },
        }
    }
}
