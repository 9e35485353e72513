/* The database of corering.hpp. Include that, not this. */
#ifndef CORERING_DB_HPP
#define CORERING_DB_HPP

#ifndef CORERING_HPP
#error "include <corering.hpp>"
#endif

namespace corering {

/// An open database, closed when it goes. `close` says how that went; the destructor cannot.
class db {
public:
    explicit db(corering_db *raw) noexcept : raw_(raw) {}
    corering_db *raw() const noexcept { return raw_.get(); }

    static result<db> try_open(const std::string &path, const open_options &options = {}) {
        corering_options raw{};
        (void)corering_options_init(&raw, sizeof raw);
        raw.shards = options.shards;
        raw.durability = options.durability.level;
        raw.interval_ms = options.durability.interval_ms;
        raw.flags = (options.must_exist ? CORERING_OPEN_MUST_EXIST : 0u) |
                    (options.must_not_exist ? CORERING_OPEN_MUST_NOT_EXIST : 0u) |
                    (options.pin_threads ? CORERING_OPEN_PIN_THREADS : 0u);
        raw.memtable_bytes = options.memtable_bytes;
        raw.segment_bytes = options.segment_bytes;
        raw.inbox_len = options.inbox_len;
        raw.history_bytes = options.history_bytes;
        return made<db>(
            [&](corering_db **out) { return corering_open(CORERING_ABI_VERSION, path.c_str(), &raw, out); });
    }
    /// Everything answered becomes durable, the threads end. The object is empty afterwards, whatever the outcome.
    result<done> try_close() { return detail::check(corering_close(raw_.release())); }

