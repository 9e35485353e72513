/*
 * Clients whose histories are checked: threads that call and wait, and one thread with a completion queue that keeps a call of
 * each of several clients under way. Each call is told on the standard output before it is made, in the lines of the crate
 * corering-proof, and again when it was answered; so the program may be killed at any moment.
 *
 *   history DIR sync|interval|none SEED
 */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 3, IN_FLIGHT = 4, KEYS = 5 };

/* One client: what it draws, and the call under way. */
typedef struct {
    unsigned number;
    uint64_t random;
    int64_t written;
    int64_t seen;
    corering_op op;
    char key[16], value[24], expected[24];
} client;

static corering_db *db;
static corering_write_options level;
static client clients[THREADS + IN_FLIGHT];

static uint64_t now(void)
{
    struct timespec time;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* One write call for each line: a pipe takes it whole, however many threads write. */
static void tell(const char *line, int len)
{
    CHECK(write(STDOUT_FILENO, line, (size_t)len) == len);
}

static uint64_t below(client *who, uint64_t n)
{
    who->random = who->random * 6364136223846793005u + 1442695040888963407u;
    return (who->random >> 33) % n;
}

/* A value that nobody else writes. */
static size_t next_value(client *who)
{
    who->written += 1000;
    return (size_t)snprintf(who->value, sizeof who->value, "%lld",
                            (long long)(who->number + 1) * 1000000000000 + (long long)who->written);
}

/* Draws a call and tells of it. */
static void ask(client *who)
{
    char line[160];
    const uint64_t key = below(who, KEYS), choice = below(who, 100);
    const char *name = "get", *first = "", *second = "";
    corering_op *op = &who->op;
    memset(op, 0, sizeof *op);
    op->key = who->key;
    op->key_len = (size_t)snprintf(who->key, sizeof who->key, "register:%u", (unsigned)key);
    op->value = who->value;
    op->user_data = (uint64_t)(who - clients);
    if (choice < 40) {
        op->kind = CORERING_OP_GET;
    } else if (choice < 62) {
        op->kind = CORERING_OP_PUT;
        op->value_len = next_value(who);
        name = "put";
        first = who->value;
    } else if (choice < 72) {
        op->kind = CORERING_OP_DELETE;
        name = "delete";
    } else if (choice < 90) {
        op->kind = CORERING_OP_PUT_IF;
        op->value_len = next_value(who);
        op->condition.kind = choice < 80 ? CORERING_IF_ABSENT : choice < 85 ? CORERING_IF_PRESENT : CORERING_IF_EQUAL;
        name = choice < 80 ? "absent" : choice < 85 ? "present" : "equal";
        first = who->value;
        if (choice >= 85) {
            op->condition.expected = who->expected;
            op->condition.expected_len =
                (size_t)snprintf(who->expected, sizeof who->expected, "%lld", (long long)who->seen);
            first = who->expected;
            second = who->value;
        }
    } else {
        op->kind = CORERING_OP_INCR;
        op->delta = (int64_t)below(who, 4) + 1;
        (void)snprintf(who->value, sizeof who->value, "%lld", (long long)op->delta);
        name = "add";
        first = who->value;
    }
    if (op->kind == CORERING_OP_GET || op->kind == CORERING_OP_DELETE || op->kind == CORERING_OP_INCR) {
        op->value = NULL;
    }
    tell(line, snprintf(line, sizeof line, "ask %u %llu %u %s %s %s\n", who->number, (unsigned long long)now(),
                        (unsigned)key, name, first, second));
}

/* Tells what the call under way was answered. */
static void answer(client *who, corering_status status, const corering_value *value, int64_t integer)
{
    char line[160], what[64];
    const uint64_t at = now();
    if (status == CORERING_ERROR_BUSY) {
        tell(line, snprintf(line, sizeof line, "ref %u\n", who->number));
        return;
    }
    switch (who->op.kind) {
    case CORERING_OP_GET:
        CHECK(status == CORERING_OK || status == CORERING_NOT_FOUND);
        (void)snprintf(what, sizeof what, "nothing");
        if (status == CORERING_OK) {
            CHECK(value->len < sizeof what);
            memcpy(what, value->data, value->len);
            what[value->len] = '\0';
            who->seen = strtoll(what, NULL, 10);
        }
        break;
    case CORERING_OP_PUT:
        CHECK_OK(status);
        (void)snprintf(what, sizeof what, "done");
        break;
    case CORERING_OP_DELETE:
        CHECK_OK(status);
        (void)snprintf(what, sizeof what, "existed %d", integer != 0);
        break;
    case CORERING_OP_PUT_IF:
        CHECK(status == CORERING_OK || status == CORERING_REFUSED);
        (void)snprintf(what, sizeof what, "taken %d", status == CORERING_OK);
        break;
    default:
        CHECK_OK(status);
        (void)snprintf(what, sizeof what, "sum %lld", (long long)integer);
        break;
    }
    tell(line, snprintf(line, sizeof line, "ans %u %llu %s\n", who->number, (unsigned long long)at, what));
}

static void *call_and_wait(void *mine)
{
    client *who = mine;
    const corering_op *op = &who->op;
    for (;;) {
        corering_value value;
        corering_status status;
        int64_t integer = 0;
        bool existed = false;
        memset(&value, 0, sizeof value);
        ask(who);
        switch (op->kind) {
        case CORERING_OP_GET:
            status = corering_get(db, op->key, op->key_len, NULL, &value);
            break;
        case CORERING_OP_PUT:
            status = corering_put(db, op->key, op->key_len, op->value, op->value_len, &level, NULL);
            break;
        case CORERING_OP_DELETE:
            status = corering_delete(db, op->key, op->key_len, &level, &existed);
            integer = existed;
            break;
        case CORERING_OP_PUT_IF:
            status = corering_put_if(db, op->key, op->key_len, op->value, op->value_len, &op->condition, &level, NULL);
            break;
        default:
            status = corering_incr(db, op->key, op->key_len, op->delta, &level, &integer);
            break;
        }
        answer(who, status, &value, integer);
        CHECK_OK(corering_value_free(&value));
    }
    return NULL;
}

static void submit(corering_queue *queue, client *who)
{
    size_t accepted;
    ask(who);
    CHECK_OK(corering_queue_submit(queue, &who->op, 1, &level, &accepted));
    CHECK(accepted == 1);
}

static void *submit_and_reap(void *unused)
{
    corering_queue *queue;
    corering_result results[IN_FLIGHT];
    struct pollfd readable;
    size_t n, count;
    (void)unused;
    CHECK_OK(corering_queue_new(db, IN_FLIGHT, &queue));
    CHECK_OK(corering_queue_fd(queue, &readable.fd));
    readable.events = POLLIN;
    for (n = 0; n < IN_FLIGHT; n++) {
        submit(queue, &clients[THREADS + n]);
    }
    for (;;) {
        CHECK(poll(&readable, 1, -1) == 1);
        CHECK_OK(corering_queue_reap(queue, results, IN_FLIGHT, &count));
        for (n = 0; n < count; n++) {
            client *who = &clients[results[n].user_data];
            answer(who, results[n].status, &results[n].value, results[n].integer);
            CHECK_OK(corering_value_free(&results[n].value));
            submit(queue, who);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS + 1];
    corering_options options = small_options();
    unsigned n;
    if (argc != 4) {
        fprintf(stderr, "usage: history DIR sync|interval|none SEED\n");
        return 2;
    }
    CHECK_OK(corering_write_options_init(&level, sizeof level));
    if (strcmp(argv[2], "interval") == 0) {
        level.durability = CORERING_DURABILITY_INTERVAL;
        level.interval_ms = 20;
    } else {
        level.durability = strcmp(argv[2], "none") == 0 ? CORERING_DURABILITY_NONE : CORERING_DURABILITY_SYNC;
    }
    CHECK_OK(corering_open(CORERING_ABI_VERSION, argv[1], &options, &db));
    for (n = 0; n < THREADS + IN_FLIGHT; n++) {
        clients[n].number = (unsigned)strtoul(argv[3], NULL, 10) * (THREADS + IN_FLIGHT) + n;
        clients[n].random = clients[n].number + 1;
    }
    for (n = 0; n < THREADS; n++) {
        CHECK(pthread_create(&threads[n], NULL, call_and_wait, &clients[n]) == 0);
    }
    CHECK(pthread_create(&threads[THREADS], NULL, submit_and_reap, NULL) == 0);
    for (n = 0; n <= THREADS; n++) {
        CHECK(pthread_join(threads[n], NULL) == 0);
    }
    return 0;
}
