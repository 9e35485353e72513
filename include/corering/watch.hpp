/* Watches of corering.hpp. Include that, not this. */
#ifndef CORERING_WATCH_HPP
#define CORERING_WATCH_HPP

#ifndef CORERING_HPP
#error "include <corering.hpp>"
#endif

namespace corering {

/// What is watched: one key, or, by default, all keys that begin with `prefix`.
struct watch_options {
    std::uint32_t keyspace = 0;
    std::optional<bytes> key{};
    bytes prefix{};
    /// Everything after this version; none: from now on.
    std::optional<std::uint64_t> since{};
    /// Bytes of changes that may wait before the watch is cut off; 0: 32 MiB.
    std::uint64_t limit_bytes = 0;
};

/// What happened to a key.
struct change {
    std::string key;
    /// None: the key is gone.
    std::optional<std::string> value;
    std::uint64_t expires_at_ms;
    std::uint32_t keyspace;
};

/// All changes that one commit made to what is watched.
struct watch_event {
    std::uint64_t version;
    std::vector<change> changes;
};

/// Delivers every change once, in the order of commits; ended when it goes. For one thread at a time, but that another may call
/// `stop`. One that is not taken from is cut off (CORERING_ERROR_LAGGED), one from too far back is refused
/// (CORERING_ERROR_COMPACTED): then `progress` tells from where to watch again.
class watch {
public:
    explicit watch(corering_watch *raw) noexcept : raw_(raw) {}
    corering_watch *raw() const noexcept { return raw_.get(); }

    static result<watch> try_open(corering_db *db, const watch_options &options = {}) {
        corering_watch_options raw{};
        raw.struct_size = sizeof raw;
        raw.keyspace = options.keyspace;
        const bytes watched = options.key ? *options.key : options.prefix;
        raw.key = watched.data();
        raw.key_len = watched.size();
        raw.flags = (options.key ? 0u : CORERING_WATCH_PREFIX) | (options.since ? CORERING_WATCH_FROM : 0u);
        raw.from = options.since.value_or(0);
        raw.limit_bytes = options.limit_bytes;
        corering_watch *made = nullptr;
        const status code = corering_watch_new(db, &raw, &made);
        if (code < 0) {
            return failure::last(code);
        }
        return watch(made);
    }

    /// The next event, waited for that long; none: as long as it takes. Nothing: there was none in time.
    result<std::optional<watch_event>> try_next(std::optional<milliseconds> wait = std::nullopt) {
        std::uint64_t wait_ms = CORERING_WAIT_FOREVER;
        if (wait) {
            wait_ms = wait->count() > 0 ? static_cast<std::uint64_t>(wait->count()) : 0;
        }
        watch_event event{0, {}};
        for (;;) {
            corering_change raw;
            const status code = corering_watch_next(raw_.get(), wait_ms, &raw);
            if (code < 0) {
                return failure::last(code);
            }
            if (code == CORERING_END) {
                return std::optional<watch_event>();
            }
            event.version = raw.version;
            change made{std::string(detail::view(raw.key, raw.key_len)), std::nullopt, raw.expires_at_ms, raw.keyspace};
            if ((raw.flags & CORERING_CHANGE_DELETED) == 0) {
                made.value = std::string(detail::view(raw.value, raw.value_len));
            }
            event.changes.push_back(std::move(made));
            if ((raw.flags & CORERING_CHANGE_MORE) == 0) {
                return std::optional<watch_event>(std::move(event));
            }
        }
    }
    /// Everything up to this version was taken; a watch from it loses nothing.
    result<std::uint64_t> try_progress() const {
        std::uint64_t version = 0;
        const status code = corering_watch_progress(raw_.get(), &version);
        if (code < 0) {
            return failure::last(code);
        }
        return version;
    }
    /// Ends it; who waits in another thread is told CORERING_ERROR_CLOSED.
    result<done> try_stop() { return detail::check(corering_watch_free(raw_.release())); }

    CORERING_THROWING(
        std::optional<watch_event> next(std::optional<milliseconds> wait = std::nullopt) {
            return try_next(wait).value();
        }
        std::uint64_t progress() const { return try_progress().value(); }
        void stop() { (void)try_stop().value(); })

#ifndef CORERING_NO_EXCEPTIONS
    /// `for (const auto &event : watch)`: waits for each, and ends with its database.
    class events {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = watch_event;
        using difference_type = std::ptrdiff_t;
        using pointer = const watch_event *;
        using reference = const watch_event &;

        explicit events(watch *of) : of_(of) { step(); }
        reference operator*() const noexcept { return event_; }
        pointer operator->() const noexcept { return &event_; }
        events &operator++() {
            step();
            return *this;
        }
        bool operator==(const events &other) const noexcept { return of_ == other.of_; }
        bool operator!=(const events &other) const noexcept { return of_ != other.of_; }

    private:
        void step() {
            if (of_ == nullptr) {
                return;
            }
            auto next = of_->try_next();
            if (!next && next.error().code == CORERING_ERROR_CLOSED) {
                of_ = nullptr;
                return;
            }
            event_ = *std::move(next).value();
        }

        watch *of_;
        watch_event event_{0, {}};
    };
    events begin() { return events(this); }
    events end() { return events(nullptr); }
#endif

private:
    detail::handle<corering_watch, corering_watch_free> raw_;
};

} // namespace corering

#endif /* CORERING_WATCH_HPP */
