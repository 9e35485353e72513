/* The objects of corering.hpp: database, batch, snapshot, iterator, completion queue. Include that, not this. */
#ifndef CORERING_OBJECTS_HPP
#define CORERING_OBJECTS_HPP

#ifndef CORERING_HPP
#error "include <corering.hpp>"
#endif

/* The family that throws: each function of it is the other's, with its result taken apart. */
#ifndef CORERING_NO_EXCEPTIONS
#define CORERING_THROWING(...) __VA_ARGS__
#else
#define CORERING_THROWING(...)
#endif

#include "locks.hpp"

namespace corering {

/// One state of the whole database, kept for reading.
class snapshot {
public:
    explicit snapshot(corering_snapshot *raw) noexcept : raw_(raw) {}
    corering_snapshot *raw() const noexcept { return raw_.get(); }

    result<std::uint64_t> try_version() const {
        std::uint64_t version = 0;
        const status code = corering_snapshot_version(raw_.get(), &version);
        if (code < 0) {
            return failure::last(code);
        }
        return version;
    }
    CORERING_THROWING(std::uint64_t version() const { return try_version().value(); })

private:
    detail::handle<corering_snapshot, corering_snapshot_free> raw_;
};

inline corering_read_options read_options::raw() const {
    corering_read_options raw{};
    raw.struct_size = sizeof raw;
    raw.keyspace = keyspace;
    raw.snapshot = snapshot ? snapshot->raw() : nullptr;
    return raw;
}

inline corering_scan_options range::raw() const {
    corering_scan_options raw{};
    raw.struct_size = sizeof raw;
    raw.keyspace = keyspace;
    raw.flags = (reverse ? CORERING_SCAN_REVERSE : 0u) | (lower_exclusive ? CORERING_SCAN_LOWER_EXCLUSIVE : 0u) |
                (upper_inclusive ? CORERING_SCAN_UPPER_INCLUSIVE : 0u);
    const auto set = [](const std::optional<bytes> &bound, const void *&data, std::size_t &len) {
        /* An empty view may have no address; a bound that is given always has one. */
        data = bound ? (bound->data() ? bound->data() : "") : nullptr;
        len = bound ? bound->size() : 0;
    };
    set(lower, raw.lower, raw.lower_len);
    set(upper, raw.upper, raw.upper_len);
    set(prefix, raw.prefix, raw.prefix_len);
    raw.limit = limit;
    raw.snapshot = snapshot ? snapshot->raw() : nullptr;
    return raw;
}

/// Writes that take effect together or not at all, whatever shards their keys belong to.
class batch {
public:
    explicit batch(corering_batch *raw) noexcept : raw_(raw) {}
    corering_batch *raw() const noexcept { return raw_.get(); }

    result<done> try_put(bytes key, bytes value, const write_options &options = {}) {
        const auto raw = options.raw();
        return detail::check(corering_batch_put(raw_.get(), key.data(), key.size(), value.data(), value.size(), &raw));
    }
    result<done> try_erase(bytes key, const write_options &options = {}) {
        const auto raw = options.raw();
        return detail::check(corering_batch_delete(raw_.get(), key.data(), key.size(), &raw));
    }
    result<done> try_clear() { return detail::check(corering_batch_clear(raw_.get())); }
    result<std::size_t> try_size() const {
        std::size_t count = 0;
        const status code = corering_batch_len(raw_.get(), &count);
        if (code < 0) {
            return failure::last(code);
        }
        return count;
    }
    /// Does all of it. The batch keeps its writes, so that a refused commit can be tried again.
    result<std::uint64_t> try_commit(const write_options &options = {}) {
        const auto raw = options.raw();
        std::uint64_t version = 0;
        const status code = corering_batch_commit(raw_.get(), &raw, &version);
        if (code < 0) {
            return failure::last(code);
        }
        return version;
    }
    CORERING_THROWING(
        batch &put(bytes key, bytes value, const write_options &options = {}) {
            (void)try_put(key, value, options).value();
            return *this;
        }
        batch &erase(bytes key, const write_options &options = {}) {
            (void)try_erase(key, options).value();
            return *this;
        }
        void clear() { (void)try_clear().value(); }
        std::size_t size() const { return try_size().value(); }
        std::uint64_t commit(const write_options &options = {}) { return try_commit(options).value(); })

private:
    detail::handle<corering_batch, corering_batch_free> raw_;
};

/// Walks over a range of keys in order, in one consistent state.
class iterator {
public:
    explicit iterator(corering_iterator *raw) noexcept : raw_(raw) {}
    corering_iterator *raw() const noexcept { return raw_.get(); }

