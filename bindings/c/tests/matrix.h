/* Every function of corering.h with its pointers and lengths: the table that matrix.c runs over. The test that runs it
 * compares the rows with the header, so that no function and no parameter can be left out. */
#ifndef CORERING_TESTS_MATRIX_H
#define CORERING_TESTS_MATRIX_H

#include "check.h"

/* What stands behind a pointer that is right. */
enum what {
    NOTHING,
    /* handles */
    DB, BATCH, SNAPSHOT, ITERATOR, QUEUE, WATCH, TX, LAST_HANDLE = TX,
    /* inputs */
    KEY, NUMBER_KEY, PATH, OPTIONS, WRITE_OPTIONS, READ_OPTIONS, SCAN_OPTIONS, KEYS, OPS, CONDITION,
    SESSION, SESSION_OPTIONS, LOCK_NAME, LOCK_OPTIONS, WATCH_OPTIONS, TX_OPTIONS, TX_ID, TX_USAGE, GUARDS,
    /* what a call reads and writes */
    STATS, OWNED_VALUE,
    /* outputs */
    PLAIN, NEW_DB, NEW_BATCH, NEW_SNAPSHOT, NEW_ITERATOR, NEW_QUEUE, NEW_WATCH, NEW_TX, NEW_VALUE, NEW_RESULT,
};

struct pointer {
    const char *name;
    enum what what;
    size_t size;       /* of an output */
    int32_t when_null; /* the status then */
    bool is_zeroed;    /* an output that is zero after a failure */
    bool is_array;     /* its elements are as many as the first length says */
};

struct length {
    const char *name;
    size_t good;
    int32_t when_zero;
};

enum { POINTERS_MAX = 7, LENGTHS_MAX = 3, LOCK_NAME_LEN = 12 };

struct args {
    void *at[POINTERS_MAX];
    size_t len[LENGTHS_MAX];
};

struct function {
    const char *name;
    int32_t (*call)(struct args *args);
    int32_t good;      /* the status when everything is right */
    int32_t db_closed; /* and when the database behind the receiver was closed */
    bool ends;         /* the receiver's life */
    struct pointer pointers[POINTERS_MAX + 1];
    struct length lengths[LENGTHS_MAX + 1];
};

/* ---- one line for each function: the call ---- */

#define CALL(name) static int32_t call_##name(struct args *a)
#define AT(n) (a->at[n])
#define LEN(n) (a->len[n])

