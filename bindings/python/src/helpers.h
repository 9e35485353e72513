/*
 * What Python would otherwise do field by field: several values of one call packed behind each other, so that one copy
 * makes them Python objects. Each is a plain caller of corering.h.
 */
#ifndef CORERING_PYTHON_HELPERS_H
#define CORERING_PYTHON_HELPERS_H

/* Answers at or above zero are lengths, versions or counts; these and the statuses below zero are not. */
#define CRPY_NOT_FOUND -1001
#define CRPY_TOO_SMALL -1002

/* Memory for rows: bytes behind each other, and their lengths. */
typedef struct crpy_rows {
    char *data;
    size_t len;
    size_t *lens;
    size_t count;
    size_t data_capacity;
    size_t lens_capacity;
} crpy_rows;

/* A value's length, or why there is none. */
int64_t crpy_get(corering_db *db, const char *key, size_t key_len, char *buffer, size_t capacity);
int64_t crpy_put(corering_db *db, const char *key, size_t key_len, const char *value, size_t value_len);
int64_t crpy_get_into(corering_db *db, const char *key, size_t key_len, uint32_t keyspace, corering_snapshot *snapshot,
                      char *buffer, size_t capacity, uint64_t *version);

/* Values of `count` keys that lie behind each other in `keys`; a length of SIZE_MAX is a key that is not there. */
int32_t crpy_multi_get(corering_db *db, const char *keys, const size_t *key_lens, size_t count, uint32_t keyspace,
                       corering_snapshot *snapshot, crpy_rows *rows);

/* At most `limit` rows: key, value, key, value. */
int32_t crpy_fill(corering_iterator *iterator, size_t limit, crpy_rows *rows);

int32_t crpy_submit(corering_queue *queue, uint32_t kind, uint32_t keyspace, const char *key, size_t key_len,
                    const char *value, size_t value_len, uint64_t user_data);

/* Null if there is no memory. */
crpy_rows *crpy_rows_new(void);
void crpy_rows_free(crpy_rows *rows);

/* ---- end of declarations ---- */

#include <corering.h>

#include <stdlib.h>
#include <string.h>

crpy_rows *crpy_rows_new(void)
{
    return calloc(1, sizeof(crpy_rows));
}

void crpy_rows_free(crpy_rows *rows)
{
    if (rows != NULL) {
        free(rows->data);
        free(rows->lens);
        free(rows);
    }
}

static int crpy_rows_add(crpy_rows *rows, const void *data, size_t len)
{
    if (rows->count == rows->lens_capacity) {
        const size_t capacity = rows->lens_capacity > 0 ? 2 * rows->lens_capacity : 64;
        size_t *lens = realloc(rows->lens, capacity * sizeof *lens);
        if (lens == NULL) {
            return 0;
        }
        rows->lens = lens;
        rows->lens_capacity = capacity;
    }
    rows->lens[rows->count] = data != NULL ? len : SIZE_MAX;
    rows->count++;
    if (data == NULL || len == 0) {
        return 1;
    }
    if (len > rows->data_capacity - rows->len) {
        size_t capacity = rows->data_capacity > 0 ? rows->data_capacity : 4096;
        char *grown;
        while (capacity - rows->len < len) {
            capacity *= 2;
        }
        grown = realloc(rows->data, capacity);
        if (grown == NULL) {
            return 0;
        }
        rows->data = grown;
        rows->data_capacity = capacity;
    }
    memcpy(rows->data + rows->len, data, len);
    rows->len += len;
    return 1;
}

static int64_t crpy_length(corering_status status, size_t len)
{
    switch (status) {
    case CORERING_OK:
        return (int64_t)len;
    case CORERING_NOT_FOUND:
        return CRPY_NOT_FOUND;
    case CORERING_BUFFER_TOO_SMALL:
        return CRPY_TOO_SMALL;
    default:
        return status;
    }
}

int64_t crpy_get(corering_db *db, const char *key, size_t key_len, char *buffer, size_t capacity)
{
    size_t len;
    const corering_status status = corering_get_into(db, key, key_len, NULL, buffer, capacity, &len, NULL);
    return crpy_length(status, len);
}

int64_t crpy_get_into(corering_db *db, const char *key, size_t key_len, uint32_t keyspace, corering_snapshot *snapshot,
                      char *buffer, size_t capacity, uint64_t *version)
{
    corering_read_options options = {sizeof options, keyspace, 0, snapshot};
    size_t len;
    const corering_status status = corering_get_into(db, key, key_len, &options, buffer, capacity, &len, version);
    return crpy_length(status, len);
}

int64_t crpy_put(corering_db *db, const char *key, size_t key_len, const char *value, size_t value_len)
{
    uint64_t version;
    const corering_status status = corering_put(db, key, key_len, value, value_len, NULL, &version);
    return status < 0 ? status : (int64_t)version;
}

int32_t crpy_multi_get(corering_db *db, const char *keys, const size_t *key_lens, size_t count, uint32_t keyspace,
                       corering_snapshot *snapshot, crpy_rows *rows)
{
    corering_read_options options = {sizeof options, keyspace, 0, snapshot};
    corering_bytes *given = calloc(count + 1, sizeof *given);
    corering_value *values = calloc(count + 1, sizeof *values);
    int32_t status = CORERING_ERROR_TOO_MANY_HANDLES;
    size_t n;
    rows->len = 0;
    rows->count = 0;
    if (given != NULL && values != NULL) {
        for (n = 0; n < count; n++) {
            given[n].data = keys;
            given[n].len = key_lens[n];
            keys += key_lens[n];
        }
        status = corering_multi_get(db, given, count, &options, values);
        for (n = 0; status == CORERING_OK && n < count; n++) {
            if (!crpy_rows_add(rows, values[n].data, values[n].len)) {
                status = CORERING_ERROR_TOO_MANY_HANDLES;
            }
        }
        for (n = 0; n < count; n++) {
            (void)corering_value_free(&values[n]);
        }
    }
    free(given);
    free(values);
    return status;
}

int32_t crpy_fill(corering_iterator *iterator, size_t limit, crpy_rows *rows)
{
    enum { AT_ONCE = 256 };
    corering_entry entries[AT_ONCE];
    size_t count = 0, n;
    const corering_status status =
        corering_iterator_fill(iterator, entries, limit < AT_ONCE ? limit : AT_ONCE, &count);
    rows->len = 0;
    rows->count = 0;
    for (n = 0; n < count; n++) {
        if (!crpy_rows_add(rows, entries[n].key, entries[n].key_len) ||
            !crpy_rows_add(rows, entries[n].value, entries[n].value_len)) {
            return CORERING_ERROR_TOO_MANY_HANDLES;
        }
    }
    return status;
}

int32_t crpy_submit(corering_queue *queue, uint32_t kind, uint32_t keyspace, const char *key, size_t key_len,
                    const char *value, size_t value_len, uint64_t user_data)
{
    corering_op op;
    size_t accepted;
    memset(&op, 0, sizeof op);
    op.kind = kind;
    op.keyspace = keyspace;
    op.key = key;
    op.key_len = key_len;
    op.value = value;
    op.value_len = value_len;
    op.user_data = user_data;
    return corering_queue_submit(queue, &op, 1, NULL, &accepted);
}

#endif
