/*
 * The C ABI of Corering.
 *
 * Generated from the crate corering-ffi; do not edit. docs/c-abi.md has the conventions: who owns what, threads,
 * lifetimes, versions, fork, signals. The comment of each function has five headings: Owns, Writes, Threads, Status,
 * Safety; the statuses named there leave out their prefix CORERING_ERROR_. On failure, outputs are zero.
 */

#ifndef CORERING_H
#define CORERING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * The major version is in the soname; a program compiled for another one cannot use this library.
 */
#define CORERING_ABI_MAJOR 0

/**
 * Grows with every addition. A program needs a library of at least the minor version it was compiled for.
 */
#define CORERING_ABI_MINOR 1

/**
 * What a program passes to `corering_open`: the ABI it was compiled for, major * 65536 + minor.
 */
#define CORERING_ABI_VERSION 1

/**
 * The longest key, in bytes.
 */
#define CORERING_KEY_LEN_MAX 65536

/**
 * The longest value, in bytes.
 */
#define CORERING_VALUE_LEN_MAX 67108864

/**
 * Bytes of the longest label of a session.
 */
#define CORERING_SESSION_LABEL_MAX 256

/**
 * Bytes of the longest name of a lock.
 */
#define CORERING_LOCK_NAME_MAX 1024

/**
 * For `wait_ms`: as long as the session lives.
 */
#define CORERING_WAIT_FOREVER UINT64_MAX

/**
 * For `corering_get_stats`: the sum over all shards.
 */
#define CORERING_ALL_SHARDS 4294967295

/**
 * The outcome of a call. Zero: done. Above zero: done, with an answer other than the usual one. Below zero: an error.
 * These numbers are for ever; later versions may add some.
 */
enum corering_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    CORERING_OK = 0,
    /**
     * There is no such key.
     */
    CORERING_NOT_FOUND = 1,
    /**
     * The condition of a conditional write does not hold; nothing was written.
     */
    CORERING_REFUSED = 2,
    /**
     * The iterator has no further entry.
     */
    CORERING_END = 3,
    /**
     * The caller's buffer is too short; the length that it needs was written.
     */
    CORERING_BUFFER_TOO_SMALL = 4,
    /**
     * An argument makes no sense; nothing was done.
     */
    CORERING_ERROR_INVALID_ARGUMENT = -1,
    /**
     * The handle is null, of another kind, or was never given out.
     */
    CORERING_ERROR_INVALID_HANDLE = -2,
    /**
     * The handle, or the database behind it, was closed.
     */
    CORERING_ERROR_CLOSED = -3,
    /**
     * The handle belongs to the process that this one was forked from.
     */
    CORERING_ERROR_FORKED = -4,
    /**
     * The program was compiled for an ABI that this library does not have.
     */
    CORERING_ERROR_ABI_MISMATCH = -5,
    /**
     * More handles are open than the library can number.
     */
    CORERING_ERROR_TOO_MANY_HANDLES = -6,
    /**
     * The library found a mistake of its own; the call may or may not have taken effect.
     */
    CORERING_ERROR_PANIC = -7,
    /**
     * The key is longer than CORERING_KEY_LEN_MAX.
     */
    CORERING_ERROR_KEY_TOO_LARGE = -8,
    /**
     * The value is longer than CORERING_VALUE_LEN_MAX.
     */
    CORERING_ERROR_VALUE_TOO_LARGE = -9,
    /**
     * The atomic batch holds more bytes than the engine takes at once.
     */
    CORERING_ERROR_BATCH_TOO_LARGE = -10,
    /**
     * Not given any more: batches and transactions may have keys of any shards.
     */
    CORERING_ERROR_CROSS_SHARD = -11,
    /**
     * An increment met a value that is no decimal 64-bit integer.
     */
    CORERING_ERROR_NOT_AN_INTEGER = -12,
    /**
     * An increment would leave the range of 64-bit integers.
     */
    CORERING_ERROR_OVERFLOW = -13,
    /**
     * A queue is full; nothing was done; the same call may succeed later.
     */
    CORERING_ERROR_BUSY = -14,
    /**
     * The disk has no room; nothing was done; the same call may succeed once there is room.
     */
    CORERING_ERROR_NO_SPACE = -15,
    /**
     * A shard stopped for good; the write may or may not be found after the next opening.
     */
    CORERING_ERROR_POISONED = -16,
    /**
     * The directory is open in another process, or by another handle of this one.
     */
    CORERING_ERROR_LOCKED = -17,
    /**
     * Bytes on disk are not what was written there; the message names the file and the byte.
     */
    CORERING_ERROR_CORRUPT = -18,
    /**
     * The directory was written by something that this version cannot read.
     */
    CORERING_ERROR_INCOMPATIBLE = -19,
    /**
     * The kernel, the container or a limit does not allow what the engine needs; the message says what to do.
     */
    CORERING_ERROR_UNSUPPORTED = -20,
    /**
     * The operating system refused an operation; the message says which, and on what file.
     */
    CORERING_ERROR_IO = -21,
    /**
     * Others hold the lock and waiting was not asked for; the same call may succeed later.
     */
    CORERING_ERROR_LOCK_HELD = -22,
    /**
     * The lock was not granted in the time given; the same call may succeed later.
     */
    CORERING_ERROR_LOCK_TIMEOUT = -23,
    /**
     * The session does not hold the lock.
     */
    CORERING_ERROR_NOT_HELD = -24,
    /**
     * The token is not the one by which the session holds the lock.
     */
    CORERING_ERROR_WRONG_TOKEN = -25,
    /**
     * The lease has run out; the lock must be taken anew.
     */
    CORERING_ERROR_LEASE_EXPIRED = -26,
    /**
     * A guard of the write has lost its lock; nothing was written.
     */
    CORERING_ERROR_FENCED = -27,
    /**
     * The session does not exist or has ended.
     */
    CORERING_ERROR_NO_SESSION = -28,
    /**
     * The secret is not the session's.
     */
    CORERING_ERROR_WRONG_SECRET = -29,
    /**
     * Sessions wait for each other, and this request gave way; the message names them; the same call may succeed later.
     */
    CORERING_ERROR_DEADLOCK = -30,
    /**
     * The semaphore is in use with another number of permits.
     */
    CORERING_ERROR_OTHER_PERMITS = -31,
    /**
     * Changes so far back are not kept any more; `corering_watch_progress` tells from where there are all.
     */
    CORERING_ERROR_COMPACTED = -32,
    /**
     * The watch was cut off because it was not taken from; `corering_watch_progress` tells from where to go on.
     */
    CORERING_ERROR_LAGGED = -33,
    /**
     * No lock is granted yet after the machine was stopped, and waiting was not asked for; the message says for how long; the same call
     * may succeed then.
     */
    CORERING_ERROR_LOCK_NOT_YET = -34,
    /**
     * Others changed what the transaction read, or kept what it would write; nothing was done; run it again.
     */
    CORERING_ERROR_CONFLICT = -40,
    /**
     * The transaction was committed, rolled back or ended before.
     */
    CORERING_ERROR_TRANSACTION_ENDED = -41,
    /**
     * The transaction was open for longer than its timeout; nothing was done.
     */
    CORERING_ERROR_TRANSACTION_TOO_OLD = -42,
    /**
     * More than a transaction may hold; it is still open, without this call.
     */
    CORERING_ERROR_TRANSACTION_TOO_LARGE = -43,
    /**
     * The savepoint is not in this transaction, or was rolled back beyond; it is still open.
     */
    CORERING_ERROR_NO_SAVEPOINT = -44,
    /**
     * A write in a transaction that was begun to read only; it is still open.
     */
    CORERING_ERROR_READ_ONLY = -45,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_status corering_status;
#else
typedef int32_t corering_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * When a write is answered. At every level, a process that is killed loses nothing that was answered; only a crash of
 * the machine may, at the levels `interval` and `none`.
 */
enum corering_durability
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * In a call's options: the level that the database was opened with. In `corering_options`: sync.
     */
    CORERING_DURABILITY_DEFAULT = 0,
    /**
     * Once it is durable on disk.
     */
    CORERING_DURABILITY_SYNC = 1,
    /**
     * At once; durable within `interval_ms`.
     */
    CORERING_DURABILITY_INTERVAL = 2,
    /**
     * At once; durable when something else makes it so.
     */
    CORERING_DURABILITY_NONE = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_durability corering_durability;
#else
typedef uint32_t corering_durability;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Flags of `corering_options`.
 */
enum corering_open_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Refuse a directory that holds no database yet.
     */
    CORERING_OPEN_MUST_EXIST = 1,
    /**
     * Refuse a directory that already holds a database.
     */
    CORERING_OPEN_MUST_NOT_EXIST = 2,
    /**
     * Pin the shards' threads to processors, which no other program uses.
     */
    CORERING_OPEN_PIN_THREADS = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_open_flags corering_open_flags;
#else
typedef uint32_t corering_open_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Flags of `corering_scan_options`.
 */
enum corering_scan_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * From the last key to the first.
     */
    CORERING_SCAN_REVERSE = 1,
    /**
     * Leave out the key that equals `lower`.
     */
    CORERING_SCAN_LOWER_EXCLUSIVE = 2,
    /**
     * Take in the key that equals `upper`.
     */
    CORERING_SCAN_UPPER_INCLUSIVE = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_scan_flags corering_scan_flags;
#else
typedef uint32_t corering_scan_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Flags of `corering_watch_options`.
 */
enum corering_watch_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * All keys that begin with `key`; with none, all keys of the keyspace.
     */
    CORERING_WATCH_PREFIX = 1,
    /**
     * Everything after the commit `from`, rather than from now on.
     */
    CORERING_WATCH_FROM = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_watch_flags corering_watch_flags;
#else
typedef uint32_t corering_watch_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Flags of a `corering_change`.
 */
enum corering_change_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The key is gone; else it has the value now.
     */
    CORERING_CHANGE_DELETED = 1,
    /**
     * Another change of the same commit comes next, and waits already.
     */
    CORERING_CHANGE_MORE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_change_flags corering_change_flags;
#else
typedef uint32_t corering_change_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a conditional write asks of what is there.
 */
enum corering_condition_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Nothing.
     */
    CORERING_IF_ALWAYS = 0,
    /**
     * There is no such key.
     */
    CORERING_IF_ABSENT = 1,
    /**
     * There is such a key.
     */
    CORERING_IF_PRESENT = 2,
    /**
     * The value's bytes are exactly `expected`.
     */
    CORERING_IF_EQUAL = 3,
    /**
     * The value was written by exactly the commit `version`.
     */
    CORERING_IF_VERSION = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_condition_kind corering_condition_kind;
#else
typedef uint32_t corering_condition_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What an operation does.
 */
