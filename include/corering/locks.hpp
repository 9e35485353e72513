/* Sessions and locks of corering.hpp. Include that, not this. */
#ifndef CORERING_LOCKS_HPP
#define CORERING_LOCKS_HPP

#ifndef CORERING_HPP
#error "include <corering.hpp>"
#endif

#include <algorithm>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

namespace corering {

/// How a lock is taken.
struct lock_options {
    std::uint32_t mode = CORERING_LOCK_EXCLUSIVE;
    /// Of a semaphore: how many there are in all, and how many to take.
    std::uint32_t permits = 0;
    std::uint32_t units = 0;
    /// None: as long as the session lives; zero: not at all.
    std::optional<milliseconds> wait{};
    /// It is lost after so long, unless the program renews it. Zero: as long as the session lives.
    milliseconds lease{0};
    /// As `lease`, which it goes before; but the thread that keeps the session alive renews the lock, three times in each ttl, until it
    /// is given back.
    milliseconds ttl{0};
    corering::durability durability{};

    static lock_options shared() {
        lock_options made;
        made.mode = CORERING_LOCK_SHARED;
        return made;
    }
    static lock_options semaphore(std::uint32_t permits, std::uint32_t units = 1) {
        lock_options made;
        made.mode = CORERING_LOCK_SEMAPHORE;
        made.permits = permits;
        made.units = units;
        return made;
    }
    lock_options waiting(milliseconds longest) const {
        lock_options made = *this;
        made.wait = longest;
        return made;
    }

    corering_lock_options raw() const {
        corering_lock_options raw{};
        raw.struct_size = sizeof raw;
        raw.mode = mode;
        raw.permits = permits;
        raw.units = units;
        raw.durability = durability.level;
        raw.interval_ms = durability.interval_ms;
        raw.wait_ms = wait ? positive(*wait) : CORERING_WAIT_FOREVER;
        raw.lease_ms = positive(ttl.count() > 0 ? ttl : lease);
        return raw;
    }

private:
    static std::uint64_t positive(milliseconds span) {
        return span.count() > 0 ? static_cast<std::uint64_t>(span.count()) : 0;
    }
};

namespace detail {

/* What the thread of a session renews besides the session. Its locks know it as well: they may outlive the session's object. */
class roster {
public:
    using clock = std::chrono::steady_clock;

    /* The number by which the lock is known here. */
    std::uint64_t hold(bytes name, std::uint64_t token, milliseconds ttl) {
        const std::lock_guard<std::mutex> held(mutex_);
        const milliseconds every = std::max(ttl / 3, milliseconds(1));
        locks_.emplace(++last_, kept{std::string(name), token, every, clock::now() + every, false, CORERING_OK});
        changed_.notify_all();
        return last_;
    }
    void let_go(std::uint64_t number) {
        const std::lock_guard<std::mutex> held(mutex_);
        locks_.erase(number);
    }
    /* While a lock is upgraded the engine may know another token than we do. */
    void upgrading(std::uint64_t number) {
        const std::lock_guard<std::mutex> held(mutex_);
        const auto found = locks_.find(number);
        if (found != locks_.end()) {
            found->second.upgrading = true;
        }
    }
    void upgraded(std::uint64_t number, std::uint64_t token, status lost) {
        const std::lock_guard<std::mutex> held(mutex_);
        const auto found = locks_.find(number);
        if (found != locks_.end()) {
            found->second.upgrading = false;
            found->second.token = token;
            found->second.lost = lost;
        }
    }
    status lost(std::uint64_t number) const {
        const std::lock_guard<std::mutex> held(mutex_);
        const auto found = locks_.find(number);
        return found != locks_.end() && found->second.lost != CORERING_OK ? found->second.lost : lost_;
    }
    void stop() {
        const std::lock_guard<std::mutex> held(mutex_);
        stopped_ = true;
        changed_.notify_all();
    }
    /* Until it is stopped, or the session cannot be kept alive. */
    void run(corering_db *db, const corering_session &session, milliseconds every) {
        auto due = clock::now() + every;
        std::unique_lock<std::mutex> held(mutex_);
        while (!stopped_) {
            auto next = due;
            for (const auto &one : locks_) {
                next = one.second.lost == CORERING_OK ? std::min(next, one.second.due) : next;
            }
            const auto now = clock::now();
            if (now < next) {
                changed_.wait_until(held, next);
                continue;
            }
            if (now >= due) {
                held.unlock();
                const status code = corering_session_keep_alive(db, &session);
                held.lock();
                if (code < 0 && !corering_status_is_retryable(code)) {
                    lost_ = code;
                    return;
                }
                due = now + every;
            }
            renew(held, now, db, session);
        }
    }

private:
    struct kept {
        std::string name;
        std::uint64_t token;
        milliseconds every;
        clock::time_point due;
        bool upgrading;
        status lost;
    };

