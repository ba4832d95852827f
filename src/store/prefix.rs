//! The user's prefix in a store that others use as well.

/// What is put in front of every key: empty, or text that ends with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

impl Prefix {
    /// `name` is a checked path without a slash at either end; empty for none.
    pub(crate) fn new(name: &str) -> Self {
        if name.is_empty() { Self(String::new()) } else { Self(format!("{name}/")) }
    }

    /// Our key, or beginning of keys, as the store knows it.
    pub(crate) fn add(&self, key: &str) -> String {
        format!("{}{key}", self.0)
    }

    /// The store's key as ours; `None` for what is not below the prefix.
    pub(crate) fn strip<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_off_as_it_went_on() {
        let prefix = Prefix::new("a/b");
        assert_eq!(prefix.add("v1/meta"), "a/b/v1/meta");
        assert_eq!(prefix.strip("a/b/v1/meta"), Some("v1/meta"));
        assert_eq!(prefix.strip("a/bc/v1/meta"), None);
        assert_eq!(Prefix::new("").add("v1"), "v1");
    }
}
