use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::io::duplex;
use tokio::net::TcpListener;

use super::super::SourceFault;
use super::super::budget::HeldBytes;
use super::super::network::tls_trusting;
use super::*;
use world::{
    FILE, Fake, PUBLIC, Reply, World, addresses, certified, client, settings, share, world,
};

mod world;

/// A client in a world where `a.com` is public and sends `reply` at `/`.
fn at_a(reply: Reply) -> (FetchClient, Arc<World>) {
    client(world(&[("a.com", &[PUBLIC])], &[("a.com/", reply)]), &settings(&["a.com"]))
}

#[tokio::test]
async fn a_file_is_fetched_with_a_plain_request() {
    let (client, world) = client(
        world(&[("a.com", &[PUBLIC])], &[("a.com/p%20q/%C3%A4.png?x=1&y=%7C", Reply::file())]),
        &settings(&["A.com."]),
    );
    let address = "http://a.com:80/p q/ä.png?x=1&y=%7C#part";
    assert_eq!(client.fetch(address).await.as_deref(), Ok(FILE));
    assert_eq!(world.asked(), ["a.com", "93.184.216.34:80"]);
    let heads = world.heads.lock().expect("no panic").join("");
    let mut names: Vec<&str> =
        heads.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    names.sort_unstable();
    names.retain(|name| !name.is_empty());
    assert_eq!(names, ["accept", "accept-encoding", "connection", "host", "user-agent"]);
    assert!(heads.contains("accept-encoding: identity\r\n") && !heads.contains("part"), "{heads}");
}

#[tokio::test]
async fn what_is_not_allowed_is_neither_resolved_nor_connected_to() {
    let (client, world) = client(world(&[], &[]), &settings(&["a.com", "*.b.com", "c.com:8080"]));
    for (address, expected) in [
        ("file:///etc/passwd", "file: URLs are not fetched"),
        ("ftp://a.com/x", "ftp: URLs"),
        ("javascript:alert(1)", "javascript: URLs"),
        ("gopher://a.com/", "gopher: URLs"),
        ("unix:/run/x.sock", "unix: URLs"),
        ("http://user@a.com/", "user name or password"),
        ("http://:secret@a.com/", "user name or password"),
        ("http://a.com@evil.com/", "user name or password"),
        ("http://evil.com/", "evil.com"),
        ("http://a.com.evil.com/", "a.com.evil.com"),
        ("http://xa.com/", "xa.com"),
        ("http://evil.com\\@a.com/", "evil.com"),
        ("http://b.com/", "b.com"),
        ("http://xb.com/", "xb.com"),
        ("http://a.com:22/", "a.com:22"),
        ("http://c.com/", "c.com:80"),
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://", "empty host"),
        ("http://a b/", "invalid"),
        ("http://a.com:99999/", "port"),
    ] {
        let error = client.fetch(address).await.expect_err(address);
        assert!(error.to_string().contains(expected), "{address}: {error}");
        assert_eq!(error.fault(), SourceFault::Caller, "{address}");
    }
    let long = format!("http://a.com/{}", "x".repeat(9000));
    assert!(client.fetch(&long).await.is_err_and(|error| error.to_string().contains("longer")));
    assert_eq!(world.asked(), [""; 0]);
    let off = FetchClient::on(Box::new(Fake(world.clone())), tls(), &settings(&[]));
    assert_eq!(off.fetch("https://a.com/").await, Err(SourceError::Off));
    assert_eq!(off.fetch("file:///x").await, Err(SourceError::Scheme { scheme: "file".into() }));
}

#[tokio::test]
async fn nothing_is_fetched_from_inside() {
    let names: &[(&str, &[&str])] = &[
        ("inside", &["10.0.0.1"]),
        ("localhost", &["::1", "127.0.0.1"]),
        ("half", &[PUBLIC, "192.168.0.1"]),
        ("metadata", &["169.254.169.254"]),
        ("mapped", &["::ffff:10.0.0.1"]),
        ("empty", &[]),
    ];
    let (client, world) = client(world(names, &[]), &settings(&["*"]));
    let names = ["inside", "localhost", "half", "metadata", "mapped", "empty", "nowhere"];
    for host in names {
        let error = client.fetch(&format!("http://{host}/")).await.expect_err(host);
        // A private name and one that does not exist look alike.
        assert_eq!(error, SourceError::NotPublic { host: host.into() });
    }
    assert_eq!(world.asked(), names, "nothing was connected to");
    for literal in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "①②⑦.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "0xa9fea9fe",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "255.255.255.255",
        "224.0.0.1",
        "100.100.100.200",
    ] {
        for scheme in ["http", "https"] {
            let error = client.fetch(&format!("{scheme}://{literal}/")).await.expect_err(literal);
            assert!(matches!(error, SourceError::NotPublic { .. }), "{literal}: {error:?}");
        }
    }
    assert_eq!(world.asked(), [""; 0]);
}

