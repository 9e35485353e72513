//! The one frame around every exported function: no panic leaves, every failure becomes a status and a text.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::failure::{self, Failure};
use crate::status::corering_status;

/// Runs the body of an exported function.
#[inline]
pub(crate) fn run(body: impl FnOnce() -> Result<corering_status, Failure>) -> corering_status {
    // What a panic may leave half done is behind mutexes, which it poisons, or in the engine, which poisons the shard.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => failure::keep(failure),
        Err(payload) => failure::keep(Failure::Panic(text(payload.as_ref()))),
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a text".to_owned(),
    }
}

/// The body of an exported function, with the promise of its caller at hand.
macro_rules! guarded {
    (|$caller:ident| $body:expr) => {
        $crate::guard::run(|| {
            // SAFETY: stands in an exported function, whose "Safety" covers the pointers of its own signature; they are
            // all that its body passes on.
            let $caller = &unsafe { $crate::raw::Caller::promised() };
            $body
        })
    };
}
pub(crate) use guarded;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::corering_status::*;

    #[test]
    fn a_panic_becomes_a_status_and_its_text_is_kept() {
        let status = run(|| panic!("the {} is gone", "moon"));
        assert_eq!(status, CORERING_ERROR_PANIC);
        assert!(failure::last_text().contains("the moon is gone"), "{}", failure::last_text());
    }
}
