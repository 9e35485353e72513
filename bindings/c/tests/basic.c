/* Every function of corering.h as it is meant to be used. Usage: basic DIR */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <time.h>

static bool equals(const corering_value *value, const char *text)
{
    return value->len == strlen(text) && memcmp(value->data, text, value->len) == 0;
}

static void expect(corering_db *db, const char *key, const char *wanted)
{
    corering_value value;
    CHECK_OK(corering_get(db, key, strlen(key), NULL, &value));
    CHECK(equals(&value, wanted));
    CHECK_OK(corering_value_free(&value));
}

static void sleep_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&time, NULL);
}

static void test_versions(void)
{
    CHECK(corering_abi_version() == CORERING_ABI_VERSION);
    CHECK(strchr(corering_version(), '.') != NULL);
    CHECK(strcmp(corering_status_name(CORERING_ERROR_BUSY), "busy") == 0);
    CHECK(strcmp(corering_status_name(-9999), "unknown") == 0);
    CHECK(corering_status_is_retryable(CORERING_ERROR_NO_SPACE) && !corering_status_is_retryable(CORERING_ERROR_IO));
    CHECK(corering_status_may_have_committed(CORERING_ERROR_POISONED) && !corering_status_may_have_committed(CORERING_OK));
    CHECK(corering_status_may_have_committed(-9999));
}

static void test_single_keys(corering_db *db)
{
    corering_condition condition;
    uint64_t first = 0, second = 0, seen = 0, version = 0;
    int64_t number = 0;
    bool existed = false;
    char buffer[16];
    size_t len = 0;

    CHECK_OK(corering_put(db, TEXT("k"), TEXT("one"), NULL, &first));
    CHECK_OK(corering_put(db, TEXT("k"), TEXT("two"), NULL, &second));
    CHECK(first > 0 && second > first);
    expect(db, "k", "two");
    CHECK_OK(corering_get_into(db, TEXT("k"), NULL, buffer, sizeof buffer, &len, &seen));
    CHECK(len == 3 && memcmp(buffer, "two", 3) == 0 && seen == second);
    CHECK_STATUS(CORERING_BUFFER_TOO_SMALL, corering_get_into(db, TEXT("k"), NULL, buffer, 2, &len, NULL));
    CHECK(len == 3);
    CHECK_STATUS(CORERING_NOT_FOUND, corering_get_into(db, TEXT("none"), NULL, buffer, sizeof buffer, &len, NULL));

    memset(&condition, 0, sizeof condition);
    condition.kind = CORERING_IF_ABSENT;
    CHECK_STATUS(CORERING_REFUSED, corering_put_if(db, TEXT("k"), TEXT("x"), &condition, NULL, &version));
    CHECK(version == second);
    condition.kind = CORERING_IF_PRESENT;
    CHECK_STATUS(CORERING_REFUSED, corering_put_if(db, TEXT("none"), TEXT("x"), &condition, NULL, &version));
    CHECK(version == 0);
    condition.kind = CORERING_IF_EQUAL;
    condition.expected = "two";
    condition.expected_len = 3;
    CHECK_OK(corering_put_if(db, TEXT("k"), TEXT("three"), &condition, NULL, &version));
    CHECK_STATUS(CORERING_REFUSED, corering_put_if(db, TEXT("k"), TEXT("three"), &condition, NULL, NULL));
    condition.kind = CORERING_IF_VERSION;
    condition.version = version;
    CHECK_OK(corering_put_if(db, TEXT("k"), TEXT("four"), &condition, NULL, NULL));
    CHECK_STATUS(CORERING_REFUSED, corering_put_if(db, TEXT("k"), TEXT("five"), &condition, NULL, NULL));
    condition.kind = CORERING_IF_ALWAYS;
    CHECK_OK(corering_put_if(db, TEXT("k"), TEXT("five"), &condition, NULL, NULL));
    expect(db, "k", "five");

    CHECK_OK(corering_delete(db, TEXT("k"), NULL, &existed));
    CHECK(existed);
    CHECK_OK(corering_delete(db, TEXT("k"), NULL, &existed));
    CHECK(!existed);

    CHECK_OK(corering_incr(db, TEXT("n"), 5, NULL, &number));
    CHECK_OK(corering_incr(db, TEXT("n"), -7, NULL, &number));
    CHECK(number == -2);
    CHECK_STATUS(CORERING_ERROR_OVERFLOW, corering_incr(db, TEXT("n"), INT64_MIN, NULL, &number));
    CHECK_OK(corering_put(db, TEXT("text"), TEXT("abc"), NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_NOT_AN_INTEGER, corering_incr(db, TEXT("text"), 1, NULL, NULL));
}

static void test_options_of_writes(corering_db *db)
{
    corering_write_options options;
    corering_read_options read;
    corering_value value;
    const uint64_t now = (uint64_t)time(NULL) * 1000;

    CHECK_OK(corering_write_options_init(&options, sizeof options));
    options.ttl_ms = 40;
    CHECK_OK(corering_put(db, TEXT("short"), TEXT("lived"), &options, NULL));
    expect(db, "short", "lived");
    sleep_ms(70);
    CHECK_STATUS(CORERING_NOT_FOUND, corering_get(db, TEXT("short"), NULL, &value));
    options.ttl_ms = 0;
    options.expires_at_ms = now + 3600000;
    CHECK_OK(corering_put(db, TEXT("dated"), TEXT("1"), &options, NULL));
    /* An increment keeps it. */
    CHECK_OK(corering_incr(db, TEXT("dated"), 1, NULL, NULL));
    CHECK_OK(corering_get(db, TEXT("dated"), NULL, &value));
    CHECK(value.expires_at_ms == now + 3600000 && equals(&value, "2"));
    CHECK_OK(corering_value_free(&value));
    options.expires_at_ms = 1;
    CHECK_OK(corering_put(db, TEXT("dated"), TEXT("long ago"), &options, NULL));
    CHECK_STATUS(CORERING_NOT_FOUND, corering_get(db, TEXT("dated"), NULL, &value));

    CHECK_OK(corering_write_options_init(&options, sizeof options));
    options.durability = CORERING_DURABILITY_NONE;
    CHECK_OK(corering_put(db, TEXT("soft"), TEXT("v"), &options, NULL));
    options.durability = CORERING_DURABILITY_INTERVAL;
    options.interval_ms = 5;
    CHECK_OK(corering_put(db, TEXT("soft"), TEXT("w"), &options, NULL));
    CHECK_OK(corering_sync(db));
    expect(db, "soft", "w");

    CHECK_OK(corering_write_options_init(&options, sizeof options));
    options.keyspace = 65279;
    CHECK_OK(corering_put(db, TEXT("soft"), TEXT("elsewhere"), &options, NULL));
    CHECK_OK(corering_read_options_init(&read, sizeof read));
    read.keyspace = 65279;
    CHECK_OK(corering_get(db, TEXT("soft"), &read, &value));
    CHECK(equals(&value, "elsewhere"));
    CHECK_OK(corering_value_free(&value));
    expect(db, "soft", "w");
}

static void test_multi_get(corering_db *db)
{
    corering_bytes keys[300];
    corering_value values[300];
    char names[300][16];
    size_t n;
    for (n = 0; n < 300; n++) {
        keys[n].data = names[n];
        keys[n].len = (size_t)snprintf(names[n], sizeof names[n], "multi%zu", n);
        if (n % 3 != 0) {
            CHECK_OK(corering_put(db, keys[n].data, keys[n].len, keys[n].data, keys[n].len, NULL, NULL));
        }
    }
    CHECK_OK(corering_multi_get(db, keys, 300, NULL, values));
    for (n = 0; n < 300; n++) {
        CHECK(n % 3 == 0 ? values[n].data == NULL : equals(&values[n], names[n]));
        CHECK_OK(corering_value_free(&values[n]));
    }
}

static void test_batch(corering_db *db)
{
    corering_batch *batch;
    uint64_t version = 0;
    size_t count = 0;
    int n;
    CHECK_OK(corering_batch_new(db, &batch));
    CHECK_OK(corering_batch_commit(batch, NULL, NULL));
    CHECK_OK(corering_put(db, TEXT("{b}3"), TEXT("x"), NULL, NULL));
    CHECK_OK(corering_batch_put(batch, TEXT("{b}1"), TEXT("one"), NULL));
    CHECK_OK(corering_batch_put(batch, TEXT("{b}2"), TEXT("two"), NULL));
    CHECK_OK(corering_batch_delete(batch, TEXT("{b}3"), NULL));
    CHECK_OK(corering_batch_len(batch, &count));
    CHECK(count == 3);
    CHECK_OK(corering_batch_commit(batch, NULL, &version));
    CHECK(version > 0);
    expect(db, "{b}1", "one");
    expect(db, "{b}2", "two");
    CHECK_STATUS(CORERING_NOT_FOUND, corering_get_into(db, TEXT("{b}3"), NULL, NULL, 0, &count, NULL));
    /* The same writes again: the batch kept them. */
    CHECK_OK(corering_delete(db, TEXT("{b}1"), NULL, NULL));
    CHECK_OK(corering_batch_commit(batch, NULL, NULL));
    expect(db, "{b}1", "one");
    CHECK_OK(corering_batch_clear(batch));
    /* Keys of several shards. */
    for (n = 0; n < 64; n++) {
        char key[16];
        CHECK_OK(corering_batch_put(batch, key, (size_t)snprintf(key, sizeof key, "spread%d", n), TEXT("v"), NULL));
    }
    CHECK_OK(corering_batch_commit(batch, NULL, &version));
    for (n = 0; n < 64; n++) {
        char key[16];
        uint64_t found;
        CHECK_STATUS(CORERING_BUFFER_TOO_SMALL,
                     corering_get_into(db, key, (size_t)snprintf(key, sizeof key, "spread%d", n), NULL, NULL, 0, &count, &found));
        CHECK(found == version);
    }
    CHECK_OK(corering_batch_free(batch));
}

static void test_execute(corering_db *db)
{
    enum { KEYS = 40, OPS = 4 * KEYS };
    corering_op ops[OPS];
    corering_result results[OPS];
    char keys[KEYS][16];
    size_t n;
    memset(ops, 0, sizeof ops);
    for (n = 0; n < OPS; n++) {
        static const uint32_t kinds[] = {CORERING_OP_PUT, CORERING_OP_INCR, CORERING_OP_GET, CORERING_OP_DELETE};
        ops[n].kind = kinds[n / KEYS];
        ops[n].key = keys[n % KEYS];
        ops[n].key_len = (size_t)snprintf(keys[n % KEYS], sizeof keys[0], "exec%zu", n % KEYS);
        ops[n].value = "10";
        ops[n].value_len = 2;
        ops[n].delta = (int64_t)(n % KEYS);
        ops[n].user_data = n;
    }
    CHECK_OK(corering_execute(db, ops, OPS, NULL, results));
    for (n = 0; n < OPS; n++) {
        const size_t key = n % KEYS;
        char number[16];
        CHECK(results[n].user_data == n && results[n].kind == ops[n].kind);
        CHECK_OK(results[n].status);
        (void)snprintf(number, sizeof number, "%zu", key + 10);
        CHECK(ops[n].kind != CORERING_OP_PUT || results[n].version > 0);
        CHECK(ops[n].kind != CORERING_OP_INCR || results[n].integer == (int64_t)key + 10);
        CHECK(ops[n].kind != CORERING_OP_GET || equals(&results[n].value, number));
        CHECK(ops[n].kind != CORERING_OP_DELETE || results[n].integer == 1);
        CHECK_OK(corering_value_free(&results[n].value));
    }
    /* One that fails leaves its neighbours alone; gets alone need no hop. */
    memset(ops, 0, sizeof ops);
    ops[0].kind = CORERING_OP_PUT;
    ops[1].kind = CORERING_OP_INCR;
    ops[2].kind = CORERING_OP_GET;
    ops[3].kind = CORERING_OP_PUT_IF;
    ops[3].condition.kind = CORERING_IF_ABSENT;
    ops[4].kind = CORERING_OP_SYNC;
    ops[5].kind = CORERING_OP_GET;
    for (n = 0; n < 5; n++) {
        ops[n].key = "{x}a";
        ops[n].key_len = 4;
        ops[n].value = "text";
        ops[n].value_len = 4;
    }
    ops[5].key = "absent";
    ops[5].key_len = 6;
    CHECK_OK(corering_execute(db, ops, 6, NULL, results));
    CHECK_OK(results[0].status);
    CHECK_STATUS(CORERING_ERROR_NOT_AN_INTEGER, results[1].status);
    CHECK(results[1].value.len > 0);
    CHECK_OK(results[2].status);
    CHECK(equals(&results[2].value, "text") && results[2].version == results[0].version);
    CHECK_STATUS(CORERING_REFUSED, results[3].status);
    CHECK(results[3].version == results[0].version);
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, results[4].status);
    CHECK_STATUS(CORERING_NOT_FOUND, results[5].status);
    for (n = 0; n < 6; n++) {
        CHECK_OK(corering_value_free(&results[n].value));
    }
}