#[tokio::test]
async fn a_host_inside_is_for_those_who_name_it() {
    let names: &[(&str, &[&str])] =
        &[("minio", &["10.0.0.5"]), ("other", &["10.0.0.6"]), ("cloud", &["169.254.169.254"])];
    let replies = [("minio:9000/", Reply::file()), ("10.0.0.7/", Reply::file())];
    let allowed = ["*", "*:9000", "private:minio:9000", "private:10.0.0.7", "private:cloud"];
    let (client, world) = client(world(names, &replies), &settings(&allowed));
    assert_eq!(client.fetch("http://minio:9000/").await.as_deref(), Ok(FILE));
    assert_eq!(client.fetch("http://10.0.0.7/").await.as_deref(), Ok(FILE));
    world.asked();
    // Not by its address, not on another port, not another host, and never metadata.
    for address in ["http://10.0.0.5:9000/", "http://minio/", "http://other:9000/", "http://cloud/"]
    {
        let error = client.fetch(address).await.expect_err(address);
        assert!(matches!(error, SourceError::NotPublic { .. }), "{address}: {error:?}");
    }
    assert_eq!(world.asked(), ["minio", "other", "cloud"]);
}

#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let world = World {
        names: Mutex::new(HashMap::from([(
            "a.com".to_owned(),
            vec![addresses(&[PUBLIC]), addresses(&["127.0.0.1"])],
        )])),
        replies: BTreeMap::from([
            ("a.com/".to_owned(), Reply::file()),
            ("a.com/again".to_owned(), Reply::moved("/")),
        ]),
        ..World::default()
    };
    let (client, world) = client(world, &settings(&["a.com"]));
    // Resolved once, and connected to the result.
    assert_eq!(client.fetch("http://a.com/").await.as_deref(), Ok(FILE));
    assert_eq!(world.asked(), ["a.com", "93.184.216.34:80"]);
    let refused = Err(SourceError::NotPublic { host: "a.com".into() });
    assert_eq!(client.fetch("http://a.com/").await, refused);
    let rebound = vec![addresses(&[PUBLIC]), addresses(&["127.0.0.1"])];
    world.names.lock().expect("no panic").insert("a.com".into(), rebound);
    world.asked();
    assert_eq!(client.fetch("http://a.com/again").await, refused);
    assert_eq!(world.asked(), ["a.com", "93.184.216.34:80", "a.com"]);
}

