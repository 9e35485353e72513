/*
 * Corering for C++17: RAII over corering.h, header only.
 *
 * Every call comes twice. `try_put(...)` returns a `corering::result<T>` and throws nothing of its own; `put(...)`
 * returns the T or throws `corering::error`. With exceptions switched off (or CORERING_NO_EXCEPTIONS defined) only the
 * first family is there.
 *
 * Objects move and do not copy; their destructors free what they hold. A database may go before its batches, snapshots,
 * iterators and queues: they then answer `closed`. Threads are as in corering.h: `db`, `snapshot` and
 * `completion_queue` for any number at once, `batch`, `iterator` and `transaction` for one at a time; `session` for any number, but its end;
 * `lock` for one.
 */
#ifndef CORERING_HPP
#define CORERING_HPP

#include "corering.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if !defined(CORERING_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define CORERING_NO_EXCEPTIONS 1
#endif

#ifndef CORERING_NO_EXCEPTIONS
#include <exception>
#endif

namespace corering {

using bytes = std::string_view;
using status = corering_status;

/* ---- errors ---- */

/// What went wrong: a status for the program, a text for people.
struct failure {
    status code = CORERING_OK;
    std::string message;

    /// Nothing was done, and the same call may succeed later.
    bool retryable() const noexcept { return corering_status_is_retryable(code); }
    /// Nothing was done, for reasons of others' work; a full disk is retryable, too, but not by trying at once.
    bool lost_a_race() const noexcept { return code == CORERING_ERROR_CONFLICT || code == CORERING_ERROR_BUSY; }
    /// The write was not acknowledged, yet may be found later.
    bool may_have_committed() const noexcept { return corering_status_may_have_committed(code); }

    /// The failure that this thread's last call answered with.
    static failure last(status code) {
        std::size_t len = 0;
        std::string text(256, '\0');
        if (corering_error_message(&text[0], text.size(), &len) == CORERING_BUFFER_TOO_SMALL) {
            text.resize(len + 1);
            (void)corering_error_message(&text[0], text.size(), &len);
        }
        text.resize(len < text.size() ? len : text.size());
        return failure{code, std::move(text)};
    }
};

#ifndef CORERING_NO_EXCEPTIONS
/// A failure, thrown.
class error : public std::exception {
public:
    explicit error(failure what) : what_(std::move(what)) {}
    const char *what() const noexcept override { return what_.message.c_str(); }
    status code() const noexcept { return what_.code; }
    bool retryable() const noexcept { return what_.retryable(); }
    bool lost_a_race() const noexcept { return what_.lost_a_race(); }
    bool may_have_committed() const noexcept { return what_.may_have_committed(); }

private:
    failure what_;
};
#endif

/// A value of type T, or why there is none.
template <class T>
class [[nodiscard]] result {
public:
    result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    result(failure why) : state_(std::in_place_index<1>, std::move(why)) {}

    bool ok() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    /// Only if ok().
    T &operator*() noexcept { return *std::get_if<0>(&state_); }
    T *operator->() noexcept { return std::get_if<0>(&state_); }
    /// Only if not ok().
    const corering::failure &error() const noexcept { return *std::get_if<1>(&state_); }
#ifndef CORERING_NO_EXCEPTIONS
    /// The value; throws `corering::error` if there is none.
    T value() && {
        if (!ok()) {
            throw corering::error(std::move(*std::get_if<1>(&state_)));
        }
        return std::move(*std::get_if<0>(&state_));
    }
#endif

private:
    std::variant<T, corering::failure> state_;
};

/// Nothing, or what went wrong.
struct done {};

namespace detail {

inline result<done> check(status code) {
    if (code < 0) {
        return failure::last(code);
    }
    return done{};
}

/// A handle that is freed when it goes.
template <class T, corering_status (*Free)(T *)>
class handle {
public:
    handle() noexcept = default;
    explicit handle(T *raw) noexcept : raw_(raw) {}
    handle(handle &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
    handle &operator=(handle &&other) noexcept {
        if (this != &other) {
            (void)Free(std::exchange(raw_, std::exchange(other.raw_, nullptr)));
        }
        return *this;
    }
    handle(const handle &) = delete;
    handle &operator=(const handle &) = delete;
    ~handle() { (void)Free(raw_); }

    T *get() const noexcept { return raw_; }
    T *release() noexcept { return std::exchange(raw_, nullptr); }

private:
    T *raw_ = nullptr;
};

inline std::uint64_t unix_ms(std::chrono::system_clock::time_point at) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count();
    return ms > 0 ? static_cast<std::uint64_t>(ms) : 1;
}

inline bytes view(const std::uint8_t *data, std::size_t len) noexcept {
    return bytes(reinterpret_cast<const char *>(data), len);
}

} // namespace detail

/* ---- settings ---- */

using std::chrono::milliseconds;

/// When a write is answered; see corering_durability.
struct durability {
    std::uint32_t level = CORERING_DURABILITY_DEFAULT;
    std::uint32_t interval_ms = 0;