CALL(abi_version) { (void)a; return corering_abi_version() == CORERING_ABI_VERSION ? CORERING_OK : CORERING_ERROR_PANIC; }
CALL(version) { (void)a; return corering_version()[0] != '\0' ? CORERING_OK : CORERING_ERROR_PANIC; }
CALL(status_name) { (void)a; return strcmp(corering_status_name(-3), "closed") == 0 && corering_status_name(12345) != NULL ? CORERING_OK : CORERING_ERROR_PANIC; }
CALL(status_is_retryable) { (void)a; return corering_status_is_retryable(CORERING_ERROR_BUSY) && !corering_status_is_retryable(12345) ? CORERING_OK : CORERING_ERROR_PANIC; }
CALL(status_may_have_committed) { (void)a; return corering_status_may_have_committed(CORERING_ERROR_POISONED) && !corering_status_may_have_committed(CORERING_ERROR_CLOSED) ? CORERING_OK : CORERING_ERROR_PANIC; }
CALL(error_message) { return corering_error_message(AT(0), LEN(0), AT(1)); }
CALL(options_init) { return corering_options_init(AT(0), LEN(0)); }
CALL(write_options_init) { return corering_write_options_init(AT(0), LEN(0)); }
CALL(read_options_init) { return corering_read_options_init(AT(0), LEN(0)); }
CALL(scan_options_init) { return corering_scan_options_init(AT(0), LEN(0)); }
CALL(open) { return corering_open(CORERING_ABI_VERSION, AT(0), AT(1), AT(2)); }
CALL(close) { return corering_close(AT(0)); }
CALL(sync) { return corering_sync(AT(0)); }
CALL(checkpoint) { return corering_checkpoint(AT(0)); }
CALL(shard_count) { return corering_shard_count(AT(0), AT(1)); }
CALL(open_report) { return corering_open_report(AT(0), AT(1), LEN(0), AT(2)); }
CALL(get_stats) { return corering_get_stats(AT(0), CORERING_ALL_SHARDS, AT(1)); }
CALL(value_free) { return corering_value_free(AT(0)); }
CALL(get) { return corering_get(AT(0), AT(1), LEN(0), AT(2), AT(3)); }
CALL(get_into) { return corering_get_into(AT(0), AT(1), LEN(0), AT(2), AT(3), LEN(1), AT(4), AT(5)); }
CALL(multi_get) { return corering_multi_get(AT(0), AT(1), LEN(0), AT(2), AT(3)); }
CALL(put) { return corering_put(AT(0), AT(1), LEN(0), AT(2), LEN(1), AT(3), AT(4)); }
CALL(delete) { return corering_delete(AT(0), AT(1), LEN(0), AT(2), AT(3)); }
CALL(put_if) { return corering_put_if(AT(0), AT(1), LEN(0), AT(2), LEN(1), AT(3), AT(4), AT(5)); }
CALL(incr) { return corering_incr(AT(0), AT(1), LEN(0), 1, AT(2), AT(3)); }
CALL(batch_new) { return corering_batch_new(AT(0), AT(1)); }
CALL(batch_free) { return corering_batch_free(AT(0)); }
CALL(batch_put) { return corering_batch_put(AT(0), AT(1), LEN(0), AT(2), LEN(1), AT(3)); }
CALL(batch_delete) { return corering_batch_delete(AT(0), AT(1), LEN(0), AT(2)); }
CALL(batch_clear) { return corering_batch_clear(AT(0)); }
CALL(batch_len) { return corering_batch_len(AT(0), AT(1)); }
CALL(batch_commit) { return corering_batch_commit(AT(0), AT(1), AT(2)); }
CALL(execute) { return corering_execute(AT(0), AT(1), LEN(0), AT(2), AT(3)); }
CALL(snapshot_new) { return corering_snapshot_new(AT(0), AT(1)); }
CALL(snapshot_free) { return corering_snapshot_free(AT(0)); }
CALL(snapshot_version) { return corering_snapshot_version(AT(0), AT(1)); }
CALL(scan) { return corering_scan(AT(0), AT(1), AT(2)); }
CALL(iterator_next) { return corering_iterator_next(AT(0), AT(1)); }
CALL(iterator_fill) { return corering_iterator_fill(AT(0), AT(1), LEN(0), AT(2)); }
CALL(iterator_free) { return corering_iterator_free(AT(0)); }
CALL(queue_new) { return corering_queue_new(AT(0), 8, AT(1)); }
CALL(queue_fd) { return corering_queue_fd(AT(0), AT(1)); }
CALL(queue_submit) { return corering_queue_submit(AT(0), AT(1), LEN(0), AT(2), AT(3)); }
CALL(queue_submit_batch) { return corering_queue_submit_batch(AT(0), AT(1), AT(2), 7); }
CALL(queue_reap) { return corering_queue_reap(AT(0), AT(1), LEN(0), AT(2)); }
CALL(queue_free) { return corering_queue_free(AT(0)); }