static void test_scan(corering_db *db)
{
    enum { COUNT = 1000 };
    corering_scan_options options;
    corering_iterator *iterator;
    corering_snapshot *snapshot;
    corering_entry entry, entries[64];
    char key[32];
    size_t n, count, total;
    uint64_t version;
    for (n = 0; n < COUNT; n++) {
        CHECK_OK(corering_put(db, key, (size_t)snprintf(key, sizeof key, "scan%04zu", n), key, 8, NULL, NULL));
    }
    CHECK_OK(corering_snapshot_new(db, &snapshot));
    CHECK_OK(corering_snapshot_version(snapshot, &version));
    CHECK(version > 0);
    for (n = 0; n < COUNT; n += 2) {
        CHECK_OK(corering_delete(db, key, (size_t)snprintf(key, sizeof key, "scan%04zu", n), NULL, NULL));
    }
    CHECK_OK(corering_scan_options_init(&options, sizeof options));
    options.prefix = "scan";
    options.prefix_len = 4;
    options.snapshot = snapshot;
    CHECK_OK(corering_scan(db, &options, &iterator));
    CHECK_OK(corering_snapshot_free(snapshot)); /* the iterator keeps what it needs */
    for (n = 0; n < COUNT; n++) {
        CHECK_OK(corering_iterator_next(iterator, &entry));
        (void)snprintf(key, sizeof key, "scan%04zu", n);
        CHECK(entry.key_len == 8 && memcmp(entry.key, key, 8) == 0);
        CHECK(entry.value_len == 8 && memcmp(entry.value, key, 8) == 0 && entry.version > 0);
    }
    CHECK_STATUS(CORERING_END, corering_iterator_next(iterator, &entry));
    CHECK_STATUS(CORERING_END, corering_iterator_next(iterator, &entry));
    CHECK(entry.key == NULL);
    CHECK_OK(corering_iterator_free(iterator));

    options.snapshot = NULL;
    options.flags = CORERING_SCAN_REVERSE;
    CHECK_OK(corering_scan(db, &options, &iterator));
    for (total = 0; corering_iterator_fill(iterator, entries, 64, &count) == CORERING_OK; total += count) {
        for (n = 0; n < count; n++) {
            (void)snprintf(key, sizeof key, "scan%04zu", COUNT - 1 - 2 * (total + n));
            CHECK(entries[n].key_len == 8 && memcmp(entries[n].key, key, 8) == 0);
            CHECK(entries[n].value_len == 8 && memcmp(entries[n].value, key, 8) == 0);
        }
    }
    CHECK(total == COUNT / 2 && count == 0);
    CHECK_OK(corering_iterator_free(iterator));

    CHECK_OK(corering_scan_options_init(&options, sizeof options));
    options.lower = "scan0101";
    options.lower_len = 8;
    options.upper = "scan0109";
    options.upper_len = 8;
    options.flags = CORERING_SCAN_LOWER_EXCLUSIVE | CORERING_SCAN_UPPER_INCLUSIVE;
    options.limit = 3;
    CHECK_OK(corering_scan(db, &options, &iterator));
    CHECK_OK(corering_iterator_fill(iterator, entries, 64, &count));
    CHECK(count == 3 && memcmp(entries[0].key, "scan0103", 8) == 0 && memcmp(entries[2].key, "scan0107", 8) == 0);
    CHECK_STATUS(CORERING_END, corering_iterator_fill(iterator, entries, 64, &count));
    CHECK_OK(corering_iterator_free(iterator));
}

static void test_queue(corering_db *db)
{
    enum { COUNT = 500, CAPACITY = 64 };
    corering_queue *queue;
    corering_op op;
    corering_result results[16];
    struct pollfd readable = {-1, POLLIN, 0};
    size_t submitted = 0, done = 0, taken, count, n;
    char last[32];
    CHECK_OK(corering_queue_new(db, CAPACITY, &queue));
    CHECK_OK(corering_queue_fd(queue, &readable.fd));
    CHECK(poll(&readable, 1, 0) == 0);
    while (done < COUNT) {
        while (submitted < COUNT) {
            memset(&op, 0, sizeof op);
            op.kind = CORERING_OP_INCR;
            op.key = "queued";
            op.key_len = 6;
            op.delta = 1;
            op.user_data = submitted;
            if (corering_queue_submit(queue, &op, 1, NULL, &taken) == CORERING_ERROR_BUSY) {
                break;
            }
            CHECK(taken == 1);
            submitted++;
        }
        CHECK(poll(&readable, 1, 10000) == 1);
        CHECK_OK(corering_queue_reap(queue, results, 16, &count));
        for (n = 0; n < count; n++) {
            CHECK_OK(results[n].status);
            /* Of one key: in the order in which they were submitted. */
            CHECK(results[n].integer == (int64_t)results[n].user_data + 1);
        }
        done += count;
    }
    CHECK_OK(corering_queue_reap(queue, results, 16, &count));
    CHECK(count == 0 && poll(&readable, 1, 0) == 0);
    (void)snprintf(last, sizeof last, "%d", COUNT);
    expect(db, "queued", last);
    CHECK_OK(corering_queue_free(queue));
}

