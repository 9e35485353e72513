//! Sockets: echo, ends of streams, dropped futures, shutdown, unix sockets.

use std::cell::RefCell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use super::{machine, on_shard};
use crate::runtime::net::{Address, Bound, Listener, Stream, TcpOptions};
use crate::runtime::{Executor, TaskClass};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub fn bound() -> (Bound, SocketAddr) {
    let bound = Bound::tcp(ANY, 1, TcpOptions::default()).unwrap().remove(0);
    let Address::Tcp(address) = bound.local_address().clone() else { panic!("bound to a port") };
    (bound, address)
}

/// Send back all that comes, until the peer has ended; then end too.
async fn echo(stream: Stream) {
    let mut buf = Vec::with_capacity(4096);
    loop {
        let (count, received) = stream.recv(buf).await;
        if !matches!(count, Ok(1..)) {
            break;
        }
        let (sent, mut back) = stream.send_all(received).await;
        if sent.is_err() {
            break;
        }
        back.clear();
        buf = back;
    }
    let _ = stream.finish();
}

pub async fn serve(executor: Rc<dyn Executor>, listener: Listener, connections: usize) {
    let open = Rc::new(RefCell::new(connections));
    for _ in 0..connections {
        let stream = listener.accept().await.unwrap();
        let open = Rc::clone(&open);
        executor.spawn(
            TaskClass::Foreground,
            Box::pin(async move {
                echo(stream).await;
                *open.borrow_mut() -= 1;
            }),
        );
    }
    while *open.borrow() > 0 {
        executor.sleep(Duration::from_millis(1)).await;
    }
}

/// Serve `connections` echoes while `client` runs on a thread of its own.
fn with_echo(connections: usize, client: impl FnOnce(SocketAddr) + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let (bound, address) = bound();
    let client = thread::spawn(move || client(address));
    on_shard(&machine(dir.path()), move |executor| {
        Box::pin(async move {
            let listener = executor.net().unwrap().listener(bound);
            serve(executor, listener, connections).await;
        })
    });
    client.join().unwrap();
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn an_echo_returns_every_byte_of_many_connections() {
    with_echo(16, |address| {
        let clients: Vec<_> = (0..16)
            .map(|i| {
                thread::spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    for round in 1..50 {
                        let sent = pattern(i * 13 + round * 7);
                        stream.write_all(&sent).unwrap();
                        let mut got = vec![0; sent.len()];
                        stream.read_exact(&mut got).unwrap();
                        assert_eq!(got, sent);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
    });
}

#[test]
fn a_large_message_survives_full_socket_buffers() {
    with_echo(1, |address| {
        let sent = pattern(24 << 20);
        let mut writer = TcpStream::connect(address).unwrap();
        let mut reader = writer.try_clone().unwrap();
        let expected = sent.clone();
        let reading = thread::spawn(move || {
            // Late, so that both directions are full before anything is read.
            thread::sleep(Duration::from_millis(50));
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            assert!(got == expected, "{} bytes came back of {}", got.len(), expected.len());
        });
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn a_peer_that_ended_its_side_still_gets_the_answer() {
    with_echo(1, |address| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"last words").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"last words");
    });
}

#[test]
fn shutdown_wakes_a_receive_and_a_send() {
    let dir = tempfile::tempdir().unwrap();
    let (bound, address) = bound();
    let (finished, wait) = mpsc::channel::<()>();
    let client = thread::spawn(move || {
        let stream = TcpStream::connect(address).unwrap();
        // Neither reads nor writes.
        wait.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(stream);
    });
    let (received, sent) = on_shard(&machine(dir.path()), move |executor| {
        Box::pin(async move {
            let listener = executor.net().unwrap().listener(bound);
            let stream = Rc::new(listener.accept().await.unwrap());
            let results = Rc::new(RefCell::new((None, None)));
            let (s, r) = (Rc::clone(&stream), Rc::clone(&results));
            let task = async move { r.borrow_mut().0 = Some(s.recv(Vec::new()).await.0.map_err(|e| e.kind())) };
            executor.spawn(TaskClass::Foreground, Box::pin(task));
            let (s, r) = (Rc::clone(&stream), Rc::clone(&results));
            let task =
                async move { r.borrow_mut().1 = Some(s.send_all(vec![1; 64 << 20]).await.0.map_err(|e| e.kind())) };
            executor.spawn(TaskClass::Foreground, Box::pin(task));
            executor.sleep(Duration::from_millis(30)).await;
            assert_eq!(*results.borrow(), (None, None), "both wait");
            stream.shutdown();
            executor.sleep(Duration::from_millis(30)).await;
            results.take()
        })
    });
    assert_eq!(received, Some(Ok(0)));
    assert_eq!(sent, Some(Err(std::io::ErrorKind::BrokenPipe)));
    finished.send(()).unwrap();
    client.join().unwrap();
}

/// Poll once with a waker that does nothing, then drop.
fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn dropped_receives_and_sends_lose_and_reorder_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (bound, address) = bound();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let text = pattern(100_000);
        for part in text.chunks(997) {
            stream.write_all(part).unwrap();
            thread::sleep(Duration::from_micros(100));
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    let received = on_shard(&machine(dir.path()), move |executor| {
        Box::pin(async move {
            let listener = executor.net().unwrap().listener(bound);
            assert!(poll_once(listener.accept()).is_none(), "nobody has called yet, or the next accept has it");
            let stream = listener.accept().await.unwrap();
            let mut all = Vec::new();
            for round in 0.. {
                // A large buffer for the dropped call and a small one for the next, so that something is left over.
                if round % 3 > 0
                    && let Some((count, buf)) = poll_once(stream.recv(Vec::with_capacity(8192)))
                {
                    assert_eq!(count.unwrap(), buf.len());
                    all.extend(buf);
                    continue;
                }
                let (count, buf) = stream.recv(Vec::with_capacity(100)).await;
                if count.unwrap() == 0 {
                    break;
                }
                all.extend(buf);
            }
            for (round, part) in all.chunks(9_000).enumerate() {
                if round % 2 == 0 {
                    // Dropped at once; the kernel sends it all the same.
                    assert!(poll_once(stream.send_all(part.to_vec())).is_none());
                } else {
                    stream.send_all(part.to_vec()).await.0.unwrap();
                }
            }
            stream.send_all(Vec::new()).await.0.unwrap();
            stream.finish().unwrap();
            all
        })
    });
    assert!(received == pattern(100_000));
    assert!(client.join().unwrap() == pattern(100_000));
}

#[test]
fn dropping_a_stream_with_operations_in_flight_closes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (bound, address) = bound();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut got = Vec::new();
        // The end or a reset, but not silence.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        match stream.read_to_end(&mut got) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
        }
    });
    on_shard(&machine(dir.path()), move |executor| {
        Box::pin(async move {
            let listener = executor.net().unwrap().listener(bound);
            let stream = listener.accept().await.unwrap();
            assert!(poll_once(stream.recv(Vec::new())).is_none());
            assert!(poll_once(stream.send_all(vec![0; 64 << 20])).is_none());
            executor.sleep(Duration::from_millis(10)).await;
            drop(stream);
            // The thread goes on, so that it is the drop that closed it and not the thread's end.
            executor.sleep(Duration::from_millis(500)).await;
        })
    });
    client.join().unwrap();
}

