/*
 * What one call costs from C: nanoseconds by kind of call, on a database of small values that fits into memory.
 * Usage: cost DIR [KEYS]
 */
#include <corering.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VALUE_LEN = 100, MANY = 100 };

static void must(corering_status status, const char *what)
{
    char text[512];
    if (status < 0) {
        (void)corering_error_message(text, sizeof text, NULL);
        fprintf(stderr, "%s: %s\n", what, text);
        exit(1);
    }
}

static double now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static uint64_t chance = 88172645463325252u;

static uint64_t next_random(void)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance;
}

static void key_of(char key[16], uint64_t n)
{
    n *= 0x9e3779b97f4a7c15u;
    memcpy(key, &n, 8);
    memcpy(key + 8, &n, 8);
}

static void report(const char *what, double from, double count)
{
    printf("%-34s %9.0f ns\n", what, (now_ns() - from) / count);
}

int main(int argc, char **argv)
{
    const uint64_t keys = argc > 2 ? strtoull(argv[2], NULL, 10) : 200000;
    char key[16], many_keys[MANY][16], value[VALUE_LEN];
    corering_write_options options;
    corering_bytes asked[MANY];
    corering_value found, many[MANY];
    corering_iterator *iterator;
    corering_entry entry, entries[256];
    corering_batch *batch;
    corering_db *db;
    double from;
    uint64_t n, m;
    size_t len, count, rows = 0;

    memset(value, 'v', sizeof value);
    must(corering_open(CORERING_ABI_VERSION, argc > 1 ? argv[1] : "cost-data", NULL, &db), "open");
    must(corering_write_options_init(&options, sizeof options), "options");
    options.durability = CORERING_DURABILITY_NONE;

    from = now_ns();
    for (n = 0; n < keys; n++) {
        key_of(key, n);
        must(corering_put(db, key, 16, value, sizeof value, &options, NULL), "put");
    }
    report("put, not waiting", from, (double)keys);

    must(corering_batch_new(db, &batch), "batch");
    from = now_ns();
    for (n = 0; n < keys / MANY; n++) {
        for (m = 0; m < MANY; m++) {
            char tagged[32];
            const int tagged_len = snprintf(tagged, sizeof tagged, "{%lu}%lu", (unsigned long)n, (unsigned long)m);
            must(corering_batch_put(batch, tagged, (size_t)tagged_len, value, sizeof value, NULL), "batch put");
        }
        must(corering_batch_commit(batch, &options, NULL), "commit");
        must(corering_batch_clear(batch), "clear");
    }
    report("put in a batch of 100, not waiting", from, (double)(keys / MANY * MANY));
    must(corering_batch_free(batch), "batch");

    from = now_ns();
    for (n = 0; n < 2000; n++) {
        key_of(key, n);
        must(corering_put(db, key, 16, value, sizeof value, NULL, NULL), "put");
    }
    report("put, durable", from, 2000);

    from = now_ns();
    for (n = 0; n < 10 * keys; n++) {
        (void)corering_batch_clear(NULL);
    }
    report("a call that is refused", from, (double)(10 * keys));

    key_of(key, 7);
    from = now_ns();
    for (n = 0; n < 5 * keys; n++) {
        must(corering_get_into(db, key, 16, NULL, value, sizeof value, &len, NULL), "get");
    }
    report("get_into, one key", from, (double)(5 * keys));

    from = now_ns();
    for (n = 0; n < 5 * keys; n++) {
        key_of(key, next_random() % keys);
        must(corering_get_into(db, key, 16, NULL, value, sizeof value, &len, NULL), "get");
    }
    report("get_into, random keys", from, (double)(5 * keys));

    from = now_ns();
    for (n = 0; n < 5 * keys; n++) {
        key_of(key, next_random() % keys);
        must(corering_get(db, key, 16, NULL, &found), "get");
        must(corering_value_free(&found), "free");
    }
    report("get and free, random keys", from, (double)(5 * keys));

    from = now_ns();
    for (n = 0; n < keys / MANY; n++) {
        for (m = 0; m < MANY; m++) {
            key_of(many_keys[m], next_random() % keys);
            asked[m].data = many_keys[m];
            asked[m].len = 16;
        }
        must(corering_multi_get(db, asked, MANY, NULL, many), "multi_get");
        for (m = 0; m < MANY; m++) {
            must(corering_value_free(&many[m]), "free");
        }
    }
    report("multi_get of 100, each", from, (double)(keys / MANY * MANY));

    must(corering_scan(db, NULL, &iterator), "scan");
    from = now_ns();
    while (corering_iterator_next(iterator, &entry) == CORERING_OK) {
        rows++;
    }
    report("iterator_next, each", from, (double)rows);
    must(corering_iterator_free(iterator), "free");

    must(corering_scan(db, NULL, &iterator), "scan");
    from = now_ns();
    for (rows = 0; corering_iterator_fill(iterator, entries, 256, &count) == CORERING_OK; rows += count) {
    }
    report("iterator_fill of 256, each", from, (double)rows);
    must(corering_iterator_free(iterator), "free");
    must(corering_close(db), "close");
    return 0;
}