    /// The next entry, or none at the end.
    result<std::optional<entry>> try_next() {
        corering_entry raw;
        const status code = corering_iterator_next(raw_.get(), &raw);
        if (code < 0) {
            return failure::last(code);
        }
        if (code == CORERING_END) {
            return std::optional<entry>();
        }
        return std::optional<entry>(entry{detail::view(raw.key, raw.key_len), detail::view(raw.value, raw.value_len),
                                          raw.version, raw.expires_at_ms});
    }

#ifndef CORERING_NO_EXCEPTIONS
    std::optional<entry> next() { return try_next().value(); }

    /// For `for (const corering::entry &e : db.scan(...))`.
    class step {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = entry;
        using difference_type = std::ptrdiff_t;
        using pointer = const entry *;
        using reference = const entry &;

        step() = default;
        explicit step(iterator *from) : from_(from), at_(from->next()) {}
        reference operator*() const noexcept { return *at_; }
        pointer operator->() const noexcept { return &*at_; }
        step &operator++() {
            at_ = from_->next();
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const step &a, const step &b) noexcept {
            return a.at_.has_value() == b.at_.has_value();
        }
        friend bool operator!=(const step &a, const step &b) noexcept { return !(a == b); }

    private:
        iterator *from_ = nullptr;
        std::optional<entry> at_;
    };
    step begin() { return step(this); }
    step end() const { return step(); }
#endif

private:
    detail::handle<corering_iterator, corering_iterator_free> raw_;
};

} // namespace corering

#include "transactions.hpp"

namespace corering {

/// Submit without waiting, poll one descriptor, reap.
class completion_queue {
public:
    explicit completion_queue(corering_queue *raw) noexcept : raw_(raw) {}
    corering_queue *raw() const noexcept { return raw_.get(); }

