/*
 * The misuse matrix: every function that takes a handle, with every handle that it must refuse; every pointer and length
 * that can be seen to be wrong; handles used after their database; closing with calls and operations under way; fork.
 * Each row must answer with the status written here, and the process must live. Run plain and under
 * AddressSanitizer. Usage: misuse DIR
 */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- every function that takes a handle, in a form that takes any ---- */

static corering_db *any_db; /* open while the matrix runs */

typedef corering_status (*with_handle)(void *handle);

static corering_status with_sync(void *h) { return corering_sync(h); }
static corering_status with_checkpoint(void *h) { return corering_checkpoint(h); }
static corering_status with_shard_count(void *h) { uint32_t n; return corering_shard_count(h, &n); }
static corering_status with_open_report(void *h) { char text[64]; return corering_open_report(h, text, sizeof text, NULL); }
static corering_status with_stats(void *h)
{
    corering_stats stats;
    stats.struct_size = sizeof stats;
    return corering_get_stats(h, CORERING_ALL_SHARDS, &stats);
}
static corering_status with_get(void *h)
{
    corering_value value;
    corering_status status = corering_get(h, TEXT("k"), NULL, &value);
    CHECK(value.data == NULL && value.len == 0 && value.owner == 0);
    return status;
}
static corering_status with_get_into(void *h)
{
    char buffer[8];
    size_t len = 77;
    uint64_t version = 77;
    corering_status status = corering_get_into(h, TEXT("k"), NULL, buffer, sizeof buffer, &len, &version);
    CHECK(len == 0 && version == 0);
    return status;
}
static corering_status with_multi_get(void *h)
{
    corering_bytes key = {"k", 1};
    corering_value value;
    corering_status status = corering_multi_get(h, &key, 1, NULL, &value);
    CHECK(value.data == NULL);
    return status;
}
static corering_status with_put(void *h)
{
    uint64_t version = 77;
    corering_status status = corering_put(h, TEXT("k"), TEXT("v"), NULL, &version);
    CHECK(version == 0);
    return status;
}
static corering_status with_delete(void *h)
{
    bool existed = true;
    corering_status status = corering_delete(h, TEXT("k"), NULL, &existed);
    CHECK(!existed);
    return status;
}
static corering_status with_put_if(void *h)
{
    corering_condition absent;
    memset(&absent, 0, sizeof absent);
    absent.kind = CORERING_IF_ABSENT;
    return corering_put_if(h, TEXT("k"), TEXT("v"), &absent, NULL, NULL);
}
static corering_status with_incr(void *h)
{
    int64_t result = 77;
    corering_status status = corering_incr(h, TEXT("n"), 1, NULL, &result);
    CHECK(result == 0);
    return status;
}
static corering_status with_execute(void *h)
{
    corering_op op;
    corering_result result;
    memset(&op, 0, sizeof op);
    op.kind = CORERING_OP_GET;
    op.key = "k";
    op.key_len = 1;
    return corering_execute(h, &op, 1, NULL, &result);
}
static corering_status with_batch_new(void *h)
{
    corering_batch *batch = (corering_batch *)h;
    corering_status status = corering_batch_new(h, &batch);
    CHECK(batch == NULL);
    return status;
}
static corering_status with_snapshot_new(void *h)
{
    corering_snapshot *snapshot = (corering_snapshot *)h;
    corering_status status = corering_snapshot_new(h, &snapshot);
    CHECK(snapshot == NULL);
    return status;
}
static corering_status with_scan(void *h)
{
    corering_iterator *iterator = (corering_iterator *)h;
    corering_status status = corering_scan(h, NULL, &iterator);
    CHECK(iterator == NULL);
    return status;
}
static corering_status with_queue_new(void *h)
{
    corering_queue *queue = (corering_queue *)h;
    corering_status status = corering_queue_new(h, 4, &queue);
    CHECK(queue == NULL);
    return status;
}
static corering_status with_batch_put(void *h) { return corering_batch_put(h, TEXT("k"), TEXT("v"), NULL); }
static corering_status with_batch_delete(void *h) { return corering_batch_delete(h, TEXT("k"), NULL); }
static corering_status with_batch_clear(void *h) { return corering_batch_clear(h); }
static corering_status with_batch_len(void *h) { size_t n; return corering_batch_len(h, &n); }
static corering_status with_batch_commit(void *h) { return corering_batch_commit(h, NULL, NULL); }
static corering_status with_snapshot_version(void *h) { uint64_t v; return corering_snapshot_version(h, &v); }
static corering_status with_snapshot_in_get(void *h)
{
    corering_read_options options;
    corering_value value;
    CHECK_OK(corering_read_options_init(&options, sizeof options));
    options.snapshot = h;
    return corering_get(any_db, TEXT("k"), &options, &value);
}
static corering_status with_snapshot_in_scan(void *h)
{
    corering_scan_options options;
    corering_iterator *iterator;
    CHECK_OK(corering_scan_options_init(&options, sizeof options));
    options.snapshot = h;
    return corering_scan(any_db, &options, &iterator);
}
static corering_status with_iterator_next(void *h)
{
    corering_entry entry;
    corering_status status = corering_iterator_next(h, &entry);
    CHECK(entry.key == NULL && entry.value == NULL);
    return status;
}
static corering_status with_iterator_fill(void *h)
{
    corering_entry entries[2];
    size_t count = 77;
    corering_status status = corering_iterator_fill(h, entries, 2, &count);
    CHECK(count == 0);
    return status;
}
static corering_status with_queue_fd(void *h) { int fd; return corering_queue_fd(h, &fd); }
static corering_status with_queue_submit(void *h)
{
    corering_op op;
    size_t accepted = 77;
    corering_status status;
    memset(&op, 0, sizeof op);
    op.kind = CORERING_OP_SYNC;
    status = corering_queue_submit(h, &op, 1, NULL, &accepted);
    CHECK(accepted == 0);
    return status;
}
static corering_status with_queue_submit_batch(void *h)
{
    corering_batch *batch;
    corering_status status;
    CHECK_OK(corering_batch_new(any_db, &batch));
    status = corering_queue_submit_batch(h, batch, NULL, 0);
    CHECK_OK(corering_batch_free(batch));
    return status;
}
static corering_status with_queue_reap(void *h)
{
    corering_result results[2];
    size_t count = 77;
    corering_status status = corering_queue_reap(h, results, 2, &count);
    CHECK(count == 0);
    return status;
}
static corering_status with_queue_commit(void *h)
{
    corering_tx *tx;
    corering_status status;
    CHECK_OK(corering_tx_begin(any_db, NULL, &tx));
    status = corering_queue_commit(h, tx, 0);
    CHECK_OK(corering_tx_free(tx));
    return status;
}
static corering_status with_tx_begin(void *h)
{
    corering_tx *tx = (corering_tx *)h;
    corering_status status = corering_tx_begin(h, NULL, &tx);
    CHECK(tx == NULL);
    return status;
}
static corering_status with_tx_fate(void *h)
{
    corering_tx_id id;
    uint64_t version = 77;
    corering_status status;
    memset(&id, 0xff, sizeof id);
    status = corering_tx_fate(h, &id, &version);
    CHECK(version == 0);
    return status;
}
static corering_status with_tx_get(void *h)
{
    corering_value value;
    corering_status status = corering_tx_get(h, TEXT("k"), NULL, &value);
    CHECK(value.data == NULL && value.owner == 0);
    return status;
}
static corering_status with_tx_wait_turn(void *h) { return corering_tx_wait_turn(h); }
static corering_status with_tx_get_for_update(void *h) { corering_value value; return corering_tx_get_for_update(h, TEXT("k"), NULL, &value); }
static corering_status with_tx_put(void *h) { return corering_tx_put(h, TEXT("k"), TEXT("v"), NULL); }
static corering_status with_tx_delete(void *h) { return corering_tx_delete(h, TEXT("k"), NULL); }
static corering_status with_tx_scan(void *h)
{
    corering_iterator *iterator = (corering_iterator *)h;
    corering_status status = corering_tx_scan(h, NULL, &iterator);
    CHECK(iterator == NULL);
    return status;
}
static corering_status with_tx_savepoint(void *h) { uint64_t n; return corering_tx_savepoint(h, &n); }
static corering_status with_tx_commit(void *h) { return corering_tx_commit(h, NULL); }
static corering_status with_tx_rollback(void *h) { return corering_tx_rollback(h); }
static corering_status with_tx_free(void *h) { return corering_tx_free(h); }
static corering_status with_close(void *h) { return corering_close(h); }
static corering_status with_batch_free(void *h) { return corering_batch_free(h); }
static corering_status with_snapshot_free(void *h) { return corering_snapshot_free(h); }
static corering_status with_iterator_free(void *h) { return corering_iterator_free(h); }
static corering_status with_queue_free(void *h) { return corering_queue_free(h); }

