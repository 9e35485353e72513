/*
 * Writes until it is killed, and tells on its standard output what was acknowledged; or reads such a list on its standard
 * input and checks that all of it is there, and that no batch and no transaction is there in part.
 *
 *   crash write DIR sync|interval|none ROUND     prints a line for each answer: put, queue, batch (of one shard), wide (a batch over
 *                                                shards) or tx (a transaction over shards), then ROUND and N
 *   crash check DIR                              exits with 0 if nothing is missing
 */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

enum { IN_FLIGHT = 32, BATCH_KEYS = 3 };

static corering_db *db;
static corering_write_options level;
static const char *round_name;

static size_t key_of(char *key, size_t room, const char *way, const char *round, unsigned long n, int part)
{
    /* The tag keeps the keys of one batch on one shard; without it, they lie on any. */
    const char *format = strcmp(way, "wide") == 0 || strcmp(way, "tx") == 0 ? "%s-%s-%lu-%d" : "{%s-%s-%lu}%d";
    return (size_t)snprintf(key, room, format, way, round, n, part);
}

/* How many keys one step of this way writes, whole or not at all. */
static int parts_of(const char *way)
{
    return strcmp(way, "put") == 0 || strcmp(way, "queue") == 0 ? 1 : BATCH_KEYS;
}

static size_t value_of(char *value, size_t room, const char *key)
{
    return (size_t)snprintf(value, room, "the value of %s, and some more of it: %s%s%s", key, key, key, key);
}

/* One write call for each line: a pipe takes it whole, however many threads write. */
static void acknowledge(const char *way, unsigned long n)
{
    char line[64];
    const int len = snprintf(line, sizeof line, "%s %s %lu\n", way, round_name, n);
    CHECK(write(STDOUT_FILENO, line, (size_t)len) == len);
}

static void *put_one_by_one(void *unused)
{
    char key[64], value[512];
    unsigned long n;
    (void)unused;
    for (n = 0;; n++) {
        const size_t key_len = key_of(key, sizeof key, "put", round_name, n, 0);
        CHECK_OK(corering_put(db, key, key_len, value, value_of(value, sizeof value, key), &level, NULL));
        acknowledge("put", n);
    }
    return NULL;
}

/* Of one shard or over several, as its argument says. */
static void *commit_batches(void *argument)
{
    const char *way = argument;
    char key[64], value[512];
    corering_batch *batch;
    unsigned long n;
    int part;
    CHECK_OK(corering_batch_new(db, &batch));
    for (n = 0;; n++) {
        for (part = 0; part < BATCH_KEYS; part++) {
            const size_t key_len = key_of(key, sizeof key, way, round_name, n, part);
            CHECK_OK(corering_batch_put(batch, key, key_len, value, value_of(value, sizeof value, key), NULL));
        }
        CHECK_OK(corering_batch_commit(batch, &level, NULL));
        CHECK_OK(corering_batch_clear(batch));
        acknowledge(way, n);
    }
    return NULL;
}

/* Each reads what the one before wrote, and writes the next. */
static void *commit_transactions(void *unused)
{
    char key[64], value[512];
    corering_tx *tx;
    corering_tx_options options;
    corering_value found;
    unsigned long n;
    int part;
    (void)unused;
    CHECK_OK(corering_tx_options_init(&options, sizeof options));
    options.durability = level.durability;
    options.interval_ms = level.interval_ms;
    for (n = 0;; n++) {
        CHECK_OK(corering_tx_begin(db, &options, &tx));
        for (part = 0; part < BATCH_KEYS; part++) {
            size_t key_len;
            if (n > 0) {
                key_len = key_of(key, sizeof key, "tx", round_name, n - 1, part);
                CHECK_OK(corering_tx_get(tx, key, key_len, NULL, &found));
                CHECK_OK(corering_value_free(&found));
            }
            key_len = key_of(key, sizeof key, "tx", round_name, n, part);
            CHECK_OK(corering_tx_put(tx, key, key_len, value, value_of(value, sizeof value, key), NULL));
        }
        CHECK_OK(corering_tx_commit(tx, NULL));
        CHECK_OK(corering_tx_free(tx));
        acknowledge("tx", n);
    }
    return NULL;
}

static void submit(corering_queue *queue, unsigned long n)
{
    char key[64], value[512];
    corering_op op;
    size_t accepted;
    memset(&op, 0, sizeof op);
    op.kind = CORERING_OP_PUT;
    op.key = key;
    op.key_len = key_of(key, sizeof key, "queue", round_name, n, 0);
    op.value = value;
    op.value_len = value_of(value, sizeof value, key);
    op.user_data = n;
    CHECK_OK(corering_queue_submit(queue, &op, 1, &level, &accepted));
    CHECK(accepted == 1);
}

static void *submit_and_reap(void *unused)
{
    corering_queue *queue;
    corering_result results[IN_FLIGHT];
    struct pollfd readable;
    unsigned long next = 0;
    size_t n, count;
    (void)unused;
    CHECK_OK(corering_queue_new(db, IN_FLIGHT, &queue));
    CHECK_OK(corering_queue_fd(queue, &readable.fd));
    readable.events = POLLIN;
    while (next < IN_FLIGHT) {
        submit(queue, next++);
    }
    for (;;) {
        CHECK(poll(&readable, 1, -1) == 1);
        CHECK_OK(corering_queue_reap(queue, results, IN_FLIGHT, &count));
        for (n = 0; n < count; n++) {
            CHECK_OK(results[n].status);
            acknowledge("queue", (unsigned long)results[n].user_data);
            submit(queue, next++);
        }
    }
    return NULL;
}

