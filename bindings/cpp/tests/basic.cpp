// Every function of corering.hpp, in both families. Usage: basic DIR
#include <corering.hpp>

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
    db.sync();
    db.checkpoint();
    CHECK(db.stats().struct_size == sizeof(corering_stats));
    db.close();
    std::puts("basic.cpp: all well");
}
