/*
 * What programs build from locks, ready made: leader election, a read-write lock, a barrier. Include it after <corering.hpp>.
 *
 * Each is a few lines over a session's locks: the queue is fair, a dead holder is noticed by its session's ttl, and what must not be
 * written by a stale holder is guarded by its token.
 */
#ifndef CORERING_RECIPES_HPP
#define CORERING_RECIPES_HPP

#include <corering.hpp>

#ifndef CORERING_NO_EXCEPTIONS

namespace corering {

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
        db_.put(key_, who, guarded_by(won));
        return won;
    }
    /// The last who became leader; perhaps it has gone since.
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

} // namespace corering

#endif

#endif /* CORERING_RECIPES_HPP */