enum kind { DB, BATCH, SNAPSHOT, ITERATOR, QUEUE, TX, KINDS };

struct row {
    const char *name;
    enum kind kind;
    bool null_is_fine; /* the functions that free, and options that may leave a snapshot out */
    with_handle call;
};

#define ROW(kind, name) {#name, kind, false, with_##name}
#define ROW_NULL(kind, name) {#name, kind, true, with_##name}

static const struct row rows[] = {
    ROW(DB, sync), ROW(DB, checkpoint), ROW(DB, shard_count), ROW(DB, open_report), ROW(DB, stats), ROW(DB, get),
    ROW(DB, get_into), ROW(DB, multi_get), ROW(DB, put), ROW(DB, delete), ROW(DB, put_if), ROW(DB, incr),
    ROW(DB, execute), ROW(DB, batch_new), ROW(DB, snapshot_new), ROW(DB, scan), ROW(DB, queue_new),
    ROW(BATCH, batch_put), ROW(BATCH, batch_delete), ROW(BATCH, batch_clear), ROW(BATCH, batch_len),
    ROW(BATCH, batch_commit), ROW(SNAPSHOT, snapshot_version), ROW_NULL(SNAPSHOT, snapshot_in_get),
    ROW_NULL(SNAPSHOT, snapshot_in_scan), ROW(ITERATOR, iterator_next), ROW(ITERATOR, iterator_fill),
    ROW(QUEUE, queue_fd), ROW(QUEUE, queue_submit), ROW(QUEUE, queue_submit_batch), ROW(QUEUE, queue_reap),
    ROW_NULL(DB, close), ROW_NULL(BATCH, batch_free), ROW_NULL(SNAPSHOT, snapshot_free),
    ROW_NULL(ITERATOR, iterator_free), ROW_NULL(QUEUE, queue_free), ROW(QUEUE, queue_commit), ROW(DB, tx_begin), ROW(DB, tx_fate),
    ROW(TX, tx_get), ROW(TX, tx_wait_turn), ROW(TX, tx_get_for_update), ROW(TX, tx_put), ROW(TX, tx_delete), ROW(TX, tx_scan), ROW(TX, tx_savepoint),
    ROW(TX, tx_commit), ROW(TX, tx_rollback), ROW_NULL(TX, tx_free),
};
#define ROWS (sizeof rows / sizeof rows[0])

struct handles {
    void *of[KINDS];
};

static struct handles make_handles(corering_db *db)
{
    struct handles made;
    corering_batch *batch;
    corering_snapshot *snapshot;
    corering_iterator *iterator;
    corering_queue *queue;
    corering_tx *tx;
    CHECK_OK(corering_tx_begin(db, NULL, &tx));
    CHECK_OK(corering_batch_new(db, &batch));
    CHECK_OK(corering_snapshot_new(db, &snapshot));
    CHECK_OK(corering_scan(db, NULL, &iterator));
    CHECK_OK(corering_queue_new(db, 8, &queue));
    made.of[DB] = db;
    made.of[BATCH] = batch;
    made.of[SNAPSHOT] = snapshot;
    made.of[ITERATOR] = iterator;
    made.of[QUEUE] = queue;
    made.of[TX] = tx;
    return made;
}

