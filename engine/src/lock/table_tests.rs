//! The table driven as a shard drives it, beside a model that knows only what docs/locks.md promises.

use super::*;
use proptest::prelude::*;

const NAME: &[u8] = b"name";

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(u64, Mode, Option<u64>),
    Release(u64),
    Downgrade(u64),
    End(u64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = 0u64..5;
    let mode = prop_oneof![
        Just(Mode::Exclusive),
        Just(Mode::Shared),
        (1u32..4).prop_map(|units| Mode::Semaphore { permits: 3, units })
    ];
    let lease = prop::option::of(10u64..100);
    let step = prop_oneof![
        4 => (session.clone(), mode, lease).prop_map(|(session, mode, lease)| Step::Ask(session, mode, lease)),
        2 => session.clone().prop_map(Step::Release),
        1 => session.clone().prop_map(Step::Downgrade),
        1 => session.prop_map(Step::End),
        1 => (1u64..150).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

/// As a shard keeps it: each waiter's reply is its place in the order of coming.
struct Shard {
    table: LockTable<u64>,
    now_ms: u64,
    next_token: u64,
    came: u64,
    served: Vec<u64>,
}

impl Shard {
    fn enter(&mut self, hold: NewHold) {
        let token = hold.token.unwrap_or(FencingToken(self.next_token));
        self.next_token += 1;
        self.table.enter(NAME, hold, token, self.now_ms);
    }

    fn serve(&mut self) {
        for session in self.table.gone(NAME, self.now_ms) {
            self.table.remove(NAME, session);
        }
        while let Some((ticket, hold)) = self.table.next_to_serve(NAME, 0) {
            let waiter = self.table.leave_line(NAME, ticket).expect("it was next");
            if !waiter.upgrade {
                self.served.push(waiter.reply);
            }
            self.enter(hold);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask(session, mode, lease_ms) => {
                let ask = Ask { session: SessionId(session), mode, lease_ms };
                match self.table.decide(NAME, &ask, self.now_ms, 0) {
                    Ok(Decision::Grant(hold)) => self.enter(hold),
                    Ok(Decision::Wait) => {
                        self.came += 1;
                        self.table.stand_in_line(NAME, ask, self.now_ms, u64::MAX, self.came);
                    }
                    Err(_) => {}
                }
            }
            Step::Release(session) => match self.table.decide_release(NAME, SessionId(session), None, self.now_ms) {
                Ok(Release::Counted(hold)) => self.table.enter_mode(NAME, hold.session, hold.mode, hold.count),
                Ok(Release::Gone | Release::Expired) => self.table.remove(NAME, SessionId(session)),
                Err(error) => assert_eq!(error, LockError::NotHeld),
            },
            Step::Downgrade(session) => {
                if let Ok(hold) = self.table.decide_downgrade(NAME, SessionId(session), None, self.now_ms) {
                    self.table.enter_mode(NAME, hold.session, hold.mode, hold.count);
                }
            }
            Step::End(session) => {
                self.table.leave_all(NAME, SessionId(session));
                self.table.remove(NAME, SessionId(session));
                assert!(self.table.names_of(SessionId(session)).is_empty());
            }
            Step::Pass(ms) => {
                self.now_ms += ms;
                while self.table.due(self.now_ms).is_some() {}
            }
        }
        self.serve();
        self.check();
    }

    fn check(&self) {
        let Some(info) = self.table.info(NAME, self.now_ms, usize::MAX) else {
            assert_eq!((self.table.waiting(), self.table.names()), (0, 0));
            return;
        };
        let (mut alone, mut shared, mut units) = (0, 0, 0);
        for hold in &info.holds {
            match hold.mode {
                Mode::Exclusive => alone += 1,
                Mode::Shared => shared += 1,
                Mode::Semaphore { units: own, .. } => units += own,
            }
        }
        assert!(units <= 3, "{info:?}");
        assert!(alone <= 1 && (alone == 0 || info.holds.len() == 1), "{info:?}");
        assert!(shared == 0 || units == 0, "{info:?}");
        assert!(self.served.is_sorted(), "served in another order than they came: {:?}", self.served);
        assert!(self.table.next_to_serve(NAME, 0).is_none(), "somebody could be served and was not: {info:?}");
        assert_eq!(info.waiting.len(), self.table.waiting());
        let mut tokens: Vec<u64> = info.holds.iter().map(|hold| hold.token.0).collect();
        tokens.sort_unstable();
        assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "a token twice: {info:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn rules_of_modes_line_and_leases_hold_after_every_step(steps in steps()) {
        let mut shard = Shard { table: LockTable::default(), now_ms: 0, next_token: 1, came: 0, served: Vec::new() };
        for step in steps {
            shard.step(step);
        }
        for session in 0..5 {
            shard.step(Step::End(session));
        }
        prop_assert_eq!(shard.table.names(), 0);
        prop_assert!(shard.table.sessions.is_empty());
    }
}

#[test]
fn an_expired_hold_is_not_revived_by_anything() {
    let mut table: LockTable<u64> = LockTable::default();
    let session = SessionId(1);
    let ask = Ask { session, mode: Mode::Exclusive, lease_ms: Some(100) };
    let Ok(Decision::Grant(hold)) = table.decide(NAME, &ask, 0, 0) else { panic!("a free lock") };
    let token = FencingToken(7);
    table.enter(NAME, hold, token, 0);
    let guard = Guard { name: NAME.to_vec(), token };
    assert_eq!(table.check_guard(&guard, 99, |_| true), Ok(()));
    assert!(table.check_guard(&guard, 99, |_| false).is_err(), "its session has ended");
    let fenced = Err(LockError::Fenced { token, current: None });
    assert_eq!(table.check_guard(&guard, 100, |_| true), fenced);
    assert_eq!(table.renew(NAME, session, None, 100), Err(LockError::Expired));
    assert_eq!(table.decide(NAME, &ask, 100, 0), Err(LockError::Expired));
    assert_eq!(table.decide_downgrade(NAME, session, None, 100), Err(LockError::Expired));
    assert_eq!(table.decide_release(NAME, session, None, 100), Ok(Release::Expired));
    let other = Ask { session: SessionId(2), ..ask };
    assert_eq!(table.decide(NAME, &other, 149, 0), Ok(Decision::Wait), "the margin");
    assert_eq!(table.gone(NAME, 150), [session]);
}