static void test_stats(corering_db *db)
{
    corering_stats stats;
    struct {
        corering_stats known;
        uint64_t later[4];
    } longer;
    uint32_t shards;
    char report[1024];
    size_t len;
    memset(&stats, 0xff, sizeof stats);
    stats.struct_size = sizeof stats;
    CHECK_OK(corering_shard_count(db, &shards));
    CHECK(shards == 2);
    CHECK_OK(corering_get_stats(db, CORERING_ALL_SHARDS, &stats));
    CHECK(stats.shards == 2 && stats.writes > 0 && stats.struct_size == sizeof stats);
    CHECK(stats.tx_begun > stats.tx_committed && stats.tx_committed > 0 && stats.tx_rolled_back > 0 && stats.tx_open == 0);
    CHECK(stats.tx_aborted_changed > 0 && stats.tx_aborted_wounded > 0 && stats.tx_waits > 0);
    CHECK(stats.tx_retried > 0 && stats.tx_retried < stats.tx_begun && stats.tx_age_ms_max <= stats.tx_age_ms_total);
    CHECK(stats.lock_grants > 300 && stats.lock_cancelled >= 3 && stats.lock_timeouts > 0 && stats.lock_refused > 0);
    CHECK(stats.lock_waits > 3 && stats.lock_wait_ms_max <= stats.lock_wait_ms_total && stats.lock_expired > 0);
    CHECK(stats.lock_orphaned > 0 && stats.lock_fenced > 0 && stats.lock_waiters == 0);
    CHECK(stats.appended.count > 0 && stats.appended.p50_ns > 0 && stats.appended.p50_ns <= stats.appended.max_ns);
    CHECK(stats.durable.count > 0 && stats.durable.p50_ns <= stats.durable.p999_ns);
    CHECK_OK(corering_get_stats(db, 1, &stats));
    CHECK(stats.shards == 1);
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_get_stats(db, 2, &stats));
    /* An older program gets what it knows, a later one zeroes for what this library does not have. */
    memset(&stats, 0xff, sizeof stats);
    stats.struct_size = offsetof(corering_stats, snapshots) + sizeof stats.snapshots;
    CHECK_OK(corering_get_stats(db, CORERING_ALL_SHARDS, &stats));
    memset(&longer, 0xff, sizeof longer);
    longer.known.struct_size = sizeof longer;
    CHECK_OK(corering_get_stats(db, CORERING_ALL_SHARDS, &longer.known));
    CHECK(longer.later[0] == 0 && longer.later[3] == 0);
    CHECK_OK(corering_open_report(db, report, sizeof report, &len));
    CHECK(len > 0 && strlen(report) == len);
    CHECK_OK(corering_checkpoint(db));
}

static void test_open(const char *dir)
{
    corering_options options = small_options();
    corering_db *db, *second;
    char path[4096], text[512];
    (void)snprintf(path, sizeof path, "%s/opened", dir);
    options.flags |= CORERING_OPEN_MUST_EXIST;
    CHECK(corering_open(CORERING_ABI_VERSION, path, &options, &db) < 0);
    options = small_options();
    CHECK_OK(corering_open(CORERING_ABI_VERSION, path, &options, &db));
    CHECK_STATUS(CORERING_ERROR_LOCKED, corering_open(CORERING_ABI_VERSION, path, &options, &second));
    CHECK_OK(corering_error_message(text, sizeof text, NULL));
    CHECK(strstr(text, "process") != NULL);
    CHECK_OK(corering_put(db, TEXT("kept"), TEXT("v"), NULL, NULL));
    CHECK_OK(corering_close(db));
    options.flags |= CORERING_OPEN_MUST_NOT_EXIST;
    CHECK(corering_open(CORERING_ABI_VERSION, path, &options, &db) < 0);
    CHECK_OK(corering_open(CORERING_ABI_VERSION, path, NULL, &db));
    expect(db, "kept", "v");
    CHECK_OK(corering_close(db));
}

static corering_session open_session(corering_db *db, uint64_t ttl_ms, const char *label)
{
    corering_session session;
    corering_session_options options;
    CHECK_OK(corering_session_options_init(&options, sizeof options));
    options.ttl_ms = ttl_ms;
    options.label = label;
    options.label_len = strlen(label);
    CHECK_OK(corering_session_open(db, &options, &session));
    CHECK(session.secret[0] != 0 || session.secret[1] != 0);
    return session;
}

static corering_lock_options lock_options(uint32_t mode, uint64_t wait_ms)
{
    corering_lock_options options;
    CHECK_OK(corering_lock_options_init(&options, sizeof options));
    options.mode = mode;
    options.wait_ms = wait_ms;
    return options;
}

static void test_locks(corering_db *db)
{
    corering_session a = open_session(db, 60000, "a"), b = open_session(db, 60000, "b"), wrong = a;
    corering_lock_options shared = lock_options(CORERING_LOCK_SHARED, 0), brief = lock_options(CORERING_LOCK_EXCLUSIVE, 30);
    corering_lock_options permits = lock_options(CORERING_LOCK_SEMAPHORE, 0), lease = lock_options(CORERING_LOCK_EXCLUSIVE, 0);
    corering_lock_options odd = shared;
    corering_lock_part parts[4];
    corering_session_info sessions[4];
    corering_grant first, again, second;
    uint64_t token = 0;
    uint32_t left = 9;
    bool expired = true;
    size_t count = 0, n, known = 0;

    CHECK_OK(corering_lock_acquire(db, &a, TEXT("l"), NULL, &first));
    CHECK(first.token > 0 && first.count == 1);
    CHECK_OK(corering_lock_acquire(db, &a, TEXT("l"), NULL, &again));
    CHECK(again.token == first.token && again.count == 2);
    CHECK_STATUS(CORERING_ERROR_LOCK_HELD, corering_lock_acquire(db, &b, TEXT("l"), NULL, &second));
    CHECK(second.token == 0 && corering_status_is_retryable(CORERING_ERROR_LOCK_HELD));
    CHECK_STATUS(CORERING_ERROR_LOCK_TIMEOUT, corering_lock_acquire(db, &b, TEXT("l"), &brief, NULL));
    CHECK_STATUS(CORERING_ERROR_NOT_HELD, corering_lock_release(db, &b, TEXT("l"), 0, NULL, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_WRONG_TOKEN, corering_lock_release(db, &a, TEXT("l"), first.token + 1, NULL, NULL, NULL));
    CHECK_OK(corering_lock_renew(db, &a, TEXT("l"), first.token, &token));
    CHECK(token == first.token);
    CHECK_OK(corering_lock_info(db, TEXT("l"), parts, 4, &count));
    CHECK(count == 1 && parts[0].session == a.id && parts[0].token == first.token && parts[0].count == 2);
    CHECK(parts[0].since_ms > 0 && parts[0].left_ms == CORERING_WAIT_FOREVER && parts[0].mode == CORERING_LOCK_EXCLUSIVE);
    CHECK_OK(corering_lock_downgrade(db, &a, TEXT("l"), 0, NULL, &again));
    CHECK(again.token == first.token);
    CHECK_OK(corering_lock_acquire(db, &b, TEXT("l"), &shared, &second));
    CHECK(second.token > first.token);
    CHECK_STATUS(CORERING_BUFFER_TOO_SMALL, corering_lock_info(db, TEXT("l"), parts, 1, &count));
    CHECK(count == 2);
    CHECK_OK(corering_lock_release(db, &a, TEXT("l"), first.token, NULL, &left, &expired));
    CHECK(left == 1 && !expired);
    CHECK_OK(corering_lock_release(db, &a, TEXT("l"), 0, NULL, &left, NULL));
    CHECK(left == 0);

    permits.permits = 2;
    permits.units = 2;
    CHECK_OK(corering_lock_acquire(db, &a, TEXT("s"), &permits, NULL));
    permits.units = 0;
    CHECK_STATUS(CORERING_ERROR_LOCK_HELD, corering_lock_acquire(db, &b, TEXT("s"), &permits, NULL));
    permits.permits = 3;
    CHECK_STATUS(CORERING_ERROR_OTHER_PERMITS, corering_lock_acquire(db, &b, TEXT("s"), &permits, NULL));
    odd.permits = 1;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_lock_acquire(db, &b, TEXT("s"), &odd, NULL));
    odd = shared;
    odd.mode = 77;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_lock_acquire(db, &b, TEXT("s"), &odd, NULL));
    odd = shared;
    odd.reserved = 1;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_lock_acquire(db, &b, TEXT("s"), &odd, NULL));

    lease.lease_ms = 40;
    CHECK_OK(corering_lock_acquire(db, &a, TEXT("short"), &lease, &first));
    sleep_ms(60);
    CHECK(corering_lock_renew(db, &a, TEXT("short"), first.token, NULL) < 0);
    lease.wait_ms = 5000;
    lease.lease_ms = 0;
    CHECK_OK(corering_lock_acquire(db, &b, TEXT("short"), &lease, &second));
    CHECK(second.token > first.token);

    CHECK_OK(corering_session_keep_alive(db, &a));
    wrong.secret[1]++;
    CHECK_STATUS(CORERING_ERROR_WRONG_SECRET, corering_session_keep_alive(db, &wrong));
    CHECK_STATUS(CORERING_ERROR_WRONG_SECRET, corering_session_end(db, &wrong));
    CHECK_STATUS(CORERING_ERROR_WRONG_SECRET, corering_lock_acquire(db, &wrong, TEXT("l"), NULL, NULL));
    CHECK_OK(corering_session_list(db, sessions, 4, &count));
    CHECK(count == 2);
    for (n = 0; n < count; n++) {
        known += sessions[n].id == a.id && sessions[n].label_len == 1 && sessions[n].label[0] == 'a' &&
                 sessions[n].ttl_ms == 60000 && sessions[n].left_ms <= 60000;
    }
    CHECK(known == 1);
    CHECK_OK(corering_session_end(db, &a));
    CHECK_STATUS(CORERING_ERROR_NO_SESSION, corering_session_keep_alive(db, &a));
    CHECK_STATUS(CORERING_NOT_FOUND, corering_lock_info(db, TEXT("s"), parts, 4, &count));
    CHECK_OK(corering_session_kill(db, b.id));
    CHECK_STATUS(CORERING_ERROR_NO_SESSION, corering_session_kill(db, b.id));
}