static void free_handles(const struct handles *h)
{
    CHECK_OK(corering_batch_free(h->of[BATCH]));
    CHECK_OK(corering_snapshot_free(h->of[SNAPSHOT]));
    CHECK_OK(corering_iterator_free(h->of[ITERATOR]));
    CHECK_OK(corering_queue_free(h->of[QUEUE]));
    CHECK_OK(corering_tx_free(h->of[TX]));
}

static void expect_row(const struct row *row, int32_t wanted, void *handle, const char *why)
{
    char what[128];
    (void)snprintf(what, sizeof what, "%s with %s", row->name, why);
    check_status_at(__FILE__, __LINE__, wanted, row->call(handle), what);
}

static void test_matrix(const char *dir)
{
    struct handles open, closed;
    corering_db *gone = open_db(dir, "gone");
    int on_stack = 0;
    void *on_heap = malloc(64);
    size_t r;
    int kind;

    any_db = open_db(dir, "matrix");
    closed = make_handles(gone);
    free_handles(&closed);
    CHECK_OK(corering_close(gone));
    open = make_handles(any_db);

    for (r = 0; r < ROWS; r++) {
        const struct row *row = &rows[r];
        if (row->null_is_fine) {
            corering_status status = row->call(NULL);
            CHECK(status == CORERING_OK || status == CORERING_NOT_FOUND);
        } else {
            expect_row(row, CORERING_ERROR_INVALID_HANDLE, NULL, "null");
        }
        expect_row(row, CORERING_ERROR_CLOSED, closed.of[row->kind], "a closed handle");
        expect_row(row, CORERING_ERROR_CLOSED, closed.of[row->kind], "a closed handle, again");
        for (kind = 0; kind < KINDS; kind++) {
            if (kind != (int)row->kind) {
                expect_row(row, CORERING_ERROR_INVALID_HANDLE, open.of[kind], "a handle of another kind");
                expect_row(row, CORERING_ERROR_INVALID_HANDLE, closed.of[kind], "a closed handle of another kind");
            }
        }
        expect_row(row, CORERING_ERROR_INVALID_HANDLE, &on_stack, "a pointer to the stack");
        expect_row(row, CORERING_ERROR_INVALID_HANDLE, on_heap, "a pointer to the heap");
        expect_row(row, CORERING_ERROR_INVALID_HANDLE, (void *)1, "1");
        expect_row(row, CORERING_ERROR_INVALID_HANDLE, (void *)UINTPTR_MAX, "-1");
        /* Its index has never been given out. */
        expect_row(row, CORERING_ERROR_INVALID_HANDLE, (char *)open.of[row->kind] + (UINT64_C(0x7fffff) << 28),
                   "an invented handle");
        /* The handle that its place will have after the next use. */
        expect_row(row, CORERING_ERROR_INVALID_HANDLE, (char *)open.of[row->kind] + 1, "a handle of the future");
    }
    free_handles(&open);
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_batch_free(open.of[BATCH]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_snapshot_free(open.of[SNAPSHOT]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_iterator_free(open.of[ITERATOR]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_queue_free(open.of[QUEUE]));
    CHECK_OK(corering_close(any_db));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_close(any_db));
    free(on_heap);
}

/* ---- pointers and lengths ---- */

static void test_outputs_null(corering_db *db)
{
    struct handles h = make_handles(db);
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_open(CORERING_ABI_VERSION, "x", NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_get(db, TEXT("k"), NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_get_into(db, TEXT("k"), NULL, NULL, 0, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_multi_get(db, NULL, 1, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_execute(db, NULL, 1, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_batch_new(db, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_batch_len(h.of[BATCH], NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_snapshot_new(db, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_snapshot_version(h.of[SNAPSHOT], NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_scan(db, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_iterator_next(h.of[ITERATOR], NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_iterator_fill(h.of[ITERATOR], NULL, 1, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_new(db, 1, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_fd(h.of[QUEUE], NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_submit(h.of[QUEUE], NULL, 0, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_reap(h.of[QUEUE], NULL, 1, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_shard_count(db, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_get_stats(db, CORERING_ALL_SHARDS, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_options_init(NULL, sizeof(corering_options)));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_write_options_init(NULL, sizeof(corering_write_options)));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_read_options_init(NULL, sizeof(corering_read_options)));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_scan_options_init(NULL, sizeof(corering_scan_options)));
    /* Outputs that may be left out. */
    CHECK_OK(corering_put(db, TEXT("k"), TEXT("v"), NULL, NULL));
    CHECK_OK(corering_delete(db, TEXT("k"), NULL, NULL));
    CHECK_OK(corering_incr(db, TEXT("n"), 1, NULL, NULL));
    CHECK_OK(corering_value_free(NULL));
    CHECK_STATUS(CORERING_BUFFER_TOO_SMALL, corering_error_message(NULL, 0, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_error_message(NULL, 8, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_open_report(db, NULL, 8, NULL));
    free_handles(&h);
}

static void test_inputs(corering_db *db)
{
    corering_value value;
    corering_condition condition;
    corering_batch *batch;
    corering_bytes keys[2] = {{"k", 1}, {NULL, 1}};
    corering_value values[2];
    corering_op op;
    corering_result result;
    char odd[sizeof(corering_op) + 8];
    size_t len;
    char buffer[4];

    memset(&condition, 0, sizeof condition);
    memset(&op, 0, sizeof op);
    /* Null with a length. */
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put(db, NULL, 1, TEXT("v"), NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put(db, TEXT("k"), NULL, 1, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_get(db, NULL, 1, NULL, &value));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_get_into(db, TEXT("k"), NULL, NULL, 4, &len, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_delete(db, NULL, 1, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_incr(db, NULL, 1, 1, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put_if(db, TEXT("k"), TEXT("v"), NULL, NULL, NULL));
    condition.kind = CORERING_IF_EQUAL;
    condition.expected_len = 1;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put_if(db, TEXT("k"), TEXT("v"), &condition, NULL, NULL));
    condition.kind = 99;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put_if(db, TEXT("k"), TEXT("v"), &condition, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_multi_get(db, keys, 2, NULL, values));
    CHECK(values[0].data == NULL && values[1].data == NULL);
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_open(CORERING_ABI_VERSION, NULL, NULL, &db));
    CHECK(db == NULL);
    /* Lengths that nothing has: refused before a byte is read. */
    db = any_db;
    CHECK_STATUS(CORERING_ERROR_KEY_TOO_LARGE, corering_put(db, "k", SIZE_MAX, TEXT("v"), NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_KEY_TOO_LARGE, corering_put(db, "k", CORERING_KEY_LEN_MAX + 1, TEXT("v"), NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_VALUE_TOO_LARGE, corering_put(db, TEXT("k"), "v", SIZE_MAX, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_VALUE_TOO_LARGE, corering_put(db, TEXT("k"), "v", CORERING_VALUE_LEN_MAX + 1, NULL, NULL));
    CHECK_STATUS(CORERING_ERROR_KEY_TOO_LARGE, corering_get(db, "k", SIZE_MAX, NULL, &value));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_multi_get(db, keys, SIZE_MAX, NULL, values));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_execute(db, &op, SIZE_MAX / 2, NULL, &result));
    /* Not aligned. */
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_execute(db, (const corering_op *)(void *)(odd + 1), 1, NULL, &result));
    /* Zero lengths are lengths. */
    CHECK_OK(corering_put(db, TEXT("empty"), NULL, 0, NULL, NULL));
    CHECK_OK(corering_get(db, TEXT("empty"), NULL, &value));
    CHECK(value.data != NULL && value.len == 0);
    CHECK_OK(corering_value_free(&value));
    CHECK_OK(corering_get_into(db, TEXT("empty"), NULL, NULL, 0, &len, NULL));
    CHECK_OK(corering_put(db, NULL, 0, TEXT("at the empty key"), NULL, NULL));
    CHECK_OK(corering_get(db, "", 0, NULL, &value));
    CHECK(value.len == 16);
    CHECK_OK(corering_value_free(&value));
    CHECK_STATUS(CORERING_BUFFER_TOO_SMALL, corering_get_into(db, NULL, 0, NULL, buffer, sizeof buffer, &len, NULL));
    CHECK(len == 16);
    CHECK_OK(corering_delete(db, NULL, 0, NULL, NULL));
    CHECK_OK(corering_multi_get(db, NULL, 0, NULL, NULL));
    CHECK_OK(corering_execute(db, NULL, 0, NULL, NULL));
    /* Operations that make no sense fail one by one. */
    CHECK_OK(corering_execute(db, &op, 1, NULL, &result));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, result.status);
    CHECK_OK(corering_value_free(&result.value));
    op.kind = CORERING_OP_GET;
    op.reserved[1] = 1;
    CHECK_OK(corering_execute(db, &op, 1, NULL, &result));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, result.status);
    CHECK_OK(corering_value_free(&result.value));
    /* A batch cannot be fed what a put refuses. */
    CHECK_OK(corering_batch_new(db, &batch));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_batch_put(batch, NULL, 1, TEXT("v"), NULL));
    CHECK_STATUS(CORERING_ERROR_KEY_TOO_LARGE, corering_batch_delete(batch, "k", SIZE_MAX, NULL));
    CHECK_OK(corering_batch_len(batch, &len));
    CHECK(len == 0);
    CHECK_OK(corering_batch_free(batch));
}

static void test_options(corering_db *db)
{
    struct {
        corering_write_options known;
        uint64_t later;
    } longer;
    corering_write_options write;
    corering_read_options read;
    corering_scan_options scan;
    corering_options options;
    corering_stats stats;
    corering_iterator *iterator;
    corering_value value;
    corering_db *none;

    CHECK_OK(corering_write_options_init(&write, sizeof write));
    CHECK_OK(corering_put(db, TEXT("k"), TEXT("v"), &write, NULL));
    write.struct_size = 0;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put(db, TEXT("k"), TEXT("v"), &write, NULL));
    write.struct_size = SIZE_MAX;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put(db, TEXT("k"), TEXT("v"), &write, NULL));
    /* A program of a later version: fine as long as it does not use what this one lacks. */
    CHECK_OK(corering_write_options_init((corering_write_options *)(void *)&longer, sizeof longer));
    CHECK(longer.known.struct_size == sizeof longer && longer.later == 0);
    CHECK_OK(corering_put(db, TEXT("k"), TEXT("v"), &longer.known, NULL));
    longer.later = 1;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put(db, TEXT("k"), TEXT("v"), &longer.known, NULL));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_write_options_init(&write, 4));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_options_init(&options, SIZE_MAX));

#define BAD_WRITE(field, bad)                                                                        \
    do {                                                                                             \
        CHECK_OK(corering_write_options_init(&write, sizeof write));                                 \
        write.field = (bad);                                                                         \
        CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put(db, TEXT("k"), TEXT("v"), &write, NULL)); \
    } while (0)
    BAD_WRITE(keyspace, 0xff00);
    BAD_WRITE(keyspace, UINT32_MAX);
    BAD_WRITE(durability, 4);
    BAD_WRITE(durability, CORERING_DURABILITY_INTERVAL);
    BAD_WRITE(interval_ms, 5);
    BAD_WRITE(reserved, 1);
    write.reserved = 0;
    write.ttl_ms = 1;
    write.expires_at_ms = 1;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_put(db, TEXT("k"), TEXT("v"), &write, NULL));

    CHECK_OK(corering_read_options_init(&read, sizeof read));
    read.keyspace = 0xffff;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_get(db, TEXT("k"), &read, &value));
    CHECK_OK(corering_scan_options_init(&scan, sizeof scan));
    scan.flags = 1u << 31;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_scan(db, &scan, &iterator));
    scan.flags = 0;
    scan.prefix_len = 3;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_scan(db, &scan, &iterator));
    stats.struct_size = 1;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_get_stats(db, CORERING_ALL_SHARDS, &stats));

    options = small_options();
    options.shards = 70000;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_open(CORERING_ABI_VERSION, "x", &options, &none));
    options = small_options();
    options.flags = 0x80;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_open(CORERING_ABI_VERSION, "x", &options, &none));
    CHECK_STATUS(CORERING_ERROR_ABI_MISMATCH, corering_open(CORERING_ABI_VERSION + 1, "x", NULL, &none));
    CHECK_STATUS(CORERING_ERROR_ABI_MISMATCH, corering_open((CORERING_ABI_MAJOR + 1) << 16, "x", NULL, &none));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_open(CORERING_ABI_VERSION, "", NULL, &none));
}

static void test_values(corering_db *db)
{
    corering_value value, copy, forged;
    CHECK_OK(corering_put(db, TEXT("k"), TEXT("value"), NULL, NULL));
    CHECK_OK(corering_get(db, TEXT("k"), NULL, &value));
    copy = value;
    CHECK_OK(corering_value_free(&value));
    CHECK(value.data == NULL && value.len == 0 && value.owner == 0);
    CHECK_OK(corering_value_free(&value));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_value_free(&copy));
    memset(&forged, 0, sizeof forged);
    forged.owner = (uint64_t)(uintptr_t)&forged;
    CHECK_STATUS(CORERING_ERROR_INVALID_HANDLE, corering_value_free(&forged));
    forged.owner = (uint64_t)(uintptr_t)db;
    CHECK_STATUS(CORERING_ERROR_INVALID_HANDLE, corering_value_free(&forged));
}