    result<std::optional<value>> try_get(bytes key, const read_options &options = {}) const {
        const auto raw = options.raw();
        corering_value found;
        const status code = corering_get(raw_.get(), key.data(), key.size(), &raw, &found);
        if (code < 0) {
            return failure::last(code);
        }
        return code == CORERING_NOT_FOUND ? std::optional<value>() : std::optional<value>(value(found));
    }
    /// Copies the value into `into`, whose memory is used again: the fast way. False if there is no such key.
    result<bool> try_get(bytes key, std::string &into, const read_options &options = {}) const {
        const auto raw = options.raw();
        for (;;) {
            if (into.size() < into.capacity()) {
                into.resize(into.capacity());
            }
            std::size_t len = 0;
            const status code =
                corering_get_into(raw_.get(), key.data(), key.size(), &raw, &into[0], into.size(), &len, nullptr);
            if (code < 0) {
                into.clear();
                return failure::last(code);
            }
            into.resize(len);
            if (code != CORERING_BUFFER_TOO_SMALL) {
                return code == CORERING_OK;
            }
        }
    }
    result<std::vector<std::optional<value>>> try_multi_get(const std::vector<bytes> &keys,
                                                            const read_options &options = {}) const {
        const auto raw = options.raw();
        std::vector<corering_bytes> given;
        given.reserve(keys.size());
        for (const bytes key : keys) {
            given.push_back(corering_bytes{key.data(), key.size()});
        }
        std::vector<corering_value> found(keys.size());
        const status code = corering_multi_get(raw_.get(), given.data(), given.size(), &raw, found.data());
        if (code < 0) {
            return failure::last(code);
        }
        std::vector<std::optional<value>> values;
        values.reserve(found.size());
        for (const corering_value &one : found) {
            values.push_back(one.data ? std::optional<value>(value(one)) : std::optional<value>());
        }
        return values;
    }
    /// The commit.
    result<std::uint64_t> try_put(bytes key, bytes value, const write_options &options = {}) {
        const auto raw = options.raw();
        std::uint64_t version = 0;
        const status code =
            corering_put(raw_.get(), key.data(), key.size(), value.data(), value.size(), &raw, &version);
        if (code < 0) {
            return failure::last(code);
        }
        return version;
    }
    /// Stores under a new key: `prefix` and 20 digits, a number larger than those of all keys made so before. The key.
    result<std::string> try_put_sequential(bytes prefix, bytes value, const write_options &options = {}) {
        const auto raw = options.raw();
        std::string key(prefix.size() + 20, '\0');
        std::size_t len = 0;
        const status code = corering_put_sequential(raw_.get(), prefix.data(), prefix.size(), value.data(), value.size(),
                                                    &raw, &key[0], key.size(), &len, nullptr);
        if (code < 0) {
            return failure::last(code);
        }
        return key;
    }
    /// Every change of keys, in the order of commits.
    result<watch> try_watch_keys(const watch_options &options = {}) const { return watch::try_open(raw_.get(), options); }
    /// The session that a key goes with.
    result<std::optional<std::uint64_t>> try_key_session(bytes key, const read_options &options = {}) const {
        const auto raw = options.raw();
        std::uint64_t id = 0;
        const status code = corering_key_session(raw_.get(), key.data(), key.size(), &raw, &id);
        if (code < 0) {
            return failure::last(code);
        }
        return code == CORERING_NOT_FOUND ? std::optional<std::uint64_t>() : std::optional<std::uint64_t>(id);
    }
    /// Whether the key was there.
    result<bool> try_erase(bytes key, const write_options &options = {}) {
        const auto raw = options.raw();
        bool existed = false;
        const status code = corering_delete(raw_.get(), key.data(), key.size(), &raw, &existed);
        if (code < 0) {
            return failure::last(code);
        }
        return existed;
    }
    result<put_if_outcome> try_put_if(bytes key, bytes value, const condition &condition,
                                      const write_options &options = {}) {
        const auto raw = options.raw();
        std::uint64_t version = 0;
        const status code = corering_put_if(raw_.get(), key.data(), key.size(), value.data(), value.size(),
                                            &condition.raw(), &raw, &version);
        if (code < 0) {
            return failure::last(code);
        }
        return put_if_outcome{code == CORERING_OK, version};
    }
    /// The new number.
    result<std::int64_t> try_incr(bytes key, std::int64_t by = 1, const write_options &options = {}) {
        const auto raw = options.raw();
        std::int64_t number = 0;
        const status code = corering_incr(raw_.get(), key.data(), key.size(), by, &raw, &number);
        if (code < 0) {
            return failure::last(code);
        }
        return number;
    }
    /// Many independent operations, one hop for each shard. The completions are in the order of the operations.
    result<std::vector<completion>> try_execute(const std::vector<corering_op> &ops,
                                                const write_options &options = {}) {
        const auto raw = options.raw();
        std::vector<corering_result> results(ops.size());
        const status code = corering_execute(raw_.get(), ops.data(), ops.size(), &raw, results.data());
        if (code < 0) {
            return failure::last(code);
        }
        return std::vector<completion>(results.begin(), results.end());
    }
    result<batch> try_new_batch() {
        return made<batch>([&](corering_batch **out) { return corering_batch_new(raw_.get(), out); });
    }
    result<snapshot> try_new_snapshot() const {
        return made<snapshot>([&](corering_snapshot **out) { return corering_snapshot_new(raw_.get(), out); });
    }
    result<iterator> try_scan(const range &over = {}) const {
        const auto raw = over.raw();
        return made<iterator>([&](corering_iterator **out) { return corering_scan(raw_.get(), &raw, out); });
    }
    result<completion_queue> try_new_queue(std::uint32_t capacity = 1024) {
        return made<completion_queue>(
            [&](corering_queue **out) { return corering_queue_new(raw_.get(), capacity, out); });
    }
    result<transaction> try_begin(const transaction_options &options = {}) {
        const auto raw = options.raw();
        return made<transaction>([&](corering_tx **out) { return corering_tx_begin(raw_.get(), &raw, out); });
    }
    /// The commit of a transaction that is over; none if it did not happen or wrote nothing; TRANSACTION_TOO_OLD if nobody knows any more.
    result<std::optional<std::uint64_t>> try_fate(const transaction_id &id) const {
        corering_tx_id raw;
        std::copy(id.begin(), id.end(), std::begin(raw.bytes));
        std::uint64_t version = 0;
        const status code = corering_tx_fate(raw_.get(), &raw, &version);
        if (code < 0) {
            return failure::last(code);
        }
        return code == CORERING_NOT_FOUND ? std::optional<std::uint64_t>() : std::optional<std::uint64_t>(version);
    }
    /// Waits before a transaction of this age (0: any) that failed `attempt` times before is run again, unless it will wait for its turn.
    result<done> try_pause(std::uint64_t again, std::uint32_t attempt) const {
        std::uint64_t nanoseconds = 0;
        const status code = corering_tx_pause_ns(raw_.get(), again, attempt, &nanoseconds);
        std::this_thread::sleep_for(std::chrono::nanoseconds(nanoseconds));
        return detail::check(code);
    }
    /// Runs `f(transaction &)`, which returns a `result<done>`, and commits, again and again until that succeeds or fails for another reason
    /// than others' work. After an outcome that nobody knows, and after `f` committed it by itself, it is not run again.
    template <class F>
    result<std::uint64_t> try_transact(F f, transaction_options options = {}) {
        for (std::uint32_t attempt = 0;; attempt++) {
            failure why;
            {
                auto tx = try_begin(options);
                if (!tx) {
                    return tx.error();
                }
                auto number = tx->try_number();
                if (!number) {
                    return number.error();
                }
                options.again = *number;
                result<done> ran = tx->try_wait_turn();
                if (ran) {
                    ran = f(*tx);
                }
                if (ran) {
                    auto commit = tx->try_commit();
                    if (commit) {
                        return commit;
                    }
                    why = commit.error();
                } else {
                    why = ran.error();
                }
                if (tx->may_have_committed() || !why.lost_a_race()) {
                    return why;
                }
            }
            auto paused = try_pause(options.again, attempt);
            if (!paused) {
                return paused.error();
            }
        }
    }
    /// Who holds locks: `session.acquire("name")`.
    result<session> try_new_session(const session_options &options = {}) {
        return session::try_open(raw_.get(), options);
    }
    /// Who holds a lock, then who waits for it, in their order; empty if nobody does.
    result<std::vector<corering_lock_part>> try_lock_info(bytes name) const {
        std::vector<corering_lock_part> parts(16);
        for (;;) {
            std::size_t count = 0;
            const status code =
                corering_lock_info(raw_.get(), name.data(), name.size(), parts.data(), parts.size(), &count);
            if (code < 0) {
                return failure::last(code);
            }
            parts.resize(count);
            if (code != CORERING_BUFFER_TOO_SMALL) {
                return parts;
            }
        }
    }
    /// The locks that are held or waited for, in no order.
    result<std::vector<lock_entry>> try_locks() const {
        std::vector<lock_entry> locks;
        std::vector<corering_lock_entry> page(64);
        std::uint64_t cursor = 0;
        do {
            std::size_t count = 0;
            const status code =
                corering_lock_scan(raw_.get(), cursor, page.data(), page.size(), &count, &cursor);
            if (code < 0) {
                return failure::last(code);
            }
            for (std::size_t n = 0; n < count; n++) {
                const corering_lock_entry &raw = page[n];
                locks.push_back({std::string(detail::view(raw.name, raw.name_len)), raw.holders, raw.waiters});
            }
        } while (cursor != 0);
        return locks;
    }
    result<std::vector<corering_session_info>> try_sessions() const {
        std::vector<corering_session_info> sessions(16);
        for (;;) {
            std::size_t count = 0;
            const status code = corering_session_list(raw_.get(), sessions.data(), sessions.size(), &count);
            if (code < 0) {
                return failure::last(code);
            }
            sessions.resize(count);
            if (code != CORERING_BUFFER_TOO_SMALL) {
                return sessions;
            }
        }
    }
    /// Ends a session of which only the number is known.
    result<done> try_kill_session(std::uint64_t id) { return detail::check(corering_session_kill(raw_.get(), id)); }
    result<done> try_sync() { return detail::check(corering_sync(raw_.get())); }
    result<done> try_checkpoint() { return detail::check(corering_checkpoint(raw_.get())); }
    result<corering_stats> try_stats(std::uint32_t shard = CORERING_ALL_SHARDS) const {
        corering_stats stats{};
        stats.struct_size = sizeof stats;
        const status code = corering_get_stats(raw_.get(), shard, &stats);
        if (code < 0) {
            return failure::last(code);
        }
        return stats;
    }