/* Each way to write, with a guard that holds and with one that does not. */
static void test_guards(corering_db *db)
{
    corering_session a = open_session(db, 60000, "guards");
    corering_grant grant;
    corering_guard guards[2];
    corering_write_options write;
    corering_condition condition;
    corering_batch *batch;
    corering_queue *queue;
    corering_op op;
    corering_result result;
    int64_t number = 0;
    size_t accepted = 0, count = 0, round;
    bool existed = false;

    CHECK_OK(corering_lock_acquire(db, &a, TEXT("first"), NULL, &grant));
    guards[0].name = "first";
    guards[0].name_len = 5;
    guards[0].token = grant.token;
    CHECK_OK(corering_lock_acquire(db, &a, TEXT("second"), NULL, &grant));
    guards[1].name = "second";
    guards[1].name_len = 6;
    guards[1].token = grant.token;
    CHECK_OK(corering_write_options_init(&write, sizeof write));
    CHECK_OK(corering_batch_new(db, &batch));
    CHECK_OK(corering_batch_put(batch, TEXT("g"), TEXT("batch"), NULL));
    CHECK_OK(corering_queue_new(db, 8, &queue));
    memset(&condition, 0, sizeof condition);
    memset(&op, 0, sizeof op);
    op.kind = CORERING_OP_PUT;
    op.key = "g";
    op.key_len = 1;
    op.value = "queue";
    op.value_len = 5;
    for (round = 0; round < 2; round++) {
        const int32_t wanted = round == 0 ? CORERING_OK : CORERING_ERROR_FENCED;
        uint64_t version = 0;
        write.guards = guards;
        write.guards_len = 2;
        CHECK_STATUS(wanted, corering_put(db, TEXT("g"), TEXT("put"), &write, &version));
        CHECK((version > 0) == (round == 0));
        expect(db, "g", round == 0 ? "put" : "last");
        CHECK_STATUS(wanted, corering_put_if(db, TEXT("g"), TEXT("if"), &condition, &write, &version));
        condition.kind = CORERING_IF_ABSENT;
        CHECK_STATUS(round == 0 ? CORERING_REFUSED : wanted, corering_put_if(db, TEXT("g"), TEXT("x"), &condition, &write, &version));
        CHECK((version > 0) == (round == 0));
        condition.kind = CORERING_IF_ALWAYS;
        CHECK_STATUS(wanted, corering_incr(db, TEXT("gn"), 5, &write, &number));
        CHECK(number == (round == 0 ? 5 : 0));
        CHECK_STATUS(wanted, corering_delete(db, TEXT("gn"), &write, &existed));
        CHECK(existed == (round == 0));
        CHECK_STATUS(wanted, corering_batch_commit(batch, &write, &version));
        expect(db, "g", round == 0 ? "batch" : "last");
        CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_batch_put(batch, TEXT("g"), TEXT("x"), &write));
        CHECK_OK(corering_execute(db, &op, 1, &write, &result));
        CHECK_STATUS(wanted, result.status);
        CHECK_OK(corering_value_free(&result.value));
        CHECK_OK(corering_queue_submit(queue, &op, 1, &write, &accepted));
        CHECK_OK(corering_queue_submit_batch(queue, batch, &write, 7));
        for (count = 0, number = 0; number < 2; number += (int64_t)count) {
            CHECK_OK(corering_queue_reap(queue, &result, 1, &count));
            if (count > 0) {
                CHECK_STATUS(wanted, result.status);
                CHECK_OK(corering_value_free(&result.value));
            }
        }
        CHECK_OK(corering_put(db, TEXT("g"), TEXT("last"), NULL, NULL));
        CHECK_STATUS(round == 0 ? CORERING_OK : CORERING_ERROR_NOT_HELD,
                     corering_lock_release(db, &a, TEXT("second"), 0, NULL, NULL, NULL));
    }
    write.guards_len = 257;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put(db, TEXT("g"), TEXT("x"), &write, NULL));
    write.guards = NULL;
    write.guards_len = 1;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put(db, TEXT("g"), TEXT("x"), &write, NULL));
    CHECK_OK(corering_queue_free(queue));
    CHECK_OK(corering_batch_free(batch));
    CHECK_OK(corering_session_end(db, &a));
}

static corering_result reap_one(corering_queue *queue)
{
    struct pollfd poller = {0, POLLIN, 0};
    corering_result result;
    size_t count = 0;
    CHECK_OK(corering_queue_fd(queue, &poller.fd));
    CHECK(poll(&poller, 1, 30000) == 1);
    CHECK_OK(corering_queue_reap(queue, &result, 1, &count));
    CHECK(count == 1);
    return result;
}

/* A grant is a completion; the end of a session cancels its waits. */
static void test_asynchronous_locks(corering_db *db)
{
    corering_session holder = open_session(db, 60000, "holder"), next = open_session(db, 60000, "next");
    corering_session gone = open_session(db, 60000, "gone");
    corering_lock_options wait = lock_options(CORERING_LOCK_EXCLUSIVE, CORERING_WAIT_FOREVER);
    corering_lock_part parts[4];
    corering_queue *queue;
    corering_result result;
    corering_grant grant;
    size_t count = 0;
    CHECK_OK(corering_queue_new(db, 8, &queue));
    CHECK_OK(corering_lock_acquire(db, &holder, TEXT("line"), NULL, &grant));
    CHECK_OK(corering_queue_acquire(queue, &gone, TEXT("line"), &wait, 1));
    CHECK_OK(corering_queue_acquire(queue, &next, TEXT("line"), &wait, 2));
    CHECK_OK(corering_lock_info(db, TEXT("line"), parts, 4, &count));
    CHECK(count == 3 && parts[1].session == gone.id && parts[1].token == 0 && parts[2].session == next.id);
    CHECK_OK(corering_session_end(db, &gone));
    result = reap_one(queue);
    CHECK(result.user_data == 1 && result.status == CORERING_ERROR_NO_SESSION);
    CHECK_OK(corering_value_free(&result.value));
    CHECK_OK(corering_lock_release(db, &holder, TEXT("line"), 0, NULL, NULL, NULL));
    result = reap_one(queue);
    CHECK(result.user_data == 2 && result.status == CORERING_OK && result.kind == CORERING_OP_ACQUIRE);
    CHECK(result.version > grant.token && result.integer == 1);
    CHECK_OK(corering_queue_free(queue));
    CHECK_OK(corering_session_end(db, &next));
    CHECK_OK(corering_session_end(db, &holder));
}

/* Page by page, each lock once. */
static void test_scan_of_locks(corering_db *db)
{
    corering_session session = open_session(db, 60000, "many");
    corering_lock_entry entries[4];
    unsigned char seen[20] = {0};
    char name[16];
    uint64_t cursor = 0;
    size_t n, count, all = 0;
    for (n = 0; n < sizeof seen; n++) {
        CHECK_OK(corering_lock_acquire(db, &session, name, (size_t)snprintf(name, sizeof name, "lock%02d", (int)n), NULL, NULL));
    }
    do {
        CHECK_OK(corering_lock_scan(db, cursor, entries, 4, &count, &cursor));
        for (n = 0; n < count; n++) {
            const corering_lock_entry *entry = &entries[n];
            int number = atoi((const char *)entry->name + 4);
            CHECK(entry->name_len == 6 && memcmp(entry->name, "lock", 4) == 0 && entry->name[6] == 0);
            CHECK(entry->holders == 1 && entry->waiters == 0);
            CHECK(number >= 0 && number < 20 && !seen[number]);
            seen[number] = 1;
            all++;
        }
        CHECK(count == 4 || entries[count].name_len == 0);
    } while (cursor != 0);
    CHECK(all == sizeof seen);
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_lock_scan(db, 0, entries, 0, &count, &cursor));
    CHECK_OK(corering_session_end(db, &session));
    CHECK_OK(corering_lock_scan(db, UINT64_MAX, entries, 4, &count, &cursor));
    CHECK(count == 0 && cursor == 0);
}

static void *cancel_third(void *queue)
{
    CHECK(corering_queue_cancel(queue, 3) >= 0);
    return NULL;
}