static void test_of_another_db(const char *dir, corering_db *db)
{
    corering_db *other = open_db(dir, "other");
    struct handles theirs = make_handles(other);
    corering_queue *queue;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, with_snapshot_in_get(theirs.of[SNAPSHOT]));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, with_snapshot_in_scan(theirs.of[SNAPSHOT]));
    CHECK_OK(corering_queue_new(db, 8, &queue));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_submit_batch(queue, theirs.of[BATCH], NULL, 0));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_commit(queue, theirs.of[TX], 0));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_wait_turn(queue, theirs.of[TX], 0));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_get_for_update(queue, theirs.of[TX], TEXT("k"), NULL, 0));
    CHECK_OK(corering_queue_free(queue));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_new(db, 0, &queue));
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_queue_new(db, UINT32_MAX, &queue));
    free_handles(&theirs);
    CHECK_OK(corering_close(other));
}

/* ---- transactions ---- */

static corering_tx *begin(corering_db *db)
{
    corering_tx *tx;
    CHECK_OK(corering_tx_begin(db, NULL, &tx));
    return tx;
}

static void expect_ended(corering_tx *tx)
{
    uint64_t at;
    corering_value value;
    corering_iterator *iterator;
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_commit(tx, NULL));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_rollback(tx));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_put(tx, TEXT("k"), TEXT("v"), NULL));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_get(tx, TEXT("k"), NULL, &value));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_wait_turn(tx));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_get_for_update(tx, TEXT("k"), NULL, &value));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_scan(tx, NULL, &iterator));
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_savepoint(tx, &at));
}