CALL(session_options_init) { return corering_session_options_init(AT(0), LEN(0)); }
CALL(session_open) { return corering_session_open(AT(0), AT(1), AT(2)); }
CALL(session_keep_alive) { return corering_session_keep_alive(AT(0), AT(1)); }
/* A session ends once: each call ends a new one, as long as one can be made. */
CALL(session_end)
{
    corering_session made;
    bool is_made = AT(1) != NULL && corering_session_open(AT(0), NULL, &made) == CORERING_OK;
    return corering_session_end(AT(0), is_made ? &made : AT(1));
}
CALL(session_kill)
{
    corering_session made;
    bool is_made = corering_session_open(AT(0), NULL, &made) == CORERING_OK;
    return corering_session_kill(AT(0), is_made ? made.id : 1);
}
CALL(session_list) { return corering_session_list(AT(0), AT(1), LEN(0), AT(2)); }
CALL(session_lost) { return corering_session_lost(AT(0), AT(1), 0, AT(2)); }
CALL(queue_lost) { return corering_queue_lost(AT(0), AT(1), 7); }
CALL(lock_options_init) { return corering_lock_options_init(AT(0), LEN(0)); }
CALL(lock_acquire) { return corering_lock_acquire(AT(0), AT(1), AT(2), LEN(0), AT(3), AT(4)); }
/* What needs a hold is given one, if that is possible. */
#define HOLD_FIRST (void)corering_lock_acquire(AT(0), AT(1), AT(2), LEN(0), NULL, NULL)
CALL(lock_release) { HOLD_FIRST; return corering_lock_release(AT(0), AT(1), AT(2), LEN(0), 0, AT(3), AT(4), AT(5)); }
CALL(lock_renew) { HOLD_FIRST; return corering_lock_renew(AT(0), AT(1), AT(2), LEN(0), 0, AT(3)); }
CALL(lock_downgrade) { HOLD_FIRST; return corering_lock_downgrade(AT(0), AT(1), AT(2), LEN(0), 0, AT(3), AT(4)); }
CALL(lock_info)
{
    corering_session made;
    if (corering_session_open(AT(0), NULL, &made) == CORERING_OK) {
        (void)corering_lock_acquire(AT(0), &made, AT(1), LEN(0), NULL, NULL);
    }
    return corering_lock_info(AT(0), AT(1), LEN(0), AT(2), LEN(1), AT(3));
}
CALL(lock_scan) { return corering_lock_scan(AT(0), 0, AT(1), LEN(0), AT(2), AT(3)); }
CALL(queue_acquire) { return corering_queue_acquire(AT(0), AT(1), AT(2), LEN(0), AT(3), 7); }
/* Of something that nobody asked for. */
CALL(queue_cancel) { return corering_queue_cancel(AT(0), 12345); }

CALL(watch_options_init) { return corering_watch_options_init(AT(0), LEN(0)); }
CALL(watch_new) { return corering_watch_new(AT(0), AT(1), AT(2)); }
CALL(watch_next) { return corering_watch_next(AT(0), 0, AT(1)); }
CALL(watch_progress) { return corering_watch_progress(AT(0), AT(1)); }
CALL(watch_free) { return corering_watch_free(AT(0)); }
CALL(queue_watch) { return corering_queue_watch(AT(0), AT(1), 7); }
CALL(put_sequential) { return corering_put_sequential(AT(0), AT(1), LEN(0), AT(2), LEN(1), AT(3), AT(4), LEN(2), AT(5), AT(6)); }
CALL(key_session) { return corering_key_session(AT(0), AT(1), LEN(0), AT(2), AT(3)); }
CALL(tx_options_init) { return corering_tx_options_init(AT(0), LEN(0)); }
CALL(tx_begin) { return corering_tx_begin(AT(0), AT(1), AT(2)); }
CALL(tx_free) { return corering_tx_free(AT(0)); }
CALL(tx_get_id) { return corering_tx_get_id(AT(0), AT(1)); }
CALL(tx_number) { return corering_tx_number(AT(0), AT(1)); }
CALL(tx_get_usage) { return corering_tx_get_usage(AT(0), AT(1)); }
CALL(tx_get) { return corering_tx_get(AT(0), AT(1), LEN(0), AT(2), AT(3)); }
CALL(tx_get_for_update) { return corering_tx_get_for_update(AT(0), AT(1), LEN(0), AT(2), AT(3)); }
CALL(tx_put) { return corering_tx_put(AT(0), AT(1), LEN(0), AT(2), LEN(1), AT(3)); }
CALL(tx_delete) { return corering_tx_delete(AT(0), AT(1), LEN(0), AT(2)); }
CALL(tx_put_if) { return corering_tx_put_if(AT(0), AT(1), LEN(0), AT(2), LEN(1), AT(3), AT(4)); }
CALL(tx_scan) { return corering_tx_scan(AT(0), AT(1), AT(2)); }
CALL(tx_savepoint) { return corering_tx_savepoint(AT(0), AT(1)); }
/* The first savepoint of a transaction is 1. */
CALL(tx_rollback_to) { uint64_t at; (void)corering_tx_savepoint(AT(0), &at); return corering_tx_rollback_to(AT(0), 1); }
CALL(tx_release) { uint64_t at = 1; (void)corering_tx_savepoint(AT(0), &at); return corering_tx_release(AT(0), at); }
CALL(tx_guard) { return corering_tx_guard(AT(0), AT(1), LEN(0)); }
CALL(tx_commit) { (void)corering_tx_put(AT(0), TEXT("committed"), TEXT("v"), NULL); return corering_tx_commit(AT(0), AT(1)); }
CALL(tx_rollback) { return corering_tx_rollback(AT(0)); }
CALL(tx_fate) { return corering_tx_fate(AT(0), AT(1), AT(2)); }
/* A pointer to a function does not go into one to an object. */
static inline int32_t put_in_it(corering_tx *tx, void *context) { (void)context; return corering_tx_put(tx, TEXT("transacted"), TEXT("v"), NULL); }
CALL(transact) { return corering_transact(AT(0), AT(1), AT(2) != NULL ? put_in_it : NULL, AT(3), AT(4)); }
CALL(tx_pause_ns) { return corering_tx_pause_ns(AT(0), 0, 3, AT(1)); }
CALL(tx_wait_turn) { return corering_tx_wait_turn(AT(0)); }
CALL(queue_wait_turn) { return corering_queue_wait_turn(AT(0), AT(1), 7); }
CALL(queue_commit) { return corering_queue_commit(AT(0), AT(1), 7); }
CALL(queue_get_for_update) { return corering_queue_get_for_update(AT(0), AT(1), AT(2), LEN(0), AT(3), 7); }