/* A wait is ended alone, and has one completion: that, or the grant. */
static void test_cancelled_waits(corering_db *db)
{
    corering_session holder = open_session(db, 60000, "holder"), session = open_session(db, 60000, "waiter");
    corering_lock_options wait = lock_options(CORERING_LOCK_EXCLUSIVE, CORERING_WAIT_FOREVER);
    corering_lock_part parts[4];
    corering_queue *queue, *other;
    corering_result result;
    corering_stats stats;
    size_t count = 0;
    int round, granted = 0, cancelled = 0;
    CHECK_OK(corering_queue_new(db, 8, &queue));
    CHECK_OK(corering_queue_new(db, 8, &other));
    CHECK_OK(corering_lock_acquire(db, &holder, TEXT("cancelled"), NULL, NULL));
    CHECK_OK(corering_queue_acquire(queue, &session, TEXT("cancelled"), &wait, 1));
    CHECK_OK(corering_queue_acquire(queue, &session, TEXT("cancelled"), &wait, 2));
    stats.struct_size = sizeof stats;
    CHECK_OK(corering_get_stats(db, CORERING_ALL_SHARDS, &stats));
    CHECK(stats.lock_names == 1 && stats.lock_holds == 1 && stats.lock_waiters == 2 && stats.lock_sessions >= 2);
    CHECK_STATUS(CORERING_NOT_FOUND, corering_queue_cancel(queue, 3));
    CHECK_STATUS(CORERING_NOT_FOUND, corering_queue_cancel(other, 1));
    CHECK_OK(corering_queue_cancel(queue, 1));
    result = reap_one(queue);
    CHECK(result.user_data == 1 && result.status == CORERING_ERROR_LOCK_TIMEOUT && result.kind == CORERING_OP_ACQUIRE);
    CHECK_OK(corering_value_free(&result.value));
    CHECK_STATUS(CORERING_NOT_FOUND, corering_queue_cancel(queue, 1));
    CHECK_OK(corering_lock_info(db, TEXT("cancelled"), parts, 4, &count));
    CHECK(count == 2 && parts[1].session == session.id);

    /* The other wait of the session stands, until it is granted; then there is nothing to be cancelled. */
    CHECK_OK(corering_lock_release(db, &holder, TEXT("cancelled"), 0, NULL, NULL, NULL));
    result = reap_one(queue);
    CHECK(result.user_data == 2 && result.status == CORERING_OK && result.integer == 1);
    CHECK_STATUS(CORERING_NOT_FOUND, corering_queue_cancel(queue, 2));
    CHECK_OK(corering_lock_release(db, &session, TEXT("cancelled"), 0, NULL, NULL, NULL));

    /* Those of one tag go together. */
    CHECK_OK(corering_lock_acquire(db, &holder, TEXT("cancelled"), NULL, NULL));
    CHECK_OK(corering_queue_acquire(queue, &session, TEXT("cancelled"), &wait, 4));
    CHECK_OK(corering_queue_acquire(queue, &session, TEXT("cancelled"), &wait, 4));
    CHECK_OK(corering_queue_cancel(queue, 4));
    for (round = 0; round < 2; round++) {
        result = reap_one(queue);
        CHECK(result.user_data == 4 && result.status == CORERING_ERROR_LOCK_TIMEOUT);
        CHECK_OK(corering_value_free(&result.value));
    }
    CHECK_OK(corering_lock_release(db, &holder, TEXT("cancelled"), 0, NULL, NULL, NULL));

    /* Another thread cancels while the holder lets go. */
    for (round = 0; round < 300; round++) {
        pthread_t thread;
        wait.durability = round % 2 ? CORERING_DURABILITY_NONE : CORERING_DURABILITY_DEFAULT;
        CHECK_OK(corering_lock_acquire(db, &holder, TEXT("cancelled"), &wait, NULL));
        CHECK_OK(corering_queue_acquire(queue, &session, TEXT("cancelled"), &wait, 3));
        CHECK(pthread_create(&thread, NULL, cancel_third, queue) == 0);
        CHECK_OK(corering_lock_release(db, &holder, TEXT("cancelled"), 0, &wait, NULL, NULL));
        result = reap_one(queue);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(result.user_data == 3);
        if (result.status == CORERING_OK) {
            granted++;
            CHECK_OK(corering_lock_release(db, &session, TEXT("cancelled"), result.version, &wait, NULL, NULL));
        } else {
            cancelled++;
            CHECK_STATUS(CORERING_ERROR_LOCK_TIMEOUT, result.status);
            CHECK_OK(corering_value_free(&result.value));
        }
        CHECK_OK(corering_queue_reap(queue, &result, 1, &count));
        CHECK(count == 0);
        CHECK_STATUS(CORERING_NOT_FOUND, corering_lock_info(db, TEXT("cancelled"), parts, 4, &count));
        CHECK_STATUS(CORERING_NOT_FOUND, corering_queue_cancel(queue, 3));
    }
    CHECK(granted + cancelled == 300);
    CHECK_OK(corering_queue_free(other));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_queue_cancel(other, 1));
    CHECK_OK(corering_queue_free(queue));
    CHECK_OK(corering_session_end(db, &session));
    CHECK_OK(corering_session_end(db, &holder));
}

/* A session is told of each hold that it lost, and of its own end. */
static void test_lost_locks(corering_db *db)
{
    corering_session holder = open_session(db, 60000, "holder"), other = open_session(db, 60000, "other");
    corering_session wrong = holder;
    corering_lock_options leased = lock_options(CORERING_LOCK_EXCLUSIVE, 0);
    corering_queue *queue;
    corering_result result;
    corering_grant grant;
    corering_loss loss;
    leased.lease_ms = 20;
    wrong.secret[0] ^= 1;
    CHECK_OK(corering_queue_new(db, 8, &queue));
    CHECK_STATUS(CORERING_END, corering_session_lost(db, &holder, 0, &loss));
    CHECK(loss.token == 0 && loss.name_len == 0);
    CHECK_OK(corering_queue_lost(queue, &holder, 1));
    CHECK_OK(corering_lock_acquire(db, &holder, TEXT("leased"), &leased, &grant));
    result = reap_one(queue);
    CHECK(result.user_data == 1 && result.status == CORERING_OK && result.kind == CORERING_OP_LOST);
    CHECK_OK(corering_session_lost(db, &holder, 0, &loss));
    CHECK(loss.token == grant.token && loss.name_len == 6 && memcmp(loss.name, "leased", 7) == 0);
    CHECK_STATUS(CORERING_END, corering_session_lost(db, &holder, 10, &loss));

    /* Whoever asks again takes the place of who asked before; another session's losses are its own. */
    CHECK_OK(corering_queue_lost(queue, &holder, 2));
    CHECK_OK(corering_queue_lost(queue, &holder, 3));
    result = reap_one(queue);
    CHECK(result.user_data == 2 && result.status == CORERING_ERROR_CLOSED);
    CHECK_OK(corering_value_free(&result.value));
    CHECK_STATUS(CORERING_END, corering_session_lost(db, &other, 0, &loss));
    CHECK_OK(corering_lock_acquire(db, &other, TEXT("others"), &leased, NULL));
    CHECK_OK(corering_session_lost(db, &other, CORERING_WAIT_FOREVER, &loss));
    CHECK(loss.name_len == 6 && memcmp(loss.name, "others", 6) == 0);
    CHECK_OK(corering_queue_lost(queue, &wrong, 4));
    result = reap_one(queue);
    CHECK(result.user_data == 4 && result.status == CORERING_ERROR_WRONG_SECRET);
    CHECK_OK(corering_value_free(&result.value));
    CHECK_STATUS(CORERING_ERROR_WRONG_SECRET, corering_session_lost(db, &wrong, 0, &loss));

    /* What a lock's owner gives back is not lost; what a session's end takes away is. */
    CHECK_OK(corering_lock_acquire(db, &holder, TEXT("given"), NULL, NULL));
    CHECK_OK(corering_lock_release(db, &holder, TEXT("given"), 0, NULL, NULL, NULL));
    CHECK_OK(corering_session_kill(db, holder.id));
    result = reap_one(queue);
    CHECK(result.user_data == 3 && result.status == CORERING_OK);
    CHECK_STATUS(CORERING_ERROR_NO_SESSION, corering_session_lost(db, &holder, 0, &loss));
    CHECK_OK(corering_queue_free(queue));
    CHECK_OK(corering_session_end(db, &other));
}

/* A session that was kept goes on after the database was closed and opened. */
static void test_session_after_restart(const char *dir)
{
    corering_db *db = open_db(dir, "restart");
    corering_session session = open_session(db, 60000, "kept"), other;
    corering_lock_options wait = lock_options(CORERING_LOCK_EXCLUSIVE, CORERING_WAIT_FOREVER);
    corering_queue *queue;
    corering_result result;
    corering_grant before, after;
    CHECK_OK(corering_lock_acquire(db, &session, TEXT("l"), NULL, &before));
    CHECK_OK(corering_close(db));
    db = open_db(dir, "restart");
    CHECK_OK(corering_session_keep_alive(db, &session));
    CHECK_OK(corering_lock_acquire(db, &session, TEXT("l"), NULL, &after));
    CHECK(after.token == before.token && after.count == 2);

    /* A wait that is under way when the database closes is answered. */
    other = open_session(db, 60000, "other");
    CHECK_OK(corering_queue_new(db, 8, &queue));
    CHECK_OK(corering_queue_acquire(queue, &other, TEXT("l"), &wait, 1));
    CHECK_OK(corering_close(db));
    result = reap_one(queue);
    CHECK_STATUS(CORERING_ERROR_CLOSED, result.status);
    CHECK_OK(corering_value_free(&result.value));
    CHECK_OK(corering_queue_free(queue));
}

static uint32_t crc32_of(const unsigned char *bytes, size_t len)
{
    uint32_t crc = 0xffffffff;
    size_t at;
    int bit;
    for (at = 0; at < len; at++) {
        crc ^= bytes[at];
        for (bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320 : 0);
        }
    }
    return ~crc;
}

/* As if the machine had been stopped while a lock was held of which nothing was on disk: the root record, in its first copy. */
static void stop_the_machine(const char *path)
{
    enum { CRC = 8, SEQUENCE = 16, RECORD = 24, UNSYNCED_LEASE = RECORD + 48, BOOT = RECORD + 56, END = RECORD + 96 };
    unsigned char copy[END];
    uint32_t crc;
    int n;
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL && fread(copy, 1, END, file) == END);
    copy[SEQUENCE + 1]++;
    copy[UNSYNCED_LEASE + 1] = 4; /* 1024 ms */
    copy[BOOT] ^= 1;
    crc = crc32_of(copy + CRC + 4, END - CRC - 4);
    for (n = 0; n < 4; n++) {
        copy[CRC + n] = (unsigned char)(crc >> 8 * n);
    }
    CHECK(fseek(file, 0, SEEK_SET) == 0 && fwrite(copy, 1, END, file) == END && fclose(file) == 0);
}