    void renew(std::unique_lock<std::mutex> &held, clock::time_point now, corering_db *db,
               const corering_session &session) {
        std::vector<std::pair<std::uint64_t, kept>> due;
        for (auto &one : locks_) {
            if (one.second.lost == CORERING_OK && one.second.due <= now) {
                one.second.due = now + one.second.every;
                due.push_back(one);
            }
        }
        for (const auto &one : due) {
            const kept &then = one.second;
            held.unlock();
            const status code =
                corering_lock_renew(db, &session, then.name.data(), then.name.size(), then.token, nullptr);
            held.lock();
            if (code < 0 && !corering_status_is_retryable(code)) {
                /* Unless it was given back meanwhile, or an upgrade gave it another token. */
                const auto found = locks_.find(one.first);
                if (found != locks_.end() && found->second.token == then.token && !found->second.upgrading) {
                    found->second.lost = code;
                }
            }
        }
    }

    mutable std::mutex mutex_{};
    std::condition_variable changed_{};
    std::map<std::uint64_t, kept> locks_{};
    std::uint64_t last_ = 0;
    bool stopped_ = false;
    status lost_ = CORERING_OK;
};

} // namespace detail

/// What remains after a lock was given back.
struct released {
    /// How often the session still holds it.
    std::uint32_t count;
    /// The lease had run out before: others may have held the lock since.
    bool expired;
};

/// A lock that is held, given back when this goes. Its token can guard writes: `db.put(k, v, guarded_by(lock))`.
class lock {
public:
    /// With a roster, which is a session's own, a lock that has a ttl is renewed.
    lock(corering_db *db, corering_session session, bytes name, corering_grant grant, const lock_options &options = {},
         std::shared_ptr<detail::roster> roster = nullptr)
        : db_(db), session_(session), name_(name), grant_(grant), options_(options), roster_(std::move(roster)) {
        if (roster_ && options_.ttl.count() > 0) {
            number_ = roster_->hold(name, grant.token, options_.ttl);
        }
    }
    lock(lock &&other) noexcept
        : db_(std::exchange(other.db_, nullptr)), session_(other.session_), name_(std::move(other.name_)),
          grant_(other.grant_), options_(other.options_), roster_(std::move(other.roster_)), number_(other.number_) {}
    lock &operator=(lock &&other) noexcept {
        if (this != &other) {
            give_back();
            db_ = std::exchange(other.db_, nullptr);
            session_ = other.session_;
            name_ = std::move(other.name_);
            grant_ = other.grant_;
            options_ = other.options_;
            roster_ = std::move(other.roster_);
            number_ = other.number_;
        }
        return *this;
    }
    lock(const lock &) = delete;
    lock &operator=(const lock &) = delete;
    ~lock() { give_back(); }

    /// It was neither given back by this object, nor moved from.
    bool owns() const noexcept { return db_ != nullptr; }
    const std::string &name() const noexcept { return name_; }
    /// Larger than those of all grants before it.
    std::uint64_t token() const noexcept { return grant_.token; }
    /// How often the session held it when it was granted to this object.
    std::uint32_t count() const noexcept { return grant_.count; }
    /// Why it, or its session, could not be kept alive any more; OK while it could. Known only some time after the loss.
    status lost() const noexcept { return roster_ ? roster_->lost(number_) : CORERING_OK; }
    /// For `write_options::guards`. It borrows the name.
    corering_guard guard() const noexcept { return corering_guard{name_.data(), name_.size(), grant_.token}; }