enum corering_op_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Read a key.
     */
    CORERING_OP_GET = 1,
    /**
     * Store `value` under a key.
     */
    CORERING_OP_PUT = 2,
    /**
     * Remove a key.
     */
    CORERING_OP_DELETE = 3,
    /**
     * Store `value` under a key if `condition` holds.
     */
    CORERING_OP_PUT_IF = 4,
    /**
     * Add `delta` to the number under a key.
     */
    CORERING_OP_INCR = 5,
    /**
     * Make durable everything that was answered before. Has no key. Only in a queue.
     */
    CORERING_OP_SYNC = 6,
    /**
     * In results only: the batch of `corering_queue_submit_batch`.
     */
    CORERING_OP_BATCH = 7,
    /**
     * In results only: the lock of `corering_queue_acquire`.
     */
    CORERING_OP_ACQUIRE = 8,
    /**
     * Only in results: a watch given to `corering_queue_watch` has something to be taken.
     */
    CORERING_OP_WATCH = 9,
    /**
     * In results only: the transaction of `corering_queue_commit`.
     */
    CORERING_OP_COMMIT = 10,
    /**
     * In results only: the key of `corering_queue_get_for_update`.
     */
    CORERING_OP_GET_FOR_UPDATE = 11,
    /**
     * In results only: the session of `corering_queue_lost` has lost something.
     */
    CORERING_OP_LOST = 12,
    /**
     * In results only: the transaction of `corering_queue_wait_turn` has its turn.
     */
    CORERING_OP_TURN = 13,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_op_kind corering_op_kind;
#else
typedef uint32_t corering_op_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How a lock is taken.
 */
enum corering_lock_mode
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Alone.
     */
    CORERING_LOCK_EXCLUSIVE = 0,
    /**
     * Together with others that share it. Whoever holds it so and takes it exclusively upgrades it.
     */
    CORERING_LOCK_SHARED = 1,
    /**
     * `units` of `permits`.
     */
    CORERING_LOCK_SEMAPHORE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_lock_mode corering_lock_mode;
#else
typedef uint32_t corering_lock_mode;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a transaction must look as if it had run alone among.
 */
enum corering_isolation
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * All others, in an order that agrees with real time.
     */
    CORERING_ISOLATION_STRICT = 0,
    /**
     * It reads one state, and nobody else wrote what it writes since; two that read each other's keys may both commit.
     */
    CORERING_ISOLATION_SNAPSHOT = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_isolation corering_isolation;
#else
typedef uint32_t corering_isolation;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Flags of `corering_tx_options`.
 */
enum corering_tx_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Writes are refused; it never waits and never aborts.
     */
    CORERING_TX_READ_ONLY = 1,
    /**
     * Its fate cannot be asked later, which saves a write.
     */
    CORERING_TX_NO_FATE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum corering_tx_flags corering_tx_flags;
#else
typedef uint32_t corering_tx_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Writes that take effect together or not at all, whatever shards their keys belong to. For one thread at a time.
 */
typedef struct corering_batch corering_batch;

/**
 * An open database. Any number of threads may use it at the same time.
 */
typedef struct corering_db corering_db;

/**
 * Walks over keys in order. For one thread at a time.
 */
typedef struct corering_iterator corering_iterator;

/**
 * Operations under way, and those that are done and not yet reaped. Any number of threads may use it at the same time.
 */
typedef struct corering_queue corering_queue;

/**
 * One state of the whole database, kept for reading. Any number of threads may use it at the same time. What was
 * overwritten since it was made takes memory until it is freed.
 */
typedef struct corering_snapshot corering_snapshot;

/**
 * A transaction over any keys. For one thread at a time.
 */
typedef struct corering_tx corering_tx;

/**
 * Delivers changes of some keys. For one thread at a time.
 */
typedef struct corering_watch corering_watch;

/**
 * How a database is opened.
 */
typedef struct corering_options {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_options).
     */
    size_t struct_size;
    /**
     * Shards, each with its own core and log; 0: what an existing database has, or one for each processor.
     */
    uint32_t shards;
    /**
     * The level of writes that do not name one: a `corering_durability`.
     */
    uint32_t durability;
    /**
     * For CORERING_DURABILITY_INTERVAL: 1 to 3600000.
     */
    uint32_t interval_ms;
    /**
     * Any of `corering_open_flags`.
     */
    uint32_t flags;
    /**
     * Memory for each shard before its memtable is written as a table; 0: the engine's default.
     */
    uint64_t memtable_bytes;
    /**
     * Length of a full-grown log segment; 0: the engine's default.
     */
    uint64_t segment_bytes;
    /**
     * Requests that may wait for one shard; 0: the engine's default.
     */
    uint32_t inbox_len;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Bytes of each shard's log that are kept beyond what recovery needs, for watches from further back.
     */
    uint64_t history_bytes;
} corering_options;

/**
 * A condition of a write: the token is the one of a present holder of the lock, whose lease is running.
 */
typedef struct corering_guard {
    /**
     * The lock's name.
     */
    const void *name;
    size_t name_len;
    uint64_t token;
} corering_guard;

/**
 * A session: whoever has this may act for it, in this process or, after the database was opened again, in another. Keep the
 * secret as one.
 */
typedef struct corering_session {
    uint64_t id;
    uint64_t secret[2];
} corering_session;

/**
 * How a write is done.
 */
typedef struct corering_write_options {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_write_options).
     */
    size_t struct_size;
    /**
     * The name space of the key: 0 to 65279.
     */
    uint32_t keyspace;
    /**
     * A `corering_durability`.
     */
    uint32_t durability;
    /**
     * For CORERING_DURABILITY_INTERVAL: 1 to 3600000.
     */
    uint32_t interval_ms;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Milliseconds since 1970 at which the value ceases to exist; 0: never.
     */
    uint64_t expires_at_ms;
    /**
     * Milliseconds from now at which the value ceases to exist; 0: never. Not together with `expires_at_ms`.
     */
    uint64_t ttl_ms;
    /**
     * The write takes effect only if all of these hold at that moment, else it fails as FENCED and changes nothing.
     */
    const struct corering_guard *guards;
    /**
     * At most 256.
     */
    size_t guards_len;
    /**
     * Keys that are put are ephemeral: they go when this session ends. Null: they stay.
     */
    const struct corering_session *session;
} corering_write_options;

/**
 * How a read is done.
 */
typedef struct corering_read_options {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_read_options).
     */
    size_t struct_size;
    /**
     * The name space of the key: 0 to 65279.
     */
    uint32_t keyspace;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Read as of this snapshot; null: the latest state.
     */
    struct corering_snapshot *snapshot;
} corering_read_options;

/**
 * Bytes in memory of the library. Free it with `corering_value_free`; a value of zeroes (no `data`) is none, and needs
 * no freeing.
 */
typedef struct corering_value {
    /**
     * The bytes; null only if there is no value. Valid until the value is freed.
     */
    const uint8_t *data;
    size_t len;
    /**
     * The commit that wrote it, for CORERING_IF_VERSION.
     */
    uint64_t version;
    /**
     * Milliseconds since 1970 at which it ceases to exist; 0: never.
     */
    uint64_t expires_at_ms;
    /**
     * The library's own; do not change it.
     */
    uint64_t owner;
} corering_value;

/**
 * Some bytes of the program.
 */
typedef struct corering_bytes {
    const void *data;
    size_t len;
} corering_bytes;

/**
 * The condition of a conditional write.
 */
typedef struct corering_condition {
    /**
     * A `corering_condition_kind`.
     */
    uint32_t kind;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * For CORERING_IF_EQUAL.
     */
    const void *expected;
    size_t expected_len;
    /**
     * For CORERING_IF_VERSION.
     */
    uint64_t version;
} corering_condition;

/**
 * One operation of `corering_execute` or `corering_queue_submit`. Zero what its kind does not use.
 */
typedef struct corering_op {
    /**
     * A `corering_op_kind`.
     */
    uint32_t kind;
    /**
     * The name space of the key: 0 to 65279.
     */
    uint32_t keyspace;
    const void *key;
    size_t key_len;
    /**
     * For PUT and PUT_IF.
     */
    const void *value;
    size_t value_len;
    /**
     * For PUT_IF.
     */
    struct corering_condition condition;
    /**
     * For INCR.
     */
    int64_t delta;
    /**
     * For PUT, PUT_IF and an INCR of a new key: milliseconds since 1970 at which the value ceases to exist; 0: never.
     */
    uint64_t expires_at_ms;
    /**
     * The same as milliseconds from now at which the value ceases to exist; 0: never.
     */
    uint64_t ttl_ms;
    /**
     * Comes back in the result.
     */
    uint64_t user_data;
    /**
     * Zero.
     */
    uint64_t reserved[3];
} corering_op;

/**
 * The outcome of one operation.
 */
typedef struct corering_result {
    /**
     * The operation's.
     */
    uint64_t user_data;
    /**
     * How it went. Below zero, `value` holds the text of the error.
     */
    corering_status status;
    /**
     * The operation's: a `corering_op_kind`.
     */
    uint32_t kind;
    /**
     * PUT, PUT_IF, BATCH and COMMIT: the commit; GET and GET_FOR_UPDATE: the commit that wrote the value; a PUT_IF that was refused: the commit that wrote what is there, 0 if
     * nothing is; ACQUIRE: the fencing token.
     */
    uint64_t version;
    /**
     * INCR: the new number. DELETE: 1 if the key was there. ACQUIRE: how often the session holds the lock.
     */
    int64_t integer;
    /**
     * GET, GET_FOR_UPDATE: the value. An error: its text, in UTF-8. To be freed with `corering_value_free`.
     */
    struct corering_value value;
    /**
     * Zero.
     */
    uint64_t reserved[2];
} corering_result;

/**
 * What a scan runs over. A bound that is null is none.
 */
typedef struct corering_scan_options {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_scan_options).
     */
    size_t struct_size;
    /**
     * The name space of the keys: 0 to 65279.
     */
    uint32_t keyspace;
    /**
     * Any of `corering_scan_flags`.
     */
    uint32_t flags;
    /**
     * The least key; without CORERING_SCAN_LOWER_EXCLUSIVE, it belongs to the range.
     */
    const void *lower;
    size_t lower_len;
    /**
     * The greatest key; with CORERING_SCAN_UPPER_INCLUSIVE, it belongs to the range.
     */
    const void *upper;
    size_t upper_len;
    /**
     * Only keys that begin so, beside the bounds.
     */
    const void *prefix;
    size_t prefix_len;
    /**
     * At most so many entries; 0: all.
     */
    uint64_t limit;
    /**
     * Read as of this snapshot; null: one of its own, made now.
     */
    struct corering_snapshot *snapshot;
} corering_scan_options;

/**
 * A key and its value, in memory of the iterator that gave it.
 */
typedef struct corering_entry {
    const uint8_t *key;
    size_t key_len;
    const uint8_t *value;
    size_t value_len;
    /**
     * The commit that wrote it.
     */
    uint64_t version;
    /**
     * Milliseconds since 1970 at which it ceases to exist; 0: never.
     */
    uint64_t expires_at_ms;
} corering_entry;

/**
 * How a session is made.
 */
typedef struct corering_session_options {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_session_options).
     */
    size_t struct_size;
    /**
     * It ends when it was not kept alive for so long; 0: 10000.
     */
    uint64_t ttl_ms;
    /**
     * For people who look at locks: at most CORERING_SESSION_LABEL_MAX bytes.
     */
    const void *label;
    size_t label_len;
} corering_session_options;

/**
 * A session, to look at.
 */
typedef struct corering_session_info {
    uint64_t id;
    uint64_t ttl_ms;
    /**
     * Until it runs out, if it is not kept alive.
     */
    uint64_t left_ms;
    uint32_t label_len;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * The label's bytes, then zeroes.
     */
    uint8_t label[256];
} corering_session_info;

/**
 * A hold that ended without being released: its lease ran out, or its session ended.
 */
