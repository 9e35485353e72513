/*
 * The matrix: every function of the header, and for each: everything right, from another thread, each pointer null, each
 * length zero, each handle closed and of another kind, the receiver ended twice, the database closed before its objects
 * and while calls and operations are under way, and a child after fork. Every row has the status that matrix.h says; the
 * process neither crashes nor hangs; what failed leaves its outputs zero. Prints a line for each row that held. All that a
 * call is given lies in blocks of exactly its size, so that AddressSanitizer sees a byte too many.
 * Usage: matrix DIR [without-database]
 */
#include "matrix.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANG_SECONDS = 300 };

static const char *dir;
static atomic_uint opened;

static corering_db *open_new(void)
{
    char name[32];
    corering_db *db;
    (void)snprintf(name, sizeof name, "db%d-%u", (int)getpid(), atomic_fetch_add(&opened, 1));
    db = open_db(dir, name);
    CHECK_OK(corering_put(db, TEXT("k"), TEXT("v"), NULL, NULL));
    return db;
}

static void *exactly(const void *bytes, size_t size)
{
    void *copy = malloc(size);
    CHECK(copy != NULL);
    memcpy(copy, bytes, size);
    return copy;
}

/* ---- a call that is right, to be changed ---- */

struct call {
    const struct function *f;
    struct args args;
    void *memory[POINTERS_MAX]; /* to be freed */
    void *inner;                /* what an element of an array points to */
    corering_db *own_db;        /* opened for this call, to be closed by it */
};

/* None without a database. */
static void *make_handle(enum what what, struct call *call, corering_db *db)
{
    corering_batch *batch;
    corering_snapshot *snapshot;
    corering_iterator *iterator;
    corering_queue *queue;
    corering_watch *watch;
    corering_watch_options watched;
    corering_tx *tx;
    if (db == NULL) {
        return NULL;
    }
    switch (what) {
    case DB:
        return call->f->ends ? call->own_db = open_new() : db;
    case BATCH:
        CHECK_OK(corering_batch_new(db, &batch));
        return batch;
    case SNAPSHOT:
        CHECK_OK(corering_snapshot_new(db, &snapshot));
        return snapshot;
    case ITERATOR:
        CHECK_OK(corering_scan(db, NULL, &iterator));
        return iterator;
    case WATCH:
        CHECK_OK(corering_watch_options_init(&watched, sizeof watched));
        watched.flags = 0;
        watched.key = "untouched";
        watched.key_len = 9;
        CHECK_OK(corering_watch_new(db, &watched, &watch));
        return watch;
    case TX:
        CHECK_OK(corering_tx_begin(db, NULL, &tx));
        return tx;
    default:
        CHECK_OK(corering_queue_new(db, 64, &queue));
        return queue;
    }
}

static int32_t end_handle(enum what what, void *handle)
{
    switch (what) {
    case DB:
        return corering_close(handle);
    case BATCH:
        return corering_batch_free(handle);
    case SNAPSHOT:
        return corering_snapshot_free(handle);
    case ITERATOR:
        return corering_iterator_free(handle);
    case WATCH:
        return corering_watch_free(handle);
    case TX:
        return corering_tx_free(handle);
    default:
        return corering_queue_free(handle);
    }
}

