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
        let id = self.table.find_or_add(NAME);
        if let Some(own) = self.table.names.lock(id).holds.of(hold.session) {
            assert!(own.hold.is_running(self.now_ms), "an expired lease is revived: {:?} by {hold:?}", own.hold);
        }
        self.table.enter(id, hold, token, self.now_ms);
    }

    fn serve(&mut self) {
        let Some(id) = self.table.find(NAME) else { return };
        for session in self.table.gone(id, self.now_ms) {
            self.table.remove(id, session);
        }
        while let Some((at, served)) = self.table.next_to_serve(id, self.now_ms, 0) {
            let upgrade = self.table.names.lock(id).upgrade == Some(at);
            let waiter = self.table.leave_line(at);
            if !upgrade {
                self.served.push(waiter.reply);
            }
            match served {
                Ok(hold) => self.enter(hold),
                Err(error) => assert_eq!(error, LockError::Expired),
            }
        }
        self.table.settle(id);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask(session, mode, lease_ms) => {
                let ask = Ask { session: SessionId(session), mode, lease_ms };
                let id = self.table.find_or_add(NAME);
                match self.table.decide(id, &ask, self.now_ms, 0) {
                    Ok(Decision::Grant(hold)) => self.enter(hold),
                    Ok(Decision::Wait) => {
                        self.came += 1;
                        let wanted = Wanted { ask, until_ms: u64::MAX, id: None, reply: self.came };
                        self.table.stand_in_line(id, wanted, self.now_ms);
                    }
                    Err(_) => {}
                }
            }
            Step::Release(session) => {
                let Some(id) = self.table.find(NAME) else { return };
                match self.table.decide_release(id, SessionId(session), None, self.now_ms) {
                    Ok(Release::Counted(hold)) => self.table.enter_mode(id, hold.session, hold.mode, hold.count),
                    Ok(Release::Gone | Release::Expired) => self.table.remove(id, SessionId(session)),
                    Err(error) => assert_eq!(error, LockError::NotHeld),
                }
            }
            Step::Downgrade(session) => {
                let Some(id) = self.table.find(NAME) else { return };
                if let Ok(hold) = self.table.decide_downgrade(id, SessionId(session), None, self.now_ms) {
                    self.table.enter_mode(id, hold.session, hold.mode, hold.count);
                }
            }
            Step::End(session) => {
                let session = SessionId(session);
                while let Some((_, at)) = self.table.waited_by(session) {
                    self.table.leave_line(at);
                }
                while let Some(id) = self.table.held_by(session) {
                    self.table.remove(id, session);
                }
                self.table.forget_session(session);
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
        let Some(id) = self.table.find(NAME) else {
            assert_eq!((self.table.waiting(), self.table.names()), (0, 0));
            return;
        };
        let info = self.table.info(id, self.now_ms, usize::MAX);
        assert_eq!((info.holders, info.waiters), (info.holds.len(), info.waiting.len()));
        let contended: Vec<LockId> = self.table.contended.iter().copied().collect();
        assert_eq!(contended, if info.waiters > 0 { vec![id] } else { Vec::new() });
        let sums = |of: fn(&Hold) -> u64| info.holds.iter().map(of).sum::<u64>();
        let holds = &self.table.names.lock(id).holds;
        assert_eq!(holds.shared() as u64, sums(|hold| u64::from(hold.mode == Mode::Shared)));
        for hold in &info.holds {
            assert_eq!(holds.with_token(hold.token).map(|own| own.session), Some(hold.session));
            assert_eq!(self.table.held_by(hold.session), Some(id));
            let after_a_restart_ms = hold.lease_ms.map_or(u64::MAX, |lease| self.now_ms + lease);
            assert!(after_a_restart_ms >= hold.until_ms, "a restart would shorten a lease: {info:?}");
        }
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
        assert!(
            self.table.next_to_serve(id, self.now_ms, 0).is_none(),
            "somebody could be served and was not: {info:?}"
        );
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
        let mut shard = Shard { table: LockTable::new(0), now_ms: 0, next_token: 1, came: 0, served: Vec::new() };
        for step in steps {
            shard.step(step);
        }
        for session in 0..5 {
            shard.step(Step::End(session));
        }
        prop_assert_eq!(shard.table.names(), 0);
        prop_assert!(shard.table.members.is_empty() && shard.table.parts.is_empty());
        prop_assert_eq!((shard.table.timed, shard.table.waiting()), (0, 0));
    }
}