typedef struct corering_loss {
    /**
     * The hold's fencing token, with which nothing can be written any more.
     */
    uint64_t token;
    uint32_t name_len;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * The lock's name, then zeroes.
     */
    uint8_t name[1024];
} corering_loss;

/**
 * How a lock is taken. The functions that end or change a hold heed the durability alone.
 */
typedef struct corering_lock_options {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_lock_options).
     */
    size_t struct_size;
    /**
     * A `corering_lock_mode`.
     */
    uint32_t mode;
    /**
     * For CORERING_LOCK_SEMAPHORE: how many there are in all; everybody who uses the name says the same number.
     */
    uint32_t permits;
    /**
     * For CORERING_LOCK_SEMAPHORE: how many to take; 0: one.
     */
    uint32_t units;
    /**
     * A `corering_durability`. To acquire, CORERING_DURABILITY_DEFAULT is sync, whatever the database's level: below that, a
     * crash of the machine may lose the grant, and the next opening waits for as long as it could still run.
     */
    uint32_t durability;
    /**
     * For CORERING_DURABILITY_INTERVAL: 1 to 3600000.
     */
    uint32_t interval_ms;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * How long to wait for the grant; 0: not at all; CORERING_WAIT_FOREVER: as long as the session lives.
     */
    uint64_t wait_ms;
    /**
     * How long the hold lasts if it is not renewed; 0: as long as the session lives.
     */
    uint64_t lease_ms;
} corering_lock_options;

/**
 * What the holder of a lock is told.
 */
typedef struct corering_grant {
    /**
     * The fencing token: larger than those of all grants before it.
     */
    uint64_t token;
    /**
     * How often the session holds the lock now; it is to be released as often.
     */
    uint32_t count;
    /**
     * Zero.
     */
    uint32_t reserved;
} corering_grant;

/**
 * A session that holds a lock, or waits for it.
 */
typedef struct corering_lock_part {
    /**
     * The session's number.
     */
    uint64_t session;
    /**
     * Of a hold: its fencing token. 0: the session waits.
     */
    uint64_t token;
    /**
     * A `corering_lock_mode`.
     */
    uint32_t mode;
    /**
     * Of a semaphore: the permits in all, and those held or asked for.
     */
    uint32_t permits;
    uint32_t units;
    /**
     * Of a hold: how often the session has taken it.
     */
    uint32_t count;
    /**
     * Of a hold: milliseconds since 1970 at which it was granted.
     */
    uint64_t since_ms;
    /**
     * Of a hold: the milliseconds that its lease runs on; CORERING_WAIT_FOREVER if it ends with the session only.
     */
    uint64_t left_ms;
    /**
     * Of a wait: how long it has lasted.
     */
    uint64_t waited_ms;
    /**
     * Zero.
     */
    uint64_t reserved;
} corering_lock_part;

/**
 * A lock that is held or waited for.
 */
typedef struct corering_lock_entry {
    /**
     * How many hold it, and how many wait for it.
     */
    uint64_t holders;
    uint64_t waiters;
    uint32_t name_len;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * The name, then zeroes.
     */
    uint8_t name[1024];
} corering_lock_entry;

/**
 * How a transaction is begun.
 */
typedef struct corering_tx_options {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_tx_options).
     */
    size_t struct_size;
    /**
     * A `corering_isolation`.
     */
    uint32_t isolation;
    /**
     * A `corering_durability`. Over several shards a commit is always durable when it is answered.
     */
    uint32_t durability;
    /**
     * For CORERING_DURABILITY_INTERVAL: 1 to 3600000.
     */
    uint32_t interval_ms;
    /**
     * Any of `corering_tx_flags`.
     */
    uint32_t flags;
    /**
     * It is ended when it was open for so long; 0: 60000.
     */
    uint64_t timeout_ms;
    /**
     * How long its fate can be asked after it committed; 0: 600000.
     */
    uint64_t remember_ms;
    /**
     * For a transaction that is run again: the number of the attempt before, which has ended; so it keeps its age, and the
     * oldest wins. 0: a new one.
     */
    uint64_t again;
} corering_tx_options;

/**
 * Names a transaction for ever; to be kept before the commit by who wants to ask its fate.
 */
typedef struct corering_tx_id {
    uint8_t bytes[16];
} corering_tx_id;

/**
 * How much of what a transaction may have it has.
 */
typedef struct corering_tx_usage {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_tx_usage). Set it before the call.
     */
    size_t struct_size;
    /**
     * Bytes of its writes.
     */
    uint64_t write_bytes;
    uint64_t write_bytes_max;
    /**
     * Keys and ranges that it has read.
     */
    uint64_t reads;
    uint64_t reads_max;
    /**
     * How long it has been open.
     */
    uint64_t age_ms;
    uint64_t age_ms_max;
} corering_tx_usage;

/**
 * What `corering_transact` runs: it reads and writes by `tx`, and answers 0 or more to commit, an error's status to give up.
 */
typedef int32_t (*corering_tx_function)(struct corering_tx *tx, void *context);

/**
 * How long something took, in nanoseconds.
 */
typedef struct corering_latency {
    /**
     * How often it was measured; if never, the others are zero.
     */
    uint64_t count;
    uint64_t p50_ns;
    uint64_t p99_ns;
    uint64_t p999_ns;
    uint64_t max_ns;
} corering_latency;

/**
 * What shards have done since the database was opened, and what they hold now.
 */
typedef struct corering_stats {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_stats). Set it before the call.
     */
    size_t struct_size;
    /**
     * Shards that were counted.
     */
    uint64_t shards;
    /**
     * Records written, and the bytes of their keys and values.
     */
    uint64_t writes;
    uint64_t write_bytes;
    /**
     * Batches of the log written, and their bytes.
     */
    uint64_t flushes;
    uint64_t flushed_bytes;
    /**
     * Memtables written as tables, and tables merged.
     */
    uint64_t checkpoints;
    uint64_t merges;
    /**
     * Writes that had to wait for memory.
     */
    uint64_t stalls;
    /**
     * Bytes of log that are not durable yet.
     */
    uint64_t undurable_bytes;
    /**
     * Bytes of log that the next opening would replay.
     */
    uint64_t replay_bytes;
    /**
     * Bytes of the log's files.
     */
    uint64_t log_file_bytes;
    /**
     * Bytes of memtables, and how many of them are on their way to a table.
     */
    uint64_t memory_bytes;
    uint64_t sealed_memtables;
    /**
     * Sorted tables, and their bytes.
     */
    uint64_t tables;
    uint64_t table_bytes;
    /**
     * Writes that wait for the disk now.
     */
    uint64_t waiting;
    /**
     * Snapshots in use, in the whole database.
     */
    uint64_t snapshots;
    /**
     * How long writes waited in an inbox for their shard's core; only those that their caller could not execute.
     */
    struct corering_latency hopped;
    /**
     * How long they took to execute, into the log's batch and into memory; a sample of them.
     */
    struct corering_latency appended;
    /**
     * How long those that wait for the disk waited for their flush to begin; a sample of them.
     */
    struct corering_latency queued;
    /**
     * How long flushes took.
     */
    struct corering_latency durable;
    /**
     * How long those that wait for the disk took from their execution to their answer; a sample of them.
     */
    struct corering_latency applied;
    /**
     * Transactions of the whole database: begun, committed, and rolled back by the program.
     */
    uint64_t tx_begun;
    uint64_t tx_committed;
    uint64_t tx_rolled_back;
    /**
     * Aborted: what they read was changed; another one kept a key; an older one took a key; open for too long.
     */
    uint64_t tx_aborted_changed;
    uint64_t tx_aborted_kept;
    uint64_t tx_aborted_wounded;
    uint64_t tx_aborted_too_old;
    /**
     * Ended with any other error.
     */
    uint64_t tx_failed;
    /**
     * Waits for a key that another transaction kept.
     */
    uint64_t tx_waits;
    /**
     * Open now, and the milliseconds that the oldest of them is old.
     */
    uint64_t tx_open;
    uint64_t tx_oldest_ms;
    /**
     * Of the transactions begun, those that ran again what was aborted before.
     */
    uint64_t tx_retried;
    /**
     * Milliseconds for which those were open that ended: of all together, and the longest.
     */
    uint64_t tx_age_ms_total;
    uint64_t tx_age_ms_max;
    /**
     * Sessions of the whole database.
     */
    uint64_t lock_sessions;
    /**
     * Names of locks that are held or wanted, and how many hold them and wait for them now.
     */
    uint64_t lock_names;
    uint64_t lock_holds;
    uint64_t lock_waiters;
    /**
     * Grants, those included by which a session took once more what it held.
     */
    uint64_t lock_grants;
    /**
     * Tries that were refused because others held the lock, or none is granted yet.
     */
    uint64_t lock_refused;
    /**
     * Waits that are over, and their milliseconds: of all together, and the longest.
     */
    uint64_t lock_waits;
    uint64_t lock_wait_ms_total;
    uint64_t lock_wait_ms_max;
    /**
     * Of these, those that ended with their time, and those that were taken back.
     */
    uint64_t lock_timeouts;
    uint64_t lock_cancelled;
    /**
     * Requests that gave way because sessions waited for each other.
     */
    uint64_t lock_deadlocks;
    /**
     * Holds whose lease ran out, and those that ended with their session.
     */
    uint64_t lock_expired;
    uint64_t lock_orphaned;
    /**
     * Writes that were refused because a guard had lost its lock.
     */
    uint64_t lock_fenced;
} corering_stats;

/**
 * What is watched.
 */
typedef struct corering_watch_options {
    /**
     * The bytes of this struct that the program knows: sizeof(corering_watch_options).
     */
    size_t struct_size;
    /**
     * The name space of the keys: 0 to 65279.
     */
    uint32_t keyspace;
    /**
     * Any of `corering_watch_flags`.
     */
    uint32_t flags;
    /**
     * One key; with CORERING_WATCH_PREFIX, what keys begin with.
     */
    const void *key;
    size_t key_len;
    /**
     * With CORERING_WATCH_FROM: a version, or what `corering_watch_progress` told; 0: from the first commit on.
     */
    uint64_t from;
    /**
     * Bytes of changes that may wait before the watch is cut off; 0: 32 MiB.
     */
    uint64_t limit_bytes;
} corering_watch_options;

/**
 * A change of a key, in memory of the watch that gave it.
 */
typedef struct corering_change {
    const uint8_t *key;
    size_t key_len;
    const uint8_t *value;
    size_t value_len;
    /**
     * The commit that made the change.
     */
    uint64_t version;
    /**
     * Milliseconds since 1970 at which the value ceases to exist, of which a change tells then; 0: never.
     */
    uint64_t expires_at_ms;
    uint32_t keyspace;
    /**
     * Any of `corering_change_flags`.
     */
    uint32_t flags;
} corering_change;

/**
 * Every status, in the order of the header.
 */
