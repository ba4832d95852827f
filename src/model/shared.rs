//! A value that copies of a larger one share until one of them changes it.

use std::{
    iter::FromIterator,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// Copied on write: a clone costs nothing, and two that are one and the same compare at once.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Whether both are the same value in memory. Equal ones need not be.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || *self.0 == *other.0
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<'a, T> IntoIterator for &'a Shared<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&*self.0).into_iter()
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: FromIterator<I>, I> FromIterator<I> for Shared<T> {
    fn from_iter<Iter: IntoIterator<Item = I>>(items: Iter) -> Self {
        items.into_iter().collect::<T>().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_change_is_the_changers_own() {
        let first: Shared<BTreeMap<u8, u8>> = [(1, 1)].into_iter().collect();
        let mut second = first.clone();
        assert!(first.is(&second) && first == second);
        second.insert(2, 2);
        assert!(!first.is(&second) && first != second && first.len() == 1);
        let third: Shared<BTreeMap<u8, u8>> = BTreeMap::from([(1, 1)]).into();
        assert!(!first.is(&third) && first == third);
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(text, r#"{"1":1}"#);
        assert_eq!(serde_json::from_str::<Shared<BTreeMap<u8, u8>>>(&text).unwrap(), first);
    }
}
