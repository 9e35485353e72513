/*
 * What programs build from locks, ephemeral keys and watches, ready made: leader election, a read-write lock, barriers, group
 * membership, a service registry. Include it after <corering.hpp>.
 *
 * Each is a few lines: the queue of a lock is fair, a dead member is noticed by its session's ttl, what must not be written by a stale
 * holder is guarded by its token, and who watches misses nothing.
 */
#ifndef CORERING_RECIPES_HPP
#define CORERING_RECIPES_HPP

#include <corering.hpp>

#include <map>
#include <set>

#ifndef CORERING_NO_EXCEPTIONS

namespace corering {

/// What stands under a prefix, followed by a watch: `entries` is one state after the other, none left out. For one thread.
class mirror {
public:
    mirror(const db &database, std::string prefix) : db_(database), prefix_(std::move(prefix)) { begin(); }

    const std::map<std::string, std::string> &entries() const noexcept { return entries_; }

    /// Waits for the next change; false if there was none in that time.
    bool next(std::optional<milliseconds> wait = std::nullopt) {
        const auto until = std::chrono::steady_clock::now() + wait.value_or(milliseconds(0));
        for (;;) {
            std::optional<milliseconds> left;
            if (wait) {
                left = std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(until - std::chrono::steady_clock::now()));
            }
            auto event = watch_->try_next(left);
            if (!event && event.error().code == CORERING_ERROR_LAGGED) {
                watch_options options;
                options.prefix = prefix_;
                options.since = watch_->progress();
                watch_ = db_.watch_keys(options);
                continue;
            }
            if (!event && event.error().code == CORERING_ERROR_COMPACTED) {
                begin();
                return true;
            }
            const std::optional<watch_event> found = std::move(event).value();
            if (!found) {
                return false;
            }
            if (found->version <= seen_) {
                continue;
            }
            for (const change &one : found->changes) {
                if (one.value) {
                    entries_[one.key] = *one.value;
                } else {
                    entries_.erase(one.key);
                }
            }
            return true;
        }
    }

private:
    void begin() {
        watch_options options;
        options.prefix = prefix_;
        watch_ = db_.watch_keys(options);
        const corering::snapshot view = db_.new_snapshot();
        seen_ = view.version();
        range over;
        over.prefix = prefix_;
        over.snapshot = &view;
        entries_.clear();
        for (const entry &one : db_.scan(over)) {
            entries_.emplace(std::string(one.key), std::string(one.value));
        }
    }

    const db &db_;
    std::string prefix_;
    std::optional<corering::watch> watch_;
    std::uint64_t seen_ = 0;
    std::map<std::string, std::string> entries_;
};

/// One leader at a time among those who campaign under a name, in the order in which they came.
class election {
public:
    election(db &database, session &own, std::string name)
        : db_(database), session_(own), name_(std::move(name)), key_(name_ + "/leader") {}

    /// Waits to be the leader, and says who that is. The leadership ends with the lock that comes back, or with the session.
    /// Everything that only the leader may write is to be guarded by it.
    lock campaign(bytes who, std::optional<milliseconds> wait = std::nullopt) {
        lock_options options;
        options.wait = wait;
        lock won = session_.acquire(name_, options);
        // It goes with its session, and nobody else's goes with this one.
        db_.put(key_, who, ephemeral(session_, guarded_by(won)));
        return won;
    }
    /// Lets the next one lead; nobody is the leader until then.
    void resign(lock led) {
        db_.erase(key_, guarded_by(led));
        led.unlock();
    }
    /// Follows who leads: the one entry that it has, if it has one, is the leader.
    mirror observe() const { return mirror(db_, key_); }
    /// Who leads. Who let its lock go without `resign` is shown until the next one leads.
    std::optional<std::string> leader() const {
        const auto found = db_.get(key_);
        return found ? std::optional<std::string>(found->str()) : std::nullopt;
    }

private:
    db &db_;
    session &session_;
    std::string name_;
    std::string key_;
};

/// Many readers or one writer. No writer starves: readers who come after it wait.
class read_write_lock {
public:
    read_write_lock(session &own, std::string name) : session_(own), name_(std::move(name)) {}

    lock read(std::optional<milliseconds> wait = std::nullopt) {
        lock_options options = lock_options::shared();
        options.wait = wait;
        return session_.acquire(name_, options);
    }
    /// Who reads already calls `upgrade` of the lock that `read` gave.
    lock write(std::optional<milliseconds> wait = std::nullopt) {
        lock_options options;
        options.wait = wait;
        return session_.acquire(name_, options);
    }

private:
    session &session_;
    std::string name_;
};

