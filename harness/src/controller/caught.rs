//! A future whose panic is a value, so that what must follow it follows.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// Runs `work` to its end; its panic, in words, is the error. What it borrowed may be half done: look before you use it.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    std::future::poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
            Err(panic) => Poll::Ready(Err(in_words(panic.as_ref()))),
        },
    )
    .await
}

fn in_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_after_a_wait_is_told_in_its_words() {
        let told = caught(async {
            tokio::task::yield_now().await;
            assert_eq!(1 + 1, 3, "sums are {}", "off");
        });
        assert!(told.await.unwrap_err().contains("sums are off"));
        assert_eq!(caught(async { 7 }).await, Ok(7));
    }
}
