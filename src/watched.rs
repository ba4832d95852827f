//! Looks at values that are watched, and never keeps hold of one.
//!
//! A `borrow` of a watched value is a lock for reading. Two of them at a time in one thread stand still for good when
//! somebody wants to write in between: the second waits for the writer and the writer for the first. And a `borrow` in
//! an expression lasts until its end, which is easily overlooked where the expression is a whole record. So nobody
//! borrows, which the lints see to; what these hand out is the caller's own.

use tokio::sync::watch;

/// A value that somebody else may change at any time.
pub trait Watched<T> {
    /// What `look` takes from the value as it is now. `look` must not ask for another one, or for a lock.
    fn see<R>(&self, look: impl FnOnce(&T) -> R) -> R;

    /// The value as it is now.
    fn now(&self) -> T
    where
        T: Clone,
    {
        self.see(T::clone)
    }
}

impl<T> Watched<T> for watch::Receiver<T> {
    #[expect(clippy::disallowed_methods, reason = "the one place that borrows, and lets go again")]
    fn see<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.borrow())
    }
}

impl<T> Watched<T> for watch::Sender<T> {
    #[expect(clippy::disallowed_methods, reason = "the one place that borrows, and lets go again")]
    fn see<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.borrow())
    }
}

/// A value of which the next change is waited for.
pub trait Followed<T: Clone> {
    /// The value as it is now. It counts as seen: `changed` waits for a newer one.
    fn catch_up(&mut self) -> T;
}

impl<T: Clone> Followed<T> for watch::Receiver<T> {
    #[expect(clippy::disallowed_methods, reason = "the one place that borrows, and lets go again")]
    fn catch_up(&mut self) -> T {
        self.borrow_and_update().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_out_holds_up_no_writer_and_counts_as_seen_where_it_is_followed() {
        let (sender, mut receiver) = watch::channel(vec![1]);
        let held = (receiver.now(), sender.see(Vec::len));
        sender.send_modify(|numbers| numbers.push(2));
        assert_eq!((held, receiver.now()), ((vec![1], 1), vec![1, 2]));
        assert!(receiver.has_changed().unwrap());
        assert_eq!(receiver.catch_up(), [1, 2]);
        assert!(!receiver.has_changed().unwrap());
    }
}
