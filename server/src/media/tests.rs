use super::*;

fn fetcher(file_bytes_max: usize) -> MediaFetcher {
    MediaFetcher::new(&MediaSettings { file_bytes_max, ..MediaSettings::default() })
}

fn file(file_bytes_max: usize, text: &str) -> Result<Arc<MediaFile>, SourceError> {
    let fetcher = fetcher(file_bytes_max);
    fetcher.written(text, &fetcher.budget(ClientKey::default()))
}

#[test]
fn base64_is_read_in_every_form_it_is_sent_in() {
    let bytes = [0xfb, 0xff, 0xfe, 0x00, 0x10];
    for text in [
        "+//+ABA=",
        "+//+ABA",
        "-__-ABA=",
        "-__-ABA",
        " +//+\r\nABA=\n",
        "+//+ABB=",
        "data:image/png;base64,+//+ABA=",
        "DATA:;BASE64,-__-ABA",
        "data:image/svg+xml;charset=utf-8;base64,+//+ ABA=",
        "  data:;base64,\n+//+ABA=\n",
    ] {
        let file = file(5, text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(file.bytes(), bytes, "{text:?}");
        assert_eq!(address(text), None);
    }
}

#[tokio::test]
async fn an_invalid_source_is_refused_with_a_sentence() {
    for (text, expected) in [
        ("", "empty"),
        (" \n", "empty"),
        ("data:image/png;base64,", "empty"),
        ("====", "empty"),
        ("data:image/png,%89PNG", "not in base64"),
        ("data:base64,AAAA", "not in base64"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,AA%3D%3D", "not base64"),
        ("image.png", "not base64"),
        ("A", "not base64"),
        ("AA=A", "not base64"),
        ("AAAA=====", "not base64"),
        ("Ä:b", "neither"),
        ("1:b", "neither"),
        ("https://example.com/a.png", "is a URL"),
    ] {
        let error = file(100, text).expect_err(text);
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
        assert_eq!(error.fault(), SourceFault::Caller);
    }
    let text = " https://example.com/a.png\n";
    assert_eq!(address(text), Some(text.trim()));
    let fetcher = fetcher(100);
    let error = fetcher
        .fetched(text.trim(), &fetcher.budget(ClientKey::default()))
        .await
        .expect_err("refused");
    assert_eq!((error.fault(), error), (SourceFault::Caller, SourceError::Off));
}

#[test]
fn files_are_as_large_as_allowed_and_no_larger() {
    let limit = SourceError::TooLarge { limit: 4 };
    for text in ["AAAAAA==", "AAAAAA", "data:;base64,AAAA\nAA=="] {
        assert!(file(4, text).is_ok(), "{text:?}");
    }
    for text in ["AAAAAAA=", "AAAAAAA", "data:;base64,AAAAAAAA"] {
        assert_eq!(file(4, text), Err(limit.clone()), "{text:?}");
    }
    let (fetcher, budget) = (fetcher(4), fetcher(4).budget(ClientKey::default()));
    assert!(fetcher.bytes(vec![0; 4], &budget).is_ok());
    assert_eq!(fetcher.bytes(vec![0; 5], &budget), Err(limit));
}

#[tokio::test]
async fn the_files_of_a_request_are_bounded_together_and_those_of_all() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let settings =
        MediaSettings { request_bytes_max: 6, held_bytes_max: 8, ..MediaSettings::default() };
    let fetcher = MediaFetcher::new(&settings);
    let (one, other) = (fetcher.budget(ClientKey::default()), fetcher.budget(ClientKey::default()));
    drop(is_send(fetcher.fetched("https://example.com/", &one)));
    let three = |budget: &MediaBudget| fetcher.written("AAAA", budget).map(|_| ());
    assert_eq!((three(&one), three(&one)), (Ok(()), Ok(())));
    assert_eq!(three(&one), Err(SourceError::TooMuch { limit: 6 }));
    // Another request has its own limit, within the shared one.
    assert_eq!(three(&other), Err(SourceError::Busy));
    assert!(fetcher.written("//8=", &other).is_ok());
    drop(one);
    assert_eq!(three(&other), Ok(()));
}

#[test]
fn every_address_is_public_inside_or_never_asked() {
    use address::Reach::{self, Inside, Never, Public};
    for (expected, list) in [
        (
            Public,
            "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 \
             126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 \
             192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 \
             2606:4700:4700::1111 2001:4860:4860::8888 2a00:1450::1 64:ff9b::8.8.8.8 \
             ::ffff:8.8.8.8 2600::5efe:808:808",
        ),
        (
            Inside,
            "10.0.0.0 10.255.255.255 127.0.0.1 127.255.255.255 172.16.0.0 172.31.255.255 \
             192.168.0.0 192.168.255.255 100.64.0.0 100.127.255.255 ::1 fc00::1 fd12:3456::1 \
             ::ffff:10.0.0.1 ::ffff:127.0.0.1",
        ),
        (
            Never,
            "0.0.0.0 0.1.2.3 169.254.169.254 169.254.0.0 169.254.255.255 100.100.100.200 \
             168.63.129.16 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 \
             198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 \
             :: ::10.0.0.1 ::8.8.8.8 ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::ffff:0:8.8.8.8 \
             64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::8.8.8.8 \
             100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:db8::1 \
             2002:7f00:1:: 2002:808:808::1 3fff::1 5f00::1 fd00:ec2::254 fd20:ce::254 fe80::1 \
             febf::1 fec0::1 ff02::1 ff0e::1 2600::5efe:a00:1 2600::200:5efe:7f00:1 4000::1",
        ),
    ] {
        for text in list.split_whitespace() {
            let address = text.parse().unwrap_or_else(|_| panic!("{text} is no address"));
            assert_eq!(Reach::of(address), expected, "{text}");
        }
    }
}

#[test]
fn entries_of_the_list_say_which_hosts_they_are_for() {
    use allow::{Allowed, allowed};
    for (entry, yes, no) in [
        ("example.com", "example.com:80 example.com:443 EXAMPLE.com:80", "example.com:8080"),
        ("Example.COM.", "example.com:80", "a.example.com:80 xexample.com:80 example.com.x:80"),
        ("*.example.com", "a.example.com:80 a.b.example.com:443", "example.com:80 xexample.com:80"),
        ("example.com:8080", "example.com:8080", "example.com:80 example.com:443"),
        ("*.example.com:81", "a.example.com:81", "a.example.com:80"),
        ("*", "anything:80 8.8.8.8:443 [2606::1]:80", "anything:81"),
        ("*:81", "anything:81", "anything:80"),
        ("8.8.8.8", "8.8.8.8:80 134744072:80", "8.8.8.9:80"),
        ("bücher.de", "xn--bcher-kva.de:80 BÜCHER.de:443", "bucher.de:80"),
        ("private:minio.internal:9000", "minio.internal:9000", "minio.internal:80"),
        ("private:[::1]:9000", "[::1]:9000", "[::2]:9000"),
        ("private:[fd12::1]", "[fd12::1]:80", "[fd12::1]:81"),
        (" private:10.0.0.5 ", "10.0.0.5:443", "10.0.0.6:443"),
    ] {
        let entries = [entry.parse().unwrap_or_else(|error| panic!("{error}"))];
        for (list, expected) in [(yes, true), (no, false)] {
            for host in list.split_whitespace() {
                let (name, port) = host.rsplit_once(':').expect("a port");
                let name = url::Host::parse(name).expect("a host");
                let found = allowed(&entries, &name, port.parse().expect("a port"));
                assert_eq!(matches!(found, Allowed::By(_)), expected, "{entry} {host}");
            }
        }
    }
    for (entry, expected) in [
        ("", "not a host"),
        ("https://example.com", "without a scheme"),
        ("example.com/path", "without a scheme"),
        ("user@example.com", "without a scheme"),
        ("example.com:", "a port is"),
        ("example.com:0", "a port is"),
        ("example.com:65536", "a port is"),
        ("::1", "a port is"),
        ("a b", "not a host"),
        ("a.*.com", "not a host"),
        ("**", "not a host"),
        ("*.", "not a host"),
        ("*.8.8.8.8", "has no subdomains"),
        ("private:*", "exactly one host"),
        ("private:*.example.com", "exactly one host"),
        ("private:", "not a host"),
        ("10.0.0.5", "put private:"),
        ("127.0.0.1:8000", "put private:"),
        ("[::1]", "put private:"),
        ("169.254.169.254", "nothing is ever"),
        ("private:169.254.169.254", "nothing is ever"),
        ("private:[fe80::1]", "nothing is ever"),
    ] {
        let error = entry.parse::<AllowEntry>().expect_err(entry);
        assert!(error.contains(expected), "{entry}: {error}");
    }
}

#[test]
fn what_would_allow_a_host_can_be_written() {
    for (host, entry) in [
        ("example.com", Some("example.com")),
        ("8.8.8.8", Some("8.8.8.8")),
        ("10.0.0.5", Some("private:10.0.0.5")),
        ("[::1]", Some("private:[::1]")),
        ("169.254.169.254", None),
    ] {
        let found = allow::entry_for(&url::Host::parse(host).expect("a host"));
        assert_eq!(found.as_deref(), entry);
        assert!(found.is_none_or(|entry| entry.parse::<AllowEntry>().is_ok()), "{host}");
    }
}
