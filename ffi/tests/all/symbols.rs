//! Pins what programs link against: the exported names, the numbers of the statuses, the layout of the structs, the soname.

use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};
use std::process::Command;

use crate::support::library;
use corering::*;

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).arg(library()).output().expect("binutils are installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

const EXPORTED: [&str; 96] = [
    "corering_abi_version",
    "corering_batch_clear",
    "corering_batch_commit",
    "corering_batch_delete",
    "corering_batch_free",
    "corering_batch_len",
    "corering_batch_new",
    "corering_batch_put",
    "corering_checkpoint",
    "corering_close",
    "corering_delete",
    "corering_error_message",
    "corering_execute",
    "corering_get",
    "corering_get_into",
    "corering_get_stats",
    "corering_incr",
    "corering_iterator_fill",
    "corering_iterator_free",
    "corering_iterator_next",
    "corering_key_session",
    "corering_lock_acquire",
    "corering_lock_downgrade",
    "corering_lock_info",
    "corering_lock_options_init",
    "corering_lock_release",
    "corering_lock_renew",
    "corering_lock_scan",
    "corering_multi_get",
    "corering_open",
    "corering_open_report",
    "corering_options_init",
    "corering_put",
    "corering_put_if",
    "corering_put_sequential",
    "corering_queue_acquire",
    "corering_queue_cancel",
    "corering_queue_commit",
    "corering_queue_fd",
    "corering_queue_free",
    "corering_queue_get_for_update",
    "corering_queue_lost",
    "corering_queue_new",
    "corering_queue_reap",
    "corering_queue_submit",
    "corering_queue_submit_batch",
    "corering_queue_wait_turn",
    "corering_queue_watch",
    "corering_read_options_init",
    "corering_scan",
    "corering_scan_options_init",
    "corering_session_end",
    "corering_session_keep_alive",
    "corering_session_kill",
    "corering_session_list",
    "corering_session_lost",
    "corering_session_open",
    "corering_session_options_init",
    "corering_shard_count",
    "corering_snapshot_free",
    "corering_snapshot_new",
    "corering_snapshot_version",
    "corering_status_is_retryable",
    "corering_status_may_have_committed",
    "corering_status_name",
    "corering_sync",
    "corering_transact",
    "corering_tx_begin",
    "corering_tx_commit",
    "corering_tx_delete",
    "corering_tx_fate",
    "corering_tx_free",
    "corering_tx_get",
    "corering_tx_get_for_update",
    "corering_tx_get_id",
    "corering_tx_get_usage",
    "corering_tx_guard",
    "corering_tx_number",
    "corering_tx_options_init",
    "corering_tx_pause_ns",
    "corering_tx_put",
    "corering_tx_put_if",
    "corering_tx_release",
    "corering_tx_rollback",
    "corering_tx_rollback_to",
    "corering_tx_savepoint",
    "corering_tx_scan",
    "corering_tx_wait_turn",
    "corering_value_free",
    "corering_version",
    "corering_watch_free",
    "corering_watch_new",
    "corering_watch_next",
    "corering_watch_options_init",
    "corering_watch_progress",
    "corering_write_options_init",
];

#[test]
fn exactly_these_names_are_exported() {
    let found: BTreeSet<String> = run("nm", &["-D", "--defined-only"])
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(|name| name.split('@').next().unwrap_or(name).to_owned())
        .collect();
    let wanted: BTreeSet<String> = EXPORTED.iter().map(|name| (*name).to_owned()).collect();
    let missing: Vec<_> = wanted.difference(&found).collect();
    let added: Vec<_> = found.difference(&wanted).collect();
    assert!(missing.is_empty(), "programs link against {missing:?}: a name that was exported stays for ever");
    assert!(added.is_empty(), "{added:?} became visible: add it here, or hide it");
}

#[test]
fn the_soname_carries_the_abis_major_version() {
    let dynamic = run("readelf", &["-d", "-W"]);
    let soname = dynamic.lines().find(|line| line.contains("(SONAME)")).expect("the library has a soname");
    assert!(soname.contains(&format!("[libcorering.so.{CORERING_ABI_MAJOR}]")), "{soname}");
}

#[test]
fn the_numbers_of_the_statuses_are_for_ever() {
    let pinned = [
        (0, "ok"),
        (1, "not_found"),
        (2, "refused"),
        (3, "end"),
        (4, "buffer_too_small"),
        (-1, "invalid_argument"),
        (-2, "invalid_handle"),
        (-3, "closed"),
        (-4, "forked"),
        (-5, "abi_mismatch"),
        (-6, "too_many_handles"),
        (-7, "panic"),
        (-8, "key_too_large"),
        (-9, "value_too_large"),
        (-10, "batch_too_large"),
        (-11, "cross_shard"),
        (-12, "not_an_integer"),
        (-13, "overflow"),
        (-14, "busy"),
        (-15, "no_space"),
        (-16, "poisoned"),
        (-17, "locked"),
        (-18, "corrupt"),
        (-19, "incompatible"),
        (-20, "unsupported"),
        (-21, "io"),
        (-22, "lock_held"),
        (-23, "lock_timeout"),
        (-24, "not_held"),
        (-25, "wrong_token"),
        (-26, "lease_expired"),
        (-27, "fenced"),
        (-28, "no_session"),
        (-29, "wrong_secret"),
        (-30, "deadlock"),
        (-31, "other_permits"),
        (-32, "compacted"),
        (-33, "lagged"),
        (-34, "lock_not_yet"),
        (-40, "conflict"),
        (-41, "transaction_ended"),
        (-42, "transaction_too_old"),
        (-43, "transaction_too_large"),
        (-44, "no_savepoint"),
        (-45, "read_only"),
    ];
    for (number, name) in pinned {
        let status = corering_status::from_number(number).unwrap_or_else(|| panic!("{number} is gone"));
        assert_eq!(status.name().to_str(), Ok(name), "{number}");
    }
    assert_eq!(pinned.len(), corering_status::ALL.len(), "pin the new status, too");
    let retryable: Vec<_> = corering_status::ALL.into_iter().filter(|s| s.is_retryable()).map(|s| s as i32).collect();
    let unsure: Vec<_> =
        corering_status::ALL.into_iter().filter(|s| s.may_have_committed()).map(|s| s as i32).collect();
    assert_eq!((retryable, unsure), (vec![-14, -15, -22, -23, -30, -34, -40], vec![-7, -16]));
}

#[test]
fn the_other_numbers_are_for_ever() {
    use corering_change_flags::*;
    use corering_condition_kind::*;
    use corering_durability::*;
    use corering_isolation::*;
    use corering_lock_mode::*;
    use corering_op_kind::*;
    use corering_open_flags::*;
    use corering_scan_flags::*;
    use corering_tx_flags::*;
    use corering_watch_flags::*;
    let conditions =
        [CORERING_IF_ALWAYS, CORERING_IF_ABSENT, CORERING_IF_PRESENT, CORERING_IF_EQUAL, CORERING_IF_VERSION];
    assert_eq!(conditions.map(|kind| kind as u32), [0, 1, 2, 3, 4]);
    let levels =
        [CORERING_DURABILITY_DEFAULT, CORERING_DURABILITY_SYNC, CORERING_DURABILITY_INTERVAL, CORERING_DURABILITY_NONE];
    assert_eq!(levels.map(|level| level as u32), [0, 1, 2, 3]);
    let ops = [
        CORERING_OP_GET,
        CORERING_OP_PUT,
        CORERING_OP_DELETE,
        CORERING_OP_PUT_IF,
        CORERING_OP_INCR,
        CORERING_OP_SYNC,
        CORERING_OP_BATCH,
        CORERING_OP_ACQUIRE,
        CORERING_OP_WATCH,
        CORERING_OP_COMMIT,
        CORERING_OP_GET_FOR_UPDATE,
        CORERING_OP_LOST,
        CORERING_OP_TURN,
    ];
    assert_eq!(ops.map(|op| op as u32), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert_eq!([CORERING_ISOLATION_STRICT, CORERING_ISOLATION_SNAPSHOT].map(|level| level as u32), [0, 1]);
    assert_eq!([CORERING_TX_READ_ONLY, CORERING_TX_NO_FATE].map(|flag| flag as u32), [1, 2]);
    let modes = [CORERING_LOCK_EXCLUSIVE, CORERING_LOCK_SHARED, CORERING_LOCK_SEMAPHORE];
    assert_eq!(modes.map(|mode| mode as u32), [0, 1, 2]);
    let open = [CORERING_OPEN_MUST_EXIST, CORERING_OPEN_MUST_NOT_EXIST, CORERING_OPEN_PIN_THREADS];
    assert_eq!(open.map(|flag| flag as u32), [1, 2, 4]);
    let scan = [CORERING_SCAN_REVERSE, CORERING_SCAN_LOWER_EXCLUSIVE, CORERING_SCAN_UPPER_INCLUSIVE];
    assert_eq!(scan.map(|flag| flag as u32), [1, 2, 4]);
    let watch = [CORERING_WATCH_PREFIX, CORERING_WATCH_FROM];
    assert_eq!(watch.map(|flag| flag as u32), [1, 2]);
    let change = [CORERING_CHANGE_DELETED, CORERING_CHANGE_MORE];
    assert_eq!(change.map(|flag| flag as u32), [1, 2]);
    assert_eq!((CORERING_KEY_LEN_MAX, CORERING_VALUE_LEN_MAX), (64 << 10, 64 << 20));
    assert_eq!((CORERING_LOCK_NAME_MAX, CORERING_SESSION_LABEL_MAX), (1024, 256));
    assert_eq!(CORERING_WAIT_FOREVER, u64::MAX);
}

/// Sizes and places as a C compiler sees them on a 64-bit machine. Options may grow at the end; the rest may not.
#[test]
fn structs_are_laid_out_for_ever() {
    assert_eq!(size_of::<corering_value>(), 40);
    assert_eq!(offset_of!(corering_value, owner), 32);
    assert_eq!(size_of::<corering_entry>(), 48);
    assert_eq!(offset_of!(corering_entry, version), 32);
    assert_eq!(size_of::<corering_bytes>(), 16);
    assert_eq!(size_of::<corering_condition>(), 32);
    assert_eq!(offset_of!(corering_condition, version), 24);
    assert_eq!(size_of::<corering_op>(), 128);
    assert_eq!(offset_of!(corering_op, condition), 40);
    assert_eq!(offset_of!(corering_op, user_data), 96);
    assert_eq!(size_of::<corering_result>(), 88);
    assert_eq!(offset_of!(corering_result, value), 32);
    assert!(size_of::<corering_options>() >= 48);
    assert_eq!(offset_of!(corering_options, inbox_len), 40);
    assert!(size_of::<corering_write_options>() >= 40);
    assert_eq!(offset_of!(corering_write_options, ttl_ms), 32);
    assert!(size_of::<corering_write_options>() >= 56);
    assert_eq!(offset_of!(corering_write_options, guards_len), 48);
    assert_eq!(size_of::<corering_session>(), 24);
    assert_eq!(size_of::<corering_session_info>(), 288);
    assert_eq!(offset_of!(corering_session_info, label), 32);
    assert_eq!(size_of::<corering_loss>(), 1040);
    assert_eq!(offset_of!(corering_loss, name), 16);
    assert!(size_of::<corering_session_options>() >= 32);
    assert_eq!(offset_of!(corering_session_options, label_len), 24);
    assert!(size_of::<corering_lock_options>() >= 48);
    assert_eq!(offset_of!(corering_lock_options, lease_ms), 40);
    assert_eq!(size_of::<corering_grant>(), 16);
    assert_eq!(size_of::<corering_guard>(), 24);
    assert_eq!((size_of::<corering_lock_entry>(), offset_of!(corering_lock_entry, name)), (1048, 24));
    assert_eq!(size_of::<corering_lock_part>(), 64);
    assert_eq!(offset_of!(corering_lock_part, waited_ms), 48);
    assert!(size_of::<corering_stats>() >= 144);
    assert_eq!(offset_of!(corering_stats, snapshots), 136);
    assert_eq!(offset_of!(corering_stats, applied), 144 + 4 * 40);
    assert!(size_of::<corering_stats>() >= 432);
    assert_eq!(offset_of!(corering_stats, tx_oldest_ms), 424);
    assert_eq!((offset_of!(corering_stats, tx_retried), offset_of!(corering_stats, lock_fenced)), (432, 568));
    assert!(size_of::<corering_tx_options>() >= 48);
    assert_eq!(offset_of!(corering_tx_options, again), 40);
    assert!(size_of::<corering_tx_usage>() >= 56);
    assert_eq!(offset_of!(corering_tx_usage, age_ms_max), 48);
    assert_eq!(size_of::<corering_tx_id>(), 16);
    assert!(size_of::<corering_read_options>() >= 24);
    assert_eq!(offset_of!(corering_read_options, snapshot), 16);
    assert!(size_of::<corering_write_options>() >= 64);
    assert_eq!(offset_of!(corering_write_options, session), 56);
    assert_eq!(offset_of!(corering_options, history_bytes), 48);
    assert!(size_of::<corering_watch_options>() >= 48);
    assert_eq!(offset_of!(corering_watch_options, limit_bytes), 40);
    assert_eq!(size_of::<corering_change>(), 56);
    assert_eq!(offset_of!(corering_change, flags), 52);
    assert!(size_of::<corering_scan_options>() >= 80);
    assert_eq!(offset_of!(corering_scan_options, snapshot), 72);
}
