// Every function of corering.hpp, in both families. Usage: basic DIR
#include <corering.hpp>
#include <corering/recipes.hpp>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <poll.h>
#include <thread>
#include <type_traits>

namespace {

void check(bool holds, const char *what, int line) {
    if (!holds) {
        std::fprintf(stderr, "basic.cpp:%d: %s\n", line, what);
        std::exit(1);
    }
}
#define CHECK(...) check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __LINE__)

template <class Call>
corering::failure thrown(Call call) {
    try {
        call();
    } catch (const corering::error &error) {
        return corering::failure{error.code(), error.what()};
    }
    return corering::failure{};
}

corering::open_options small() {
    corering::open_options options;
    options.shards = 2;
    options.pin_threads = false;
    options.memtable_bytes = 1 << 20;
    options.segment_bytes = 1 << 20;
    return options;
}

void single_keys(corering::db &db) {
    const auto first = db.put("k", "one");
    const auto second = db.put("k", "two");
    CHECK(second > first && first > 0);
    CHECK(db.get("k")->view() == "two" && db.get("k")->version() == second);
    CHECK(!db.get("missing"));
    std::string into;
    CHECK(db.get("k", into) && into == "two");
    const std::string large(100000, 'x');
    db.put("large", large);
    CHECK(db.get("large", into) && into == large);
    CHECK(!db.get("missing", into) && into.empty());
    CHECK(db.erase("large") && !db.erase("large"));
    CHECK(db.put("zeros", corering::bytes("a\0b", 3)) > 0 && db.get("zeros")->str() == std::string("a\0b", 3));
    CHECK(db.incr("n") == 1 && db.incr("n", -11) == -10);
    CHECK(thrown([&] { db.incr("k"); }).code == CORERING_ERROR_NOT_AN_INTEGER);

    CHECK(!db.put_if("k", "three", corering::condition::absent()));
    CHECK(db.put_if("k", "three", corering::condition::absent()).version == second);
    CHECK(!db.put_if("nothing", "x", corering::condition::present()));
    CHECK(db.put_if("k", "three", corering::condition::equal("two")));
    const auto at = db.get("k")->version();
    CHECK(db.put_if("k", "four", corering::condition::version(at)));
    CHECK(!db.put_if("k", "five", corering::condition::version(at)));

    const auto many = db.multi_get({"k", "missing", "zeros"});
    CHECK(many.size() == 3 && many[0]->view() == "four" && !many[1] && many[2]->view().size() == 3);

    corering::write_options elsewhere;
    elsewhere.keyspace = 7;
    db.put("k", "in seven", elsewhere);
    corering::read_options seven;
    seven.keyspace = 7;
    CHECK(db.get("k", seven)->view() == "in seven" && db.get("k")->view() == "four");
}

void expiry(corering::db &db) {
    corering::write_options soon;
    soon.ttl = std::chrono::milliseconds(50);
    db.put("short", "lived", soon);
    CHECK(db.get("short") && db.get("short")->expires_at_ms() > 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(80));
    CHECK(!db.get("short"));
    corering::write_options dated;
    dated.expires_at = std::chrono::system_clock::now() + std::chrono::hours(1);
    dated.durability = corering::durability::interval(std::chrono::milliseconds(20));
    db.put("dated", "x", dated);
    CHECK(db.get("dated")->expires_at_ms() > 0);
}

void failures(corering::db &db, const std::string &dir) {
    const std::string long_key(70000, 'k');
    const auto failure = thrown([&] { db.put(long_key, "v"); });
    CHECK(failure.code == CORERING_ERROR_KEY_TOO_LARGE && failure.message.find("70000") != std::string::npos);
    CHECK(!failure.retryable() && !failure.may_have_committed());
    auto tried = db.try_put(long_key, "v");
    CHECK(!tried && tried.error().code == CORERING_ERROR_KEY_TOO_LARGE);
    CHECK(db.try_put("k2", "v").ok());
    auto locked = corering::db::try_open(dir + "/cpp", small());
    CHECK(!locked && locked.error().code == CORERING_ERROR_LOCKED);
    corering::open_options existing = small();
    existing.must_exist = true;
    CHECK(!corering::db::try_open(dir + "/nothing-here", existing));
}

void batches_and_snapshots(corering::db &db) {
    auto batch = db.new_batch();
    batch.put("{t}a", "1").put("{t}b", "2").erase("{t}c");
    CHECK(batch.size() == 3);
    const auto before = db.new_snapshot();
    CHECK(batch.commit() > 0);
    corering::read_options then;
    then.snapshot = &before;
    CHECK(!db.get("{t}a", then) && db.get("{t}a")->view() == "1" && before.version() > 0);
    batch.clear();
    CHECK(batch.size() == 0);

    corering::range tagged;
    tagged.prefix = "{t}";
    std::string seen;
    for (const corering::entry &entry : db.scan(tagged)) {
        seen += std::string(entry.key) + "=" + std::string(entry.value) + ";";
    }
    CHECK(seen == "{t}a=1;{t}b=2;");
    tagged.reverse = true;
    tagged.limit = 1;
    auto one = db.scan(tagged);
    CHECK(one.next()->key == "{t}b" && !one.next());
    tagged.snapshot = &before;
    CHECK(!db.scan(tagged).next());
    corering::range bounded;
    bounded.lower = "{t}a";
    bounded.upper = "{t}b";
    bounded.lower_exclusive = true;
    bounded.upper_inclusive = true;
    auto in_bounds = db.scan(bounded);
    CHECK(in_bounds.next()->key == "{t}b" && !in_bounds.next());
}

void completions(corering::db &db) {
    auto queue = db.new_queue(64);
    queue.put(1, "q", "5");
    queue.incr(2, "q", 2);
    queue.get(3, "q");
    queue.put_if(4, "q", "x", corering::condition::absent());
    queue.erase(5, "q");
    queue.get(6, "q");
    queue.sync(7);
    auto batch = db.new_batch();
    batch.put("q2", "b");
    queue.submit(8, batch);
    queue.incr(9, "k", 1); // "k" is no number
    std::map<std::uint64_t, corering::completion> done;
    pollfd readable{queue.fd(), POLLIN, 0};
    while (done.size() < 9) {
        CHECK(poll(&readable, 1, 10000) == 1);
        for (auto &completion : queue.reap(2)) {
            CHECK(done.emplace(completion.user_data(), std::move(completion)).second);
        }
    }
    CHECK(done.at(1).ok() && done.at(1).version() > 0);
    CHECK(done.at(2).integer() == 7);
    CHECK(done.at(3).value() == "7");
    CHECK(done.at(4).code() == CORERING_REFUSED);
    CHECK(done.at(5).integer() == 1);
    CHECK(done.at(6).code() == CORERING_NOT_FOUND);
    CHECK(done.at(7).ok() && done.at(8).version() > 0);
    CHECK(!done.at(9).ok() && done.at(9).error().code == CORERING_ERROR_NOT_AN_INTEGER);
    CHECK(done.at(9).error().message.find("integer") != std::string::npos);
}

void many_at_once(corering::db &db) {
    std::vector<corering_op> ops(3);
    for (auto &op : ops) {
        op.key = "e";
        op.key_len = 1;
    }
    ops[0].kind = CORERING_OP_PUT;
    ops[0].value = "1";
    ops[0].value_len = 1;
    ops[1].kind = CORERING_OP_INCR;
    ops[1].delta = 41;
    ops[2].kind = CORERING_OP_GET;
    const auto done = db.execute(ops);
    CHECK(done.size() == 3 && done[0].version() > 0 && done[1].integer() == 42 && done[2].value() == "42");
    CHECK(done[2].version() == done[0].version());
}

void moving(const std::string &dir) {
    static_assert(!std::is_copy_constructible_v<corering::db> && std::is_nothrow_move_constructible_v<corering::db>);
    auto first = corering::db::open(dir + "/moved", small());
    auto second = std::move(first);
    CHECK(first.raw() == nullptr && second.put("k", "v") > 0);
    CHECK(thrown([&] { first.put("k", "v"); }).code == CORERING_ERROR_INVALID_HANDLE);
    auto scan = second.scan();
    auto moved = std::move(scan);
    CHECK(moved.next()->key == "k");
    first = std::move(second);
    CHECK(first.get("k").has_value());
    auto kept = first.get("k");
    auto other = std::move(kept);
    first.close();
    CHECK(other->view() == "v");
    CHECK(thrown([&] { moved.next(); }).code == CORERING_ERROR_CLOSED);
}

using corering::guarded_by;
using corering::lock_options;
using corering::milliseconds;

void locks(corering::db &db) {
    auto a = db.new_session(), b = db.new_session();
    std::uint64_t first = 0;
    {
        auto lock = a.acquire("l");
        first = lock.token();
        CHECK(first > 0 && lock.count() == 1 && lock.owns() && lock.name() == "l");
        auto moved = std::move(lock);
        CHECK(!lock.owns() && moved.owns() && a.acquire("l").count() == 2);
        CHECK(thrown([&] { b.acquire("l", lock_options().waiting(milliseconds(0))); }).code == CORERING_ERROR_LOCK_HELD);
        CHECK(thrown([&] { b.acquire("l", lock_options().waiting(milliseconds(20))); }).code ==
              CORERING_ERROR_LOCK_TIMEOUT);
        CHECK(db.put("k", "by the holder", guarded_by(moved)) > 0);
        moved.renew();
        moved.downgrade();
        CHECK(b.acquire("l", lock_options::shared()).token() > first);
        const auto all = db.locks();
        CHECK(all.size() == 1 && all[0].name == "l" && all[0].holders == 1 && all[0].waiters == 0);
        CHECK(db.lock_info("l").size() == 1 && db.lock_info("l")[0].mode == CORERING_LOCK_SHARED);
    }
    CHECK(db.lock_info("l").empty());
    auto lost = a.acquire("l");
    const auto guarded = guarded_by(lost);
    CHECK(lost.unlock().count == 0 && !lost.owns());
    CHECK(thrown([&] { db.put("k", "stale", guarded); }).code == CORERING_ERROR_FENCED);
    auto batch = db.new_batch();
    batch.put("k", "stale");
    CHECK(thrown([&] { batch.commit(guarded); }).code == CORERING_ERROR_FENCED);
    CHECK(db.get("k")->view() == "by the holder");
    auto one = a.acquire("s", lock_options::semaphore(2)), two = b.acquire("s", lock_options::semaphore(2));
    CHECK(db.sessions().size() == 2);
    db.kill_session(b.key().id);
    CHECK(thrown([&] { b.keep_alive(); }).code == CORERING_ERROR_NO_SESSION);
    CHECK(thrown([&] { two.unlock(); }).code == CORERING_ERROR_NO_SESSION);
}

/// What a lock was taken with stays with it: an upgrade keeps its lease, and no step waits more for the disk than the first.
void locks_keep_their_options(corering::db &db) {
    auto a = db.new_session(), b = db.new_session();
    lock_options leased = lock_options::shared();
    leased.lease = milliseconds(30000);
    {
        auto lock = a.acquire("options", leased);
        lock.upgrade();
        const auto parts = db.lock_info("options");
        CHECK(parts.size() == 1 && parts[0].mode == CORERING_LOCK_EXCLUSIVE && parts[0].left_ms <= 30000);
    }
    // A share that is gone cannot be upgraded, and the attempt leaves nothing behind.
    leased.lease = milliseconds(20);
    auto lost = a.acquire("options", leased);
    while (!db.lock_info("options").empty()) {
        std::this_thread::yield();
    }
    const auto why = thrown([&] { lost.upgrade(milliseconds(5000)); });
    CHECK(why.code == CORERING_ERROR_NOT_HELD && why.message.find("lost") != std::string::npos);
    CHECK(db.lock_info("options").empty());
    CHECK(b.acquire("options", lock_options().waiting(milliseconds(0))).token() > lost.token());
    CHECK(thrown([&] { lost.unlock(); }).code == CORERING_ERROR_NOT_HELD);

    lock_options quick;
    quick.durability = corering::durability::none();
    a.acquire("options", quick).unlock();
    const auto before = db.stats().flushes;
    for (int n = 0; n < 50; n++) {
        auto lock = a.acquire("options", quick);
        lock.downgrade();
        lock.upgrade();
        if (n % 2 == 0) {
            lock.unlock();
        }
    }
    CHECK(db.stats().flushes - before < 25);
}

/// The session's thread renews what has a ttl, until it is given back, and says when it cannot; it does not renew leases.
void locks_are_kept_alive(corering::db &db) {
    const auto at_once = lock_options().waiting(milliseconds(0));
    auto own = db.new_session(), other = db.new_session();
    lock_options with_ttl, leased, shared = lock_options::shared();
    with_ttl.ttl = shared.ttl = leased.lease = milliseconds(1000);
    {
        auto lost = own.acquire("leased", leased);
        auto lock = own.acquire("kept", with_ttl), reading = own.acquire("read", shared);
        auto too = other.acquire("read", lock_options::shared());
        auto moved = std::move(lock);
        std::thread upgrade([&] { reading.upgrade(); });
        std::this_thread::sleep_for(milliseconds(2500));
        CHECK(thrown([&] { other.acquire("kept", at_once); }).code == CORERING_ERROR_LOCK_HELD);
        CHECK(db.put("k", "kept", guarded_by(moved)) > 0 && moved.lost() == CORERING_OK);
        CHECK(db.lock_info("kept")[0].left_ms <= 1000 && db.lock_info("read").size() == 3);
        CHECK(thrown([&] { db.put("k", "late", guarded_by(lost)); }).code == CORERING_ERROR_FENCED);
        too.unlock();
        upgrade.join();
        std::this_thread::sleep_for(milliseconds(1500));
        CHECK(db.put("k", "kept", guarded_by(reading)) > 0 && reading.lost() == CORERING_OK);
    }
    CHECK(db.lock_info("kept").empty() && db.lock_info("read").empty());

    with_ttl.ttl = milliseconds(300);
    auto queue = db.new_queue(4);
    queue.acquire(1, own, "granted", with_ttl);
    pollfd poller{queue.fd(), POLLIN, 0};
    CHECK(poll(&poller, 1, 30000) == 1);
    const auto reaped = queue.reap();
    auto granted = own.granted("granted", reaped[0].version(), 1, with_ttl);
    std::this_thread::sleep_for(milliseconds(700));
    CHECK(db.put("k", "granted", guarded_by(granted)) > 0);
    // Given back behind its back.
    CHECK(corering_lock_release(db.raw(), &own.key(), "granted", 7, 0, nullptr, nullptr, nullptr) == CORERING_OK);
    while (granted.lost() == CORERING_OK) {
        std::this_thread::yield();
    }
    CHECK(granted.lost() == CORERING_ERROR_NOT_HELD && own.lost() == CORERING_OK);

    corering::session_options alone;
    alone.keep_alive = false;
    auto idle = db.new_session(alone);
    auto lost = idle.acquire("idle", with_ttl);
    while (!db.lock_info("idle").empty()) {
        std::this_thread::yield();
    }
    CHECK(thrown([&] { lost.unlock(); }).code == CORERING_ERROR_NOT_HELD);
}

/// The thread keeps a session alive beyond its time to live, without it the session ends, and a kept key goes on with it.
void keeping_alive(corering::db &db) {
    corering::session_options options;
    options.ttl = milliseconds(1500);
    auto kept = db.new_session(options);
    options.keep_alive = false;
    auto left = db.new_session(options);
    auto lock = kept.acquire("kept");
    std::this_thread::sleep_for(milliseconds(3000));
    CHECK(kept.lost() == CORERING_OK && db.put("k", "alive", guarded_by(lock)) > 0);
    CHECK(thrown([&] { left.keep_alive(); }).code == CORERING_ERROR_NO_SESSION);

    auto moved = std::move(kept);
    const auto key = moved.detach();
    options.ttl = milliseconds(10000);
    options.keep_alive = true;
    auto again = corering::session::attach(db.raw(), key, options);
    CHECK(again.acquire("kept").token() == lock.token());
    again.end();
    CHECK(thrown([&] { corering::session::attach(db.raw(), key); }).code == CORERING_ERROR_NO_SESSION);
}

void asynchronous_locks(corering::db &db) {
    auto holder = db.new_session(), waiter = db.new_session();
    auto queue = db.new_queue(8);
    auto held = holder.acquire("line");
    pollfd poller{queue.fd(), POLLIN, 0};
    queue.acquire(6, waiter, "line");
    CHECK(queue.cancel(6) && !queue.cancel(5));
    CHECK(poll(&poller, 1, 30000) == 1);
    const auto cancelled = queue.reap();
    CHECK(cancelled.size() == 1 && cancelled[0].user_data() == 6);
    CHECK(cancelled[0].code() == CORERING_ERROR_LOCK_TIMEOUT && !queue.cancel(6));
    queue.acquire(7, waiter, "line");
    CHECK(queue.reap().empty());
    held.unlock();
    CHECK(poll(&poller, 1, 30000) == 1);
    const auto reaped = queue.reap();
    CHECK(reaped.size() == 1 && reaped[0].user_data() == 7 && reaped[0].version() > held.token());
    auto lock = waiter.granted("line", reaped[0].version());
    queue.put(8, "k", "asynchronously", guarded_by(lock));
    queue.put(9, "k", "stale", guarded_by(held));
    std::map<std::uint64_t, corering::status> codes;
    while (codes.size() < 2) {
        CHECK(poll(&poller, 1, 30000) == 1);
        for (const auto &done : queue.reap()) {
            codes[done.user_data()] = done.code();
        }
    }
    CHECK(codes[8] == CORERING_OK && codes[9] == CORERING_ERROR_FENCED);
    CHECK(db.get("k")->view() == "asynchronously");
}

/// A session is told of the holds that it lost, by a wait of its own or by a completion, and of its end.
void losses(corering::db &db) {
    auto session = db.new_session();
    auto queue = db.new_queue(8);
    lock_options leased;
    leased.lease = milliseconds(20);
    CHECK(!session.next_loss(milliseconds(0)));
    queue.lost(7, session);
    auto lock = session.acquire("leased", leased);
    pollfd poller{queue.fd(), POLLIN, 0};
    CHECK(poll(&poller, 1, 30000) == 1);
    const auto reaped = queue.reap();
    CHECK(reaped.size() == 1 && reaped[0].user_data() == 7 && reaped[0].ok());
    const auto lost = session.next_loss(milliseconds(0));
    CHECK(lost && lost->name == "leased" && lost->token == lock.token());
    auto again = session.acquire("again", leased);
    CHECK(session.next_loss()->token == again.token());
    std::thread killer([&] { db.kill_session(session.key().id); });
    CHECK(thrown([&] { session.next_loss(); }).code == CORERING_ERROR_NO_SESSION);
    killer.join();
}

void recipes(corering::db &db) {
    auto a = db.new_session(), b = db.new_session();
    corering::election of_a(db, a, "boss"), of_b(db, b, "boss");
    CHECK(!of_a.leader());
    auto first = of_a.campaign("a");
    CHECK(*of_b.leader() == "a");
    CHECK(thrown([&] { of_b.campaign("b", milliseconds(20)); }).code == CORERING_ERROR_LOCK_TIMEOUT);
    std::thread next([&] {
        auto won = of_b.campaign("b");
        CHECK(won.token() > first.token() && *of_a.leader() == "b");
    });
    while (db.lock_info("boss").size() < 2) {
        std::this_thread::yield();
    }
    a.end(); // as if it had died
    next.join();
    CHECK(thrown([&] { db.put("k", "of the old leader", guarded_by(first)); }).code == CORERING_ERROR_FENCED);

    auto c = db.new_session();
    corering::read_write_lock of_c(c, "rw"), by_b(b, "rw");
    {
        auto reading = of_c.read(), too = by_b.read();
        CHECK(thrown([&] { reading.upgrade(milliseconds(20)); }).code == CORERING_ERROR_LOCK_TIMEOUT);
        const auto before = reading.token();
        too.unlock();
        reading.upgrade();
        CHECK(reading.token() > before && db.lock_info("rw")[0].count == 1);
        CHECK(db.lock_info("rw")[0].mode == CORERING_LOCK_EXCLUSIVE);
    }
    auto writing = by_b.write();
    CHECK(thrown([&] { of_c.read(milliseconds(0)); }).code == CORERING_ERROR_LOCK_HELD);

    corering::barrier barrier("gate");
    CHECK(barrier.pass(b));
    auto closed = barrier.close(c);
    CHECK(!barrier.pass(b, milliseconds(20)));
    std::thread waits([&] { CHECK(barrier.pass(b)); });
    while (db.lock_info("gate").size() < 2) {
        std::this_thread::yield();
    }
    closed.unlock();
    waits.join();
}

void watches(corering::db &db) {
    using std::chrono::milliseconds;
    const milliseconds soon(20000);
    corering::watch_options prefix;
    prefix.prefix = "{w}";
    auto watch = db.watch_keys(prefix);
    CHECK(!watch.next(milliseconds(0)) && !watch.next(milliseconds(5)));
    const auto first = db.put("{w}1", "one");
    db.put("elsewhere", "x");
    auto batch = db.new_batch();
    batch.put("{w}2", "two");
    batch.erase("{w}1");
    const auto second = batch.commit();
    auto event = watch.next(soon);
    CHECK(event->version == first && event->changes.size() == 1 && *event->changes[0].value == "one");
    event = watch.next(soon);
    CHECK(event->version == second && event->changes.size() == 2);
    // Within a commit there is no order.
    const auto &deleted = event->changes[event->changes[0].key == "{w}1" ? 0 : 1];
    const auto &put = event->changes[event->changes[0].key == "{w}1" ? 1 : 0];
    CHECK(deleted.key == "{w}1" && !deleted.value && put.key == "{w}2" && *put.value == "two");
    CHECK(watch.progress() >= second);

    corering::watch_options since;
    since.key = "{w}2";
    since.since = first;
    auto again = db.watch_keys(since);
    for (const auto &one : again) {
        CHECK(one.version == second);
        break;
    }
    since.since = ~std::uint64_t{0} / 2;
    CHECK(thrown([&] { db.watch_keys(since); }).code == CORERING_ERROR_INVALID_ARGUMENT);
    std::thread waits([&] { CHECK(watch.try_next().error().code == CORERING_ERROR_CLOSED); });
    std::this_thread::sleep_for(milliseconds(20));
    (void)corering_watch_free(watch.raw());
    waits.join();

    corering::watch_options narrow;
    narrow.limit_bytes = 1000;
    auto slow = db.watch_keys(narrow);
    for (int n = 0; n < 100; n++) {
        db.put("{w}fill", std::string(200, 'x'));
    }
    auto outcome = slow.try_next(soon);
    while (outcome) {
        outcome = slow.try_next(soon);
    }
    CHECK(outcome.error().code == CORERING_ERROR_LAGGED && slow.progress() > 0);

    auto session = db.new_session();
    db.put("ephemeral", "x", corering::ephemeral(session));
    CHECK(*db.key_session("ephemeral") == session.key().id && !db.key_session("{w}2"));
    const auto one = db.put_sequential("s-", "x", corering::ephemeral(session));
    const auto two = db.put_sequential("s-", "x");
    CHECK(one < two && two.size() == 22 && db.get(one)->view() == "x");
    session.end();
    CHECK(!db.get("ephemeral") && !db.get(one) && db.get(two));
}

void members(corering::db &db) {
    using std::chrono::milliseconds;
    const milliseconds soon(20000);
    auto a = db.new_session();
    auto b = db.new_session();

    corering::group group(db, "members");
    auto seen = group.members();
    CHECK(seen.entries().empty() && !seen.next(milliseconds(1)));
    const auto first = group.join(a, "a");
    CHECK(seen.next(soon) && seen.entries().at(first) == "a");
    const auto second = group.join(b, "b");
    CHECK(seen.next(soon) && seen.entries().rbegin()->first == second);

    corering::registry registry(db);
    auto places = registry.discover("web");
    registry.add(a, "web", "1", "host:1");
    CHECK(places.next(soon) && places.entries().at(registry.key("web", "1")) == "host:1");

    corering::election of_a(db, a, "leading"), of_b(db, b, "leading");
    auto leaders = of_a.observe();
    of_a.resign(of_a.campaign("a"));
    auto led = of_b.campaign("b");
    CHECK(leaders.next(soon) && leaders.entries().begin()->second == "a");
    CHECK(leaders.next(soon) && leaders.entries().empty());
    CHECK(leaders.next(soon) && leaders.entries().begin()->second == "b" && *of_a.leader() == "b");

    a.end();
    CHECK(seen.next(soon) && seen.entries().size() == 1 && places.next(soon) && places.entries().empty());
    CHECK(group.leave(second) && !group.leave(first) && !registry.withdraw("web", "1"));

    std::vector<std::thread> threads;
    for (int n = 0; n < 3; n++) {
        threads.emplace_back([&db, soon] {
            auto own = db.new_session();
            corering::double_barrier barrier(db, own, "party", 3);
            for (int turn = 0; turn < 5; turn++) {
                CHECK(barrier.enter(soon) && barrier.leave(soon));
            }
        });
    }
    for (auto &thread : threads) {
        thread.join();
    }
    auto own = db.new_session();
    CHECK(!corering::double_barrier(db, own, "party", 2).enter(milliseconds(10)));
}

void transactions(corering::db &db) {
    {
        auto tx = db.begin();
        tx.put("t1", "one");
        tx.put("t2", "two");
        CHECK(tx.get("t1")->view() == "one" && !db.get("t1"));
    } // rolled back
    CHECK(!db.get("t1"));
    auto tx = db.begin();
    const auto id = tx.id();
    tx.put("t1", "one");
    tx.put("t2", "two");
    CHECK(!tx.put_if("t1", "x", corering::condition::absent()));
    {
        auto part = tx.new_savepoint();
        tx.erase("t1");
        CHECK(!tx.get("t1"));
    } // forgotten
    auto kept = tx.new_savepoint();
    tx.put("t3", "three");
    kept.keep();
    corering::range over;
    over.prefix = "t";
    int seen = 0;
    for (const corering::entry &entry : tx.scan(over)) {
        CHECK(entry.key == "t" + std::to_string(++seen));
    }
    CHECK(seen == 3 && tx.usage().write_bytes > 0);
    corering::transaction moved(std::move(tx));
    const auto commit = moved.commit();
    CHECK(commit > 0 && *db.fate(id) == commit && db.get("t1")->version() == commit && db.get("t3")->view() == "three");
    CHECK(thrown([&] { moved.commit(); }).code == CORERING_ERROR_TRANSACTION_ENDED);
    CHECK(thrown([&] { db.fate(corering::transaction_id{}); }).code == CORERING_ERROR_TRANSACTION_TOO_OLD);
    corering::transaction undone = db.begin();
    const auto undone_id = undone.id();
    undone.rollback();
    CHECK(!db.fate(undone_id));
    auto reading = db.begin(corering::transaction_options::reading());
    CHECK(thrown([&] { reading.put("t1", "x"); }).code == CORERING_ERROR_READ_ONLY);

    // It is run again until it commits, and not after another error.
    int runs = 0;
    const int answer = db.transact([&](corering::transaction &again) {
        (void)again.get("t1");
        if (++runs < 3) {
            db.put("t1", "by another");
        }
        again.put("t1", "at last");
        return runs;
    });
    CHECK(answer == 3 && runs == 3 && db.get("t1")->view() == "at last");
    db.transact([](corering::transaction &nothing) { nothing.put("t1", "void"); });
    CHECK(db.get("t1")->view() == "void");
    runs = 0;
    CHECK(thrown([&] {
              db.transact([&](corering::transaction &again) {
                  runs++;
                  again.rollback();
              });
          }).code == CORERING_ERROR_TRANSACTION_ENDED);
    CHECK(runs == 1);
    CHECK(db.try_transact([](corering::transaction &quiet) { return quiet.try_put("t1", "quiet"); }));
    CHECK(db.get("t1")->view() == "quiet");
    runs = 0;
    CHECK(db.try_transact([&](corering::transaction &again) -> corering::result<corering::done> {
        (void)again.try_get("t1");
        if (++runs < 3) {
            (void)db.try_put("t1", "by another");
        }
        return again.try_put("t1", "quiet at last");
    }));
    CHECK(runs == 3 && db.get("t1")->view() == "quiet at last");

    // Nor after it committed by itself, whatever another call then answers.
    const auto loses = [&] {
        auto other = db.begin();
        (void)other.get("t1");
        db.put("t1", "by another");
        other.put("t2", "never");
        return other.try_commit();
    };
    runs = 0;
    CHECK(thrown([&] {
              db.transact([&](corering::transaction &once) {
                  CHECK(++runs == 1);
                  once.put("t3", "once");
                  (void)once.commit();
                  (void)loses().value();
              });
          }).code == CORERING_ERROR_CONFLICT);
    CHECK(db.get("t3")->view() == "once");
    const auto quiet = db.try_transact([&](corering::transaction &once) -> corering::result<corering::done> {
        CHECK(++runs == 2);
        (void)once.try_put("t3", "twice").ok();
        (void)once.try_commit().ok();
        return loses().error();
    });
    CHECK(!quiet && quiet.error().code == CORERING_ERROR_CONFLICT && db.get("t3")->view() == "twice");
    // Before it, it does run again.
    runs = 0;
    db.transact([&](corering::transaction &again) {
        again.put("t3", "again");
        if (++runs < 3) {
            (void)loses().value();
        }
    });
    CHECK(runs == 3 && db.get("t3")->view() == "again");

    auto session = db.new_session();
    auto lock = session.acquire("of t");
    auto guarded = db.begin();
    guarded.guard(lock);
    guarded.put("t1", "guarded");
    lock.unlock();
    CHECK(thrown([&] { guarded.commit(); }).code == CORERING_ERROR_FENCED);

    // A bank among threads: nothing is made or lost.
    for (int n = 0; n < 4; n++) {
        db.put("account" + std::to_string(n), "100");
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; t++) {
        threads.emplace_back([&db, t] {
            for (int n = 0; n < 40; n++) {
                const auto from = "account" + std::to_string((n + t) % 4), to = "account" + std::to_string((n * 3 + t + 1) % 4);
                db.transact([&](corering::transaction &move) {
                    const int left = std::stoi(move.get_for_update(from)->str()) - 1;
                    move.put(from, std::to_string(left));
                    move.put(to, std::to_string(std::stoi(move.get(to)->str()) + 1));
                });
            }
        });
    }
    for (auto &thread : threads) {
        thread.join();
    }
    int sum = 0;
    for (int n = 0; n < 4; n++) {
        sum += std::stoi(db.get("account" + std::to_string(n))->str());
    }
    CHECK(sum == 400);

    auto queue = db.new_queue(4);
    auto later = db.begin();
    queue.get_for_update(1, later, "account0");
    later.put("account0", "0");
    CHECK(!later.may_have_committed());
    queue.commit(2, later);
    CHECK(later.may_have_committed());
    for (std::size_t left = 2; left > 0;) {
        for (const auto &one : queue.reap()) {
            left--;
            CHECK(one.user_data() == 1 || (one.ok() && one.version() > 0));
        }
        std::this_thread::yield();
    }
    CHECK(db.get("account0")->view() == "0");
}

} // namespace

int main(int argc, char **argv) {
    const std::string dir = argc > 1 ? argv[1] : ".";
    auto db = corering::db::open(dir + "/cpp", small());
    single_keys(db);
    expiry(db);
    failures(db, dir);
    batches_and_snapshots(db);
    completions(db);
    many_at_once(db);
    moving(dir);
    locks(db);
    locks_keep_their_options(db);
    locks_are_kept_alive(db);
    keeping_alive(db);
    asynchronous_locks(db);
    losses(db);
    recipes(db);
    transactions(db);
    watches(db);
    members(db);
    db.sync();
    db.checkpoint();
    const auto stats = db.stats();
    CHECK(stats.struct_size == sizeof(corering_stats));
    CHECK(stats.lock_grants > 0 && stats.lock_cancelled > 0 && stats.lock_fenced > 0 && stats.lock_waiters == 0);
    db.close();
    std::puts("basic.cpp: all well");
}