/* ---- and what it is given ---- */

#define INVALID CORERING_ERROR_INVALID_ARGUMENT
#define OK CORERING_OK
#define CLOSED CORERING_ERROR_CLOSED
#define SHORT CORERING_BUFFER_TOO_SMALL

#define HANDLE(name, what) {#name, what, 0, CORERING_ERROR_INVALID_HANDLE, false, false}
#define HANDLE_TO_END(name, what) {#name, what, 0, OK, false, false}
#define IN(name, what, when_null) {#name, what, 0, when_null, false, false}
#define OUT(name, what, type, when_null) {#name, what, sizeof(type), when_null, true, false}
#define OUT_ARRAY(name, what, type) {#name, what, sizeof(type), INVALID, true, true}
/* A buffer, or a struct that a failed call leaves alone. */
#define ROOM(name, what, size, when_null) {#name, what, size, when_null, false, false}
#define POINTERS(...) {__VA_ARGS__}
#define LENGTHS(...) {__VA_ARGS__}
#define NONE {{0}}
#define F(name, good, db_closed, pointers, lengths) {"corering_" #name, call_##name, good, db_closed, false, pointers, lengths}
#define F_END(name, handle, what) {"corering_" #name, call_##name, OK, OK, true, {HANDLE_TO_END(handle, what)}, NONE}