static void *make_input(enum what what, struct call *call, corering_db *db)
{
    corering_options options = small_options();
    corering_write_options write;
    corering_read_options read;
    corering_scan_options scan;
    corering_condition condition;
    corering_bytes key;
    corering_op op;
    corering_stats stats;
    corering_value value;
    corering_session session;
    corering_session_options session_options;
    corering_lock_options lock;
    corering_watch_options watch;
    corering_tx_options tx_options;
    corering_tx_usage usage;
    corering_tx_id id;
    corering_guard guard;
    char path[4096];

    memset(&session, 0, sizeof session);
    memset(&condition, 0, sizeof condition);
    memset(&op, 0, sizeof op);
    memset(&stats, 0x5a, sizeof stats);
    stats.struct_size = sizeof stats;
    switch (what) {
    case KEY:
        return exactly("k", 1);
    case NUMBER_KEY:
        return exactly("n", 1);
    case PATH:
        (void)snprintf(path, sizeof path, "%s/made%d-%u", dir, (int)getpid(), atomic_fetch_add(&opened, 1));
        return exactly(path, strlen(path) + 1);
    case OPTIONS:
        return exactly(&options, sizeof options);
    case WRITE_OPTIONS:
        CHECK_OK(corering_write_options_init(&write, sizeof write));
        return exactly(&write, sizeof write);
    case READ_OPTIONS:
        CHECK_OK(corering_read_options_init(&read, sizeof read));
        return exactly(&read, sizeof read);
    case SCAN_OPTIONS:
        CHECK_OK(corering_scan_options_init(&scan, sizeof scan));
        return exactly(&scan, sizeof scan);
    case CONDITION:
        return exactly(&condition, sizeof condition);
    case KEYS:
        key.data = call->inner = exactly("k", 1);
        key.len = 1;
        return exactly(&key, sizeof key);
    case OPS:
        op.kind = CORERING_OP_GET;
        op.key = call->inner = exactly("k", 1);
        op.key_len = 1;
        return exactly(&op, sizeof op);
    case SESSION_OPTIONS:
        CHECK_OK(corering_session_options_init(&session_options, sizeof session_options));
        return exactly(&session_options, sizeof session_options);
    case SESSION:
        CHECK_OK(corering_session_options_init(&session_options, sizeof session_options));
        session_options.ttl_ms = 3600000;
        CHECK(db == NULL || corering_session_open(db, &session_options, &session) == CORERING_OK);
        return exactly(&session, sizeof session);
    case LOCK_NAME: /* Its own for each call. */
        (void)snprintf(path, sizeof path, "lock%08u", atomic_fetch_add(&opened, 1));
        return exactly(path, LOCK_NAME_LEN);
    case LOCK_OPTIONS:
        CHECK_OK(corering_lock_options_init(&lock, sizeof lock));
        return exactly(&lock, sizeof lock);
    case WATCH_OPTIONS:
        CHECK_OK(corering_watch_options_init(&watch, sizeof watch));
        return exactly(&watch, sizeof watch);
    case TX_OPTIONS:
        CHECK_OK(corering_tx_options_init(&tx_options, sizeof tx_options));
        return exactly(&tx_options, sizeof tx_options);
    case TX_ID:
        memset(&id, 0xff, sizeof id);
        return exactly(&id, sizeof id);
    case TX_USAGE:
        memset(&usage, 0x5a, sizeof usage);
        usage.struct_size = sizeof usage;
        return exactly(&usage, sizeof usage);
    case GUARDS:
        guard.name = call->inner = exactly("g", 1);
        guard.name_len = 1;
        guard.token = 7;
        return exactly(&guard, sizeof guard);
    case STATS:
        return exactly(&stats, sizeof stats);
    default:
        memset(&value, 0, sizeof value);
        CHECK(db == NULL || corering_get(db, TEXT("k"), NULL, &value) == CORERING_OK);
        return exactly(&value, sizeof value);
    }
}

static bool is_handle(enum what what) { return what != NOTHING && what <= LAST_HANDLE; }
static bool is_output(enum what what) { return what >= PLAIN; }

static bool has_receiver(const struct function *f) { return is_handle(f->pointers[0].what); }

static void soil_outputs(struct call *call)
{
    size_t p;
    for (p = 0; call->f->pointers[p].name != NULL; p++) {
        if (is_output(call->f->pointers[p].what) && call->args.at[p] != NULL) {
            memset(call->args.at[p], 0x5a, call->f->pointers[p].size);
        }
    }
}

static struct call prepare(const struct function *f, corering_db *db)
{
    struct call call;
    size_t p, n;
    memset(&call, 0, sizeof call);
    call.f = f;
    for (p = 0; f->pointers[p].name != NULL; p++) {
        const struct pointer *pointer = &f->pointers[p];
        if (is_handle(pointer->what)) {
            call.args.at[p] = make_handle(pointer->what, &call, db);
        } else if (is_output(pointer->what)) {
            call.args.at[p] = call.memory[p] = malloc(pointer->size);
        } else {
            call.args.at[p] = call.memory[p] = make_input(pointer->what, &call, db);
        }
    }
    for (n = 0; f->lengths[n].name != NULL; n++) {
        call.args.len[n] = f->lengths[n].good;
    }
    return call;
}

