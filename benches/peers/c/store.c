/* The C side of the system "corering-c": compiled against corering.h and linked with libcorering.so, as a program would be, and loaded
 * by the harness. Each function does what the harness's interface to every system says; errors are negative statuses. */
#include <corering.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define KEY_LEN 16
#define VALUE_LEN_MAX (64 << 10)
#define MANY_MAX 256

static corering_write_options at(int durable) {
    corering_write_options options;
    corering_write_options_init(&options, sizeof options);
    options.durability = durable ? CORERING_DURABILITY_SYNC : CORERING_DURABILITY_NONE;
    return options;
}

static int64_t touch(const uint8_t *bytes, size_t len) {
    return len ? (int64_t)bytes[0] + bytes[len - 1] + (int64_t)len : 0;
}

void *store_open(const char *path, uint64_t memtable_bytes, char *error, size_t error_len) {
    corering_options options;
    corering_db *db = NULL;
    corering_options_init(&options, sizeof options);
    options.memtable_bytes = memtable_bytes;
    if (corering_open(CORERING_ABI_VERSION, path, &options, &db) != CORERING_OK) {
        size_t needed;
        corering_error_message(error, error_len, &needed);
        return NULL;
    }
    return db;
}

int64_t store_close(void *db) { return corering_close(db); }

int64_t store_put(void *db, const void *key, size_t key_len, const void *value, size_t value_len, int durable) {
    corering_write_options options = at(durable);
    return corering_put(db, key, key_len, value, value_len, &options, NULL);
}

int64_t store_batch(void *db, const uint8_t *keys, size_t count, const void *value, size_t value_len, int durable) {
    corering_write_options options = at(durable);
    corering_batch *batch;
    int64_t status = corering_batch_new(db, &batch);
    if (status != CORERING_OK) return status;
    for (size_t i = 0; i < count && status == CORERING_OK; i++)
        status = corering_batch_put(batch, keys + i * KEY_LEN, KEY_LEN, value, value_len, NULL);
    if (status == CORERING_OK) status = corering_batch_commit(batch, &options, NULL);
    corering_batch_free(batch);
    return status;
}

/* The value's sum, or -1000 if there is no such key. */
int64_t store_get(void *db, const void *key, size_t key_len) {
    uint8_t buffer[VALUE_LEN_MAX];
    size_t len;
    corering_status status = corering_get_into(db, key, key_len, NULL, buffer, sizeof buffer, &len, NULL);
    if (status == CORERING_NOT_FOUND) return -1000;
    return status == CORERING_OK ? touch(buffer, len) : status;
}

int64_t store_multi_get(void *db, const uint8_t *keys, size_t count) {
    corering_bytes names[MANY_MAX];
    corering_value values[MANY_MAX];
    int64_t found = 0;
    if (count == 0 || count > MANY_MAX) return CORERING_ERROR_INVALID_ARGUMENT;
    for (size_t i = 0; i < count; i++) names[i] = (corering_bytes){keys + i * KEY_LEN, KEY_LEN};
    corering_status status = corering_multi_get(db, names, count, NULL, values);
    if (status != CORERING_OK) return status;
    for (size_t i = 0; i < count; i++) {
        if (values[i].data && touch(values[i].data, values[i].len)) found++;
        corering_value_free(&values[i]);
    }
    return found;
}

int64_t store_scan(void *db, const void *from, size_t from_len, uint64_t rows) {
    corering_scan_options options;
    corering_iterator *iterator;
    corering_entry entries[MANY_MAX];
    volatile int64_t sum = 0;
    uint64_t seen = 0;
    corering_scan_options_init(&options, sizeof options);
    options.lower = from;
    options.lower_len = from_len;
    corering_status status = corering_scan(db, &options, &iterator);
    if (status != CORERING_OK) return status;
    while (seen < rows) {
        size_t count, wanted = rows - seen < MANY_MAX ? rows - seen : MANY_MAX;
        status = corering_iterator_fill(iterator, entries, wanted, &count);
        if (status != CORERING_OK && status != CORERING_END) break;
        for (size_t i = 0; i < count; i++)
            sum += touch(entries[i].key, entries[i].key_len) + touch(entries[i].value, entries[i].value_len);
        seen += count;
        if (status == CORERING_END || count == 0) break;
    }
    corering_iterator_free(iterator);
    return status < 0 ? status : (int64_t)seen;
}

void *store_queue_new(void *db, uint32_t capacity) {
    corering_queue *queue;
    return corering_queue_new(db, capacity, &queue) == CORERING_OK ? queue : NULL;
}

int64_t store_queue_put(void *queue, const void *key, size_t key_len, const void *value, size_t value_len, uint64_t user_data) {
    corering_write_options options = at(1);
    corering_op op = {.kind = CORERING_OP_PUT, .key = key, .key_len = key_len, .value = value, .value_len = value_len, .user_data = user_data};
    size_t accepted;
    return corering_queue_submit(queue, &op, 1, &options, &accepted);
}

/* Waits for at least one; how many there were. */
int64_t store_queue_reap(void *queue, uint64_t *user_data, size_t capacity) {
    corering_result results[MANY_MAX];
    size_t count = 0;
    if (capacity > MANY_MAX) capacity = MANY_MAX;
    for (;;) {
        corering_status status = corering_queue_reap(queue, results, capacity, &count);
        if (status != CORERING_OK) return status;
        if (count > 0) break;
        struct pollfd waiting = {.events = POLLIN};
        if (corering_queue_fd(queue, &waiting.fd) != CORERING_OK || poll(&waiting, 1, 10000) <= 0) return CORERING_ERROR_IO;
    }
    for (size_t i = 0; i < count; i++) {
        if (results[i].status < 0) return results[i].status;
        user_data[i] = results[i].user_data;
    }
    return (int64_t)count;
}

void store_queue_free(void *queue) { corering_queue_free(queue); }
