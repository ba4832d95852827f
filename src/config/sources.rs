//! Which source a setting's value comes from, so that a message can name the place to change.

use super::{ConfigError, LISTS, env_name, file, file::FileValues};

/// All sources but the flags, which are handed in by value.
pub(super) struct Sources<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    file: &'a FileValues,
}

/// A list's values and where they stand.
pub(super) struct Given {
    /// Flag, variable or key of the file.
    pub(super) place: String,
    /// The values, as text.
    pub(super) values: Vec<String>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(env: &'a dyn Fn(&str) -> Option<String>, file: &'a FileValues) -> Self {
        Self { env, file }
    }

    /// A setting with one value, from the strongest source that has it.
    pub(super) fn one<T, E: Into<String>>(
        &self,
        setting: &str,
        flag: Option<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let given = self.given(setting, flag.into_iter().collect());
        let place = given.place;
        let value = given.values.into_iter().next();
        value.map(|text| parse(&text).map_err(|err| ConfigError::value(place, text, err))).transpose()
    }

    /// A setting with a list, from the strongest source that has one.
    pub(super) fn many<T, E: Into<String>>(
        &self,
        setting: &str,
        flag: Vec<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, ConfigError> {
        let Given { place, values } = self.given(setting, flag);
        let read = |text: String| parse(&text).map_err(|err| ConfigError::value(&place, text, err));
        values.into_iter().map(read).collect()
    }

    /// A setting's values as text. Pools hold commas, so values of a list in a variable are separated by
    /// blanks or semicolons.
    pub(super) fn given(&self, setting: &str, flag: Vec<String>) -> Given {
        if !flag.is_empty() {
            return Given { place: format!("--{setting}"), values: flag };
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
            return Given { place: name, values };
        }
        Given { place: file::place(setting), values: self.file.get(setting).cloned().unwrap_or_default() }
    }
}