static void test_locks_after_the_machine_was_stopped(const char *dir)
{
    char path[512], message[256];
    corering_lock_options wait = lock_options(CORERING_LOCK_EXCLUSIVE, 20000);
    corering_session session;
    size_t count;
    corering_db *db = open_db(dir, "stopped");
    CHECK_OK(corering_close(db));
    (void)snprintf(path, sizeof path, "%s/stopped/superblock", dir);
    stop_the_machine(path);
    db = open_db(dir, "stopped");
    session = open_session(db, 60000, "early");
    CHECK_STATUS(CORERING_ERROR_LOCK_NOT_YET, corering_lock_acquire(db, &session, TEXT("l"), NULL, NULL));
    CHECK(corering_status_is_retryable(CORERING_ERROR_LOCK_NOT_YET));
    CHECK_OK(corering_error_message(message, sizeof message, NULL));
    CHECK(strstr(message, " ms yet") != NULL);
    CHECK_STATUS(CORERING_NOT_FOUND, corering_lock_info(db, TEXT("l"), NULL, 0, &count));
    CHECK_OK(corering_lock_acquire(db, &session, TEXT("l"), &wait, NULL));
    CHECK_OK(corering_close(db));
}

/* ---- transactions ---- */

static corering_tx *begin(corering_db *db, uint32_t flags, uint64_t again)
{
    corering_tx_options options;
    corering_tx *tx;
    CHECK_OK(corering_tx_options_init(&options, sizeof options));
    options.flags = flags;
    options.again = again;
    CHECK_OK(corering_tx_begin(db, &options, &tx));
    return tx;
}

static void expect_in(corering_tx *tx, const char *key, const char *wanted)
{
    corering_value value;
    CHECK_STATUS(wanted ? CORERING_OK : CORERING_NOT_FOUND, corering_tx_get(tx, key, strlen(key), NULL, &value));
    CHECK(wanted == NULL || equals(&value, wanted));
    CHECK_OK(corering_value_free(&value));
}

/* Its keys lie on both shards. */
static void test_transactions(corering_db *db)
{
    corering_tx *tx = begin(db, 0, 0);
    corering_condition condition;
    corering_write_options write;
    corering_value value;
    corering_tx_usage usage;
    char key[16];
    uint64_t version = 0, found;
    size_t len;
    int n;
    memset(&condition, 0, sizeof condition);
    condition.kind = CORERING_IF_ABSENT;
    for (n = 0; n < 16; n++) {
        CHECK_OK(corering_tx_put(tx, key, (size_t)snprintf(key, sizeof key, "tx%d", n), TEXT("new"), NULL));
    }
    expect_in(tx, "tx3", "new");
    expect_in(tx, "tx99", NULL);
    CHECK_OK(corering_tx_delete(tx, TEXT("tx3"), NULL));
    expect_in(tx, "tx3", NULL);
    CHECK_OK(corering_write_options_init(&write, sizeof write));
    write.ttl_ms = 3600000;
    CHECK_OK(corering_tx_put_if(tx, TEXT("tx3"), TEXT("again"), &condition, &write));
    CHECK_STATUS(CORERING_REFUSED, corering_tx_put_if(tx, TEXT("tx4"), TEXT("x"), &condition, NULL));
    CHECK_STATUS(CORERING_NOT_FOUND, corering_get_into(db, TEXT("tx0"), NULL, NULL, 0, &len, NULL));
    usage.struct_size = sizeof usage;
    CHECK_OK(corering_tx_get_usage(tx, &usage));
    CHECK(usage.write_bytes > 16 * 6 && usage.write_bytes < usage.write_bytes_max && usage.reads > 0 && usage.age_ms_max == 60000);
    CHECK_OK(corering_tx_commit(tx, &version));
    CHECK_OK(corering_tx_free(tx));
    for (n = 0; n < 16; n++) {
        CHECK_STATUS(CORERING_BUFFER_TOO_SMALL,
                     corering_get_into(db, key, (size_t)snprintf(key, sizeof key, "tx%d", n), NULL, NULL, 0, &len, &found));
        CHECK(found == version && version > 0);
    }
    CHECK_OK(corering_get(db, TEXT("tx3"), NULL, &value));
    CHECK(equals(&value, "again") && value.expires_at_ms > 0);
    CHECK_OK(corering_value_free(&value));

    /* What is not committed was not done. */
    tx = begin(db, 0, 0);
    CHECK_OK(corering_tx_put(tx, TEXT("tx0"), TEXT("never"), NULL));
    CHECK_OK(corering_tx_rollback(tx));
    CHECK_OK(corering_tx_free(tx));
    tx = begin(db, 0, 0);
    CHECK_OK(corering_tx_put(tx, TEXT("tx0"), TEXT("never"), NULL));
    CHECK_OK(corering_tx_free(tx));
    expect(db, "tx0", "new");

    /* One state, whatever others write; and no writes. */
    tx = begin(db, CORERING_TX_READ_ONLY, 0);
    expect_in(tx, "tx0", "new");
    CHECK_OK(corering_put(db, TEXT("tx0"), TEXT("later"), NULL, NULL));
    CHECK_OK(corering_put(db, TEXT("tx1"), TEXT("later"), NULL, NULL));
    expect_in(tx, "tx1", "new");
    CHECK_STATUS(CORERING_ERROR_READ_ONLY, corering_tx_put(tx, TEXT("tx0"), TEXT("x"), NULL));
    CHECK_STATUS(CORERING_ERROR_READ_ONLY, corering_tx_get_for_update(tx, TEXT("tx0"), NULL, &value));
    CHECK_OK(corering_tx_commit(tx, &version));
    CHECK(version == 0);
    CHECK_OK(corering_tx_free(tx));
}

/* Entries of the database and its own, in one order, over many pages, both ways. */
static void test_scan_of_a_transaction(corering_db *db)
{
    enum { MANY = 700 };
    corering_tx *tx = begin(db, 0, 0);
    corering_scan_options options;
    corering_iterator *iterator;
    corering_entry entry, entries[100];
    corering_batch *batch;
    char key[16];
    size_t count;
    int n, way;
    CHECK_OK(corering_batch_new(db, &batch));
    for (n = 0; n < MANY; n += 2) {
        CHECK_OK(corering_batch_put(batch, key, (size_t)snprintf(key, sizeof key, "ts%03d", n), TEXT("db"), NULL));
    }
    CHECK_OK(corering_batch_commit(batch, NULL, NULL));
    CHECK_OK(corering_batch_free(batch));
    for (n = 1; n < MANY; n += 2) {
        CHECK_OK(corering_tx_put(tx, key, (size_t)snprintf(key, sizeof key, "ts%03d", n), TEXT("own"), NULL));
    }
    CHECK_OK(corering_tx_delete(tx, TEXT("ts000"), NULL));
    CHECK_OK(corering_scan_options_init(&options, sizeof options));
    options.prefix = "ts";
    options.prefix_len = 2;
    for (way = 0; way < 2; way++) {
        options.flags = way == 0 ? 0 : CORERING_SCAN_REVERSE;
        CHECK_OK(corering_tx_scan(tx, &options, &iterator));
        for (n = 1; n < MANY; n++) {
            const int wanted = way == 0 ? n : MANY - n;
            CHECK_OK(corering_iterator_next(iterator, &entry));
            (void)snprintf(key, sizeof key, "ts%03d", wanted);
            CHECK(entry.key_len == 5 && memcmp(entry.key, key, 5) == 0);
            CHECK(entry.value_len == (wanted % 2 == 0 ? 2u : 3u) && entry.value[0] == (wanted % 2 == 0 ? 'd' : 'o'));
        }
        CHECK_STATUS(CORERING_END, corering_iterator_next(iterator, &entry));
        CHECK_OK(corering_iterator_free(iterator));
    }
    options.flags = 0;
    options.limit = 150;
    CHECK_OK(corering_tx_scan(tx, &options, &iterator));
    CHECK_OK(corering_iterator_fill(iterator, entries, 100, &count));
    CHECK(count == 100 && memcmp(entries[99].key, "ts100", 5) == 0);
    CHECK_OK(corering_iterator_fill(iterator, entries, 100, &count));
    CHECK(count == 50 && memcmp(entries[49].key, "ts150", 5) == 0);
    CHECK_STATUS(CORERING_END, corering_iterator_fill(iterator, entries, 100, &count));
    CHECK_OK(corering_iterator_free(iterator));
    /* Somebody puts a key where it has looked. */
    CHECK_OK(corering_put(db, TEXT("ts1000"), TEXT("phantom"), NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_CONFLICT, corering_tx_commit(tx, NULL));
    CHECK_OK(corering_tx_free(tx));
}

static void test_savepoints(corering_db *db)
{
    corering_tx *tx = begin(db, 0, 0);
    uint64_t first, second;
    CHECK_OK(corering_tx_put(tx, TEXT("sp"), TEXT("1"), NULL));
    CHECK_OK(corering_tx_savepoint(tx, &first));
    CHECK_OK(corering_tx_put(tx, TEXT("sp"), TEXT("2"), NULL));
    CHECK_OK(corering_tx_savepoint(tx, &second));
    CHECK_OK(corering_tx_put(tx, TEXT("sp"), TEXT("3"), NULL));
    CHECK_OK(corering_tx_release(tx, second));
    expect_in(tx, "sp", "3");
    CHECK_STATUS(CORERING_ERROR_NO_SAVEPOINT, corering_tx_rollback_to(tx, second));
    CHECK_OK(corering_tx_rollback_to(tx, first));
    CHECK_OK(corering_tx_rollback_to(tx, first));
    CHECK_OK(corering_tx_commit(tx, NULL));
    CHECK_OK(corering_tx_free(tx));
    expect(db, "sp", "1");
}

static void test_conflicts(corering_db *db)
{
    corering_tx *a = begin(db, 0, 0), *b;
    corering_value value;
    uint64_t age, pause = UINT64_MAX;
    corering_queue *queue;
    corering_result result;
    uint32_t attempt;
    CHECK_OK(corering_put(db, TEXT("c"), TEXT("0"), NULL, NULL));
    expect_in(a, "c", "0");
    CHECK_OK(corering_put(db, TEXT("c"), TEXT("1"), NULL, NULL));
    CHECK_OK(corering_tx_put(a, TEXT("c2"), TEXT("of a"), NULL));
    CHECK_STATUS(CORERING_ERROR_CONFLICT, corering_tx_commit(a, NULL));
    CHECK(corering_status_is_retryable(CORERING_ERROR_CONFLICT) && !corering_status_may_have_committed(CORERING_ERROR_CONFLICT));
    CHECK_OK(corering_tx_number(a, &age));
    CHECK_OK(corering_tx_free(a));

    /* The age is kept, so that it takes the key from the younger one. */
    b = begin(db, 0, 0);
    CHECK_OK(corering_tx_get_for_update(b, TEXT("c"), NULL, &value));
    CHECK_OK(corering_value_free(&value));
    a = begin(db, 0, age);
    CHECK_OK(corering_tx_get_for_update(a, TEXT("c"), NULL, &value));
    CHECK(equals(&value, "1"));
    CHECK_OK(corering_value_free(&value));
    CHECK_STATUS(CORERING_ERROR_CONFLICT, corering_tx_put(b, TEXT("c"), TEXT("of b"), NULL));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_commit(b, NULL));
    CHECK_OK(corering_tx_free(b));
    CHECK_OK(corering_tx_put(a, TEXT("c"), TEXT("of a"), NULL));
    CHECK_OK(corering_tx_commit(a, NULL));
    CHECK_OK(corering_tx_free(a));
    expect(db, "c", "of a");
    for (attempt = 0; attempt < 40; attempt++) {
        CHECK_OK(corering_tx_pause_ns(db, 0, attempt, &pause));
        CHECK(pause < (attempt < 6 ? UINT64_C(50000) << attempt : 5000000));
    }

    /* One that lost waits for its turn instead of a while, and then nobody comes between. */
    for (attempt = 0; attempt < 2; attempt++) {
        a = begin(db, 0, 0);
        expect_in(a, "c", "of a");
        CHECK_OK(corering_tx_put(a, TEXT("c"), TEXT("lost"), NULL));
        CHECK_OK(corering_put(db, TEXT("c"), TEXT("between"), NULL, NULL));
        CHECK_STATUS(CORERING_ERROR_CONFLICT, corering_tx_commit(a, NULL));
        CHECK_OK(corering_tx_number(a, &age));
        CHECK_OK(corering_tx_free(a));
        CHECK_OK(corering_tx_pause_ns(db, age, 30, &pause));
        CHECK(pause == 0);
        a = begin(db, 0, age);
        if (attempt == 0) {
            CHECK_OK(corering_tx_wait_turn(a));
        } else {
            CHECK_OK(corering_queue_new(db, 2, &queue));
            CHECK_OK(corering_queue_wait_turn(queue, a, 9));
            result = reap_one(queue);
            CHECK(result.user_data == 9 && result.status == CORERING_OK && result.kind == CORERING_OP_TURN);
            CHECK_OK(corering_queue_free(queue));
        }
        b = begin(db, 0, 0);
        CHECK_OK(corering_tx_put(b, TEXT("c"), TEXT("of b"), NULL));
        CHECK_STATUS(CORERING_ERROR_CONFLICT, corering_tx_commit(b, NULL));
        CHECK_OK(corering_tx_free(b));
        expect_in(a, "c", "between");
        CHECK_OK(corering_tx_put(a, TEXT("c"), TEXT("of a"), NULL));
        CHECK_OK(corering_tx_commit(a, NULL));
        CHECK_OK(corering_tx_free(a));
        expect(db, "c", "of a");
    }
}