/* An array of no elements, of which none is written. */
static bool is_empty(const struct call *call, size_t p) { return call->f->pointers[p].is_array && call->args.len[0] == 0; }

/* End what a successful call made. */
static void release_outputs(const struct call *call)
{
    size_t p;
    for (p = 0; call->f->pointers[p].name != NULL; p++) {
        void *out = call->args.at[p];
        enum what what = call->f->pointers[p].what;
        if (out == NULL || is_empty(call, p)) {
            continue;
        }
        if (what >= NEW_DB && what <= NEW_TX) {
            CHECK_OK(end_handle((enum what)(DB + (what - NEW_DB)), *(void **)out));
        } else if (what == NEW_VALUE) {
            CHECK_OK(corering_value_free(out));
        } else if (what == NEW_RESULT) {
            CHECK_OK(corering_value_free(&((corering_result *)out)->value));
        }
    }
}

static void check_zeroed(const struct call *call, const char *row)
{
    size_t p, i;
    for (p = 0; call->f->pointers[p].name != NULL; p++) {
        const struct pointer *pointer = &call->f->pointers[p];
        const unsigned char *out = call->args.at[p];
        for (i = 0; pointer->is_zeroed && out != NULL && !is_empty(call, p) && i < pointer->size; i++) {
            if (out[i] != 0) {
                fprintf(stderr, "%s: %s: byte %zu of %s is not zero after a failure\n", call->f->name, row, i, pointer->name);
                fail_at(__FILE__, __LINE__, "outputs are zero after a failure");
            }
        }
    }
}

static int32_t run(struct call *call, const char *row)
{
    int32_t status;
    soil_outputs(call);
    status = call->f->call(&call->args);
    if (status < 0) {
        check_zeroed(call, row);
    } else {
        release_outputs(call);
    }
    return status;
}

/* End the handles that are still open, and the memory. The changed pointers were put back before. */
static void finish(struct call *call)
{
    size_t p;
    for (p = 0; call->f->pointers[p].name != NULL; p++) {
        enum what what = call->f->pointers[p].what;
        if (is_handle(what) && (what != DB || call->own_db != NULL)) {
            int32_t status = end_handle(what, what == DB ? (void *)call->own_db : call->args.at[p]);
            CHECK(status == CORERING_OK || status == CORERING_ERROR_CLOSED);
        }
        if (what == OWNED_VALUE) {
            CHECK_OK(corering_value_free(call->memory[p]));
        }
        free(call->memory[p]);
    }
    free(call->inner);
}

static void held(const struct function *f, const char *row, const char *name)
{
    printf("%s: %s%s%s\n", f->name, row, *name ? " " : "", name);
}

static void expect(struct call *call, int32_t wanted, const char *row, const char *name)
{
    char what[160];
    (void)snprintf(what, sizeof what, "%s: %s %s", call->f->name, row, name);
    check_status_at(__FILE__, __LINE__, wanted, run(call, row), what);
}

/* ---- the rows ---- */

static void rows_right(const struct function *f, corering_db *db)
{
    struct call call = prepare(f, db);
    expect(&call, f->good, "right", "");
    held(f, "right", "");
    if (f->ends) {
        expect(&call, CORERING_ERROR_CLOSED, "twice", "");
        held(f, "twice", "");
    }
    finish(&call);
}

static void *run_in_thread(void *call)
{
    expect(call, ((struct call *)call)->f->good, "thread", "");
    return NULL;
}

static void rows_thread(const struct function *f, corering_db *db)
{
    struct call call = prepare(f, db);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run_in_thread, &call) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    finish(&call);
    held(f, "thread", "");
}