static void open_it(const char *path, const char *name)
{
    corering_options options = small_options();
    CHECK_OK(corering_write_options_init(&level, sizeof level));
    if (strcmp(name, "interval") == 0) {
        level.durability = CORERING_DURABILITY_INTERVAL;
        level.interval_ms = 1000;
    } else {
        level.durability = strcmp(name, "none") == 0 ? CORERING_DURABILITY_NONE : CORERING_DURABILITY_SYNC;
    }
    CHECK_OK(corering_open(CORERING_ABI_VERSION, path, &options, &db));
}

static int write_until_killed(void)
{
    static char one_shard[] = "batch", any_shards[] = "wide";
    const struct {
        void *(*run)(void *);
        void *argument;
    } ways[] = {{put_one_by_one, NULL},
                {commit_batches, one_shard},
                {commit_batches, any_shards},
                {commit_transactions, NULL},
                {submit_and_reap, NULL}};
    enum { WAYS = sizeof ways / sizeof ways[0] };
    pthread_t threads[WAYS];
    int n;
    for (n = 0; n < WAYS; n++) {
        CHECK(pthread_create(&threads[n], NULL, ways[n].run, ways[n].argument) == 0);
    }
    for (n = 0; n < WAYS; n++) {
        CHECK(pthread_join(threads[n], NULL) == 0);
    }
    return 0;
}

static bool is_there(const char *way, const char *round, unsigned long n, int part)
{
    char key[64], wanted[512];
    corering_value found;
    const size_t key_len = key_of(key, sizeof key, way, round, n, part);
    const corering_status status = corering_get(db, key, key_len, NULL, &found);
    CHECK(status == CORERING_OK || status == CORERING_NOT_FOUND);
    if (status == CORERING_OK) {
        const size_t len = value_of(wanted, sizeof wanted, key);
        if (found.len != len || memcmp(found.data, wanted, len) != 0) {
            fprintf(stderr, "%s has a wrong value\n", key);
            exit(1);
        }
        CHECK_OK(corering_value_free(&found));
    }
    return status == CORERING_OK;
}

/* Ways that write several keys at once, and how far each came in the round that is read. */
static const char *const whole_ways[] = {"batch", "wide", "tx"};
enum { WHOLE_WAYS = sizeof whole_ways / sizeof whole_ways[0] };

/* What stands behind the last that was acknowledged: whole or absent. */
static void check_unacknowledged(const char *round, const unsigned long next[WHOLE_WAYS])
{
    unsigned long n;
    int at, part;
    for (at = 0; at < WHOLE_WAYS; at++) {
        for (n = next[at]; n < next[at] + 10; n++) {
            const bool first = is_there(whole_ways[at], round, n, 0);
            for (part = 1; part < BATCH_KEYS; part++) {
                if (is_there(whole_ways[at], round, n, part) != first) {
                    fprintf(stderr, "%s %s %lu is there in part\n", whole_ways[at], round, n);
                    exit(1);
                }
            }
        }
    }
}

static int check_what_was_acknowledged(void)
{
    char line[128], way[16], round[16], last_round[16] = "";
    unsigned long n, next[WHOLE_WAYS] = {0}, checked[WHOLE_WAYS] = {0}, all = 0, missing = 0;
    int at, part;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (line[strlen(line) - 1] != '\n') {
            continue; /* the writer was killed within this line */
        }
        CHECK(sscanf(line, "%15s %15s %lu", way, round, &n) == 3);
        if (strcmp(round, last_round) != 0) {
            if (last_round[0] != '\0') {
                check_unacknowledged(last_round, next);
            }
            memcpy(last_round, round, sizeof last_round);
            memset(next, 0, sizeof next);
        }
        for (part = 0; part < parts_of(way); part++) {
            if (!is_there(way, round, n, part)) {
                fprintf(stderr, "%s %s %lu (%d) was acknowledged and is missing\n", way, round, n, part);
                missing++;
            }
        }
        for (at = 0; at < WHOLE_WAYS; at++) {
            if (strcmp(way, whole_ways[at]) == 0) {
                next[at] = n + 1;
                checked[at]++;
            }
        }
        all++;
    }
    if (last_round[0] != '\0') {
        check_unacknowledged(last_round, next);
    }
    CHECK_OK(corering_close(db));
    printf("%lu acknowledged, %lu missing\n", all, missing);
    for (at = 0; at < WHOLE_WAYS; at++) {
        if (checked[at] == 0) {
            fprintf(stderr, "no %s was ever acknowledged\n", whole_ways[at]);
            return 1;
        }
    }
    return missing == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "write") == 0) {
        open_it(argv[2], argv[3]);
        round_name = argv[4];
        return write_until_killed();
    }
    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        open_it(argv[2], "sync");
        return check_what_was_acknowledged();
    }
    fprintf(stderr, "usage: crash write DIR sync|interval|none ROUND | crash check DIR\n");
    return 2;
}