static void test_guarded_transaction(corering_db *db)
{
    corering_session session = open_session(db, 60000, "guards");
    corering_guard guard = {"tx lock", 7, 0};
    corering_grant grant;
    int round;
    CHECK_OK(corering_lock_acquire(db, &session, TEXT("tx lock"), NULL, &grant));
    guard.token = grant.token;
    for (round = 0; round < 2; round++) {
        corering_tx *tx = begin(db, 0, 0);
        CHECK_OK(corering_tx_guard(tx, &guard, 1));
        CHECK_OK(corering_tx_put(tx, TEXT("guarded"), round == 0 ? "yes" : "no!", 3, NULL));
        CHECK_STATUS(round == 0 ? CORERING_OK : CORERING_ERROR_FENCED, corering_tx_commit(tx, NULL));
        CHECK_OK(corering_tx_free(tx));
        CHECK_STATUS(round == 0 ? CORERING_OK : CORERING_ERROR_NOT_HELD,
                     corering_lock_release(db, &session, TEXT("tx lock"), 0, NULL, NULL, NULL));
    }
    expect(db, "guarded", "yes");
    CHECK_OK(corering_session_end(db, &session));
}

/* A grant and a commit are completions. */
static void test_asynchronous_transactions(corering_db *db)
{
    corering_tx *older = begin(db, 0, 0), *younger = begin(db, 0, 0), *gone = begin(db, 0, 0);
    corering_queue *queue;
    corering_result result;
    CHECK_OK(corering_queue_new(db, 3, &queue));
    CHECK_OK(corering_put(db, TEXT("turn"), TEXT("0"), NULL, NULL));
    CHECK_OK(corering_queue_get_for_update(queue, older, TEXT("turn"), NULL, 1));
    result = reap_one(queue);
    CHECK(result.user_data == 1 && result.kind == CORERING_OP_GET_FOR_UPDATE && equals(&result.value, "0"));
    CHECK_OK(corering_value_free(&result.value));
    CHECK_OK(corering_queue_get_for_update(queue, younger, TEXT("turn"), NULL, 2));
    CHECK_OK(corering_queue_get_for_update(queue, gone, TEXT("turn"), NULL, 3));
    CHECK_OK(corering_tx_rollback(gone));
    result = reap_one(queue);
    CHECK(result.user_data == 3 && result.status == CORERING_ERROR_TRANSACTION_ENDED);
    CHECK_OK(corering_value_free(&result.value));
    CHECK_OK(corering_tx_put(older, TEXT("turn"), TEXT("1"), NULL));
    CHECK_OK(corering_queue_commit(queue, older, 4));
    /* The grant may come before the commit's completion does, and has its value. */
    while (result.user_data != 2) {
        result = reap_one(queue);
        CHECK(result.status == CORERING_OK && (result.user_data == 2 || result.version > 0));
        CHECK(result.user_data != 2 || equals(&result.value, "1"));
        CHECK_OK(corering_value_free(&result.value));
    }
    /* A full queue leaves the transaction open. */
    CHECK_OK(corering_queue_free(queue));
    CHECK_OK(corering_queue_new(db, 1, &queue));
    CHECK_OK(corering_queue_get_for_update(queue, younger, TEXT("turn"), NULL, 5));
    CHECK_STATUS(CORERING_ERROR_BUSY, corering_queue_commit(queue, younger, 6));
    result = reap_one(queue);
    CHECK_OK(corering_value_free(&result.value));
    CHECK_OK(corering_tx_put(younger, TEXT("turn"), TEXT("2"), NULL));
    CHECK_OK(corering_queue_commit(queue, younger, 6));
    result = reap_one(queue);
    CHECK(result.user_data == 6 && result.status == CORERING_OK && result.version > 0);
    expect(db, "turn", "2");
    /* What is refused at once takes no place in the queue. */
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_queue_get_for_update(queue, gone, TEXT("turn"), NULL, 7));
    CHECK_OK(corering_queue_commit(queue, gone, 8));
    result = reap_one(queue);
    CHECK(result.user_data == 8 && result.status == CORERING_ERROR_TRANSACTION_ENDED);
    CHECK_OK(corering_value_free(&result.value));
    CHECK_OK(corering_queue_free(queue));
    CHECK_OK(corering_tx_free(older));
    CHECK_OK(corering_tx_free(younger));
    CHECK_OK(corering_tx_free(gone));
}

/* ---- functions that are run in a transaction until it commits ---- */

enum way { COMMITS, GIVES_UP, ANSWERS_A_CONFLICT, COMMITS_BY_ITSELF, ROLLS_BACK, FREES, ANSWERS_NONSENSE, CLOSES };

struct transacted {
    corering_db *db;
    enum way way;
    int disturbed; /* so many runs are */
    int runs;
    uint64_t age;
    corering_tx_id first, last;
};

