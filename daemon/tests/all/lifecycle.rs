//! Starting, stopping, and what the program says when it cannot.

use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::common::{Guarded, Server, corering, until};
use corering_daemon::resp::Value;
use serde_json::Value as Json;

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_was_stored_is_there_after_a_stop() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    for durability in ["sync", "interval:50", "none"] {
        let mut server = Server::start_in(&dir, &["--durability", durability, "--shards", "2"]);
        let mut client = server.client();
        client.ok(&format!("SET key:{durability} value"));
        client.ok("SET expiring soon EX 1000");
        assert_eq!(client.integer("INCR starts"), client.text("GET starts").parse::<i64>().unwrap());
        assert!(server.stop().success(), "{}", server.log_text());
    }
    let server = Server::start_in(&dir, &[]);
    let mut client = server.client();
    for durability in ["sync", "interval:50", "none"] {
        assert_eq!(client.text(&format!("GET key:{durability}")), "value");
    }
    assert_eq!(client.text("GET starts"), "3");
    assert!((900..=1000).contains(&client.integer("TTL expiring")));
}

#[test]
fn a_stop_answers_what_was_taken() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&["--durability", "sync"]);
        let mut client = server.client();
        let idle = server.client();
        let mut bytes = Vec::new();
        for i in 0..500 {
            bytes.extend(crate::common::client::encode(&["SET", &format!("k{i}"), "v"]));
        }
        client.send_raw(&bytes).unwrap();
        // Wait for the first answer, so that the server is in the midst of it.
        assert_eq!(client.reply().unwrap(), Value::Simple(b"OK".to_vec()));
        server.signal(signal);
        let mut answered = 1;
        while client.reply().is_ok() {
            answered += 1;
        }
        assert!(server.wait().success());
        let log = server.log_text();
        assert!(log.contains("stopped; everything is on disk"), "{log}");
        drop(idle);
        // Each answer was for a write that is there.
        let dir = server.dir().to_path_buf();
        let again = Server::start_in(&dir, &[]);
        let mut client = again.client();
        for i in 0..answered {
            assert_eq!(client.text(&format!("GET k{i}")), "v", "answered {answered}");
        }
    }
}

#[test]
fn the_command_shutdown_stops() {
    for line in ["SHUTDOWN", "SHUTDOWN NOSAVE", "shutdown save"] {
        let mut server = Server::start(&[]);
        let mut client = server.client();
        client.ok("SET k v");
        client.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert!(client.read_to_end().unwrap().is_empty());
        assert!(server.wait().success());
        let dir = server.dir().to_path_buf();
        let again = Server::start_in(&dir, &[]);
        assert_eq!(again.client().text("GET k"), "v");
    }
}

#[test]
fn who_comes_second_is_told_who_was_first() {
    let mut first = Server::start(&[]);
    let dir = first.dir().to_path_buf();
    let second = Server::try_start_in(&dir, &[]).err();
    let Some((status, log)) = second else { panic!("two servers in one directory") };
    assert_eq!(status.code(), Some(5), "{log}");
    assert!(log.contains(&format!("is open in process {}", first.pid())), "{log}");
    assert!(first.is_running());

    let other = tempfile::tempdir().unwrap();
    let output =
        corering(&["serve", "--dir", &other.path().join("d").display().to_string(), "--port", &first.port.to_string()]);
    assert_eq!(status_and_text(&output).0, 5);
    assert!(errors(&output).contains("in use"), "{}", errors(&output));
}

fn status_and_text(output: &Output) -> (i32, String) {
    (status(output), errors(output))
}