#[test]
fn an_expired_hold_is_not_revived_by_anything() {
    let mut table: LockTable<u64> = LockTable::new(0);
    let session = SessionId(1);
    let ask = Ask { session, mode: Mode::Exclusive, lease_ms: Some(100) };
    let id = table.find_or_add(NAME);
    let Ok(Decision::Grant(hold)) = table.decide(id, &ask, 0, 0) else { panic!("a free lock") };
    let token = FencingToken(7);
    table.enter(id, hold, token, 0);
    let guard = Guard { name: NAME.to_vec(), token };
    assert_eq!(table.check_guard(&guard, 99, |_| true), Ok(()));
    assert!(table.check_guard(&guard, 99, |_| false).is_err(), "its session has ended");
    let fenced = Err(LockError::Fenced { token, current: None });
    assert_eq!(table.check_guard(&guard, 100, |_| true), fenced);
    assert_eq!(table.renew(id, session, None, 100), Err(LockError::Expired));
    assert_eq!(table.decide(id, &ask, 100, 0), Err(LockError::Expired));
    assert_eq!(table.decide_downgrade(id, session, None, 100), Err(LockError::Expired));
    assert_eq!(table.decide_release(id, session, None, 100), Ok(Release::Expired));
    let other = Ask { session: SessionId(2), ..ask };
    assert_eq!(table.decide(id, &other, 149, 0), Ok(Decision::Wait), "the margin");
    assert_eq!(table.gone(id, 149), []);
    assert_eq!(table.gone(id, 150), [session]);
}

/// Take and release locks by turns, as a shard would.
fn take(table: &mut LockTable<u64>, name: &[u8], ask: Ask, token: u64, now_ms: u64) -> LockId {
    let id = table.find_or_add(name);
    let Ok(Decision::Grant(hold)) = table.decide(id, &ask, now_ms, 0) else {
        panic!("{} is free", name.escape_ascii())
    };
    table.enter(id, hold, FencingToken(token), now_ms);
    id
}

#[test]
fn timers_of_what_is_gone_take_no_room() {
    let mut table: LockTable<u64> = LockTable::new(0);
    let ask = Ask { session: SessionId(1), mode: Mode::Exclusive, lease_ms: Some(1_000_000) };
    take(&mut table, b"stays", ask, 1, 0);
    for round in 2..100_000 {
        let id = take(&mut table, NAME, ask, round, round);
        table.remove(id, ask.session);
        table.settle(id);
        assert!(table.timers.len() <= 1100, "{} timers for two locks", table.timers.len());
    }
    // The one that stays has its timer still.
    let mut due = 0;
    while let Some(Due::Name(id)) = table.due(2_000_000) {
        assert_eq!(table.name(id), b"stays");
        due += 1;
    }
    assert_eq!(due, 1);
}

#[test]
fn pages_find_each_name_that_stays_once() {
    let mut table: LockTable<u64> = LockTable::new(0);
    let ask = Ask { session: SessionId(1), mode: Mode::Exclusive, lease_ms: None };
    let names: Vec<Vec<u8>> = (0..10_000).map(|n| format!("name {n}").into_bytes()).collect();
    let ids: Vec<LockId> = names.iter().zip(1..).map(|(name, n)| take(&mut table, name, ask, n, 0)).collect();
    let (mut found, mut from, mut answers) = (Vec::new(), Some(0), 0);
    while let Some(place) = from {
        let page = table.matching(place, 7, &|name| name.ends_with(b"3"));
        assert!(page.found.len() <= 7);
        found.extend(page.found.iter().map(|id| table.name(*id).to_vec()));
        from = page.next;
        // What comes and goes meanwhile changes nothing for the others.
        let gone = ids[answers];
        if !table.name(gone).ends_with(b"3") {
            table.remove(gone, ask.session);
            table.settle(gone);
        }
        answers += 1;
    }
    let mut expected: Vec<_> = names.iter().filter(|name| name.ends_with(b"3")).cloned().collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert!(answers > 100, "{answers}");
}