    /// Gives it back now, as durably as it was taken, and says how that went. Whatever the outcome, it is not tried again.
    result<released> try_unlock() {
        released left{};
        let_go();
        const auto raw = options_.raw();
        const status code = corering_lock_release(std::exchange(db_, nullptr), &session_, name_.data(), name_.size(),
                                                  grant_.token, &raw, &left.count, &left.expired);
        if (code < 0) {
            return failure::last(code);
        }
        return left;
    }
    /// The lease begins anew; that of a lock with a ttl does by itself.
    result<done> try_renew() {
        return detail::check(
            corering_lock_renew(db_, &session_, name_.data(), name_.size(), grant_.token, nullptr));
    }
    /// From exclusive to shared, without letting go.
    result<done> try_downgrade() {
        const auto raw = options_.raw();
        return detail::check(
            corering_lock_downgrade(db_, &session_, name_.data(), name_.size(), grant_.token, &raw, nullptr));
    }
    /// From shared to exclusive: waits for the other holders, before all who wait, and has a new token then. While it waits it keeps
    /// its share. Two who upgrade at once are a deadlock; one of them is told so and should let go. CORERING_ERROR_NOT_HELD: the share
    /// was lost, others may have held the lock since, and it is not held now.
    result<done> try_upgrade(std::optional<milliseconds> wait = std::nullopt) {
        lock_options options = options_;
        options.mode = CORERING_LOCK_EXCLUSIVE;
        options.wait = wait;
        const auto raw = options.raw();
        corering_grant upgraded{};
        if (roster_) {
            roster_->upgrading(number_);
        }
        status code = corering_lock_acquire(db_, &session_, name_.data(), name_.size(), &raw, &upgraded);
        if (roster_) {
            const bool gone = code >= 0 && upgraded.count < 2;
            roster_->upgraded(number_, code >= 0 ? upgraded.token : grant_.token,
                              gone ? status(CORERING_ERROR_NOT_HELD) : status(CORERING_OK));
        }
        if (code >= 0) {
            // The share and the grant are one hold, taken twice. A grant that is alone is given back whole.
            grant_.token = upgraded.token;
            code = corering_lock_release(db_, &session_, name_.data(), name_.size(), grant_.token, &raw,
                                         &grant_.count, nullptr);
            if (code >= 0 && upgraded.count < 2) {
                return failure{CORERING_ERROR_NOT_HELD,
                               "the share was lost before it could be upgraded, and the lock is not held; take it anew"};
            }
        }
        return detail::check(code);
    }
    CORERING_THROWING(
        void upgrade(std::optional<milliseconds> wait = std::nullopt) { (void)try_upgrade(wait).value(); }
        released unlock() { return try_unlock().value(); }
        void renew() { (void)try_renew().value(); }
        void downgrade() { (void)try_downgrade().value(); })

private:
    void give_back() noexcept {
        if (db_ != nullptr) {
            let_go();
            const auto raw = options_.raw();
            (void)corering_lock_release(db_, &session_, name_.data(), name_.size(), grant_.token, &raw, nullptr,
                                        nullptr);
        }
    }

    void let_go() noexcept {
        if (roster_) {
            roster_->let_go(number_);
        }
    }

    corering_db *db_;
    corering_session session_;
    std::string name_;
    corering_grant grant_;
    /* As it was taken: it is changed and given back alike. */
    lock_options options_;
    /* None: nobody renews it. */
    std::shared_ptr<detail::roster> roster_;
    std::uint64_t number_ = 0;
};

/// A write that takes effect only while `held` is. It borrows the lock's name.
inline write_options guarded_by(const lock &held, write_options options = {}) {
    options.guards.push_back(held.guard());
    return options;
}

/// A lock that is held or waited for.
struct lock_entry {
    std::string name;
    /// How many hold it, and how many wait for it.
    std::uint64_t holders;
    std::uint64_t waiters;
};

/// A hold that ended without being released: its lease ran out, or its session ended.
struct loss {
    std::string name;
    /// With which nothing can be written any more.
    std::uint64_t token;
};

/// How a session is made.
struct session_options {
    /// It ends when it was not kept alive for so long.
    milliseconds ttl{10000};
    /// For people who look at locks.
    std::string label{};
    /// A thread of the session's own keeps it alive, three times in each ttl, and its locks that have a ttl. Without it nobody does.
    bool keep_alive = true;
};

/// Who holds locks. It ends when this goes, with all that it holds; `detach` lets it live on.
class session {
public:
    static result<session> try_open(corering_db *db, const session_options &options = {}) {
        corering_session_options raw{};
        raw.struct_size = sizeof raw;
        raw.ttl_ms = static_cast<std::uint64_t>(options.ttl.count() > 0 ? options.ttl.count() : 0);
        raw.label = options.label.data();
        raw.label_len = options.label.size();
        corering_session key{};
        const status code = corering_session_open(db, &raw, &key);
        if (code < 0) {
            return failure::last(code);
        }
        return session(db, key, options);
    }
    /// Goes on with a session that `detach` gave, perhaps in another process. The ttl tells the thread how often.
    static result<session> try_attach(corering_db *db, corering_session key, const session_options &options = {}) {
        const status code = corering_session_keep_alive(db, &key);
        if (code < 0) {
            return failure::last(code);
        }
        return session(db, key, options);
    }

    session(session &&) noexcept = default;
    session &operator=(session &&other) noexcept {
        if (this != &other) {
            end_quietly();
            keeper_ = std::move(other.keeper_);
        }
        return *this;
    }
    session(const session &) = delete;
    session &operator=(const session &) = delete;
    ~session() { end_quietly(); }

