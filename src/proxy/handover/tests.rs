use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use super::take::take_with;
use super::*;

/// Longer than the machine may stand still between two steps of a successor that does as it should.
const SHORT: Patience = Patience { step: Duration::from_secs(3), ready: Duration::from_secs(3) };
const LONG: Duration = Duration::from_secs(60);

/// A folder of its own, and a path in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handover");
    (folder, path)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn duplicate(socket: &impl AsFd) -> OwnedFd {
    socket.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn nobody_there_is_no_error() {
    let (_folder, path) = place();
    assert!(take(&path).unwrap().is_none());
    // Left over by a process that was killed.
    drop(UnixListener::bind(&path).unwrap());
    assert!(take(&path).unwrap().is_none());
    // It does not keep the next one from offering.
    let (_offer, _told) = Offer::serve(&path, Vec::new()).unwrap();
    assert!(take(&path).unwrap().is_some());
}

#[test]
fn a_successor_gets_the_very_sockets_by_their_names() {
    let (_folder, path) = place();
    let (first, second, datagrams) = (listener(), listener(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let sockets = vec![
        (socket_name("listen 0.0.0.0:80/tcp", 10), duplicate(&second)),
        (socket_name("listen 0.0.0.0:80/tcp", 2), duplicate(&first)),
        (socket_name("listen 0.0.0.0:53/udp", 0), duplicate(&datagrams)),
    ];
    let (_offer, told) = Offer::serve(&path, sockets).unwrap();
    let mut taken = take(&path).unwrap().unwrap();
    let tcp: Vec<TcpListener> = taken.of("listen 0.0.0.0:80/tcp").into_iter().map(Into::into).collect();
    let udp: Vec<UdpSocket> = taken.of("listen 0.0.0.0:53/udp").into_iter().map(Into::into).collect();
    let addresses: Vec<_> = tcp.iter().map(|socket| socket.local_addr().unwrap()).collect();
    assert_eq!(addresses, [first.local_addr().unwrap(), second.local_addr().unwrap()]);
    assert_eq!(udp[0].local_addr().unwrap(), datagrams.local_addr().unwrap());
    assert!(taken.of("listen 0.0.0.0:443/tcp").is_empty() && taken.sockets.is_empty());
    assert!(told.try_recv().is_err(), "it drains before the successor is ready");
    taken.ready().unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(TakenOver));
    assert!(!path.exists());
    // Who waits since before is served by the successor.
    drop((first, second));
    let _client = TcpStream::connect(addresses[0]).unwrap();
    tcp[0].accept().unwrap();
}

#[test]
fn more_sockets_than_a_message_holds_come_in_several() {
    let (_folder, path) = place();
    let socket = listener();
    let name = |n: usize| socket_name(&"a listener with a long name ".repeat(20), n);
    let sockets: Named = (0..300).map(|n| (name(n), duplicate(&socket))).collect();
    let (_offer, told) = Offer::serve(&path, sockets).unwrap();
    let taken = take(&path).unwrap().unwrap();
    assert!(taken.sockets.iter().map(|(name, _)| name.as_str()).eq((0..300).map(name).collect::<Vec<_>>()));
    let ours = socket.local_addr().unwrap();
    assert!(
        taken
            .sockets
            .iter()
            .all(|(_, fd)| { TcpListener::from(fd.try_clone().unwrap()).local_addr().unwrap() == ours })
    );
    taken.ready().unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(TakenOver));
}

#[test]
fn a_successor_that_dies_before_it_is_ready_changes_nothing() {
    let (_folder, path) = place();
    let socket = listener();
    let (_offer, told) = Offer::serve(&path, vec![("a#0".to_owned(), duplicate(&socket))]).unwrap();
    for _ in 0..3 {
        drop(take(&path).unwrap().unwrap());
    }
    assert!(told.try_recv().is_err());
    let _client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    socket.accept().unwrap();
    take(&path).unwrap().unwrap().ready().unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(TakenOver));
}

#[test]
fn a_silent_one_and_nonsense_do_not_keep_the_successor_away() {
    let (_folder, path) = place();
    let (_offer, told) =
        Offer::serve_with(Place::listen(&path).unwrap(), vec![("a#0".to_owned(), duplicate(&listener()))], SHORT)
            .unwrap();
    let silent = UnixStream::connect(&path).unwrap();
    let mut short = UnixStream::connect(&path).unwrap();
    short.write_all(&GREETING[..5]).unwrap();
    let mut nonsense = UnixStream::connect(&path).unwrap();
    nonsense.write_all(&[0xff; 4096]).unwrap();
    let mut hasty = UnixStream::connect(&path).unwrap();
    hasty.write_all(GREETING).unwrap();
    hasty.write_all(b"?").unwrap();
    // One that greets and is never ready.
    let mut slow = UnixStream::connect(&path).unwrap();
    slow.write_all(GREETING).unwrap();
    take_with(&path, LONG).unwrap().unwrap().ready().unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(TakenOver));
    drop((silent, short, nonsense, hasty, slow));
}

