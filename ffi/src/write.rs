//! How one call writes: where, at which level, and under which guards.

use crate::db::Db;
use crate::engine::{Guard, Keys, Keyspace, Pending, Tx, WriteOptions};
use crate::failure::Failure;
use crate::op::{Action, Answer, Op};

/// A call's `corering_write_options`, understood.
pub(crate) struct Write {
    pub keyspace: Keyspace,
    pub options: WriteOptions,
    pub guards: Vec<Guard>,
}

impl Write {
    pub(crate) fn plain() -> Write {
        Write { keyspace: Keyspace::DEFAULT, options: WriteOptions::default(), guards: Vec::new() }
    }

    /// For calls that take effect only later: a guard is given where they do.
    pub(crate) fn without_guards(self) -> Result<Write, Failure> {
        if self.guards.is_empty() {
            return Ok(self);
        }
        Err(Failure::argument("guards belong to what commits: corering_batch_commit, corering_tx_guard"))
    }

    pub(crate) fn is_guarded(&self) -> bool {
        !self.guards.is_empty()
    }

    /// Does one guarded operation, of which only the outcome is wanted.
    pub(crate) fn guarded(self, db: &Db, key: &[u8], action: Action) -> Result<Answer, Failure> {
        let op = Op { keyspace: self.keyspace, key: key.to_vec(), action };
        match start(db, vec![op], self.guards, self.options).wait()?.pop() {
            Some(Answer::Failed(failure)) => Err(failure),
            Some(answer) => Ok(answer),
            None => Err(Failure::Panic("an operation was left out".into())),
        }
    }
}

/// Executes operations of one shard in one step, under guards if there are some.
pub(crate) fn start(db: &Db, ops: Vec<Op>, guards: Vec<Guard>, options: WriteOptions) -> Pending<Vec<Answer>> {
    let key = ops.first().map(|op| op.key.clone()).unwrap_or_default();
    let owner = options.owner();
    let all = move |tx: &mut Tx<'_>| Ok(ops.iter().map(|op| op.run(tx, owner)).collect::<Vec<Answer>>());
    let committed = |answers: Vec<Answer>, commit| answers.into_iter().map(|answer| answer.committed(commit)).collect();
    if guards.is_empty() {
        return db.client.run_commit(&key, options, all, committed);
    }
    db.client.run_over_commit(Keys::Of(&[&key]), guards, options, all, committed)
}