#define corering_status_ALL { CORERING_OK, CORERING_NOT_FOUND, CORERING_REFUSED, CORERING_END, CORERING_BUFFER_TOO_SMALL, CORERING_ERROR_INVALID_ARGUMENT, CORERING_ERROR_INVALID_HANDLE, CORERING_ERROR_CLOSED, CORERING_ERROR_FORKED, CORERING_ERROR_ABI_MISMATCH, CORERING_ERROR_TOO_MANY_HANDLES, CORERING_ERROR_PANIC, CORERING_ERROR_KEY_TOO_LARGE, CORERING_ERROR_VALUE_TOO_LARGE, CORERING_ERROR_BATCH_TOO_LARGE, CORERING_ERROR_CROSS_SHARD, CORERING_ERROR_NOT_AN_INTEGER, CORERING_ERROR_OVERFLOW, CORERING_ERROR_BUSY, CORERING_ERROR_NO_SPACE, CORERING_ERROR_POISONED, CORERING_ERROR_LOCKED, CORERING_ERROR_CORRUPT, CORERING_ERROR_INCOMPATIBLE, CORERING_ERROR_UNSUPPORTED, CORERING_ERROR_IO, CORERING_ERROR_LOCK_HELD, CORERING_ERROR_LOCK_TIMEOUT, CORERING_ERROR_NOT_HELD, CORERING_ERROR_WRONG_TOKEN, CORERING_ERROR_LEASE_EXPIRED, CORERING_ERROR_FENCED, CORERING_ERROR_NO_SESSION, CORERING_ERROR_WRONG_SECRET, CORERING_ERROR_DEADLOCK, CORERING_ERROR_OTHER_PERMITS, CORERING_ERROR_COMPACTED, CORERING_ERROR_LAGGED, CORERING_ERROR_LOCK_NOT_YET, CORERING_ERROR_CONFLICT, CORERING_ERROR_TRANSACTION_ENDED, CORERING_ERROR_TRANSACTION_TOO_OLD, CORERING_ERROR_TRANSACTION_TOO_LARGE, CORERING_ERROR_NO_SAVEPOINT, CORERING_ERROR_READ_ONLY, }

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The ABI of this library, as in CORERING_ABI_VERSION.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: any.
 * Status: none.
 * Safety: no pointers.
 */
uint32_t corering_abi_version(void);

/**
 * The version of the library, such as "0.1.0".
 *
 * Owns: the library; the text is static.
 * Writes: nothing.
 * Threads: any.
 * Status: none.
 * Safety: no pointers.
 */
const char *corering_version(void);

/**
 * A status's name, such as "not_found"; "unknown" for a number that this version does not have.
 *
 * Owns: the library; the text is static.
 * Writes: nothing.
 * Threads: any.
 * Status: none.
 * Safety: no pointers.
 */
const char *corering_status_name(int32_t status);

/**
 * Whether nothing was done and the same call may succeed later.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: any.
 * Status: none.
 * Safety: no pointers.
 */
bool corering_status_is_retryable(int32_t status);

/**
 * Whether a write that was not acknowledged may yet be found later. Every other error means: nothing was written.
 * A number that this version does not have may mean anything, so it counts as a yes.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: any.
 * Status: none.
 * Safety: no pointers.
 */
bool corering_status_may_have_committed(int32_t status);

/**
 * The text behind the last call of this thread that failed: which argument, file, byte, limit, process. UTF-8, ended
 * by a zero byte, cut to fit. Successful calls leave it alone. Empty if no call of this thread has failed.
 *
 * Owns: the caller keeps the buffer.
 * Writes: `buffer`; the text's length without the zero byte to `len`, if given.
 * Threads: any; each has its own text.
 * Status: OK; BUFFER_TOO_SMALL if the text was cut; INVALID_ARGUMENT for null with a capacity (the text stays).
 * Safety: `buffer` has room for `capacity` bytes; `len` is null or writable.
 */
corering_status corering_error_message(char *buffer,
                                       size_t capacity,
                                       size_t *len);

/**
 * Fills `options` with the defaults: one shard for each processor, durability sync.
 *
 * Owns: the caller keeps the struct.
 * Writes: `struct_size` bytes at `options`.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
 * Safety: `options` has room for `struct_size` bytes.
 */
corering_status corering_options_init(struct corering_options *options, size_t struct_size);

/**
 * Fills `options` with the defaults: keyspace 0, the database's durability, no expiry.
 *
 * Owns: the caller keeps the struct.
 * Writes: `struct_size` bytes at `options`.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
 * Safety: `options` has room for `struct_size` bytes.
 */
corering_status corering_write_options_init(struct corering_write_options *options,
                                            size_t struct_size);

/**
 * Fills `options` with the defaults: keyspace 0, the latest state.
 *
 * Owns: the caller keeps the struct.
 * Writes: `struct_size` bytes at `options`.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
 * Safety: `options` has room for `struct_size` bytes.
 */
corering_status corering_read_options_init(struct corering_read_options *options,
                                           size_t struct_size);

/**
 * Opens the database in the directory `path`, and makes it if there is none (see CORERING_OPEN_MUST_EXIST). `options`
 * may be null for the defaults.
 *
 * Owns: the caller owns the handle; `corering_close` ends it.
 * Writes: the handle to `db`, null on failure.
 * Threads: any. It starts a thread for each shard; blocks while the log is replayed.
 * Status: OK; ABI_MISMATCH; INVALID_ARGUMENT; LOCKED (the message names the holder); CORRUPT; INCOMPATIBLE;
 *   UNSUPPORTED (io_uring or locked memory; the message says what to do); NO_SPACE; IO.
 * Safety: `path` ends with a zero byte; `options` is null or begins with its size; `db` is writable.
 */
corering_status corering_open(uint32_t abi_version,
                              const char *path,
                              const struct corering_options *options,
                              struct corering_db **db);

/**
 * Closes a database: everything answered becomes durable, its threads end. The handle ends here whatever the status.
 * Batches, snapshots, iterators and queues of the database answer CLOSED from here on, and are still to be freed.
 * Calls of other threads that are under way are answered first, with what they did or with CLOSED.
 *
 * Owns: the handle ends here.
 * Writes: nothing.
 * Threads: any; blocks.
 * Status: OK, also for null; CLOSED if it was closed before; INVALID_HANDLE; FORKED; POISONED or IO if something
 *   that was answered at a level below sync could not be made durable.
 * Safety: any pointer will do; it is not dereferenced.
 */
corering_status corering_close(struct corering_db *db);

/**
 * Makes durable everything that was answered before, at whatever level.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: any; blocks.
 * Status: OK; INVALID_HANDLE; CLOSED; FORKED; POISONED; IO.
 * Safety: no pointers but the handle.
 */
corering_status corering_sync(struct corering_db *db);

/**
 * Writes what is in memory as sorted tables and trims the log, so that the next opening has nothing to replay.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: any; blocks, for seconds if there is much in memory.
 * Status: OK; INVALID_HANDLE; CLOSED; FORKED; POISONED; NO_SPACE; IO.
 * Safety: no pointers but the handle.
 */
corering_status corering_checkpoint(struct corering_db *db);

/**
 * How many shards the database has.
 *
 * Owns: nothing.
 * Writes: `count`, 0 on failure.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `count` is writable.
 */
corering_status corering_shard_count(struct corering_db *db, uint32_t *count);

/**
 * What the opening found and did: what was replayed from each log, what was cut, which keys were moved. UTF-8, ended
 * by a zero byte, cut to fit.
 *
 * Owns: the caller keeps the buffer.
 * Writes: `buffer`; the text's length without the zero byte to `len`, if given.
 * Threads: any.
 * Status: OK; BUFFER_TOO_SMALL if the text was cut; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `buffer` has room for `capacity` bytes; `len` is null or writable.
 */
corering_status corering_open_report(struct corering_db *db,
                                     char *buffer,
                                     size_t capacity,
                                     size_t *len);

/**
 * Frees a value that the library gave out, and zeroes it.
 *
 * Owns: the value ends here.
 * Writes: zeroes to `value`.
 * Threads: any.
 * Status: OK, also for null and for a value of zeroes; CLOSED if a copy of it was freed before; INVALID_HANDLE if it
 *   is not one of the library's; FORKED.
 * Safety: `value` is null or leads to a `corering_value`.
 */
corering_status corering_value_free(struct corering_value *value);

/**
 * The value of a key, in memory of the library. `options` may be null.
 *
 * Owns: the caller owns the value; `corering_value_free` ends it.
 * Writes: `value`, zeroes if there is none.
 * Threads: any; runs in the calling thread, without waiting for a write.
 * Status: OK; NOT_FOUND; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; TOO_MANY_HANDLES; CORRUPT;
 *   IO.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `value` is writable.
 */
corering_status corering_get(struct corering_db *db,
                             const void *key,
                             size_t key_len,
                             const struct corering_read_options *options,
                             struct corering_value *value);

/**
 * The value of a key, in memory of the caller: the fast way. `options` may be null.
 *
 * Owns: the caller keeps the buffer.
 * Writes: the bytes to `buffer`, all or none; the value's length to `value_len`, also if the buffer is too small;
 *   its version to `version`, if given. A `capacity` of 0 asks for the length alone.
 * Threads: any; runs in the calling thread, without waiting for a write.
 * Status: OK; NOT_FOUND; BUFFER_TOO_SMALL; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; CORRUPT;
 *   IO.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `buffer` has room for `capacity`
 *   bytes and does not overlap the key; `value_len` is writable; `version` is null or writable.
 */
corering_status corering_get_into(struct corering_db *db,
                                  const void *key,
                                  size_t key_len,
                                  const struct corering_read_options *options,
                                  void *buffer,
                                  size_t capacity,
                                  size_t *value_len,
                                  uint64_t *version);

/**
 * The values of many keys at once, all of one keyspace and snapshot. `options` may be null.
 *
 * Owns: the caller owns the values; `corering_value_free` ends each.
 * Writes: `count` values in the order of the keys; zeroes for a key that is not there; zeroes to all on failure.
 * Threads: any; runs in the calling thread, without waiting for a write.
 * Status: OK, also if no key is there; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE;
 *   TOO_MANY_HANDLES; CORRUPT; IO.
 * Safety: `keys` has `count` keys, each with its bytes; `options` is null or begins with its size; `values` has room
 *   for `count`.
 */
corering_status corering_multi_get(struct corering_db *db,
                                   const struct corering_bytes *keys,
                                   size_t count,
                                   const struct corering_read_options *options,
                                   struct corering_value *values);

/**
 * Stores a value under a key, over whatever was there. `options` may be null.
 *
 * Owns: the caller keeps key and value.
 * Writes: the commit to `version`, if given.
 * Threads: any; blocks until the write is as durable as asked for.
 * Status: OK; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; BUSY; NO_SPACE;
 *   POISONED.
 * Safety: `key` has `key_len` bytes, `value` has `value_len`; `options` is null or begins with its size; `version`
 *   is null or writable.
 */
corering_status corering_put(struct corering_db *db,
                             const void *key,
                             size_t key_len,
                             const void *value,
                             size_t value_len,
                             const struct corering_write_options *options,
                             uint64_t *version);

/**
 * Removes a key. `options` may be null.
 *
 * Owns: the caller keeps the key.
 * Writes: whether it was there to `existed`, if given.
 * Threads: any; blocks until the write is as durable as asked for.
 * Status: OK, also if the key was not there; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; BUSY;
 *   NO_SPACE; POISONED.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `existed` is null or writable.
 */
corering_status corering_delete(struct corering_db *db,
                                const void *key,
                                size_t key_len,
                                const struct corering_write_options *options,
                                bool *existed);