static void rows_null(const struct function *f, corering_db *db)
{
    size_t p;
    for (p = 0; f->pointers[p].name != NULL; p++) {
        struct call call = prepare(f, db);
        void *right = call.args.at[p];
        call.args.at[p] = NULL;
        expect(&call, f->pointers[p].when_null, "null", f->pointers[p].name);
        call.args.at[p] = right;
        finish(&call);
        held(f, "null", f->pointers[p].name);
    }
}

static void rows_zero(const struct function *f, corering_db *db)
{
    size_t n;
    for (n = 0; f->lengths[n].name != NULL; n++) {
        struct call call = prepare(f, db);
        call.args.len[n] = 0;
        expect(&call, f->lengths[n].when_zero, "zero", f->lengths[n].name);
        finish(&call);
        held(f, "zero", f->lengths[n].name);
    }
}

static void rows_handles(const struct function *f, corering_db *db, corering_db *closed_db)
{
    size_t p;
    int kind;
    for (p = 0; f->pointers[p].name != NULL; p++) {
        enum what what = f->pointers[p].what;
        struct call call;
        void *right;
        if (!is_handle(what)) {
            continue;
        }
        call = prepare(f, db);
        right = call.args.at[p];
        for (kind = DB; kind <= LAST_HANDLE; kind++) {
            if (kind != (int)what) {
                struct call other = {.f = f};
                call.args.at[p] = kind == DB ? (void *)db : make_handle((enum what)kind, &other, db);
                expect(&call, CORERING_ERROR_INVALID_HANDLE, "of another kind", f->pointers[p].name);
                if (kind != DB) {
                    CHECK_OK(end_handle((enum what)kind, call.args.at[p]));
                }
            }
        }
        /* The address of something else. */
        call.args.at[p] = &call;
        expect(&call, CORERING_ERROR_INVALID_HANDLE, "invented", f->pointers[p].name);
        held(f, "of another kind", f->pointers[p].name);
        call.args.at[p] = right;
        if (what == DB) {
            call.args.at[p] = closed_db;
        } else {
            CHECK_OK(end_handle(what, right));
        }
        expect(&call, CORERING_ERROR_CLOSED, "closed", f->pointers[p].name);
        expect(&call, CORERING_ERROR_CLOSED, "closed", f->pointers[p].name);
        held(f, "closed", f->pointers[p].name);
        call.args.at[p] = right;
        finish(&call);
    }
}

static void rows_db_closed_before(void)
{
    corering_db *db = open_new();
    struct call calls[FUNCTIONS];
    size_t f;
    for (f = 0; f < FUNCTIONS; f++) {
        calls[f] = prepare(&functions[f], db);
    }
    CHECK_OK(corering_close(db));
    for (f = 0; f < FUNCTIONS; f++) {
        if (has_receiver(&functions[f])) {
            expect(&calls[f], functions[f].db_closed, "database closed before", "");
            held(&functions[f], "database closed before", "");
        }
        finish(&calls[f]);
    }
}

/* ---- closing with calls and operations under way ---- */

static atomic_bool closing, closed;
static atomic_uint calling;

static void *call_until_closed(void *argument)
{
    struct call *call = argument;
    const struct function *f = call->f;
    /* An end comes once, while the database closes. */
    while (f->ends && !atomic_load(&closing)) {
        (void)sched_yield();
    }
    atomic_fetch_add(&calling, 1);
    for (;;) {
        bool was_closed = atomic_load(&closed);
        int32_t status = run(call, "pending at close");
        if (f->ends) {
            CHECK_STATUS(CORERING_OK, status);
            return NULL;
        }
        /* An iterator, a queue and a transaction come to their end by so many calls. */
        CHECK(status == f->good || status == CORERING_ERROR_CLOSED || status == CORERING_END || status == CORERING_ERROR_BUSY ||
              status == CORERING_ERROR_TRANSACTION_ENDED);
        if (was_closed) {
            CHECK(status == f->db_closed);
            return NULL;
        }
        (void)sched_yield();
    }
}