#[tokio::test]
async fn redirects_are_checked_like_addresses() {
    let names: &[(&str, &[&str])] =
        &[("a.com", &[PUBLIC]), ("b.com", &["8.8.8.8"]), ("trap.com", &["127.0.0.1"])];
    let replies = [
        ("a.com/to-b", Reply::moved("//b.com/x/../file")),
        ("b.com/file", Reply::file()),
        ("a.com/loop", Reply::moved("loop")),
        ("a.com/trap", Reply::moved("http://trap.com/")),
        ("a.com/evil", Reply::moved("http://evil.com/")),
        ("a.com/metadata", Reply::moved("http://169.254.169.254/latest/meta-data/")),
        ("a.com/file", Reply::moved("file:///etc/passwd")),
        ("a.com/user", Reply::moved("http://u:p@b.com/")),
        ("a.com/port", Reply::moved("http://b.com:22/")),
        ("a.com/nowhere", Reply::text("HTTP/1.1 301 Moved\r\n\r\n")),
        ("a.com/nonsense", Reply::moved("http://")),
        ("a.com/long", Reply::moved(&format!("/{}", "x".repeat(9000)))),
        ("a.com/choices", Reply::text("HTTP/1.1 300 X\r\nLocation: /\r\n\r\n")),
        ("a.com/1", Reply::moved("/2")),
        ("a.com/2", Reply::moved("/3")),
        ("a.com/3", Reply::moved("/to-b")),
    ];
    let (client, world) =
        client(world(names, &replies), &settings(&["a.com", "b.com", "trap.com"]));
    assert_eq!(client.fetch("http://a.com/to-b").await.as_deref(), Ok(FILE));
    assert_eq!(client.fetch("http://a.com/3").await.as_deref(), Ok(FILE));
    assert_eq!(client.fetch("http://a.com/2").await.as_deref(), Ok(FILE));
    let many = Err(SourceError::TooManyRedirects { limit: 3 });
    assert_eq!(client.fetch("http://a.com/1").await, many);
    world.asked();
    assert_eq!(client.fetch("http://a.com/loop").await, many);
    assert_eq!(world.asked().len(), 8, "a request and three redirects");
    for (path, expected) in [
        ("trap", "trap.com does not resolve, or resolves to a non-public address"),
        ("evil", "fetches nothing from evil.com"),
        ("metadata", "fetches nothing from 169.254.169.254"),
        ("file", "file: URLs are not fetched"),
        ("user", "user name or password"),
        ("port", "fetches nothing from b.com:22"),
        ("nowhere", "names no URL"),
        ("nonsense", "empty host"),
        ("long", "longer than"),
        ("choices", "status 300"),
    ] {
        let error = client.fetch(&format!("http://a.com/{path}")).await.expect_err(path);
        assert!(error.to_string().contains(expected), "{path}: {error}");
        assert_eq!(error.fault(), SourceFault::Caller, "{path}");
    }
    assert!(
        !world.asked().iter().any(|entry| entry.starts_with("127") || entry.starts_with("169"))
    );
}

#[tokio::test]
async fn answers_that_are_no_file_are_refused_without_a_word_of_theirs() {
    let host = || "a.com".to_owned();
    let broken = SourceError::Broken { host: host() };
    let large = SourceError::TooLarge { limit: 1000 };
    let compressed = SourceError::Compressed { host: host() };
    let status = |status| SourceError::Status { host: host(), status };
    let ok = "HTTP/1.1 200 OK\r\n";
    let long = "x".repeat(1001);
    let many: String = (0..101).map(|index| format!("x-{index}: y\r\n")).collect();
    let one = format!("x: {}\r\n", "y".repeat(70 * 1024));
    for (answer, expected) in [
        ("HTTP/1.1 404 Secret\r\nContent-Length: 6\r\n\r\nsecret".to_owned(), status(404)),
        ("HTTP/1.1 500 X\r\nContent-Length: 6\r\n\r\nsecret".to_owned(), status(500)),
        ("HTTP/1.1 429 X\r\nContent-Length: 0\r\n\r\n".to_owned(), status(429)),
        ("HTTP/1.1 204 X\r\n\r\n".to_owned(), status(204)),
        ("HTTP/1.1 206 X\r\nContent-Length: 1\r\n\r\nx".to_owned(), status(206)),
        (format!("{ok}Content-Length: 1001\r\n\r\n"), large.clone()),
        (format!("{ok}Content-Length: 99999999999999999999999\r\n\r\n"), broken.clone()),
        (format!("{ok}Connection: close\r\n\r\n{long}"), large.clone()),
        (format!("{ok}Transfer-Encoding: chunked\r\n\r\n3e9\r\n{long}\r\n0\r\n\r\n"), large),
        (format!("{ok}Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"), compressed.clone()),
        (
            format!("{ok}Content-Encoding: identity, br\r\nContent-Length: 1\r\n\r\nx"),
            compressed.clone(),
        ),
        (format!("{ok}Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"), compressed),
        (format!("{ok}Content-Length: 10\r\n\r\nshort"), broken.clone()),
        (format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nshort"), broken.clone()),
        (format!("{ok}{many}\r\n"), broken.clone()),
        (format!("{ok}{one}\r\n"), broken.clone()),
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), broken.clone()),
        (String::new(), broken),
    ] {
        let (client, _) = at_a(Reply::text(&answer));
        let error = client.fetch("http://a.com/").await.expect_err(&answer);
        assert_eq!(error, expected, "{}", &answer[..answer.len().min(200)]);
        assert!(!error.to_string().to_lowercase().contains("secret"), "{error}");
    }
    let (caller, elsewhere) = (SourceFault::Caller, SourceFault::Elsewhere);
    for (code, fault) in [(404, caller), (500, elsewhere), (503, elsewhere), (429, elsewhere)] {
        assert_eq!(status(code).fault(), fault, "{code}");
    }
    let exact = "x".repeat(1000);
    for answer in [
        format!("{ok}Content-Length: 1000\r\nContent-Encoding: Identity\r\n\r\n{exact}"),
        format!("{ok}Transfer-Encoding: chunked\r\n\r\n3e8\r\n{exact}\r\n0\r\n\r\n"),
        format!("HTTP/1.0 200 OK\r\n\r\n{exact}"),
    ] {
        let (client, _) = at_a(Reply::text(&answer));
        assert_eq!(client.fetch("http://a.com/").await.map(|file| file.len()), Ok(1000));
    }
}