#[test]
fn a_server_that_says_nothing_or_nonsense_is_told_of() {
    let (_folder, path) = place();
    let server = UnixListener::bind(&path).unwrap();
    assert_eq!(take_with(&path, SHORT.step).unwrap_err().kind(), io::ErrorKind::TimedOut);
    let (socket, name) = (listener(), [&[0, 3][..], b"a#0"].concat());
    let greeted = |count: u32, rest: &[u8]| [&GREETING[..], &count.to_be_bytes(), rest].concat();
    let cases: [(Vec<u8>, usize, &str); 6] = [
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), 0, "no pen-dsr"),
        (greeted(u32::MAX, &[]), 0, "too many"),
        (greeted(1, &[0xff, 0xff]), 1, "too long"),
        (greeted(1, &[0, 1, 0xff]), 1, "no text"),
        (greeted(1, &name), 0, "other sockets than names"),
        (greeted(1, &name), 2, "other sockets than names"),
    ];
    for (bytes, rights, expected) in cases {
        let answer = thread::spawn({
            let (server, socket) = (server.try_clone().unwrap(), socket.try_clone().unwrap());
            move || loop {
                let (client, _) = server.accept().unwrap();
                // The one that has given up waits here, too.
                if send_all(&client, &bytes, &vec![socket.as_fd(); rights]).is_ok() {
                    return client;
                }
            }
        });
        let error = take_with(&path, LONG).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        drop(answer.join().unwrap());
    }
    let hang_up = thread::spawn(move || drop(server.accept().unwrap()));
    let error = take_with(&path, LONG).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
        "{error}"
    );
    hang_up.join().unwrap();
}

#[test]
fn only_the_same_user_and_root_are_trusted() {
    assert!(trusted(Uid::from_raw(0)));
    assert!(trusted(geteuid()));
    assert!(!trusted(Uid::from_raw(geteuid().as_raw() + 1)));
    let (_folder, path) = place();
    let (_offer, _told) = Offer::serve(&path, Vec::new()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn an_offer_that_is_taken_back_takes_its_file_along_but_not_that_of_another() {
    let (_folder, path) = place();
    let (first, told) = Offer::serve(&path, Vec::new()).unwrap();
    // The successor offers before it says that it is ready.
    let taken = take(&path).unwrap().unwrap();
    let (second, _) = Offer::serve(&path, Vec::new()).unwrap();
    taken.ready().unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(TakenOver));
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
    fs::write(&path, "something else").unwrap();
    assert!(Offer::serve(&path, Vec::new()).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"something else");
}

#[test]
fn an_offer_can_be_taken_back_while_somebody_is_served() {
    let (_folder, path) = place();
    let (offer, told) = Offer::serve(&path, Vec::new()).unwrap();
    let taken = take(&path).unwrap().unwrap();
    drop(offer);
    assert!(taken.ready().is_err());
    assert!(told.try_recv().is_err());
}

#[test]
fn nobody_is_refused_while_the_one_replaces_the_other() {
    let (_folder, path) = place();
    let socket = listener();
    let address = socket.local_addr().unwrap();
    let (offer, told) = Offer::serve(&path, vec![("a#0".to_owned(), duplicate(&socket))]).unwrap();
    let serve = |socket: TcpListener, who: u8, over: Arc<AtomicBool>| {
        thread::spawn(move || {
            socket.set_nonblocking(true).unwrap();
            while !over.load(Ordering::Relaxed) {
                match socket.accept() {
                    Ok((client, _)) => (&client).write_all(&[who]).unwrap(),
                    Err(_) => thread::yield_now(),
                }
            }
        })
    };
    let over = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
    let elder = serve(socket, b'1', Arc::clone(&over[0]));
    let served_by = move || {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        let mut who = [0];
        client.read_exact(&mut who).unwrap();
        who[0]
    };
    let clients = thread::spawn(move || (0..500).map(|_| served_by()).collect::<Vec<u8>>());
    let mut taken = take(&path).unwrap().unwrap();
    let socket = taken.of("a").remove(0).into();
    let younger = serve(socket, b'2', Arc::clone(&over[1]));
    taken.ready().unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(TakenOver));
    over[0].store(true, Ordering::Relaxed);
    elder.join().unwrap();
    drop(offer);
    assert_eq!(clients.join().unwrap().len(), 500);
    let mut last = TcpStream::connect(address).unwrap();
    let mut who = [0];
    last.read_exact(&mut who).unwrap();
    assert_eq!(who, *b"2");
    over[1].store(true, Ordering::Relaxed);
    younger.join().unwrap();
}