#[test]
fn wrong_settings_are_named() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("c.toml");
    std::fs::write(&file, "prot = 1").unwrap();
    let (code, text) = status_and_text(&corering(&["serve", "--config", file.to_str().unwrap()]));
    assert_eq!(code, 1);
    assert!(text.contains("`prot`") && text.contains("`port`"), "{text}");
    let (code, text) = status_and_text(&corering(&["serve", "--durability", "maybe"]));
    assert_eq!(code, 1);
    assert!(text.contains("--durability"), "{text}");
    let (code, text) = status_and_text(&corering(&["serve", "--colour", "red"]));
    assert_eq!(code, 1);
    assert!(text.contains("--colour"), "{text}");
    let output =
        Command::new(env!("CARGO_BIN_EXE_corering")).arg("serve").env("CORERING_TIMOUT", "1").output().unwrap();
    assert_eq!(status(&output), 1);
    assert!(
        errors(&output).contains("CORERING_TIMOUT") && errors(&output).contains("`timeout`"),
        "{}",
        errors(&output)
    );
    assert_eq!(status(&corering(&[])), 1);
    assert_eq!(status(&corering(&["--help"])), 0);
    assert_eq!(status(&corering(&["--version"])), 0);
    assert_eq!(status(&corering(&["serve", "--help"])), 0);
}

#[test]
fn settings_come_from_file_environment_and_flags() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("c.toml");
    std::fs::write(
        &file,
        "timeout = 11\nmaxclients = 12\nredis_version = '7.9.9'\nserver_name = 'ring'\nlog-level = 'warn'\n",
    )
    .unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap(), "--maxclients", "13"]);
    let mut client = server.client();
    let get = |client: &mut crate::common::Client, name: &str| {
        client.words(&format!("CONFIG GET {name}")).as_array().unwrap()[1].as_bytes().unwrap().to_vec()
    };
    assert_eq!(get(&mut client, "timeout"), b"11");
    assert_eq!(get(&mut client, "maxclients"), b"13");
    let info = client.text("INFO server");
    assert!(info.contains("redis_version:7.9.9\r\n") && info.contains("corering_name:ring\r\n"), "{info}");
    assert!(info.contains(&format!("tcp_port:{}\r\n", server.port)), "{info}");
    assert_eq!(server.log_text(), "", "nothing of the level warn happened");
}

#[test]
fn a_unix_socket_and_its_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let mut server = Server::start(&["--unixsocket", path.to_str().unwrap(), "--unixsocketperm", "750"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o750);
    // Connections are spread over the shards by whoever accepts first; each of them answers.
    for _ in 0..20 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"CLIENT INFO\r\nQUIT\r\n").unwrap();
        let text = std::io::read_to_string(&mut stream).unwrap();
        assert!(text.contains("flags=U") && text.contains(&format!("{}:0", path.display())), "{text}");
    }
    assert!(server.stop().success());
    assert!(!path.exists(), "the file goes with the server");
}

#[test]
fn logs_are_json_lines_where_nobody_watches() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("log");
    let dir = home.path().join("data");
    let child = Command::new(env!("CARGO_BIN_EXE_corering"))
        .args([
            "serve",
            "--port",
            "0",
            "--dir",
            dir.to_str().unwrap(),
            "--port-file",
            home.path().join("port").to_str().unwrap(),
        ])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut child = Guarded(child);
    until("the file with the port", || home.path().join("port").exists());
    Command::new("kill").arg(child.0.id().to_string()).status().unwrap();
    assert!(child.0.wait().unwrap().success());
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Json> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect();
    assert!(lines.len() >= 4);
    for line in &lines {
        for field in ["@timestamp", "log.level", "message", "ecs.version", "service.name", "process.pid"] {
            assert!(line.get(field).is_some(), "{field}: {line}");
        }
    }
    let ready = lines.iter().find(|line| line["message"].as_str().unwrap().starts_with("ready on")).unwrap();
    let message = ready["message"].as_str().unwrap();
    let port = std::fs::read_to_string(home.path().join("port")).unwrap();
    for part in [
        format!("127.0.0.1:{}", port.trim()),
        dir.display().to_string(),
        "shards".to_owned(),
        "durability sync".to_owned(),
    ] {
        assert!(message.contains(&part), "{part}: {message}");
    }
}