/**
 * Stores a value under a key if `condition` holds for what is there. `options` may be null.
 *
 * Owns: the caller keeps key, value and condition.
 * Writes: to `version`, if given: the commit; if refused, the commit that wrote what is there, 0 if nothing is.
 * Threads: any; blocks until the write, or what refused it, is as durable as asked for.
 * Status: OK; REFUSED; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; BUSY;
 *   NO_SPACE; POISONED.
 * Safety: `key` has `key_len` bytes, `value` has `value_len`, the condition's `expected` as many as it says;
 *   `options` is null or begins with its size; `version` is null or writable.
 */
corering_status corering_put_if(struct corering_db *db,
                                const void *key,
                                size_t key_len,
                                const void *value,
                                size_t value_len,
                                const struct corering_condition *condition,
                                const struct corering_write_options *options,
                                uint64_t *version);

/**
 * Adds `by` to the decimal number under a key, 0 if there is none, and keeps its expiry; the expiry in `options`, which
 * may be null, is for a key that is new.
 *
 * Owns: the caller keeps the key.
 * Writes: the new number to `result`, if given.
 * Threads: any; blocks until the write is as durable as asked for.
 * Status: OK; NOT_AN_INTEGER; OVERFLOW; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; BUSY;
 *   NO_SPACE; POISONED.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `result` is null or writable.
 */
corering_status corering_incr(struct corering_db *db,
                              const void *key,
                              size_t key_len,
                              int64_t by,
                              const struct corering_write_options *options,
                              int64_t *result);

/**
 * Makes an empty batch for a database.
 *
 * Owns: the caller owns the batch; `corering_batch_free` ends it.
 * Writes: the handle to `batch`, null on failure.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; TOO_MANY_HANDLES.
 * Safety: `batch` is writable.
 */
corering_status corering_batch_new(struct corering_db *db, struct corering_batch **batch);

/**
 * Ends a batch; what was not committed is forgotten.
 *
 * Owns: the handle ends here.
 * Writes: nothing.
 * Threads: any.
 * Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
 * Safety: any pointer will do; it is not dereferenced.
 */
corering_status corering_batch_free(struct corering_batch *batch);

/**
 * Adds: store a value under a key. Of `options`, which may be null, it heeds the keyspace and the expiry; a `ttl_ms`
 * counts from here.
 *
 * Owns: the caller keeps key and value; they are copied.
 * Writes: nothing.
 * Threads: one at a time for a batch.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; BATCH_TOO_LARGE.
 * Safety: `key` has `key_len` bytes, `value` has `value_len`; `options` is null or begins with its size.
 */
corering_status corering_batch_put(struct corering_batch *batch,
                                   const void *key,
                                   size_t key_len,
                                   const void *value,
                                   size_t value_len,
                                   const struct corering_write_options *options);

/**
 * Adds: remove a key. Of `options`, which may be null, it heeds the keyspace.
 *
 * Owns: the caller keeps the key; it is copied.
 * Writes: nothing.
 * Threads: one at a time for a batch.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; BATCH_TOO_LARGE.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size.
 */
corering_status corering_batch_delete(struct corering_batch *batch,
                                      const void *key,
                                      size_t key_len,
                                      const struct corering_write_options *options);

/**
 * Empties a batch, for use again.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: one at a time for a batch.
 * Status: OK; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: no pointers but the handle.
 */
corering_status corering_batch_clear(struct corering_batch *batch);

/**
 * How many writes a batch holds.
 *
 * Owns: nothing.
 * Writes: `count`, 0 on failure.
 * Threads: one at a time for a batch.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `count` is writable.
 */
corering_status corering_batch_len(struct corering_batch *batch, size_t *count);

/**
 * Does all writes of a batch at once. The batch keeps them, so that a commit that was refused can be tried again;
 * `corering_batch_clear` empties it. Of `options`, which may be null, it heeds the durability and the guards.
 *
 * Owns: the caller keeps the batch.
 * Writes: the commit to `version`, if given.
 * Threads: one at a time for a batch; blocks until the writes are as durable as asked for.
 * Status: OK; BATCH_TOO_LARGE; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
 * Safety: `options` is null or begins with its size; `version` is null or writable.
 */
corering_status corering_batch_commit(struct corering_batch *batch,
                                      const struct corering_write_options *options,
                                      uint64_t *version);

/**
 * Does many independent operations: one hop for each shard that they write to, one wait for all. Those of one shard
 * take effect in their order, and a get sees the writes before it. They are not atomic together: each has its own
 * outcome, and one that fails leaves the others alone. Of `options`, which may be null, it heeds the durability and the
 * guards, on which then each operation depends, also a get; the other settings are each operation's own.
 *
 * Owns: the caller keeps the operations and what they lead to; it owns the values of the results, each to be freed
 *   with `corering_value_free`.
 * Writes: `count` results, in the order of the operations; zeroes on failure.
 * Threads: any; blocks until all writes are as durable as asked for.
 * Status: OK if each operation has its own status in its result; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED:
 *   then nothing was done.
 * Safety: `ops` has `count` operations, each with its bytes; `options` is null or begins with its size; `results`
 *   has room for `count`.
 */
corering_status corering_execute(struct corering_db *db,
                                 const struct corering_op *ops,
                                 size_t count,
                                 const struct corering_write_options *options,
                                 struct corering_result *results);

/**
 * Keeps the present state of all shards for reading.
 *
 * Owns: the caller owns the snapshot; `corering_snapshot_free` ends it.
 * Writes: the handle to `snapshot`, null on failure.
 * Threads: any; may wait for a write that is on its way to disk.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; POISONED.
 * Safety: `snapshot` is writable.
 */
corering_status corering_snapshot_new(struct corering_db *db, struct corering_snapshot **snapshot);

/**
 * Releases a snapshot. Iterators made from it keep what they need.
 *
 * Owns: the handle ends here.
 * Writes: nothing.
 * Threads: any.
 * Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
 * Safety: any pointer will do; it is not dereferenced.
 */
corering_status corering_snapshot_free(struct corering_snapshot *snapshot);

/**
 * The last commit that the snapshot shows.
 *
 * Owns: nothing.
 * Writes: `version`, 0 on failure.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `version` is writable.
 */
corering_status corering_snapshot_version(struct corering_snapshot *snapshot, uint64_t *version);

/**
 * Fills `options` with the defaults: all keys of keyspace 0, forward, as of now.
 *
 * Owns: the caller keeps the struct.
 * Writes: `struct_size` bytes at `options`.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
 * Safety: `options` has room for `struct_size` bytes.
 */
corering_status corering_scan_options_init(struct corering_scan_options *options,
                                           size_t struct_size);

/**
 * Begins to walk over a range of keys, in order over all shards, in one consistent state. `options` may be null for
 * all keys of keyspace 0. The iterator stands before the first entry.
 *
 * Owns: the caller owns the iterator; `corering_iterator_free` ends it. The bounds are copied. A snapshot in the
 *   options may be freed before the iterator.
 * Writes: the handle to `iterator`, null on failure.
 * Threads: any; makes a snapshot if none is given.
 * Status: OK, also if the range is empty; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE;
 *   TOO_MANY_HANDLES; POISONED; CORRUPT; IO.
 * Safety: `options` is null or begins with its size, its bounds have as many bytes as they say; `iterator` is
 *   writable.
 */
corering_status corering_scan(struct corering_db *db,
                              const struct corering_scan_options *options,
                              struct corering_iterator **iterator);

/**
 * The next entry.
 *
 * Owns: the iterator owns the bytes; they are valid until the next call with this iterator.
 * Writes: `entry`, zeroes at the end or on failure.
 * Threads: one at a time for an iterator.
 * Status: OK; END; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED, also if the database was closed; FORKED; CORRUPT; IO.
 * Safety: `entry` is writable.
 */
corering_status corering_iterator_next(struct corering_iterator *iterator,
                                       struct corering_entry *entry);

/**
 * The next entries, at most `capacity`, and at most about 1 MiB of them: one call for many rows.
 *
 * Owns: the iterator owns the bytes; they are valid until the next call with this iterator.
 * Writes: `entries`, zeroes behind the last; how many there are to `count`.
 * Threads: one at a time for an iterator.
 * Status: OK with at least one entry; END with none; INVALID_ARGUMENT, also for a capacity of 0; INVALID_HANDLE;
 *   CLOSED; FORKED; CORRUPT; IO. An error that is met behind some entries is the next call's.
 * Safety: `entries` has room for `capacity`; `count` is writable.
 */
corering_status corering_iterator_fill(struct corering_iterator *iterator,
                                       struct corering_entry *entries,
                                       size_t capacity,
                                       size_t *count);

/**
 * Ends an iterator.
 *
 * Owns: the handle and the bytes of its entries end here.
 * Writes: nothing.
 * Threads: any.
 * Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
 * Safety: any pointer will do; it is not dereferenced.
 */
corering_status corering_iterator_free(struct corering_iterator *iterator);

/**
 * Makes a completion queue for a database, for at most `capacity` (1 to 1048576) operations under way or not reaped.
 *
 * Owns: the caller owns the queue; `corering_queue_free` ends it.
 * Writes: the handle to `queue`, null on failure.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; TOO_MANY_HANDLES; IO.
 * Safety: `queue` is writable.
 */
corering_status corering_queue_new(struct corering_db *db,
                                   uint32_t capacity,
                                   struct corering_queue **queue);

/**
 * The descriptor that is readable whenever a completion can be reaped. Poll it; do not read, write or close it.
 *
 * Owns: the queue owns the descriptor; it ends with the queue.
 * Writes: `fd`, 0 on failure.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `fd` is writable.
 */
corering_status corering_queue_fd(struct corering_queue *queue,
                                  int32_t *fd);

/**
 * Submits operations without waiting for them. Those of one shard take effect in the order in which one thread submits
 * them, and a get sees the writes submitted before it. Of `options`, which may be null, it heeds the durability, the session and the
 * guards, on which then each operation depends; the other settings are each operation's own. An operation that makes no sense is accepted and fails in its completion.
 *
 * Owns: the caller keeps the operations and what they lead to; they are copied.
 * Writes: to `accepted` how many were taken, from the first on.
 * Threads: any; does not wait for the disk.
 * Status: OK if at least one was accepted, or none was given; BUSY if the queue is full: reap, then submit again;
 *   INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `ops` has `count` operations, each with its bytes; `options` is null or begins with its size; `accepted`
 *   is writable.
 */
corering_status corering_queue_submit(struct corering_queue *queue,
                                      const struct corering_op *ops,
                                      size_t count,
                                      const struct corering_write_options *options,
                                      size_t *accepted);

/**
 * Submits an atomic batch without waiting for it. The batch keeps its writes and may be changed or freed at once. Of
 * `options`, which may be null, it heeds the durability and the guards.
 *
 * Owns: the caller keeps the batch; its writes are copied.
 * Writes: nothing.
 * Threads: any; does not wait for the disk.
 * Status: OK; BUSY if the queue is full; INVALID_ARGUMENT, also for the batch of another database; INVALID_HANDLE;
 *   CLOSED; FORKED.
 * Safety: `options` is null or begins with its size.
 */
corering_status corering_queue_submit_batch(struct corering_queue *queue,
                                            struct corering_batch *batch,
                                            const struct corering_write_options *options,
                                            uint64_t user_data);