    CORERING_THROWING(
        static db open(const std::string &path, const open_options &options = {}) {
            return try_open(path, options).value();
        }
        void close() { (void)try_close().value(); }
        std::optional<value> get(bytes key, const read_options &options = {}) const {
            return try_get(key, options).value();
        }
        bool get(bytes key, std::string &into, const read_options &options = {}) const {
            return try_get(key, into, options).value();
        }
        std::vector<std::optional<value>> multi_get(const std::vector<bytes> &keys,
                                                    const read_options &options = {}) const {
            return try_multi_get(keys, options).value();
        }
        std::uint64_t put(bytes key, bytes value, const write_options &options = {}) {
            return try_put(key, value, options).value();
        }
        std::string put_sequential(bytes prefix, bytes value, const write_options &options = {}) {
            return try_put_sequential(prefix, value, options).value();
        }
        corering::watch watch_keys(const watch_options &options = {}) const { return try_watch_keys(options).value(); }
        std::optional<std::uint64_t> key_session(bytes key, const read_options &options = {}) const {
            return try_key_session(key, options).value();
        }
        bool erase(bytes key, const write_options &options = {}) { return try_erase(key, options).value(); }
        put_if_outcome put_if(bytes key, bytes value, const condition &condition, const write_options &options = {}) {
            return try_put_if(key, value, condition, options).value();
        }
        std::int64_t incr(bytes key, std::int64_t by = 1, const write_options &options = {}) {
            return try_incr(key, by, options).value();
        }
        std::vector<completion> execute(const std::vector<corering_op> &ops, const write_options &options = {}) {
            return try_execute(ops, options).value();
        }
        batch new_batch() { return try_new_batch().value(); }
        snapshot new_snapshot() const { return try_new_snapshot().value(); }
        iterator scan(const range &over = {}) const { return try_scan(over).value(); }
        completion_queue new_queue(std::uint32_t capacity = 1024) { return try_new_queue(capacity).value(); }
        transaction begin(const transaction_options &options = {}) { return try_begin(options).value(); }
        std::optional<std::uint64_t> fate(const transaction_id &id) const { return try_fate(id).value(); }
        void pause(std::uint64_t again, std::uint32_t attempt) const { (void)try_pause(again, attempt).value(); }
        /// Runs `f(transaction &)` and commits, again and again until that succeeds; what `f` returned is returned. Any exception but
        /// a `corering::error` that others' work explains ends it, and so does an outcome that nobody knows, and any after `f` committed
        /// it by itself.
        template <class F>
        auto transact(F f, transaction_options options = {}) -> decltype(f(std::declval<transaction &>())) {
            for (std::uint32_t attempt = 0;; attempt++) {
                {
                    std::optional<transaction> tx;
                    try {
                        tx.emplace(begin(options));
                        options.again = tx->number();
                        tx->wait_turn();
                        if constexpr (std::is_void_v<decltype(f(*tx))>) {
                            f(*tx);
                            (void)tx->commit();
                            return;
                        } else {
                            auto answer = f(*tx);
                            (void)tx->commit();
                            return answer;
                        }
                    } catch (const error &why) {
                        if ((tx && tx->may_have_committed()) || !why.lost_a_race()) {
                            throw;
                        }
                    }
                } // It lets go of its keys before the pause.
                pause(options.again, attempt);
            }
        }
        session new_session(const session_options &options = {}) { return try_new_session(options).value(); }
        std::vector<corering_lock_part> lock_info(bytes name) const { return try_lock_info(name).value(); }
        std::vector<lock_entry> locks() const { return try_locks().value(); }
        std::vector<corering_session_info> sessions() const { return try_sessions().value(); }
        void kill_session(std::uint64_t id) { (void)try_kill_session(id).value(); }
        void sync() { (void)try_sync().value(); }
        void checkpoint() { (void)try_checkpoint().value(); }
        corering_stats stats(std::uint32_t shard = CORERING_ALL_SHARDS) const { return try_stats(shard).value(); })

private:
    template <class Object, class Make>
    static result<Object> made(Make make) {
        decltype(std::declval<Object &>().raw()) raw = nullptr;
        const status code = make(&raw);
        if (code < 0) {
            return failure::last(code);
        }
        return Object(raw);
    }

    detail::handle<corering_db, corering_close> raw_;
};

} // namespace corering

#undef CORERING_THROWING

#endif /* CORERING_DB_HPP */