static void submit_some(corering_queue *queue)
{
    corering_op op;
    size_t accepted;
    int n;
    memset(&op, 0, sizeof op);
    op.kind = CORERING_OP_PUT;
    op.key = op.value = "pending";
    op.key_len = op.value_len = 7;
    for (n = 0; n < 64; n++) {
        CHECK_OK(corering_queue_submit(queue, &op, 1, NULL, &accepted));
    }
}

static void rows_pending_at_close(void)
{
    corering_db *db = open_new();
    struct call calls[FUNCTIONS];
    pthread_t threads[FUNCTIONS];
    unsigned looping = 0;
    size_t f;
    for (f = 0; f < FUNCTIONS; f++) {
        calls[f] = prepare(&functions[f], db);
        if (strcmp(functions[f].name, "corering_queue_free") == 0) {
            submit_some(calls[f].args.at[0]);
        }
        looping += has_receiver(&functions[f]) && !functions[f].ends;
    }
    for (f = 0; f < FUNCTIONS; f++) {
        if (has_receiver(&functions[f])) {
            CHECK(pthread_create(&threads[f], NULL, call_until_closed, &calls[f]) == 0);
        }
    }
    while (atomic_load(&calling) < looping) {
        (void)sched_yield();
    }
    atomic_store(&closing, true);
    CHECK_OK(corering_close(db));
    atomic_store(&closed, true);
    for (f = 0; f < FUNCTIONS; f++) {
        if (has_receiver(&functions[f])) {
            CHECK(pthread_join(threads[f], NULL) == 0);
            held(&functions[f], "pending at close", "");
        }
        finish(&calls[f]);
    }
}

/* ---- fork ---- */

static void rows_fork(corering_db *db)
{
    struct call calls[FUNCTIONS];
    size_t f;
    int status = 0;
    pid_t child;
    for (f = 0; f < FUNCTIONS; f++) {
        calls[f] = prepare(&functions[f], db);
    }
    CHECK(fflush(stdout) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)alarm(HANG_SECONDS);
        for (f = 0; f < FUNCTIONS; f++) {
            bool is_parents = has_receiver(&functions[f]) || functions[f].pointers[0].what == OWNED_VALUE;
            expect(&calls[f], is_parents ? CORERING_ERROR_FORKED : functions[f].good, "fork", "");
            held(&functions[f], "fork", "");
        }
        CHECK(fflush(stdout) == 0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* The parent did not notice. */
    for (f = 0; f < FUNCTIONS; f++) {
        finish(&calls[f]);
    }
    CHECK_OK(corering_sync(db));
}

/* ---- what needs no database: valgrind cannot run one ---- */

static void rows_without_database(const struct function *f)
{
    if (has_receiver(f)) {
        struct call call = prepare(f, NULL);
        expect(&call, f->pointers[0].when_null, "null", f->pointers[0].name);
        call.args.at[0] = &call;
        expect(&call, CORERING_ERROR_INVALID_HANDLE, "invented", f->pointers[0].name);
        call.args.at[0] = NULL;
        finish(&call);
        held(f, "null", f->pointers[0].name);
    } else if (f->call != call_open) {
        rows_right(f, NULL);
        rows_thread(f, NULL);
        rows_null(f, NULL);
        rows_zero(f, NULL);
    }
}

int main(int argc, char **argv)
{
    corering_db *db, *closed_db;
    size_t f;
    dir = argc > 1 ? argv[1] : ".";
    (void)alarm(HANG_SECONDS);
    if (argc > 2 && strcmp(argv[2], "without-database") == 0) {
        for (f = 0; f < FUNCTIONS; f++) {
            rows_without_database(&functions[f]);
        }
        return 0;
    }
    db = open_new();
    closed_db = open_new();
    CHECK_OK(corering_close(closed_db));
    for (f = 0; f < FUNCTIONS; f++) {
        rows_right(&functions[f], db);
        rows_thread(&functions[f], db);
        rows_null(&functions[f], db);
        rows_zero(&functions[f], db);
        rows_handles(&functions[f], db, closed_db);
    }
    rows_db_closed_before();
    rows_pending_at_close();
    rows_fork(db);
    CHECK_OK(corering_close(db));
    return 0;
}
