/* What the C tests share: a check that says where it failed, and short ways to make what they test with. */
#ifndef CORERING_TESTS_CHECK_H
#define CORERING_TESTS_CHECK_H

#include <corering.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long checks_done;

static inline void fail_at(const char *file, int line, const char *what)
{
    char text[512];
    (void)corering_error_message(text, sizeof text, NULL);
    fprintf(stderr, "%s:%d: %s\n  last error of this thread: %s\n", file, line, what, text);
    exit(1);
}

static inline void check_at(const char *file, int line, bool holds, const char *what)
{
    checks_done++;
    if (!holds) {
        fail_at(file, line, what);
    }
}

static inline void check_status_at(const char *file, int line, int32_t wanted, int32_t found, const char *what)
{
    char text[512];
    checks_done++;
    if (wanted != found) {
        (void)snprintf(text, sizeof text, "%s: %s (%d), wanted %s (%d)", what, corering_status_name(found), found,
                       corering_status_name(wanted), wanted);
        fail_at(file, line, text);
    }
}

#define CHECK(condition) check_at(__FILE__, __LINE__, (condition), #condition)
#define CHECK_STATUS(wanted, call) check_status_at(__FILE__, __LINE__, (wanted), (call), #call)
#define CHECK_OK(call) CHECK_STATUS(CORERING_OK, call)

/* A key or value that is written as a text. */
#define TEXT(text) (text), sizeof(text) - 1

static inline corering_options small_options(void)
{
    corering_options options;
    CHECK_OK(corering_options_init(&options, sizeof options));
    options.shards = 2;
    options.memtable_bytes = 1 << 20;
    options.segment_bytes = 1 << 20;
    return options;
}

static inline corering_db *open_db(const char *dir, const char *name)
{
    char path[4096];
    corering_options options = small_options();
    corering_db *db = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_OK(corering_open(CORERING_ABI_VERSION, path, &options, &db));
    CHECK(db != NULL);
    return db;
}

#endif