static void test_ends_of_transactions(corering_db *db)
{
    corering_tx *tx = begin(db);
    corering_iterator *iterator;
    corering_entry entry;
    CHECK_OK(corering_put(db, TEXT("end"), TEXT("v"), NULL, NULL));
    CHECK_OK(corering_tx_put(tx, TEXT("end"), TEXT("w"), NULL));
    CHECK_OK(corering_tx_scan(tx, NULL, &iterator));
    CHECK_OK(corering_tx_commit(tx, NULL));
    expect_ended(tx);
    CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_iterator_next(iterator, &entry));
    CHECK_OK(corering_tx_free(tx));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_iterator_next(iterator, &entry));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_tx_free(tx));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_tx_commit(tx, NULL));
    CHECK_OK(corering_iterator_free(iterator));
    tx = begin(db);
    CHECK_OK(corering_tx_rollback(tx));
    expect_ended(tx);
    CHECK_OK(corering_tx_free(tx));
}

static void test_options_of_transactions(corering_db *db)
{
    corering_tx_options options;
    corering_write_options write;
    corering_tx *tx, *same;
    corering_iterator *iterator;
    corering_scan_options scan;
    corering_snapshot *snapshot;
    uint64_t number;
#define BAD_TX(field, wrong) \
    do { \
        CHECK_OK(corering_tx_options_init(&options, sizeof options)); \
        options.field = (wrong); \
        CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_tx_begin(db, &options, &tx)); \
    } while (0)
    BAD_TX(isolation, 2);
    BAD_TX(durability, 4);
    BAD_TX(interval_ms, 5);
    BAD_TX(flags, 4);
    BAD_TX(struct_size, 8);
    BAD_TX(again, UINT64_MAX);
    CHECK_OK(corering_tx_options_init(&options, sizeof options));
    options.flags = CORERING_TX_NO_FATE;
    options.remember_ms = 5;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_tx_begin(db, &options, &tx));
    /* The age of one that is still open. */
    same = begin(db);
    CHECK_OK(corering_tx_number(same, &number));
    CHECK(number > 0);
    BAD_TX(again, number);
    tx = same;
    CHECK_OK(corering_tx_rollback(tx));
    CHECK_OK(corering_tx_options_init(&options, sizeof options));
    options.again = number;
    CHECK_OK(corering_tx_begin(db, &options, &same));
    CHECK_OK(corering_tx_free(tx));
    /* What belongs to the whole transaction. */
    CHECK_OK(corering_write_options_init(&write, sizeof write));
    write.durability = CORERING_DURABILITY_SYNC;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_tx_put(same, TEXT("k"), TEXT("v"), &write));
    CHECK_OK(corering_snapshot_new(db, &snapshot));
    CHECK_OK(corering_scan_options_init(&scan, sizeof scan));
    scan.snapshot = snapshot;
    CHECK_STATUS(CORERING_ERROR_INVALID_ARGUMENT, corering_tx_scan(same, &scan, &iterator));
    CHECK_OK(corering_snapshot_free(snapshot));
    CHECK_STATUS(CORERING_ERROR_NO_SAVEPOINT, corering_tx_rollback_to(same, 1));
    CHECK_STATUS(CORERING_ERROR_NO_SAVEPOINT, corering_tx_release(same, 1));
    CHECK_OK(corering_tx_free(same));
}