    /// Readable whenever something can be reaped. Poll it, and nothing else.
    result<int> try_fd() const {
        int fd = -1;
        const status code = corering_queue_fd(raw_.get(), &fd);
        if (code < 0) {
            return failure::last(code);
        }
        return fd;
    }
    /// How many were taken, from the first on.
    result<std::size_t> try_submit(const corering_op *ops, std::size_t count, const write_options &options = {}) {
        const auto raw = options.raw();
        std::size_t accepted = 0;
        const status code = corering_queue_submit(raw_.get(), ops, count, &raw, &accepted);
        if (code < 0) {
            return failure::last(code);
        }
        return accepted;
    }
    result<done> try_get(std::uint64_t user_data, bytes key, std::uint32_t keyspace = 0) {
        return one(op(CORERING_OP_GET, user_data, key, keyspace), write_options());
    }
    result<done> try_put(std::uint64_t user_data, bytes key, bytes value, const write_options &options = {}) {
        return one(writing(op(CORERING_OP_PUT, user_data, key, options.keyspace), value, options), options);
    }
    result<done> try_erase(std::uint64_t user_data, bytes key, const write_options &options = {}) {
        return one(op(CORERING_OP_DELETE, user_data, key, options.keyspace), options);
    }
    result<done> try_put_if(std::uint64_t user_data, bytes key, bytes value, const condition &condition,
                            const write_options &options = {}) {
        auto made = writing(op(CORERING_OP_PUT_IF, user_data, key, options.keyspace), value, options);
        made.condition = condition.raw();
        return one(made, options);
    }
    result<done> try_incr(std::uint64_t user_data, bytes key, std::int64_t by, const write_options &options = {}) {
        auto made = writing(op(CORERING_OP_INCR, user_data, key, options.keyspace), bytes(), options);
        made.delta = by;
        return one(made, options);
    }
    result<done> try_sync(std::uint64_t user_data) {
        return one(op(CORERING_OP_SYNC, user_data, bytes(), 0), write_options());
    }
    result<done> try_submit(std::uint64_t user_data, const batch &batch, const write_options &options = {}) {
        const auto raw = options.raw();
        return detail::check(corering_queue_submit_batch(raw_.get(), batch.raw(), &raw, user_data));
    }
    /// The grant is a completion, with the token in `version()`; `session::granted` makes a lock of it.
    result<done> try_acquire(std::uint64_t user_data, const session &session, bytes name,
                             const lock_options &options = {}) {
        const auto raw = options.raw();
        return detail::check(
            corering_queue_acquire(raw_.get(), &session.key(), name.data(), name.size(), &raw, user_data));
    }
    /// Ends the waits with this tag; each has its completion all the same: CORERING_ERROR_LOCK_TIMEOUT, or the grant if that was
    /// first. False: there is none.
    result<bool> try_cancel(std::uint64_t user_data) {
        const status code = corering_queue_cancel(raw_.get(), user_data);
        if (code < 0) {
            return failure::last(code);
        }
        return code == CORERING_OK;
    }
    /// There is a completion when the session has lost a hold or has ended: `session::next_loss` tells which.
    result<done> try_lost(std::uint64_t user_data, const session &session) {
        return detail::check(corering_queue_lost(raw_.get(), &session.key(), user_data));
    }
    /// The commit is a completion.
    result<done> try_commit(std::uint64_t user_data, transaction &tx) {
        const status code = corering_queue_commit(raw_.get(), tx.raw(), user_data);
        tx.committed_ = tx.committed_ || code >= 0;
        return detail::check(code);
    }
    /// There is a completion when the transaction, which is run again, has its turn.
    result<done> try_wait_turn(std::uint64_t user_data, const transaction &tx) {
        return detail::check(corering_queue_wait_turn(raw_.get(), tx.raw(), user_data));
    }
    /// The grant is a completion, with the value.
    result<done> try_get_for_update(std::uint64_t user_data, const transaction &tx, bytes key,
                                    std::uint32_t keyspace = 0) {
        read_options options;
        options.keyspace = keyspace;
        const auto raw = options.raw();
        return detail::check(
            corering_queue_get_for_update(raw_.get(), tx.raw(), key.data(), key.size(), &raw, user_data));
    }
    /// What is done by now, at most `limit`; does not wait.
    result<std::vector<completion>> try_reap(std::size_t limit = 256) {
        std::vector<corering_result> raw(limit);
        std::size_t count = 0;
        const status code = corering_queue_reap(raw_.get(), raw.data(), raw.size(), &count);
        if (code < 0) {
            return failure::last(code);
        }
        std::vector<completion> reaped;
        reaped.reserve(count);
        for (std::size_t n = 0; n < count; n++) {
            reaped.emplace_back(raw[n]);
        }
        return reaped;
    }
    CORERING_THROWING(
        int fd() const { return try_fd().value(); }
        void get(std::uint64_t user_data, bytes key, std::uint32_t keyspace = 0) {
            (void)try_get(user_data, key, keyspace).value();
        }
        void put(std::uint64_t user_data, bytes key, bytes value, const write_options &options = {}) {
            (void)try_put(user_data, key, value, options).value();
        }
        void erase(std::uint64_t user_data, bytes key, const write_options &options = {}) {
            (void)try_erase(user_data, key, options).value();
        }
        void put_if(std::uint64_t user_data, bytes key, bytes value, const condition &condition,
                    const write_options &options = {}) {
            (void)try_put_if(user_data, key, value, condition, options).value();
        }
        void incr(std::uint64_t user_data, bytes key, std::int64_t by, const write_options &options = {}) {
            (void)try_incr(user_data, key, by, options).value();
        }
        void sync(std::uint64_t user_data) { (void)try_sync(user_data).value(); }
        void submit(std::uint64_t user_data, const batch &batch, const write_options &options = {}) {
            (void)try_submit(user_data, batch, options).value();
        }
        void acquire(std::uint64_t user_data, const session &session, bytes name, const lock_options &options = {}) {
            (void)try_acquire(user_data, session, name, options).value();
        }
        bool cancel(std::uint64_t user_data) { return try_cancel(user_data).value(); }
        void lost(std::uint64_t user_data, const session &session) { (void)try_lost(user_data, session).value(); }
        void commit(std::uint64_t user_data, transaction &tx) { (void)try_commit(user_data, tx).value(); }
        void wait_turn(std::uint64_t user_data, const transaction &tx) { (void)try_wait_turn(user_data, tx).value(); }
        void get_for_update(std::uint64_t user_data, const transaction &tx, bytes key, std::uint32_t keyspace = 0) {
            (void)try_get_for_update(user_data, tx, key, keyspace).value();
        }
        std::vector<completion> reap(std::size_t limit = 256) { return try_reap(limit).value(); })

private:
    static corering_op op(std::uint32_t kind, std::uint64_t user_data, bytes key, std::uint32_t keyspace) {
        corering_op made{};
        made.kind = kind;
        made.keyspace = keyspace;
        made.key = key.data();
        made.key_len = key.size();
        made.user_data = user_data;
        return made;
    }
    static corering_op writing(corering_op made, bytes value, const write_options &options) {
        const auto raw = options.raw();
        made.value = value.data();
        made.value_len = value.size();
        made.ttl_ms = raw.ttl_ms;
        made.expires_at_ms = raw.expires_at_ms;
        return made;
    }
    /* Expiry and keyspace went into the operation; what is left for the call are the durability and the guards. */
    result<done> one(const corering_op &made, const write_options &options) {
        write_options level;
        level.durability = options.durability;
        level.guards = options.guards;
        auto accepted = try_submit(&made, 1, level);
        if (!accepted) {
            return accepted.error();
        }
        return done{};
    }

    detail::handle<corering_queue, corering_queue_free> raw_;
};

} // namespace corering

#include "watch.hpp"

#include "db.hpp"

#endif /* CORERING_OBJECTS_HPP */
