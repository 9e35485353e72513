/* The asynchronous way: submit many, poll one descriptor, reap what is done. Usage: poll DIR */
#include <corering.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { COUNT = 1000 };

static int fail(const char *what)
{
    char text[512];
    (void)corering_error_message(text, sizeof text, NULL);
    fprintf(stderr, "%s: %s\n", what, text);
    return 1;
}

int main(int argc, char **argv)
{
    corering_db *db;
    corering_queue *queue;
    corering_result results[64];
    struct pollfd readable = {-1, POLLIN, 0};
    size_t submitted = 0, finished = 0, count, n;

    if (corering_open(CORERING_ABI_VERSION, argc > 1 ? argv[1] : "poll-data", NULL, &db) < 0) return fail("open");
    if (corering_queue_new(db, 256, &queue) < 0) return fail("queue");
    if (corering_queue_fd(queue, &readable.fd) < 0) return fail("fd");

    while (finished < COUNT) {
        /* As many as the queue takes; a full queue is no error of the program. */
        while (submitted < COUNT) {
            char key[32];
            corering_op op;
            size_t accepted;
            memset(&op, 0, sizeof op);
            op.kind = CORERING_OP_PUT;
            op.key = key;
            op.key_len = (size_t)snprintf(key, sizeof key, "key %zu", submitted);
            op.value = "value";
            op.value_len = 5;
            op.user_data = submitted;
            const corering_status status = corering_queue_submit(queue, &op, 1, NULL, &accepted);
            if (status == CORERING_ERROR_BUSY) break;
            if (status < 0) return fail("submit");
            submitted++;
        }
        if (poll(&readable, 1, -1) < 0) return fail("poll");
        if (corering_queue_reap(queue, results, 64, &count) < 0) return fail("reap");
        for (n = 0; n < count; n++) {
            if (results[n].status < 0) {
                fprintf(stderr, "key %lu: %s\n", (unsigned long)results[n].user_data,
                        corering_status_name(results[n].status));
                return 1;
            }
            corering_value_free(&results[n].value);
        }
        finished += count;
    }
    printf("%zu puts are durable\n", finished);
    corering_queue_free(queue);
    return corering_close(db) < 0 ? fail("close") : 0;
}