#[test]
fn systemd_hears_ready_and_stopping_and_alive() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The service manager says which process it watches; the shell becomes that process.
    let child = Command::new("sh")
        .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" serve --port 0 --dir \"$1\"", env!("CARGO_BIN_EXE_corering")])
        .arg(home.path().join("data"))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Guarded(child);
    let hear = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let n = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted} was not said: {error}"));
            let said = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if said.lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    Command::new("kill").arg(child.0.id().to_string()).status().unwrap();
    hear("STOPPING=1");
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut server = Server::start(&["--shutdown-timeout", "30"]);
    // A client that takes no replies keeps the first signal waiting.
    let mut client = server.client();
    client.call(&["SET", "big", &"x".repeat(8 << 20)]);
    for _ in 0..20 {
        client.send(&["GET", "big"]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    server.signal("TERM");
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.is_running(), "it waits for the client");
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn check_and_stat_of_a_closed_database() {
    let mut server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    for i in 0..300 {
        client.ok(&format!("SET key:{i} {}", "v".repeat(200)));
    }
    let dir = server.dir().display().to_string();
    assert_eq!(status(&corering(&["check", &dir])), 5, "it is open");
    assert_eq!(status(&corering(&["stat", &dir])), 5);
    assert!(server.stop().success());

    let output = corering(&["check", &dir]);
    assert_eq!(status(&output), 0, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("no damage found"));
    let json: Json = serde_json::from_slice(&corering(&["check", "--json", &dir]).stdout).unwrap();
    assert_eq!(json["clean"], true);
    let stat: Json = serde_json::from_slice(&corering(&["stat", "--json", &dir]).stdout).unwrap();
    assert_eq!(stat["shards"].as_array().unwrap().len(), 2);
    assert!(String::from_utf8_lossy(&corering(&["stat", &dir]).stdout).contains("2 shards"));
    assert_eq!(status(&corering(&["check", "/no/such/dir"])), status(&corering(&["stat", "/no/such/dir"])));

    let table = find_file(Path::new(&dir), "tables");
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[100] ^= 4;
    std::fs::write(&table, bytes).unwrap();
    let output = corering(&["check", &dir]);
    assert_eq!(status(&output), 2);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("DAMAGE") && text.contains(table.file_name().unwrap().to_str().unwrap()), "{text}");
    let json: Json = serde_json::from_slice(&corering(&["check", "--json", &dir]).stdout).unwrap();
    assert_eq!(json["clean"], false);
    assert_eq!(json["damages"][0]["file"], table.display().to_string());
}

/// A file in a directory of that name.
fn find_file(dir: &Path, parent: &str) -> std::path::PathBuf {
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if dir.file_name().is_some_and(|name| name == parent) {
                return path;
            }
        }
    }
    panic!("no file in {parent}");
}

#[test]
fn the_benchmark_counts_what_it_did() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("bench").display().to_string();
    let all = ["put", "get", "incr", "batch", "scan"];
    let common = ["--keys", "500", "--ops", "1000", "--batch-size", "10", "--json"];
    let output = corering(
        &[
            &["bench"][..],
            &all,
            &["--dir", &dir, "--durability", "none", "--pipeline", "8", "--distribution", "zipf"],
            &common,
        ]
        .concat(),
    );
    assert_eq!(status(&output), 0, "{output:?}");
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["mode"], "in-process");
    let server = Server::start(&["--durability", "none"]);
    let address = format!("127.0.0.1:{}", server.port);
    let output = corering(
        &[&["bench"][..], &all, &["--socket", &address, "--threads", "3", "--pipeline", "4"], &common].concat(),
    );
    assert_eq!(status(&output), 0, "{output:?}");
    let over_socket: Json = serde_json::from_slice(&output.stdout).unwrap();
    for json in [json, over_socket] {
        let results = json["results"].as_array().unwrap();
        assert_eq!(results.iter().map(|row| row["workload"].as_str().unwrap()).collect::<Vec<_>>(), all);
        for row in results {
            assert_eq!(row["operations"], 1000, "{row}");
            let latency = &row["latency_ns"];
            assert!(
                latency["p50"].as_u64().unwrap() > 0 && latency["p50"].as_u64() <= latency["max"].as_u64(),
                "{row}"
            );
        }
    }
    // 500 keys written by the fill, and the counters beside them.
    let mut client = server.client();
    let counters = client.words("KEYS n:*").as_array().unwrap().len() as i64;
    assert_eq!(client.integer("DBSIZE"), 500 + counters);
    let text = corering(&["bench", "put", "--socket", &address, "--ops", "10"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("p99.9"));
    assert_eq!(status(&corering(&["bench", "--socket", "127.0.0.1:1", "--ops", "1"])), 1);
}