    /// Enough to go on with the session elsewhere. Only of a session that has not ended.
    const corering_session &key() const noexcept { return keeper_->key; }
    /// Why its thread could not keep it alive any more; OK while it could.
    status lost() const noexcept { return keeper_->roster->lost(0); }
    /// The next hold that the session lost, waited for that long; none: as long as it takes. Nothing: there was none in time. Losses
    /// are kept from the first call of this, or of `completion_queue::lost`, on. Once the session has ended, all its holds have, and
    /// the answer is CORERING_ERROR_NO_SESSION.
    result<std::optional<loss>> try_next_loss(std::optional<milliseconds> wait = std::nullopt) const {
        std::uint64_t wait_ms = CORERING_WAIT_FOREVER;
        if (wait) {
            wait_ms = wait->count() > 0 ? static_cast<std::uint64_t>(wait->count()) : 0;
        }
        corering_loss raw;
        const status code = corering_session_lost(keeper_->db, &keeper_->key, wait_ms, &raw);
        if (code < 0) {
            return failure::last(code);
        }
        if (code == CORERING_END) {
            return std::optional<loss>();
        }
        return std::optional<loss>(loss{std::string(detail::view(raw.name, raw.name_len)), raw.token});
    }
    result<done> try_keep_alive() { return detail::check(corering_session_keep_alive(keeper_->db, &keeper_->key)); }
    /// Ends it, with all its holds and waits. The object is empty afterwards, whatever the outcome.
    result<done> try_end() {
        const std::unique_ptr<keeper> last = std::move(keeper_);
        last->stop();
        return detail::check(corering_session_end(last->db, &last->key));
    }
    /// Lets go of it without ending it; it lives on for its ttl, and so do its locks that have one.
    corering_session detach() {
        const std::unique_ptr<keeper> last = std::move(keeper_);
        last->stop();
        return last->key;
    }

    /// Takes a lock, or takes it once more.
    result<lock> try_acquire(bytes name, const lock_options &options = {}) {
        const auto raw = options.raw();
        corering_grant grant{};
        const status code =
            corering_lock_acquire(keeper_->db, &keeper_->key, name.data(), name.size(), &raw, &grant);
        if (code < 0) {
            return failure::last(code);
        }
        return lock(keeper_->db, keeper_->key, name, grant, options, keeper_->roster);
    }
    /// The lock whose grant was a completion, with its token in `version()` and its count in `integer()`; the options are those
    /// that were given to `completion_queue::acquire`.
    lock granted(bytes name, std::uint64_t token, std::uint32_t count = 1, const lock_options &options = {}) const {
        return lock(keeper_->db, keeper_->key, name, corering_grant{token, count, 0}, options, keeper_->roster);
    }
    CORERING_THROWING(
        static session open(corering_db *db, const session_options &options = {}) {
            return try_open(db, options).value();
        }
        static session attach(corering_db *db, corering_session key, const session_options &options = {}) {
            return try_attach(db, key, options).value();
        }
        void keep_alive() { (void)try_keep_alive().value(); }
        std::optional<loss> next_loss(std::optional<milliseconds> wait = std::nullopt) const {
            return try_next_loss(wait).value();
        }
        void end() { (void)try_end().value(); }
        lock acquire(bytes name, const lock_options &options = {}) { return try_acquire(name, options).value(); })

private:
    /* Stays in its place when the session moves. */
    struct keeper {
        corering_db *db;
        corering_session key;
        std::shared_ptr<detail::roster> roster = std::make_shared<detail::roster>();
        std::thread thread{};

        keeper(corering_db *of, corering_session session) : db(of), key(session) {}
        void stop() {
            roster->stop();
            if (thread.joinable()) {
                thread.join();
            }
        }
    };

    session(corering_db *db, corering_session key, const session_options &options)
        : keeper_(std::make_unique<keeper>(db, key)) {
        if (options.keep_alive) {
            keeper *const own = keeper_.get();
            const milliseconds every = std::max(options.ttl / 3, milliseconds(1));
            keeper_->thread = std::thread([own, every] { own->roster->run(own->db, own->key, every); });
        }
    }
    void end_quietly() noexcept {
        if (keeper_) {
            keeper_->stop();
            (void)corering_session_end(keeper_->db, &keeper_->key);
            keeper_.reset();
        }
    }

    std::unique_ptr<keeper> keeper_;
};

/// Options of a write whose keys go when the session ends.
inline write_options ephemeral(const session &own, write_options options = {}) {
    options.session = own.key();
    return options;
}

} // namespace corering

#endif /* CORERING_LOCKS_HPP */