static const struct function functions[] = {
    F(abi_version, OK, OK, NONE, NONE),
    F(version, OK, OK, NONE, NONE),
    F(status_name, OK, OK, NONE, NONE),
    F(status_is_retryable, OK, OK, NONE, NONE),
    F(status_may_have_committed, OK, OK, NONE, NONE),
    F(error_message, OK, OK, POINTERS(ROOM(buffer, PLAIN, 512, INVALID), OUT(len, PLAIN, size_t, OK)), LENGTHS({"capacity", 512, SHORT})),
    F(options_init, OK, OK, POINTERS(ROOM(options, PLAIN, sizeof(corering_options), INVALID)), LENGTHS({"struct_size", sizeof(corering_options), INVALID})),
    F(write_options_init, OK, OK, POINTERS(ROOM(options, PLAIN, sizeof(corering_write_options), INVALID)), LENGTHS({"struct_size", sizeof(corering_write_options), INVALID})),
    F(read_options_init, OK, OK, POINTERS(ROOM(options, PLAIN, sizeof(corering_read_options), INVALID)), LENGTHS({"struct_size", sizeof(corering_read_options), INVALID})),
    F(scan_options_init, OK, OK, POINTERS(ROOM(options, PLAIN, sizeof(corering_scan_options), INVALID)), LENGTHS({"struct_size", sizeof(corering_scan_options), INVALID})),
    F(open, OK, OK, POINTERS(IN(path, PATH, INVALID), IN(options, OPTIONS, OK), OUT(db, NEW_DB, void *, INVALID)), NONE),
    F_END(close, db, DB),
    F(sync, OK, CLOSED, POINTERS(HANDLE(db, DB)), NONE),
    F(checkpoint, OK, CLOSED, POINTERS(HANDLE(db, DB)), NONE),
    F(shard_count, OK, CLOSED, POINTERS(HANDLE(db, DB), OUT(count, PLAIN, uint32_t, INVALID)), NONE),
    F(open_report, OK, CLOSED, POINTERS(HANDLE(db, DB), ROOM(buffer, PLAIN, 4096, INVALID), OUT(len, PLAIN, size_t, OK)), LENGTHS({"capacity", 4096, SHORT})),
    F(get_stats, OK, CLOSED, POINTERS(HANDLE(db, DB), ROOM(stats, STATS, sizeof(corering_stats), INVALID)), NONE),
    F(value_free, OK, OK, POINTERS(IN(value, OWNED_VALUE, OK)), NONE),
    F(get, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(key, KEY, INVALID), IN(options, READ_OPTIONS, OK), OUT(value, NEW_VALUE, corering_value, INVALID)), LENGTHS({"key_len", 1, CORERING_NOT_FOUND})),
    F(get_into, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(key, KEY, INVALID), IN(options, READ_OPTIONS, OK), ROOM(buffer, PLAIN, 8, INVALID), OUT(value_len, PLAIN, size_t, INVALID), OUT(version, PLAIN, uint64_t, OK)), LENGTHS({"key_len", 1, CORERING_NOT_FOUND}, {"capacity", 8, SHORT})),
    F(multi_get, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(keys, KEYS, INVALID), IN(options, READ_OPTIONS, OK), OUT_ARRAY(values, NEW_VALUE, corering_value)), LENGTHS({"count", 1, OK})),
    F(put, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(key, KEY, INVALID), IN(value, KEY, INVALID), IN(options, WRITE_OPTIONS, OK), OUT(version, PLAIN, uint64_t, OK)), LENGTHS({"key_len", 1, OK}, {"value_len", 1, OK})),
    F(delete, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(key, NUMBER_KEY, INVALID), IN(options, WRITE_OPTIONS, OK), OUT(existed, PLAIN, bool, OK)), LENGTHS({"key_len", 1, OK})),
    F(put_if, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(key, KEY, INVALID), IN(value, KEY, INVALID), IN(condition, CONDITION, INVALID), IN(options, WRITE_OPTIONS, OK), OUT(version, PLAIN, uint64_t, OK)), LENGTHS({"key_len", 1, OK}, {"value_len", 1, OK})),
    F(incr, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(key, NUMBER_KEY, INVALID), IN(options, WRITE_OPTIONS, OK), OUT(result, PLAIN, int64_t, OK)), LENGTHS({"key_len", 1, CORERING_ERROR_NOT_AN_INTEGER})),
    F(batch_new, OK, CLOSED, POINTERS(HANDLE(db, DB), OUT(batch, NEW_BATCH, void *, INVALID)), NONE),
    F_END(batch_free, batch, BATCH),
    F(batch_put, OK, OK, POINTERS(HANDLE(batch, BATCH), IN(key, KEY, INVALID), IN(value, KEY, INVALID), IN(options, WRITE_OPTIONS, OK)), LENGTHS({"key_len", 1, OK}, {"value_len", 1, OK})),
    F(batch_delete, OK, OK, POINTERS(HANDLE(batch, BATCH), IN(key, KEY, INVALID), IN(options, WRITE_OPTIONS, OK)), LENGTHS({"key_len", 1, OK})),
    F(batch_clear, OK, OK, POINTERS(HANDLE(batch, BATCH)), NONE),
    F(batch_len, OK, OK, POINTERS(HANDLE(batch, BATCH), OUT(count, PLAIN, size_t, INVALID)), NONE),
    F(batch_commit, OK, CLOSED, POINTERS(HANDLE(batch, BATCH), IN(options, WRITE_OPTIONS, OK), OUT(version, PLAIN, uint64_t, OK)), NONE),
    F(execute, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(ops, OPS, INVALID), IN(options, WRITE_OPTIONS, OK), OUT_ARRAY(results, NEW_RESULT, corering_result)), LENGTHS({"count", 1, OK})),
    F(snapshot_new, OK, CLOSED, POINTERS(HANDLE(db, DB), OUT(snapshot, NEW_SNAPSHOT, void *, INVALID)), NONE),
    F_END(snapshot_free, snapshot, SNAPSHOT),
    F(snapshot_version, OK, OK, POINTERS(HANDLE(snapshot, SNAPSHOT), OUT(version, PLAIN, uint64_t, INVALID)), NONE),
    F(scan, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(options, SCAN_OPTIONS, OK), OUT(iterator, NEW_ITERATOR, void *, INVALID)), NONE),
    F(iterator_next, OK, CLOSED, POINTERS(HANDLE(iterator, ITERATOR), OUT(entry, PLAIN, corering_entry, INVALID)), NONE),
    F(iterator_fill, OK, CLOSED, POINTERS(HANDLE(iterator, ITERATOR), OUT_ARRAY(entries, PLAIN, corering_entry), OUT(count, PLAIN, size_t, INVALID)), LENGTHS({"capacity", 1, INVALID})),
    F_END(iterator_free, iterator, ITERATOR),
    F(queue_new, OK, CLOSED, POINTERS(HANDLE(db, DB), OUT(queue, NEW_QUEUE, void *, INVALID)), NONE),
    F(queue_fd, OK, OK, POINTERS(HANDLE(queue, QUEUE), OUT(fd, PLAIN, int32_t, INVALID)), NONE),
    F(queue_submit, OK, CLOSED, POINTERS(HANDLE(queue, QUEUE), IN(ops, OPS, INVALID), IN(options, WRITE_OPTIONS, OK), OUT(accepted, PLAIN, size_t, INVALID)), LENGTHS({"count", 1, OK})),
    F(queue_submit_batch, OK, CLOSED, POINTERS(HANDLE(queue, QUEUE), HANDLE(batch, BATCH), IN(options, WRITE_OPTIONS, OK)), NONE),
    F(queue_reap, OK, OK, POINTERS(HANDLE(queue, QUEUE), OUT_ARRAY(results, NEW_RESULT, corering_result), OUT(count, PLAIN, size_t, INVALID)), LENGTHS({"capacity", 1, OK})),
    F_END(queue_free, queue, QUEUE),
    F(session_options_init, OK, OK, POINTERS(ROOM(options, PLAIN, sizeof(corering_session_options), INVALID)), LENGTHS({"struct_size", sizeof(corering_session_options), INVALID})),
    F(session_open, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(options, SESSION_OPTIONS, OK), OUT(session, PLAIN, corering_session, INVALID)), NONE),
    F(session_keep_alive, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(session, SESSION, INVALID)), NONE),
    F(session_end, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(session, SESSION, INVALID)), NONE),
    F(session_kill, OK, CLOSED, POINTERS(HANDLE(db, DB)), NONE),
    /* There are more sessions than one by now. */
    F(session_list, SHORT, CLOSED, POINTERS(HANDLE(db, DB), OUT_ARRAY(sessions, PLAIN, corering_session_info), OUT(count, PLAIN, size_t, INVALID)), LENGTHS({"capacity", 1, SHORT})),
    /* It holds nothing. */
    F(session_lost, CORERING_END, CLOSED, POINTERS(HANDLE(db, DB), IN(session, SESSION, INVALID), OUT(loss, PLAIN, corering_loss, INVALID)), NONE),
    F(queue_lost, OK, CLOSED, POINTERS(HANDLE(queue, QUEUE), IN(session, SESSION, INVALID)), NONE),
    F(lock_options_init, OK, OK, POINTERS(ROOM(options, PLAIN, sizeof(corering_lock_options), INVALID)), LENGTHS({"struct_size", sizeof(corering_lock_options), INVALID})),
    F(lock_acquire, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(session, SESSION, INVALID), IN(name, LOCK_NAME, INVALID), IN(options, LOCK_OPTIONS, OK), OUT(grant, PLAIN, corering_grant, OK)), LENGTHS({"name_len", LOCK_NAME_LEN, INVALID})),
    F(lock_release, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(session, SESSION, INVALID), IN(name, LOCK_NAME, INVALID), IN(options, LOCK_OPTIONS, OK), OUT(count, PLAIN, uint32_t, OK), OUT(expired, PLAIN, bool, OK)), LENGTHS({"name_len", LOCK_NAME_LEN, INVALID})),
    F(lock_renew, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(session, SESSION, INVALID), IN(name, LOCK_NAME, INVALID), OUT(current, PLAIN, uint64_t, OK)), LENGTHS({"name_len", LOCK_NAME_LEN, INVALID})),
    F(lock_downgrade, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(session, SESSION, INVALID), IN(name, LOCK_NAME, INVALID), IN(options, LOCK_OPTIONS, OK), OUT(grant, PLAIN, corering_grant, OK)), LENGTHS({"name_len", LOCK_NAME_LEN, INVALID})),
    F(lock_info, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(name, LOCK_NAME, INVALID), ROOM(parts, PLAIN, sizeof(corering_lock_part), INVALID), OUT(count, PLAIN, size_t, INVALID)), LENGTHS({"name_len", LOCK_NAME_LEN, INVALID}, {"capacity", 1, SHORT})),
    F(lock_scan, OK, CLOSED, POINTERS(HANDLE(db, DB), OUT_ARRAY(locks, PLAIN, corering_lock_entry), OUT(count, PLAIN, size_t, INVALID), OUT(next, PLAIN, uint64_t, INVALID)), LENGTHS({"capacity", 1, INVALID})),
    F(queue_acquire, OK, CLOSED, POINTERS(HANDLE(queue, QUEUE), IN(session, SESSION, INVALID), IN(name, LOCK_NAME, INVALID), IN(options, LOCK_OPTIONS, OK)), LENGTHS({"name_len", LOCK_NAME_LEN, INVALID})),
    F(queue_cancel, CORERING_NOT_FOUND, CLOSED, POINTERS(HANDLE(queue, QUEUE)), NONE),
    F(watch_options_init, OK, OK, POINTERS(ROOM(options, PLAIN, sizeof(corering_watch_options), INVALID)), LENGTHS({"struct_size", sizeof(corering_watch_options), INVALID})),
    F(watch_new, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(options, WATCH_OPTIONS, OK), OUT(watch, NEW_WATCH, void *, INVALID)), NONE),
    /* It watches a key that nobody writes. */
    F(watch_next, CORERING_END, CLOSED, POINTERS(HANDLE(watch, WATCH), OUT(change, PLAIN, corering_change, INVALID)), NONE),
    F(watch_progress, OK, OK, POINTERS(HANDLE(watch, WATCH), OUT(version, PLAIN, uint64_t, INVALID)), NONE),
    F_END(watch_free, watch, WATCH),
    F(queue_watch, OK, CLOSED, POINTERS(HANDLE(queue, QUEUE), HANDLE(watch, WATCH)), NONE),
    F(put_sequential, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(prefix, KEY, INVALID), IN(value, KEY, INVALID), IN(options, WRITE_OPTIONS, OK), ROOM(key, PLAIN, 21, INVALID), OUT(key_len, PLAIN, size_t, INVALID), OUT(version, PLAIN, uint64_t, OK)), LENGTHS({"prefix_len", 1, OK}, {"value_len", 1, OK}, {"capacity", 21, SHORT})),
    F(key_session, CORERING_NOT_FOUND, CLOSED, POINTERS(HANDLE(db, DB), IN(key, KEY, INVALID), IN(options, READ_OPTIONS, CORERING_NOT_FOUND), OUT(session_id, PLAIN, uint64_t, INVALID)), LENGTHS({"key_len", 1, CORERING_NOT_FOUND})),
    F(tx_options_init, OK, OK, POINTERS(ROOM(options, PLAIN, sizeof(corering_tx_options), INVALID)), LENGTHS({"struct_size", sizeof(corering_tx_options), INVALID})),
    F(tx_begin, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(options, TX_OPTIONS, OK), OUT(tx, NEW_TX, void *, INVALID)), NONE),
    F_END(tx_free, tx, TX),
    F(tx_get_id, OK, OK, POINTERS(HANDLE(tx, TX), OUT(id, PLAIN, corering_tx_id, INVALID)), NONE),
    F(tx_number, OK, OK, POINTERS(HANDLE(tx, TX), OUT(number, PLAIN, uint64_t, INVALID)), NONE),
    F(tx_get_usage, OK, CLOSED, POINTERS(HANDLE(tx, TX), ROOM(usage, TX_USAGE, sizeof(corering_tx_usage), INVALID)), NONE),
    F(tx_get, OK, CLOSED, POINTERS(HANDLE(tx, TX), IN(key, KEY, INVALID), IN(options, READ_OPTIONS, OK), OUT(value, NEW_VALUE, corering_value, INVALID)), LENGTHS({"key_len", 1, OK})),
    F(tx_get_for_update, CORERING_NOT_FOUND, CLOSED, POINTERS(HANDLE(tx, TX), IN(key, LOCK_NAME, INVALID), IN(options, READ_OPTIONS, CORERING_NOT_FOUND), OUT(value, NEW_VALUE, corering_value, INVALID)), LENGTHS({"key_len", LOCK_NAME_LEN, OK})),
    F(tx_put, OK, CLOSED, POINTERS(HANDLE(tx, TX), IN(key, KEY, INVALID), IN(value, KEY, INVALID), IN(options, WRITE_OPTIONS, OK)), LENGTHS({"key_len", 1, OK}, {"value_len", 1, OK})),
    F(tx_delete, OK, CLOSED, POINTERS(HANDLE(tx, TX), IN(key, KEY, INVALID), IN(options, WRITE_OPTIONS, OK)), LENGTHS({"key_len", 1, OK})),
    F(tx_put_if, OK, CLOSED, POINTERS(HANDLE(tx, TX), IN(key, KEY, INVALID), IN(value, KEY, INVALID), IN(condition, CONDITION, INVALID), IN(options, WRITE_OPTIONS, OK)), LENGTHS({"key_len", 1, OK}, {"value_len", 1, OK})),
    F(tx_scan, OK, CLOSED, POINTERS(HANDLE(tx, TX), IN(options, SCAN_OPTIONS, OK), OUT(iterator, NEW_ITERATOR, void *, INVALID)), NONE),
    F(tx_savepoint, OK, CLOSED, POINTERS(HANDLE(tx, TX), OUT(savepoint, PLAIN, uint64_t, INVALID)), NONE),
    F(tx_rollback_to, OK, CLOSED, POINTERS(HANDLE(tx, TX)), NONE),
    F(tx_release, OK, CLOSED, POINTERS(HANDLE(tx, TX)), NONE),
    F(tx_guard, OK, CLOSED, POINTERS(HANDLE(tx, TX), IN(guards, GUARDS, INVALID)), LENGTHS({"count", 1, OK})),
    F(tx_commit, OK, CLOSED, POINTERS(HANDLE(tx, TX), OUT(version, PLAIN, uint64_t, OK)), NONE),
    F(tx_rollback, OK, CLOSED, POINTERS(HANDLE(tx, TX)), NONE),
    /* No transaction has the id of zeroes. */
    F(tx_fate, CORERING_NOT_FOUND, CLOSED, POINTERS(HANDLE(db, DB), IN(id, TX_ID, INVALID), OUT(version, PLAIN, uint64_t, CORERING_NOT_FOUND)), NONE),
    F(transact, OK, CLOSED, POINTERS(HANDLE(db, DB), IN(options, TX_OPTIONS, OK), IN(function, KEY, INVALID), IN(context, KEY, OK), OUT(version, PLAIN, uint64_t, OK)), NONE),
    F(tx_pause_ns, OK, CLOSED, POINTERS(HANDLE(db, DB), OUT(nanoseconds, PLAIN, uint64_t, INVALID)), NONE),
    F(tx_wait_turn, OK, CLOSED, POINTERS(HANDLE(tx, TX)), NONE),
    F(queue_wait_turn, OK, CLOSED, POINTERS(HANDLE(queue, QUEUE), HANDLE(tx, TX)), NONE),
    F(queue_commit, OK, CLOSED, POINTERS(HANDLE(queue, QUEUE), HANDLE(tx, TX)), NONE),
    F(queue_get_for_update, OK, CLOSED, POINTERS(HANDLE(queue, QUEUE), HANDLE(tx, TX), IN(key, LOCK_NAME, INVALID), IN(options, READ_OPTIONS, OK)), LENGTHS({"key_len", LOCK_NAME_LEN, OK})),
};

enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

#endif