/* Adds one to the number at "counted", which others change meanwhile in the runs that are disturbed. */
static int32_t add_one(corering_tx *tx, void *context)
{
    struct transacted *own = (struct transacted *)context;
    corering_value value;
    char text[24];
    uint64_t age;
    long n = 0;
    int32_t status = corering_tx_get(tx, TEXT("counted"), NULL, &value);
    if (status == CORERING_OK) {
        (void)snprintf(text, sizeof text, "%.*s", (int)value.len, (const char *)value.data);
        n = strtol(text, NULL, 10);
        CHECK_OK(corering_value_free(&value));
    }
    CHECK_OK(corering_tx_number(tx, &age));
    CHECK(own->runs == 0 || own->age == age);
    own->age = age;
    CHECK_OK(corering_tx_get_id(tx, &own->last));
    if (own->runs++ == 0) {
        own->first = own->last;
    }
    if (own->disturbed >= own->runs) {
        CHECK_OK(corering_put(own->db, TEXT("counted"), text, (size_t)snprintf(text, sizeof text, "%ld", n + 100), NULL, NULL));
    }
    if (status >= 0) {
        status = corering_tx_put(tx, TEXT("counted"), text, (size_t)snprintf(text, sizeof text, "%ld", n + 1), NULL);
    }
    switch (own->way) {
    case GIVES_UP:
        return CORERING_ERROR_OVERFLOW;
    case ANSWERS_A_CONFLICT:
        return own->runs < 4 ? CORERING_ERROR_CONFLICT : CORERING_OK;
    case COMMITS_BY_ITSELF:
        CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_tx_commit(tx, NULL));
        return CORERING_OK;
    case ROLLS_BACK:
        CHECK_OK(corering_tx_rollback(tx));
        return CORERING_OK;
    case FREES:
        CHECK_OK(corering_tx_free(tx));
        return CORERING_OK;
    case ANSWERS_NONSENSE:
        return -9999;
    case CLOSES:
        CHECK_OK(corering_close(own->db));
        return CORERING_OK;
    default:
        /* An answer above zero is none of an error. */
        return status >= 0 ? CORERING_REFUSED : status;
    }
}

static void *add_many(void *db)
{
    int n;
    for (n = 0; n < 50; n++) {
        struct transacted own = {.db = db, .way = COMMITS};
        CHECK_OK(corering_transact(db, NULL, add_one, &own, NULL));
    }
    return NULL;
}

static void test_transact(const char *dir)
{
    static const struct {
        enum way way;
        int32_t wanted;
        int runs;
    } ends[] = {
        {GIVES_UP, CORERING_ERROR_OVERFLOW, 1},
        {ANSWERS_A_CONFLICT, CORERING_OK, 4},
        {COMMITS_BY_ITSELF, CORERING_OK, 1},
        {ROLLS_BACK, CORERING_ERROR_TRANSACTION_ENDED, 1},
        {FREES, CORERING_ERROR_TRANSACTION_ENDED, 1},
        {ANSWERS_NONSENSE, CORERING_ERROR_INVALID_ARGUMENT, 1},
        {CLOSES, CORERING_ERROR_CLOSED, 1},
    };
    corering_db *db = open_db(dir, "transact");
    struct transacted own = {.db = db, .way = COMMITS, .disturbed = 2};
    corering_tx_options options;
    corering_stats stats;
    uint64_t version = 0, found;
    char text[24];
    long counted = 201;
    pthread_t threads[4];
    size_t n;

    /* Twice others come first: it is run again, and what it did then is not there. */
    CHECK_OK(corering_transact(db, NULL, add_one, &own, &version));
    CHECK(own.runs == 3 && version > 0);
    expect(db, "counted", "201");
    CHECK_OK(corering_tx_fate(db, &own.last, &found));
    CHECK(found == version && memcmp(&own.first, &own.last, sizeof own.first) != 0);
    CHECK_STATUS(CORERING_NOT_FOUND, corering_tx_fate(db, &own.first, NULL));

    /* What it may not do is refused, and is not done in part. */
    CHECK_OK(corering_tx_options_init(&options, sizeof options));
    options.flags = CORERING_TX_READ_ONLY;
    own = (struct transacted){.db = db, .way = COMMITS};
    version = 7;
    CHECK_STATUS(CORERING_ERROR_READ_ONLY, corering_transact(db, &options, add_one, &own, &version));
    CHECK(own.runs == 1 && version == 0);

    for (n = 0; n < 4; n++) {
        CHECK(pthread_create(&threads[n], NULL, add_many, db) == 0);
    }
    for (n = 0; n < 4; n++) {
        CHECK(pthread_join(threads[n], NULL) == 0);
    }
    counted += 4 * 50;

    for (n = 0; n < sizeof ends / sizeof ends[0]; n++) {
        (void)snprintf(text, sizeof text, "%ld", counted);
        expect(db, "counted", text);
        own = (struct transacted){.db = db, .way = ends[n].way};
        version = 7;
        CHECK_STATUS(ends[n].wanted, corering_transact(db, NULL, add_one, &own, &version));
        CHECK(own.runs == ends[n].runs);
        CHECK((version > 0) == (ends[n].wanted == CORERING_OK));
        counted += ends[n].wanted == CORERING_OK;
        if (ends[n].way != CLOSES) {
            stats.struct_size = sizeof stats;
            CHECK_OK(corering_get_stats(db, CORERING_ALL_SHARDS, &stats));
            CHECK(stats.tx_open == 0);
        }
    }
    /* The last one closed it, and so nothing was written. */
    db = open_db(dir, "transact");
    (void)snprintf(text, sizeof text, "%ld", counted);
    expect(db, "counted", text);
    CHECK_OK(corering_close(db));
}

/* What a transaction may not exceed: bytes, and its time. */
static void test_limits_of_transactions(corering_db *db)
{
    enum { LEN = 48 << 20 };
    char *value = (char *)calloc(1, LEN);
    corering_tx_options options;
    corering_tx_usage usage;
    corering_tx *tx = begin(db, 0, 0);
    CHECK(value != NULL);
    CHECK_OK(corering_tx_put(tx, TEXT("large 1"), value, LEN, NULL));
    CHECK_OK(corering_tx_put(tx, TEXT("large 2"), value, LEN, NULL));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_TOO_LARGE, corering_tx_put(tx, TEXT("large 3"), value, LEN, NULL));
    usage.struct_size = sizeof usage;
    CHECK_OK(corering_tx_get_usage(tx, &usage));
    CHECK(usage.write_bytes > 2 * (uint64_t)LEN && usage.write_bytes < usage.write_bytes_max);
    /* It is still open, without that call. */
    expect_in(tx, "large 3", NULL);
    CHECK_OK(corering_tx_put(tx, TEXT("large 1"), TEXT("small"), NULL));
    CHECK_OK(corering_tx_put(tx, TEXT("large 2"), TEXT("small"), NULL));
    CHECK_OK(corering_tx_commit(tx, NULL));
    CHECK_OK(corering_tx_free(tx));
    expect(db, "large 2", "small");
    free(value);

    CHECK_OK(corering_tx_options_init(&options, sizeof options));
    options.timeout_ms = 1;
    CHECK_OK(corering_tx_begin(db, &options, &tx));
    sleep_ms(20);
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_TOO_OLD, corering_tx_put(tx, TEXT("late"), TEXT("v"), NULL));
    CHECK(!corering_status_is_retryable(CORERING_ERROR_TRANSACTION_TOO_OLD));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_commit(tx, NULL));
    CHECK_OK(corering_tx_free(tx));
    CHECK_OK(corering_tx_begin(db, &options, &tx));
    sleep_ms(20);
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_TOO_OLD, corering_tx_commit(tx, NULL));
    CHECK_OK(corering_tx_free(tx));
}

/* The fate of a transaction is known by its id, also in the next opening. */
static void test_fate(const char *dir)
{
    corering_db *db = open_db(dir, "fate");
    corering_tx *done = begin(db, 0, 0), *undone = begin(db, 0, 0), *untold = begin(db, CORERING_TX_NO_FATE, 0);
    corering_tx_id ids[3];
    uint64_t version, found;
    int opening;
    CHECK_OK(corering_tx_get_id(done, &ids[0]));
    CHECK_OK(corering_tx_get_id(undone, &ids[1]));
    CHECK_OK(corering_tx_get_id(untold, &ids[2]));
    CHECK(memcmp(&ids[0], &ids[1], sizeof ids[0]) != 0);
    CHECK_OK(corering_tx_put(done, TEXT("f1"), TEXT("v"), NULL));
    CHECK_OK(corering_tx_put(undone, TEXT("f2"), TEXT("v"), NULL));
    CHECK_OK(corering_tx_put(untold, TEXT("f3"), TEXT("v"), NULL));
    CHECK_OK(corering_tx_commit(done, &version));
    CHECK_OK(corering_tx_rollback(undone));
    CHECK_OK(corering_tx_commit(untold, NULL));
    CHECK_OK(corering_tx_free(done));
    CHECK_OK(corering_tx_free(undone));
    CHECK_OK(corering_tx_free(untold));
    for (opening = 0; opening < 2; opening++) {
        CHECK_OK(corering_tx_fate(db, &ids[0], &found));
        CHECK(found == version);
        CHECK_STATUS(CORERING_NOT_FOUND, corering_tx_fate(db, &ids[1], &found));
        CHECK(found == 0);
        CHECK_STATUS(CORERING_ERROR_TRANSACTION_TOO_OLD, corering_tx_fate(db, &ids[2], NULL));
        CHECK_OK(corering_close(db));
        db = open_db(dir, "fate");
    }
    CHECK_OK(corering_close(db));
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : ".";
    corering_db *db = open_db(dir, "basic");
    test_versions();
    test_single_keys(db);
    test_options_of_writes(db);
    test_multi_get(db);
    test_batch(db);
    test_execute(db);
    test_scan(db);
    test_queue(db);
    test_locks(db);
    test_guards(db);
    test_asynchronous_locks(db);
    test_scan_of_locks(db);
    test_cancelled_waits(db);
    test_lost_locks(db);
    test_session_after_restart(dir);
    test_locks_after_the_machine_was_stopped(dir);
    test_transactions(db);
    test_scan_of_a_transaction(db);
    test_savepoints(db);
    test_conflicts(db);
    test_guarded_transaction(db);
    test_asynchronous_transactions(db);
    test_limits_of_transactions(db);
    test_transact(dir);
    test_fate(dir);
    test_stats(db);
    test_open(dir);
    CHECK_OK(corering_close(db));
    printf("basic: %lu checks\n", checks_done);
    return 0;
}