/* Freed while its commit is under way: that goes on. */
static void test_free_with_a_commit_under_way(corering_db *db)
{
    corering_tx *tx;
    corering_queue *queue;
    corering_result result;
    size_t len, count = 0;
    int n;
    for (n = 0; n < 50; n++) {
        char key[16];
        const size_t key_len = (size_t)snprintf(key, sizeof key, "under way%d", n);
        CHECK_OK(corering_queue_new(db, 4, &queue));
        tx = begin(db);
        CHECK_OK(corering_tx_put(tx, key, key_len, TEXT("v"), NULL));
        CHECK_OK(corering_tx_put(tx, TEXT("beside"), TEXT("v"), NULL));
        CHECK_OK(corering_queue_commit(queue, tx, 5));
        CHECK_STATUS(CORERING_ERROR_TRANSACTION_ENDED, corering_tx_put(tx, TEXT("k"), TEXT("v"), NULL));
        CHECK_OK(corering_tx_free(tx));
        if (n % 2 == 0) {
            while (count == 0) {
                CHECK_OK(corering_queue_reap(queue, &result, 1, &count));
                (void)sched_yield();
            }
            count = 0;
            CHECK(result.status == CORERING_OK && result.kind == CORERING_OP_COMMIT && result.user_data == 5 && result.version > 0);
            CHECK_STATUS(CORERING_BUFFER_TOO_SMALL, corering_get_into(db, key, key_len, NULL, NULL, 0, &len, NULL));
        }
        CHECK_OK(corering_queue_free(queue));
    }
}

struct waiting {
    corering_tx *tx;
    atomic_bool has_begun;
    corering_status status;
};

static void *wait_for_key(void *argument)
{
    struct waiting *waiting = argument;
    corering_value value;
    atomic_store(&waiting->has_begun, true);
    waiting->status = corering_tx_get_for_update(waiting->tx, TEXT("awaited"), NULL, &value);
    CHECK_OK(corering_value_free(&value));
    return NULL;
}

/* A wait ends when its transaction is rolled back, or freed, by another thread; and when the database is closed. */
static void test_waits_that_are_ended(const char *dir)
{
    corering_db *db = open_db(dir, "awaited");
    int way;
    for (way = 0; way < 3; way++) {
        corering_tx *older = begin(db);
        corering_stats stats;
        struct waiting waiting = {begin(db), false, CORERING_OK};
        corering_value value;
        uint64_t waits;
        pthread_t thread;
        stats.struct_size = sizeof stats;
        CHECK_OK(corering_get_stats(db, CORERING_ALL_SHARDS, &stats));
        waits = stats.tx_waits;
        CHECK_STATUS(CORERING_NOT_FOUND, corering_tx_get_for_update(older, TEXT("awaited"), NULL, &value));
        CHECK(pthread_create(&thread, NULL, wait_for_key, &waiting) == 0);
        while (stats.tx_waits == waits) {
            CHECK_OK(corering_get_stats(db, CORERING_ALL_SHARDS, &stats));
            (void)sched_yield();
        }
        if (way == 0) {
            CHECK_OK(corering_tx_rollback(waiting.tx));
        } else if (way == 1) {
            CHECK_OK(corering_tx_free(waiting.tx));
        } else {
            CHECK_OK(corering_close(db));
        }
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK_STATUS(way == 2 ? CORERING_ERROR_CLOSED : CORERING_ERROR_TRANSACTION_ENDED, waiting.status);
        CHECK_OK(corering_tx_free(older));
        CHECK_STATUS(way == 1 ? CORERING_ERROR_CLOSED : CORERING_OK, corering_tx_free(waiting.tx));
    }
}

/* A grant that is reaped after its transaction was freed has nobody to read for. */
static void test_a_grant_after_its_transaction(corering_db *db)
{
    corering_tx *tx = begin(db);
    corering_queue *queue;
    corering_result result;
    size_t count = 0;
    CHECK_OK(corering_queue_new(db, 4, &queue));
    CHECK_OK(corering_queue_get_for_update(queue, tx, TEXT("granted"), NULL, 3));
    CHECK_OK(corering_tx_free(tx));
    while (count == 0) {
        CHECK_OK(corering_queue_reap(queue, &result, 1, &count));
        (void)sched_yield();
    }
    CHECK(result.user_data == 3 && result.status == CORERING_ERROR_CLOSED);
    CHECK_OK(corering_value_free(&result.value));
    CHECK_OK(corering_queue_free(queue));
}

/* ---- after the database, with things under way ---- */

