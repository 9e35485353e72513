/* Transactions of corering.hpp. Include that, not this. */
#ifndef CORERING_TRANSACTIONS_HPP
#define CORERING_TRANSACTIONS_HPP

#ifndef CORERING_HPP
#error "include <corering.hpp>"
#endif

#include <array>

namespace corering {

/// How a transaction is begun.
struct transaction_options {
    std::uint32_t isolation = CORERING_ISOLATION_STRICT;
    corering::durability durability{};
    /// Writes are refused; it never waits and never aborts.
    bool read_only = false;
    /// It is ended when it was open for so long; zero: a minute.
    milliseconds timeout{0};
    /// How long its fate can be asked after it committed; none: ten minutes; zero: not at all, which saves a write.
    std::optional<milliseconds> remember{};
    /// The `number()` of the attempt before, so that it keeps its age; zero: a new one.
    std::uint64_t again = 0;

    static transaction_options reading() {
        transaction_options made;
        made.read_only = true;
        return made;
    }

    corering_tx_options raw() const {
        const auto positive = [](milliseconds span) {
            return span.count() > 0 ? static_cast<std::uint64_t>(span.count()) : 0;
        };
        corering_tx_options raw{};
        raw.struct_size = sizeof raw;
        raw.isolation = isolation;
        raw.durability = durability.level;
        raw.interval_ms = durability.interval_ms;
        raw.timeout_ms = positive(timeout);
        raw.remember_ms = remember ? positive(*remember) : 0;
        raw.flags = (read_only ? CORERING_TX_READ_ONLY : 0u) |
                    (remember && remember->count() <= 0 ? CORERING_TX_NO_FATE : 0u);
        raw.again = again;
        return raw;
    }
};

/// Names a transaction for ever.
using transaction_id = std::array<std::uint8_t, 16>;

class savepoint;

/// Reads and writes of any keys that take effect together at `commit`, or not at all. It is rolled back when it goes. For one thread at a
/// time.
class transaction {
public:
    explicit transaction(corering_tx *raw) noexcept : raw_(raw) {}
    corering_tx *raw() const noexcept { return raw_.get(); }

    /// For `db::fate`.
    result<transaction_id> try_id() const {
        corering_tx_id raw;
        const status code = corering_tx_get_id(raw_.get(), &raw);
        if (code < 0) {
            return failure::last(code);
        }
        transaction_id id;
        std::copy(std::begin(raw.bytes), std::end(raw.bytes), id.begin());
        return id;
    }
    /// Its age, for `transaction_options::again`.
    result<std::uint64_t> try_number() const {
        std::uint64_t number = 0;
        const status code = corering_tx_number(raw_.get(), &number);
        if (code < 0) {
            return failure::last(code);
        }
        return number;
    }
    /// Of one that is run again: waits until it keeps the keys at which it lost before. `db::transact` does.
    result<done> try_wait_turn() { return detail::check(corering_tx_wait_turn(raw_.get())); }
    /// The value as the transaction sees it, own writes included.
    result<std::optional<value>> try_get(bytes key, std::uint32_t keyspace = 0) {
        return read(corering_tx_get, key, keyspace);
    }
    /// The latest value; no other transaction changes or keeps the key before this one has ended.
    result<std::optional<value>> try_get_for_update(bytes key, std::uint32_t keyspace = 0) {
        return read(corering_tx_get_for_update, key, keyspace);
    }
    result<done> try_put(bytes key, bytes value, const write_options &options = {}) {
        const auto raw = options.raw();
        return detail::check(corering_tx_put(raw_.get(), key.data(), key.size(), value.data(), value.size(), &raw));
    }
    result<done> try_erase(bytes key, const write_options &options = {}) {
        const auto raw = options.raw();
        return detail::check(corering_tx_delete(raw_.get(), key.data(), key.size(), &raw));
    }
    /// Whether the condition held.
    result<bool> try_put_if(bytes key, bytes value, const condition &condition, const write_options &options = {}) {
        const auto raw = options.raw();
        const status code = corering_tx_put_if(raw_.get(), key.data(), key.size(), value.data(), value.size(),
                                               &condition.raw(), &raw);
        if (code < 0) {
            return failure::last(code);
        }
        return code == CORERING_OK;
    }
    /// Entries as the transaction sees them, read a page at a time.
    result<iterator> try_scan(const range &over = {}) {
        const auto raw = over.raw();
        corering_iterator *made = nullptr;
        const status code = corering_tx_scan(raw_.get(), &raw, &made);
        if (code < 0) {
            return failure::last(code);
        }
        return iterator(made);
    }
    /// The commit fails as fenced unless this lock is held then.
    result<done> try_guard(const lock &lock) {
        const corering_guard guard = lock.guard();
        return detail::check(corering_tx_guard(raw_.get(), &guard, 1));
    }
    inline result<savepoint> try_new_savepoint();
    result<corering_tx_usage> try_usage() const {
        corering_tx_usage usage{};
        usage.struct_size = sizeof usage;
        const status code = corering_tx_get_usage(raw_.get(), &usage);
        if (code < 0) {
            return failure::last(code);
        }
        return usage;
    }
    /// The commit; 0 if it wrote nothing. The transaction has ended, whatever the outcome.
    result<std::uint64_t> try_commit() {
        std::uint64_t version = 0;
        const status code = corering_tx_commit(raw_.get(), &version);
        committed_ = committed_ || code >= 0 || corering_status_may_have_committed(code);
        if (code < 0) {
            return failure::last(code);
        }
        return version;
    }
    /// It was committed by this object or sent to a queue to be, or nobody knows whether it was: `db::transact` does not run it again.
    bool may_have_committed() const noexcept { return committed_; }
    result<done> try_rollback() { return detail::check(corering_tx_rollback(raw_.get())); }

