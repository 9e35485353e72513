/*
 * Writes until it is killed, and tells on its standard output what was acknowledged; or reads such a list on its standard
 * input and checks that all of it is there, and that no batch is there in part.
 *
 *   crash write DIR sync|interval|none ROUND     prints "put ROUND N", "queue ROUND N" or "batch ROUND N" for each answer
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
    /* The tag keeps the keys of one batch on one shard. */
    return (size_t)snprintf(key, room, "{%s-%s-%lu}%d", way, round, n, part);
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

static void *commit_batches(void *unused)
{
    char key[64], value[512];
    corering_batch *batch;
    unsigned long n;
    int part;
    (void)unused;
    CHECK_OK(corering_batch_new(db, &batch));
    for (n = 0;; n++) {
        for (part = 0; part < BATCH_KEYS; part++) {
            const size_t key_len = key_of(key, sizeof key, "batch", round_name, n, part);
            CHECK_OK(corering_batch_put(batch, key, key_len, value, value_of(value, sizeof value, key), NULL));
        }
        CHECK_OK(corering_batch_commit(batch, &level, NULL));
        CHECK_OK(corering_batch_clear(batch));
        acknowledge("batch", n);
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
    void *(*ways[])(void *) = {put_one_by_one, commit_batches, submit_and_reap};
    pthread_t threads[3];
    int n;
    for (n = 0; n < 3; n++) {
        CHECK(pthread_create(&threads[n], NULL, ways[n], NULL) == 0);
    }
    for (n = 0; n < 3; n++) {
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

/* Batches behind the last one that was acknowledged: whole or absent. */
static void check_unacknowledged_batches(const char *round, unsigned long from)
{
    unsigned long n;
    int part;
    for (n = from; n < from + 10; n++) {
        const bool first = is_there("batch", round, n, 0);
        for (part = 1; part < BATCH_KEYS; part++) {
            if (is_there("batch", round, n, part) != first) {
                fprintf(stderr, "batch %s %lu is there in part\n", round, n);
                exit(1);
            }
        }
    }
}

static int check_what_was_acknowledged(void)
{
    char line[128], way[16], round[16], last_round[16] = "";
    unsigned long n, batches = 0, checked = 0, missing = 0;
    int part;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (line[strlen(line) - 1] != '\n') {
            continue; /* the writer was killed within this line */
        }
        CHECK(sscanf(line, "%15s %15s %lu", way, round, &n) == 3);
        if (strcmp(round, last_round) != 0) {
            if (last_round[0] != '\0') {
                check_unacknowledged_batches(last_round, batches);
            }
            memcpy(last_round, round, sizeof last_round);
            batches = 0;
        }
        for (part = 0; part < (strcmp(way, "batch") == 0 ? BATCH_KEYS : 1); part++) {
            if (!is_there(way, round, n, part)) {
                fprintf(stderr, "%s %s %lu (%d) was acknowledged and is missing\n", way, round, n, part);
                missing++;
            }
        }
        if (strcmp(way, "batch") == 0) {
            batches = n + 1;
        }
        checked++;
    }
    if (last_round[0] != '\0') {
        check_unacknowledged_batches(last_round, batches);
    }
    CHECK_OK(corering_close(db));
    printf("%lu acknowledged, %lu missing\n", checked, missing);
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