static void test_objects_outlive_their_db(const char *dir)
{
    corering_db *db = open_db(dir, "outlived");
    struct handles h;
    corering_value value;
    size_t r;
    CHECK_OK(corering_put(db, TEXT("k"), TEXT("v"), NULL, NULL));
    h = make_handles(db);
    CHECK_OK(corering_batch_put(h.of[BATCH], TEXT("k"), TEXT("w"), NULL));
    CHECK_OK(corering_get(db, TEXT("k"), NULL, &value));
    CHECK_OK(corering_close(db));
    CHECK(value.len == 1 && value.data[0] == 'v');
    CHECK_OK(corering_value_free(&value));
    for (r = 0; r < ROWS; r++) {
        if (rows[r].kind == DB) {
            expect_row(&rows[r], CORERING_ERROR_CLOSED, db, "a database closed before its objects");
        }
    }
    CHECK_STATUS(CORERING_ERROR_CLOSED, with_batch_commit(h.of[BATCH]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, with_iterator_next(h.of[ITERATOR]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, with_iterator_fill(h.of[ITERATOR]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, with_queue_submit(h.of[QUEUE]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, with_tx_get(h.of[TX]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, with_tx_put(h.of[TX]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, with_tx_scan(h.of[TX]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, with_tx_commit(h.of[TX]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, with_tx_rollback(h.of[TX]));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_queue_commit(h.of[QUEUE], h.of[TX], 0));
    CHECK_STATUS(CORERING_ERROR_CLOSED, corering_queue_submit_batch(h.of[QUEUE], h.of[BATCH], NULL, 0));
    CHECK_OK(with_queue_reap(h.of[QUEUE]));
    CHECK_OK(with_queue_fd(h.of[QUEUE]));
    CHECK_OK(with_snapshot_version(h.of[SNAPSHOT]));
    free_handles(&h);
}

enum { MANY = 200 };

static void submit_many(corering_queue *queue)
{
    corering_op ops[MANY];
    char keys[MANY][16];
    size_t n, taken = 0;
    memset(ops, 0, sizeof ops);
    for (n = 0; n < MANY; n++) {
        ops[n].kind = CORERING_OP_PUT;
        ops[n].key = keys[n];
        ops[n].key_len = (size_t)snprintf(keys[n], sizeof keys[n], "many%zu", n);
        ops[n].value = "v";
        ops[n].value_len = 1;
        ops[n].user_data = n;
    }
    CHECK_OK(corering_queue_submit(queue, ops, MANY, NULL, &taken));
    CHECK(taken == MANY);
}

static void test_close_with_operations_under_way(const char *dir)
{
    corering_db *db = open_db(dir, "pending");
    corering_queue *queue;
    corering_result results[16];
    bool seen[MANY] = {false};
    size_t n, count, total = 0;
    CHECK_OK(corering_queue_new(db, MANY, &queue));
    submit_many(queue);
    CHECK_OK(corering_close(db));
    /* Every one of them is answered: done, or closed before it began. */
    while (total < MANY) {
        CHECK_OK(corering_queue_reap(queue, results, 16, &count));
        for (n = 0; n < count; n++) {
            CHECK(results[n].status == CORERING_OK || results[n].status == CORERING_ERROR_CLOSED);
            CHECK(results[n].user_data < MANY && !seen[results[n].user_data]);
            seen[results[n].user_data] = true;
            CHECK_OK(corering_value_free(&results[n].value));
        }
        total += count;
        (void)sched_yield();
    }
    CHECK_OK(corering_queue_free(queue));
    /* And the other way round: the queue goes first, what was submitted is done all the same. */
    db = open_db(dir, "pending2");
    CHECK_OK(corering_queue_new(db, MANY, &queue));
    submit_many(queue);
    CHECK_OK(corering_queue_free(queue));
    CHECK_OK(corering_close(db));
    db = open_db(dir, "pending2");
    CHECK_STATUS(CORERING_BUFFER_TOO_SMALL, corering_get_into(db, TEXT("many0"), NULL, NULL, 0, &count, NULL));
    CHECK_OK(corering_close(db));
}

static void test_full_queue(corering_db *db)
{
    corering_queue *queue;
    corering_op ops[6];
    corering_result results[8];
    size_t taken, count, total = 0;
    struct pollfd poll_fd;
    memset(ops, 0, sizeof ops);
    for (count = 0; count < 6; count++) {
        ops[count].kind = CORERING_OP_GET;
        ops[count].key = "k";
        ops[count].key_len = 1;
    }
    CHECK_OK(corering_queue_new(db, 4, &queue));
    CHECK_OK(corering_queue_submit(queue, ops, 6, NULL, &taken));
    CHECK(taken == 4);
    CHECK_STATUS(CORERING_ERROR_BUSY, corering_queue_submit(queue, ops, 6, NULL, &taken));
    CHECK(taken == 0 && corering_status_is_retryable(CORERING_ERROR_BUSY));
    CHECK_OK(corering_queue_fd(queue, &poll_fd.fd));
    poll_fd.events = POLLIN;
    while (total < 4) {
        CHECK(poll(&poll_fd, 1, 10000) == 1);
        CHECK_OK(corering_queue_reap(queue, results, 1, &count));
        total += count;
        while (count > 0) {
            CHECK_OK(corering_value_free(&results[--count].value));
        }
    }
    CHECK_OK(corering_queue_reap(queue, results, 8, &count));
    CHECK(count == 0);
    CHECK(poll(&poll_fd, 1, 0) == 0);
    CHECK_OK(corering_queue_free(queue));
}

/* ---- threads ---- */

static atomic_ulong answered;
static atomic_bool started;

static void *use_until_closed(void *db)
{
    for (;;) {
        corering_value value;
        corering_status status = corering_put(db, TEXT("shared"), TEXT("v"), NULL, NULL);
        atomic_store(&started, true);
        CHECK(status == CORERING_OK || status == CORERING_ERROR_CLOSED || status == CORERING_ERROR_BUSY);
        status = corering_get(db, TEXT("shared"), NULL, &value);
        CHECK(status == CORERING_OK || status == CORERING_NOT_FOUND || status == CORERING_ERROR_CLOSED);
        CHECK_OK(corering_value_free(&value));
        if (status == CORERING_ERROR_CLOSED) {
            return NULL;
        }
        atomic_fetch_add(&answered, 1);
    }
}

static void *close_it(void *db)
{
    corering_status status = corering_close(db);
    CHECK(status == CORERING_OK || status == CORERING_ERROR_CLOSED);
    return status == CORERING_OK ? db : NULL;
}

static void test_close_under_other_threads(const char *dir)
{
    pthread_t users[4], closers[2];
    void *won;
    int round, n, wins;
    for (round = 0; round < 5; round++) {
        corering_db *db = open_db(dir, "raced");
        atomic_store(&started, false);
        for (n = 0; n < 4; n++) {
            CHECK(pthread_create(&users[n], NULL, use_until_closed, db) == 0);
        }
        while (!atomic_load(&started)) {
            (void)sched_yield();
        }
        for (n = 0; n < 2; n++) {
            CHECK(pthread_create(&closers[n], NULL, close_it, db) == 0);
        }
        for (wins = n = 0; n < 2; n++) {
            CHECK(pthread_join(closers[n], &won) == 0);
            wins += won != NULL;
        }
        CHECK(wins == 1);
        for (n = 0; n < 4; n++) {
            CHECK(pthread_join(users[n], NULL) == 0);
        }
    }
}

static void *walk_shared_iterator(void *iterator)
{
    corering_entry entry;
    corering_status status;
    do {
        status = corering_iterator_next(iterator, &entry);
        CHECK(status == CORERING_OK || status == CORERING_END || status == CORERING_ERROR_CLOSED);
    } while (status == CORERING_OK);
    return NULL;
}

static void test_one_thread_objects_in_two(corering_db *db)
{
    corering_iterator *iterator;
    pthread_t threads[2];
    int n;
    for (n = 0; n < 500; n++) {
        char key[16];
        CHECK_OK(corering_put(db, key, (size_t)snprintf(key, sizeof key, "walk%d", n), TEXT("v"), NULL, NULL));
    }
    CHECK_OK(corering_scan(db, NULL, &iterator));
    for (n = 0; n < 2; n++) {
        CHECK(pthread_create(&threads[n], NULL, walk_shared_iterator, iterator) == 0);
    }
    CHECK_OK(corering_iterator_free(iterator));
    for (n = 0; n < 2; n++) {
        CHECK(pthread_join(threads[n], NULL) == 0);
    }
}

static pthread_key_t at_thread_end;

static void call_at_thread_end(void *db)
{
    size_t len;
    corering_status status = corering_get_into(db, TEXT("k"), NULL, NULL, 0, &len, NULL);
    CHECK(status == CORERING_BUFFER_TOO_SMALL || status == CORERING_NOT_FOUND);
    CHECK_STATUS(CORERING_ERROR_INVALID_HANDLE, corering_sync(NULL));
}

static void *end_with_a_call(void *db)
{
    CHECK(pthread_setspecific(at_thread_end, db) == 0);
    CHECK_STATUS(CORERING_ERROR_INVALID_HANDLE, corering_sync(NULL));
    return NULL;
}

static void test_calls_at_a_threads_end(corering_db *db)
{
    pthread_t thread;
    int n;
    CHECK(pthread_key_create(&at_thread_end, call_at_thread_end) == 0);
    for (n = 0; n < 20; n++) {
        CHECK(pthread_create(&thread, NULL, end_with_a_call, db) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(pthread_key_delete(at_thread_end) == 0);
}

static void *message_of_this_thread(void *wanted)
{
    char text[256];
    CHECK_OK(corering_error_message(text, sizeof text, NULL));
    CHECK(text[0] == '\0');
    CHECK_STATUS(CORERING_ERROR_INVALID_HANDLE, corering_sync(NULL));
    CHECK_OK(corering_error_message(text, sizeof text, NULL));
    CHECK(strstr(text, wanted) != NULL);
    return NULL;
}

static void test_messages_are_each_threads_own(corering_db *db)
{
    char text[256], cut[8];
    char wanted[] = "null pointer";
    size_t len;
    pthread_t thread;
    CHECK_STATUS(CORERING_ERROR_KEY_TOO_LARGE, corering_put(db, "k", 70000, NULL, 0, NULL, NULL));
    CHECK(pthread_create(&thread, NULL, message_of_this_thread, wanted) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_OK(corering_error_message(text, sizeof text, &len));
    CHECK(strstr(text, "70000") != NULL && len == strlen(text));
    CHECK_STATUS(CORERING_BUFFER_TOO_SMALL, corering_error_message(cut, sizeof cut, &len));
    CHECK(strlen(cut) == sizeof cut - 1 && len == strlen(text) && strncmp(cut, text, 7) == 0);
}

/* ---- fork ---- */

static void in_child(const struct handles *h, corering_value *value, const char *dir)
{
    corering_db *own;
    corering_value found;
    size_t r;
    for (r = 0; r < ROWS; r++) {
        if (strcmp(rows[r].name, "queue_submit_batch") != 0 && strcmp(rows[r].name, "queue_commit") != 0 && strncmp(rows[r].name, "snapshot_in", 11) != 0) {
            expect_row(&rows[r], CORERING_ERROR_FORKED, h->of[rows[r].kind], "a handle of the parent");
        }
    }
    CHECK_STATUS(CORERING_ERROR_FORKED, corering_value_free(value));
    own = open_db(dir, "childs");
    CHECK_OK(corering_put(own, TEXT("k"), TEXT("of the child"), NULL, NULL));
    CHECK_OK(corering_get(own, TEXT("k"), NULL, &found));
    CHECK(found.len == 12);
    CHECK_OK(corering_value_free(&found));
    /* The parent's numbers do not lead to the child's objects. */
    CHECK_STATUS(CORERING_ERROR_FORKED, corering_sync(h->of[DB]));
    CHECK_OK(corering_close(own));
}

static void test_fork(const char *dir, corering_db *db)
{
    struct handles h = make_handles(db);
    corering_value value;
    int status = 0;
    pid_t child;
    CHECK_OK(corering_put(db, TEXT("k"), TEXT("v"), NULL, NULL));
    CHECK_OK(corering_get(db, TEXT("k"), NULL, &value));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        in_child(&h, &value, dir);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* The parent did not notice. */
    CHECK_OK(corering_put(db, TEXT("k"), TEXT("still here"), NULL, NULL));
    CHECK_OK(corering_value_free(&value));
    free_handles(&h);
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : ".";
    test_matrix(dir);
    any_db = open_db(dir, "misuse");
    test_outputs_null(any_db);
    test_inputs(any_db);
    test_options(any_db);
    test_values(any_db);
    test_of_another_db(dir, any_db);
    test_ends_of_transactions(any_db);
    test_options_of_transactions(any_db);
    test_free_with_a_commit_under_way(any_db);
    test_waits_that_are_ended(dir);
    test_a_grant_after_its_transaction(any_db);
    test_objects_outlive_their_db(dir);
    test_close_with_operations_under_way(dir);
    test_full_queue(any_db);
    test_close_under_other_threads(dir);
    test_one_thread_objects_in_two(any_db);
    test_calls_at_a_threads_end(any_db);
    test_messages_are_each_threads_own(any_db);
    test_fork(dir, any_db);
    CHECK_OK(corering_close(any_db));
    printf("misuse: %lu checks\n", checks_done);
    return 0;
}