#[tokio::test]
async fn slow_servers_get_no_more_time_than_others() {
    let ok = b"HTTP/1.1 200 OK\r\n".to_vec();
    let body = b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n".to_vec();
    let limit = Duration::from_millis(100);
    for reply in [
        Reply::Stall(vec![]),
        Reply::Stall(ok.clone()),
        Reply::Stall(body.clone()),
        Reply::Drip([&ok[..], b"x-slow: "].concat()),
        Reply::Drip(body),
    ] {
        let world = world(&[("a.com", &[PUBLIC])], &[("a.com/", reply)]);
        let settings = MediaSettings {
            fetch_timeout: limit,
            file_bytes_max: 1_000_000,
            ..settings(&["a.com"])
        };
        let (client, _) = client(world, &settings);
        let error = client.fetch("http://a.com/").await.expect_err("late");
        assert_eq!(error, SourceError::Timeout { limit });
        assert_eq!(error.fault(), SourceFault::Elsewhere);
    }
}

#[tokio::test]
async fn concurrent_fetches_are_limited() {
    let world = world(&[("a.com", &[PUBLIC])], &[("a.com/", Reply::file())]);
    let settings = MediaSettings { fetches_max: 2, ..settings(&["a.com"]) };
    let (client, world) = client(world, &settings);
    let all = (0..20).map(|_| client.fetch("http://a.com/"));
    for file in futures_util::future::join_all(all).await {
        assert_eq!(file.as_deref(), Ok(FILE));
    }
    assert_eq!(world.open_most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_request_fetches_fewer_files_at_a_time() {
    let world = world(&[("a.com", &[PUBLIC])], &[("a.com/", Reply::file())]);
    let (client, world) = client(world, &settings(&["a.com"]));
    let budget = MediaBudget::new(1000, 2, share(), &Arc::new(HeldBytes::new(1000)));
    let all = (0..20).map(|_| client.fetch_within("http://a.com/", &budget));
    for file in futures_util::future::join_all(all).await {
        assert_eq!(file.as_deref(), Ok(FILE));
    }
    assert_eq!(world.open_most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_request_that_would_wait_too_long_is_told_to_come_back() {
    let replies = [("a.com/", Reply::file()), ("a.com/stall", Reply::Stall(vec![]))];
    let world = world(&[("a.com", &[PUBLIC])], &replies);
    let fetch_wait = Duration::ZERO;
    let settings = MediaSettings { fetches_max: 1, fetch_wait, ..settings(&["a.com"]) };
    let (client, _) = client(world, &settings);
    let mut stalled = Box::pin(client.fetch("http://a.com/stall"));
    let second = tokio::select! {
        biased;
        file = &mut stalled => panic!("{file:?}"),
        file = client.fetch("http://a.com/") => file,
    };
    assert_eq!(second, Err(SourceError::Busy));
    assert_eq!(SourceError::Busy.fault(), SourceFault::Server);
    drop(stalled);
    assert_eq!(client.fetch("http://a.com/").await.as_deref(), Ok(FILE));
}

#[tokio::test]
async fn a_client_with_slow_addresses_leaves_fetches_for_others() {
    let replies = [("a.com/", Reply::file()), ("a.com/stall", Reply::Stall(vec![]))];
    let world = world(&[("a.com", &[PUBLIC])], &replies);
    let fetch_wait = Duration::ZERO;
    let settings = MediaSettings { fetches_max: 2, fetch_wait, ..settings(&["a.com"]) };
    let (client, _) = client(world, &settings);
    let (held, own) = (Arc::new(HeldBytes::new(usize::MAX)), Arc::new(Semaphore::new(1)));
    let budget = |share: &Arc<Semaphore>| MediaBudget::new(usize::MAX, 1, share.clone(), &held);
    let (first, second) = (budget(&own), budget(&own));
    let mut stalled = Box::pin(client.fetch_within("http://a.com/stall", &first));
    let late = tokio::select! {
        biased;
        file = &mut stalled => panic!("{file:?}"),
        file = client.fetch_within("http://a.com/", &second) => file,
    };
    assert_eq!(late, Err(SourceError::Busy));
    assert_eq!(client.fetch("http://a.com/").await.as_deref(), Ok(FILE));
    drop(stalled);
    assert_eq!(client.fetch_within("http://a.com/", &second).await.as_deref(), Ok(FILE));
}

#[tokio::test]
async fn bytes_are_counted_as_they_come_and_given_back() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let replies = [("a.com/", Reply::file()), ("a.com/drip", Reply::Drip(head))];
    let world = world(&[("a.com", &[PUBLIC])], &replies);
    let (client, _) = client(world, &settings(&["a.com"]));
    let held = Arc::new(HeldBytes::new(2 * FILE.len() - 1));
    let own = |limit| MediaBudget::new(limit, 4, share(), &held);
    // An endless file exceeds its request's limit long before the limit on a file.
    let (first, limit) = (own(FILE.len() + 5), FILE.len() + 5);
    let too_much = Err(SourceError::TooMuch { limit });
    assert_eq!(client.fetch_within("http://a.com/drip", &first).await, too_much);
    drop(first);
    let (first, second) = (own(1000), own(1000));
    assert_eq!(client.fetch_within("http://a.com/", &first).await.as_deref(), Ok(FILE));
    assert_eq!(client.fetch_within("http://a.com/", &second).await, Err(SourceError::Busy));
    drop(first);
    assert_eq!(client.fetch_within("http://a.com/", &second).await.as_deref(), Ok(FILE));
}

#[tokio::test]
async fn certificates_are_checked_and_tls_is_not_left() {
    let names: &[(&str, &[&str])] = &[("a.com", &[PUBLIC]), ("b.com", &[PUBLIC])];
    let replies = [
        ("a.com/", Reply::file()),
        ("a.com/same", Reply::moved("/")),
        ("a.com/down", Reply::moved("http://a.com/")),
        ("a.com/up", Reply::moved("https://a.com/")),
    ];
    let (config, roots) = certified("a.com");
    let world = Arc::new(World { tls: Some(config), ..world(names, &replies) });
    let settings = settings(&["a.com", "b.com"]);
    let trusting = FetchClient::on(Box::new(Fake(world.clone())), tls_trusting(roots), &settings);
    for address in ["https://a.com/", "https://a.com/same", "http://a.com/up"] {
        assert_eq!(trusting.fetch(address).await.as_deref(), Ok(FILE), "{address}");
    }
    let error = trusting.fetch("https://a.com/down").await.expect_err("refused");
    assert!(error.to_string().contains("from https to http"), "{error}");
    let wary = FetchClient::on(Box::new(Fake(world)), tls(), &settings);
    for (client, address) in [(&wary, "https://a.com/"), (&trusting, "https://b.com/")] {
        let error = client.fetch(address).await.expect_err("refused");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn the_network_of_this_machine_works() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let world = Arc::new(world(&[], &[(&format!("localhost:{port}/a"), Reply::file())]));
    let serving = world.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (ours, theirs) = duplex(1024);
            let world = serving.clone();
            tokio::spawn(async move { world.serve(theirs).await });
            tokio::spawn(async move {
                let mut ours = ours;
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut ours).await;
            });
        }
    });
    let address = format!("http://localhost:{port}/a");
    let client = FetchClient::new(&settings(&[&format!("private:localhost:{port}")]));
    assert_eq!(client.fetch(&address).await.as_deref(), Ok(FILE));
    let client =
        FetchClient::new(&settings(&[&format!("*:{port}"), &format!("private:other:{port}")]));
    let refused = SourceError::NotPublic { host: "localhost".into() };
    assert_eq!(client.fetch(&address).await, Err(refused));
    // Nobody listens on the port of a closed listener.
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = gone.local_addr().expect("an address").port();
    drop(gone);
    let client = FetchClient::new(&settings(&[&format!("private:127.0.0.1:{port}")]));
    let error = client.fetch(&format!("http://127.0.0.1:{port}/")).await.expect_err("refused");
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    assert_eq!(error.fault(), SourceFault::Elsewhere);
}