    CORERING_THROWING(
        transaction_id id() const { return try_id().value(); }
        std::uint64_t number() const { return try_number().value(); }
        void wait_turn() { (void)try_wait_turn().value(); }
        std::optional<value> get(bytes key, std::uint32_t keyspace = 0) { return try_get(key, keyspace).value(); }
        std::optional<value> get_for_update(bytes key, std::uint32_t keyspace = 0) {
            return try_get_for_update(key, keyspace).value();
        }
        void put(bytes key, bytes value, const write_options &options = {}) {
            (void)try_put(key, value, options).value();
        }
        void erase(bytes key, const write_options &options = {}) { (void)try_erase(key, options).value(); }
        bool put_if(bytes key, bytes value, const condition &condition, const write_options &options = {}) {
            return try_put_if(key, value, condition, options).value();
        }
        iterator scan(const range &over = {}) { return try_scan(over).value(); }
        void guard(const lock &lock) { (void)try_guard(lock).value(); }
        inline savepoint new_savepoint();
        corering_tx_usage usage() const { return try_usage().value(); }
        std::uint64_t commit() { return try_commit().value(); }
        void rollback() { (void)try_rollback().value(); })

private:
    template <class Get>
    result<std::optional<value>> read(Get call, bytes key, std::uint32_t keyspace) {
        read_options options;
        options.keyspace = keyspace;
        const auto raw = options.raw();
        corering_value found;
        const status code = call(raw_.get(), key.data(), key.size(), &raw, &found);
        if (code < 0) {
            return failure::last(code);
        }
        return code == CORERING_NOT_FOUND ? std::optional<value>() : std::optional<value>(value(found));
    }

    friend class completion_queue;

    detail::handle<corering_tx, corering_tx_free> raw_;
    bool committed_ = false;
};

/// A part of a transaction: its writes are forgotten when this goes, unless it was kept. Its transaction must not go or move before.
class savepoint {
public:
    savepoint(corering_tx *tx, std::uint64_t number) noexcept : tx_(tx), number_(number) {}
    savepoint(savepoint &&other) noexcept : tx_(std::exchange(other.tx_, nullptr)), number_(other.number_) {}
    savepoint(const savepoint &) = delete;
    savepoint &operator=(const savepoint &) = delete;
    ~savepoint() { (void)give_up(); }

    /// The writes since belong to the transaction.
    result<done> try_keep() { return detail::check(corering_tx_release(std::exchange(tx_, nullptr), number_)); }
    /// The writes since are forgotten.
    result<done> try_rollback() { return detail::check(give_up()); }

    CORERING_THROWING(
        void keep() { (void)try_keep().value(); }
        void rollback() { (void)try_rollback().value(); })

private:
    status give_up() {
        if (tx_ == nullptr) {
            return CORERING_OK;
        }
        const status code = corering_tx_rollback_to(tx_, number_);
        return code < 0 ? code : corering_tx_release(std::exchange(tx_, nullptr), number_);
    }

    corering_tx *tx_;
    std::uint64_t number_;
};

inline result<savepoint> transaction::try_new_savepoint() {
    std::uint64_t number = 0;
    const status code = corering_tx_savepoint(raw_.get(), &number);
    if (code < 0) {
        return failure::last(code);
    }
    return savepoint(raw_.get(), number);
}

CORERING_THROWING(inline savepoint transaction::new_savepoint() { return try_new_savepoint().value(); })

} // namespace corering

#endif /* CORERING_TRANSACTIONS_HPP */
