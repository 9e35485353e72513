//! What became of a shard's locks since the opening, counted in the step in which it happens.

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct LockCounts { $($(#[$doc])* pub $name: u64,)* }

        impl LockCounts {
            /// Those of several shards together.
            pub fn add(&mut self, other: &LockCounts) {
                $(self.$name += other.$name;)*
            }

            /// What was added since.
            pub fn since(&self, base: &LockCounts) -> LockCounts {
                LockCounts { $($name: self.$name.saturating_sub(base.$name),)* }
            }
        }
    };
}

counts! {
    /// Grants, those included by which a session took once more what it held.
    grants,
    /// Tries that were refused because others held the lock, or none is granted yet.
    refused,
    /// Waits that ended with their time.
    timeouts,
    /// Waits that were taken back.
    cancelled,
    /// Requests that gave way because sessions waited for each other in a circle.
    deadlocks,
    /// Holds whose lease ran out.
    expired,
    /// Holds that ended with their session.
    orphaned,
    /// Writes that were refused because a guard had lost its lock.
    fenced,
}