/**
 * Takes completions that are there, at most `capacity`, without waiting. The descriptor stays readable while some are
 * left. Completions can be reaped after the database was closed.
 *
 * Owns: the caller owns the values of the results, each to be freed with `corering_value_free`.
 * Writes: `results`, zeroes behind the last; how many there are to `count`.
 * Threads: any.
 * Status: OK, also if there are none; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED if the queue was freed; FORKED.
 * Safety: `results` has room for `capacity`; `count` is writable.
 */
corering_status corering_queue_reap(struct corering_queue *queue,
                                    struct corering_result *results,
                                    size_t capacity,
                                    size_t *count);

/**
 * Ends a queue. Operations that are under way go on and take effect; their completions are dropped, as are those not
 * reaped. To know every outcome, reap before.
 *
 * Owns: the handle and the descriptor end here.
 * Writes: nothing.
 * Threads: any.
 * Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
 * Safety: any pointer will do; it is not dereferenced.
 */
corering_status corering_queue_free(struct corering_queue *queue);

/**
 * Fills `options` with the defaults: ten seconds to live, no label.
 *
 * Owns: the caller keeps the struct.
 * Writes: `struct_size` bytes at `options`.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
 * Safety: `options` has room for `struct_size` bytes.
 */
corering_status corering_session_options_init(struct corering_session_options *options,
                                              size_t struct_size);

/**
 * Makes a session, durably. It lives until `corering_session_end` or `corering_session_kill`, or until it was not kept
 * alive for its time to live; not only as long as this process. `options` may be null.
 *
 * Owns: the caller keeps the session, which needs no freeing.
 * Writes: `session`.
 * Threads: any; blocks until the session is durable.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
 * Safety: `options` is null or begins with its size, and its `label` has `label_len` bytes; `session` is writable.
 */
corering_status corering_session_open(struct corering_db *db,
                                      const struct corering_session_options *options,
                                      struct corering_session *session);

/**
 * Begins a session's time to live anew. Every third of it is often enough.
 *
 * Owns: the caller keeps the session.
 * Writes: nothing.
 * Threads: any; does not wait.
 * Status: OK; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `session` is null or a session.
 */
corering_status corering_session_keep_alive(struct corering_db *db,
                                            const struct corering_session *session);

/**
 * Ends a session with all its holds and waits; what waits for a grant answers NO_SESSION.
 *
 * Owns: the caller keeps the struct, which names nothing any more.
 * Writes: nothing.
 * Threads: any; blocks until the end is durable.
 * Status: OK; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
 * Safety: `session` is null or a session.
 */
corering_status corering_session_end(struct corering_db *db,
                                     const struct corering_session *session);

/**
 * As `corering_session_end`, by whoever knows no more than the session's number: for administrators.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: any; blocks until the end is durable.
 * Status: OK; NO_SESSION; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
 * Safety: no pointers but the handle.
 */
corering_status corering_session_kill(struct corering_db *db,
                                      uint64_t id);

/**
 * The sessions that live, without their secrets. A `capacity` of 0 asks for their number alone.
 *
 * Owns: the caller keeps the array.
 * Writes: at most `capacity` sessions, zeroes behind the last; how many live to `count`, also if there are more.
 * Threads: any.
 * Status: OK; BUFFER_TOO_SMALL if there are more; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `sessions` has room for `capacity`; `count` is writable.
 */
corering_status corering_session_list(struct corering_db *db,
                                      struct corering_session_info *sessions,
                                      size_t capacity,
                                      size_t *count);

/**
 * The next hold that the session lost, waited for up to `wait_ms`; 0 only looks, CORERING_WAIT_FOREVER has no end. Losses are
 * kept for the session from the first call of this, or of `corering_queue_lost`, on.
 *
 * Owns: the caller keeps the session.
 * Writes: `loss`, zeroes if there is none.
 * Threads: any; each loss is told once, to one of those who ask.
 * Status: OK; END if there was none in time; NO_SESSION if the session has ended, and with it all its holds, also those that were
 *   not told one by one; BUSY if more than 65536 waited to be taken: the oldest are gone, ask again for the others; WRONG_SECRET;
 *   INVALID_ARGUMENT; INVALID_HANDLE; CLOSED, also if the database is closed meanwhile; FORKED.
 * Safety: `session` is null or a session; `loss` is writable.
 */
corering_status corering_session_lost(struct corering_db *db,
                                      const struct corering_session *session,
                                      uint64_t wait_ms,
                                      struct corering_loss *loss);

/**
 * Has a completion of the kind CORERING_OP_LOST arrive in the queue, once, when the session has lost a hold or has ended. Take with
 * `corering_session_lost` and a `wait_ms` of 0 until END, then ask again. Asking again before completes what was asked first as
 * CLOSED.
 *
 * Owns: the caller keeps queue and session.
 * Writes: nothing.
 * Threads: any; does not wait.
 * Status: OK; BUSY if the queue is full; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED. NO_SESSION and WRONG_SECRET are in the
 *   completion.
 * Safety: `session` is null or a session.
 */
corering_status corering_queue_lost(struct corering_queue *queue,
                                    const struct corering_session *session,
                                    uint64_t user_data);

/**
 * Fills `options` with the defaults: exclusive, no wait, for as long as the session lives, durable before it is answered.
 *
 * Owns: the caller keeps the struct.
 * Writes: `struct_size` bytes at `options`.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
 * Safety: `options` has room for `struct_size` bytes.
 */
corering_status corering_lock_options_init(struct corering_lock_options *options,
                                           size_t struct_size);

/**
 * Takes a lock for a session, or takes it once more. Who waits is served strictly in order. `options` may be null.
 *
 * Owns: the caller keeps session and name. The session holds the lock until `corering_lock_release`, or the end of the lease or
 *   of the session.
 * Writes: `grant`, if given.
 * Threads: any; blocks until the lock is granted and that is as durable as asked for, or `wait_ms` have passed.
 * Status: OK; LOCK_HELD; LOCK_NOT_YET; LOCK_TIMEOUT; LEASE_EXPIRED if the session's own earlier hold has just run out; DEADLOCK;
 *   OTHER_PERMITS; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
 * Safety: `session` is null or a session; `name` has `name_len` bytes; `options` is null or begins with its size; `grant`
 *   is null or writable.
 */
corering_status corering_lock_acquire(struct corering_db *db,
                                      const struct corering_session *session,
                                      const void *name,
                                      size_t name_len,
                                      const struct corering_lock_options *options,
                                      struct corering_grant *grant);

/**
 * Gives a lock back, or one of the times that the session has taken it. `token` is the hold's, or 0 for whatever the session
 * holds by this name. Of `options`, which may be null, it heeds the durability.
 *
 * Owns: the caller keeps session and name.
 * Writes: how often the session still holds it to `count`, and to `expired` whether the lease had run out before, so that
 *   others may have held the lock already; both if given.
 * Threads: any; blocks until the release is as durable as asked for.
 * Status: OK; NOT_HELD; WRONG_TOKEN; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY;
 *   NO_SPACE; POISONED.
 * Safety: `session` is null or a session; `name` has `name_len` bytes; `options` is null or begins with its size; `count`
 *   and `expired` are null or writable.
 */
corering_status corering_lock_release(struct corering_db *db,
                                      const struct corering_session *session,
                                      const void *name,
                                      size_t name_len,
                                      uint64_t token,
                                      const struct corering_lock_options *options,
                                      uint32_t *count,
                                      bool *expired);

/**
 * Begins the lease of a hold anew, with its whole length. `token` is the hold's, or 0 for whatever the session holds.
 *
 * Owns: the caller keeps session and name.
 * Writes: the hold's token to `current`, if given.
 * Threads: any; does not wait for the disk.
 * Status: OK; NOT_HELD; WRONG_TOKEN; LEASE_EXPIRED; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED;
 *   FORKED; BUSY; POISONED.
 * Safety: `session` is null or a session; `name` has `name_len` bytes; `current` is null or writable.
 */
corering_status corering_lock_renew(struct corering_db *db,
                                    const struct corering_session *session,
                                    const void *name,
                                    size_t name_len,
                                    uint64_t token,
                                    uint64_t *current);

/**
 * Shares a lock that the session holds exclusively, without letting go; the token stays. `token` is the hold's, or 0. Of
 * `options`, which may be null, it heeds the durability.
 *
 * Owns: the caller keeps session and name.
 * Writes: `grant`, if given.
 * Threads: any; blocks until the change is as durable as asked for.
 * Status: OK; NOT_HELD; WRONG_TOKEN; LEASE_EXPIRED; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED;
 *   FORKED; BUSY; NO_SPACE; POISONED.
 * Safety: `session` is null or a session; `name` has `name_len` bytes; `options` is null or begins with its size; `grant`
 *   is null or writable.
 */
corering_status corering_lock_downgrade(struct corering_db *db,
                                        const struct corering_session *session,
                                        const void *name,
                                        size_t name_len,
                                        uint64_t token,
                                        const struct corering_lock_options *options,
                                        struct corering_grant *grant);

/**
 * Who holds a lock, then who waits for it, in the order in which they will be served.
 *
 * Owns: the caller keeps the array.
 * Writes: at most `capacity` parts, zeroes behind the last; how many there are to `count`, also if there are more.
 * Threads: any.
 * Status: OK; NOT_FOUND if nobody holds it or waits; BUFFER_TOO_SMALL if there are more; INVALID_ARGUMENT; INVALID_HANDLE;
 *   CLOSED; FORKED; BUSY; POISONED.
 * Safety: `name` has `name_len` bytes; `parts` has room for `capacity`; `count` is writable.
 */
corering_status corering_lock_info(struct corering_db *db,
                                   const void *name,
                                   size_t name_len,
                                   struct corering_lock_part *parts,
                                   size_t capacity,
                                   size_t *count);

/**
 * Some of the locks that are held or waited for, in no order. A lock that is there from the first call to the last is in exactly one
 * answer. An answer may be empty and not the last: `next` tells.
 *
 * Owns: the caller keeps the array.
 * Writes: at most `capacity` locks, zeroes behind the last; how many to `count`; to `next` the `cursor` of the next call, 0 if there are
 *   no more.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT, also for a capacity of 0; INVALID_HANDLE; CLOSED; FORKED; BUSY; POISONED.
 * Safety: `locks` has room for `capacity`; `count` and `next` are writable.
 */
corering_status corering_lock_scan(struct corering_db *db,
                                   uint64_t cursor,
                                   struct corering_lock_entry *locks,
                                   size_t capacity,
                                   size_t *count,
                                   uint64_t *next);

/**
 * As `corering_lock_acquire`, without waiting: the grant is a completion of kind CORERING_OP_ACQUIRE, with the token in
 * `version` and the count in `integer`. A wait ends with its `wait_ms`, by `corering_queue_cancel` (both LOCK_TIMEOUT) or with its
 * session (NO_SESSION); it takes one of the queue's places until then. `options` may be null.
 *
 * Owns: the caller keeps session and name; they are copied.
 * Writes: nothing.
 * Threads: any; does not wait.
 * Status: OK; BUSY if the queue is full; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED. The others of
 *   `corering_lock_acquire` are in the completion.
 * Safety: `session` is null or a session; `name` has `name_len` bytes; `options` is null or begins with its size.
 */
corering_status corering_queue_acquire(struct corering_queue *queue,
                                       const struct corering_session *session,
                                       const void *name,
                                       size_t name_len,
                                       const struct corering_lock_options *options,
                                       uint64_t user_data);