/// A place at which everybody waits until its keeper, in whatever process, opens it, or dies.
class barrier {
public:
    explicit barrier(std::string name) : name_(std::move(name)) {}

    /// Closes it; it is closed until the lock that comes back goes.
    lock close(session &keeper) { return keeper.acquire(name_); }
    /// Waits until it is open. False if it was not in that time.
    bool pass(session &waiter, std::optional<milliseconds> wait = std::nullopt) {
        lock_options options = lock_options::shared();
        options.wait = wait;
        auto open = waiter.try_acquire(name_, options);
        if (!open && (open.error().code == CORERING_ERROR_LOCK_TIMEOUT || open.error().code == CORERING_ERROR_LOCK_HELD)) {
            return false;
        }
        (void)std::move(open).value();
        return true;
    }

private:
    std::string name_;
};

/// A place that `parties` enter together and leave together. One that dies has left.
class double_barrier {
public:
    double_barrier(db &database, session &own, const std::string &name, std::size_t parties)
        : db_(database), session_(own), prefix_(name + "/party/"), parties_(parties) {}

    /// Waits until all are here. False if they were not in that time; who gives up just when the last one comes may have been
    /// counted.
    bool enter(std::optional<milliseconds> wait = std::nullopt) {
        const auto until = deadline(wait);
        mirror_.emplace(db_, prefix_);
        own_ = db_.put_sequential(prefix_, "", ephemeral(session_));
        // Each state since then is seen, also the one in which the last of them came and none had left.
        while (mirror_->entries().count(own_) == 0 || mirror_->entries().size() < parties_) {
            if (!mirror_->next(left(wait, until))) {
                db_.erase(own_);
                mirror_.reset();
                return false;
            }
        }
        round_.clear();
        for (const auto &one : mirror_->entries()) {
            round_.insert(one.first);
        }
        return true;
    }
    /// Waits until all who entered together have left; false if they had not in that time. Only after `enter`.
    bool leave(std::optional<milliseconds> wait = std::nullopt) {
        const auto until = deadline(wait);
        db_.erase(own_);
        while (somebody_is_here()) {
            if (!mirror_->next(left(wait, until))) {
                mirror_.reset();
                return false;
            }
        }
        mirror_.reset();
        return true;
    }

private:
    using time = std::chrono::steady_clock::time_point;

    static time deadline(std::optional<milliseconds> wait) {
        return std::chrono::steady_clock::now() + wait.value_or(milliseconds(0));
    }
    static std::optional<milliseconds> left(std::optional<milliseconds> wait, time until) {
        if (!wait) {
            return std::nullopt;
        }
        return std::chrono::duration_cast<milliseconds>(until - std::chrono::steady_clock::now());
    }
    bool somebody_is_here() const {
        for (const std::string &one : round_) {
            if (mirror_->entries().count(one) != 0) {
                return true;
            }
        }
        return false;
    }

    db &db_;
    session &session_;
    std::string prefix_;
    std::size_t parties_;
    std::string own_;
    std::set<std::string> round_;
    std::optional<mirror> mirror_;
};

/// Who is here: members join with some bytes of theirs and are gone when they leave or their session ends.
class group {
public:
    group(db &database, const std::string &name) : db_(database), prefix_(name + "/member/") {}

    /// The member's key, for `leave`.
    std::string join(const session &own, bytes about = {}) { return db_.put_sequential(prefix_, about, ephemeral(own)); }
    /// False if it had gone before.
    bool leave(const std::string &member) { return db_.erase(member); }
    /// Follows the members, by key, in the order in which they joined, with what they said of themselves.
    mirror members() const { return mirror(db_, prefix_); }

private:
    db &db_;
    std::string prefix_;
};

/// Services and where their instances are, for as long as they live. A service's name has no slash.
class registry {
public:
    explicit registry(db &database, const std::string &name = "services") : db_(database), prefix_(name + "/") {}

    /// Says where an instance is; registered again, it has moved.
    void add(const session &own, const std::string &service, const std::string &instance, bytes at) {
        db_.put(prefix_ + service + "/" + instance, at, ephemeral(own));
    }
    /// False if it had gone before.
    bool withdraw(const std::string &service, const std::string &instance) {
        return db_.erase(prefix_ + service + "/" + instance);
    }
    /// Follows where a service's instances are; the keys are those of `key`.
    mirror discover(const std::string &service) const { return mirror(db_, prefix_ + service + "/"); }
    std::string key(const std::string &service, const std::string &instance) const {
        return prefix_ + service + "/" + instance;
    }

private:
    db &db_;
    std::string prefix_;
};

} // namespace corering

#endif

#endif /* CORERING_RECIPES_HPP */
