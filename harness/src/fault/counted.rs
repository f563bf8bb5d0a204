//! One of those that are under way, until it is dropped.

use tokio::sync::watch;

/// Counts one more until it is dropped, also by a panic: who waits for the count to be 0 must not wait for ever.
pub(super) struct Counted(watch::Sender<u32>);

impl Counted {
    pub(super) fn one_more(count: &watch::Sender<u32>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_panics_counts_no_more() {
        let count = watch::Sender::new(0);
        let counted = Counted::one_more(&count);
        assert_eq!(*count.borrow(), 1);
        let task = tokio::spawn(async move {
            let _counted = counted;
            panic!("on purpose")
        });
        assert!(task.await.is_err());
        assert_eq!(*count.borrow(), 0);
    }
}