/**
 * Ends the wait of a `corering_queue_acquire` of this queue: it leaves the line, and the others move up. Its completion comes all the
 * same, and once: LOCK_TIMEOUT, or the grant if that was first; then the session holds the lock, which is to be released. Of
 * several waits with this `user_data`, all are ended.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: any; does not wait.
 * Status: OK; NOT_FOUND if the queue has no such wait: it was never asked for, or its completion is there already; BUSY: ask again;
 *   INVALID_HANDLE; CLOSED; FORKED; POISONED.
 * Safety: any pointer will do; it is not dereferenced.
 */
corering_status corering_queue_cancel(struct corering_queue *queue,
                                      uint64_t user_data);

/**
 * Fills `options` with the defaults: strict serializability, the database's durability, one minute, a new age.
 *
 * Owns: the caller keeps the struct.
 * Writes: `struct_size` bytes at `options`.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
 * Safety: `options` has room for `struct_size` bytes.
 */
corering_status corering_tx_options_init(struct corering_tx_options *options,
                                         size_t struct_size);

/**
 * Begins a transaction. `options` may be null.
 *
 * Owns: the caller owns the transaction; `corering_tx_free` ends it, also after it was committed or rolled back.
 * Writes: the handle to `tx`, null on failure.
 * Threads: any; does not wait.
 * Status: OK; INVALID_ARGUMENT, also for an `again` that was never given out or is still open; INVALID_HANDLE; CLOSED; FORKED;
 *   TOO_MANY_HANDLES.
 * Safety: `options` is null or begins with its size; `tx` is writable.
 */
corering_status corering_tx_begin(struct corering_db *db,
                                  const struct corering_tx_options *options,
                                  struct corering_tx **tx);

/**
 * Frees a transaction; one that is open is rolled back. A commit that is under way by a queue goes on.
 *
 * Owns: the handle ends here.
 * Writes: nothing.
 * Threads: any.
 * Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
 * Safety: any pointer will do; it is not dereferenced.
 */
corering_status corering_tx_free(struct corering_tx *tx);

/**
 * The name by which the transaction's fate can be asked (`corering_tx_fate`).
 *
 * Owns: the caller keeps the struct.
 * Writes: `id`, zeroes on failure.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `id` is writable.
 */
corering_status corering_tx_get_id(struct corering_tx *tx, struct corering_tx_id *id);

/**
 * The transaction's age, for `again` of the one that runs the same once more. Never zero.
 *
 * Owns: nothing.
 * Writes: `number`, 0 on failure.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `number` is writable.
 */
corering_status corering_tx_number(struct corering_tx *tx, uint64_t *number);

/**
 * How much of what a transaction may have it has.
 *
 * Owns: the caller keeps the struct.
 * Writes: as many bytes of `usage` as its `struct_size` says; nothing on failure.
 * Threads: one at a time for a transaction.
 * Status: OK, also after its end; INVALID_ARGUMENT for null, or for a size that no version of the struct has; INVALID_HANDLE; CLOSED;
 *   FORKED.
 * Safety: `usage` is null or begins with its size.
 */
corering_status corering_tx_get_usage(struct corering_tx *tx,
                                      struct corering_tx_usage *usage);

/**
 * Makes a place in the transaction to go back to.
 *
 * Owns: the transaction keeps it.
 * Writes: its number to `savepoint`, 0 on failure.
 * Threads: one at a time for a transaction.
 * Status: OK; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `savepoint` is writable.
 */
corering_status corering_tx_savepoint(struct corering_tx *tx,
                                      uint64_t *savepoint);

/**
 * Forgets the writes since a savepoint, and the savepoints made since; it stays. What was read stays read, keys that are kept
 * stay kept.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: one at a time for a transaction.
 * Status: OK; NO_SAVEPOINT; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: no pointers but the handle.
 */
corering_status corering_tx_rollback_to(struct corering_tx *tx,
                                        uint64_t savepoint);

/**
 * Forgets a savepoint, and those made since; the writes stay.
 *
 * Owns: nothing.
 * Writes: nothing.
 * Threads: one at a time for a transaction.
 * Status: OK; NO_SAVEPOINT; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: no pointers but the handle.
 */
corering_status corering_tx_release(struct corering_tx *tx,
                                    uint64_t savepoint);

/**
 * Has the commit take effect only if all these tokens hold their locks at that moment; else it fails as FENCED.
 *
 * Owns: the caller keeps the guards; they are copied.
 * Writes: nothing.
 * Threads: one at a time for a transaction.
 * Status: OK; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `guards` has `count` guards, each with its name's bytes.
 */
corering_status corering_tx_guard(struct corering_tx *tx,
                                  const struct corering_guard *guards,
                                  size_t count);

/**
 * Commits. It ends the transaction, whatever the status; the handle is still to be freed.
 *
 * Owns: the caller keeps the handle.
 * Writes: the commit to `version`, if given; 0 if it wrote nothing.
 * Threads: one at a time for a transaction; blocks until the commit is durable and seen everywhere.
 * Status: OK; CONFLICT: nothing was done, run it again; FENCED; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_HANDLE; CLOSED;
 *   FORKED; BUSY; NO_SPACE; POISONED: ask `corering_tx_fate` after the next opening; INVALID_ARGUMENT, and it is still open, for the
 *   transaction of a function that `corering_transact` runs.
 * Safety: `version` is null or writable.
 */
corering_status corering_tx_commit(struct corering_tx *tx,
                                   uint64_t *version);

/**
 * Rolls back: the transaction ends, and nothing was done. The handle is still to be freed.
 *
 * Owns: the caller keeps the handle.
 * Writes: nothing.
 * Threads: any; whoever waits for a key of this transaction in another thread is answered TRANSACTION_ENDED.
 * Status: OK; TRANSACTION_ENDED; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: no pointers but the handle.
 */
corering_status corering_tx_rollback(struct corering_tx *tx);

/**
 * What became of a transaction, in this opening of the database or in one before. Only of one that is not under way any more.
 *
 * Owns: nothing.
 * Writes: the commit to `version`, if given; 0 if it did not happen.
 * Threads: any; may wait for writes that are under way.
 * Status: OK if it committed; NOT_FOUND if it did not, or wrote nothing; TRANSACTION_TOO_OLD if that is longer ago than it was to be
 *   remembered, and nobody knows; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; POISONED; CORRUPT; IO.
 * Safety: `id` is null or an id; `version` is null or writable.
 */
corering_status corering_tx_fate(struct corering_db *db,
                                 const struct corering_tx_id *id,
                                 uint64_t *version);

/**
 * Runs `function` in a transaction and commits it: again and again, in new transactions of the same age, each when it is its turn
 * (`corering_tx_wait_turn`) and with pauses between them (`corering_tx_pause_ns`), until that succeeds or fails for another reason than others' work. `options` may be null.
 *
 * `function` is given the transaction and `context`, and may be run any number of times: what it does besides reading and writing by
 * the transaction must bear that. If it answers 0 or more, the transaction is committed; if it answers CONFLICT or BUSY, as a call
 * with the transaction may, it is run again; any other error gives up: nothing was written, and that error is the answer here. It must
 * not commit. If it rolls back or frees the transaction, the answer is TRANSACTION_ENDED, unless it gives up.
 *
 * A commit whose outcome is not known, or a full disk, ends it: nothing is run again that may have been done. To ask
 * `corering_tx_fate` then, have the function keep `corering_tx_get_id`.
 *
 * Owns: the library owns the transaction; `function` must not keep it. Iterators that it made are still to be freed.
 * Writes: the commit to `version`, if given; 0 if it wrote nothing.
 * Threads: any; `function` runs in the calling thread only, with no lock of the library held, and may call whatever it likes.
 *   Blocks until the commit is durable and seen everywhere.
 * Status: OK; what `function` gave up with; what `corering_tx_begin` and `corering_tx_commit` give, but no CONFLICT and no BUSY;
 *   INVALID_ARGUMENT for null, or if `function` answers with a number below 0 that is no status.
 * Safety: `options` is null or begins with its size; `version` is null or writable; `function` is a function of this type that can be
 *   called with `context`, and returns: no `longjmp` may leave it, and an exception that does ends the process.
 */
corering_status corering_transact(struct corering_db *db,
                                  const struct corering_tx_options *options,
                                  corering_tx_function function,
                                  void *context,
                                  uint64_t *version);

/**
 * How long to wait before a transaction that failed `attempt` times before is run again: drawn at random below 50 us,
 * doubled with each attempt up to 5 ms. `again` is its age, as in `corering_tx_options`: 0 if it is known where that lost, since it will
 * wait for its turn then (`corering_tx_wait_turn`).
 *
 * Owns: nothing.
 * Writes: `nanoseconds`, 0 on failure.
 * Threads: any; does not wait.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `nanoseconds` is writable.
 */
corering_status corering_tx_pause_ns(struct corering_db *db,
                                     uint64_t again,
                                     uint32_t attempt,
                                     uint64_t *nanoseconds);

/**
 * Waits for the turn of a transaction that is run again, before anything else is done with it: it keeps the keys at which the attempts
 * before it lost, as by `corering_tx_get_for_update`, each once all older ones that want the key have had it. Without it, the same
 * may be lost again. One that is not run again has its turn at once.
 *
 * Owns: the caller keeps the handle.
 * Writes: nothing.
 * Threads: one at a time for a transaction; blocks. Rolling the transaction back in another thread ends the wait.
 * Status: OK; CONFLICT: an older one needed a key, run it again; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_HANDLE; CLOSED;
 *   FORKED; POISONED.
 * Safety: no pointers but the handle.
 */
corering_status corering_tx_wait_turn(struct corering_tx *tx);

/**
 * As `corering_tx_wait_turn`, without waiting: its turn is a completion of the queue, of the kind CORERING_OP_TURN.
 *
 * Owns: the caller keeps the handle.
 * Writes: nothing.
 * Threads: one at a time for a transaction; does not wait.
 * Status: OK; BUSY if the queue is full; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_ARGUMENT for the transaction
 *   of another database; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: no pointers but the handles.
 */
corering_status corering_queue_wait_turn(struct corering_queue *queue,
                                         struct corering_tx *tx,
                                         uint64_t user_data);

/**
 * As `corering_tx_commit`, without waiting: the outcome is a completion of the queue, of the kind CORERING_OP_COMMIT. The handle
 * may be freed at once.
 *
 * Owns: the caller keeps the handle.
 * Writes: nothing.
 * Threads: one at a time for a transaction; does not wait for the disk.
 * Status: OK; BUSY if the queue is full: the transaction is still open; INVALID_ARGUMENT, also for the transaction of another database,
 *   and for that of a function that `corering_transact` runs; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: no pointers but the handles.
 */
corering_status corering_queue_commit(struct corering_queue *queue,
                                      struct corering_tx *tx,
                                      uint64_t user_data);

/**
 * The value of a key as the transaction sees it: one state of the database, and its own writes, whose `version` is UINT64_MAX.
 * `options` may be null.
 *
 * Owns: the caller owns the value; `corering_value_free` ends it.
 * Writes: `value`, zeroes if there is none.
 * Threads: one at a time for a transaction; does not wait.
 * Status: OK; NOT_FOUND; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; TRANSACTION_TOO_LARGE; INVALID_ARGUMENT; INVALID_HANDLE;
 *   CLOSED; FORKED; KEY_TOO_LARGE; TOO_MANY_HANDLES; CORRUPT; IO.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `value` is writable.
 */
