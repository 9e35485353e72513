//! How far each step of a shard's log got.

use crate::ids::Lsn;

/// `appended >= written >= durable >= applied >= trimmed`, checked at every change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    appended: Lsn,
    written: Lsn,
    durable: Lsn,
    applied: Lsn,
    trimmed: Lsn,
}

impl Watermarks {
    /// After recovery: everything up to `end` is durable, tables hold what is before `applied`.
    pub fn recovered(end: Lsn, applied: Lsn, trimmed: Lsn) -> Watermarks {
        Watermarks { appended: end, written: end, durable: end, applied, trimmed }.checked()
    }

    fn checked(self) -> Watermarks {
        assert!(
            self.appended >= self.written
                && self.written >= self.durable
                && self.durable >= self.applied
                && self.applied >= self.trimmed,
            "watermarks out of order: {self:?}"
        );
        self
    }

    /// Built in memory that outlives the process.
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// Handed to the kernel, which has returned.
    pub fn written(&self) -> Lsn {
        self.written
    }

    /// A sync that covers it has returned.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// In sorted tables that a manifest names.
    pub fn applied(&self) -> Lsn {
        self.applied
    }

    /// No longer in the log.
    pub fn trimmed(&self) -> Lsn {
        self.trimmed
    }

    pub fn set_appended(&mut self, to: Lsn) {
        assert!(to >= self.appended);
        *self = Watermarks { appended: to, ..*self }.checked();
    }

    pub fn set_written(&mut self, to: Lsn) {
        assert!(to >= self.written);
        *self = Watermarks { written: to, ..*self }.checked();
    }

    pub fn set_durable(&mut self, to: Lsn) {
        assert!(to >= self.durable);
        *self = Watermarks { durable: to, ..*self }.checked();
    }

    pub fn set_applied(&mut self, to: Lsn) {
        assert!(to >= self.applied);
        *self = Watermarks { applied: to, ..*self }.checked();
    }

    pub fn set_trimmed(&mut self, to: Lsn) {
        assert!(to >= self.trimmed);
        *self = Watermarks { trimmed: to, ..*self }.checked();
    }
}