    static durability sync() noexcept { return {CORERING_DURABILITY_SYNC, 0}; }
    static durability interval(milliseconds within) noexcept {
        return {CORERING_DURABILITY_INTERVAL, static_cast<std::uint32_t>(within.count())};
    }
    static durability none() noexcept { return {CORERING_DURABILITY_NONE, 0}; }
};

/// How a database is opened; zero means the engine's default.
struct open_options {
    std::uint32_t shards = 0;
    corering::durability durability = corering::durability::sync();
    bool must_exist = false;
    bool must_not_exist = false;
    bool pin_threads = false;
    std::uint64_t memtable_bytes = 0;
    std::uint64_t segment_bytes = 0;
    std::uint32_t inbox_len = 0;
    /// Bytes of each shard's log that are kept beyond what recovery needs, for watches from further back.
    std::uint64_t history_bytes = 0;
};

/// How a write is done.
struct write_options {
    std::uint32_t keyspace = 0;
    corering::durability durability{};
    /// The value ceases to exist so long from now; zero: never.
    milliseconds ttl{0};
    /// The value ceases to exist then. Not together with ttl.
    std::optional<std::chrono::system_clock::time_point> expires_at{};
    /// The write takes effect only if all of these hold at that moment, else it fails as fenced; see `guarded_by`.
    std::vector<corering_guard> guards{};
    /// Keys that are put go when this session ends; none: they stay. See `ephemeral`.
    std::optional<corering_session> session{};

    /// It borrows the guards and the session.
    corering_write_options raw() const {
        corering_write_options raw{};
        raw.struct_size = sizeof raw;
        raw.keyspace = keyspace;
        raw.durability = durability.level;
        raw.interval_ms = durability.interval_ms;
        raw.ttl_ms = ttl.count() > 0 ? static_cast<std::uint64_t>(ttl.count()) : 0;
        raw.expires_at_ms = expires_at ? detail::unix_ms(*expires_at) : 0;
        raw.guards = guards.data();
        raw.guards_len = guards.size();
        raw.session = session ? &*session : nullptr;
        return raw;
    }
};

class snapshot;

/// How a read is done.
struct read_options {
    std::uint32_t keyspace = 0;
    /// Read as of this snapshot; none: the latest state.
    const corering::snapshot *snapshot = nullptr;

    inline corering_read_options raw() const;
};

/// What a scan runs over.
struct range {
    std::uint32_t keyspace = 0;
    std::optional<bytes> lower{};
    std::optional<bytes> upper{};
    std::optional<bytes> prefix{};
    bool lower_exclusive = false;
    bool upper_inclusive = false;
    bool reverse = false;
    /// At most so many entries; 0: all.
    std::uint64_t limit = 0;
    const corering::snapshot *snapshot = nullptr;

    inline corering_scan_options raw() const;
};

/// What a conditional write asks of what is there. It borrows the bytes of `equal`.
class condition {
public:
    static condition absent() { return condition(CORERING_IF_ABSENT); }
    static condition present() { return condition(CORERING_IF_PRESENT); }
    static condition equal(bytes expected) {
        condition made(CORERING_IF_EQUAL);
        made.raw_.expected = expected.data();
        made.raw_.expected_len = expected.size();
        return made;
    }
    static condition version(std::uint64_t version) {
        condition made(CORERING_IF_VERSION);
        made.raw_.version = version;
        return made;
    }
    const corering_condition &raw() const noexcept { return raw_; }

private:
    explicit condition(std::uint32_t kind) { raw_.kind = kind; }
    corering_condition raw_{};
};

/* ---- what comes back ---- */

/// A value in memory of the library, freed when it goes.
class value {
public:
    explicit value(corering_value raw) noexcept : raw_(raw) {}
    value(value &&other) noexcept : raw_(std::exchange(other.raw_, corering_value{})) {}
    value &operator=(value &&other) noexcept {
        std::swap(raw_, other.raw_);
        return *this;
    }
    value(const value &) = delete;
    value &operator=(const value &) = delete;
    ~value() { (void)corering_value_free(&raw_); }

    bytes view() const noexcept { return detail::view(raw_.data, raw_.len); }
    std::string str() const { return std::string(view()); }
    std::uint64_t version() const noexcept { return raw_.version; }
    /// Milliseconds since 1970 at which it ceases to exist; 0: never.
    std::uint64_t expires_at_ms() const noexcept { return raw_.expires_at_ms; }

private:
    corering_value raw_;
};

/// What became of a conditional write: the commit, or what stands in its way (0: nothing is there).
struct put_if_outcome {
    bool done;
    std::uint64_t version;
    explicit operator bool() const noexcept { return done; }
};

/// A key and its value, in memory of the iterator, until its next step.
struct entry {
    bytes key;
    bytes value;
    std::uint64_t version;
    std::uint64_t expires_at_ms;
};

/// The outcome of one operation of a queue.
class completion {
public:
    explicit completion(const corering_result &raw) noexcept : raw_(raw), value_(raw.value) {}

    std::uint64_t user_data() const noexcept { return raw_.user_data; }
    status code() const noexcept { return raw_.status; }
    bool ok() const noexcept { return raw_.status >= 0; }
    std::uint64_t version() const noexcept { return raw_.version; }
    std::int64_t integer() const noexcept { return raw_.integer; }
    /// Of a get that found something.
    bytes value() const noexcept { return ok() ? value_.view() : bytes(); }
    /// Only if not ok().
    failure error() const { return failure{raw_.status, value_.str()}; }

private:
    corering_result raw_;
    corering::value value_;
};

} // namespace corering

#include "corering/objects.hpp"

#endif /* CORERING_HPP */