#[test]
fn closing_a_listener_wakes_its_accept() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    for bound in [bound().0, Bound::unix(&socket, 0o600, 16).unwrap()] {
        let error = on_shard(&machine(dir.path()), move |executor| {
            Box::pin(async move {
                let listener = Rc::new(executor.net().unwrap().listener(bound));
                let closer = Rc::clone(&listener);
                let e = Rc::clone(&executor);
                executor.spawn(
                    TaskClass::Foreground,
                    Box::pin(async move {
                        e.sleep(Duration::from_millis(10)).await;
                        closer.close();
                    }),
                );
                listener.accept().await.err().and_then(|e| e.raw_os_error())
            })
        });
        assert_eq!(error, Some(libc::EINVAL));
    }
}

#[test]
fn a_unix_socket_has_its_mode_and_replaces_only_a_dead_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("corering.sock");
    // Left behind by a process that died.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let bound = Bound::unix(&path, 0o640, 16).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(Bound::unix(&path, 0o640, 16).err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
    let other = bound.try_clone().unwrap();

    let client = thread::spawn({
        let path = path.clone();
        move || {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut got = [0; 5];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hello");
        }
    });
    on_shard(&machine(dir.path()), move |executor| {
        Box::pin(async move {
            let listener = executor.net().unwrap().listener(bound);
            // One of them was the look whether the socket is alive.
            serve(executor, listener, 2).await;
        })
    });
    client.join().unwrap();
    assert!(path.exists(), "another clone still serves it");
    drop(other);
    assert!(!path.exists());

    std::fs::write(&path, "not a socket").unwrap();
    assert_eq!(Bound::unix(&path, 0o640, 16).err().unwrap().kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn a_port_is_shared_among_our_cores_and_with_nobody_else() {
    let bound = Bound::tcp(ANY, 3, TcpOptions::default()).unwrap();
    assert_eq!(bound.len(), 3);
    let Address::Tcp(address) = bound[0].local_address().clone() else { panic!("bound to a port") };
    assert!(bound.iter().all(|b| b.local_address() == &Address::Tcp(address)));
    let error = Bound::tcp(address, 1, TcpOptions::default()).err().expect("somebody listens there");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_turn_that_was_waited_for_in_vain_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let (bound, address) = bound();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"abc").unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
    });
    on_shard(&machine(dir.path()), move |executor| {
        Box::pin(async move {
            let listener = executor.net().unwrap().listener(bound);
            let stream = listener.accept().await.unwrap();
            let mut first: Pin<Box<_>> = Box::pin(stream.recv(Vec::with_capacity(1)));
            let mut context = Context::from_waker(Waker::noop());
            assert!(first.as_mut().poll(&mut context).is_pending());
            let mut second: Pin<Box<_>> = Box::pin(stream.recv(Vec::with_capacity(1)));
            assert!(second.as_mut().poll(&mut context).is_pending(), "the first call has the turn");
            drop(second);
            drop(first);
            let mut all = Vec::new();
            while all.len() < 3 {
                all.extend(stream.recv(Vec::with_capacity(1)).await.1);
            }
            assert_eq!(all, b"abc");
        })
    });
    client.join().unwrap();
}