corering_status corering_tx_get(struct corering_tx *tx,
                                const void *key,
                                size_t key_len,
                                const struct corering_read_options *options,
                                struct corering_value *value);

/**
 * The latest value of a key, which the transaction keeps: no other one changes or keeps it before this one has ended. Waits for an
 * older transaction that keeps it, and takes it from a younger one. `options` may be null.
 *
 * Owns: the caller owns the value; `corering_value_free` ends it.
 * Writes: `value`, zeroes if there is none.
 * Threads: one at a time for a transaction; blocks as long as an older transaction keeps the key.
 * Status: OK; NOT_FOUND: there is no such key, and it is kept; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD;
 *   TRANSACTION_TOO_LARGE; READ_ONLY; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; TOO_MANY_HANDLES;
 *   POISONED; CORRUPT; IO.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `value` is writable.
 */
corering_status corering_tx_get_for_update(struct corering_tx *tx,
                                           const void *key,
                                           size_t key_len,
                                           const struct corering_read_options *options,
                                           struct corering_value *value);

/**
 * Stores a value under a key when the transaction commits. Of `options`, which may be null, it heeds the keyspace and the expiry.
 *
 * Owns: the caller keeps key and value; they are copied.
 * Writes: nothing.
 * Threads: one at a time for a transaction; does not wait.
 * Status: OK; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; TRANSACTION_TOO_LARGE; READ_ONLY; INVALID_ARGUMENT; INVALID_HANDLE;
 *   CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE.
 * Safety: `key` has `key_len` bytes, `value` has `value_len`; `options` is null or begins with its size.
 */
corering_status corering_tx_put(struct corering_tx *tx,
                                const void *key,
                                size_t key_len,
                                const void *value,
                                size_t value_len,
                                const struct corering_write_options *options);

/**
 * Removes a key when the transaction commits. It does not say whether the key was there: that would be a read. Of `options`, which
 * may be null, it heeds the keyspace.
 *
 * Owns: the caller keeps the key; it is copied.
 * Writes: nothing.
 * Threads: one at a time for a transaction; does not wait.
 * Status: OK; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; TRANSACTION_TOO_LARGE; READ_ONLY; INVALID_ARGUMENT; INVALID_HANDLE;
 *   CLOSED; FORKED; KEY_TOO_LARGE.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size.
 */
corering_status corering_tx_delete(struct corering_tx *tx,
                                   const void *key,
                                   size_t key_len,
                                   const struct corering_write_options *options);

/**
 * Stores a value under a key when the transaction commits, if `condition` holds for what the transaction sees there; that is then a
 * part of what must still hold at the commit. Of `options`, which may be null, it heeds the keyspace and the expiry.
 *
 * Owns: the caller keeps key, value and condition; they are copied.
 * Writes: nothing.
 * Threads: one at a time for a transaction; does not wait.
 * Status: OK; REFUSED: the condition does not hold, the transaction is still open; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD;
 *   TRANSACTION_TOO_LARGE; READ_ONLY; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; CORRUPT; IO.
 * Safety: `key` has `key_len` bytes, `value` has `value_len`, the condition's `expected` as many as it says; `options` is null or
 *   begins with its size.
 */
corering_status corering_tx_put_if(struct corering_tx *tx,
                                   const void *key,
                                   size_t key_len,
                                   const void *value,
                                   size_t value_len,
                                   const struct corering_condition *condition,
                                   const struct corering_write_options *options);

/**
 * Begins to walk over a range of keys as the transaction sees it, with its own writes in their places. It is read a page at a time:
 * what lies beyond the page that was reached is not read yet, so that others may change it, and later writes of the transaction show
 * there. `options` may be null for all keys of keyspace 0; it takes no snapshot.
 *
 * Owns: the caller owns the iterator; `corering_iterator_free` ends it. It answers TRANSACTION_ENDED once the transaction has
 *   ended, CLOSED once that was freed.
 * Writes: the handle to `iterator`, null on failure.
 * Threads: one at a time for a transaction, also of its iterators; does not wait.
 * Status: OK, also if the range is empty; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; TRANSACTION_ENDED;
 *   TOO_MANY_HANDLES. The iterator's calls may answer CONFLICT, TRANSACTION_ENDED, TRANSACTION_TOO_OLD and TRANSACTION_TOO_LARGE, too.
 * Safety: `options` is null or begins with its size, its bounds have as many bytes as they say; `iterator` is writable.
 */
corering_status corering_tx_scan(struct corering_tx *tx,
                                 const struct corering_scan_options *options,
                                 struct corering_iterator **iterator);

/**
 * As `corering_tx_get_for_update`, without waiting: the grant is a completion of the queue, of the kind CORERING_OP_GET_FOR_UPDATE,
 * with the value, which is read when it is reaped. Rolling the transaction back ends the wait.
 *
 * Owns: the caller keeps the key; it is copied.
 * Writes: nothing.
 * Threads: one at a time for a transaction; does not wait.
 * Status: OK; BUSY if the queue is full; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; READ_ONLY; INVALID_ARGUMENT, also for
 *   the transaction of another database; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size.
 */
corering_status corering_queue_get_for_update(struct corering_queue *queue,
                                              struct corering_tx *tx,
                                              const void *key,
                                              size_t key_len,
                                              const struct corering_read_options *options,
                                              uint64_t user_data);

/**
 * The counters of one shard (0, 1, …), or of all together with CORERING_ALL_SHARDS.
 *
 * Owns: the caller keeps the struct.
 * Writes: as many bytes of `stats` as its `struct_size` says; nothing on failure.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT for null, a struct_size that no version has, or a shard that is not there;
 *   INVALID_HANDLE; CLOSED; FORKED.
 * Safety: `stats` is null or begins with its size.
 */
corering_status corering_get_stats(struct corering_db *db,
                                   uint32_t shard,
                                   struct corering_stats *stats);

/**
 * Fills `options` with the defaults: all keys of keyspace 0, from now on.
 *
 * Owns: the caller keeps the struct.
 * Writes: `struct_size` bytes at `options`.
 * Threads: any.
 * Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
 * Safety: `options` has room for `struct_size` bytes.
 */
corering_status corering_watch_options_init(struct corering_watch_options *options,
                                            size_t struct_size);

/**
 * Begins to watch keys: each change after the start is delivered once, in the order of commits, when a reader could see it.
 * `options` may be null for all keys of keyspace 0, from now on. Whether everything after `from` is still there
 * `corering_watch_next` says.
 *
 * Owns: the caller owns the watch; `corering_watch_free` ends it. The key is copied.
 * Writes: the handle to `watch`, null on failure.
 * Threads: any; does not wait for the disk.
 * Status: OK; INVALID_ARGUMENT, also for a `from` that is no commit yet; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE;
 *   TOO_MANY_HANDLES; POISONED.
 * Safety: `options` is null or begins with its size, and its `key` has `key_len` bytes; `watch` is writable.
 */
corering_status corering_watch_new(struct corering_db *db,
                                   const struct corering_watch_options *options,
                                   struct corering_watch **watch);

/**
 * The next change, waited for up to `wait_ms`; 0 only looks, CORERING_WAIT_FOREVER has no end.
 *
 * Owns: the watch owns the bytes; they are valid until the next call of this function with this watch, or its end.
 * Writes: `change`, zeroes if there is none.
 * Threads: one at a time for a watch.
 * Status: OK; END if none came in time; LAGGED if the watch was cut off because it was not taken from, COMPACTED if changes
 *   so far back are not kept: `corering_watch_progress` tells from where to watch again; CLOSED, also if the database was
 *   closed, or the watch freed meanwhile, behind what waits; INVALID_ARGUMENT; INVALID_HANDLE; FORKED; POISONED; CORRUPT; IO.
 * Safety: `change` is writable.
 */
corering_status corering_watch_next(struct corering_watch *watch,
                                    uint64_t wait_ms,
                                    struct corering_change *change);

/**
 * The version up to which everything was taken, also when nothing has changed for long: a watch from there loses nothing. After
 * COMPACTED: the earliest version from which there can be one.
 *
 * Owns: nothing.
 * Writes: `version`, 0 on failure.
 * Threads: the one that takes.
 * Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED if the watch was freed; FORKED.
 * Safety: `version` is writable.
 */
corering_status corering_watch_progress(struct corering_watch *watch,
                                        uint64_t *version);

/**
 * Has a completion of the kind CORERING_OP_WATCH arrive in the queue, once, when something can be taken from the watch or it has
 * ended. Take with a `wait_ms` of 0 until END, then ask again. Asking again before, or freeing the watch, completes what
 * was asked first as CLOSED.
 *
 * Owns: the caller keeps queue and watch.
 * Writes: nothing.
 * Threads: any; does not wait.
 * Status: OK; BUSY if the queue is full; INVALID_ARGUMENT for a watch of another database; INVALID_HANDLE; CLOSED; FORKED.
 * Safety: no pointers but the handles.
 */
corering_status corering_queue_watch(struct corering_queue *queue,
                                     struct corering_watch *watch,
                                     uint64_t user_data);

/**
 * Ends a watch. Who waits in `corering_watch_next` is told CLOSED.
 *
 * Owns: the handle and the bytes of its last change end here.
 * Writes: nothing.
 * Threads: any.
 * Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
 * Safety: any pointer will do; it is not dereferenced.
 */
corering_status corering_watch_free(struct corering_watch *watch);

/**
 * Stores a value under a new key: `prefix` and 20 decimal digits, a number larger than that of any key made so before. No
 * number comes twice, also after deletes and restarts. `options` may be null; with a session, the key is ephemeral. Guards
 * are refused.
 *
 * Owns: the caller keeps prefix and value.
 * Writes: the key to `key`; its length to `key_len`, also if the buffer is too small; the commit to `version`, if given.
 * Threads: any; blocks until the write is as durable as asked for.
 * Status: OK; BUFFER_TOO_SMALL if `capacity` is less than `prefix_len` + 20: nothing was written; NO_SESSION; WRONG_SECRET;
 *   INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; BUSY; NO_SPACE; POISONED.
 * Safety: `prefix` has `prefix_len` bytes, `value` has `value_len`; `options` is null or begins with its size; `key` has room
 *   for `capacity` bytes; `key_len` is writable; `version` is null or writable.
 */
corering_status corering_put_sequential(struct corering_db *db,
                                        const void *prefix,
                                        size_t prefix_len,
                                        const void *value,
                                        size_t value_len,
                                        const struct corering_write_options *options,
                                        void *key,
                                        size_t capacity,
                                        size_t *key_len,
                                        uint64_t *version);

/**
 * The session that an ephemeral key is of: `id`, without its secret. Of `options`, which may be null, it heeds the keyspace.
 *
 * Owns: the caller keeps the key.
 * Writes: `session_id`, 0 if the key is none's.
 * Threads: any; asks the key's shard.
 * Status: OK; NOT_FOUND if the key is not there or not ephemeral; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED;
 *   KEY_TOO_LARGE; BUSY; POISONED.
 * Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `session_id` is writable.
 */
corering_status corering_key_session(struct corering_db *db,
                                     const void *key,
                                     size_t key_len,
                                     const struct corering_read_options *options,
                                     uint64_t *session_id);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CORERING_H */
